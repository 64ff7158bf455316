//! ApiVersions (key 18), versions 0-5, flexible from 3. Read and written by hand: it comes before login.
//!
//! Behaviour: answers from the API table. The response header is v0 in every version (KIP-511). An unknown
//! version is answered with 35 in the v0 layout that lists ApiVersions itself (KIP-35).
//! Ends with tag count 0 in the default configuration: librdkafka before 2.2 mis-skips tagged fields.
//!
//! - v1: throttle time. v2: throttling happens after the response (KIP-219).
//! - v3: flexible; client software name and version, checked against Kafka's pattern (KIP-511).
//! - v4: features may start at 0 (KAFKA-17011). v5: cluster id and node id are checked (KIP-1242).
//!
//! Known deviations from Apache Kafka: none.

use bytes::Bytes;

use super::{Answer, Context, Entry, TABLE};
use crate::kafka::connection::Close;
use crate::kafka::error::Code;
use crate::kafka::wire::{Reader, Writer};

pub(super) const KEY: i16 = 18;
pub(super) const ENTRY: Entry = Entry { key: KEY, name: "ApiVersions", min: 0, max: 5, answer };

const FLEXIBLE_FROM: i16 = 3;

fn answer(cx: &mut Context<'_>, version: i16, body: Bytes) -> Result<Answer, Close> {
    let mut reader = Reader::new(&body, version >= FLEXIBLE_FROM);
    let mut code = Code::NONE;
    if version >= FLEXIBLE_FROM {
        let name = reader.string()?;
        let software_version = reader.string()?;
        if !is_software_word(name) || !is_software_word(software_version) {
            code = Code::INVALID_REQUEST;
        } else {
            tracing::debug!(peer = %cx.peer, client = name, version = software_version, "client");
        }
    }
    if version >= 5 {
        let cluster_id = reader.nullable_string()?;
        let node_id = reader.i32()?;
        code = if code == Code::NONE { check_node(cx, cluster_id, node_id) } else { code };
    }
    reader.tags()?;
    reader.end()?;
    Ok(Answer::Now(encode(version, code).into()))
}

/// KIP-1242: a client that expects another cluster or node must find its way anew.
fn check_node(cx: &Context<'_>, cluster_id: Option<&str>, node_id: i32) -> Code {
    match cluster_id {
        None if node_id != -1 => Code::INVALID_REQUEST,
        None => Code::NONE,
        Some(id) if id != cx.core.cluster_id() || (node_id != -1 && node_id != cx.core.node_id()) => {
            Code::REBOOTSTRAP_REQUIRED
        }
        Some(_) => Code::NONE,
    }
}

fn encode(version: i16, code: Code) -> Vec<u8> {
    let listed = if code == Code::NONE { TABLE } else { &[] };
    let mut w = Writer::new(version >= FLEXIBLE_FROM, 16 + listed.len() * 7);
    w.i16(code.0);
    w.count(listed.len());
    for entry in listed {
        w.i16(entry.key);
        w.i16(entry.min);
        w.i16(entry.max);
        w.tags();
    }
    if version >= 1 {
        w.i32(0);
    }
    w.tags();
    w.finish()
}

/// The v0-shaped answer to a version that this broker does not know.
pub(super) fn unsupported() -> Vec<u8> {
    let mut w = Writer::new(false, 16);
    w.i16(Code::UNSUPPORTED_VERSION.0);
    w.count(1);
    w.i16(ENTRY.key);
    w.i16(ENTRY.min);
    w.i16(ENTRY.max);
    w.finish()
}

/// Kafka's pattern `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?` (ApiVersionsRequest.java).
fn is_software_word(word: &str) -> bool {
    let bytes = word.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    ends.iter().all(|b| b.is_some_and(u8::is_ascii_alphanumeric))
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names_follow_kafkas_pattern() {
        for good in ["a", "librdkafka", "apache-kafka-java", "4.4.0", "v1.2.3-rc.1"] {
            assert!(is_software_word(good), "{good}");
        }
        for bad in ["", "-a", "a-", ".", "a b", "a_b", "é"] {
            assert!(!is_software_word(bad), "{bad}");
        }
    }

    #[test]
    fn a_default_answer_ends_with_tag_count_zero() {
        assert_eq!(encode(3, Code::NONE).last(), Some(&0));
        assert_eq!(encode(0, Code::NONE).len(), 6 + TABLE.len() * 6);
    }
}
