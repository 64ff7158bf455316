//! What a check of a shard's limits costs per batch.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use weir_broker::quota::{Bucket, Rate, Steady};

fn checks(c: &mut Criterion) {
    let (Some(bytes), Some(records)) = (Rate::new(1 << 40), Rate::new(1 << 40)) else { return };
    let (byte_bucket, record_bucket, steady) = (Bucket::default(), Bucket::default(), Steady::default());
    // A thousand batches in a millisecond.
    let mut wall_us = 1_700_000_000_000_000;
    c.bench_function("quota/charge bytes and records", |b| {
        b.iter(|| {
            wall_us += 1;
            let now = steady.ns(black_box(wall_us / 1000));
            let wait = byte_bucket.charge(bytes, black_box(100_000), now);
            wait.max(record_bucket.charge(records, black_box(100), now))
        });
    });
    c.bench_function("quota/take bytes", |b| {
        b.iter(|| byte_bucket.take(bytes, black_box(1000), steady.ns(black_box(wall_us / 1000))));
    });
}

criterion_group!(benches, checks);
criterion_main!(benches);
