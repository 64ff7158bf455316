//! `weir inspect` on good, torn and damaged segments.

use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use tempfile::TempDir;
use weir_broker::batch::{Builder, Record};

use super::{run, text};

/// What a test does to a good segment.
type Change<'a> = &'a dyn Fn(&mut Vec<u8>);

/// A segment of two batches, with three records and one.
fn segment(dir: &TempDir, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let mut bytes = Vec::new();
    for (base, count) in [(0_i64, 3), (3, 1)] {
        let mut builder = Builder::new();
        for at in 0..count {
            let value = Some(Bytes::from(format!("record {at}")));
            builder.push(Record { timestamp_ms: 1_790_000_000_000, value, ..Record::default() });
        }
        let from = bytes.len();
        bytes.extend_from_slice(builder.build().unwrap().bytes());
        bytes[from..from + 8].copy_from_slice(&base.to_be_bytes());
        bytes[from + 12..from + 16].copy_from_slice(&[0; 4]);
    }
    change(&mut bytes);
    let path = dir.path().join("00000000000000000000.log");
    fs::write(&path, bytes).unwrap();
    path
}

/// Exit code, lines on stdout, stderr.
fn inspect(change: impl FnOnce(&mut Vec<u8>)) -> (Option<i32>, Vec<String>, String) {
    let dir = tempfile::tempdir().unwrap();
    let output = run(&["inspect", segment(&dir, change).to_str().unwrap()]);
    (output.status.code(), text(&output.stdout).lines().map(str::to_owned).collect(), text(&output.stderr))
}

#[test]
fn a_good_segment_prints_a_line_per_batch_and_a_sum() {
    let (code, lines, said) = inspect(|_| {});
    assert_eq!((code, said.as_str()), (Some(0), ""));
    assert!(lines[0].starts_with("offset=0..2 position=0 ") && lines[0].ends_with(" ok"), "{lines:?}");
    assert!(lines[1].starts_with("offset=3..3 "), "{lines:?}");
    assert!(lines[2].starts_with("2 batches, 4 records, "), "{lines:?}");
}

#[test]
fn an_empty_segment_is_good() {
    let (code, lines, _) = inspect(Vec::clear);
    assert_eq!((code, lines.as_slice()), (Some(0), &["0 batches, 0 records, 0 bytes".to_owned()][..]));
}

#[test]
fn what_was_good_before_the_damage_is_printed_and_the_damage_is_one_line() {
    let tear = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 5);
    let flip = |bytes: &mut Vec<u8>| *bytes.last_mut().unwrap() ^= 1;
    let zeros = |bytes: &mut Vec<u8>| bytes.extend([0; 4096]);
    let again = |bytes: &mut Vec<u8>| bytes.extend(bytes.clone());
    let huge = |bytes: &mut Vec<u8>| {
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff].iter().chain([9; 80].iter()))
    };
    let changes: [(Change<'_>, &str, usize); 5] = [
        (&tear, "torn", 1),
        (&flip, "CRC", 1),
        (&zeros, "zeros", 2),
        (&again, "offset 0 comes again", 2),
        (&huge, "torn", 2),
    ];
    for (change, words, good) in changes {
        let (code, lines, said) = inspect(change);
        assert_eq!(code, Some(1), "{words}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains("damaged at byte") && said.contains(words), "{words}: {said}");
        assert!(lines[lines.len() - 2].starts_with("damage: bytes "), "{words}: {lines:?}");
        assert!(lines.last().unwrap().starts_with(&format!("{good} batches")), "{words}: {lines:?}");
    }
}

#[test]
fn what_follows_damage_is_printed_and_the_places_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut second = 0;
    let path = segment(&dir, |bytes| {
        second = 12 + u32::from_be_bytes(bytes[8..12].try_into().unwrap()) as usize;
        // Two batches more, as far behind as the first two are.
        let mut more = bytes.clone();
        more[..8].copy_from_slice(&4_i64.to_be_bytes());
        more[second..second + 8].copy_from_slice(&7_i64.to_be_bytes());
        bytes.extend(&more);
        bytes[30] ^= 1;
        let third = bytes.len() - more.len();
        bytes[third + 30] ^= 1;
    });
    let end = fs::metadata(&path).unwrap().len() as usize;
    let third = end / 2;
    for of in [path.as_path(), dir.path()] {
        let output = run(&["inspect", of.to_str().unwrap()]);
        let lines = text(&output.stdout);
        let hole = |from, until, a, b| format!("damage: bytes {from}..{until}, offsets {a}..{b} are lost: ");
        assert!(lines.contains(&hole(0, second, 0, 3)), "{lines}");
        assert!(lines.contains(&hole(third, third + second, 4, 7)), "{lines}");
        assert!(lines.contains(&format!("2 batches, 2 records, {} bytes", end - 2 * second)), "{lines}");
        let said = text(&output.stderr);
        assert!(said.contains("damaged at byte 0: ") && said.contains("at 1 places more"), "{said}");
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1));
    }
}

#[test]
fn what_is_no_segment_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path().to_owned(), dir.path().join("absent")] {
        let output = run(&["inspect", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(text(&output.stderr).lines().count(), 1, "{output:?}");
    }
}
