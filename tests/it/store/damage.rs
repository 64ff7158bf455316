//! Files that were damaged while nobody looked (reliability.md 5.2, rows 165 to 171).

use std::fs;
use std::path::{Path, PathBuf};

use weir_broker::store::local::Local;
use weir_broker::store::{Error, Store};

use super::{SMALL, eager, id, open, push, read_all, wait_durable};

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

fn log_dir(dir: &Path, n: u128) -> PathBuf {
    dir.join("topics").join(id(n).topic.to_string()).join("0")
}

fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    found.retain(|path| path.to_str().unwrap().ends_with(suffix));
    found.sort();
    found
}

fn bases(store: &Local, n: u128) -> Vec<i64> {
    let log = open(store, id(n));
    read_all(&*log, log.span().start, 1 << 20).iter().map(|h| h.base_offset).collect()
}

/// The damaged log is set aside whole and stays so; its neighbour works.
fn assert_quarantined(dir: &Path, what: &str) {
    for _life in 0..2 {
        let store = Local::open(dir).unwrap();
        let opened = store.open_log(id(1), SMALL, &mut |_| {});
        assert!(matches!(opened, Err(Error::Corrupt { .. })), "{what}: damage goes unseen");
        assert!(!log_dir(dir, 1).exists(), "{what}: still in its place");
        assert_eq!(fs::read_dir(dir.join("quarantine")).unwrap().count(), 1, "{what}: not set aside");
        assert_eq!(bases(&store, 2).len(), 80, "{what}: the neighbour suffers");
    }
}

#[test]
fn a_segment_cut_at_every_byte_of_its_last_batch_recovers_the_batches_before() {
    let (dir, at) = killed();
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
    fs::write(at.join("00000000000000000000.log"), [0; 5000]).unwrap();
    let store = Local::open(dir.path()).unwrap();
    assert!(bases(&store, 1).is_empty());
    let log = open(&store, id(1));
    assert_eq!(push(&*log, 1, 1, 10), 0);
}

#[test]
fn a_flipped_bit_past_the_checkpoint_never_comes_back_as_a_record() {
    let (dir, at) = killed();
    let file = at.join("00000000000000000000.log");
    let whole = fs::read(&file).unwrap();
    // Bytes 0..8 and 12..16 lie outside the CRC: there continuity has to notice.
    for byte in (0..61).chain([100, 210]) {
        for batch in [0, 4, 8] {
            let mut bytes = whole.clone();
            bytes[batch * 211 + byte] ^= 0x40;
            fs::create_dir_all(&at).unwrap();
            fs::write(&file, &bytes).unwrap();
            let store = Local::open(dir.path()).unwrap();
            match store.open_log(id(1), SMALL, &mut |_| {}) {
                // A raised epoch is plausible by itself; the batch after it then goes back.
                Ok(_) if (12..16).contains(&byte) && batch == 8 => {}
                Ok(opened) => {
                    let got = read_all(&*opened.log, 0, 1 << 20);
                    assert!(got.len() <= batch, "byte {byte} of batch {batch} went unseen");
                }
                Err(error) => assert!(matches!(error, Error::Corrupt { .. }), "{error}"),
            }
            drop(store);
            fs::remove_dir_all(dir.path().join("topics")).unwrap();
            drop(fs::remove_dir_all(dir.path().join("quarantine")));
        }
    }
}

#[test]
fn damage_before_the_checkpoint_never_shortens_the_log() {
    let (dir, at) = killed_with_segments();
    let file = &files(&at, ".log")[0];
    let mut bytes = fs::read(file).unwrap();
    bytes[361 + 200] ^= 1;
    fs::write(file, bytes).unwrap();
    let store = Local::open(dir.path()).unwrap();
    assert_eq!(open(&store, id(1)).span().end, 160);
    assert_eq!(bases(&store, 2).len(), 80);
}

#[test]
fn missing_short_long_and_overlapping_segments_set_that_log_aside() {
    type Harm = fn(&Path, &[PathBuf]);
    let harms: [(&str, Harm); 6] = [
        ("first missing", |_, logs| fs::remove_file(&logs[0]).unwrap()),
        ("middle missing", |_, logs| fs::remove_file(&logs[2]).unwrap()),
        ("last missing", |_, logs| fs::remove_file(logs.last().unwrap()).unwrap()),
        ("sealed one short", |_, logs| {
            let bytes = fs::read(&logs[1]).unwrap();
            fs::write(&logs[1], &bytes[..bytes.len() - 1]).unwrap();
        }),
        ("sealed one long", |_, logs| {
            let mut bytes = fs::read(&logs[1]).unwrap();
            bytes.extend_from_slice(b"tail");
            fs::write(&logs[1], bytes).unwrap();
        }),
        ("overlap", |at, logs| {
            fs::copy(&logs[1], at.join(format!("{:020}.log", 23))).unwrap();
        }),
    ];
    for (what, harm) in harms {
        let (dir, at) = killed_with_segments();
        harm(&at, &files(&at, ".log"));
        assert_quarantined(dir.path(), what);
    }
}

#[test]
fn a_segment_under_a_wrong_name_sets_that_log_aside() {
    let (dir, at) = killed_with_segments();
    let last = files(&at, ".log").pop().unwrap();
    fs::copy(&last, at.join(format!("{:020}.log", 160))).unwrap();
    assert_quarantined(dir.path(), "content of another segment");
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
        let got = super::headers(&log.read(offset, 1, 160).unwrap().to_bytes().unwrap());
        assert_eq!(got[0].base_offset, offset / 2 * 2);
    }
    for timestamp in 0..80 {
        assert_eq!(log.seek_time(timestamp).unwrap(), Some(timestamp * 2));
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
        let opened = store.open_log(id(1), SMALL, &mut |_| replayed += 1).unwrap();
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
    let mapped = log.read(0, 1 << 20, 2).unwrap();
    let path = log_dir(dir.path(), 1).join("00000000000000000000.log");
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(1000).unwrap();
    assert!(matches!(mapped.to_bytes(), Err(Error::Io { .. })));
    assert!(log.read(0, 1, 1).unwrap().to_bytes().is_err());
    assert_eq!(log.read(1, 100, 2).unwrap().len(), 71, "the next segment is whole");
}
