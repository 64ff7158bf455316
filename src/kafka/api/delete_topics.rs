//! DeleteTopics (key 20), versions 0-6, flexible from 4. The answer of v0 is written by hand.
//!
//! Behaviour: a topic is gone for everybody, with its bytes and the offsets that groups committed for it,
//! before the answer leaves. The broker's own topics cannot be deleted.
//!
//! - v0: names. v1: throttle time. v2: throttling happens after the response (KIP-219).
//! - v3: TOPIC_DELETION_DISABLED (73) instead of INVALID_REQUEST. v4: flexible.
//! - v5: error message; THROTTLING_QUOTA_EXCEEDED may be answered (KIP-599). v6: topics by id (KIP-516).
//!
//! Known deviations from Apache Kafka: v0 is gone from Kafka 4 (KIP-896); Kafka lets its own topics be
//! deleted; `timeout.ms` is not used, the answer waits until everything is done.

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use kafka_protocol::messages::delete_topics_response::{DeletableTopicResult, DeleteTopicsResponse};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use uuid::Uuid;

use super::{Api, Context, Reply, resource};
use crate::broker::Core;
use crate::kafka::connection::Close;
use crate::kafka::error::{Code, Refused};
use crate::kafka::wire::Writer;
use crate::topic::Topic;

pub(super) struct DeleteTopics;

/// Oldest version that `kafka_protocol` has; the request of v0 has the same layout.
const CRATE_MIN: i16 = 1;
/// First version that knows TOPIC_DELETION_DISABLED.
const DISABLED_FROM: i16 = 3;
/// First version with error messages.
const MESSAGES_FROM: i16 = 5;
/// First version with topic ids.
const TOPIC_IDS_FROM: i16 = 6;

impl Api for DeleteTopics {
    type Request = DeleteTopicsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=6;

    fn answer(
        cx: &mut Context<'_>,
        version: i16,
        request: DeleteTopicsRequest,
    ) -> Reply<DeleteTopicsResponse> {
        let core = Arc::clone(cx.core);
        let mut asked = request.topics;
        asked.extend(
            request.topic_names.into_iter().map(|name| DeleteTopicState::default().with_name(Some(name))),
        );
        let found = find_all(&core, version, asked);
        Reply::alone(async move {
            let mut responses = Vec::with_capacity(found.len());
            for (name, id, topic) in found {
                let outcome = match topic {
                    Ok(topic) => delete(&core, &topic).await,
                    Err(refused) => Err(refused),
                };
                responses.push(result(version, name, id, &outcome));
            }
            DeleteTopicsResponse::default().with_responses(responses)
        })
    }

    fn decode(version: i16, body: &mut Bytes) -> Result<DeleteTopicsRequest, Close> {
        DeleteTopicsRequest::decode(body, version.max(CRATE_MIN))
            .map_err(|e| Close::Refused(format!("request body: {e}")))
    }

    fn encode(version: i16, response: &DeleteTopicsResponse) -> Result<Vec<u8>, Close> {
        if version < CRATE_MIN {
            return Ok(encode_old(response));
        }
        let mut out = Vec::new();
        response.encode(&mut out, version).map_err(|e| Close::Refused(format!("response body: {e}")))?;
        Ok(out)
    }
}

type Found = (Option<TopicName>, Uuid, Result<Arc<Topic>, Refused>);

fn find_all(core: &Core, version: i16, asked: Vec<DeleteTopicState>) -> Vec<Found> {
    let found: Vec<Found> = asked.into_iter().map(|topic| find(core, version, topic)).collect();
    let twice = resource::repeated(found.iter().filter_map(|(_, _, topic)| Some(topic.as_ref().ok()?.id())));
    let refuse = |(name, id, topic): Found| match topic {
        Ok(topic) if twice.contains(&topic.id()) => {
            let why = "the topic is named more than once";
            (name, id, Err(Refused::new(Code::INVALID_REQUEST, why)))
        }
        topic => (name, id, topic),
    };
    found.into_iter().map(refuse).collect()
}

fn find(core: &Core, version: i16, DeleteTopicState { name, topic_id, .. }: DeleteTopicState) -> Found {
    let refuse = |code, why: &str| Err(Refused::new(code, why));
    let topic = match &name {
        _ if !core.topic_settings().delete_allowed => {
            let known = version >= DISABLED_FROM;
            let code = if known { Code::TOPIC_DELETION_DISABLED } else { Code::INVALID_REQUEST };
            refuse(code, "delete.topic.enable is false")
        }
        Some(_) if !topic_id.is_nil() => {
            refuse(Code::INVALID_REQUEST, "a topic has a name or an id here, not both")
        }
        None if topic_id.is_nil() => refuse(Code::INVALID_REQUEST, "neither name nor id"),
        Some(name) => {
            let unknown = || Refused::new(Code::UNKNOWN_TOPIC_OR_PARTITION, "no such topic");
            core.topics().by_name(name).ok_or_else(unknown)
        }
        None => {
            let unknown = || Refused::new(Code::UNKNOWN_TOPIC_ID, "no topic with that id");
            core.topics().by_id(topic_id).ok_or_else(unknown)
        }
    };
    match topic {
        Ok(topic) if topic.is_internal() => {
            let name = name.or_else(|| Some(topic_name(&topic)));
            (name, topic.id(), refuse(Code::INVALID_TOPIC_EXCEPTION, "the topic is the broker's own"))
        }
        Ok(topic) => (Some(topic_name(&topic)), topic.id(), Ok(topic)),
        refused => (name, topic_id, refused),
    }
}

fn topic_name(topic: &Topic) -> TopicName {
    TopicName(StrBytes::from_string(topic.name().to_string()))
}

async fn delete(core: &Arc<Core>, topic: &Arc<Topic>) -> Result<(), Refused> {
    let id = topic.id();
    let deleted = core.blocking(move |core| core.delete_topic(id));
    deleted.await.map_err(Refused::from)
}

fn result(
    version: i16,
    name: Option<TopicName>,
    id: Uuid,
    outcome: &Result<(), Refused>,
) -> DeletableTopicResult {
    let (code, message) = Refused::fields(outcome);
    let result = DeletableTopicResult::default().with_name(name).with_error_code(code);
    let result = if version < MESSAGES_FROM { result } else { result.with_error_message(message) };
    if version < TOPIC_IDS_FROM { result } else { result.with_topic_id(id) }
}

fn encode_old(response: &DeleteTopicsResponse) -> Vec<u8> {
    let mut w = Writer::new(false, 64);
    w.count(response.responses.len());
    for topic in &response.responses {
        w.string(topic.name.as_ref().map_or("", |name| name.as_str()));
        w.i16(topic.error_code);
    }
    w.finish()
}
