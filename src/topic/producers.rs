//! Idempotent producers of one partition: what each has sent last, so that a retry is not stored twice.
//!
//! Keeps the last five batches per producer id (KIP-98; Java and librdkafka keep at most five in flight). A producer
//! that is not known may start with any sequence, as in Apache Kafka since 2.4 (KIP-360): its topic may have been created
//! anew under it, its past may have expired, and a client that is refused gives its records up.
//! Source: apache/kafka ProducerAppendInfo.java, ProducerStateManager.java.
//! Deliberately absent: transactions; the journal of this state (the partition keeps it in the log's note).

use std::collections::HashMap;

use bytes::{Buf, BufMut};

use super::{Error, Result};
use crate::batch::Header;

/// Batches remembered per producer.
const REMEMBERED: usize = 5;

/// One remembered batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sent {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
    /// When it was appended, on a log-append-time topic; else -1. Milliseconds.
    log_append_time_ms: i64,
}

/// One producer's recent past on this partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    epoch: i16,
    /// Oldest first; `len` of them count.
    sent: [Sent; REMEMBERED],
    len: u8,
    last_timestamp_ms: i64,
}

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Append it.
    Append,
    /// It is here already.
    Duplicate {
        /// Where it starts.
        base_offset: i64,
        /// When it was appended, on a log-append-time topic; else -1. Milliseconds.
        log_append_time_ms: i64,
    },
}

/// The producers known to one partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Producers {
    entries: HashMap<i64, Entry>,
}

impl Producers {
    /// Judges a batch that carries a producer id.
    pub(super) fn check(&self, header: &Header) -> Result<Verdict> {
        let Some(entry) = self.entries.get(&header.producer_id) else { return Ok(Verdict::Append) };
        if header.producer_epoch < entry.epoch {
            return Err(Error::StaleProducerEpoch { got: header.producer_epoch, current: entry.epoch });
        }
        if header.producer_epoch > entry.epoch {
            if header.base_sequence == 0 {
                return Ok(Verdict::Append);
            }
            return Err(Error::OutOfSequence { got: header.base_sequence, expected: 0 });
        }
        let last = last_sequence(header);
        if let Some(sent) =
            entry.sent().iter().find(|s| s.first_sequence == header.base_sequence && s.last_sequence == last)
        {
            let Sent { base_offset, log_append_time_ms, .. } = *sent;
            return Ok(Verdict::Duplicate { base_offset, log_append_time_ms });
        }
        let expected = entry.sent().last().map_or(0, |s| next_sequence(s.last_sequence));
        if header.base_sequence == expected {
            Ok(Verdict::Append)
        } else {
            Err(Error::OutOfSequence { got: header.base_sequence, expected })
        }
    }

    /// Remembers a batch that was (or is being) appended at `base_offset`, at `log_append_time_ms` if its topic counts
    /// in that time (else -1); returns the producer's past for [`Producers::restore`].
    pub(super) fn record(
        &mut self,
        header: &Header,
        base_offset: i64,
        log_append_time_ms: i64,
        now_ms: i64,
    ) -> Option<Entry> {
        let before = self.entries.get(&header.producer_id).copied();
        let mut entry = before.filter(|e| e.epoch == header.producer_epoch).unwrap_or(Entry {
            epoch: header.producer_epoch,
            sent: [Sent::default(); REMEMBERED],
            len: 0,
            last_timestamp_ms: now_ms,
        });
        entry.last_timestamp_ms = now_ms;
        entry.push(Sent {
            first_sequence: header.base_sequence,
            last_sequence: last_sequence(header),
            base_offset,
            log_append_time_ms,
        });
        self.entries.insert(header.producer_id, entry);
        before
    }

    /// Undoes a [`Producers::record`] whose append failed.
    pub(super) fn restore(&mut self, producer_id: i64, before: Option<Entry>) {
        match before {
            Some(entry) => self.entries.insert(producer_id, entry),
            None => self.entries.remove(&producer_id),
        };
    }

    /// Drops producers that were last heard of before `oldest_ms`, then the oldest beyond `count_max`.
    pub(super) fn expire(&mut self, now_ms: i64, oldest_ms: i64, count_max: usize) {
        // Who was found in the log of an earlier life counts as heard of now.
        self.entries.values_mut().for_each(|e| e.last_timestamp_ms = e.last_timestamp_ms.min(now_ms));
        self.entries.retain(|_, e| e.last_timestamp_ms >= oldest_ms);
        if self.entries.len() > count_max {
            let mut ages: Vec<i64> = self.entries.values().map(|e| e.last_timestamp_ms).collect();
            ages.sort_unstable();
            let cut = ages.get(ages.len() - count_max).copied().unwrap_or(i64::MIN);
            self.entries.retain(|_, e| e.last_timestamp_ms >= cut);
        }
    }

    /// How many producers are known.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Writes the whole state: count u32, then per producer id i64, epoch i16, last ms i64,
    /// count u8, and per batch first i32, last i32, base offset i64, append time i64.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(u32::try_from(self.entries.len()).unwrap_or(u32::MAX));
        for (id, entry) in &self.entries {
            out.put_i64(*id);
            out.put_i16(entry.epoch);
            out.put_i64(entry.last_timestamp_ms);
            out.put_u8(entry.len);
            for sent in entry.sent() {
                out.put_i32(sent.first_sequence);
                out.put_i32(sent.last_sequence);
                out.put_i64(sent.base_offset);
                out.put_i64(sent.log_append_time_ms);
            }
        }
    }

    /// Reads what [`Producers::encode`] wrote; `None` when it is not that. Before `timed` there was no append time, and
    /// a u8 in front that no longer matters.
    pub(super) fn decode(input: &mut &[u8], timed: bool) -> Option<Self> {
        if !timed {
            input.try_get_u8().ok()?;
        }
        let count = input.try_get_u32().ok()?;
        let mut entries = HashMap::new();
        for _ in 0..count {
            let id = input.try_get_i64().ok()?;
            let mut entry = Entry {
                epoch: input.try_get_i16().ok()?,
                last_timestamp_ms: input.try_get_i64().ok()?,
                sent: [Sent::default(); REMEMBERED],
                len: 0,
            };
            for _ in 0..input.try_get_u8().ok()? {
                entry.push(Sent {
                    first_sequence: input.try_get_i32().ok()?,
                    last_sequence: input.try_get_i32().ok()?,
                    base_offset: input.try_get_i64().ok()?,
                    log_append_time_ms: if timed { input.try_get_i64().ok()? } else { -1 },
                });
            }
            entries.insert(id, entry);
        }
        Some(Self { entries })
    }
}

impl Entry {
    fn sent(&self) -> &[Sent] {
        self.sent.get(..usize::from(self.len)).unwrap_or_default()
    }

    fn push(&mut self, sent: Sent) {
        if usize::from(self.len) == REMEMBERED {
            self.sent.rotate_left(1);
            self.len -= 1;
        }
        if let Some(slot) = self.sent.get_mut(usize::from(self.len)) {
            *slot = sent;
            self.len += 1;
        }
    }
}

/// Sequence of a batch's last record; sequences wrap from 2^31 - 1 to 0.
fn last_sequence(header: &Header) -> i32 {
    wrapping(i64::from(header.base_sequence) + i64::from(header.last_offset_delta))
}

fn next_sequence(sequence: i32) -> i32 {
    wrapping(i64::from(sequence) + 1)
}

fn wrapping(sequence: i64) -> i32 {
    i32::try_from(sequence & i64::from(i32::MAX)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(sequence: i32, count: i32, epoch: i16) -> Header {
        let mut header = Header::read(&[0; 61]).unwrap_or_else(|| unreachable!());
        header.producer_id = 7;
        header.producer_epoch = epoch;
        header.base_sequence = sequence;
        header.last_offset_delta = count - 1;
        header.record_count = count;
        header
    }

    #[test]
    fn any_of_the_last_five_batches_is_a_duplicate_and_the_sixth_is_out_of_sequence() {
        let mut producers = Producers::default();
        for n in 0..6 {
            let h = header(n * 2, 2, 0);
            assert_eq!(producers.check(&h).ok(), Some(Verdict::Append));
            producers.record(&h, i64::from(n) * 2, -1, 1);
        }
        for n in 1..6 {
            let found = Verdict::Duplicate { base_offset: i64::from(n) * 2, log_append_time_ms: -1 };
            assert_eq!(producers.check(&header(n * 2, 2, 0)).ok(), Some(found));
        }
        assert!(matches!(
            producers.check(&header(0, 2, 0)),
            Err(Error::OutOfSequence { got: 0, expected: 12 })
        ));
    }

    #[test]
    fn a_new_epoch_starts_at_zero_and_an_old_one_is_fenced() {
        let mut producers = Producers::default();
        producers.record(&header(0, 1, 3), 0, -1, 1);
        assert!(matches!(producers.check(&header(1, 1, 4)), Err(Error::OutOfSequence { expected: 0, .. })));
        assert_eq!(producers.check(&header(0, 1, 4)).ok(), Some(Verdict::Append));
        assert!(matches!(producers.check(&header(1, 1, 2)), Err(Error::StaleProducerEpoch { .. })));
    }

    #[test]
    fn sequences_wrap_to_zero() {
        let mut producers = Producers::default();
        producers.record(&header(i32::MAX - 1, 2, 0), 0, -1, 1);
        assert_eq!(producers.check(&header(0, 1, 0)).ok(), Some(Verdict::Append));
        assert!(producers.check(&header(1, 1, 0)).is_err());
        // Inside a batch, too.
        producers.record(&header(i32::MAX - 1, 4, 1), 2, -1, 1);
        assert_eq!(producers.check(&header(2, 1, 1)).ok(), Some(Verdict::Append));
    }

    #[test]
    fn an_unknown_producer_starts_anywhere_and_goes_on_from_there() {
        let mut producers = Producers::default();
        let first = header(5, 2, 3);
        assert_eq!(producers.check(&first).ok(), Some(Verdict::Append));
        producers.record(&first, 0, -1, 1);
        assert!(matches!(producers.check(&header(8, 1, 3)), Err(Error::OutOfSequence { expected: 7, .. })));
        assert!(matches!(producers.check(&header(0, 1, 3)), Err(Error::OutOfSequence { .. })));
        assert!(matches!(producers.check(&first), Ok(Verdict::Duplicate { base_offset: 0, .. })));
        assert_eq!(producers.check(&header(7, 1, 3)).ok(), Some(Verdict::Append));
    }

    #[test]
    fn the_encoded_state_reads_back_and_a_cut_one_does_not() {
        let mut producers = Producers::default();
        producers.record(&header(0, 3, 1), 10, 98, 99);
        producers.record(&header(3, 1, 1), 13, -1, 100);
        let mut bytes = Vec::new();
        producers.encode(&mut bytes);
        let read = Producers::decode(&mut bytes.as_slice(), true);
        assert_eq!(read.map(|p| p.entries), Some(producers.entries));
        for cut in 0..bytes.len() {
            assert!(Producers::decode(&mut bytes.get(..cut).unwrap_or_default(), true).is_none());
        }
    }

    /// What weir wrote before it kept append times: `forgot`, one producer, one batch.
    #[test]
    fn a_state_without_append_times_reads() {
        let mut bytes = vec![1];
        bytes.put_u32(1);
        bytes.put_i64(7);
        bytes.put_i16(0);
        bytes.put_i64(100);
        bytes.put_u8(1);
        bytes.put_i32(0);
        bytes.put_i32(2);
        bytes.put_i64(40);
        let read = Producers::decode(&mut bytes.as_slice(), false).unwrap_or_default();
        let found = Verdict::Duplicate { base_offset: 40, log_append_time_ms: -1 };
        assert_eq!(read.check(&header(0, 3, 0)).ok(), Some(found));
    }

    #[test]
    fn expiry_drops_the_silent_and_the_oldest_beyond_the_limit() {
        let mut producers = Producers::default();
        for id in 0..10 {
            let mut h = header(0, 1, 0);
            h.producer_id = id;
            producers.record(&h, id, -1, id);
        }
        producers.expire(10, 2, 5);
        assert_eq!(producers.len(), 5);
    }

    #[test]
    fn a_producer_of_an_earlier_life_expires_counted_from_this_one() {
        let mut producers = Producers::default();
        producers.record(&header(0, 1, 0), 0, -1, i64::MAX);
        for (now_ms, known) in [(1_000, 1), (1_100, 1), (1_101, 0)] {
            producers.expire(now_ms, now_ms - 100, 5);
            assert_eq!(producers.len(), known, "at {now_ms}");
        }
    }
}
