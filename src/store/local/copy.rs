//! The second copy of small state: a journal of its changes beside redb's file, for the day that one is lost.
//!
//! Owns: the file `meta.copy`. Every change is appended after redb has it, without a sync of its own: a kill loses
//! nothing of it, a power cut at most what the system had not written yet. It is made anew, durably, at every open at
//! which it differs, and when it has grown. Invariant: an entry that does not check out ends the journal.
//! Deliberately absent: the decision to believe it (`meta.rs`).

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut, Bytes};

use super::checkpoint::replace;
use super::disk::RealDisk;
use super::locked;
use crate::lock::{Mutex, rank};
use crate::store::Versioned;

const MAGIC: &[u8; 8] = b"weircpy1";
/// Length and checksum of an entry.
const HEAD_BYTES: usize = 8;
/// Bytes of changes that may stand behind the state before the file is made anew.
const CHANGES_BYTES: u64 = 4 << 20;

/// Every key with its value and version.
pub(super) type Entries = BTreeMap<String, Versioned>;

/// What the file says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub entries: Entries,
    /// Up to its last byte; else the last changes may be missing.
    pub whole: bool,
}

/// The file.
pub(super) struct Copy {
    path: PathBuf,
    state: Mutex<rank::MetaCopy, State>,
}

#[derive(Default)]
struct State {
    /// `None`: the file does not say what small state is.
    file: Option<File>,
    end: u64,
    /// Its size when it was made.
    made_bytes: u64,
}

impl Copy {
    /// The copy at `path`; nothing is read or written yet.
    pub fn at(path: PathBuf) -> Self {
        Self { path, state: Mutex::default() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file says; `None` where there is none, or what it was made with is not all there.
    pub fn read(&self) -> io::Result<Option<Said>> {
        match std::fs::read(&self.path) {
            Ok(bytes) => Ok(bytes.strip_prefix(MAGIC).and_then(decode)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Makes the file anew, durably.
    pub fn make(&self, entries: &[(String, Versioned)]) -> io::Result<()> {
        let mut state = locked(&self.state);
        state.file = None;
        let mut out = MAGIC.to_vec();
        out.put_u32(u32::try_from(entries.len()).unwrap_or(u32::MAX));
        entries.iter().for_each(|(key, kept)| put(&mut out, key, Some(kept)));
        replace(&RealDisk, &self.path, &out)?;
        state.follow(&self.path, out.len() as u64)
    }

    /// Takes the file as it is: it says what small state is.
    pub fn keep(&self) -> io::Result<()> {
        let bytes = std::fs::metadata(&self.path)?.len();
        locked(&self.state).follow(&self.path, bytes)
    }

    /// Appends a change (`None`: the key is gone); false when the file has to be made anew.
    pub fn append(&self, key: &str, kept: Option<&Versioned>) -> bool {
        let mut state = locked(&self.state);
        let mut out =
            Vec::with_capacity(HEAD_BYTES + key.len() + kept.map_or(0, |kept| kept.value.len()) + 16);
        put(&mut out, key, kept);
        let (end, full) = (state.end, state.end > state.made_bytes * 2 + CHANGES_BYTES);
        let written = state.file.as_ref().is_some_and(|file| file.write_all_at(&out, end).is_ok());
        if written {
            state.end += out.len() as u64;
        } else {
            // Half an entry ends the journal, and nothing may stand behind it.
            state.file = None;
        }
        written && !full
    }
}

impl State {
    fn follow(&mut self, path: &Path, bytes: u64) -> io::Result<()> {
        self.file = Some(OpenOptions::new().write(true).open(path)?);
        (self.end, self.made_bytes) = (bytes, bytes);
        Ok(())
    }
}

/// length u32 and CRC-32 of the rest; version u64 (0: gone), key length u32, key, value.
fn put(out: &mut Vec<u8>, key: &str, kept: Option<&Versioned>) {
    let start = out.len();
    out.put_bytes(0, HEAD_BYTES);
    out.put_u64(kept.map_or(0, |kept| kept.version));
    out.put_u32(u32::try_from(key.len()).unwrap_or(u32::MAX));
    out.put_slice(key.as_bytes());
    out.put_slice(kept.map_or(&[], |kept| &kept.value));
    let body = out.get(start + HEAD_BYTES..).unwrap_or_default();
    let (length, crc) = (u32::try_from(body.len()).unwrap_or(u32::MAX), crc32fast::hash(body));
    let head = (u64::from(length) << 32 | u64::from(crc)).to_be_bytes();
    if let Some(to) = out.get_mut(start..start + HEAD_BYTES) {
        to.copy_from_slice(&head);
    }
}

/// The number of entries that the file was made with, these, and the changes since.
fn decode(mut bytes: &[u8]) -> Option<Said> {
    let made = bytes.try_get_u32().ok()?;
    let (mut entries, mut count) = (Entries::new(), 0);
    while let Some((key, kept)) = entry(&mut bytes) {
        count += 1;
        match kept {
            Some(kept) => drop(entries.insert(key, kept)),
            None => drop(entries.remove(&key)),
        }
    }
    (count >= made).then_some(Said { entries, whole: bytes.is_empty() })
}

fn entry(from: &mut &[u8]) -> Option<(String, Option<Versioned>)> {
    let mut head = *from;
    let (length, crc) = (head.try_get_u32().ok()?, head.try_get_u32().ok()?);
    let (mut body, rest) = head.split_at_checked(usize::try_from(length).ok()?)?;
    if crc32fast::hash(body) != crc {
        return None;
    }
    *from = rest;
    let version = body.try_get_u64().ok()?;
    let length = usize::try_from(body.try_get_u32().ok()?).ok()?;
    let (key, value) = body.split_at_checked(length)?;
    let key = String::from_utf8(key.to_vec()).ok()?;
    Some((key, (version > 0).then(|| Versioned { version, value: Bytes::copy_from_slice(value) })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(version: u64, value: &'static [u8]) -> Versioned {
        Versioned { version, value: Bytes::from_static(value) }
    }

    #[test]
    fn changes_are_read_back_up_to_the_first_that_does_not_check_out() {
        let dir = tempfile::tempdir().unwrap();
        let copy = Copy::at(dir.path().join("meta.copy"));
        assert!(!copy.append("a", Some(&kept(1, b"lost"))), "it has to be made first");
        assert_eq!(copy.read().unwrap(), None);
        copy.make(&[("a".into(), kept(1, b"one")), ("b".into(), kept(2, b""))]).unwrap();
        let bytes = || usize::try_from(std::fs::metadata(copy.path()).unwrap().len()).unwrap();
        let made = bytes();
        let mut ends = vec![made];
        for (key, kept) in [("a", Some(kept(3, b"two"))), ("b", None), ("c", Some(kept(4, b"three")))] {
            assert!(copy.append(key, kept.as_ref()));
            ends.push(bytes());
        }
        let read = |copy: &Copy| copy.read().unwrap().unwrap().entries.into_iter().collect::<Vec<_>>();
        let whole = [("a".to_owned(), kept(3, b"two")), ("c".to_owned(), kept(4, b"three"))];
        assert_eq!(read(&copy), whole);
        let again = Copy::at(copy.path().to_owned());
        again.keep().unwrap();
        assert!(again.append("d", Some(&kept(5, b"four"))));
        assert_eq!(read(&again).len(), 3);
        let bytes = std::fs::read(copy.path()).unwrap();
        for cut in 0..bytes.len() {
            std::fs::write(copy.path(), &bytes[..cut]).unwrap();
            let read = copy.read().unwrap();
            assert_eq!(read.is_none(), cut < made, "cut at {cut}");
            assert!(read.is_none_or(|said| said.whole == ends.contains(&cut)), "cut at {cut}");
        }
        let mut flipped = bytes.clone();
        let at = flipped.len() - 30;
        flipped[at] ^= 1;
        std::fs::write(copy.path(), flipped).unwrap();
        assert_eq!(read(&copy), whole[..1], "what comes before stays");
    }
}
