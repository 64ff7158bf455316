//! SyncGroup (key 14), versions 0-5, flexible from 4.
//!
//! Behaviour: the leader's plan is durable in the journal before anybody gets a part of it.
//!
//! - v1: throttle time. v3: static members (KIP-345). v4: flexible. v5: protocol type and name (KIP-559).
//!
//! Known deviations from Apache Kafka: none.

use std::ops::RangeInclusive;

use kafka_protocol::messages::sync_group_request::SyncGroupRequest;
use kafka_protocol::messages::sync_group_response::SyncGroupResponse;
use kafka_protocol::protocol::StrBytes;

use super::join_group::own;
use super::{Api, Context, Reply};
use crate::group::{self, Error, Event, Sync};
use crate::kafka::error;

pub(super) struct SyncGroup;

impl Api for SyncGroup {
    type Request = SyncGroupRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=5;

    fn answer(cx: &mut Context<'_>, version: i16, request: SyncGroupRequest) -> Reply<SyncGroupResponse> {
        let assignments =
            request.assignments.into_iter().map(|a| (a.member_id.to_string(), own(&a.assignment))).collect();
        let reply = cx.core.group(Event::Sync(Sync {
            group: request.group_id.to_string(),
            member_id: request.member_id.to_string(),
            instance_id: request.group_instance_id.map(|id| id.to_string()),
            generation: request.generation_id,
            protocol_type: request.protocol_type.map(|t| t.to_string()),
            protocol: request.protocol_name.map(|n| n.to_string()),
            assignments,
        }));
        Reply::waits(async move {
            let synced = match reply.await {
                Ok(group::Reply::Sync(synced)) => synced,
                Ok(_) | Err(_) => Err(Error::Storage),
            };
            match synced {
                Ok(synced) => SyncGroupResponse::default()
                    .with_protocol_type(
                        synced.protocol_type.filter(|_| version >= 5).map(StrBytes::from_string),
                    )
                    .with_protocol_name(synced.protocol.filter(|_| version >= 5).map(StrBytes::from_string))
                    .with_assignment(synced.assignment),
                Err(refusal) => SyncGroupResponse::default().with_error_code(error::of_group(&refusal).0),
            }
        })
    }
}
