//! `weir inspect`: one line per batch of a segment, each verified, and one per damaged place.
//!
//! Invariant: memory is bounded by the file's own size, whatever a length field says; what is good before and behind
//! damage is printed. Deliberately absent: indexes and checkpoints; repair (the broker does that when it opens).

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use weir_broker::batch::{Batches, Codec, HEADER_BYTES, Header, StoredBatch, TimestampType};
use weir_broker::store::local::batch_behind;

use crate::Failure;

/// Prints the batches of a segment, or of all segments in the directory of a log.
pub(crate) fn run(path: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    if !path.is_dir() {
        return run_segment(path, out);
    }
    let mut segments: Vec<PathBuf> = std::fs::read_dir(path)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "log"))
        .collect();
    segments.sort();
    if segments.is_empty() {
        let what = "no segment is in it; name one, for example 00000000000000000000.log, or its directory";
        return Err(named(path, what));
    }
    let mut first = Ok(());
    for segment in segments {
        writeln!(out, "{}", segment.display())?;
        first = first.and(run_segment(&segment, out));
    }
    first
}

fn named(path: &Path, what: impl std::fmt::Display) -> Failure {
    Failure::Run(format!("{}: {what}", path.display()))
}

fn run_segment(segment: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    let file = File::open(segment).map_err(|error| named(segment, error))?;
    if !file.metadata()?.is_file() {
        return Err(named(segment, "neither a segment nor the directory of a log"));
    }
    let len = file.metadata()?.len();
    let mut walk = Walk { rest: len, ..Walk::default() };
    let mut input = BufReader::with_capacity(1 << 20, &file);
    let mut damage = Vec::new();
    loop {
        let what = match walk.step(&mut input, out) {
            Ok(true) => continue,
            Ok(false) => break,
            Err(Stop::Output(error)) => return Err(error.into()),
            Err(Stop::Damage(what)) => what,
        };
        let at = walk.position;
        let expected = walk.next_offset.or_else(|| base_offset(segment)).unwrap_or(0);
        let behind = batch_behind(&file, at, expected)?;
        damage.push((at, what.clone()));
        let Some((position, offset)) = behind else {
            if walk.batches > 0 {
                writeln!(out, "damage: bytes {at}..{len}, from offset {expected} on: {what}")?;
            }
            break;
        };
        writeln!(out, "damage: bytes {at}..{position}, offsets {expected}..{offset} are lost: {what}")?;
        input.seek(SeekFrom::Start(position))?;
        (walk.position, walk.rest, walk.next_offset) = (position, len - position, Some(offset));
    }
    writeln!(out, "{} batches, {} records, {} bytes", walk.batches, walk.records, walk.good_bytes)?;
    let more = damage.len().saturating_sub(1);
    match damage.into_iter().next() {
        None => Ok(()),
        Some((_, what)) if walk.batches == 0 => {
            Err(named(segment, format_args!("not a segment, or damaged at its begin: {what}")))
        }
        Some((at, what)) if more == 0 => Err(named(segment, format_args!("damaged at byte {at}: {what}"))),
        Some((at, what)) => {
            Err(named(segment, format_args!("damaged at byte {at}: {what}; and at {more} places more")))
        }
    }
}

/// What the file's name says of its first record.
fn base_offset(segment: &Path) -> Option<i64> {
    segment.file_stem()?.to_str()?.parse().ok()
}

/// Where the walk is.
#[derive(Default)]
struct Walk {
    /// Bytes of the file from `position` on.
    rest: u64,
    /// Byte of the next batch.
    position: u64,
    /// Offset that the next batch may have at least.
    next_offset: Option<i64>,
    batches: u64,
    records: u64,
    good_bytes: u64,
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
        let len = bytes.len() as u64;
        (self.position, self.good_bytes) = (self.position + len, self.good_bytes + len);
        self.rest = self.rest.saturating_sub(len);
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
