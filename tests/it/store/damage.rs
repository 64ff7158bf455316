//! Files that were damaged while nobody looked (reliability.md 5.2, rows 165 to 171).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_broker::store::local::Local;
use weir_broker::store::local::LocalOptions;
use weir_broker::store::{Error, Kind, Log, LogOptions, Placed, Replayed, Store};

use super::{SMALL, batch, batch_of, eager, id, open, push, read_all, wait_durable};

const NINE: [i64; 9] = [0, 2, 4, 6, 8, 10, 12, 14, 16];

/// A store killed (not closed) after nine batches of two records in one segment; no checkpoint.
fn killed() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let store = Local::open(dir.path()).unwrap();
    let log = open(&store, id(1));
    (0..9).for_each(|n| {
        push(&*log, 2, n, 150);
    });
    wait_durable(&*log);
    drop(store);
    let at = log_dir(dir.path(), 1);
    (dir, at)
}

/// A store killed after many segments, checkpointed at the end, with an untouched neighbour.
fn killed_with_segments() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let store = eager(dir.path());
    for n in [1, 2] {
        let log = open(&store, id(n));
        (0..80).for_each(|t| {
            push(&*log, 2, t, 300);
        });
        wait_durable(&*log);
        log.checkpoint(b"note").unwrap();
        let checkpoint = log_dir(dir.path(), n).join("checkpoint");
        let named = |found: &[u8]| found.windows(4).any(|w| w == b"note");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !fs::read(&checkpoint).is_ok_and(|found| named(&found)) {
            assert!(std::time::Instant::now() < deadline, "no checkpoint in time");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
    drop(store);
    let at = log_dir(dir.path(), 1);
    (dir, at)
}

pub(super) fn log_dir(dir: &Path, n: u128) -> PathBuf {
    dir.join("topics").join(id(n).topic.to_string()).join("0")
}

pub(super) fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    found.retain(|path| path.to_str().unwrap().ends_with(suffix));
    found.sort();
    found
}

fn bases(store: &Local, n: u128) -> Vec<i64> {
    let log = open(store, id(n));
    read_all(&*log, log.span().start, 1 << 20).iter().map(|h| h.base_offset).collect()
}

#[test]
fn a_segment_cut_at_every_byte_of_its_last_batch_recovers_the_batches_before() {
    let (dir, at) = killed();
    // As after a power cut: nothing says that all of it had been synced.
    fs::remove_file(dir.path().join("marks")).unwrap();
    let file = at.join("00000000000000000000.log");
    let whole = fs::read(&file).unwrap();
    for cut in whole.len() - 211..whole.len() {
        fs::write(&file, &whole[..cut]).unwrap();
        let store = Local::open(dir.path()).unwrap();
        assert_eq!(bases(&store, 1), NINE[..8], "cut at {cut}");
        drop(store);
        fs::remove_file(at.join("checkpoint")).unwrap();
    }
}

#[test]
fn zeros_after_the_last_batch_are_no_batches() {
    for zeros in [1, 60, 61, 4096, 100_000] {
        let (dir, at) = killed();
        let file = at.join("00000000000000000000.log");
        let mut bytes = fs::read(&file).unwrap();
        let whole = bytes.len();
        bytes.resize(whole + zeros, 0);
        fs::write(&file, bytes).unwrap();
        let store = Local::open(dir.path()).unwrap();
        assert_eq!(bases(&store, 1), NINE, "{zeros} zeros");
        assert_eq!(fs::metadata(&file).unwrap().len(), whole as u64);
    }
}

#[test]
fn a_segment_of_zeros_is_an_empty_log() {
    let (dir, at) = killed();
    // As after a power cut: nothing says that all of it had been synced.
    fs::remove_file(dir.path().join("marks")).unwrap();
    fs::write(at.join("00000000000000000000.log"), [0; 5000]).unwrap();
    let store = Local::open(dir.path()).unwrap();
    assert!(bases(&store, 1).is_empty());
    let log = open(&store, id(1));
    assert_eq!(push(&*log, 1, 1, 10), 0);
}

#[test]
fn whatever_bit_turns_in_a_closed_log_is_seen_at_the_first_read_and_takes_one_batch() {
    let (dir, at) = killed_with_segments();
    Local::open(dir.path()).map(|store| (open(&store, id(1)), store.close().unwrap())).unwrap();
    // Of a segment in the middle, and of the last with the very last batch.
    let last = files(&at, ".log").len() - 1;
    let batches = [(1, 0), (1, 5), (last, 0), (last, 1), (last, 2)];
    turned_bits_are_seen(dir.path(), &at, (0..61).chain([100, 360]), &batches);
}

#[test]
fn whatever_bit_turns_in_the_last_batch_that_a_checkpoint_names_is_seen_after_a_kill() {
    let (dir, at) = killed_with_segments();
    let last = files(&at, ".log").len() - 1;
    turned_bits_are_seen(dir.path(), &at, 0..21, &[(last, 2)]);
}

/// Turns a bit of each of these bytes, in each of these batches of segments, one at a time.
fn turned_bits_are_seen(
    dir: &Path,
    at: &Path,
    bytes_of_batch: impl Iterator<Item = usize>,
    batches: &[(usize, usize)],
) {
    let logs = files(at, ".log");
    let keep = |path: &PathBuf| (path.clone(), fs::read(path).unwrap());
    let root: Vec<_> =
        ["clean", "format", "life", "baseline"].map(|name| dir.join(name)).into_iter().collect();
    let kept: Vec<_> = root.iter().filter(|path| path.exists()).map(keep).collect();
    let inside: Vec<_> = fs::read_dir(at).unwrap().map(|entry| keep(&entry.unwrap().path())).collect();
    for byte in bytes_of_batch {
        for &(log, batch) in batches {
            fs::remove_dir_all(at).unwrap();
            fs::create_dir(at).unwrap();
            kept.iter().chain(&inside).for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
            let mut bytes = fs::read(&logs[log]).unwrap();
            bytes[batch * 361 + byte] ^= 0x10;
            fs::write(&logs[log], &bytes).unwrap();
            let base: i64 = logs[log].file_stem().unwrap().to_str().unwrap().parse().unwrap();
            let lost = (base + batch as i64 * 2, base + batch as i64 * 2 + 2);
            let store = Local::open(dir).unwrap();
            let (read, found) = read_around(&*open(&store, id(1)), 0);
            assert_eq!(
                (read.len(), found),
                (79, vec![lost]),
                "byte {byte} of batch {batch} of segment {log}"
            );
            assert!(store.incidents().stands(Kind::LogDamaged));
        }
    }
}

#[test]
fn a_first_read_near_the_end_of_a_closed_segment_looks_at_little_of_it() {
    let disk = crate::crash::Faulty::new(crate::crash::Fault::None, 1);
    let options = || LocalOptions { disk: Arc::new(disk.clone()), inline: true, ..LocalOptions::default() };
    let large = LogOptions { segment_bytes: 1 << 30, segment_ms: i64::MAX, index_interval_bytes: 4096 };
    let open = || Local::open_with(Path::new("/data"), options()).unwrap();
    {
        let store = open();
        let log = store.open_log(id(1), large, &mut |_| {}).unwrap().log;
        (0..12_000).for_each(|t| {
            push(&*log, 1, t, 1000);
        });
        store.close().unwrap();
    }
    let store = open();
    let log = store.open_log(id(1), large, &mut |_| {}).unwrap().log;
    let before = disk.bytes_read();
    let slice = log.read(11_998, 1000, true, 12_000).unwrap();
    assert_eq!(super::headers(&slice.to_bytes().unwrap())[0].base_offset, 11_998);
    let read = disk.bytes_read() - before;
    assert!(read < 3 << 20, "{read} bytes of 12 MB");
    let before = disk.bytes_read();
    log.read(11_997, 1000, true, 12_000).unwrap();
    assert!(disk.bytes_read() - before < 64 << 10, "a chunk is verified once");
}

/// Everything that can be read from `from` on, and the damaged places in between.
pub(super) fn read_around(log: &dyn Log, from: i64) -> (Vec<i64>, Vec<(i64, i64)>) {
    let (mut read, mut lost) = (Vec::new(), Vec::new());
    let (mut offset, end) = (from, log.span().end);
    while offset < end {
        match log.read(offset, 1 << 20, true, end) {
            Ok(slice) => {
                let got = super::headers(&slice.to_bytes().unwrap());
                offset = got.last().expect("a read below the end gives a batch").next_offset();
                read.extend(got.iter().map(|header| header.base_offset));
            }
            Err(Error::Damaged { from, to, .. }) => {
                assert!(from == offset && to > offset, "{from}..{to} at {offset}");
                lost.push((from, to));
                offset = to;
            }
            Err(error) => panic!("{error}"),
        }
    }
    (read, lost)
}

/// In this life and the next two, batches of two records are read up to `lost` and after it, and appends go on behind.
fn assert_one_place_is_lost(dir: &Path, n: u128, end: i64, lost: (i64, i64), what: &str) {
    let whole: Vec<i64> = (0..end).step_by(2).filter(|at| *at < lost.0 || *at >= lost.1).collect();
    let mut more = Vec::new();
    for life in 0..3 {
        let store = Local::open(dir).unwrap();
        let log = open(&store, id(n));
        assert_eq!(log.span().end, end + life, "{what}: offsets are used again in life {life}");
        let (read, found) = read_around(&*log, 0);
        assert_eq!(read, [whole.clone(), more.clone()].concat(), "{what}: life {life}");
        assert_eq!(found, if lost.0 < lost.1 { vec![lost] } else { Vec::new() }, "{what}: life {life}");
        more.push(push(&*log, 1, 1, 10));
        wait_durable(&*log);
        if life == 1 {
            store.close().unwrap();
        }
        assert!(!dir.join("quarantine").exists(), "{what}: one place takes the partition");
    }
}

#[test]
fn a_missing_short_long_or_overlapping_segment_takes_that_place_out_and_not_the_log() {
    type Harm = fn(&Path, &[PathBuf]);
    type Lost = fn(&[i64]) -> (i64, i64);
    let base = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().parse::<i64>().unwrap();
    let harms: [(&str, Harm, Lost); 8] = [
        ("first missing", |_, logs| fs::remove_file(&logs[0]).unwrap(), |at| (at[0], at[1])),
        ("middle missing", |_, logs| fs::remove_file(&logs[2]).unwrap(), |at| (at[2], at[3])),
        (
            "last missing",
            |_, logs| fs::remove_file(logs.last().unwrap()).unwrap(),
            |at| (at[at.len() - 1], 160),
        ),
        ("sealed one short", |_, logs| cut(&logs[1], 1), |at| (at[2] - 2, at[2])),
        ("sealed one empty", |_, logs| fs::write(&logs[1], b"").unwrap(), |at| (at[1], at[2])),
        ("last one short", |_, logs| cut(logs.last().unwrap(), 1), |_| (158, 160)),
        ("sealed one long", |_, logs| extend(&logs[1], b"tail"), |_| (0, 0)),
        (
            "overlap",
            |at, logs| assert!(fs::copy(&logs[1], at.join(format!("{:020}.log", 23))).is_ok()),
            |_| (0, 0),
        ),
    ];
    for (what, harm, lost) in harms {
        let (dir, at) = killed_with_segments();
        let logs = files(&at, ".log");
        let bases: Vec<_> = logs.iter().map(base).collect();
        harm(&at, &logs);
        assert_one_place_is_lost(dir.path(), 1, 160, lost(&bases), what);
        assert_eq!(bases_of(dir.path(), 2).len(), 80, "{what}: the neighbour suffers");
    }
}

fn bases_of(dir: &Path, n: u128) -> Vec<i64> {
    bases(&Local::open(dir).unwrap(), n)
}

fn cut(path: &Path, bytes: usize) {
    let whole = fs::read(path).unwrap();
    fs::write(path, &whole[..whole.len() - bytes]).unwrap();
}

fn extend(path: &Path, bytes: &[u8]) {
    let whole = fs::read(path).unwrap();
    fs::write(path, [&whole, bytes].concat()).unwrap();
}

#[test]
fn a_segment_under_a_wrong_name_is_set_aside() {
    let (dir, at) = killed_with_segments();
    let last = files(&at, ".log").pop().unwrap();
    fs::copy(&last, at.join(format!("{:020}.log", 160))).unwrap();
    assert_one_place_is_lost(dir.path(), 1, 160, (0, 0), "content of another segment");
    assert_eq!(files(&at, ".cut0").len(), 1);
}

#[test]
fn a_bad_batch_past_the_checkpoint_with_whole_ones_after_it_is_damage_and_no_tear() {
    // Kind of harm, by the byte of a batch of 211 bytes; the epoch's bytes 12..16 lie outside the checksum.
    for byte in [0, 3, 7, 8, 10, 11, 12, 13, 15, 16, 17, 23, 30, 60, 100, 210] {
        for batch in [0, 4, 7] {
            let (dir, at) = killed();
            let file = at.join("00000000000000000000.log");
            let mut bytes = fs::read(&file).unwrap();
            bytes[batch * 211 + byte] ^= 0x40;
            fs::write(&file, &bytes).unwrap();
            let lost = (batch as i64 * 2, batch as i64 * 2 + 2);
            assert_one_place_is_lost(dir.path(), 1, 18, lost, &format!("byte {byte} of batch {batch}"));
            assert_eq!(&fs::read(&file).unwrap()[..9 * 211], &bytes, "the damaged place is kept");
        }
    }
}

#[test]
fn a_torn_tail_is_kept_aside_before_it_is_cut() {
    let (dir, at) = killed();
    // As after a power cut: nothing says that all of it had been synced.
    fs::remove_file(dir.path().join("marks")).unwrap();
    let file = at.join("00000000000000000000.log");
    cut(&file, 100);
    let whole = fs::read(&file).unwrap();
    for round in 0..2 {
        let store = Local::open(dir.path()).unwrap();
        assert_eq!(bases(&store, 1), NINE[..8]);
        drop(store);
        assert_eq!(fs::read(at.join(format!("00000000000000000000.cut{round}"))).unwrap(), &whole[8 * 211..]);
        assert_eq!(fs::metadata(&file).unwrap().len(), 8 * 211);
        fs::write(&file, &whole).unwrap();
        fs::remove_file(at.join("checkpoint")).unwrap();
    }
}

#[test]
fn an_empty_segment_before_others_never_shares_its_name_with_what_is_appended() {
    for bytes in [0, 1, 300] {
        let dir = tempfile::tempdir().unwrap();
        let store = eager(dir.path());
        let log = open(&store, id(1));
        (0..40).for_each(|t| {
            push(&*log, 2, t, 300);
        });
        wait_durable(&*log);
        drop((log, store));
        let at = log_dir(dir.path(), 1);
        let logs = files(&at, ".log");
        assert!(logs.len() > 3);
        let whole = fs::read(&logs[1]).unwrap();
        fs::write(&logs[1], &whole[..bytes]).unwrap();
        files(&at, ".index")
            .iter()
            .chain(&[at.join("checkpoint")])
            .for_each(|path| drop(fs::remove_file(path)));
        let mut acknowledged = Vec::new();
        for life in 0..3 {
            let store = eager(dir.path());
            let log = open(&store, id(1));
            (0..20).for_each(|t| acknowledged.push(push(&*log, 2, 1000 + t, 300)));
            log.seal().unwrap();
            wait_durable(&*log);
            let (read, _) = read_around(&*log, log.span().start);
            assert!(acknowledged.iter().all(|at| read.contains(at)), "{bytes} bytes, life {life}: {read:?}");
            let kept = files(&at, ".log").iter().map(|path| fs::metadata(path).unwrap().len()).min();
            assert!(kept > Some(0), "an empty file stays among the segments");
            if life == 1 {
                store.close().unwrap();
            }
        }
    }
}

#[test]
fn what_a_record_holds_is_never_taken_for_the_batch_after_a_damaged_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = Local::open(dir.path()).unwrap();
    let one_file = LogOptions { segment_bytes: 1 << 30, ..SMALL };
    let log = store.open_log(id(1), one_file, &mut |_| {}).unwrap().log;
    let inner = |base: i64, records| batch(records, 7, 40).placed(base, 3);
    push(&*log, 2, 0, 100);
    // A whole batch of its own in a record's place, with the offset that could follow, and headers that claim much.
    let mut body = inner(4, 900).to_vec();
    for n in 0..2000u32 {
        let mut fake = inner(3, 5)[..61].to_vec();
        fake[8..12].copy_from_slice(&(50_000 + n).to_be_bytes());
        body.extend(fake);
    }
    log.append(&[Placed { base_offset: 2, leader_epoch: 3, batch: batch_of(2, 1, &body) }], 1).unwrap();
    (0..500).for_each(|t| {
        push(&*log, 2, t, 100);
    });
    wait_durable(&*log);
    drop((log, store));
    let at = log_dir(dir.path(), 1);
    let file = files(&at, ".log")[0].clone();
    let mut bytes = fs::read(&file).unwrap();
    bytes[161 + 9] ^= 0x40;
    fs::write(&file, bytes).unwrap();
    drop(fs::remove_file(at.join("checkpoint")));
    assert_one_place_is_lost(dir.path(), 1, 1004, (2, 4), "batches inside a batch");
}

#[test]
fn a_scrambled_index_is_rebuilt() {
    let scrambles: [fn(Vec<u8>) -> Vec<u8>; 6] = [
        |_| Vec::new(),
        |bytes| vec![0; bytes.len()],
        |bytes| bytes[..bytes.len() - 5].to_vec(),
        |mut bytes| {
            bytes.extend_from_slice(&[7; 16]);
            bytes
        },
        |mut bytes| {
            bytes[25] ^= 0x80;
            bytes
        },
        |bytes| bytes.into_iter().rev().collect(),
    ];
    for scramble in scrambles {
        let (dir, at) = killed_with_segments();
        let indexes = files(&at, ".index");
        assert!(indexes.len() > 3);
        for index in &indexes {
            fs::write(index, scramble(fs::read(index).unwrap())).unwrap();
        }
        check_probes(dir.path());
    }
    let (dir, at) = killed_with_segments();
    let indexes = files(&at, ".index");
    fs::copy(&indexes[0], &indexes[1]).unwrap();
    fs::remove_file(&indexes[2]).unwrap();
    check_probes(dir.path());
}

/// Every offset and every timestamp is found as by brute force (batch n: offsets 2n, 2n+1, timestamp n).
fn check_probes(dir: &Path) {
    let store = Local::open(dir).unwrap();
    let log = open(&store, id(1));
    for offset in 0..160 {
        let got = super::headers(&log.read(offset, 1, true, 160).unwrap().to_bytes().unwrap());
        assert_eq!(got[0].base_offset, offset / 2 * 2);
    }
    for timestamp in 0..80 {
        assert_eq!(log.seek_time(timestamp, 0).unwrap(), Some(timestamp * 2));
    }
}

#[test]
fn a_scrambled_checkpoint_is_ignored_and_the_log_is_scanned() {
    let scrambles: [fn(Vec<u8>) -> Vec<u8>; 4] = [
        |_| Vec::new(),
        |bytes| bytes[..bytes.len() / 2].to_vec(),
        |bytes| vec![0xFF; bytes.len()],
        |mut bytes| {
            bytes[7] = b'9';
            bytes
        },
    ];
    for scramble in scrambles {
        let (dir, at) = killed_with_segments();
        let file = at.join("checkpoint");
        fs::write(&file, scramble(fs::read(&file).unwrap())).unwrap();
        let store = Local::open(dir.path()).unwrap();
        let mut replayed = 0;
        let opened = store
            .open_log(id(1), SMALL, &mut |seen| replayed += usize::from(matches!(seen, Replayed::Batch(_))))
            .unwrap();
        assert!(opened.note.is_none());
        assert_eq!((replayed, opened.log.span().end), (80, 160));
    }
}

#[test]
fn a_clean_marker_that_does_not_fit_the_files_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = Local::open(dir.path()).unwrap();
        let log = open(&store, id(1));
        (0..9).for_each(|n| {
            push(&*log, 2, n, 150);
        });
        store.close().unwrap();
    }
    let file = log_dir(dir.path(), 1).join("00000000000000000000.log");
    let mut bytes = fs::read(&file).unwrap();
    bytes.extend_from_slice(&[1; 100]);
    fs::write(&file, bytes).unwrap();
    let store = Local::open(dir.path()).unwrap();
    assert_eq!(bases(&store, 1), NINE, "longer: what was closed stays, the rest is cut");
    drop(store);
}

#[test]
fn a_file_cut_under_a_running_store_is_an_error_and_no_crash() {
    let dir = tempfile::tempdir().unwrap();
    let store = Local::open(dir.path()).unwrap();
    let log = open(&store, id(1));
    push(&*log, 1, 1, 100_000);
    push(&*log, 1, 2, 10);
    let mapped = log.read(0, 1 << 20, true, 2).unwrap();
    let path = log_dir(dir.path(), 1).join("00000000000000000000.log");
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(1000).unwrap();
    assert!(matches!(mapped.to_bytes(), Err(Error::Io { .. })));
    assert!(matches!(log.read(0, 1, true, 1), Err(Error::Corrupt { .. })));
    assert_eq!(log.read(1, 100, true, 2).unwrap().len(), 71, "the next segment is whole");
}
