//! Logs and small state on an engine: the storage seam.
//!
//! Small enough to memorise, below the semantics: bytes, offsets, compare-and-set. An engine never
//! sees a topic, a group or an error code, so that a second engine (one bucket of an S3-compatible
//! store) can stand behind these traits without a change above. One conformance suite
//! (`tests/it/store`) runs against every engine.
//!
//! Deliberately absent: partitions' rules (sequences, quotas, retention policy), sockets, wall clocks.

mod incidents;
pub mod local;
pub mod memory;
mod slice;
mod watermark;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use crate::batch::{Batch, Header, PREFIX_BYTES};

pub use incidents::{FRESH, Incidents, Kind, Pace, Reason, Seen};
pub use slice::Slice;
pub use watermark::{Registration, Watermark};

/// Names one log: a topic's id and a partition index, never a topic's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogId {
    /// Topic id.
    pub topic: Uuid,
    /// Partition index, from 0.
    pub partition: i32,
}

/// How one log cuts its parts. Alterable while open ([`Log::set_options`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// A segment is rolled before it would grow past this many bytes.
    pub segment_bytes: u64,
    /// A segment is rolled when its first append is older than this, ms.
    pub segment_ms: i64,
    /// At most this many bytes between two index entries.
    pub index_interval_bytes: u32,
}

/// A checked batch with its place in the log. The engine writes these 12 + 4 bytes over the sender's.
#[derive(Clone, Debug)]
pub struct Placed {
    /// Offset of the batch's first record; equals the log's end at the time of the append.
    pub base_offset: i64,
    /// Leader epoch written into the batch.
    pub leader_epoch: i32,
    /// The batch as received.
    pub batch: Batch,
}

impl Placed {
    /// Offset after the batch's last record.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.base_offset + i64::from(self.batch.header().last_offset_delta) + 1
    }

    /// What stands in front of the batch's other bytes in the log.
    pub(crate) fn prefix(&self) -> [u8; PREFIX_BYTES] {
        self.batch.prefix(self.base_offset, self.leader_epoch)
    }
}

/// Where a log starts and ends. `start <= durable <= end` except that `durable` lags `start` after a trim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First readable offset.
    pub start: i64,
    /// Everything below is on stable storage.
    pub durable: i64,
    /// Offset that the next append takes.
    pub end: i64,
}

/// One self-contained part of a log, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Offset of its first record.
    pub base_offset: i64,
    /// Offset after its last record.
    pub next_offset: i64,
    /// Bytes of batches in it.
    pub bytes: u64,
    /// Largest max-timestamp of its batches, ms; -1 when empty.
    pub max_timestamp: i64,
    /// Wall-clock ms of its first append (from the caller's `now_ms`), -1 when empty.
    pub opened_ms: i64,
    /// No longer appended to.
    pub sealed: bool,
}

/// Opaque state of the layer above, kept with a log and valid up to `offset`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Log end when the note was taken.
    pub offset: i64,
    /// The caller's bytes.
    pub bytes: Bytes,
}

/// What the open of a log shows to whoever keeps state beside it.
#[derive(Clone, Copy, Debug)]
pub enum Replayed<'a> {
    /// The newest note that fits; nothing, or first.
    Note(&'a Note),
    /// One batch at or past the note's offset, with base offset and leader epoch as stored.
    Batch(&'a Header),
}

/// A log that has been opened (recovered first, where that was needed).
pub struct Opened {
    /// The log.
    pub log: Arc<dyn Log>,
    /// The newest note that fits the recovered log (its offset is at most the log's end).
    pub note: Option<Note>,
}

/// Logs and small state on one engine.
pub trait Store: Send + Sync {
    /// Opens a log, creating it when new; no file exists before the first append. `replay` sees the
    /// note, and every batch at or past its offset (every batch when there is none), in order.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Corrupt`] after the log has been quarantined.
    fn open_log(
        &self,
        id: LogId,
        options: LogOptions,
        replay: &mut dyn FnMut(Replayed<'_>),
    ) -> Result<Opened>;

    /// Deletes a log and its bytes; readers that still hold slices keep them. Unknown logs are fine.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn delete_log(&self, id: LogId) -> Result<()>;

    /// Those of `deleted` of which nothing is left, durably: nobody has to remember any longer that they are deleted.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn gone(&self, deleted: &HashSet<Uuid>) -> Result<Vec<Uuid>> {
        Ok(deleted.iter().copied().collect())
    }

    /// Frees in the background what no topic needs: `topics` are those that exist, with their numbers of partitions,
    /// `deleted` those that are known to be deleted. What is neither is set aside and reported, never removed.
    fn sweep(&self, topics: HashMap<Uuid, i32>, deleted: HashSet<Uuid>) {
        let _ = (topics, deleted);
    }

    /// Every log with bytes on this engine.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn logs(&self) -> Result<Vec<LogId>>;

    /// Small state.
    fn meta(&self) -> &dyn Meta;

    /// What went wrong with this store and with what stands on it.
    fn incidents(&self) -> &Arc<Incidents>;

    /// How often this store has been opened without a clean close before: what leader epochs grow by.
    fn incarnation(&self) -> i32;

    /// Total and free bytes of the engine's space, when it has such a thing.
    fn capacity(&self) -> Option<Capacity>;

    /// Takes back the space that is kept for what must go on when there is no more, where it was given up and there is
    /// enough again.
    fn keep_space_back(&self) {}

    /// Makes everything durable and marks the store clean. No append may follow.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Fenced`] of the first log that could not be made durable; all others are marked clean, and the
    /// store counts as opened without a clean close ([`Store::incarnation`]).
    fn close(&self) -> Result<()>;
}

/// Bytes of the space an engine lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// All of it.
    pub total_bytes: u64,
    /// What is left.
    pub free_bytes: u64,
}

/// One ordered log of batches. `append`, `seal` and `checkpoint` are called by one writer at a time (the caller's
/// lock); everything else from anywhere.
pub trait Log: Send + Sync {
    /// Appends consecutive batches, the first at [`Span::end`]. All or none: after an error the log
    /// ends where it did. Does not sync. `now_ms` dates a new segment.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Fenced`], [`Error::Deleted`], [`Error::Io`].
    fn append(&self, batches: &[Placed], now_ms: i64) -> Result<()>;

    /// Whole batches from the one that contains `offset`, at most `max_bytes` unless the first alone is
    /// larger and `min_one_message`; never past `until` (an offset at a batch boundary, normally the high watermark).
    /// Empty when `offset == until`, or the first batch has no room.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] below the start or past the end, [`Error::Damaged`] where records are lost,
    /// [`Error::Corrupt`], [`Error::Io`].
    fn read(&self, offset: i64, max_bytes: usize, min_one_message: bool, until: i64) -> Result<Slice>;

    /// Base offset of the first batch at or past `from`, and past the log start, whose max-timestamp is at least `timestamp`.
    /// Waits for the disk.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn seek_time(&self, timestamp: i64, from: i64) -> Result<Option<i64>>;

    /// Base offset of the first batch that carries the largest max-timestamp of those that begin at or past `from`
    /// and the log start, and that timestamp.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn max_timestamp(&self, from: i64) -> Result<Option<(i64, i64)>>;

    /// Moves the start up to `offset` and frees segments wholly below it. Durable before it returns; appends go on
    /// while it waits for the disk.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] past the end, [`Error::Io`].
    fn trim_to(&self, offset: i64) -> Result<()>;

    /// Start, durable end and end.
    fn span(&self) -> Span;

    /// The parts, oldest first, the active one last.
    fn segments(&self) -> Vec<Segment>;

    /// Where records go on from `offset` on: there, or behind offsets that none ever had, as where the log leapt over what a
    /// place that could not be read might hold. [`Log::read`] goes on there, too.
    fn goes_on_at(&self, offset: i64) -> i64 {
        offset
    }

    /// Offsets between start and end whose records are lost, each as the first of them and the first that is not.
    fn damaged(&self) -> Vec<(i64, i64)> {
        Vec::new()
    }

    /// Watermark of durability; fails when a sync failed (the log is then fenced for writes).
    fn durable(&self) -> &Watermark;

    /// Asks for everything appended so far to become durable soon; returns at once.
    /// One sync serves all who ask meanwhile. A failed sync is never retried.
    fn sync(&self);

    /// The same, for who asks it of many logs at once: others do not wait behind them.
    fn sync_among_many(&self) {
        self.sync();
    }

    /// As [`Log::sync`], but where no sync is under way the caller's thread may make it, through `place`, which
    /// tells its scheduler that the thread is going to wait. Saves two hand-overs between threads: a fifth of
    /// a fast disk's sync.
    fn sync_in(&self, place: fn(&dyn Fn())) {
        let _ = place;
        self.sync();
    }

    /// Seals the active segment; the next append opens a new one.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn seal(&self) -> Result<()>;

    /// Saves a note that is valid for the log's present end (recovery replays only what lies past it).
    /// Not durable by itself: a note that is lost costs a longer replay.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn checkpoint(&self, note: &[u8]) -> Result<()>;

    /// Lets appends use the space that the engine keeps back for what must go on when it is full.
    fn may_use_reserve(&self) {}

    /// Changes how the log cuts its parts, from the next append on.
    fn set_options(&self, options: LogOptions);
}

/// Small state: versioned keys with compare-and-set. Every write is durable when it returns.
pub trait Meta: Send + Sync {
    /// The value and its version.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn get(&self, key: &str) -> Result<Option<Versioned>>;

    /// Writes `value` if the key's version is `expected` (`None`: the key must not exist).
    ///
    /// # Errors
    /// [`Error::Io`], when it is certain that nothing was written.
    fn put_if(&self, key: &str, value: &[u8], expected: Option<u64>) -> Result<Put>;

    /// Deletes the key if its version is `expected`.
    ///
    /// # Errors
    /// [`Error::Io`], when it is certain that nothing was written.
    fn delete_if(&self, key: &str, expected: u64) -> Result<Put>;

    /// Deletes each of `keys` whose version is the one named, all in one write.
    ///
    /// # Errors
    /// [`Error::Io`]; then some of them may be there still.
    fn delete_all(&self, keys: &[(String, u64)]) -> Result<()> {
        keys.iter().try_for_each(|(key, version)| self.delete_if(key, *version).map(drop))
    }

    /// Keys that start with `prefix`, in order.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn list(&self, prefix: &str) -> Result<Vec<(String, Versioned)>>;
}

/// A value and the version that a compare-and-set names. Versions of a key only grow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// Version.
    pub version: u64,
    /// Value.
    pub value: Bytes,
}

/// Outcome of a compare-and-set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// Written; the key's new version (0 after a delete).
    Won(u64),
    /// The version was another; nothing written.
    Lost,
    /// The engine cannot tell (a remote store that did not answer).
    Unknown,
}

/// What an engine may fail with.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("{op} {}: {source}", path.display())]
    Io {
        /// What was tried, for example `fdatasync`.
        op: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: Arc<std::io::Error>,
    },
    /// Bytes that cannot be explained; they are kept.
    #[error("{} is damaged at byte {position}: {what}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it.
        position: u64,
        /// What is wrong.
        what: String,
    },
    /// The records at this offset cannot be read any more; the log goes on at `to`.
    #[error("{} is damaged at byte {position}: offsets {from} to {to} are lost", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        position: u64,
        /// The offset that was asked for, or the first one of the damaged place.
        from: i64,
        /// The first offset past the damaged place.
        to: i64,
    },
    /// No space left; writing may work again later.
    #[error("no space left in {}", path.display())]
    Full {
        /// The data directory.
        path: PathBuf,
    },
    /// A sync failed earlier or another owner took over: no write will ever succeed.
    #[error("the log is fenced for writes")]
    Fenced,
    /// The log was deleted, perhaps while it was used: nothing is wrong with the disk.
    #[error("the log was deleted")]
    Deleted,
    /// An offset outside the log.
    #[error("offset is outside {start}..={end}")]
    OutOfRange {
        /// First readable offset.
        start: i64,
        /// End of the log.
        end: i64,
    },
    /// The directory cannot be opened: locked by another process, newer format, foreign content.
    #[error("{0}")]
    Refused(String),
}

/// Result of the store.
pub type Result<T> = std::result::Result<T, Error>;
