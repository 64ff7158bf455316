//! Heartbeat (key 12), versions 0-4, flexible from 4.
//!
//! - v1: throttle time. v3: static members (KIP-345).
//!
//! Known deviations from Apache Kafka: none.

use std::ops::RangeInclusive;

use kafka_protocol::messages::heartbeat_request::HeartbeatRequest;
use kafka_protocol::messages::heartbeat_response::HeartbeatResponse;

use super::{Api, Context, Reply};
use crate::group::{self, Error, Event};
use crate::kafka::error;

pub(super) struct Heartbeat;

impl Api for Heartbeat {
    type Request = HeartbeatRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=4;

    fn answer(cx: &mut Context<'_>, _version: i16, request: HeartbeatRequest) -> Reply<HeartbeatResponse> {
        let reply = cx.core.group(Event::Heartbeat(group::Heartbeat {
            group: request.group_id.to_string(),
            member_id: request.member_id.to_string(),
            instance_id: request.group_instance_id.map(|id| id.to_string()),
            generation: request.generation_id,
        }));
        Reply::phased(async move {
            let beaten = match reply.await {
                Ok(group::Reply::Heartbeat(beaten)) => beaten,
                Ok(_) | Err(_) => Err(Error::Storage),
            };
            HeartbeatResponse::default().with_error_code(error::of_group_result(&beaten).0)
        })
    }
}
