//! `weir inspect`: one line per batch of a segment, each verified.
//!
//! Invariant: memory is bounded by the file's own size, whatever a length field says; what was good
//! before the damage is printed.
//! Deliberately absent: indexes and checkpoints; repair (the broker does that when it opens).

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;

use weir_broker::batch::{Batches, Codec, HEADER_BYTES, Header, StoredBatch, TimestampType};

use crate::Failure;

/// Prints the batches of `segment`.
pub(crate) fn run(segment: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    let named = |what: String| Failure::Run(format!("{}: {what}", segment.display()));
    let file = File::open(segment).map_err(|error| named(error.to_string()))?;
    if !file.metadata()?.is_file() {
        return Err(named("not a file; name a segment, for example 00000000000000000000.log".to_owned()));
    }
    let mut walk =
        Walk { rest: file.metadata()?.len(), position: 0, next_offset: None, batches: 0, records: 0 };
    let mut input = BufReader::with_capacity(1 << 20, file);
    let ended = loop {
        match walk.step(&mut input, out) {
            Ok(true) => {}
            Ok(false) => break Ok(()),
            Err(failure) => break Err(failure),
        }
    };
    writeln!(out, "{} batches, {} records, {} bytes", walk.batches, walk.records, walk.position)?;
    ended.map_err(|failure| match failure {
        Stop::Damage(what) if walk.position == 0 => {
            named(format!("not a segment, or damaged at its begin: {what}"))
        }
        Stop::Damage(what) => named(format!("damaged at byte {}: {what}", walk.position)),
        Stop::Output(error) => error.into(),
    })
}

/// Where the walk is.
struct Walk {
    /// Bytes of the file from `position` on.
    rest: u64,
    /// Byte of the next batch.
    position: u64,
    /// Offset that the next batch may have at least.
    next_offset: Option<i64>,
    batches: u64,
    records: u64,
}

/// Why the walk ends early.
enum Stop {
    Damage(String),
    Output(std::io::Error),
}

impl Walk {
    /// Prints one batch; false at the end of the file.
    fn step(&mut self, input: &mut impl BufRead, out: &mut dyn Write) -> Result<bool, Stop> {
        if self.rest == 0 {
            return Ok(false);
        }
        let bytes = self.read_batch(input)?;
        let batch = match Batches::new(&bytes).next() {
            Some(Ok(batch)) => batch,
            Some(Err(invalid)) => return Err(Stop::Damage(invalid.to_string())),
            None => return Err(Stop::Damage(format!("a torn batch of {} bytes", bytes.len()))),
        };
        let verdict = batch.verify();
        let told = verdict.as_ref().map_or_else(ToString::to_string, |()| "ok".to_owned());
        writeln!(out, "{} {told}", describe(&batch, self.position)).map_err(Stop::Output)?;
        verdict.map_err(|invalid| Stop::Damage(invalid.to_string()))?;
        let header = batch.header;
        if self.next_offset.is_some_and(|next| header.base_offset < next) {
            return Err(Stop::Damage(format!("offset {} comes again", header.base_offset)));
        }
        self.next_offset = Some(header.next_offset());
        self.batches += 1;
        self.records += u64::try_from(header.record_count).unwrap_or_default();
        self.position += bytes.len() as u64;
        self.rest = self.rest.saturating_sub(bytes.len() as u64);
        Ok(true)
    }

    /// The bytes of one batch, or of what is left of it at the end of the file.
    fn read_batch(&self, input: &mut impl BufRead) -> Result<Vec<u8>, Stop> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        let mut take = |bytes: &mut Vec<u8>, count: u64| {
            input.by_ref().take(count).read_to_end(bytes).map_err(|e| Stop::Damage(e.to_string()))
        };
        take(&mut bytes, HEADER_BYTES as u64)?;
        if bytes.iter().all(|&byte| byte == 0) {
            return Err(Stop::Damage(format!("{} bytes of nothing but zeros, or more", bytes.len())));
        }
        let Some(header) = Header::read(&bytes) else { return Ok(bytes) };
        let total = header.total_bytes().ok_or_else(|| Stop::Damage("impossible length".to_owned()))?;
        take(&mut bytes, total.saturating_sub(HEADER_BYTES) as u64)?;
        Ok(bytes)
    }
}

fn describe(batch: &StoredBatch<'_>, position: u64) -> String {
    let h = &batch.header;
    let codec = Codec::of(h).map_or_else(|_| "?".to_owned(), |codec| format!("{codec:?}").to_lowercase());
    let time = match h.timestamp_type() {
        TimestampType::Create => "create",
        TimestampType::LogAppend => "append",
    };
    let producer = if h.producer_id < 0 {
        "-".to_owned()
    } else {
        format!("{}/{}@{}", h.producer_id, h.producer_epoch, h.base_sequence)
    };
    let kind = match (h.is_control(), h.is_transactional()) {
        (true, _) => " control",
        (false, true) => " transactional",
        (false, false) => "",
    };
    format!(
        "offset={}..{} position={position} bytes={} records={} codec={codec} {time}={}..{} epoch={} producer={producer}{kind} crc={:08x}",
        h.base_offset,
        h.last_offset(),
        batch.bytes.len(),
        h.record_count,
        h.base_timestamp,
        h.max_timestamp,
        h.leader_epoch,
        h.crc,
    )
}
