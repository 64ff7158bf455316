//! The bounded walk of a request, before any decoder sees it (law 1: bytes from outside never choose an
//! allocation).
//!
//! Owns: the request schemas as one constant table, the walk over them, and the request header.
//! Invariant: a body that [`walk`] accepts is exactly one request of that version. Every length and count
//! in it fits the bytes that follow, so a decoder that sizes its buffers by those counts is safe: it makes
//! at most [`MAX_ELEMENTS`] elements (the largest in kafka-protocol 0.18 takes 232 bytes) and
//! [`MAX_UNKNOWN_TAGS`] unknown tags (about 0.5 KiB each, as map nodes); strings and blobs stay slices of
//! the frame. Below those two budgets a struct costs at most about 40 times its bytes on the wire.
//! Deliberately absent: decoding, and what is served (the API table of the door); responses.
//!
//! kafka-protocol 0.18 calls `Vec::with_capacity` with counts from the wire: a body of `7f ff ff ff` asks
//! for 150 GB and aborts the process. Kafka had the same hole (CVE-2022-34917).
//! Bounds: Kafka 4.4 refuses arrays above 1,000,000 elements and sections above 10,000 tags
//! (<https://kafka.apache.org/44/getting-started/upgrade/>); weir counts both over the whole body.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod field;
mod table;
mod walk;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use walk::Walk;

/// Elements of all arrays of one body.
pub const MAX_ELEMENTS: usize = 1_000_000;
/// Tags in one tagged section.
pub const MAX_TAGS: u32 = 128;
/// Tags without a schema in one body. No client sends any.
pub const MAX_UNKNOWN_TAGS: usize = 10_000;
/// Bytes of one string, Kafka's own limit in both encodings.
pub const MAX_STRING_BYTES: usize = 32_767;

/// Where a request stops following its schema, and why. For one log line; the connection closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}, near byte {at}")]
pub struct Malformed {
    /// Field by its name in Kafka's schema.
    pub field: &'static str,
    /// Bytes before the fault, from the start of the body (of the frame, for a header).
    pub at: usize,
    pub why: Why,
}

/// The rule that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    #[error("no schema for this API and version")]
    UnknownVersion,
    #[error("more bytes promised than are left")]
    CutShort,
    #[error("more elements promised than the bytes left can hold")]
    CountBeyondBytes,
    #[error("more than {MAX_ELEMENTS} elements in one request")]
    TooManyElements,
    #[error("negative length")]
    Negative,
    #[error("null where null is not allowed")]
    Null,
    #[error("string longer than {MAX_STRING_BYTES} bytes")]
    LongString,
    #[error("string is not UTF-8")]
    NotUtf8,
    #[error("varint longer than 32 bits")]
    Varint,
    #[error("too many tagged fields")]
    TooManyTags,
    #[error("tags repeat or descend")]
    TagOrder,
    #[error("tagged field does not fill its size")]
    TagSize,
    #[error("bytes after the end")]
    TrailingBytes,
}

/// The head of a request, borrowed from its frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    pub api_key: i16,
    pub api_version: i16,
    /// Echoed in the answer as it is, any value.
    pub correlation_id: i32,
    /// What is not UTF-8 in it is replaced, as Kafka does: it names a client and decides nothing.
    pub client_id: Option<Cow<'a, str>>,
    /// 1, or 2 for flexible versions. Version 0 was ControlledShutdown's alone and is not spoken.
    pub header_version: i16,
    /// Where the body starts in the frame. Means nothing for a version that the table does not have.
    pub body_at: usize,
}

/// Reads the request header at the start of a frame (without its length prefix).
///
/// A key or version without a schema is not an error here, so that the caller can log who asked, and
/// answer an ApiVersions of the future (KIP-511); the client id is then read only if it is there.
///
/// # Errors
/// [`Malformed`] if the frame is shorter than its header or the tagged section breaks a rule.
pub fn header(frame: &[u8]) -> Result<RequestHeader<'_>, Malformed> {
    let mut walk = Walk::new(frame, 0, false);
    let api_key = i16::from_be_bytes(walk.fixed("request_api_key")?);
    let api_version = i16::from_be_bytes(walk.fixed("request_api_version")?);
    let correlation_id = i32::from_be_bytes(walk.fixed("correlation_id")?);
    let schema = table::of(api_key);
    let known = schema.is_some_and(|api| api.versions.contains(&api_version));
    let flexible = schema.is_some_and(|api| api_version >= api.flexible);
    let client_id = match client_id(&mut walk) {
        Err(_) if !known => None,
        read => read?,
    };
    if known && flexible {
        walk.tags(&[])?;
    }
    let header_version = if flexible { 2 } else { 1 };
    Ok(RequestHeader {
        api_key,
        api_version,
        correlation_id,
        client_id,
        header_version,
        body_at: walk.position(),
    })
}

/// The client id keeps its two-byte length in every header version: a broker must be able to read it in
/// an ApiVersions request of a version that it does not know.
fn client_id<'a>(walk: &mut Walk<'a>) -> Result<Option<Cow<'a, str>>, Malformed> {
    let Some(bytes) = walk.legacy_string("client_id")? else { return Ok(None) };
    Ok(Some(String::from_utf8_lossy(walk.take("client_id", bytes)?)))
}

/// Walks a request body against its schema: accepted bodies are safe to decode.
///
/// # Errors
/// [`Malformed`] at the first byte that breaks a rule; [`Why::UnknownVersion`] if the table has no schema.
pub fn walk(api_key: i16, version: i16, body: &[u8]) -> Result<(), Malformed> {
    let api = table::of(api_key).filter(|api| api.versions.contains(&version));
    let Some(api) = api else {
        return Err(Malformed { field: "request", at: 0, why: Why::UnknownVersion });
    };
    let mut walk = Walk::new(body, version, version >= api.flexible);
    walk.fields(api.fields)?;
    walk.finish()
}

/// First flexible version of an API; `i16::MAX` if it has none or no schema.
pub fn flexible_from(api_key: i16) -> i16 {
    table::of(api_key).map_or(field::NEVER, |api| api.flexible)
}

/// Name of an API as Kafka writes it, for logs.
pub fn name(api_key: i16) -> &'static str {
    table::of(api_key).map_or("unknown", |api| api.name)
}
