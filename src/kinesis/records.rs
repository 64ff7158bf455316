//! Records on their way in and out: placement by key, decoding of data, and how a stored record is told.
//!
//! Data of a JSON request is decoded into one buffer for the whole request; of a CBOR request it is a slice of the
//! body. Keys are slices of the body. Nothing is allocated per record.
//! A record made by a Kafka client may have what Kinesis has no words for: a null key is left out, a key that is
//! not UTF-8 is told in base64, a null value is empty data, headers stay in the log (kinesis.md 6.3).

use std::ops::Range;

use bytes::Bytes;
use md5::{Digest, Md5};

use super::document::{Item, Node};
use super::error::{Fault, Kind};
use super::sequence::Sequence;
use super::stream::{Stream, Traits};
use super::writer::{Form, Writer};
use crate::batch::Record;
use crate::broker::{GotRecord, Put};
use crate::topic::Shard;

/// Header that keeps the hash key that a put asked for, so that a reader can repeat the placement.
const EXPLICIT_HASH_KEY: &[u8] = b"kinesis.explicit-hash-key";
/// Most bytes of data and keys in one request.
const REQUEST_BYTES_MAX: usize = 10 << 20;

/// Where the data of a record is.
enum Data {
    /// In the request's buffer.
    Decoded(Range<usize>),
    /// In the body.
    Sent(Bytes),
}

/// Collects the records of one request.
pub(super) struct Intake<'a> {
    body: &'a Bytes,
    stream: &'a Stream,
    now_ms: i64,
    decoded: Vec<u8>,
    total: usize,
    entries: Vec<Entry>,
}

struct Entry {
    hash: u128,
    key: Option<Bytes>,
    explicit: Option<Bytes>,
    data: Data,
}

impl<'a> Intake<'a> {
    pub(super) fn new(body: &'a Bytes, stream: &'a Stream, now_ms: i64, records: usize) -> Self {
        // Decoded, a body is smaller than it is now.
        let decoded = Vec::with_capacity(body.len() / 4 * 3);
        Self { body, stream, now_ms, decoded, total: 0, entries: Vec::with_capacity(records) }
    }

    /// Takes a record; `place` is how a refusal names it. `spread` gives hashes for records without placement.
    ///
    /// # Errors
    /// `SerializationException` for data that is no base64, `InvalidArgumentException` and `ValidationException` for
    /// what the service refuses.
    pub(super) fn take(
        &mut self,
        item: Item<'_>,
        place: &dyn Fn(&str) -> String,
        spread: impl Fn() -> u128,
    ) -> Result<(), Fault> {
        let auto = self.stream.traits.auto_distribution;
        let key = item.text("PartitionKey");
        let explicit = item.text("ExplicitHashKey");
        let hash = match (explicit, key) {
            (Some(text), _) => parse_hash(text).ok_or_else(|| {
                Fault::invalid(format!(
                    "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was {text}"
                ))
            })?,
            _ if auto => spread(),
            (None, Some(key)) => hash_of(key),
            (None, None) => {
                let place = place("partitionKey");
                return Err(Fault::validation(format!(
                    "1 validation error detected: Value null at '{place}' failed to satisfy constraint: Member must not be null"
                )));
            }
        };
        let (data, length) = self.data(item)?;
        let bytes = length + key.map_or(0, str::len);
        let most = usize::try_from(self.stream.traits.max_record_kib).unwrap_or(1024) * 1024;
        if bytes > most {
            let place = place("data");
            return Err(Fault::validation(format!(
                "1 validation error detected: Value at '{place}' failed to satisfy constraint: Member must have length less than or equal to {most}"
            )));
        }
        self.total += bytes;
        if self.total > REQUEST_BYTES_MAX {
            return Err(Fault::validation(format!(
                "Records size exceeds {} MB limit",
                REQUEST_BYTES_MAX >> 20
            )));
        }
        let body = self.body;
        self.entries.push(Entry {
            hash,
            key: key.map(|key| part_of(body, key.as_bytes())),
            explicit: explicit.map(|text| part_of(body, text.as_bytes())),
            data,
        });
        Ok(())
    }

    fn data(&mut self, item: Item<'_>) -> Result<(Data, usize), Fault> {
        match item.field("Data").map(Item::node) {
            Some(Node::Blob(bytes)) => Ok((Data::Sent(part_of(self.body, bytes)), bytes.len())),
            Some(Node::Text(text)) => {
                let from = self.decoded.len();
                base64_simd::STANDARD.decode_append(text.as_bytes(), &mut self.decoded).map_err(|_| {
                    let shown = text.get(..text.floor_char_boundary(256)).unwrap_or_default();
                    let why = format!("'{shown}' can not be converted to a Blob: it is not Base64");
                    Fault::new(Kind::Serialization, why)
                })?;
                let range = from..self.decoded.len();
                let length = range.len();
                Ok((Data::Decoded(range), length))
            }
            _ => Ok((Data::Sent(Bytes::new()), 0)),
        }
    }

    /// The records, as the core takes them.
    pub(super) fn puts(self) -> Vec<Put> {
        let decoded = Bytes::from(self.decoded);
        let now_ms = self.now_ms;
        self.entries
            .into_iter()
            .map(|entry| {
                let value = match entry.data {
                    Data::Decoded(range) => decoded.slice(range),
                    Data::Sent(bytes) => bytes,
                };
                let header = |text| (Bytes::from_static(EXPLICIT_HASH_KEY), Some(text));
                let headers = entry.explicit.map(header).into_iter().collect();
                let record = Record { timestamp_ms: now_ms, key: entry.key, value: Some(value), headers };
                Put { hash: entry.hash, record }
            })
            .collect()
    }
}

/// Where a key lies in the key space.
fn hash_of(key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(key.as_bytes()).into())
}

/// A hash key in decimal; nothing for a number of 2^128 or more.
pub(super) fn parse_hash(text: &str) -> Option<u128> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// The part of the body that `part` is, or a copy of what was unescaped.
fn part_of(body: &Bytes, part: &[u8]) -> Bytes {
    let inside = body.as_ptr_range();
    let range = part.as_ptr_range();
    if inside.start <= range.start && range.end <= inside.end {
        body.slice_ref(part)
    } else {
        Bytes::copy_from_slice(part)
    }
}

/// The sequence number of a stored record.
pub(super) fn sequence_of(mark: u8, shard: &Shard, offset: i64, time_ms: i64) -> Sequence {
    let (created_s, second) = (shard.created_s, time_ms.div_euclid(1000));
    Sequence { created_s, shard: shard.id, offset, second, mark, after: false }
}

/// What stands around data and key of a record that is told: names, number, time.
const AROUND_BYTES: usize = 192;

/// No fewer bytes than [`put_record`] writes.
pub(super) fn weight(form: Form, record: &GotRecord) -> usize {
    let base64 = |bytes: usize| bytes.div_ceil(3) * 4;
    let data = record.value.as_ref().map_or(0, Bytes::len);
    let key = record.key.as_deref().unwrap_or_default();
    let (data, key) = match form {
        Form::Cbor => (data, key.len()),
        // A control character takes six.
        Form::Json => {
            let escaped = key.iter().filter(|b| **b < 0x20 || matches!(b, b'"' | b'\\')).count();
            (base64(data), key.len() + 5 * escaped)
        }
    };
    // A key that is no text is told in base64.
    AROUND_BYTES + data + key.max(base64(record.key.as_ref().map_or(0, Bytes::len)))
}

/// A record as GetRecords and events tell it.
pub(super) fn put_record(w: &mut Writer, (mark, shard): (u8, &Shard), record: &GotRecord, traits: &Traits) {
    w.text("SequenceNumber", sequence_of(mark, shard, record.offset, record.time_ms).digits().as_str());
    w.time_ms("ApproximateArrivalTimestamp", record.time_ms);
    w.blob("Data", record.value.as_deref().unwrap_or_default());
    if let Some(key) = &record.key {
        match std::str::from_utf8(key) {
            Ok(text) => w.text("PartitionKey", text),
            Err(_) => w.text("PartitionKey", &base64_simd::STANDARD.encode_to_string(key)),
        }
    }
    if traits.key_id.is_some() {
        w.text("EncryptionType", "KMS");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_placed_by_its_md5() {
        assert_eq!(hash_of("a"), 0x0cc1_75b9_c0f1_b6a8_31c3_99e2_6977_2661);
        assert_eq!(parse_hash("340282366920938463463374607431768211455"), Some(u128::MAX));
        for text in ["340282366920938463463374607431768211456", "", "-1", "+1"] {
            assert_eq!(parse_hash(text), None, "{text}");
        }
    }

    #[test]
    fn no_record_takes_more_than_its_weight() {
        let shard = Shard {
            id: u32::MAX,
            partition: 0,
            from: 0,
            until: None,
            start_hash: 0,
            end_hash: 0,
            parents: [None; 2],
            created_s: 1 << 35,
            closed_ms: None,
        };
        let traits = Traits { key_id: Some("k".into()), ..Traits::default() };
        let keys: [Option<&'static [u8]>; 6] =
            [None, Some(b""), Some(b"key"), Some(b"\x01\"\\"), Some(&[0xff; 100]), Some("é".as_bytes())];
        for key in keys {
            for size in [0, 1, 2, 3, 100_000] {
                let record = GotRecord {
                    offset: i64::MAX - 2,
                    time_ms: 4_000_000_000_000,
                    key: key.map(Bytes::from_static),
                    value: Some(vec![7; size].into()),
                    headers: Vec::new(),
                };
                for form in [Form::Json, Form::Cbor] {
                    let all = Writer::object(form, |w| {
                        w.list("Records", |w| w.item(|w| put_record(w, (127, &shard), &record, &traits)));
                    });
                    let weight = weight(form, &record);
                    assert!((all.len()..all.len() + 200).contains(&weight), "{form:?} {key:?} {size}");
                }
            }
        }
    }

    #[test]
    fn a_part_of_the_body_is_not_copied() {
        let body = Bytes::from_static(b"abcdef");
        assert_eq!(part_of(&body, &body[2..4]).as_ptr(), body[2..4].as_ptr());
        assert_eq!(part_of(&body, b"xy"), "xy");
        assert_eq!(part_of(&body, b""), "");
    }
}
