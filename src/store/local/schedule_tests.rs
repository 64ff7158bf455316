//! The threads of a log against each other, in interleavings that a seed names: writer, syncer, tidier, a reader whose
//! descriptors are evicted, trim, delete, close.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::log::LocalLog;
use super::{Local, LocalOptions};
use crate::batch::{Batch, Builder, Record};
use crate::lock::schedule::{self, Thread};
use crate::store::{Error, LogId, LogOptions, Placed, Store};

const SEEDS: u64 = 60;
const APPENDS: i64 = 6;
const ID: LogId = LogId { topic: uuid::Uuid::from_u128(7), partition: 0 };
/// Two batches to a segment.
const OPTIONS: LogOptions = LogOptions { segment_bytes: 200, segment_ms: i64::MAX, index_interval_bytes: 1 };

fn batch() -> Batch {
    let mut builder = Builder::new();
    let value = Some(bytes::Bytes::from_static(b"a value of some length"));
    builder.push(Record { timestamp_ms: 1, key: None, value, headers: Vec::new() });
    builder.build().unwrap()
}

/// A store where nobody syncs but who is told to, and one descriptor is kept at most.
fn open(dir: &std::path::Path) -> Local {
    let options =
        LocalOptions { inline: true, max_files: Some(1), checkpoint_bytes: 0, ..LocalOptions::default() };
    Local::open_with(dir, options).unwrap()
}

fn local(store: &Local) -> Arc<LocalLog> {
    store.open_log(ID, OPTIONS, &mut |_| {}).unwrap();
    super::locked(&store.open).get(&ID).unwrap().clone()
}

fn append(log: &dyn crate::store::Log, end: &AtomicI64) -> Result<(), Error> {
    let base_offset = end.load(Ordering::SeqCst);
    log.append(&[Placed { base_offset, leader_epoch: 0, batch: batch() }], base_offset)?;
    end.store(base_offset + 1, Ordering::SeqCst);
    Ok(())
}

/// Memory if there is a file system of that kind: what is synced does not matter here.
fn place() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// Reads from the start to `until`, as a consumer would.
fn read_all(log: &LocalLog, until: i64) -> i64 {
    use crate::store::Log;
    let mut next = log.span().start;
    while next < until {
        match log.read(next, 1, true, until) {
            Ok(slice) if slice.is_empty() => break,
            Ok(slice) => next = slice.next_offset(),
            // It was trimmed meanwhile.
            Err(Error::OutOfRange { start, .. }) if start > next => next = start,
            Err(error) => panic!("read at {next}: {error}"),
        }
    }
    next
}

#[test]
fn appends_syncs_upkeep_reads_and_trims_never_wait_for_each_other_in_a_circle() {
    use crate::store::Log;
    for seed in 0..SEEDS {
        let dir = place();
        let store = open(dir.path());
        let log = local(&store);
        let end = AtomicI64::new(0);
        let (end, log_ref) = (&end, &*log);
        // Segments that a reader can be sent to from the first step on.
        (0..4).for_each(|_| append(log_ref, end).unwrap());
        let threads: Vec<Thread<'_>> = vec![
            ("writer", Box::new(move || (0..APPENDS).for_each(|_| append(log_ref, end).unwrap()))),
            ("syncer", Box::new(move || (0..3).for_each(|_| log_ref.flush().unwrap()))),
            (
                "tidier",
                Box::new(move || {
                    (0..2).for_each(|_| {
                        log_ref.checkpoint(b"note").unwrap();
                        log_ref.tidy_turn();
                    });
                }),
            ),
            (
                "reader",
                Box::new(move || {
                    for _ in 0..3 {
                        let until = log_ref.span().end;
                        assert!(read_all(log_ref, until) >= until);
                    }
                }),
            ),
            (
                "trimmer",
                Box::new(move || {
                    log_ref.trim_to(2).unwrap();
                    log_ref.trim_to(3).unwrap();
                }),
            ),
        ];
        schedule::run(seed, threads);
        let span = log.span();
        assert_eq!((span.start, span.end), (3, 4 + APPENDS), "seed {seed}");
        assert!(store.incidents().reasons().is_empty(), "what a trim took away is no failure, seed {seed}");
        log.flush().unwrap();
        assert_eq!(log.span().durable, span.end, "seed {seed}");
        store.close().unwrap();
        drop((log, store));
        // What was acknowledged is there at the next open, from the start that was made durable on.
        let store = open(dir.path());
        let log = local(&store);
        assert_eq!((log.span().start, log.span().end), (3, 4 + APPENDS), "seed {seed}");
        assert_eq!(read_all(&log, 4 + APPENDS), 4 + APPENDS, "seed {seed}");
    }
}

#[test]
fn a_record_names_all_of_a_segment_if_it_names_anything_of_a_later_one() {
    for seed in 0..4 * SEEDS {
        let dir = place();
        let store = open(dir.path());
        let log = local(&store);
        let end = AtomicI64::new(0);
        let (end, log_ref) = (&end, &*log);
        let threads: Vec<Thread<'_>> = vec![
            ("writer", Box::new(move || (0..APPENDS).for_each(|_| append(log_ref, end).unwrap()))),
            ("syncer", Box::new(move || (0..APPENDS).for_each(|_| log_ref.flush().unwrap()))),
            (
                "recorder",
                Box::new(move || {
                    for _ in 0..APPENDS {
                        let parts = log_ref.record().parts;
                        let whole = parts.windows(2).all(|two| two[0].next_offset == two[1].base);
                        assert!(whole, "seed {seed}: {parts:?}");
                    }
                }),
            ),
        ];
        schedule::run(seed, threads);
        store.close().unwrap();
    }
}

#[test]
fn a_log_is_deleted_under_everybody_and_all_of_them_come_to_an_end() {
    use crate::store::Log;
    for seed in 0..SEEDS {
        let dir = place();
        let store = open(dir.path());
        let log = local(&store);
        let end = AtomicI64::new(0);
        let (end, log_ref, store_ref) = (&end, &*log, &store);
        (0..4).for_each(|_| append(log_ref, end).unwrap());
        let threads: Vec<Thread<'_>> = vec![
            // Whatever they are told, they go on; nobody waits for ever.
            ("writer", Box::new(move || (0..APPENDS).for_each(|_| drop(append(log_ref, end))))),
            ("syncer", Box::new(move || (0..3).for_each(|_| drop(log_ref.flush())))),
            ("tidier", Box::new(move || _ = log_ref.tidy_turn())),
            ("reader", Box::new(move || (0..3).for_each(|at| drop(log_ref.read(at, 1, true, 4))))),
            ("trimmer", Box::new(move || drop(log_ref.trim_to(2)))),
            ("deleter", Box::new(move || store_ref.delete_log(ID).unwrap())),
        ];
        schedule::run(seed, threads);
        assert!(append(log_ref, end).is_err(), "seed {seed}");
        assert!(log.durable().is_fenced(), "seed {seed}");
        drop(log);
        store.close().unwrap();
        drop(store);
        let store = open(dir.path());
        assert!(store.logs().unwrap().is_empty(), "seed {seed}");
    }
}

#[test]
fn a_close_beside_the_last_syncs_and_reads_leaves_everything_durable() {
    use crate::store::Log;
    for seed in 0..SEEDS {
        let dir = place();
        let store = open(dir.path());
        let log = local(&store);
        let end = AtomicI64::new(0);
        let (log_ref, store_ref) = (&*log, &store);
        (0..5).for_each(|_| append(log_ref, &end).unwrap());
        let threads: Vec<Thread<'_>> = vec![
            ("syncer", Box::new(move || (0..2).for_each(|_| drop(log_ref.flush())))),
            ("tidier", Box::new(move || _ = log_ref.tidy_turn())),
            ("reader", Box::new(move || (0..4).for_each(|at| drop(log_ref.read(at, 1, true, 5).unwrap())))),
            ("closer", Box::new(move || store_ref.close().unwrap())),
        ];
        schedule::run(seed, threads);
        assert_eq!(log.span().durable, 5, "seed {seed}");
        drop((log, store));
        let store = open(dir.path());
        assert_eq!(store.incarnation(), 0, "closed cleanly, seed {seed}");
        assert_eq!(local(&store).span().end, 5, "seed {seed}");
    }
}
