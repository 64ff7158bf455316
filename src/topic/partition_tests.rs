//! What a partition believes of a batch: its records, live and after a restart; and what it asks of its log.

use std::path::Path;

use super::*;
use crate::batch::{Builder, HEADER_BYTES, Record, crc32c};
use crate::store::local::Local;

const NOW_MS: i64 = 1_800_000_000_000;
const HOUR_MS: i64 = 3_600_000;

fn open(dir: &Path, config: TopicConfig) -> Arc<Partition> {
    let id = LogId { topic: uuid::Uuid::from_u128(7), partition: 0 };
    let store = Arc::new(Local::open(dir).unwrap());
    let config = Arc::new(RwLock::new(Arc::new(config)));
    Arc::new(Partition::new(id, 0, store, config, Arc::default(), Arc::default(), false))
}

/// zstd around records of these times; the header says that the last one's is the largest, as some clients do.
fn lying(times_ms: &[i64]) -> Bytes {
    let mut builder = Builder::new();
    for &timestamp_ms in times_ms {
        builder.push(Record { timestamp_ms, key: Some("k".into()), ..Record::default() });
    }
    let plain = builder.build().unwrap();
    let (head, records) = plain.bytes().split_at(HEADER_BYTES);
    let packed = zstd::bulk::compress(records, 1).unwrap();
    let mut bytes = [head, &packed].concat();
    let length = i32::try_from(bytes.len() - 12).unwrap();
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[21..23].copy_from_slice(&4i16.to_be_bytes());
    bytes[35..43].copy_from_slice(&times_ms.last().unwrap().to_be_bytes());
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

fn admitted(partition: &Partition, bytes: Bytes) -> Result<Batch> {
    let batch = Batch::check(bytes.clone(), partition.rules(bytes.len(), Rules::default())?)?;
    partition.admit(batch, 1 << 20, NOW_MS)
}

#[test]
fn retention_and_lookups_follow_the_records_of_a_compressed_batch_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let config = TopicConfig { retention_ms: HOUR_MS, ..TopicConfig::default() };
    let old = NOW_MS - 2 * HOUR_MS;
    let partition = open(dir.path(), config.clone());
    let mut append = Append::new(admitted(&partition, lying(&[old, NOW_MS, old])).unwrap());
    partition.append(NOW_MS, &mut [&mut append]);
    assert!(append.outcome.unwrap().is_ok());
    let look = |partition: &Partition| {
        assert_eq!(partition.segments().unwrap().last().unwrap().max_timestamp, NOW_MS);
        assert_eq!(partition.offset_for_time(old + 1, 1 << 20).unwrap(), Some((1, NOW_MS)));
        assert_eq!(partition.max_timestamp(1 << 20).unwrap(), Some((1, NOW_MS)));
        assert_eq!(partition.retain(NOW_MS).unwrap(), 0, "one of the records is fresh");
        assert_eq!(partition.span().unwrap().start, 0);
    };
    look(&partition);
    drop((partition, append.batch));
    let partition = open(dir.path(), config);
    look(&partition);
    assert!(partition.retain(NOW_MS + 2 * HOUR_MS).unwrap() > 0);
    assert_eq!(partition.span().unwrap().start, 3);
}

#[test]
fn limits_of_time_hold_for_every_record_unless_nobody_looks() {
    let dir = tempfile::tempdir().unwrap();
    let limits = TopicConfig {
        timestamp_before_max_ms: HOUR_MS,
        timestamp_after_max_ms: HOUR_MS,
        ..TopicConfig::default()
    };
    let strict = open(&dir.path().join("strict"), limits.clone());
    let frame = open(&dir.path().join("frame"), TopicConfig { compression_strict: false, ..limits });
    let (late, early) = (NOW_MS + 2 * HOUR_MS, NOW_MS - 2 * HOUR_MS);
    for (times_ms, at_fault) in [
        (&[NOW_MS, late, NOW_MS][..], &[1][..]),
        (&[NOW_MS, early, NOW_MS, late, NOW_MS][..], &[1, 3][..]),
        (&[early, NOW_MS][..], &[0][..]),
    ] {
        match admitted(&strict, lying(times_ms)) {
            Err(Error::InvalidTimestamp { records, .. }) => assert_eq!(records, at_fault),
            answer => panic!("{answer:?}"),
        }
        // The header's are the first record's time and what it says to be the largest.
        assert_eq!(admitted(&frame, lying(times_ms)).is_ok(), times_ms[0] == NOW_MS, "{times_ms:?}");
    }
    assert!(admitted(&strict, lying(&[NOW_MS, -1, NOW_MS])).is_ok(), "one that has no timestamp");
}

#[test]
fn jitter_takes_a_part_off_segment_ms_that_differs_between_partitions() {
    // segment.jitter.ms
    let config = TopicConfig { segment_ms: 10_000, segment_jitter_ms: 9_000, ..TopicConfig::default() };
    let of = |partition, config: &TopicConfig| {
        options(LogId { topic: uuid::Uuid::from_u128(7 << 90), partition }, config).segment_ms
    };
    let all: Vec<i64> = (0..100).map(|partition| of(partition, &config)).collect();
    assert!(all.iter().all(|ms| (1_000..=10_000).contains(ms)));
    let kinds: std::collections::BTreeSet<_> = all.iter().collect();
    assert!(kinds.len() > 50, "{kinds:?}");
    assert_eq!(of(1, &TopicConfig { segment_jitter_ms: 0, ..config.clone() }), 10_000);
    let short = TopicConfig { segment_ms: 1, segment_jitter_ms: i64::MAX, ..config };
    assert_eq!(of(1, &short), 1);
    let long = TopicConfig { segment_ms: i64::MAX, segment_jitter_ms: i64::MAX, ..short };
    assert!(of(3, &long) >= 1);
}
