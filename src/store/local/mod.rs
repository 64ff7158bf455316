//! The local engine: segment files, indexes, recovery, sync threads, read-only maps.
//!
//! Owns the data directory: `format` (version, generation, incarnation; replaced durably), `life` (the same,
//! written at open without a sync), `lock`, `meta` (redb), `clean`
//! (written last by a clean close; kept as `baseline` afterwards, a checkpoint of every log), and
//! `topics/<topic id>/<partition>/`. Invariant: nothing in a directory that is foreign, newer or owned by
//! another process is touched; what cannot be explained is renamed into `quarantine/`, never deleted.
//! Deliberately absent: topics' names (a name from outside never reaches a path), policies.

mod ballast;
mod checkpoint;
mod copy;
pub mod disk;
mod handle;
mod hole;
mod index;
mod log;
mod map;
mod marks;
mod meta;
mod outline;
mod place;
mod recovery;
mod reread;
mod scan;
#[cfg(test)]
mod schedule_tests;
mod segment;
#[cfg(test)]
mod setback_tests;
mod sweep;
mod sync;
mod verify;
mod window;

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use uuid::Uuid;

use self::ballast::{Ballast, Need};
use self::checkpoint::{MAX_BYTES, Record, Records, read_all, replace, write_all};
use self::disk::{Disk, Entry, RealDisk};
use self::log::{CHECKPOINT, LocalLog};
use self::marks::Marks;
use self::recovery::{Known, find};
use self::segment::Files;
use self::sweep::Wanted;
use self::sync::{Job, Workers, side_by_side};
use super::{
    Capacity, Error, Incidents, Kind, Log, LogId, LogOptions, Meta, Opened, Replayed, Result, Store,
};
use crate::lock::{Mutex, MutexGuard, Rank, rank};

pub use self::handle::Mapped;
pub use self::map::Mapping;
pub use self::place::Place;
pub use self::scan::batch_behind;

const FORMAT_VERSION: u64 = 1;
/// More lives than anybody loses with a file.
const LEAP: u64 = 1_000_000;
/// Syncs in flight: measured, four files reach 2.3 times the syncs of one (performance.md 2.4).
const SYNC_THREADS: usize = 4;
/// Dirty logs from which on a close asks for everything to be written out first.
const MANY_LOGS: usize = 64;
/// Logs that a close ends side by side, and files of one log: the disk merges flushes that are asked for at once.
const SIDE_BY_SIDE: usize = 32;

/// How to open a local store, beside its directory.
#[derive(Clone)]
pub struct LocalOptions {
    /// What lies below.
    pub disk: Arc<dyn Disk>,
    /// The file of small state, which redb writes past `disk`; `meta` in the directory when `None`.
    pub meta_path: Option<PathBuf>,
    /// No threads: every job runs where it is asked for (for tests that count disk calls).
    pub inline: bool,
    /// No threads, and jobs wait for [`Local::run_jobs`] (for tests that choose when they run).
    pub held: bool,
    /// Files that one log syncs side by side when it is behind; 1 for tests that choose in which order things happen.
    pub side_by_side: usize,
    /// Whether to start writing appended bytes back early, so that a sync finds little left to do. Costs
    /// this process the CPU that the kernel's own threads would spend later; of no use where nobody syncs.
    pub early_writeback: bool,
    /// Bytes past the last checkpoint from which on a note is worth a new one; below, it is kept in memory.
    pub checkpoint_bytes: u64,
    /// Whether small state is synced at every write; without, it outlives the process but not the machine.
    pub meta_syncs: bool,
    /// Space kept back for deletes, commits and small state on a full disk; less on a small disk, 0 for none.
    pub ballast_bytes: u64,
    /// Where reads and appends wait for the disk, and verify what comes from it.
    pub place: Place,
    /// Descriptors kept open; `None` for half of what the process may open.
    pub max_files: Option<usize>,
    /// Where failures are noted.
    pub incidents: Arc<Incidents>,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self {
            disk: Arc::new(RealDisk),
            meta_path: None,
            inline: false,
            held: false,
            side_by_side: SIDE_BY_SIDE,
            early_writeback: true,
            checkpoint_bytes: 1 << 20,
            meta_syncs: true,
            ballast_bytes: 0,
            place: |work| work(),
            max_files: None,
            incidents: Arc::default(),
        }
    }
}

/// A store on a directory of this machine.
pub struct Local {
    shared: Arc<Shared>,
    incarnation: i32,
    open: Mutex<rank::OpenLogs, HashMap<LogId, Arc<LocalLog>>>,
    meta: LazyMeta,
    closed: AtomicBool,
    _guard: disk::Guard,
}

/// What every log of a store shares.
pub(in crate::store) struct Shared {
    /// See [`LocalOptions::early_writeback`].
    early_writeback: bool,
    /// See [`LocalOptions::checkpoint_bytes`].
    checkpoint_bytes: u64,
    dir: PathBuf,
    /// See [`Disk::identity`].
    identity: (u64, u64),
    /// See [`LocalOptions::incidents`].
    incidents: Arc<Incidents>,
    files: Files,
    marks: Marks,
    ballast: Ballast,
    /// Logs that may hold blocks past their end.
    reserving: Mutex<rank::Reserving, HashMap<LogId, Weak<LocalLog>>>,
    syncers: Arc<Workers>,
    /// The same, of those who have many logs to sync at once: who has one does not wait for them.
    wide_syncers: Arc<Workers>,
    tidier: Arc<Workers>,
    /// See [`LocalOptions::side_by_side`].
    side_by_side: usize,
    generation: u64,
    format: Format,
    settled: Mutex<rank::Settling, bool>,
    /// Whether somebody syncs on a thread that is not ours ([`Log::sync_in`]).
    in_place: AtomicBool,
    /// Topics whose directories' names are durable.
    named: Mutex<rank::NamedTopics, HashSet<Uuid>>,
    past: Mutex<rank::Past, Past>,
    quarantined: Mutex<rank::Quarantined, HashSet<LogId>>,
}

/// What the last close, or one before it, knew of every log.
#[derive(Default)]
struct Past {
    records: Records,
    clean: bool,
    /// Ids deleted in this life whose records may still be in the baseline.
    deleted: HashSet<LogId>,
    /// Logs opened in this life, until the sweep is over: their directories may be newer than its list of topics.
    opened: Option<HashSet<LogId>>,
}

#[derive(Clone, Copy)]
struct Format {
    version: u64,
    generation: u64,
    incarnation: i32,
}

impl Local {
    /// Opens or creates the store in `dir`.
    ///
    /// # Errors
    /// [`Error::Refused`] when another process owns it, its format is newer, or it holds something else;
    /// [`Error::Io`].
    pub fn open(dir: &Path) -> Result<Self> {
        Self::open_with(dir, LocalOptions::default())
    }

    /// Opens or creates the store in `dir` on another disk or without threads.
    ///
    /// # Errors
    /// As [`Local::open`].
    pub fn open_with(dir: &Path, options: LocalOptions) -> Result<Self> {
        let disk = options.disk.clone();
        let entries = disk.list(dir).map_err(failed("list", dir))?;
        let before = Format::read(&*disk, dir, &entries)?;
        disk.create_dirs(dir).map_err(failed("create", dir))?;
        let guard = lock(&*disk, dir)?;
        // Read again under the lock: the owner before us may just have closed.
        let before = if before.is_some() {
            Format::read(&*disk, dir, &disk.list(dir).map_err(failed("list", dir))?)?
        } else {
            None
        };
        let past =
            Past { opened: Some(HashSet::new()), ..Past::take(&*disk, dir, before, &options.incidents)? };
        let format = Format::following(before, &past);
        let threads = if options.inline { [0, 0] } else { [SYNC_THREADS, 1] };
        let held = options.held;
        let incidents = options.incidents.clone();
        let workers = |name, threads| Workers::new(name, threads, held, incidents.clone());
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            identity: disk.identity(dir).map_err(failed("stat", dir))?,
            incidents: incidents.clone(),
            early_writeback: options.early_writeback,
            checkpoint_bytes: options.checkpoint_bytes,
            ballast: Ballast::new(disk.clone(), dir, options.ballast_bytes),
            reserving: Mutex::default(),
            marks: Marks::open(disk.clone(), dir, past.clean, &incidents)?,
            files: Files::new(
                disk,
                options.place,
                options.incidents.clone(),
                options.max_files.unwrap_or(usize::MAX).min(half_of_descriptors()),
                options.early_writeback,
            ),
            syncers: workers("weir-sync", threads[0]),
            wide_syncers: workers("weir-sync-wide", threads[0]),
            tidier: workers("weir-tidy", threads[1]),
            side_by_side: if options.inline { 1 } else { options.side_by_side },
            generation: format.generation,
            format,
            settled: Mutex::new(false),
            in_place: AtomicBool::new(false),
            named: Mutex::default(),
            past: Mutex::new(past),
            quarantined: Mutex::default(),
        });
        shared.begin()?;
        let meta_path = options.meta_path.unwrap_or_else(|| dir.join("meta"));
        // Done by the time of the first write, in most lives.
        if !options.inline {
            shared.tidier.submit(Job::Settle(shared.clone()));
            shared.tidier.submit(Job::Ballast(shared.clone()));
        }
        let meta = LazyMeta {
            had_logs: entries.iter().any(|entry| entry.name == "topics"),
            syncs: options.meta_syncs,
            path: meta_path,
            shared: shared.clone(),
            opened: OnceLock::new(),
            opening: Mutex::default(),
        };
        let closed = AtomicBool::new(false);
        Ok(Self {
            shared,
            incarnation: format.incarnation,
            open: Mutex::default(),
            meta,
            closed,
            _guard: guard,
        })
    }

    /// Runs up to `count` of the jobs that wait, of both kinds ([`LocalOptions::held`]); answers how many there were.
    pub fn run_jobs(&self, count: usize) -> usize {
        let Shared { syncers, wide_syncers, tidier, .. } = &*self.shared;
        let ran = |_: &usize| syncers.run_one() | wide_syncers.run_one() | tidier.run_one();
        (0..count).take_while(ran).count()
    }

    fn recover(&self, id: LogId, options: LogOptions) -> Result<Arc<LocalLog>> {
        let shared = &self.shared;
        let dir: Arc<Path> = shared.log_dir(id).into();
        if locked(&shared.quarantined).contains(&id) {
            let what = "set aside as damaged earlier; move it out of the quarantine directory to start anew";
            return Err(Error::Corrupt {
                path: shared.dir.join("quarantine"),
                position: 0,
                what: what.into(),
            });
        }
        let mark = shared.marks.of(id);
        let known = {
            let mut past = locked(&shared.past);
            if let Some(opened) = &mut past.opened {
                opened.insert(id);
            }
            let record = past.records.logs.get(&id).cloned();
            let clean = past.clean && record.as_ref().is_some_and(|r| r.made_in == past.records.generation);
            Known { record, generation: shared.generation, clean, mark }
        };
        let disk = &shared.files.disk;
        let found = match find(&**disk, &dir, id, known, options.index_interval_bytes, &shared.incidents) {
            Err(error @ Error::Corrupt { .. }) => {
                shared.quarantine(id, &dir)?;
                return Err(error);
            }
            found => found?,
        };
        for path in &found.leftovers {
            shared.tidier.submit(Job::RemoveFile(disk.clone(), path.clone()));
        }
        let (changed, must) = (found.changed && found.dir_ready, found.notes_dropped);
        let unnamed = found.unnamed;
        let log = LocalLog::new(id, dir, shared.clone(), options, found);
        if changed || unnamed {
            match log.record_what_was_found(unnamed) {
                // What was found is found again; there may be space for the next one.
                Err(Error::Full { .. }) if !must => log.want_checkpoint(),
                rewritten => rewritten?,
            }
        }
        Ok(log)
    }
}

impl Store for Local {
    fn open_log(
        &self,
        id: LogId,
        options: LogOptions,
        replay: &mut dyn FnMut(Replayed<'_>),
    ) -> Result<Opened> {
        let found = locked(&self.open).get(&id).cloned();
        let log = match found {
            Some(log) => log,
            None => {
                let log = self.shared.noted(Kind::OpenFailed, self.recover(id, options))?;
                locked(&self.open).entry(id).or_insert(log).clone()
            }
        };
        // Whoever opens waits for the disk anyway, and a writer should not. It tries again where this did not work.
        let _ = self.shared.settle();
        log.set_options(options);
        let note = log.newest_note();
        let from = note.as_ref().map_or_else(|| log.span().start, |note| note.offset);
        if let Some(note) = &note {
            replay(Replayed::Note(note));
        }
        let mut batch = |header: &_| replay(Replayed::Batch(header));
        self.shared.noted(Kind::ReadFailed, log.replay(from, &mut batch))?;
        Ok(Opened { log, note })
    }

    fn delete_log(&self, id: LogId) -> Result<()> {
        let shared = &self.shared;
        let open = locked(&self.open).remove(&id);
        if let Some(log) = open {
            log.retire();
        }
        {
            let mut past = locked(&shared.past);
            if past.records.logs.remove(&id).is_some() {
                past.deleted.insert(id);
            }
        }
        locked(&shared.named).remove(&id.topic);
        shared.marks.forget(id);
        let (disk, dir) = (&shared.files.disk, shared.log_dir(id));
        if !shared.noted(Kind::UpkeepFailed, shared.has_dir(id))? {
            return Ok(());
        }
        let gone = dir.with_extension(format!("deleted-{}", shared.generation));
        let rename = || disk.rename(&dir, &gone).map_err(failed("rename", &dir));
        shared.noted(Kind::UpkeepFailed, shared.ballast.spend(Need::Relief, &shared.incidents, rename))?;
        shared.incidents.clear_below(&dir);
        shared.tidier.submit(Job::RemoveDirs(disk.clone(), gone));
        Ok(())
    }

    fn gone(&self, deleted: &HashSet<Uuid>) -> Result<Vec<Uuid>> {
        self.shared.gone(deleted)
    }

    fn sweep(&self, topics: HashMap<Uuid, i32>, deleted: HashSet<Uuid>) {
        let shared = &self.shared;
        shared.tidier.submit(Job::Sweep(shared.clone(), Wanted { topics, deleted }));
    }

    fn logs(&self) -> Result<Vec<LogId>> {
        let shared = &self.shared;
        let mut ids: HashSet<LogId> = HashSet::new();
        let clean = {
            let past = locked(&shared.past);
            if past.clean {
                ids.extend(past.records.logs.iter().filter(|(_, r)| !r.parts.is_empty()).map(|(id, _)| *id));
            }
            past.clean
        };
        if !clean {
            ids.extend(shared.walk_topics()?);
        }
        let open = locked(&self.open);
        for (id, log) in open.iter() {
            if log.segments().is_empty() {
                ids.remove(id)
            } else {
                ids.insert(*id)
            };
        }
        let mut ids: Vec<_> = ids.into_iter().collect();
        ids.sort_unstable();
        Ok(ids)
    }

    fn meta(&self) -> &dyn Meta {
        &self.meta
    }

    fn incidents(&self) -> &Arc<Incidents> {
        &self.shared.incidents
    }

    fn incarnation(&self) -> i32 {
        self.incarnation
    }

    fn capacity(&self) -> Option<Capacity> {
        self.shared.files.disk.space(&self.shared.dir).ok()
    }

    fn keep_space_back(&self) {
        self.shared.ballast.is_short(&self.shared.incidents);
    }

    fn close(&self) -> Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let shared = &self.shared;
        // What their queues hold is done by what follows, side by side and once per log.
        shared.syncers.stop();
        shared.wide_syncers.stop();
        shared.tidier.stop();
        let mut logs: Vec<_> = locked(&self.open).iter().map(|(id, log)| (*id, log.clone())).collect();
        let mut records = shared.records_before(&logs.iter().map(|(id, _)| *id).collect());
        if logs.iter().filter(|(_, log)| log.is_dirty()).count() > MANY_LOGS {
            shared.files.disk.sync_ahead(&shared.dir);
        }
        let (mut setback, ended, all) = (None, finish_all(&mut logs), logs.len());
        if ended.len() < all {
            // A thread panicked: its logs are recovered from their checkpoints.
            setback = Some(Error::Fenced);
        }
        for (id, record, finished) in ended {
            records.insert(id, record);
            if let Err(error) = finished {
                // A sync that failed was told when it did.
                if !matches!(error, Error::Fenced) {
                    shared.incidents.note_error(Kind::UpkeepFailed, &error);
                }
                setback.get_or_insert(error);
            }
        }
        shared.check_place()?;
        shared.settle()?;
        if setback.is_some() {
            // Its readers may have seen what is not there any more at the next open: leader epochs have to grow.
            shared.write_format(Format { incarnation: shared.format.incarnation + 1, ..shared.format })?;
        }
        let file = Records::encode_at_most(MAX_BYTES, shared.generation, &mut records);
        let path = shared.dir.join("clean");
        let write = || replace(&*shared.files.disk, &path, &file).map_err(failed("write", &path));
        shared.ballast.spend(Need::Relief, &shared.incidents, write)?;
        setback.map_or(Ok(()), Err)
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.shared.syncers.stop();
        self.shared.wide_syncers.stop();
        self.shared.tidier.stop();
    }
}

impl Shared {
    /// Notes a failure, once, where it leaves the engine.
    fn noted<T>(&self, kind: Kind, outcome: Result<T>) -> Result<T> {
        outcome.inspect_err(|error| self.incidents.note_error(kind, error))
    }

    fn log_dir(&self, id: LogId) -> PathBuf {
        self.dir.join("topics").join(id.topic.to_string()).join(id.partition.to_string())
    }

    /// Where a segment file is prepared ahead.
    fn spare_from(&self, options: &LogOptions) -> u64 {
        options.segment_bytes / 10 * 9
    }

    /// Writes this life's numbers, so that a process killed before [`Shared::settle`] is noticed, and lists
    /// the quarantine. A power cut may lose or damage the file; then nothing of this life was durable.
    fn begin(&self) -> Result<()> {
        let (disk, path) = (&*self.files.disk, self.dir.join("life"));
        let stat = disk.file_bytes(&path).map_err(failed("stat", &path))?;
        if stat.is_some_and(|bytes| bytes > 0) && Format::read_file(disk, &path)?.is_none() {
            let text = format_args!("{}: does not check out and is written anew", path.display());
            self.incidents.note(Kind::FileDamaged, &text);
        }
        let write = || {
            let written =
                disk.create(&path).and_then(|file| write_all(&*file, self.format.text().as_bytes()));
            written.map_err(failed("write", &path))
        };
        match self.ballast.spend(Need::Relief, &self.incidents, write) {
            // Nothing becomes durable in this life before the format file could be written.
            Err(error @ Error::Full { .. }) => self.incidents.note_error(Kind::WriteFailed, &error),
            written => written?,
        }
        let quarantine = self.dir.join("quarantine");
        let entries = disk.list(&quarantine).map_err(failed("list", &quarantine))?;
        let ids = entries.iter().filter_map(|entry| Some((&entry.name, quarantined_id(&entry.name)?)));
        for (name, id) in ids {
            self.tell_quarantined(&quarantine.join(name));
            locked(&self.quarantined).insert(id);
        }
        Ok(())
    }

    /// Replaces the format file by this life's, durably and once, before anything else of this life becomes
    /// durable: so generation and incarnation cannot go back under durable data, and a fresh open costs no sync.
    fn settle(&self) -> Result<()> {
        let mut settled = locked(&self.settled);
        if !*settled {
            let disk = &*self.files.disk;
            // The directory's own name; one above that may not be read was not made by us.
            if let Some(above) = self.dir.parent() {
                match disk.sync_dir(above) {
                    Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {}
                    synced => synced.map_err(failed("sync", above))?,
                }
            }
            self.check_place()?;
            self.write_format(self.format)?;
            *settled = true;
        }
        Ok(())
    }

    /// Whether the data directory is still where it was opened: what is written past it is not there at the next start.
    fn check_place(&self) -> Result<()> {
        let found = self.files.disk.identity(&self.dir).map_err(failed("stat", &self.dir))?;
        if found == self.identity {
            return Ok(());
        }
        let error = io::Error::other("another directory than the one that was opened: moved, or unmounted?");
        Err(failed("stat", &self.dir)(error))
    }

    fn write_format(&self, format: Format) -> Result<()> {
        let path = self.dir.join("format");
        let write =
            || replace(&*self.files.disk, &path, format.text().as_bytes()).map_err(failed("write", &path));
        self.ballast.spend(Need::Relief, &self.incidents, write)
    }

    /// Before the first file of a log that was deleted and made again: an empty checkpoint of this
    /// generation, which outweighs what the baseline says of the old one.
    fn forget_past(&self, id: LogId, dir: &Path) -> Result<()> {
        if !locked(&self.past).deleted.contains(&id) {
            return Ok(());
        }
        let record = Record { made_in: self.generation, ..Record::default() };
        let file = Records::encode(self.generation, [(&id, &record)].into_iter());
        let path = dir.join(CHECKPOINT);
        self.settle()?;
        replace(&*self.files.disk, &path, &file).map_err(failed("write", &path))
    }

    /// What was known of logs before this life: of those that it did not open as much as then, after a clean close; else only
    /// how they were before, which a checkpoint of this life outweighs.
    fn records_before(&self, opened: &HashSet<LogId>) -> HashMap<LogId, Record> {
        let (clean, Records { generation, mut logs }) = {
            let mut past = locked(&self.past);
            (past.clean, std::mem::take(&mut past.records))
        };
        let still_holds =
            |id: &LogId, record: &Record| clean && record.made_in == generation && !opened.contains(id);
        for (_, record) in logs.iter_mut().filter(|(id, record)| still_holds(id, record)) {
            record.made_in = self.generation;
        }
        // Some may have been deleted since.
        if !clean && let Ok(there) = self.walk_topics() {
            let there: HashSet<_> = there.into_iter().collect();
            logs.retain(|id, _| there.contains(id));
        }
        logs
    }

    fn has_dir(&self, id: LogId) -> Result<bool> {
        let topic = self.dir.join("topics").join(id.topic.to_string());
        let entries = self.files.disk.list(&topic).map_err(failed("list", &topic))?;
        Ok(entries.iter().any(|e| e.is_dir && e.name == id.partition.to_string()))
    }

    /// Gives back what logs have reserved past their ends, so that the disk is full only when data fills it.
    fn give_back(&self) {
        let logs = std::mem::take(&mut *locked(&self.reserving));
        logs.values().filter_map(Weak::upgrade).for_each(|log| log.give_back());
    }

    fn quarantine(&self, id: LogId, dir: &Path) -> Result<()> {
        let path = self.set_aside(dir, &format!("{}.{}", id.topic, id.partition))?;
        self.tell_quarantined(&path);
        locked(&self.quarantined).insert(id);
        Ok(())
    }

    fn tell_quarantined(&self, path: &Path) {
        let text =
            format_args!("{}: a damaged log was set aside; its partition does not open", path.display());
        self.incidents.raise(Kind::Quarantined, &path.to_string_lossy(), &text);
    }

    /// Moves a directory into the quarantine, under `name` and a number.
    fn set_aside(&self, dir: &Path, name: &str) -> Result<PathBuf> {
        let (disk, to) = (&*self.files.disk, self.dir.join("quarantine"));
        disk.create_dirs(&to).map_err(failed("create", &to))?;
        let entries = disk.list(&to).map_err(failed("list", &to))?;
        let free = |n: &u32| !entries.iter().any(|e| e.name == format!("{name}.{n}"));
        let n = (0..u32::MAX).find(free).unwrap_or(u32::MAX);
        let path = to.join(format!("{name}.{n}"));
        disk.rename(dir, &path).map_err(failed("rename", dir))?;
        Ok(path)
    }
}

impl Past {
    /// Takes what the last life left. A clean close is believed once: the file becomes the baseline.
    fn take(disk: &dyn Disk, dir: &Path, format: Option<Format>, incidents: &Incidents) -> Result<Self> {
        let Some(format) = format else { return Ok(Self { clean: true, ..Self::default() }) };
        let (clean, baseline) = (dir.join("clean"), dir.join("baseline"));
        if let Some(records) = Self::read(disk, &clean, incidents)? {
            // The one before stays until there is one that can take its place.
            disk.rename(&clean, &baseline).map_err(failed("rename", &clean))?;
            let clean = records.generation == format.generation;
            return Ok(Self { records, clean, ..Self::default() });
        }
        let records = Self::read(disk, &baseline, incidents)?.unwrap_or_default();
        Ok(Self { records, clean: false, ..Self::default() })
    }

    fn read(disk: &dyn Disk, path: &Path, incidents: &Incidents) -> Result<Option<Records>> {
        let Some(bytes) = read_all(disk, path).map_err(failed("read", path))? else { return Ok(None) };
        let records = Records::decode(bytes);
        if records.is_none() {
            let text =
                format_args!("{}: does not check out: logs are read from what is older", path.display());
            incidents.note(Kind::FileDamaged, &text);
        }
        Ok(records)
    }
}

impl Format {
    fn text(self) -> String {
        let body = format!(
            "weir {}\ngeneration {}\nincarnation {}\n",
            self.version, self.generation, self.incarnation
        );
        let crc = crc32fast::hash(body.as_bytes());
        format!("{body}crc {crc}\n")
    }

    /// Reads what the last life left, before anything is touched; `None` for a fresh directory.
    fn read(disk: &dyn Disk, dir: &Path, entries: &[Entry]) -> Result<Option<Self>> {
        let life = Self::read_file(disk, &dir.join("life"))?.filter(|life| life.version == FORMAT_VERSION);
        if !entries.iter().any(|entry| entry.name == "format") {
            // All that a life makes before it settles.
            let ours = ["lock", "life", "format.tmp", "meta", "meta.copy", "meta.tmp", "marks", "lost+found"];
            let settled =
                ["topics", "clean", "clean.tmp", "baseline", "ballast", "ballast.last", "quarantine"];
            let is_of = |names: &[&str], entry: &&Entry| names.contains(&entry.name.as_str());
            let Some(entry) = entries.iter().find(|entry| !is_of(&ours, entry)) else { return Ok(life) };
            let known = entries.iter().all(|entry| is_of(&ours, &entry) || is_of(&settled, &entry));
            return life.filter(|_| known).map(|life| Some(life.standing_in(dir, "is missing"))).ok_or_else(|| {
                Error::Refused(format!(
                    "{} is not a data directory of weir: it holds {:?} and no format file. If it is one, put the file back \
                     from a backup of the same directory",
                    dir.display(),
                    entry.name
                ))
            });
        }
        let path = dir.join("format");
        match Self::read_file(disk, &path)? {
            None => life.map(|life| Some(life.standing_in(dir, "is damaged"))).ok_or_else(|| {
                Error::Refused(format!(
                    "{} is damaged, and so is the file life that could stand in for it: put one of them back from a backup of \
                     the same directory. Nothing in it was touched",
                    path.display()
                ))
            }),
            Some(format) if format.version != FORMAT_VERSION => Err(Error::Refused(format!(
                "{} has format {} and this weir knows {FORMAT_VERSION}: use another version",
                dir.display(),
                format.version
            ))),
            Some(format) => {
                Ok(Some(life.filter(|life| life.generation > format.generation).unwrap_or(format)))
            }
        }
    }

    /// This life's numbers.
    fn following(before: Option<Self>, past: &Past) -> Self {
        let Some(before) = before else {
            return Self { version: FORMAT_VERSION, generation: 1, incarnation: 0 };
        };
        let (generation, lives) = if past.records.generation > before.generation {
            tracing::error!(
                "the format file is older than the last close: it was put back, and its numbers leap"
            );
            (past.records.generation.saturating_add(LEAP), LEAP)
        } else {
            (before.generation + 1, u64::from(!past.clean))
        };
        let incarnation = before.incarnation.saturating_add(i32::try_from(lives).unwrap_or(i32::MAX));
        Self { version: FORMAT_VERSION, generation, incarnation }
    }

    /// The numbers of `life` where the format file cannot be read. They may be behind what became durable, so they jump: no
    /// record of an earlier life is taken for a later one, and leader epochs do not go back.
    fn standing_in(self, dir: &Path, harm: &str) -> Self {
        tracing::error!(dir = %dir.display(), "the format file {harm}: the file life stands in for it");
        let (generation, incarnation) =
            (self.generation.saturating_add(LEAP), self.incarnation.saturating_add(1));
        Self { generation, incarnation, ..self }
    }

    fn read_file(disk: &dyn Disk, path: &Path) -> Result<Option<Self>> {
        let text = read_all(disk, path).map_err(failed("read", path))?.unwrap_or_default();
        Ok(String::from_utf8(text).ok().and_then(|text| Self::parse(&text)))
    }

    fn parse(text: &str) -> Option<Self> {
        // The checksum first: a version that a flipped bit wrote is none.
        let (body, crc) = text.split_at_checked(text.rfind("crc ")?)?;
        if crc != format!("crc {}\n", crc32fast::hash(body.as_bytes())) {
            return None;
        }
        let mut lines = body.lines();
        let mut number = |key: &str| lines.next()?.strip_prefix(key)?.parse::<u64>().ok();
        let version = number("weir ")?;
        if version > FORMAT_VERSION {
            return Some(Self { version, generation: 0, incarnation: 0 });
        }
        let (generation, incarnation) = (number("generation ")?, number("incarnation ")?);
        Some(Self { version, generation, incarnation: i32::try_from(incarnation).ok()? })
    }
}

/// redb, opened at the first use, so that a store without small state costs nothing.
struct LazyMeta {
    syncs: bool,
    /// An earlier life left logs.
    had_logs: bool,
    path: PathBuf,
    shared: Arc<Shared>,
    opened: OnceLock<meta::RedbMeta>,
    opening: Mutex<rank::MetaOpening, ()>,
}

impl LazyMeta {
    fn ready(&self) -> Result<&meta::RedbMeta> {
        let _one = locked(&self.opening);
        if let Some(meta) = self.opened.get() {
            return Ok(meta);
        }
        let quarantine = self.shared.dir.join("quarantine");
        let before = meta::Before {
            has_logs: self.had_logs,
            quarantine: &quarantine,
            incidents: &self.shared.incidents,
        };
        let open = || meta::RedbMeta::open(&self.path, self.syncs, &before);
        let opened = self.shared.ballast.spend(Need::Relief, &self.shared.incidents, open)?;
        Ok(self.opened.get_or_init(|| opened))
    }

    /// Small state that fails stands until it works again.
    fn told<T>(&self, verb: &'static str, outcome: Result<T>) -> Result<T> {
        let incidents = &self.shared.incidents;
        match &outcome {
            Ok(_) => incidents.clear(Kind::StateFailed, verb),
            Err(error @ Error::Full { .. }) => incidents.note_error(Kind::StateFailed, error),
            Err(error) => incidents.raise(Kind::StateFailed, verb, &format_args!("small state: {error}")),
        }
        outcome
    }

    fn write(&self, work: impl FnOnce(&meta::RedbMeta) -> Result<super::Put>) -> Result<super::Put> {
        let outcome = self.shared.settle().and_then(|()| work(self.ready()?));
        if let Ok(super::Put::Unknown) = &outcome {
            let text = format_args!("{}: nobody knows whether a write reached the disk", self.path.display());
            self.shared.incidents.raise(Kind::StateFailed, "write", &text);
            return outcome;
        }
        self.told("write", outcome)
    }
}

impl Meta for LazyMeta {
    fn get(&self, key: &str) -> Result<Option<super::Versioned>> {
        self.told("read", self.ready().and_then(|meta| meta.get(key)))
    }

    fn put_if(&self, key: &str, value: &[u8], expected: Option<u64>) -> Result<super::Put> {
        // What is left of a deleted topic.
        let need = if value.is_empty() { Need::Relief } else { Need::Growth };
        self.write(|meta| {
            self.shared.ballast.spend(need, &self.shared.incidents, || meta.put_if(key, value, expected))
        })
    }

    fn delete_if(&self, key: &str, expected: u64) -> Result<super::Put> {
        self.write(|meta| {
            self.shared.ballast.spend(Need::Relief, &self.shared.incidents, || meta.delete_if(key, expected))
        })
    }

    fn delete_all(&self, keys: &[(String, u64)]) -> Result<()> {
        if keys.is_empty() { Ok(()) } else { self.ready()?.delete_all(keys) }
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, super::Versioned)>> {
        self.told("read", self.ready().and_then(|meta| meta.list(prefix)))
    }
}

/// Ends all logs, those with something to sync first, and says what is durable of each and what was in the way.
fn finish_all(logs: &mut [(LogId, Arc<LocalLog>)]) -> Vec<(LogId, Record, Result<()>)> {
    logs.sort_by_key(|(_, log)| !log.is_dirty());
    let dirty = logs.iter().filter(|(_, log)| log.is_dirty()).count();
    let ended = AtomicUsize::new(0);
    let end = |(id, log): &(LogId, Arc<LocalLog>)| {
        let finished = log.finish();
        let count = ended.fetch_add(1, Ordering::Relaxed) + 1;
        if dirty > SIDE_BY_SIDE && count * 10 / logs.len() > (count - 1) * 10 / logs.len() {
            tracing::info!("closing: {count} of {} logs are durable", logs.len());
        }
        (*id, log.record(), finished)
    };
    side_by_side(logs, dirty.min(SIDE_BY_SIDE), end).into_iter().map(|(_, ended)| ended).collect()
}

fn lock(disk: &dyn Disk, dir: &Path) -> Result<disk::Guard> {
    let path = dir.join("lock");
    let owner = format!("{}\n", std::process::id());
    disk.lock(&path, &owner).map_err(failed("lock", &path))?.map_err(|owner| {
        Error::Refused(format!("data directory {} is in use by process {owner}", dir.display()))
    })
}

fn quarantined_id(name: &str) -> Option<LogId> {
    let mut parts = name.split('.');
    let topic = Uuid::parse_str(parts.next()?).ok()?;
    Some(LogId { topic, partition: parts.next()?.parse().ok()? })
}

fn half_of_descriptors() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    usize::try_from(limit.unwrap_or(1 << 20) / 2).unwrap_or(usize::MAX).min(16 << 10)
}

/// Names the operation and the file in an error; a full disk is told apart.
fn failed(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| {
        if is_full(&source) { Error::Full { path } } else { Error::Io { op, path, source: Arc::new(source) } }
    }
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

fn locked<R: Rank, T: ?Sized>(mutex: &Mutex<R, T>) -> MutexGuard<'_, R, T> {
    mutex.lock()
}
