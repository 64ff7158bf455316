//! The ledger of what went wrong: counted per kind, said at most once a second and kind, kept for health.
//!
//! An **incident** happened at one moment ([`Incidents::note`]); a **standing** one holds until somebody ends it
//! ([`Incidents::raise`], [`Incidents::clear`]): a fenced log, a damaged range, a full disk. Whoever meets a failure
//! notes it once, where it happens, so that no door needs to. What a client may do wrong (an offset out of range, a
//! deleted topic) is no incident. Invariant: however often something fails, the lines and what is kept are bounded,
//! and a suppressed incident allocates nothing. Deliberately absent: wall clocks, metrics' names, what health answers.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::Error;
use crate::lock::{Mutex, rank};

/// After an incident that is a fault, health stays degraded for this long.
pub const FRESH: Duration = Duration::from_secs(60);
/// At most one line per kind in this time.
const PACE_US: u64 = 1_000_000;
/// Standing incidents kept per kind; one more is counted as "more" until all of that kind have ended.
const MAX_STANDING: usize = 256;
/// Bytes kept of a text.
const MAX_TEXT_BYTES: usize = 512;
/// Reasons that a report names.
const MAX_REASONS: usize = 32;

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A write to a log failed; nothing of it was acknowledged.
    WriteFailed,
    /// A file or directory could not be opened, created or renamed.
    OpenFailed,
    /// A read of a log failed.
    ReadFailed,
    /// A sync failed. Standing: the log is fenced for writes until a restart reads what the disk holds.
    SyncFailed,
    /// No space left (or no quota). Standing until there is space again.
    DiskFull,
    /// Small state (topics, configuration, producer ids) could not be read or written. Standing while no write succeeds.
    StateFailed,
    /// Bytes of a log that do not check out. Standing: that range is not served.
    LogDamaged,
    /// An index, a checkpoint or another file that can be made anew did not check out and was.
    FileDamaged,
    /// A tail that a crash tore off was cut and kept aside, or a file that is no part of its log.
    TailCut,
    /// A log, a file or small state was set aside because nobody can explain it. Standing until moved away.
    Quarantined,
    /// A fault of the broker's own: work panicked, or an answer could not be built.
    Internal,
    /// A change of a group could not be written to `__consumer_offsets`.
    JournalRefused,
    /// A part of `__consumer_offsets` cannot be read. Standing: groups may miss what it held.
    JournalDamaged,
    /// Upkeep failed and is tried again: retention, checkpoints, removal of files.
    UpkeepFailed,
    /// Something in the data directory that is none of ours; it is left alone.
    Foreign,
    /// Somebody waits for something and nobody who does is served. Standing until somebody is.
    Standstill,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 16] = [
        Self::WriteFailed,
        Self::OpenFailed,
        Self::ReadFailed,
        Self::SyncFailed,
        Self::DiskFull,
        Self::StateFailed,
        Self::LogDamaged,
        Self::FileDamaged,
        Self::TailCut,
        Self::Quarantined,
        Self::Internal,
        Self::JournalRefused,
        Self::JournalDamaged,
        Self::UpkeepFailed,
        Self::Foreign,
        Self::Standstill,
    ];

    /// Its name in metrics, health and log lines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::WriteFailed => "write_failed",
            Self::OpenFailed => "open_failed",
            Self::ReadFailed => "read_failed",
            Self::SyncFailed => "sync_failed",
            Self::DiskFull => "disk_full",
            Self::StateFailed => "state_failed",
            Self::LogDamaged => "log_damaged",
            Self::FileDamaged => "file_damaged",
            Self::TailCut => "tail_cut",
            Self::Quarantined => "quarantined",
            Self::Internal => "internal",
            Self::JournalRefused => "journal_refused",
            Self::JournalDamaged => "journal_damaged",
            Self::UpkeepFailed => "upkeep_failed",
            Self::Foreign => "foreign",
            Self::Standstill => "standstill",
        }
    }

    /// Whether one of these degrades health for [`FRESH`]; the others were dealt with and only warn.
    #[must_use]
    pub fn is_fault(self) -> bool {
        !matches!(self, Self::FileDamaged | Self::TailCut | Self::Foreign)
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// Lets one through per second and counts the others; for lines that somebody outside can cause at will.
#[derive(Debug)]
pub struct Pace {
    start: Instant,
    /// Microseconds since `start` before which nothing is let through.
    next_us: AtomicU64,
    suppressed: AtomicU64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { start: now(), next_us: AtomicU64::new(0), suppressed: AtomicU64::new(0) }
    }
}

impl Pace {
    /// How many were suppressed since the last that was let through; `None` when this one is, too.
    pub fn admit(&self) -> Option<u64> {
        self.admit_at(self.elapsed_us())
    }

    fn admit_at(&self, now_us: u64) -> Option<u64> {
        let next = self.next_us.load(Ordering::Relaxed);
        let won = now_us >= next
            && self
                .next_us
                .compare_exchange(next, now_us + PACE_US, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if won {
            return Some(self.suppressed.swap(0, Ordering::Relaxed));
        }
        self.suppressed.fetch_add(1, Ordering::Relaxed);
        None
    }

    fn elapsed_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// The ledger of one store and of what stands on it.
#[derive(Debug)]
pub struct Incidents {
    start: Instant,
    entries: [Entry; Kind::ALL.len()],
}

/// What is kept of a kind.
#[derive(Debug, Default)]
struct Entry {
    count: AtomicU64,
    /// Microseconds since the ledger's start of the last one, plus one; 0: never.
    last_us: AtomicU64,
    pace: Pace,
    over: Pace,
    /// Entries of `standing`, so that nobody locks to learn that there is nothing.
    stands: AtomicUsize,
    kept: Mutex<rank::Incident, Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Of the last line.
    text: String,
    standing: BTreeMap<String, String>,
    /// More were raised than are kept.
    more: bool,
}

/// A kind as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which.
    pub kind: Kind,
    /// How often it happened in this life.
    pub count: u64,
    /// How many stand.
    pub standing: usize,
    /// Text of the last that was said.
    pub text: String,
    /// Time since the last one.
    pub age: Option<Duration>,
}

/// Why health is degraded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// What it is.
    pub kind: Kind,
    /// About what, what to do; for humans.
    pub text: String,
    /// Holds until it is ended; otherwise it happened within [`FRESH`].
    pub standing: bool,
}

impl Default for Incidents {
    fn default() -> Self {
        Self { start: now(), entries: Default::default() }
    }
}

impl Incidents {
    /// Counts something that happened, and says it unless this kind was said within the last second. `text` is only
    /// formatted then.
    pub fn note(&self, kind: Kind, text: &dyn Display) {
        let Some(entry) = self.count(kind) else { return };
        let Some(suppressed) = entry.pace.admit() else { return };
        let text = bounded(text);
        say(kind, suppressed, &text);
        entry.kept.lock().text = text;
    }

    /// Notes a failure of the engine under the kind it is of: no space, damage and what could not be opened by
    /// themselves, anything else of the system's as `otherwise`. Space and damage stand. A refusal that is no failure
    /// (an offset out of range, a log that was fenced before, a foreign directory) is not noted.
    pub fn note_error(&self, otherwise: Kind, error: &Error) {
        match error {
            Error::Full { .. } => self.raise(Kind::DiskFull, "", error),
            Error::Corrupt { path, .. } | Error::Damaged { path, .. } => {
                self.raise(Kind::LogDamaged, &path.to_string_lossy(), error)
            }
            Error::Io { op: "open" | "create", .. } => self.note(Kind::OpenFailed, error),
            Error::Io { .. } => self.note(otherwise, error),
            Error::Fenced | Error::Deleted | Error::OutOfRange { .. } | Error::Refused(_) => {}
        }
    }

    /// Something that holds from now on, until [`Incidents::clear`] with the same `key` (a log, a file, a directory).
    /// Counted and said every time; kept once per key.
    pub fn raise(&self, kind: Kind, key: &str, text: &dyn Display) {
        self.note(kind, text);
        let Some(entry) = self.entries.get(kind.index()) else { return };
        let mut kept = entry.kept.lock();
        if kept.standing.contains_key(key) {
            return;
        }
        if kept.standing.len() < MAX_STANDING {
            kept.standing.insert(key.to_owned(), bounded(text));
        } else {
            kept.more = true;
        }
        entry.stands.store(kept.standing.len() + usize::from(kept.more), Ordering::Release);
    }

    /// What was raised has ended. Cheap when nothing of this kind stands.
    pub fn clear(&self, kind: Kind, key: &str) {
        let Some(entry) = self.entries.get(kind.index()) else { return };
        if entry.stands.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut kept = entry.kept.lock();
        if kept.standing.remove(key).is_none() {
            return;
        }
        kept.more &= !kept.standing.is_empty();
        entry.stands.store(kept.standing.len() + usize::from(kept.more), Ordering::Release);
        if kept.standing.is_empty() {
            drop(kept);
            if let Some(suppressed) = entry.over.admit() {
                tracing::info!(kind = kind.name(), key, suppressed, "over");
            }
        }
    }

    /// Everything that was raised for `dir` or below has ended: it was deleted.
    pub fn clear_below(&self, dir: &std::path::Path) {
        for (kind, entry) in Kind::ALL.into_iter().zip(&self.entries) {
            if entry.stands.load(Ordering::Acquire) == 0 {
                continue;
            }
            let below = |key: &&String| std::path::Path::new(key.as_str()).starts_with(dir);
            let keys: Vec<_> = entry.kept.lock().standing.keys().filter(below).cloned().collect();
            keys.iter().for_each(|key| self.clear(kind, key));
        }
    }

    /// Time since the last of a kind.
    #[must_use]
    pub fn since(&self, kind: Kind) -> Option<Duration> {
        self.entries.get(kind.index()).and_then(|entry| self.age(entry))
    }

    /// Whether anything of this kind stands.
    #[must_use]
    pub fn stands(&self, kind: Kind) -> bool {
        self.entries.get(kind.index()).is_some_and(|entry| entry.stands.load(Ordering::Acquire) > 0)
    }

    /// Whether that of this kind stands that was raised with `key`.
    #[must_use]
    pub fn stands_for(&self, kind: Kind, key: &str) -> bool {
        self.stands(kind)
            && self
                .entries
                .get(kind.index())
                .is_some_and(|entry| entry.kept.lock().standing.contains_key(key))
    }

    /// How often a kind happened in this life.
    #[must_use]
    pub fn counted(&self, kind: Kind) -> u64 {
        self.entries.get(kind.index()).map_or(0, |entry| entry.count.load(Ordering::Relaxed))
    }

    /// Every kind as it stands.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        let seen = |(kind, entry): (Kind, &Entry)| Seen {
            kind,
            count: entry.count.load(Ordering::Relaxed),
            standing: entry.stands.load(Ordering::Acquire),
            text: entry.kept.lock().text.clone(),
            age: self.age(entry),
        };
        Kind::ALL.into_iter().zip(&self.entries).map(seen).collect()
    }

    /// Why health is degraded: what stands, and faults of the last [`FRESH`]. Empty: it is not.
    #[must_use]
    pub fn reasons(&self) -> Vec<Reason> {
        let mut reasons = Vec::new();
        for (kind, entry) in Kind::ALL.into_iter().zip(&self.entries) {
            let kept = entry.kept.lock();
            let standing =
                kept.standing.values().map(|text| Reason { kind, text: text.clone(), standing: true });
            reasons.extend(standing.take(MAX_REASONS));
            if kept.standing.is_empty() && kind.is_fault() && self.age(entry).is_some_and(|age| age < FRESH) {
                reasons.push(Reason { kind, text: kept.text.clone(), standing: false });
            }
        }
        reasons.truncate(MAX_REASONS);
        reasons
    }

    fn count(&self, kind: Kind) -> Option<&Entry> {
        let entry = self.entries.get(kind.index())?;
        entry.count.fetch_add(1, Ordering::Relaxed);
        let now_us = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX - 1);
        entry.last_us.store(now_us + 1, Ordering::Relaxed);
        Some(entry)
    }

    fn age(&self, entry: &Entry) -> Option<Duration> {
        let last = entry.last_us.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.start.elapsed().saturating_sub(Duration::from_micros(last)))
    }
}

/// The engine's threads are none of tokio's, whose clock this room does not know.
#[allow(clippy::disallowed_methods, reason = "only paces lines and ages incidents; tests pass the time in")]
fn now() -> Instant {
    Instant::now()
}

fn say(kind: Kind, suppressed: u64, text: &str) {
    match (kind.is_fault(), suppressed) {
        (true, 0) => tracing::error!(kind = kind.name(), "{text}"),
        (true, suppressed) => tracing::error!(kind = kind.name(), suppressed, "{text}"),
        (false, 0) => tracing::warn!(kind = kind.name(), "{text}"),
        (false, suppressed) => tracing::warn!(kind = kind.name(), suppressed, "{text}"),
    }
}

/// The first bytes of a text.
fn bounded(text: &dyn Display) -> String {
    struct Bounded(String);
    impl Write for Bounded {
        fn write_str(&mut self, more: &str) -> std::fmt::Result {
            let room = MAX_TEXT_BYTES.saturating_sub(self.0.len());
            let cut = (0..=room.min(more.len())).rev().find(|&at| more.is_char_boundary(at)).unwrap_or(0);
            self.0.push_str(more.get(..cut).unwrap_or_default());
            if cut < more.len() { Err(std::fmt::Error) } else { Ok(()) }
        }
    }
    let mut kept = Bounded(String::new());
    // An error says that the text was cut.
    let _ = write!(kept, "{text}");
    kept.0
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::path::PathBuf;

    use super::*;

    /// Counts how often it was formatted.
    struct Counted(Cell<u32>);

    impl Display for Counted {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            self.0.set(self.0.get() + 1);
            f.write_str("it broke")
        }
    }

    #[test]
    fn names_and_places_of_kinds_are_their_own() {
        for (at, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), at);
            assert_eq!(Kind::ALL.iter().filter(|other| other.name() == kind.name()).count(), 1);
        }
    }

    #[test]
    fn one_is_let_through_a_second_and_says_how_many_were_not() {
        let pace = Pace::default();
        assert_eq!(pace.admit_at(0), Some(0));
        assert_eq!((0..5000).filter_map(|us| pace.admit_at(us)).count(), 0);
        assert_eq!(pace.admit_at(PACE_US - 1), None);
        assert_eq!(pace.admit_at(PACE_US), Some(5001));
        assert_eq!(pace.admit_at(3 * PACE_US), Some(0));
    }

    #[test]
    fn ten_thousand_of_a_kind_are_counted_and_few_are_formatted() {
        let incidents = Incidents::default();
        let (text, began) = (Counted(Cell::new(0)), now());
        (0..10_000).for_each(|_| incidents.note(Kind::WriteFailed, &text));
        assert_eq!(incidents.counted(Kind::WriteFailed), 10_000);
        let most = began.elapsed().as_secs() + 2;
        assert!(u64::from(text.0.get()) <= most, "{} in {most} s", text.0.get());
        assert_eq!(incidents.counted(Kind::ReadFailed), 0, "kinds count for themselves");
    }

    #[test]
    fn what_stands_degrades_until_it_ends_and_a_fault_for_a_while() {
        let incidents = Incidents::default();
        assert_eq!(incidents.reasons(), []);
        incidents.note(Kind::TailCut, &"a tail");
        assert_eq!(incidents.reasons(), [], "dealt with");
        incidents.raise(Kind::SyncFailed, "t/0", &"t/0 is fenced");
        incidents.raise(Kind::SyncFailed, "t/0", &"again");
        incidents.raise(Kind::SyncFailed, "t/1", &"t/1 is fenced");
        let standing = |text: &str| Reason { kind: Kind::SyncFailed, text: text.into(), standing: true };
        assert_eq!(incidents.reasons(), [standing("t/0 is fenced"), standing("t/1 is fenced")]);
        incidents.clear(Kind::SyncFailed, "t/0");
        incidents.clear(Kind::SyncFailed, "t/9");
        assert_eq!(incidents.reasons(), [standing("t/1 is fenced")]);
        incidents.clear(Kind::SyncFailed, "t/1");
        assert!(!incidents.stands(Kind::SyncFailed));
        let reasons = incidents.reasons();
        assert!(reasons.iter().all(|r| !r.standing && r.kind == Kind::SyncFailed) && reasons.len() == 1);
        assert_eq!(incidents.counted(Kind::SyncFailed), 3);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let incidents = Incidents::default();
        let long = "é".repeat(10_000);
        for n in 0..10_000 {
            incidents.raise(Kind::LogDamaged, &format!("t/{n}"), &long);
        }
        let entry = incidents.entries.get(Kind::LogDamaged.index()).unwrap();
        assert_eq!(entry.kept.lock().standing.len(), MAX_STANDING);
        assert!(entry.kept.lock().standing.values().all(|text| text.len() <= MAX_TEXT_BYTES));
        assert_eq!(incidents.reasons().len(), MAX_REASONS);
        for n in 0..MAX_STANDING - 1 {
            incidents.clear(Kind::LogDamaged, &format!("t/{n}"));
        }
        assert!(incidents.stands(Kind::LogDamaged));
        incidents.clear(Kind::LogDamaged, &format!("t/{}", MAX_STANDING - 1));
        assert!(!incidents.stands(Kind::LogDamaged), "the last that was kept ends the kind");
    }

    #[test]
    fn what_stands_for_a_directory_ends_with_it() {
        let incidents = Incidents::default();
        for key in ["/d/t/1", "/d/t/1/0.log", "/d/t/10"] {
            incidents.raise(Kind::LogDamaged, key, &key);
        }
        incidents.clear_below(std::path::Path::new("/d/t/1"));
        let left: Vec<_> = incidents.reasons().into_iter().map(|reason| reason.text).collect();
        assert_eq!(left, ["/d/t/10"]);
    }

    #[test]
    fn an_engines_error_finds_its_kind_and_a_refusal_has_none() {
        let incidents = Incidents::default();
        let io = |source: std::io::Error| Error::Io { op: "write", path: "f".into(), source: source.into() };
        incidents.note_error(Kind::WriteFailed, &io(std::io::Error::other("EIO")));
        incidents.note_error(Kind::WriteFailed, &Error::Full { path: PathBuf::from("d") });
        let damage = Error::Corrupt { path: "f".into(), position: 7, what: "checksum".into() };
        incidents.note_error(Kind::ReadFailed, &damage);
        incidents.note_error(Kind::WriteFailed, &Error::Fenced);
        incidents.note_error(Kind::ReadFailed, &Error::OutOfRange { start: 0, end: 1 });
        let counts: Vec<_> = incidents.seen().into_iter().filter(|s| s.count > 0).collect();
        let kinds: Vec<_> = counts.iter().map(|seen| (seen.kind, seen.count, seen.standing)).collect();
        assert_eq!(kinds, [(Kind::WriteFailed, 1, 0), (Kind::DiskFull, 1, 1), (Kind::LogDamaged, 1, 1)]);
    }
}
