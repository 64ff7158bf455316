//! `/v1/topics/TOPIC/shards`: GET lists the shards of a topic, POST splits, merges or scales them.
//!
//! A page in somebody's browser can send a form or plain text anywhere without asking. It cannot send
//! `content-type: application/json` without a preflight, which this door refuses: so nothing else is taken.
//! Invariant: a change that has begun comes to its end, also when its client goes away; a draining broker waits for it.
//! Deliberately absent: what a change comes to, and whether it may be made (the broker).

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Incoming};
use hyper::header;
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::answer::{JSON, MEMORY_TIME, reads, whole};
use super::door::{Phase, Shared};
use super::exposition::Reply;
use crate::broker::{Core, StoreError, TopicError};
use crate::listen::{Budget, Lease};

const BODY_BYTES_MAX: usize = 4 * 1024;
/// What a shard takes in the list, twice: as it is collected and as it is told.
const SHARD_BYTES: usize = 1024;
/// How long a body may take.
const BODY_TIME: Duration = Duration::from_secs(5);

/// What a POST asks for: one of these.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Change {
    Split {
        shard: u32,
        /// First hash of the second child, in decimal; absent: the middle.
        at: Option<String>,
    },
    Merge {
        shard: u32,
        adjacent: u32,
        #[serde(default)]
        force: bool,
    },
    Scale {
        count: u32,
        #[serde(default)]
        force: bool,
    },
}

#[derive(Serialize)]
struct Listed<'a> {
    topic: &'a str,
    partitions: usize,
    shards: Vec<ListedShard>,
}

/// Hashes are text: most readers of JSON keep 53 bits of a number.
#[derive(Serialize)]
struct ListedShard {
    id: u32,
    shard_id: String,
    open: bool,
    partition: i32,
    from: i64,
    until: Option<i64>,
    start_hash: String,
    end_hash: String,
    parents: Vec<u32>,
    created_s: i64,
    closed_ms: Option<i64>,
}

#[derive(Serialize)]
struct Refused {
    error: String,
}

type Refusal = (StatusCode, String);

/// The topic in the path, still encoded, when the path is that of its shards.
pub(super) fn topic_of(path: &str) -> Option<&str> {
    let topic = path.strip_prefix("/v1/topics/")?.strip_suffix("/shards")?;
    (!topic.is_empty() && !topic.contains('/')).then_some(topic)
}

pub(super) async fn answer(
    shared: &Arc<Shared>,
    head: &Parts,
    body: Incoming,
    topic: &str,
) -> Response<Reply> {
    match carry_out(shared, head, body, topic).await {
        Ok(list) => whole(StatusCode::OK, JSON, list),
        Err((status, error)) => whole(status, JSON, json(&Refused { error })),
    }
}

async fn carry_out(
    shared: &Arc<Shared>,
    head: &Parts,
    body: Incoming,
    topic: &str,
) -> Result<Bytes, Refusal> {
    let change = if reads(head) { None } else { Some(change(head, body).await?) };
    let refuse = |status, why: &str| (status, why.to_owned());
    let name = percent_decode_str(topic).decode_utf8();
    let name = name.map_err(|_| refuse(StatusCode::BAD_REQUEST, "the topic is not UTF-8"))?.into_owned();
    let busy = || refuse(StatusCode::SERVICE_UNAVAILABLE, "too many ask at a time; try again");
    // The list holds its place until its client has read it, as a scrape does.
    let place = Arc::clone(&shared.scrapes).try_acquire_owned().map_err(|_| busy())?;
    let work = Arc::clone(&shared.work).try_acquire_owned().map_err(|_| busy())?;
    // Who has the permit and sees this is waited for by a drain.
    let phase = shared.phase.borrow().clone();
    let Phase::Ready { core, .. } = phase else {
        return Err(refuse(StatusCode::SERVICE_UNAVAILABLE, "the broker does not serve"));
    };
    let answers = Arc::clone(&shared.answers);
    let carried = tokio::spawn(async move {
        let outcome = match change {
            Some(change) => carry(&core, &name, change).await,
            None => Ok(()),
        };
        let outcome = match outcome {
            Ok(()) => list(&core, &name, place, &answers).await,
            Err(refusal) => Err(refusal),
        };
        drop((core, work));
        outcome
    });
    // It panicked: nothing is known about what it did.
    carried.await.unwrap_or_else(|_| Err(refuse(StatusCode::INTERNAL_SERVER_ERROR, "failed; see the log")))
}

/// What a request asks to change.
async fn change(head: &Parts, body: Incoming) -> Result<Change, Refusal> {
    if head.method != Method::POST {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD or POST".to_owned()));
    }
    let mut kinds = head.headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(kind), None) = (kinds.next(), kinds.next()) else {
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("expected content-type: {JSON}")));
    };
    let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case(JSON) {
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("expected content-type: {JSON}")));
    }
    let late = |_| (StatusCode::REQUEST_TIMEOUT, "the body did not come in time".to_owned());
    let body = timeout(BODY_TIME, collect(body)).await.map_err(late)??;
    serde_json::from_slice(&body).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))
}

/// Memory follows what has come, not what was promised.
async fn collect(mut body: Incoming) -> Result<BytesMut, Refusal> {
    let mut whole = BytesMut::new();
    while let Some(frame) = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|_| (StatusCode::BAD_REQUEST, "the body ended early".to_owned()))?;
        let Ok(chunk) = frame.into_data() else { continue };
        if whole.len() + chunk.len() > BODY_BYTES_MAX {
            let why = format!("the body is larger than {BODY_BYTES_MAX} bytes");
            return Err((StatusCode::PAYLOAD_TOO_LARGE, why));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole)
}

async fn carry(core: &Arc<Core>, name: &str, change: Change) -> Result<(), Refusal> {
    let topic = core.topics().by_name(name).ok_or_else(|| unknown(name))?;
    if topic.is_internal() {
        return Err((StatusCode::BAD_REQUEST, format!("topic '{name}' is the broker's own")));
    }
    let outcome = match change {
        Change::Split { shard, at } => {
            let at = match at {
                Some(text) => hash(&text)?,
                None => {
                    let shards = topic.shards();
                    let known = shards.by_id(shard).ok_or(TopicError::UnknownShard(shard));
                    let shard = known.map_err(|error| refusal(name, &error))?;
                    shard.start_hash + (shard.end_hash - shard.start_hash).div_ceil(2)
                }
            };
            core.split_shard(&topic, shard, at).await
        }
        Change::Merge { shard, adjacent, force } => core.merge_shards(&topic, shard, adjacent, force).await,
        Change::Scale { count, force } => core.scale_shards(&topic, count, force).await,
    };
    outcome.map_err(|error| refusal(name, &error))
}

/// A hash in decimal.
fn hash(text: &str) -> Result<u128, Refusal> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|_| digits)
        .ok_or_else(|| (StatusCode::BAD_REQUEST, format!("at is a hash in decimal, at most {}", u128::MAX)))
}

fn unknown(name: &str) -> Refusal {
    let name = name.escape_debug();
    (
        StatusCode::NOT_FOUND,
        format!("no topic '{name}'; kcat -L and kafka-topics --list name those that there are"),
    )
}

fn refusal(name: &str, error: &TopicError) -> Refusal {
    use TopicError as E;
    let see = format!("weir shard list {name} shows the shards");
    match error {
        E::UnknownTopic | E::UnknownTopicId => unknown(name),
        E::UnknownShard(_) => (StatusCode::NOT_FOUND, format!("{error} in topic '{name}'; {see}")),
        E::InvalidReshard(_) => (StatusCode::BAD_REQUEST, format!("{error}; {see}")),
        E::InUse(_) => (StatusCode::CONFLICT, error.to_string()),
        E::Storage(StoreError::Full { .. }) => (StatusCode::INSUFFICIENT_STORAGE, error.to_string()),
        E::Opening => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        E::Storage(_) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        _ => (StatusCode::BAD_REQUEST, error.to_string()),
    }
}

async fn list(
    core: &Core,
    name: &str,
    place: OwnedSemaphorePermit,
    answers: &Arc<Budget>,
) -> Result<Bytes, Refusal> {
    let topic = core.topics().by_name(name).ok_or_else(|| unknown(name))?;
    let shards = topic.shards();
    let mut lease = answers.account().lease();
    let bytes = 1024 + shards.iter().count() * SHARD_BYTES;
    if timeout(MEMORY_TIME, lease.grow(bytes, bytes)).await.is_err() {
        let why = "too many read answers at a time; try again".to_owned();
        return Err((StatusCode::SERVICE_UNAVAILABLE, why));
    }
    let listed = shards.iter().map(|shard| ListedShard {
        id: shard.id,
        shard_id: format!("shardId-{:012}", shard.id),
        open: shard.is_open(),
        partition: shard.partition,
        from: shard.from,
        until: shard.until,
        start_hash: shard.start_hash.to_string(),
        end_hash: shard.end_hash.to_string(),
        parents: shard.parents.into_iter().flatten().collect(),
        created_s: shard.created_s,
        closed_ms: shard.closed_ms,
    });
    let listed = Listed { topic: name, partitions: topic.partitions().len(), shards: listed.collect() };
    Ok(Bytes::from_owner(Held { bytes: json(&listed), _place: (place, lease) }))
}

/// An answer and its place among those that are being read.
struct Held {
    bytes: Vec<u8>,
    _place: (OwnedSemaphorePermit, Lease),
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}
