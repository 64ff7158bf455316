//! The conformance suite of the storage seam: every law runs against every engine.

mod damage;
mod full;
mod growing;
mod laws;
mod reopen;
mod small_state;
mod unreadable;

use weir_broker::batch::{Batch, Header};
use weir_broker::store::local::{Local, LocalOptions};
use weir_broker::store::memory::Memory;
use weir_broker::store::{Log, LogId, LogOptions, Placed, Store};

/// Options that roll and index early, so that small tests see several segments.
pub const SMALL: LogOptions =
    LogOptions { segment_bytes: 4096, segment_ms: 1 << 40, index_interval_bytes: 256 };

/// An id that differs by `n`.
pub fn id(n: u128) -> LogId {
    LogId { topic: uuid::Uuid::from_u128(n), partition: 0 }
}

/// A batch of `records` claimed records whose body is `body` bytes; its checksum is right.
pub fn batch(records: i32, timestamp: i64, body: usize) -> Batch {
    let body: Vec<u8> = (0..body).map(|i| (i as u8).wrapping_mul(31).wrapping_add(timestamp as u8)).collect();
    batch_of(records, timestamp, &body)
}

/// A batch of `records` claimed records with this body; its checksum is right.
pub fn batch_of(records: i32, timestamp: i64, body: &[u8]) -> Batch {
    let mut b = Vec::with_capacity(61 + body.len());
    b.extend_from_slice(&0i64.to_be_bytes());
    b.extend_from_slice(&i32::try_from(49 + body.len()).unwrap().to_be_bytes());
    b.extend_from_slice(&(-1i32).to_be_bytes());
    b.push(2);
    b.extend_from_slice(&[0; 4]);
    b.extend_from_slice(&0i16.to_be_bytes());
    b.extend_from_slice(&(records - 1).to_be_bytes());
    b.extend_from_slice(&timestamp.to_be_bytes());
    b.extend_from_slice(&timestamp.to_be_bytes());
    b.extend_from_slice(&(-1i64).to_be_bytes());
    b.extend_from_slice(&(-1i16).to_be_bytes());
    b.extend_from_slice(&(-1i32).to_be_bytes());
    b.extend_from_slice(&records.to_be_bytes());
    b.extend(body);
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &b[21..]) as u32;
    b[17..21].copy_from_slice(&crc.to_be_bytes());
    Batch::stored(b.into()).unwrap()
}

/// Appends one batch at the end and answers its base offset.
pub fn push(log: &dyn Log, records: i32, timestamp: i64, body: usize) -> i64 {
    let base_offset = log.span().end;
    let placed = Placed { base_offset, leader_epoch: 3, batch: batch(records, timestamp, body) };
    log.append(&[placed], timestamp).unwrap();
    base_offset
}

/// The headers in `bytes`, which must be whole batches with right checksums.
pub fn headers(mut bytes: &[u8]) -> Vec<Header> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let header = Header::read(bytes).unwrap();
        let (one, rest) = bytes.split_at(header.total_bytes().unwrap());
        Batch::stored(bytes::Bytes::copy_from_slice(one)).unwrap();
        out.push(header);
        bytes = rest;
    }
    out
}

/// Every header from `offset` to the end, read `max_bytes` at a time.
pub fn read_all(log: &dyn Log, mut offset: i64, max_bytes: usize) -> Vec<Header> {
    let mut out = Vec::new();
    let end = log.span().end;
    while offset < end {
        let got = headers(&log.read(offset, max_bytes, true, end).unwrap().to_bytes().unwrap());
        offset = got.last().expect("a read below the end gives a batch").next_offset();
        out.extend(got);
    }
    out
}

/// Opens a log and forgets its replay.
pub fn open(store: &dyn Store, id: LogId) -> std::sync::Arc<dyn Log> {
    store.open_log(id, SMALL, &mut |_| {}).unwrap().log
}

/// A store that writes a checkpoint for every note.
pub fn eager(dir: &std::path::Path) -> Local {
    Local::open_with(dir, LocalOptions { checkpoint_bytes: 0, ..LocalOptions::default() }).unwrap()
}

/// Runs `law` on every engine.
pub fn on_every_engine(law: impl Fn(&dyn Store)) {
    law(&Memory::new());
    let dir = tempfile::tempdir().unwrap();
    law(&Local::open(dir.path()).unwrap());
}

/// Waits until everything appended is durable.
pub fn wait_durable(log: &dyn Log) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    log.sync();
    while log.span().durable < log.span().end {
        assert!(std::time::Instant::now() < deadline, "not durable in time");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}
