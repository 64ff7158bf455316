//! What one produced batch costs before it reaches the log: CRC-32C, header rules, record walk; and building.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a bench stops where it fails")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use weir_broker::batch::{Batch, Builder, Record, Rules};

/// Record value bytes and batch bytes.
const SHAPES: [(usize, usize); 6] =
    [(100, 16 << 10), (100, 64 << 10), (100, 1 << 20), (1024, 16 << 10), (1024, 64 << 10), (1024, 1 << 20)];

fn records(value_bytes: usize, batch_bytes: usize) -> Vec<Record> {
    let value = Bytes::from(vec![b'v'; value_bytes]);
    let record = |i: i64| Record {
        timestamp_ms: 1_790_000_000_000 + i / 8,
        value: Some(value.clone()),
        ..Record::default()
    };
    (0..).take(batch_bytes / value_bytes).map(record).collect()
}

fn batch(records: &[Record]) -> Batch {
    let mut builder = Builder::new().producer(7, 0, 0);
    records.iter().cloned().for_each(|record| builder.push(record));
    builder.build().expect("records of a bench fit a batch")
}

fn produce(c: &mut Criterion) {
    for (value_bytes, batch_bytes) in SHAPES {
        let records = records(value_bytes, batch_bytes);
        let bytes = batch(&records).bytes().clone();
        let mut group = c.benchmark_group(format!("{value_bytes}B"));
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        let kib = batch_bytes >> 10;
        group.bench_with_input(BenchmarkId::new("crc", kib), &bytes, |b, bytes| {
            b.iter(|| crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, black_box(&bytes[21..])));
        });
        for (name, walk) in [("check_header", false), ("check", true)] {
            let rules = Rules { walk, ..Rules::default() };
            group.bench_with_input(BenchmarkId::new(name, kib), &bytes, |b, bytes| {
                b.iter(|| Batch::check(black_box(bytes.clone()), rules).expect("a built batch is valid"));
            });
        }
        group.bench_with_input(BenchmarkId::new("build", kib), &records, |b, records| {
            b.iter_batched(|| records.clone(), |records| batch(black_box(&records)), BatchSize::LargeInput);
        });
        group.finish();
    }
}

criterion_group!(benches, produce);
criterion_main!(benches);
