//! Sectors that the disk does not give: what they hold is refused, what lies around them is served, and when a cable is put right
//! everything is there again. No offset that may be in them is given anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_broker::store::local::disk::Disk;
use weir_broker::store::local::{Local, LocalOptions};
use weir_broker::store::{Error, Kind, Log, LogOptions, Placed, Store};

use super::damage::{log_dir, read_around};
use super::{batch, headers, id};
use crate::crash::{Dice, Fault, Faulty, Names, PAGE_BYTES};

const OPTIONS: LogOptions =
    LogOptions { segment_bytes: 40_000, segment_ms: i64::MAX, index_interval_bytes: 500 };
/// Of a batch of one record.
const BYTES: usize = 100;

fn open_store(disk: &Faulty) -> Local {
    let disk = Arc::new(disk.clone());
    let options = LocalOptions { disk, inline: true, checkpoint_bytes: 0, ..LocalOptions::default() };
    Local::open_with(Path::new("/data"), options).unwrap()
}

fn open_log(store: &Local) -> Arc<dyn Log> {
    store.open_log(id(1), OPTIONS, &mut |_| {}).unwrap_or_else(|error| panic!("{error}")).log
}

/// Appends a batch of one record whose time is its offset.
fn push(log: &dyn Log) {
    let base_offset = log.span().end;
    let placed = Placed { base_offset, leader_epoch: 3, batch: batch(1, base_offset, BYTES - 61) };
    log.append(&[placed], 0).unwrap();
}

/// The file of the segment at `base`.
fn file(base: i64) -> PathBuf {
    log_dir(Path::new("/data"), 1).join(format!("{base:020}.log"))
}

/// A disk with a log of `count` batches of one record, closed or killed.
fn lived(count: usize, clean: bool) -> Faulty {
    let disk = Faulty::new(Fault::None, 1);
    let store = open_store(&disk);
    let log = open_log(&store);
    (0..count).for_each(|_| push(&*log));
    log.sync();
    if clean {
        store.close().unwrap();
    }
    disk
}

/// All that is there, in lives that end either way.
fn assert_lost(disk: &Faulty, end: i64, lost: &[(i64, i64)], what: &str) {
    for life in 0..3 {
        let store = open_store(disk);
        let log = open_log(&store);
        let (read, found) = read_around(&*log, 0);
        assert_eq!(found, lost, "{what}, life {life}");
        let whole = |at: &i64| lost.iter().all(|(from, to)| at < from || at >= to);
        assert_eq!(read, (0..end).filter(whole).collect::<Vec<_>>(), "{what}, life {life}");
        assert_eq!(store.incidents().stands(Kind::LogDamaged), !lost.is_empty(), "{what}, life {life}");
        if lost.is_empty() {
            for at in [0, 82, 100, 122, end - 1] {
                assert_eq!(log.seek_time(at, 0).unwrap(), Some(at), "{what}, life {life}");
            }
            assert_eq!(log.max_timestamp(0).unwrap(), Some((end - 1, end - 1)), "{what}, life {life}");
        }
        if life == 1 {
            store.close().unwrap();
        }
    }
}

#[test]
fn a_page_that_is_not_given_takes_out_what_it_holds_until_it_is() {
    for clean in [true, false] {
        // In the middle, at the front, at the end of a segment that another follows, and all of one.
        for (base, pages, lost) in [
            (0, 8192..12288, (81, 123)),
            (0, 0..4096, (0, 41)),
            (0, 36864..40000, (368, 400)),
            (400, 0..40000, (400, 800)),
            (800, 8192..12288, (881, 923)),
        ] {
            let what = format!("pages {pages:?} of {base}, clean {clean}");
            let disk = lived(1000, clean);
            disk.lose(&file(base), pages);
            assert_lost(&disk, 1000, &[lost], &what);
            let store = open_store(&disk);
            push(&*open_log(&store));
            open_log(&store).sync();
            drop(store);
            assert_lost(&disk, 1001, &[lost], &what);
            disk.find_again();
            assert_lost(&disk, 1001, &[], &what);
        }
    }
}

#[test]
fn a_page_that_is_lost_while_it_is_being_read_is_no_error_of_the_disk() {
    let disk = lived(1000, true);
    let store = open_store(&disk);
    let log = open_log(&store);
    assert_eq!(read_around(&*log, 0).1, []);
    disk.lose(&file(0), 8192..12288);
    assert_eq!(read_around(&*log, 0).1, [(81, 123)]);
    disk.find_again();
    drop((log, store));
    assert_lost(&disk, 1000, &[], "found again");
}

#[test]
fn where_a_log_ends_in_a_page_that_is_not_given_it_goes_on_in_the_next_segment() {
    let disk = lived(450, true);
    disk.lose(&file(400), 4096..5000);
    let store = open_store(&disk);
    let log = open_log(&store);
    push(&*log);
    log.sync();
    assert_eq!(log.segments().last().unwrap().base_offset, 450);
    drop((log, store));
    assert_lost(&disk, 451, &[(440, 450)], "not given");
    disk.find_again();
    assert_lost(&disk, 451, &[], "given");
}

#[test]
fn damage_beside_a_page_that_is_not_given_stays_damage() {
    for clean in [true, false] {
        let disk = lived(1000, clean);
        disk.flip(&file(0), (123 * 100 + 70) * 8);
        disk.lose(&file(0), 8192..12288);
        assert_lost(&disk, 1000, &[(81, 124)], "both");
        disk.find_again();
        assert_lost_but(&disk, 1000, (123, 124));
    }
}

fn assert_lost_but(disk: &Faulty, end: i64, lost: (i64, i64)) {
    for _ in 0..2 {
        let store = open_store(disk);
        let (read, found) = read_around(&*open_log(&store), 0);
        assert_eq!((read.len() as i64, found), (end - (lost.1 - lost.0), vec![lost]));
    }
}

#[test]
fn offsets_that_an_unreadable_tail_may_hold_are_never_given_anew() {
    // With the mark that a kill leaves, and without.
    for marked in [true, false] {
        let disk = lived(450, false);
        if !marked {
            disk.remove_file(Path::new("/data/marks")).unwrap();
        }
        let dir = log_dir(Path::new("/data"), 1);
        for name in ["checkpoint", &format!("{:020}.index", 400)] {
            drop(disk.remove_file(&dir.join(name)));
        }
        disk.lose(&file(400), 4096..5000);
        let mut firsts = Vec::new();
        for clean in [false, true, false] {
            let store = open_store(&disk);
            let log = open_log(&store);
            let first = log.span().end;
            assert!(first > 450, "marked {marked}: {first}");
            push(&*log);
            log.sync();
            firsts.push(first);
            let (read, lost) = read_around(&*log, 0);
            let expected: Vec<_> = (0..440).chain(firsts.iter().copied()).collect();
            assert_eq!((read, lost), (expected, vec![(440, firsts[0])]), "marked {marked}");
            if clean {
                store.close().unwrap();
            }
        }
        disk.find_again();
        for _ in 0..2 {
            let store = open_store(&disk);
            let log = open_log(&store);
            assert_eq!(log.span().end, firsts[2] + 1);
            let (read, lost) = read_around(&*log, 0);
            let expected: Vec<_> = (0..450).chain(firsts.iter().copied()).collect();
            // No record ever had those between.
            assert_eq!((read, lost), (expected, Vec::new()), "marked {marked}");
            assert_eq!(log.damaged(), [], "marked {marked}");
            assert!(!store.incidents().stands(Kind::LogDamaged), "marked {marked}");
            let slice = log.read(450, 1, true, log.span().end).unwrap();
            assert_eq!(headers(&slice.to_bytes().unwrap())[0].base_offset, firsts[0]);
            let empty = log.read(450, 1, true, firsts[0]).unwrap();
            assert_eq!((empty.len(), empty.next_offset()), (0, firsts[0]), "nothing stands in them");
        }
        // They go with what lies before them.
        let store = open_store(&disk);
        let log = open_log(&store);
        let cut = log.segments().iter().map(|segment| segment.next_offset).find(|next| *next > 440).unwrap();
        assert_eq!(cut, firsts[0]);
        log.trim_to(450).unwrap();
        assert_eq!(log.span().start, firsts[0]);
        assert_eq!((read_around(&*log, firsts[0]).1, log.damaged()), (Vec::new(), Vec::new()));
    }
}

#[test]
fn what_was_written_behind_an_unreadable_tail_stays_when_that_is_given_again() {
    for given in [true, false] {
        let disk = lived(450, false);
        drop(disk.remove_file(&log_dir(Path::new("/data"), 1).join("checkpoint")));
        disk.lose(&file(400), 4096..5000);
        let store = open_store(&disk);
        let log = open_log(&store);
        let first = log.span().end;
        (0..5).for_each(|_| push(&*log));
        log.sync();
        drop((log, store));
        // As after a power cut: nothing says how far it was told durable, and no record names the new segment.
        disk.remove_file(Path::new("/data/marks")).unwrap();
        if given {
            disk.find_again();
        }
        let store = open_store(&disk);
        let log = open_log(&store);
        assert_eq!(log.span().end, first + 5);
        let (last, lost) = if given { (450, Vec::new()) } else { (440, vec![(440, first)]) };
        let expected: Vec<_> = (0..last).chain(first..first + 5).collect();
        assert_eq!(read_around(&*log, 0), (expected, lost));
    }
}

#[test]
fn a_segment_whose_front_is_not_given_is_known_by_its_name() {
    for marked in [true, false] {
        let disk = lived(450, false);
        if !marked {
            disk.remove_file(Path::new("/data/marks")).unwrap();
        }
        drop(disk.remove_file(&log_dir(Path::new("/data"), 1).join("checkpoint")));
        disk.lose(&file(0), 36864..40000);
        disk.lose(&file(400), 0..4096);
        let store = open_store(&disk);
        let (read, lost) = read_around(&*open_log(&store), 0);
        assert_eq!((read.len(), lost), (368 + 9, vec![(368, 400), (400, 441)]));
        drop(store);
        disk.find_again();
        assert_lost(&disk, 450, &[], "found again");
    }
}

#[test]
fn a_file_that_only_helps_and_is_not_given_costs_nothing() {
    for name in ["clean", "baseline", "marks", "checkpoint", ".index", "life", "format"] {
        for clean in [true, false] {
            let disk = Faulty::new(Fault::None, 1);
            for life in 0..2 {
                let store = open_store(&disk);
                let log = open_log(&store);
                (0..450).for_each(|_| push(&*log));
                log.sync();
                log.checkpoint(b"note").unwrap();
                if clean || life == 0 {
                    store.close().unwrap();
                }
            }
            for (path, bytes) in disk.files() {
                if path.to_string_lossy().ends_with(name) && bytes > 0 {
                    disk.lose(&path, 0..bytes);
                }
            }
            let store = open_store(&disk);
            let (read, lost) = read_around(&*open_log(&store), 0);
            assert_eq!((read.len(), lost), (900, Vec::new()), "{name}, clean {clean}");
        }
    }
}

/// A cut reads the page that it ends in, also one to the size that there is. Nothing depends on one.
#[test]
fn a_log_whose_last_page_is_lost_while_it_is_open_goes_on_and_closes() {
    for clean in [true, false] {
        let disk = lived(450, clean);
        let store = open_store(&disk);
        let log = open_log(&store);
        push(&*log);
        log.sync();
        disk.lose(&file(400), 4096..5100);
        push(&*log);
        log.sync();
        assert_eq!(log.segments().last().unwrap().base_offset, 451, "clean {clean}");
        drop((log, store));
        for life in 0..3 {
            let store = open_store(&disk);
            let log = open_log(&store);
            drop(disk.remove_file(&log_dir(Path::new("/data"), 1).join("checkpoint")));
            log.seal().unwrap();
            log.checkpoint(b"note").unwrap();
            let has = disk.files().iter().any(|(path, _)| path.ends_with("checkpoint"));
            assert!(has, "clean {clean}, life {life}");
            store.close().unwrap_or_else(|error| panic!("clean {clean}, life {life}: {error}"));
        }
        assert_lost(&disk, 452, &[(440, 451)], "not given");
        disk.find_again();
        assert_lost(&disk, 452, &[], "given");
    }
}

/// Pages that go and come back, between appends, reads, kills, power cuts and clean restarts.
fn come_and_go(seed: u64) {
    let mut dice = Dice::new(seed);
    let mut disk = Faulty::new(Fault::None, seed);
    let options = LogOptions { segment_bytes: [9_000, 30_000, 1 << 30][dice.below(3) as usize], ..OPTIONS };
    let mut told: BTreeMap<i64, u32> = BTreeMap::new();
    for life in 0..8 {
        let what = format!("seed {seed}, life {life}");
        let all_given = life == 7 || dice.below(3) == 0;
        if all_given {
            disk.find_again();
        }
        let store = open_store(&disk);
        let opened = store.open_log(id(1), options, &mut |_| {});
        let log = opened.unwrap_or_else(|error| panic!("{what}: {error}")).log;
        let end = told.last_key_value().map_or(0, |(base, _)| base + 1);
        assert!(log.span().end >= end, "{what}: {} of {end}", log.span().end);
        for (base, crc) in &told {
            match log.read(*base, 1, true, log.span().end) {
                Ok(slice) => {
                    let header = headers(&slice.to_bytes().unwrap())[0];
                    assert_eq!((header.base_offset, header.crc), (*base, *crc), "{what}");
                }
                Err(Error::Damaged { .. }) if !all_given => {}
                Err(error) => panic!("{what}: {base}: {error}"),
            }
        }
        let mut fresh = Vec::new();
        for _ in 0..dice.below(30) {
            let base_offset = log.span().end;
            let batch = batch(1, seed as i64 * 1000 + base_offset, 20 + dice.below(600) as usize);
            fresh.push((base_offset, batch.header().crc));
            let placed = Placed { base_offset, leader_epoch: 3, batch };
            log.append(&[placed], 0).unwrap_or_else(|error| panic!("{what}: {error}"));
            if dice.below(4) == 0 {
                log.sync();
                told.extend(fresh.drain(..));
            }
        }
        if dice.below(3) == 0 {
            log.checkpoint(b"note").unwrap();
        }
        match dice.below(3) {
            0 => store.close().unwrap(),
            1 => disk = disk.after_power_cut(Names::First),
            _ => {}
        }
        let logs: Vec<_> = disk
            .files()
            .into_iter()
            .filter(|(path, _)| path.extension().is_some_and(|e| e == "log"))
            .collect();
        for _ in 0..dice.below(3) {
            let Some((path, bytes)) = logs.get(dice.below(logs.len().max(1) as u64) as usize) else {
                continue;
            };
            let from = dice.below(*bytes + 1);
            disk.lose(path, from..from + 1 + dice.below(2 * PAGE_BYTES));
        }
    }
}

#[test]
fn pages_that_come_and_go_take_nothing_along_for_good() {
    let seeds = std::env::var("WEIR_CRASH_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
    (0..seeds).for_each(come_and_go);
}
