//! A full disk, and what deletions leave behind.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_broker::store::local::disk::Disk;
use weir_broker::store::local::{Local, LocalOptions};
use weir_broker::store::{Error, Kind, Log, LogId, LogOptions, Placed, Store};

use super::{batch, id, open, push, read_all};
use crate::crash::{Fault, Faulty};

const LARGE: LogOptions =
    LogOptions { segment_bytes: 1 << 30, segment_ms: i64::MAX, index_interval_bytes: 4096 };

fn held(disk: &Faulty) -> Local {
    let disk = Arc::new(disk.clone());
    let options = LocalOptions { disk, held: true, ballast_bytes: 1 << 20, ..LocalOptions::default() };
    let store = Local::open_with(Path::new("/data"), options).unwrap();
    while store.run_jobs(100) > 0 {}
    store
}

fn log(store: &Local, id: LogId) -> Arc<dyn Log> {
    store.open_log(id, LARGE, &mut |_| {}).unwrap().log
}

fn try_push(log: &dyn Log, body: usize) -> Result<(), Error> {
    log.append(&[Placed { base_offset: log.span().end, leader_epoch: 0, batch: batch(1, 1, body) }], 1)
}

#[test]
fn blocks_that_are_only_reserved_refuse_nobody() {
    let disk = Faulty::new(Fault::None, 1);
    disk.limit(60 << 20);
    let store = held(&disk);
    let logs: Vec<_> = (0..20).map(|n| log(&store, id(n))).collect();
    let mut stored = 0;
    'full: loop {
        for log in &logs {
            match try_push(&**log, 100_000) {
                Ok(()) => stored += 100_061,
                Err(Error::Full { .. }) => break 'full,
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(stored > 57 << 20, "{stored} bytes of 60 MiB less 1 that is kept back");
}

#[test]
fn on_a_full_disk_deletes_and_what_is_essential_go_on_and_records_come_back_with_the_space() {
    let disk = Faulty::new(Fault::None, 2);
    disk.limit(40 << 20);
    let store = held(&disk);
    let (data, more, journal) = (log(&store, id(1)), log(&store, id(2)), log(&store, id(3)));
    journal.may_use_reserve();
    try_push(&*journal, 100).unwrap();
    try_push(&*more, 100).unwrap();
    [100_000, 1000, 1].iter().for_each(|body| while try_push(&*data, *body).is_ok() {});
    for _ in 0..20 {
        try_push(&*journal, 10_000).expect("what is essential goes on");
        assert!(matches!(try_push(&*more, 10), Err(Error::Full { .. })), "records take what was kept back");
    }
    assert!(store.incidents().stands(Kind::DiskFull));
    data.trim_to(data.span().end / 2).expect("the start moves on a full disk");
    store.delete_log(id(1)).unwrap();
    while store.run_jobs(100) > 0 {}
    let deadline = Instant::now() + Duration::from_secs(20);
    while try_push(&*more, 100_000).is_err() {
        assert!(Instant::now() < deadline, "no records although there is space");
        std::thread::sleep(Duration::from_millis(10));
    }
    // What appends told is over when the broker looks at the space.
    store.incidents().clear(Kind::DiskFull, "");
    assert!(!store.incidents().stands(Kind::DiskFull));
}

#[test]
fn a_store_that_was_killed_on_a_full_disk_opens_and_reads() {
    let disk = Faulty::new(Fault::None, 3);
    disk.limit(20 << 20);
    let end = {
        let store = held(&disk);
        let data = log(&store, id(1));
        while try_push(&*data, 50_000).is_ok() {}
        data.sync();
        store.run_jobs(100);
        data.span().end
    };
    for _life in 0..3 {
        disk.limit(0);
        let store = held(&disk);
        let data = log(&store, id(1));
        assert_eq!(read_all(&*data, 0, 1 << 20).len() as i64, end);
        assert!(try_push(&*data, 10).is_err());
        drop(store.delete_log(id(7)));
    }
    disk.limit(1 << 30);
    let store = held(&disk);
    try_push(&*log(&store, id(1)), 10).unwrap();
}

/// Fills `data`, with what is reserved, down to the last byte.
fn fill(data: &dyn Log) {
    [100_000, 1000, 1].iter().for_each(|body| while try_push(data, *body).is_ok() {});
}

/// What is kept back was given up in the life before, or never taken: the disk decides, not what this life has seen.
#[test]
fn space_is_kept_back_in_every_life_and_as_soon_as_there_is_some() {
    let disk = Faulty::new(Fault::None, 4);
    disk.limit(40 << 20);
    disk.create_dirs(Path::new("/others")).unwrap();
    let others = disk.create(Path::new("/others/file")).unwrap();
    others.reserve(0, 38 << 20).unwrap();
    for life in 0..3 {
        let store = held(&disk);
        let (data, more, journal) = (log(&store, id(1)), log(&store, id(2)), log(&store, id(3)));
        journal.may_use_reserve();
        assert!(
            matches!(try_push(&*more, 10), Err(Error::Full { .. })),
            "life {life}: records take what is short"
        );
        assert!(store.incidents().stands(Kind::DiskFull), "life {life}");
        for _ in 0..10 {
            try_push(&*journal, 10_000).expect("what is essential goes on");
        }
        if life == 0 {
            // Nobody writes, and there is room.
            others.set_len(0).unwrap();
            let deadline = Instant::now() + Duration::from_secs(20);
            // What the append told is the broker's to end.
            store.incidents().clear(Kind::DiskFull, "");
            while store.incidents().stands(Kind::DiskFull) {
                assert!(Instant::now() < deadline, "nobody sees that there is space");
                std::thread::sleep(Duration::from_millis(10));
                store.keep_space_back();
            }
            try_push(&*more, 10).unwrap();
        }
        fill(&*data);
        for _ in 0..10 {
            try_push(&*journal, 10_000).expect("what is essential goes on");
        }
        // Killed.
    }
    let store = held(&disk);
    store.delete_log(id(1)).unwrap();
    while store.run_jobs(100) > 0 {}
    try_push(&*log(&store, id(2)), 100_000).unwrap();
    store.close().unwrap();
}

/// Commits take what they may of what is kept back, and are refused before the rest: without that nothing could free space.
#[test]
fn what_frees_space_goes_on_when_what_is_essential_has_taken_all_that_it_may() {
    let disk = Faulty::new(Fault::None, 9);
    disk.limit(40 << 20);
    let mut start = 0;
    for life in 0..3 {
        let store = held(&disk);
        let (data, more, journal) = (log(&store, id(1)), log(&store, id(2)), log(&store, id(3)));
        journal.may_use_reserve();
        if life == 0 {
            try_push(&*more, 100).unwrap();
            fill(&*data);
        }
        fill(&*journal);
        for _ in 0..50 {
            start += 1;
            data.trim_to(start).unwrap_or_else(|error| panic!("life {life}: {error}"));
            fill(&*journal);
        }
        store.delete_log(id(9)).unwrap();
        if life == 1 {
            continue;
        }
        store.close().unwrap_or_else(|error| panic!("life {life}: {error}"));
    }
    let store = held(&disk);
    assert_eq!(store.incarnation(), 1, "one life did not end");
    let (data, more, journal) = (log(&store, id(1)), log(&store, id(2)), log(&store, id(3)));
    journal.may_use_reserve();
    assert_eq!(data.span().start, start);
    assert!(try_push(&*journal, 1000).is_err());
    data.trim_to(data.span().end).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while try_push(&*journal, 1000).is_err() || try_push(&*more, 1000).is_err() {
        assert!(Instant::now() < deadline, "nothing goes on although there is space");
        while store.run_jobs(100) > 0 {}
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A life that knew only one part left that, and no room for the other.
#[test]
fn one_part_of_what_is_kept_back_is_given_up_for_what_frees_space_whichever_it_is() {
    for gone in ["ballast.last", "ballast"] {
        let disk = Faulty::new(Fault::None, 10);
        disk.limit(40 << 20);
        let store = held(&disk);
        let data = log(&store, id(1));
        (0..20).for_each(|_| try_push(&*data, 50_000).unwrap());
        data.sync();
        drop((data, store));
        disk.remove_file(&Path::new("/data").join(gone)).unwrap();
        disk.create_dirs(Path::new("/others")).unwrap();
        let others = disk.create(Path::new("/others/file")).unwrap();
        others.reserve(0, disk.space(Path::new("/")).unwrap().free_bytes).unwrap();
        let store = held(&disk);
        assert!(store.incidents().stands(Kind::DiskFull), "without {gone}");
        let data = log(&store, id(1));
        assert!(try_push(&*data, 10).is_err(), "without {gone}: records take what is short");
        data.trim_to(10).unwrap_or_else(|error| panic!("without {gone}: {error}"));
        store.delete_log(id(1)).unwrap();
        store.close().unwrap();
    }
}

/// What moves the start, and a close, need a little room for what they write; an index needs none, because it can be made anew.
#[test]
fn on_a_full_disk_a_whole_log_is_trimmed_and_the_store_closes_clean() {
    let disk = Faulty::new(Fault::None, 5);
    disk.limit(40 << 20);
    let store = held(&disk);
    let (data, more) = (log(&store, id(1)), log(&store, id(2)));
    try_push(&*more, 100_000).unwrap();
    fill(&*data);
    more.seal().unwrap();
    while store.run_jobs(100) > 0 {}
    let end = data.span().end;
    data.trim_to(end).expect("the start moves on a full disk");
    assert_eq!(data.span().start, end);
    more.trim_to(1).expect("nor does an index that waits for space hold up a later one");
    store.close().unwrap();
    drop(store);
    let store = held(&disk);
    assert_eq!((log(&store, id(1)).span().start, log(&store, id(1)).span().end), (end, end));
    assert_eq!(store.incarnation(), 0, "it was closed");
}

#[test]
fn a_close_on_a_full_disk_without_a_trim_is_clean_too() {
    let disk = Faulty::new(Fault::None, 6);
    disk.limit(40 << 20);
    let store = held(&disk);
    let data = log(&store, id(1));
    try_push(&*data, 100_000).unwrap();
    data.seal().unwrap();
    fill(&*data);
    store.close().unwrap();
    drop(store);
    let store = held(&disk);
    assert_eq!(store.incarnation(), 0, "it was closed");
    assert_eq!(read_all(&*log(&store, id(1)), 0, 1 << 20).len() as i64, data.span().end);
}

/// What could not be written stays wanted; otherwise the bytes that a recovery would have to scan are forgotten.
#[test]
fn a_checkpoint_that_found_no_space_is_written_when_there_is_some() {
    let disk = Faulty::new(Fault::None, 7);
    let store = held(&disk);
    let data = log(&store, id(1));
    (0..20).for_each(|_| try_push(&*data, 100_000).unwrap());
    data.sync();
    store.run_jobs(100);
    let has = |name: &str| disk.files().iter().any(|(path, _)| path.ends_with(name));
    disk.limit(1);
    data.checkpoint(b"a note").unwrap();
    store.run_jobs(100);
    assert!(!has("checkpoint"));
    disk.limit(1 << 30);
    data.checkpoint(b"a note").unwrap();
    store.run_jobs(100);
    assert!(has("checkpoint"));
}

#[test]
fn the_removal_of_many_files_lets_other_work_through() {
    let disk = Faulty::new(Fault::None, 8);
    let store = held(&disk);
    let (many, other) = (open(&store, id(1)), open(&store, id(2)));
    (0..100).for_each(|t| _ = push(&*many, 1, t, 3000));
    push(&*other, 1, 0, 300);
    while store.run_jobs(100) > 0 {}
    let files =
        |part: &str| disk.files().iter().filter(|(path, _)| path.to_string_lossy().contains(part)).count();
    let index = format!("{}/0/00000000000000000000.index", id(2).topic);
    store.delete_log(id(1)).unwrap();
    other.seal().unwrap();
    store.run_jobs(2);
    assert!(files("deleted") > 0, "all of it in one turn");
    assert_eq!(files(&index), 1);
    while store.run_jobs(100) > 0 {}
    assert_eq!(files("deleted"), 0);
}

#[test]
fn a_start_frees_what_deletions_left_and_sets_aside_what_nobody_knows() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = Local::open(dir.path()).unwrap();
        for n in [1, 2, 4, 6] {
            push(&*open(&store, id(n)), 2, 0, 300);
        }
        store.close().unwrap();
    }
    let topic = |n: u128| dir.path().join("topics").join(id(n).topic.to_string());
    fs::write(topic(1).join("0").join("00000000000000000000.deleted"), b"old").unwrap();
    for gone in
        [topic(2).join("0.deleted-7"), topic(2).join("1.deleted-9"), topic(5).join("3.deleted-1"), topic(8)]
    {
        fs::create_dir_all(&gone).unwrap();
    }
    fs::write(topic(2).join("0.deleted-7").join("00000000000000000000.log"), b"old").unwrap();
    fs::create_dir(topic(2).join("9")).unwrap();
    let store = Local::open(dir.path()).unwrap();
    let deleted = HashSet::from([id(6).topic, id(9).topic]);
    assert_eq!(store.gone(&deleted).unwrap(), [id(9).topic], "nothing is left of it");
    store.sweep(HashMap::from([(id(1).topic, 1), (id(2).topic, 1)]), deleted.clone());
    let quarantine = dir.path().join("quarantine");
    let names = |dir: &Path| {
        let entries = fs::read_dir(dir).into_iter().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    let left = |n: u128| names(&topic(n));
    while topic(6).exists() || topic(8).exists() || topic(5).exists() || left(2) != ["0"] || left(1) != ["0"]
    {
        assert!(Instant::now() < deadline, "{:?} {:?}", left(1), left(2));
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(names(&topic(1).join("0")), ["00000000000000000000.log"]);
    assert_eq!(names(&quarantine), [format!("{}.9.0", id(2).topic), format!("{}.topic.0", id(4).topic)]);
    assert!(store.incidents().stands(Kind::Quarantined));
    assert_eq!(store.gone(&deleted).unwrap().len(), 2);
    for n in [1, 2] {
        assert_eq!(open(&store, id(n)).span().end, 2);
    }
}

/// The list of topics is made at the start and looked at later: what came between is not on it, and is no stranger.
#[test]
fn a_late_sweep_leaves_alone_what_was_made_since() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = Local::open(dir.path()).unwrap();
        push(&*open(&store, id(4)), 2, 0, 300);
        store.close().unwrap();
    }
    let store = Local::open(dir.path()).unwrap();
    let more = LogId { topic: id(1).topic, partition: 5 };
    let made = [id(1), more, id(3)];
    for log in made {
        push(&*open(&store, log), 2, 0, 300);
    }
    store.sweep(HashMap::from([(id(1).topic, 1)]), HashSet::new());
    let deadline = Instant::now() + Duration::from_secs(20);
    while !store.incidents().stands(Kind::Quarantined) {
        assert!(Instant::now() < deadline, "the stranger is still there");
        std::thread::sleep(Duration::from_millis(5));
    }
    store.close().unwrap();
    drop(store);
    let kept: Vec<_> = fs::read_dir(dir.path().join("quarantine")).unwrap().map(Result::unwrap).collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    let store = Local::open(dir.path()).unwrap();
    for log in made {
        assert_eq!(open(&store, log).span().end, 2, "{log:?}");
    }
}
