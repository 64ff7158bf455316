//! What the batches of a partition have told: producers and where each leader epoch starts. It is kept as the note of the
//! log's checkpoint, and learned again from the headers past it.

use bytes::{Buf, BufMut};

use super::producers::Producers;
use crate::batch::{Header, TimestampType};

/// Producers and leader epochs of a partition.
#[derive(Default)]
pub(super) struct History {
    pub(super) producers: Producers,
    /// Where each leader epoch that wrote something starts, oldest first.
    epochs: Vec<(i32, i64)>,
}

impl History {
    /// version u8 = 2 (1: producers without append times), epoch count u16, per epoch i32 + start i64, then the producers.
    pub(super) fn note(&self) -> Vec<u8> {
        let mut out = vec![2];
        out.put_u16(u16::try_from(self.epochs.len()).unwrap_or(u16::MAX));
        for (epoch, start) in self.epochs.iter().rev().take(usize::from(u16::MAX)).rev() {
            out.put_i32(*epoch);
            out.put_i64(*start);
        }
        self.producers.encode(&mut out);
        out
    }

    /// A note that does not read is ignored: its producers are then unknown, and may start anywhere.
    pub(super) fn adopt(&mut self, note: &[u8]) {
        let read = |mut input: &[u8]| {
            let version = input.try_get_u8().ok().filter(|version| (1..=2).contains(version))?;
            let mut epochs = Vec::new();
            for _ in 0..input.try_get_u16().ok()? {
                epochs.push((input.try_get_i32().ok()?, input.try_get_i64().ok()?));
            }
            Some((epochs, Producers::decode(&mut input, version >= 2)?))
        };
        if let Some((epochs, producers)) = read(note) {
            (self.epochs, self.producers) = (epochs, producers);
        }
    }

    /// Learns what a batch tells that was found past the note.
    pub(super) fn replay(&mut self, header: &Header) {
        self.begin(header.leader_epoch, header.base_offset);
        if header.producer_id >= 0 && header.base_sequence >= 0 {
            // The timestamps are the client's and may be of any age: they do not tell when it was heard of.
            let stamped = header.timestamp_type() == TimestampType::LogAppend;
            let stamp_ms = if stamped { header.max_timestamp } else { -1 };
            self.producers.record(header, header.base_offset, stamp_ms, i64::MAX);
        }
    }

    /// A leader epoch writes from `offset` on.
    pub(super) fn begin(&mut self, epoch: i32, offset: i64) {
        if self.epochs.last().is_none_or(|(last, _)| *last < epoch) {
            self.epochs.push((epoch, offset));
        }
    }

    /// The largest epoch at or below `epoch` that wrote something, and where it ends; `end` is the log's.
    pub(super) fn end_of(&self, epoch: i32, end: i64) -> (i32, i64) {
        let after = self.epochs.partition_point(|(e, _)| *e <= epoch);
        let until = self.epochs.get(after).map_or(end, |(_, start)| *start);
        // An epoch older than all that wrote something ends where the first of them starts, as in Kafka.
        let known =
            after.checked_sub(1).and_then(|at| self.epochs.get(at)).map_or(epoch, |(known, _)| *known);
        (known, until)
    }
}
