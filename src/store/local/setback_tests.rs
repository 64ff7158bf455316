//! A disk that refuses, fails or takes its time: what fences a log and what does not, what a close saves, who waits.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Poll, Wake, Waker};
use std::time::Duration;

use super::checkpoint::Records;
use super::disk::{Directory, Disk, Entry, File, Guard, RealDisk};
use super::map::Mapping;
use super::{Local, LocalOptions};
use crate::batch::{Batch, Builder, Record};
use crate::store::{Capacity, Error, Log, LogId, LogOptions, Placed, Registration, Store};

const OPTIONS: LogOptions = LogOptions { segment_bytes: 200, segment_ms: i64::MAX, index_interval_bytes: 1 };

/// What the disk does with the calls to come.
#[derive(Default)]
struct Mood {
    /// So many directories cannot be opened: too many open files.
    refused_dirs: AtomicUsize,
    /// Who is refused waits for that.
    slow_refusal: AtomicBool,
    /// Syncs of files whose path holds this fail.
    failing: Mutex<Option<String>>,
    /// Syncs wait until so many wait at once, or nobody asks for that any more.
    crowd: Mutex<(usize, usize)>,
    crowded: Condvar,
    most: AtomicUsize,
    patient: AtomicBool,
    /// Nothing that is read is in memory.
    cold: AtomicBool,
    /// Nothing can be written.
    full: AtomicBool,
    /// Syncs of segments by other threads than this one panic.
    only: Mutex<Option<std::thread::ThreadId>>,
    /// Syncs of segments.
    synced: AtomicUsize,
}

/// What a thread that is watched waited for outside of its place.
struct Watch {
    in_place: bool,
    outside: Vec<String>,
}

thread_local! {
    static WATCH: RefCell<Option<Watch>> = const { RefCell::new(None) };
}

fn may_wait(what: &str, path: &Path) {
    WATCH.with_borrow_mut(|watch| {
        if let Some(watch) = watch.as_mut().filter(|watch| !watch.in_place) {
            watch.outside.push(format!("{what} {}", path.display()));
        }
    });
}

fn place(work: &mut dyn FnMut()) {
    let set =
        |now| WATCH.with_borrow_mut(|w| w.as_mut().is_some_and(|w| std::mem::replace(&mut w.in_place, now)));
    let before = set(true);
    work();
    set(before);
}

/// What `work` waits for outside of the place.
fn watched(work: impl FnOnce()) -> Vec<String> {
    WATCH.set(Some(Watch { in_place: false, outside: Vec::new() }));
    work();
    WATCH.take().map(|watch| watch.outside).unwrap_or_default()
}

impl Mood {
    fn sync(&self, path: &Path) -> io::Result<()> {
        if self.failing.lock().unwrap().as_ref().is_some_and(|part| path.to_string_lossy().contains(part)) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let mut crowd = self.crowd.lock().unwrap();
        if crowd.0 > 0 {
            crowd.1 += 1;
            self.most.fetch_max(crowd.1, Ordering::SeqCst);
            self.crowded.notify_all();
            while crowd.1 < crowd.0 {
                let (next, waited) = self.crowded.wait_timeout(crowd, Duration::from_secs(20)).unwrap();
                crowd = next;
                if waited.timed_out() && !self.patient.load(Ordering::SeqCst) {
                    // Nobody came: `most` tells.
                    crowd.0 = 0;
                }
            }
            if crowd.0 > 0 {
                *crowd = (0, 0);
            }
            self.crowded.notify_all();
        }
        Ok(())
    }

    /// Until a sync waits.
    fn until_a_sync_waits(&self) {
        let mut crowd = self.crowd.lock().unwrap();
        while crowd.1 == 0 {
            crowd = self.crowded.wait_timeout(crowd, Duration::from_secs(20)).unwrap().0;
        }
    }

    fn let_go(&self) {
        *self.crowd.lock().unwrap() = (0, 0);
        self.crowded.notify_all();
    }
}

#[derive(Clone, Default)]
struct Moody(Arc<Mood>);

struct MoodyFile(Arc<dyn File>, PathBuf, Arc<Mood>);
struct MoodyDir(Box<dyn Directory>);

impl Moody {
    fn file(&self, path: &Path, file: io::Result<Arc<dyn File>>) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(MoodyFile(file?, path.to_owned(), self.0.clone())))
    }
}

impl Disk for Moody {
    fn create_dirs(&self, dir: &Path) -> io::Result<()> {
        may_wait("create_dirs", dir);
        RealDisk.create_dirs(dir)
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        may_wait("create", path);
        self.file(path, RealDisk.create(path))
    }
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        may_wait("create_new", path);
        self.file(path, RealDisk.create_new(path))
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        may_wait("open", path);
        self.file(path, RealDisk.open(path))
    }
    fn open_dir(&self, dir: &Path) -> io::Result<Box<dyn Directory>> {
        may_wait("open_dir", dir);
        let left = self.0.refused_dirs.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if left.is_ok() {
            while self.0.slow_refusal.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        Ok(Box::new(MoodyDir(RealDisk.open_dir(dir)?)))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        may_wait("rename", from);
        RealDisk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        may_wait("remove_file", path);
        RealDisk.remove_file(path)
    }
    fn remove_empty_dir(&self, dir: &Path) -> io::Result<()> {
        may_wait("remove_empty_dir", dir);
        RealDisk.remove_empty_dir(dir)
    }
    fn remove_dirs(&self, dir: &Path) -> io::Result<()> {
        may_wait("remove_dirs", dir);
        RealDisk.remove_dirs(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        may_wait("list", dir);
        RealDisk.list(dir)
    }
    fn file_bytes(&self, path: &Path) -> io::Result<Option<u64>> {
        may_wait("file_bytes", path);
        RealDisk.file_bytes(path)
    }
    fn lock(&self, path: &Path, owner: &str) -> io::Result<Result<Guard, String>> {
        RealDisk.lock(path, owner)
    }
    fn space(&self, path: &Path) -> io::Result<Capacity> {
        may_wait("space", path);
        RealDisk.space(path)
    }
}

impl Directory for MoodyDir {
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}

impl File for MoodyFile {
    fn write_at(&self, parts: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
        if self.2.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.write_at(parts, at)
    }
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        may_wait("read", &self.1);
        self.0.read_at(buf, at)
    }
    fn sync(&self) -> io::Result<()> {
        may_wait("sync", &self.1);
        self.2
            .synced
            .fetch_add(usize::from(self.1.extension().is_some_and(|e| e == "log")), Ordering::SeqCst);
        self.2.sync(&self.1)?;
        let only = *self.2.only.lock().unwrap();
        assert!(only.is_none_or(|only| only == std::thread::current().id()), "as the test wants it");
        self.0.sync()
    }
    fn bytes(&self) -> io::Result<u64> {
        may_wait("bytes", &self.1);
        self.0.bytes()
    }
    fn held_bytes(&self) -> io::Result<u64> {
        self.0.held_bytes()
    }
    fn set_len(&self, bytes: u64) -> io::Result<()> {
        may_wait("set_len", &self.1);
        self.0.set_len(bytes)
    }
    fn reserve(&self, at: u64, bytes: u64) -> io::Result<()> {
        may_wait("reserve", &self.1);
        self.0.reserve(at, bytes)
    }
    fn start_writeback(&self, at: u64, bytes: u64) {
        self.0.start_writeback(at, bytes);
    }
    fn map(&self, bytes: usize) -> Option<Mapping> {
        if self.2.cold.load(Ordering::SeqCst) { None } else { self.0.map(bytes) }
    }
}

fn open(dir: &Path, disk: &Moody, inline: bool) -> Local {
    let options = LocalOptions { disk: Arc::new(disk.clone()), inline, ..LocalOptions::default() };
    Local::open_with(dir, options).unwrap()
}

fn id(partition: i32) -> LogId {
    LogId { topic: uuid::Uuid::from_u128(7), partition }
}

fn log(store: &Local, partition: i32) -> Arc<dyn Log> {
    store.open_log(id(partition), OPTIONS, &mut |_| {}).unwrap().log
}

fn batch() -> Batch {
    let mut builder = Builder::new();
    let value = Some(bytes::Bytes::from_static(b"a value of some length"));
    builder.push(Record { timestamp_ms: 1, key: None, value, headers: Vec::new() });
    builder.build().unwrap()
}

fn append(log: &dyn Log) -> Result<(), Error> {
    let base_offset = log.span().end;
    log.append(&[Placed { base_offset, leader_epoch: 0, batch: batch() }], base_offset)
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits as a producer does.
fn durable(log: &dyn Log, offset: i64) -> Result<(), Error> {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut place = Registration::default();
    loop {
        if let Poll::Ready(outcome) = log.durable().poll_reach(offset, &mut place, &waker) {
            return outcome;
        }
        std::thread::park();
    }
}

#[test]
fn a_directory_that_cannot_be_opened_delays_a_sync_and_fences_nothing() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Moody::default());
    let store = open(dir.path(), &disk, false);
    let log = log(&store, 0);
    append(&*log).unwrap();
    disk.0.refused_dirs.store(3, Ordering::SeqCst);
    log.sync();
    durable(&*log, 1).unwrap();
    assert_eq!(disk.0.refused_dirs.load(Ordering::SeqCst), 0, "it was refused, and tried again");
    append(&*log).unwrap();
    log.sync();
    durable(&*log, 2).unwrap();
    store.close().unwrap();
}

#[test]
fn a_stop_does_not_wait_for_a_sync_that_cannot_begin() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Moody::default());
    let store = Arc::new(open(dir.path(), &disk, false));
    let log = log(&store, 0);
    append(&*log).unwrap();
    disk.0.refused_dirs.store(usize::MAX, Ordering::SeqCst);
    disk.0.slow_refusal.store(true, Ordering::SeqCst);
    log.sync();
    while disk.0.refused_dirs.load(Ordering::SeqCst) == usize::MAX {
        std::thread::yield_now();
    }
    let (closed, is_closed) = std::sync::mpsc::sync_channel(1);
    let closing = store.clone();
    std::thread::spawn(move || closed.send(closing.close().is_ok()));
    while !store.shared.syncers.is_stopped() {
        std::thread::yield_now();
    }
    disk.0.slow_refusal.store(false, Ordering::SeqCst);
    assert_eq!(is_closed.recv_timeout(Duration::from_secs(60)), Ok(false), "nothing was made durable");
}

#[test]
fn where_nobody_tries_again_the_next_who_asks_does() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Moody::default());
    let store = open(dir.path(), &disk, true);
    let log = log(&store, 0);
    append(&*log).unwrap();
    disk.0.refused_dirs.store(1, Ordering::SeqCst);
    log.sync();
    assert!(!log.durable().is_fenced());
    assert_eq!(log.span().durable, 0);
    log.sync();
    assert_eq!(log.span().durable, 1);
    store.close().unwrap();
}

/// No sync begins before the store's numbers are durable, so a record that was taken would wait for one for ever.
#[test]
fn a_record_is_refused_while_the_stores_own_numbers_cannot_be_written() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Moody::default());
    let store = open(dir.path(), &disk, true);
    append(&*log(&store, 0)).unwrap();
    store.close().unwrap();
    drop(store);
    let store = open(dir.path(), &disk, true);
    disk.0.refused_dirs.store(usize::MAX, Ordering::SeqCst);
    let log = log(&store, 0);
    assert!(append(&*log).is_err());
    disk.0.refused_dirs.store(0, Ordering::SeqCst);
    append(&*log).unwrap();
    log.sync();
    assert_eq!(log.span().durable, 2);
    store.close().unwrap();
}

#[test]
fn a_failed_sync_of_a_segment_fences_its_log_and_a_close_still_saves_the_others() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Moody::default());
    let store = open(dir.path(), &disk, true);
    let logs = [0, 1, 2].map(|partition| log(&store, partition));
    for log in &logs {
        append(&**log).unwrap();
        log.sync();
        append(&**log).unwrap();
    }
    *disk.0.failing.lock().unwrap() = Some("/1/".to_owned());
    logs[1].sync();
    assert!(logs[1].durable().is_fenced());
    assert!(matches!(append(&*logs[1]), Err(Error::Fenced)));
    assert_eq!(logs[1].read(0, 1, true, 2).unwrap().next_offset(), 1, "it is read as before");
    assert!(matches!(store.close(), Err(Error::Fenced)));
    drop((logs, store));

    *disk.0.failing.lock().unwrap() = None;
    let store = open(dir.path(), &disk, true);
    assert_eq!(store.incarnation(), 1, "leader epochs have grown");
    {
        let past = super::locked(&store.shared.past);
        assert!(past.clean, "the others need no recovery");
        let end = |partition| past.records.logs[&id(partition)].end();
        assert_eq!([0, 1, 2].map(end), [2, 1, 2], "what is known to be on the disk");
    }
    for partition in [0, 1, 2] {
        assert!(log(&store, partition).span().end >= 1, "{partition}");
    }
    store.close().unwrap();
}

#[test]
fn what_a_life_recorded_of_a_log_outweighs_the_close_before_where_its_own_close_panicked() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Moody::default());
    let store = open(dir.path(), &disk, true);
    for log in [0, 1].map(|partition| log(&store, partition)) {
        (0..6).for_each(|_| append(&*log).unwrap());
    }
    store.close().unwrap();
    drop(store);
    let store = open(dir.path(), &disk, true);
    for log in [0, 1].map(|partition| log(&store, partition)) {
        log.trim_to(4).unwrap();
        append(&*log).unwrap();
    }
    // Both are ended at once, one of them on another thread.
    *disk.0.crowd.lock().unwrap() = (2, 0);
    *disk.0.only.lock().unwrap() = Some(std::thread::current().id());
    assert!(store.close().is_err());
    *disk.0.only.lock().unwrap() = None;
    drop(store);
    let store = open(dir.path(), &disk, true);
    for log in [0, 1].map(|partition| log(&store, partition)) {
        assert_eq!((log.span().start, log.span().end, log.damaged()), (4, 7, Vec::new()));
    }
    store.close().unwrap();
}

#[test]
fn a_close_syncs_many_logs_at_once() {
    const LOGS: i32 = 12;
    let (dir, disk) = (tempfile::tempdir().unwrap(), Moody::default());
    let store = open(dir.path(), &disk, true);
    for partition in 0..LOGS {
        append(&*log(&store, partition)).unwrap();
    }
    // Each waits until all of them wait.
    *disk.0.crowd.lock().unwrap() = (LOGS as usize, 0);
    store.close().unwrap();
    assert_eq!(disk.0.most.load(Ordering::SeqCst), LOGS as usize);
}

#[test]
fn who_syncs_many_logs_at_once_does_not_stand_before_who_syncs_one() {
    let dir = tempfile::tempdir().unwrap();
    let options = LocalOptions { held: true, ..LocalOptions::default() };
    let store = Local::open_with(dir.path(), options).unwrap();
    let logs: Vec<_> = (0..40).map(|partition| log(&store, partition)).collect();
    logs.iter().for_each(|log| append(&**log).unwrap());
    let (one, many) = logs.split_last().unwrap();
    many.iter().for_each(|log| log.sync_among_many());
    one.sync();
    let durable = |logs: &[Arc<dyn Log>]| logs.iter().filter(|log| log.span().durable == 1).count();
    assert!(store.shared.syncers.run_one());
    assert_eq!((one.span().durable, durable(many)), (1, 0));
    // Nor does who wants one of the many alone.
    many[20].sync();
    assert!(store.shared.syncers.run_one());
    assert_eq!((many[20].span().durable, durable(many)), (1, 1));
    many[30].sync_in(|work| work());
    assert_eq!((many[30].span().durable, durable(many)), (1, 2));
    while store.shared.wide_syncers.run_one() {}
    assert_eq!(durable(many), many.len());
    store.close().unwrap();
}

#[test]
fn a_close_syncs_many_segments_of_a_log_at_once() {
    const BATCHES: usize = 20;
    let (dir, disk) = (tempfile::tempdir().unwrap(), Moody::default());
    // Nobody tidies meanwhile.
    let options = LocalOptions { disk: Arc::new(disk.clone()), held: true, ..LocalOptions::default() };
    let store = Local::open_with(dir.path(), options).unwrap();
    let log = log(&store, 0);
    (0..BATCHES).for_each(|_| append(&*log).unwrap());
    let segments = log.segments().len();
    assert!((8..=super::SIDE_BY_SIDE).contains(&segments), "{segments}");
    *disk.0.crowd.lock().unwrap() = (segments, 0);
    store.close().unwrap();
    assert_eq!(disk.0.most.load(Ordering::SeqCst), segments);
    assert_eq!(log.span().durable, BATCHES as i64);
}

#[test]
fn logs_that_a_full_disk_refuses_keep_no_more_descriptors_than_there_may_be() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Moody::default());
    let options = LocalOptions {
        disk: Arc::new(disk.clone()),
        inline: true,
        max_files: Some(4),
        ..LocalOptions::default()
    };
    let store = Local::open_with(dir.path(), options).unwrap();
    let logs: Vec<_> = (0..40).map(|partition| log(&store, partition)).collect();
    for log in &logs {
        append(&**log).unwrap();
        log.sync();
    }
    // Each open file holds one.
    let before = Arc::strong_count(&disk.0);
    disk.0.full.store(true, Ordering::SeqCst);
    logs.iter().for_each(|log| assert!(matches!(append(&**log), Err(Error::Full { .. }))));
    assert_eq!(Arc::strong_count(&disk.0), before);
    disk.0.full.store(false, Ordering::SeqCst);
    store.close().unwrap();
}

#[test]
fn where_nobody_syncs_nothing_is_synced_for_files_that_are_in_use() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Moody::default());
    let options = LocalOptions {
        disk: Arc::new(disk.clone()),
        inline: true,
        early_writeback: false,
        max_files: Some(70),
        ..LocalOptions::default()
    };
    let store = Local::open_with(dir.path(), options).unwrap();
    (0..200).for_each(|partition| append(&*log(&store, partition)).unwrap());
    assert_eq!(disk.0.synced.load(Ordering::SeqCst), 0);
    store.close().unwrap();
}

#[test]
fn a_writer_goes_on_while_a_trim_waits_for_the_disk() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Moody::default());
    let store = open(dir.path(), &disk, false);
    let log = log(&store, 0);
    (0..6).for_each(|_| append(&*log).unwrap());
    disk.0.patient.store(true, Ordering::SeqCst);
    *disk.0.crowd.lock().unwrap() = (usize::MAX, 0);
    std::thread::scope(|scope| {
        let trim = scope.spawn(|| log.trim_to(6));
        disk.0.until_a_sync_waits();
        (0..5).for_each(|_| append(&*log).unwrap());
        assert_eq!((log.span().start, log.span().end), (0, 11), "the start moves when that is durable");
        assert_eq!(log.read(9, 1, true, 11).unwrap().next_offset(), 10);
        disk.0.let_go();
        trim.join().unwrap().unwrap();
    });
    assert_eq!((log.span().start, log.span().end), (6, 11));
    store.close().unwrap();
}

#[test]
fn whoever_appends_or_reads_waits_for_the_disk_in_its_place() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Moody::default());
    disk.0.cold.store(true, Ordering::SeqCst);
    let open = || {
        let disk = Arc::new(disk.clone());
        let options = LocalOptions { disk, place, max_files: Some(2), ..LocalOptions::default() };
        Local::open_with(dir.path(), options).unwrap()
    };
    let read = |log: &dyn Log| {
        (0..log.span().end).for_each(|at| assert!(!log.read(at, 1, true, at + 1).unwrap().is_empty()))
    };
    let store = open();
    let one = log(&store, 0);
    let outside = watched(|| {
        (0..20).for_each(|_| append(&*one).unwrap());
        one.seal().unwrap();
        append(&*one).unwrap();
    });
    assert_eq!(outside, Vec::<String>::new(), "a log's first segment, and one after the other");
    one.sync();
    durable(&*one, 21).unwrap();
    assert_eq!(watched(|| read(&*one)), Vec::<String>::new(), "segments whose files are not open any more");
    store.close().unwrap();
    drop((one, store));

    let store = open();
    let one = log(&store, 0);
    assert_eq!(watched(|| read(&*one)), Vec::<String>::new(), "of which nothing is verified or known");
    assert_eq!(watched(|| append(&*one).unwrap()), Vec::<String>::new(), "behind what was there");
    store.close().unwrap();
}

/// What is there of a log that ends at `end`, read around what is refused, a batch at a time.
fn offsets(log: &dyn Log, end: i64) -> Vec<i64> {
    let (mut at, mut found) = (log.span().start, Vec::new());
    while at < end {
        match log.read(at, 1, true, end) {
            Ok(slice) => {
                found.extend(at..slice.next_offset());
                assert_eq!(slice.to_bytes().unwrap().len(), slice.len());
                at = slice.next_offset();
            }
            Err(Error::Damaged { to, .. }) if to > at => at = to,
            Err(error) => panic!("{at}: {error}"),
        }
    }
    found
}

#[test]
fn what_a_record_leaves_out_of_a_segment_is_read_where_it_names_the_next() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Moody::default());
    let store = open(dir.path(), &disk, true);
    let log_of = |store: &Local| super::locked(&store.open).get(&id(0)).unwrap().clone();
    let written = log(&store, 0);
    let mut records = Vec::new();
    for _ in 0..8 {
        append(&*written).unwrap();
        written.sync();
        records.push(log_of(&store).record());
    }
    // The last segment but one as it was before its second batch.
    let mut record = records[7].clone();
    assert_eq!(record.parts.len(), 4);
    record.parts[2] = records[4].parts[2];
    let path = store.shared.log_dir(id(0)).join("checkpoint");
    let file = Records::encode(store.shared.generation, [(&id(0), &record)].into_iter());
    drop((written, store));
    std::fs::write(path, file).unwrap();
    let store = open(dir.path(), &disk, true);
    assert_eq!(offsets(&*log(&store, 0), 8), (0..8).collect::<Vec<_>>());
}
