//! What an append costs beside the raw `pwritev` it makes: time per call and CPU per GB, no sync.
//!
//! Run with `TMPDIR` on the file system to measure. Each size is written by the log and by a bare loop that
//! reserves and writes the same bytes; both lines are printed, best of three rounds.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a bench prints, reads the clock and knows its own buffers"
)]

use std::fs;
use std::io::IoSlice;
use std::time::{Duration, Instant};

use weir_broker::batch::Batch;
use weir_broker::store::local::{Local, LocalOptions};
use weir_broker::store::{LogId, LogOptions, Placed, Store};

const OPTIONS: LogOptions =
    LogOptions { segment_bytes: 1 << 30, segment_ms: i64::MAX, index_interval_bytes: 4096 };
const ROUNDS: usize = 3;

fn main() {
    println!(
        "{:>9} {:>10} {:>10} {:>12} {:>12} {:>8}",
        "bytes", "log ns", "raw ns", "log CPU-s/GB", "raw CPU-s/GB", "added ns"
    );
    for (bytes, calls) in
        [(200, 400_000), (4 << 10, 100_000), (16 << 10, 40_000), (64 << 10, 10_000), (1 << 20, 600)]
    {
        let log = best(|| through_log(bytes, calls));
        let raw = best(|| through_pwritev(bytes, calls));
        let per_call = |cost: Cost| cost.wall.as_nanos() / calls as u128;
        let per_gb = |cost: Cost| cost.cpu.as_secs_f64() / (bytes * calls) as f64 * 1e9;
        let added = cpu_per_call(log, calls) - cpu_per_call(raw, calls);
        println!(
            "{bytes:>9} {:>10} {:>10} {:>12.3} {:>12.3} {added:>8.0}",
            per_call(log),
            per_call(raw),
            per_gb(log),
            per_gb(raw)
        );
    }
}

#[derive(Clone, Copy)]
struct Cost {
    wall: Duration,
    cpu: Duration,
}

fn cpu_per_call(cost: Cost, calls: usize) -> f64 {
    cost.cpu.as_nanos() as f64 / calls as f64
}

fn best(run: impl Fn() -> Cost) -> Cost {
    (0..ROUNDS).map(|_| run()).min_by_key(|cost| cost.cpu).expect("at least one round")
}

fn measured(work: impl FnOnce()) -> Cost {
    let (wall, cpu) = (Instant::now(), thread_cpu());
    work();
    Cost { wall: wall.elapsed(), cpu: thread_cpu().saturating_sub(cpu) }
}

/// Time this thread has been on a CPU, from the scheduler's own count.
fn thread_cpu() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux with scheduler statistics");
    let nanos = stat.split(' ').next().and_then(|n| n.parse().ok()).expect("a number comes first");
    Duration::from_nanos(nanos)
}

fn through_log(bytes: usize, calls: usize) -> Cost {
    let dir = tempfile::tempdir().expect("a directory");
    let options = LocalOptions { early_writeback: false, ..LocalOptions::default() };
    let store = Local::open_with(dir.path(), options).expect("a store");
    let id = LogId { topic: uuid::Uuid::from_u128(1), partition: 0 };
    let log = store.open_log(id, OPTIONS, &mut |_| {}).expect("a log").log;
    let batch = batch(bytes);
    measured(|| {
        for base_offset in 0..calls as i64 {
            let placed = [Placed { base_offset, leader_epoch: 0, batch: batch.clone() }];
            log.append(&placed, 0).expect("an append");
        }
    })
}

fn through_pwritev(bytes: usize, calls: usize) -> Cost {
    let file = tempfile::tempfile().expect("a file");
    let (head, rest) = (vec![1; 16], vec![2; bytes - 16]);
    let (mut at, mut reserved) = (0, 0);
    measured(|| {
        for _ in 0..calls {
            if at + bytes as u64 > reserved {
                let flags = rustix::fs::FallocateFlags::KEEP_SIZE;
                rustix::fs::fallocate(&file, flags, reserved, 64 << 20).expect("space");
                reserved += 64 << 20;
            }
            let parts = [IoSlice::new(&head), IoSlice::new(&rest)];
            at += rustix::io::pwritev(&file, &parts, at).expect("a write") as u64;
        }
    })
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
