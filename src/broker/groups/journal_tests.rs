//! The journal on a disk that fails while it is read.

use std::io::{self, IoSlice};
use std::path::Path;

use super::tests::{commit, committed, config, journal_file};
use super::*;
use crate::broker::open::open_on;
use crate::broker::{Clock, OpenError, open};
use crate::store::Capacity;
use crate::store::local::disk::{Directory, Disk, Entry, File, Guard, RealDisk};
use crate::store::local::{Local, LocalOptions, Mapping};

/// The real disk, but for segments: they open with one error and read with another, or 0 for none.
struct Failing {
    opens: AtomicI32,
    reads: AtomicI32,
}

struct FailingFile(Arc<dyn File>, i32);

fn failure(error: i32) -> io::Result<()> {
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

impl Disk for Failing {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = RealDisk.open(path)?;
        if path.extension().is_none_or(|kind| kind != "log") {
            return Ok(file);
        }
        failure(self.opens.load(Ordering::SeqCst))?;
        Ok(Arc::new(FailingFile(file, self.reads.load(Ordering::SeqCst))))
    }
    fn create_dirs(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dirs(dir)
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        RealDisk.create(path)
    }
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        RealDisk.create_new(path)
    }
    fn open_dir(&self, dir: &Path) -> io::Result<Box<dyn Directory>> {
        RealDisk.open_dir(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_file(path)
    }
    fn remove_empty_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.remove_empty_dir(dir)
    }
    fn remove_dirs(&self, dir: &Path) -> io::Result<()> {
        RealDisk.remove_dirs(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        RealDisk.list(dir)
    }
    fn file_bytes(&self, path: &Path) -> io::Result<Option<u64>> {
        RealDisk.file_bytes(path)
    }
    fn lock(&self, path: &Path, owner: &str) -> io::Result<Result<Guard, String>> {
        RealDisk.lock(path, owner)
    }
    fn space(&self, path: &Path) -> io::Result<Capacity> {
        RealDisk.space(path)
    }
}

impl File for FailingFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        failure(self.1)?;
        self.0.read_at(buf, at)
    }
    fn write_at(&self, parts: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
        self.0.write_at(parts, at)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
    fn bytes(&self) -> io::Result<u64> {
        self.0.bytes()
    }
    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }
    fn reserve(&self, at: u64, bytes: u64) -> io::Result<()> {
        self.0.reserve(at, bytes)
    }
    fn start_writeback(&self, at: u64, bytes: u64) {
        self.0.start_writeback(at, bytes);
    }
    fn map(&self, _bytes: usize) -> Option<Mapping> {
        None
    }
}

fn open_failing(dir: &Path, opens: i32, reads: i32) -> Result<Arc<Core>, OpenError> {
    let disk = Failing { opens: opens.into(), reads: reads.into() };
    let options = LocalOptions { disk: Arc::new(disk), ..LocalOptions::default() };
    let store = Local::open_with(dir, options)?;
    open_on(Arc::new(store), dir.to_owned(), config(&[]), Clock::System)
}

#[tokio::test]
async fn a_start_that_cannot_read_the_journal_says_so_or_knows_what_it_does_not_know() {
    let dir = tempfile::tempdir().unwrap();
    let core = open(dir.path(), config(&[]), Clock::System).unwrap();
    let topic = core.create_topic("t".into(), 2, BTreeMap::new()).await.unwrap();
    assert_eq!(commit(&core, "g", &topic, 1, 5).await, [Ok(())]);
    core.close().unwrap();
    drop((core, topic));
    // Nothing is wrong with the records: no broker runs without them.
    for (opens, reads) in [(libc::EMFILE, 0), (libc::EACCES, 0), (0, libc::ENOMEM)] {
        let refused = open_failing(dir.path(), opens, reads).err().expect("refused").to_string();
        assert!(refused.contains("the offsets of consumer groups cannot be read"), "{refused}");
        assert!(refused.contains(".log: "), "{refused}");
    }
    // The disk cannot read them: what was there is not known, and nobody is told that nothing was.
    {
        let core = open_failing(dir.path(), 0, libc::EIO).unwrap();
        assert!(core.incidents().stands(IncidentKind::JournalDamaged));
        let unknown = [Err(Error::Unreadable), Err(Error::Unreadable)];
        assert_eq!(committed(&core, "g", "t", 2).await, unknown);
    }
    // It was the cable.
    let core = open(dir.path(), config(&[]), Clock::System).unwrap();
    assert_eq!(committed(&core, "g", "t", 2).await, [Ok(Some(5)), Ok(None)]);
}

#[tokio::test]
async fn groups_that_may_read_an_older_commit_than_their_last_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let one = config(&[("offsets.topic.num.partitions", "1")]);
    let core = open(dir.path(), one.clone(), Clock::System).unwrap();
    let topic = core.create_topic("t".into(), 2, BTreeMap::new()).await.unwrap();
    for group in ["before", "both", "half"] {
        assert!(commit(&core, group, &topic, 2, 1_004).await.iter().all(Result::is_ok));
    }
    let journal = core.topics().by_name(JOURNAL).unwrap().partition(0).unwrap();
    let place = usize::try_from(journal.glance().unwrap().1).unwrap();
    assert_eq!(commit(&core, "before", &topic, 1, 500).await, [Ok(())]);
    for (group, partitions) in [("both", 2), ("half", 1), ("behind", 1)] {
        assert!(commit(&core, group, &topic, partitions, 7).await.iter().all(Result::is_ok));
    }
    let file = journal_file(&core, dir.path(), "before");
    core.close().unwrap();
    drop((core, topic, journal));
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[place + 80] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let core = open(dir.path(), one, Clock::System).unwrap();
    let journal = core.topics().by_name(JOURNAL).unwrap().partition(0).unwrap();
    let mut anew = Coordinator::new(Settings { journal_partitions: 1, ..Settings::default() });
    let found = journal::load(&journal, &mut anew, core.group_now(), dir.path()).unwrap();
    let damage = found.damage.unwrap();
    assert!(damage.ends_with(r#": ["before", "half"]"#) && !found.foreign, "{damage}");
}
