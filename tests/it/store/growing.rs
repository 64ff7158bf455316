//! Damage that grows: a second place beside a known one, files that belong elsewhere, and whatever the dice come up with.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_broker::store::local::{Local, LocalOptions};
use weir_broker::store::{Error, Kind, Log, LogOptions, Placed, Store};

use super::damage::{files, log_dir, read_around};
use super::{SMALL, batch, headers, id, wait_durable};
use crate::crash::Dice;

const ONE_FILE: LogOptions = LogOptions { segment_bytes: 1 << 30, ..SMALL };
/// Of a batch of one record.
const BYTES: usize = 100;

fn open_store(dir: &Path) -> Local {
    let options = LocalOptions { inline: true, checkpoint_bytes: 0, ..LocalOptions::default() };
    Local::open_with(dir, options).unwrap()
}

fn open(store: &Local, n: u128, options: LogOptions) -> Arc<dyn Log> {
    store.open_log(id(n), options, &mut |_| {}).unwrap().log
}

/// Appends a batch of one record.
fn push(log: &dyn Log, epoch: i32, body: usize) -> Placed {
    let base_offset = log.span().end;
    let placed = Placed { base_offset, leader_epoch: epoch, batch: batch(1, base_offset, body) };
    log.append(std::slice::from_ref(&placed), 0).unwrap();
    placed
}

/// A log of batches with these epochs in one file; closed or killed.
fn lived(epochs: &[i32], clean: bool) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path());
    let log = open(&store, 1, ONE_FILE);
    epochs.iter().for_each(|epoch| drop(push(&*log, *epoch, BYTES - 61)));
    wait_durable(&*log);
    if clean {
        store.close().unwrap();
    }
    let file = log_dir(dir.path(), 1).join(format!("{:020}.log", 0));
    (dir, file)
}

fn flip(file: &Path, at: usize, bits: u8) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= bits;
    fs::write(file, bytes).unwrap();
}

/// In this life, after a kill and after a clean close: all of `end` batches are read but for those in `lost`.
fn assert_lost(dir: &Path, end: i64, lost: &[(i64, i64)], what: &str) {
    for life in 0..3 {
        let store = open_store(dir);
        let log = open(&store, 1, ONE_FILE);
        let (read, found) = read_around(&*log, 0);
        assert_eq!(found, lost, "{what}, life {life}");
        let whole = |at: &i64| lost.iter().all(|(from, to)| at < from || at >= to);
        assert_eq!(read, (0..end).filter(whole).collect::<Vec<_>>(), "{what}, life {life}");
        assert_eq!(store.incidents().stands(Kind::LogDamaged), !lost.is_empty(), "{what}, life {life}");
        if life == 1 {
            store.close().unwrap();
        }
    }
}

#[test]
fn damage_beside_known_damage_is_seen_and_the_place_grows() {
    for clean in [true, false] {
        // Inside of the records, the length, the offset, the magic, the checksum.
        for byte in [70, 10, 7, 16, 17] {
            for (second, lost) in [(41, (40, 42)), (39, (39, 41))] {
                let what = format!("byte {byte} of batch {second}, clean {clean}");
                let (dir, file) = lived(&[3; 100], clean);
                flip(&file, 40 * BYTES + 70, 4);
                assert_lost(dir.path(), 100, &[(40, 41)], &what);
                flip(&file, second * BYTES + byte, 4);
                assert_lost(dir.path(), 100, &[lost], &what);
            }
        }
    }
}

#[test]
fn a_batch_with_a_wrong_offset_behind_a_damaged_one_leads_nowhere() {
    for clean in [true, false] {
        for (first, byte) in [(11, 4), (11, 70), (98, 4), (98, 70), (98, 10)] {
            let (dir, file) = lived(&[3; 100], clean);
            flip(&file, first * BYTES + byte, 4);
            flip(&file, (first + 1) * BYTES + 6, 1);
            let lost = (first as i64, first as i64 + 2);
            assert_lost(dir.path(), 100, &[lost], &format!("byte {byte} of batch {first}, clean {clean}"));
        }
    }
}

#[test]
fn a_whole_batch_between_damaged_ones_is_served() {
    for clean in [true, false] {
        for (byte, behind) in [(70, 70), (10, 70), (70, 10), (4, 4), (10, 17)] {
            let (dir, file) = lived(&[3; 100], clean);
            flip(&file, 50 * BYTES + byte, 4);
            flip(&file, 52 * BYTES + behind, 4);
            assert_lost(dir.path(), 100, &[(50, 51), (52, 53)], &format!("bytes {byte} and {behind}"));
        }
    }
}

#[test]
fn an_epoch_is_damage_only_where_it_stands_alone() {
    let runs = |runs: &[(i32, usize)]| -> Vec<i32> {
        runs.iter().flat_map(|(epoch, count)| std::iter::repeat_n(*epoch, *count)).collect()
    };
    for clean in [true, false] {
        // A directory whose count of lives was set back, and one that began below 0.
        for epochs in [runs(&[(3, 20), (1, 20)]), runs(&[(-2, 30)]), runs(&[(3, 20), (1, 1)])] {
            let (dir, _) = lived(&epochs, clean);
            assert_lost(dir.path(), epochs.len() as i64, &[], &format!("{epochs:?}, clean {clean}"));
        }
        let (dir, file) = lived(&[3; 50], clean);
        flip(&file, 20 * BYTES + 14, 4);
        flip(&file, 21 * BYTES + 70, 4);
        assert_lost(dir.path(), 50, &[(20, 22)], "an epoch before other damage");
        let (dir, file) = lived(&[3; 50], clean);
        flip(&file, 20 * BYTES + 70, 4);
        assert_lost(dir.path(), 50, &[(20, 21)], "damage");
        flip(&file, 22 * BYTES + 14, 4);
        assert_lost(dir.path(), 50, &[(20, 21), (22, 23)], "an epoch after other damage");
    }
}

#[test]
fn an_index_of_other_bytes_costs_nothing() {
    // Of another length, and of batches that lie where ours do.
    for (first, body, count) in [(1299, 1300, 999), (999, 1000, 1399), (1000, 1000, 1199)] {
        let dir = tempfile::tempdir().unwrap();
        let few = || LocalOptions { inline: true, max_files: Some(1), ..LocalOptions::default() };
        let store = Local::open_with(dir.path(), few()).unwrap();
        let (ours, other) = (open(&store, 1, ONE_FILE), open(&store, 2, ONE_FILE));
        (0..1200).for_each(|_| drop(push(&*ours, 3, 1000)));
        for (base_offset, body) in (0..).zip(std::iter::once(first).chain(std::iter::repeat_n(body, count))) {
            let batch = batch(1, base_offset + 1, body);
            other.append(&[Placed { base_offset, leader_epoch: 3, batch }], 0).unwrap();
        }
        store.close().unwrap();
        drop((ours, other, store));
        let index = |n| log_dir(dir.path(), n).join(format!("{:020}.index", 0));
        fs::copy(index(2), index(1)).unwrap();
        for life in 0..2 {
            let store = Local::open_with(dir.path(), few()).unwrap();
            let (ours, other) = (open(&store, 1, ONE_FILE), open(&store, 2, ONE_FILE));
            for _ in 0..2 {
                let (read, lost) = read_around(&*ours, 0);
                assert_eq!(
                    (read.len(), lost),
                    (1200, Vec::new()),
                    "bodies of {first} and {body}, life {life}"
                );
                // Takes its descriptor, and with it the index that is in memory.
                drop(other.read(0, 1, true, 1).unwrap());
                for at in (0..1200).rev().step_by(97) {
                    let slice = ours.read(at, 1, true, 1200).unwrap_or_else(|e| panic!("body {body}: {e}"));
                    assert_eq!(headers(&slice.to_bytes().unwrap())[0].base_offset, at);
                }
            }
            assert!(!store.incidents().stands(Kind::LogDamaged));
        }
    }
}

#[test]
fn a_start_that_a_damaged_checkpoint_knew_comes_back_as_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path());
    let log = open(&store, 1, SMALL);
    (0..200).for_each(|_| drop(push(&*log, 3, BYTES - 61)));
    store.close().unwrap();
    drop((log, store));
    let store = open_store(dir.path());
    let log = open(&store, 1, SMALL);
    log.trim_to(130).unwrap();
    drop((log, store));
    flip(&log_dir(dir.path(), 1).join("checkpoint"), 60, 1);
    let store = open_store(dir.path());
    let log = open(&store, 1, SMALL);
    let start = log.span().start;
    assert!(start > 40 && start <= 130, "{start}");
    let (read, lost) = read_around(&*log, start);
    assert_eq!((read, lost), ((start..200).collect(), Vec::new()));
    assert!(!store.incidents().stands(Kind::LogDamaged));
    assert!(store.incidents().counted(Kind::FileDamaged) > 0);
}

#[test]
fn a_mark_that_does_not_check_out_makes_no_tear_of_damage() {
    let dir = tempfile::tempdir().unwrap();
    let options = LocalOptions { inline: true, ..LocalOptions::default() };
    let store = Local::open_with(dir.path(), options).unwrap();
    let log = open(&store, 1, ONE_FILE);
    // Zeros to the end of a sector, as if a write had been lost.
    let body = super::batch_of(1, 7, &[0; 939]);
    for base_offset in 0..20 {
        log.append(&[Placed { base_offset, leader_epoch: 3, batch: body.clone() }], 0).unwrap();
    }
    wait_durable(&*log);
    drop((log, store));
    let file = log_dir(dir.path(), 1).join(format!("{:020}.log", 0));
    flip(&file, 5 * 1000 + 40, 1);
    flip(&dir.path().join("marks"), 25, 1);
    assert_lost(dir.path(), 20, &[(5, 6)], "no mark");
}

#[test]
fn an_index_in_the_place_of_a_new_segments_own_is_not_taken_for_that() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path());
    let log = open(&store, 1, SMALL);
    (0..10).for_each(|_| drop(push(&*log, 3, BYTES - 61)));
    log.seal().unwrap();
    let stray = log_dir(dir.path(), 1).join(format!("{:020}.index", 10));
    fs::copy(stray.with_file_name(format!("{:020}.index", 0)), &stray).unwrap();
    push(&*log, 3, BYTES - 61);
    assert!(!stray.exists());
    assert_eq!(read_around(&*log, 0).1, []);
}

#[test]
fn a_format_file_of_an_earlier_life_makes_no_later_one_small() {
    let dir = tempfile::tempdir().unwrap();
    let (format, life) = (dir.path().join("format"), dir.path().join("life"));
    let live = |clean: bool| {
        let store = open_store(dir.path());
        let log = open(&store, 1, SMALL);
        let epoch = store.incarnation();
        (0..40).for_each(|_| drop(push(&*log, epoch, BYTES - 61)));
        wait_durable(&*log);
        if clean {
            store.close().unwrap();
        }
        (epoch, log.span())
    };
    live(true);
    let old = fs::read(&format).unwrap();
    for _ in 0..3 {
        live(false);
    }
    let (epoch, span) = live(true);
    fs::write(&format, old).unwrap();
    fs::remove_file(&life).unwrap();
    {
        let store = open_store(dir.path());
        let log = open(&store, 1, SMALL);
        assert!(store.incarnation() > epoch, "{} after {epoch}", store.incarnation());
        assert_eq!(log.span(), span);
        log.trim_to(150).unwrap();
    }
    // Killed: what that life recorded counts before what the ones before it did.
    let store = open_store(dir.path());
    assert_eq!(open(&store, 1, SMALL).span(), weir_broker::store::Span { start: 150, ..span });
    assert_eq!(read_around(&*open(&store, 1, SMALL), 150).1, []);
}

#[test]
fn a_checkpoint_of_an_earlier_day_gives_no_offset_anew() {
    let dir = tempfile::tempdir().unwrap();
    let file = log_dir(dir.path(), 1).join("checkpoint");
    let store = open_store(dir.path());
    let log = open(&store, 1, SMALL);
    (0..40).for_each(|_| drop(push(&*log, 3, BYTES - 61)));
    wait_durable(&*log);
    log.checkpoint(b"note").unwrap();
    let old = fs::read(&file).unwrap();
    (0..100).for_each(|_| drop(push(&*log, 3, BYTES - 61)));
    wait_durable(&*log);
    log.trim_to(140).unwrap();
    drop((log, store));
    fs::write(&file, old).unwrap();
    let store = open_store(dir.path());
    assert_eq!(open(&store, 1, SMALL).span().end, 140);
}

#[test]
fn a_clean_close_keeps_what_is_known_of_logs_that_nobody_opened() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path());
    let logs: Vec<_> = (1..4).map(|n| open(&store, n, SMALL)).collect();
    logs.iter().for_each(|log| (0..100).for_each(|_| drop(push(&**log, 3, BYTES - 61))));
    store.close().unwrap();
    drop((logs, store));
    // Killed after a trim of one, and the deletion of another; then a life that looks at none of them.
    let store = open_store(dir.path());
    open(&store, 2, SMALL).trim_to(90).unwrap();
    store.delete_log(id(3)).unwrap();
    drop(store);
    let store = open_store(dir.path());
    store.close().unwrap();
    drop(store);
    fs::remove_file(log_dir(dir.path(), 1).join("checkpoint")).ok();
    let store = open_store(dir.path());
    assert_eq!(store.logs().unwrap(), [id(1), id(2)]);
    assert_eq!(open(&store, 1, SMALL).span().end, 100);
    assert_eq!(open(&store, 2, SMALL).span().start, 90);
    assert_eq!(open(&store, 3, SMALL).span().end, 0);
}

/// A hundred durable records in small segments of log 1, which no record names; and where its files are.
fn killed_without_a_record() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path());
    let log = open(&store, 1, SMALL);
    (0..100).for_each(|_| drop(push(&*log, 3, BYTES - 61)));
    wait_durable(&*log);
    drop((log, store));
    let at = log_dir(dir.path(), 1);
    drop(fs::remove_file(at.join("checkpoint")));
    (dir, at)
}

#[test]
fn what_stands_behind_a_segments_last_batch_takes_no_later_segment_out() {
    for marks in [true, false] {
        for junk in [vec![0; 100], vec![0; 5000], vec![7; 100], batch(1, 39, 39).placed(39, 3).to_vec()] {
            let (dir, at) = killed_without_a_record();
            if !marks {
                fs::remove_file(dir.path().join("marks")).unwrap();
            }
            let first = &files(&at, ".log")[0];
            fs::write(first, [fs::read(first).unwrap(), junk].concat()).unwrap();
            let store = open_store(dir.path());
            let (read, lost) = read_around(&*open(&store, 1, SMALL), 0);
            assert_eq!((read.len(), lost), (100, Vec::new()), "marks {marks}");
        }
    }
}

#[test]
fn a_log_without_a_record_begins_where_logs_begin() {
    for marks in [true, false] {
        let (dir, at) = killed_without_a_record();
        fs::remove_file(&files(&at, ".log")[0]).unwrap();
        if !marks {
            // As a power cut leaves it: the first name was never durable.
            fs::remove_file(dir.path().join("marks")).unwrap();
        }
        let second: i64 = files(&at, ".log")[0].file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let store = open_store(dir.path());
        let log = open(&store, 1, SMALL);
        assert_eq!((log.span().start, log.span().end), (0, if marks { 100 } else { 0 }));
        let lost = if marks { vec![(0, second)] } else { Vec::new() };
        assert_eq!(read_around(&*log, 0).1, lost);
        assert_eq!(store.incidents().stands(Kind::LogDamaged), marks);
    }
}

#[test]
fn batches_inside_a_torn_one_are_no_records_of_the_log() {
    let (dir, file) = lived(&[3; 6], false);
    // As after a power cut: nothing says that all of it had been synced.
    fs::remove_file(dir.path().join("marks")).unwrap();
    let inner: Vec<u8> = (6..9).flat_map(|at| batch(1, at, 39).placed(at, 3).to_vec()).collect();
    let outer = super::batch_of(1, 7, &[&[9; 50], &inner[..], &[9; 500]].concat()).placed(6, 3).to_vec();
    for kept in [outer.len() - 1, outer.len() - 100, 61 + 50 + inner.len() + 10] {
        let whole = fs::read(&file).unwrap()[..6 * BYTES].to_vec();
        fs::write(&file, [&whole, &outer[..kept]].concat()).unwrap();
        drop(fs::remove_file(file.with_file_name("checkpoint")));
        drop(fs::remove_file(dir.path().join("marks")));
        let store = open_store(dir.path());
        assert_eq!(open(&store, 1, ONE_FILE).span().end, 6, "{kept} bytes of {}", outer.len());
    }
}

#[test]
fn a_segment_whose_first_batch_is_damaged_is_none_that_overlaps_the_one_before() {
    let (dir, at) = killed_without_a_record();
    let segments = files(&at, ".log");
    let last = fs::metadata(&segments[0]).unwrap().len() as usize - BYTES;
    flip(&segments[0], last + 70, 4);
    flip(&segments[1], 70, 4);
    let second: i64 = segments[1].file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let store = open_store(dir.path());
    let (read, lost) = read_around(&*open(&store, 1, SMALL), 0);
    assert_eq!((read.len(), lost), (98, vec![(second - 1, second), (second, second + 1)]));
}

/// A batch that was acknowledged.
struct Acknowledged {
    placed: Placed,
    damaged: bool,
}

/// Several damages one after another, with appends, reads, kills and clean restarts between them.
fn grow(seed: u64) {
    let mut dice = Dice::new(seed);
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions {
        segment_bytes: [1500, 4096, 1 << 30][dice.below(3) as usize],
        segment_ms: i64::MAX,
        // With more batches to an entry, an epoch that is ambiguous takes its neighbours along.
        index_interval_bytes: 1,
    };
    let mut all: Vec<Acknowledged> = Vec::new();
    let at = log_dir(dir.path(), 1);
    for life in 0..7 {
        let what = format!("seed {seed}, life {life}");
        let store = open_store(dir.path());
        let log = open(&store, 1, options);
        let end =
            all.last().map_or(0, |last| last.placed.base_offset + last.placed.batch.header().next_offset());
        assert_eq!(log.span().end, end, "{what}");
        // Before or after the appends.
        let reads = dice.below(3);
        if reads != 1 {
            compare(&*log, &all, &what);
        }
        for _ in 0..4 + dice.below(12) {
            let (base_offset, records) = (log.span().end, 1 + dice.below(3) as i32);
            let batch = batch(records, seed as i64 * 1000 + base_offset, 20 + dice.below(300) as usize);
            let placed = Placed { base_offset, leader_epoch: life, batch };
            log.append(std::slice::from_ref(&placed), 0).unwrap();
            all.push(Acknowledged { placed, damaged: false });
        }
        wait_durable(&*log);
        if dice.below(3) == 0 {
            log.checkpoint(b"note").unwrap();
        }
        if reads != 0 {
            compare(&*log, &all, &what);
        }
        if dice.below(2) == 0 {
            store.close().unwrap();
        }
        drop((log, store));
        for _ in 0..=dice.below(2) {
            spoil(&at, &mut all, &mut dice);
        }
        if dice.below(4) == 0 {
            let mut helpers = [files(&at, ".index"), files(&at, "checkpoint")].concat();
            // Without a mark nobody knows that there was a last batch, if that is damaged, too.
            if all.last().is_some_and(|last| !last.damaged) {
                helpers.push(dir.path().join("marks"));
            }
            let Some(helper) = helpers.get(dice.below(helpers.len().max(1) as u64) as usize) else {
                continue;
            };
            let bytes = fs::metadata(helper).unwrap().len();
            flip(helper, dice.below(bytes) as usize, 1 << dice.below(8));
        }
    }
}

/// One bit of one acknowledged batch.
fn spoil(at: &Path, all: &mut [Acknowledged], dice: &mut Dice) {
    let chosen = dice.below(all.len() as u64) as usize;
    let chosen = &mut all[chosen];
    let known = &chosen.placed.batch.bytes()[21..];
    let found = files(at, ".log").into_iter().find_map(|file| {
        let place = fs::read(&file).unwrap().windows(known.len()).position(|bytes| bytes == known)?;
        Some((file, place - 21))
    });
    // It is damaged already.
    let Some((file, place)) = found else { return };
    flip(&file, place + dice.below(known.len() as u64 + 21) as usize, 1 << dice.below(8));
    chosen.damaged = true;
}

/// What was acknowledged is served as it was or refused, and refused only where it is damaged.
fn compare(log: &dyn Log, all: &[Acknowledged], what: &str) {
    for known in all {
        let (base, header) = (known.placed.base_offset, known.placed.batch.header());
        match log.read(base, 1, true, log.span().end) {
            Ok(slice) => {
                let bytes = slice.to_bytes().unwrap();
                assert_eq!(headers(&bytes)[0].base_offset, base, "{what}");
                let same = bytes[16..] == known.placed.batch.bytes()[16..];
                assert!(same, "{what}: something else is served at {base}");
            }
            Err(Error::Damaged { .. }) if known.damaged => {}
            Err(error) => panic!("{what}: {} at {base} of {}: {error}", header.record_count, log.span().end),
        }
    }
}

#[test]
fn damage_that_grows_takes_what_is_damaged_and_nothing_else() {
    // With many more seeds, three damages in one place: a whole batch between headers of which nothing is left is not found.
    let seeds = std::env::var("WEIR_CRASH_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    (0..seeds).for_each(grow);
}
