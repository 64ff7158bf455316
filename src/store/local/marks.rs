//! How far each log has been told durable, so that a recovery knows damage from what nobody was promised.
//!
//! Owns: the file `marks`, one slot of 32 bytes per log, written after every sync of the log and before anybody hears of
//! it. It is not synced itself: after a kill it is exact, after a power cut it may be behind, and it is never ahead.
//! Invariant: while a slot does not check out nobody knows whose it was, nor how much of that log was promised. Deliberately
//! absent: what it means (`recovery.rs`).

use std::collections::HashMap;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, BufMut};
use uuid::Uuid;

use super::checkpoint::read_all;
use super::disk::{Disk, File};
use super::{failed, locked};
use crate::lock::{Mutex, rank};
use crate::store::{Incidents, Kind, LogId, Result};

/// Sixteen of them are a sector, so that none is ever torn.
const SLOT_BYTES: usize = 32;

/// The file, and whose slot is where.
pub(super) struct Marks {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    state: Mutex<rank::Marks, State>,
}

#[derive(Default)]
struct State {
    file: Option<Arc<dyn File>>,
    /// Slot and offset as the last life left it, or this one took it.
    slots: HashMap<LogId, (u64, i64)>,
    free: Vec<u64>,
    next: u64,
    /// A slot holds what nobody wrote there: sectors are written whole, so it is damage, and not what a power cut leaves.
    unclear: bool,
}

/// A log's place in the file.
pub(super) struct Slot {
    file: Arc<dyn File>,
    at: u64,
}

impl Marks {
    /// Reads what earlier lives left in `dir`. A file is made with the first slot. After a clean close nothing of it is needed.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, clean: bool, incidents: &Incidents) -> Result<Self> {
        let path = dir.join("marks");
        let bytes = read_all(&*disk, &path).map_err(failed("read", &path))?.unwrap_or_default();
        let (mut state, mut scrambled) = (State::default(), 0);
        for slot in bytes.chunks(SLOT_BYTES) {
            match decode(slot) {
                Some((id, offset)) => drop(state.slots.insert(id, (state.next, offset))),
                None => {
                    let wrong = slot.iter().any(|byte| *byte != 0);
                    scrambled += usize::from(wrong);
                    // It stays as it is until a clean close, or each life would know less than the one before.
                    if clean || !wrong {
                        state.free.push(state.next);
                    } else {
                        state.unclear = true;
                    }
                }
            }
            state.next += 1;
        }
        if scrambled > 0 {
            let text =
                format_args!("{}: {scrambled} marks do not check out: nobody knows whose", path.display());
            incidents.note(Kind::FileDamaged, &text);
        }
        Ok(Self { disk, path, state: Mutex::new(state) })
    }

    /// Everything below was told durable in an earlier life; `None` when nobody knows.
    pub fn of(&self, id: LogId) -> Option<i64> {
        let state = locked(&self.state);
        let told = state.slots.get(&id).map(|(_, offset)| *offset);
        told.or(if state.unclear { None } else { Some(0) })
    }

    /// The log's place; `None` where the file cannot be had: a mark that is missing costs certainty, nothing else.
    pub fn slot(&self, id: LogId) -> Option<Slot> {
        let mut state = locked(&self.state);
        let file = match &state.file {
            Some(file) => file.clone(),
            None => {
                let there = self.disk.file_bytes(&self.path).ok()?.is_some();
                let opened = if there { self.disk.open(&self.path) } else { self.disk.create(&self.path) };
                state.file.insert(opened.ok()?).clone()
            }
        };
        let taken = state.slots.get(&id).map(|(at, _)| *at);
        let at = taken.or_else(|| state.free.pop()).unwrap_or_else(|| {
            state.next += 1;
            state.next - 1
        });
        if taken.is_none() {
            state.slots.insert(id, (at, 0));
        }
        Some(Slot { file, at: at * SLOT_BYTES as u64 })
    }

    /// Forgets a deleted log.
    pub fn forget(&self, id: LogId) {
        let mut state = locked(&self.state);
        let Some((at, _)) = state.slots.remove(&id) else { return };
        let file = state.file.clone().or_else(|| self.disk.open(&self.path).ok());
        if let Some(file) = file {
            drop(file.write_at(&[IoSlice::new(&[0; SLOT_BYTES])], at * SLOT_BYTES as u64));
        }
        state.free.push(at);
    }
}

impl Slot {
    /// Says that everything of the log below `offset` is on stable storage.
    pub fn tell(&self, id: LogId, offset: i64) {
        drop(self.file.write_at(&[IoSlice::new(&encode(id, offset))], self.at));
    }
}

fn encode(id: LogId, offset: i64) -> [u8; SLOT_BYTES] {
    let mut out = [0; SLOT_BYTES];
    let mut rest = &mut out[..];
    rest.put_slice(id.topic.as_bytes());
    rest.put_i32(id.partition);
    rest.put_i64(offset);
    let crc = crc32fast::hash(&out[..SLOT_BYTES - 4]);
    out[SLOT_BYTES - 4..].copy_from_slice(&crc.to_be_bytes());
    out
}

fn decode(slot: &[u8]) -> Option<(LogId, i64)> {
    let (mut body, crc) = slot.split_last_chunk::<4>()?;
    if crc32fast::hash(body) != u32::from_be_bytes(*crc) {
        return None;
    }
    let mut topic = [0; 16];
    body.try_copy_to_slice(&mut topic).ok()?;
    let id = LogId { topic: Uuid::from_bytes(topic), partition: body.try_get_i32().ok()? };
    Some((id, body.try_get_i64().ok().filter(|offset| *offset >= 0)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::local::disk::RealDisk;

    fn id(n: u128) -> LogId {
        LogId { topic: Uuid::from_u128(n), partition: 3 }
    }

    #[test]
    fn marks_outlive_the_process_and_a_scrambled_slot_says_that_nobody_knows() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Marks::open(Arc::new(RealDisk), dir.path(), false, &Incidents::default()).unwrap();
        let marks = open();
        for n in 0..20 {
            let slot = marks.slot(id(n)).unwrap();
            slot.tell(id(n), 5);
            slot.tell(id(n), 7 + i64::try_from(n).unwrap());
        }
        marks.forget(id(4));
        let path = dir.path().join("marks");
        let mut bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 20 * SLOT_BYTES);
        assert_eq!(open().of(id(4)), Some(0), "nothing was promised");
        bytes[6 * SLOT_BYTES + 22] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let marks = open();
        let told: Vec<_> = (0..20).map(|n| marks.of(id(n))).collect();
        let expected: Vec<_> = (0..20).map(|n| (n != 4 && n != 6).then_some(7 + n)).collect();
        assert_eq!(told, expected);
        assert_eq!(
            Marks::open(Arc::new(RealDisk), dir.path(), true, &Incidents::default()).unwrap().of(id(6)),
            Some(0),
            "closed"
        );
        marks.slot(id(99)).unwrap().tell(id(99), 1);
        assert_eq!(std::fs::read(&path).unwrap().len(), 20 * SLOT_BYTES, "places are used again");
        assert_eq!((open().of(id(99)), open().of(id(6))), (Some(1), None));
    }
}
