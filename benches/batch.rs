//! What one produced batch costs before it reaches the log: CRC-32C, header rules, record walk; and building.
//! For compressed batches, what looking inside costs (`strict`) beside the shape of the stream (`frame`), per byte
//! of plain records.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a bench stops where it fails"
)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::io::Write;

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

/// Records of text that compresses as JSON events do, three to six times.
fn events(value_bytes: usize, batch_bytes: usize) -> Vec<Record> {
    const WORDS: [&str; 8] = ["click", "view", "basket", "checkout", "eu-west-1", "mobile", "true", "null"];
    let mut state = 7u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    (0..)
        .take(batch_bytes / value_bytes)
        .map(|i: i64| {
            let mut value = format!("{{\"id\":{i}");
            while value.len() < value_bytes {
                let (name, text, number) = (WORDS[next() % 8], WORDS[next() % 8], next() % 65_536);
                write!(value, ",\"{name}\":\"{text}-{number:x}\"").unwrap();
            }
            value.truncate(value_bytes);
            Record { timestamp_ms: 1_790_000_000_000 + i / 8, value: Some(value.into()), ..Record::default() }
        })
        .collect()
}

/// The bytes of `plain` with its records compressed by the codec of these attributes.
fn compressed(plain: &Batch, attributes: i16) -> Bytes {
    let section = &plain.bytes()[61..];
    let packed = match attributes {
        1 => {
            let mut w = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            w.write_all(section).unwrap();
            w.finish().unwrap()
        }
        2 => snap::raw::Encoder::new().compress_vec(section).unwrap(),
        // What the Java client writes.
        12 => {
            let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
            for chunk in section.chunks(32 << 10) {
                let packed = snap::raw::Encoder::new().compress_vec(chunk).unwrap();
                out.extend_from_slice(&(packed.len() as u32).to_be_bytes());
                out.extend_from_slice(&packed);
            }
            out
        }
        3 => {
            let mut w = lz4_flex::frame::FrameEncoder::new(Vec::new());
            w.write_all(section).unwrap();
            w.finish().unwrap()
        }
        _ => zstd::stream::encode_all(section, 3).unwrap(),
    };
    let mut bytes = [&plain.bytes()[..61], &packed].concat();
    bytes[8..12].copy_from_slice(&(49 + packed.len() as i32).to_be_bytes());
    bytes[21..23].copy_from_slice(&(attributes % 10).to_be_bytes());
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[21..]) as u32;
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

fn compression(c: &mut Criterion) {
    for (value_bytes, batch_bytes) in [(100, 16 << 10), (100, 256 << 10), (1024, 64 << 10), (1024, 1 << 20)] {
        let plain = batch(&events(value_bytes, batch_bytes));
        for (name, attributes) in [("gzip", 1), ("snappy", 2), ("xerial", 12), ("lz4", 3), ("zstd", 4)] {
            let bytes = compressed(&plain, attributes);
            let ratio = plain.bytes().len() as f64 / bytes.len() as f64;
            let mut group =
                c.benchmark_group(format!("{name} {value_bytes}B {}K x{ratio:.1}", batch_bytes >> 10));
            group.throughput(Throughput::Bytes(plain.bytes().len() as u64));
            for (name, strict) in [("frame", false), ("strict", true)] {
                let rules = Rules { strict, ..Rules::default() };
                group.bench_with_input(name, &bytes, |b, bytes| {
                    b.iter(|| {
                        Batch::check(black_box(bytes.clone()), rules).expect("encoders write valid streams")
                    });
                });
            }
            group.finish();
        }
    }
}

criterion_group!(benches, produce, compression);
criterion_main!(benches);
