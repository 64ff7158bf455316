//! What a topic asks of a batch beyond the format, and the form in which it stores one: before the writer's lock.
//!
//! Deliberately absent: limits (`buckets.rs`), sequences (`producers.rs`), offsets (`partition.rs`).

use super::{Error, Result, TopicConfig};
use crate::batch::{Batch, TimestampType};

/// Most records that a refusal names.
const NAMED_RECORDS_MAX: usize = 1_000;

/// The batch in the form that the topic stores, once its records are what the topic asks for.
///
/// # Errors
/// [`Error::MissingKeys`], [`Error::InvalidTimestamp`], [`Error::Invalid`], [`Error::TooLarge`].
pub(super) fn form(config: &TopicConfig, batch: Batch, max_plain_bytes: usize, now_ms: i64) -> Result<Batch> {
    let compacted = config.cleanup_policy.compact;
    let batch = if compacted && batch.all_keyed().is_none() { batch.walked(max_plain_bytes)? } else { batch };
    check_times(config, now_ms, &batch, max_plain_bytes)?;
    if compacted && batch.all_keyed() != Some(true) {
        let keyless = batch.places(max_plain_bytes, NAMED_RECORDS_MAX, |_, has_key| !has_key)?;
        return Err(Error::MissingKeys(keyless));
    }
    let Some((codec, level)) = config.codec() else { return Ok(batch) };
    // Before any work is done for it.
    check_size(config, batch.bytes().len())?;
    Ok(batch.recode(codec, level, max_plain_bytes)?)
}

/// Whether a batch is small enough for the topic.
///
/// # Errors
/// [`Error::TooLarge`], [`Error::LargerThanSegment`].
pub(super) fn check_size(config: &TopicConfig, bytes: usize) -> Result<()> {
    let limit = config.max_message_bytes as usize;
    if bytes > limit {
        return Err(Error::TooLarge { bytes, limit });
    }
    if bytes as u64 > config.segment_bytes {
        return Err(Error::LargerThanSegment { bytes, limit: config.segment_bytes });
    }
    Ok(())
}

/// Every record within what the topic accepts around `now_ms`; those without a timestamp always are.
fn check_times(config: &TopicConfig, now_ms: i64, batch: &Batch, max_plain_bytes: usize) -> Result<()> {
    if config.timestamp_type == TimestampType::LogAppend {
        return Ok(());
    }
    let header = batch.header();
    let refused = |why: String, records| Err(Error::InvalidTimestamp { why, records });
    if header.timestamp_type() == TimestampType::LogAppend {
        return refused("only the broker may set log-append time".into(), Vec::new());
    }
    let late =
        |timestamp: i64| timestamp != -1 && timestamp.saturating_sub(now_ms) > config.timestamp_after_max_ms;
    let early =
        |timestamp: i64| timestamp != -1 && now_ms.saturating_sub(timestamp) > config.timestamp_before_max_ms;
    let why = if late(header.max_timestamp) {
        format!("timestamp is {} ms in the future", header.max_timestamp.saturating_sub(now_ms))
    } else if early(batch.earliest_timestamp()) {
        format!("timestamp is {} ms in the past", now_ms.saturating_sub(batch.earliest_timestamp()))
    } else {
        return Ok(());
    };
    let at_fault = |timestamp, _| late(timestamp) || early(timestamp);
    // What nobody has looked into is refused for its header, and not looked into for that.
    let looked = batch.all_keyed().is_some();
    let records =
        if looked { batch.places(max_plain_bytes, NAMED_RECORDS_MAX, at_fault)? } else { Vec::new() };
    refused(why, records)
}
