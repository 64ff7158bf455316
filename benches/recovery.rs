//! How fast a log that was never checkpointed is scanned at open, and what opening a store costs.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a bench prints, reads the clock and knows its own buffers"
)]

use std::time::{Duration, Instant};

use weir_broker::batch::Batch;
use weir_broker::store::local::Local;
use weir_broker::store::{LogId, LogOptions, Placed, Store};

const OPTIONS: LogOptions =
    LogOptions { segment_bytes: 1 << 30, segment_ms: i64::MAX, index_interval_bytes: 4096 };

fn main() {
    for bytes in [200, 16 << 10, 1 << 20] {
        scan(bytes);
    }
    opens();
}

/// Half a GB of batches of one size, killed, opened again (page cache warm).
fn scan(bytes: usize) {
    let dir = tempfile::tempdir().expect("a directory");
    let total = 1 << 29;
    {
        let store = Local::open(dir.path()).expect("a store");
        let log = store.open_log(id(0), OPTIONS, &mut |_| {}).expect("a log").log;
        let batch = batch(bytes);
        let mut base_offset = 0;
        while base_offset < (total / bytes) as i64 {
            let group = (base_offset..).take(64.min(total / bytes));
            let placed: Vec<_> = group
                .map(|base_offset| Placed { base_offset, leader_epoch: 0, batch: batch.clone() })
                .collect();
            base_offset += placed.len() as i64;
            log.append(&placed, 0).expect("an append");
        }
        // On disk, so that the scan's own sync is not what is measured. No checkpoint is due below 64 MiB.
        std::fs::File::open(dir.path()).and_then(|d| d.sync_all()).expect("a sync");
        rustix::fs::sync();
    }
    let store = Local::open(dir.path()).expect("a store");
    let begun = Instant::now();
    let mut seen = 0;
    store.open_log(id(0), OPTIONS, &mut |_| seen += 1).expect("a log");
    let took = begun.elapsed();
    println!(
        "scan of {bytes:>8} B batches: {:.2} GB/s, {seen} headers replayed",
        total as f64 / took.as_secs_f64() / 1e9
    );
}

/// Fresh, and after a clean close with 10,000 partitions.
fn opens() {
    let best = (0..20).map(|_| {
        let dir = tempfile::tempdir().expect("a directory");
        let begun = Instant::now();
        let store = Local::open(dir.path()).expect("a store");
        let took = begun.elapsed();
        let begun = Instant::now();
        store.meta().get("cluster").expect("small state");
        (took, begun.elapsed())
    });
    let (fresh, meta): (Vec<Duration>, Vec<Duration>) = best.unzip();
    println!("fresh open: {:?} median; first use of small state: {:?}", median(fresh), median(meta));

    let dir = tempfile::tempdir().expect("a directory");
    let store = Local::open(dir.path()).expect("a store");
    for n in 0..10_000 {
        let log = store.open_log(id(n), OPTIONS, &mut |_| {}).expect("a log").log;
        log.append(&[Placed { base_offset: 0, leader_epoch: 0, batch: batch(200) }], 0).expect("an append");
    }
    let begun = Instant::now();
    store.close().expect("a clean close");
    println!("clean close of 10,000 dirty logs: {:?}", begun.elapsed());
    drop(store);
    let begun = Instant::now();
    let store = Local::open(dir.path()).expect("a store");
    let opened = begun.elapsed();
    for n in 0..10_000 {
        store.open_log(id(n), OPTIONS, &mut |_| {}).expect("a log");
    }
    println!("clean open with 10,000 logs: {opened:?}; all of them opened too: {:?}", begun.elapsed());
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all[all.len() / 2]
}

fn id(n: u128) -> LogId {
    LogId { topic: uuid::Uuid::from_u128(n / 100), partition: (n % 100) as i32 }
}

/// A batch of one claimed record that is `bytes` long in all.
fn batch(bytes: usize) -> Batch {
    let mut b = vec![0x55; bytes];
    b[..61].fill(0);
    b[8..12].copy_from_slice(&i32::try_from(bytes - 12).expect("small").to_be_bytes());
    b[16] = 2;
    b[43..57].fill(0xFF);
    b[57..61].copy_from_slice(&1i32.to_be_bytes());
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &b[21..]) as u32;
    b[17..21].copy_from_slice(&crc.to_be_bytes());
    Batch::stored(b.into()).expect("a sound batch")
}
