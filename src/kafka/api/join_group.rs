//! JoinGroup (key 11), versions 0-9, flexible from 6.
//!
//! Behaviour: the coordinator's; the answer waits until the group has gathered.
//!
//! - v1: rebalance timeout. v2: throttle time. v4: a new member is told its id first (KIP-394).
//! - v5: static members (KIP-345). v6: flexible. v7: protocol type (KIP-559). v8: reason (KIP-800).
//! - v9: the leader may skip the assignment (KIP-814).
//!
//! Known deviations from Apache Kafka: an older JoinGroup of the same member that still waits is
//! answered with REBALANCE_IN_PROGRESS (Kafka never answers it).

use std::ops::RangeInclusive;
use std::sync::Arc;

use kafka_protocol::messages::join_group_request::JoinGroupRequest;
use kafka_protocol::messages::join_group_response::{JoinGroupResponse, JoinGroupResponseMember};
use kafka_protocol::protocol::StrBytes;

use super::{Api, Context, Reply};
use crate::group::{self, Error, Event, Join, Joined};
use crate::kafka::error;

pub(super) struct JoinGroup;

impl Api for JoinGroup {
    type Request = JoinGroupRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=9;

    fn answer(cx: &mut Context<'_>, version: i16, request: JoinGroupRequest) -> Reply<JoinGroupResponse> {
        let asked_id = StrBytes::from_string(request.member_id.to_string());
        let join = Event::Join(join(cx, version, request));
        let answer = move |reply| match reply {
            Ok(group::Reply::Join(Ok(joined))) => respond(version, joined),
            Ok(group::Reply::Join(Err(refusal))) => refuse(version, &refusal, asked_id),
            Ok(_) | Err(_) => refuse(version, &Error::Storage, asked_id),
        };
        if !cx.core.has_journal() {
            let reply = Arc::clone(cx.core).first_group(join);
            return Reply::alone(async move { answer(reply.await) });
        }
        let reply = cx.core.group(join);
        Reply::waits(async move { answer(reply.await) })
    }
}

fn join(cx: &Context<'_>, version: i16, request: JoinGroupRequest) -> Join {
    let client_id = cx.client_id.unwrap_or_default().to_owned();
    let instance_id = request.group_instance_id.map(|id| id.to_string());
    let stem = instance_id.as_deref().unwrap_or(&client_id);
    let rebalance_timeout_ms =
        if version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms };
    Join {
        new_member_id: format!("{stem}-{}", cx.core.clock().uuid()),
        group: request.group_id.to_string(),
        member_id: request.member_id.to_string(),
        instance_id,
        client_id,
        client_host: format!("/{}", cx.peer.ip().to_canonical()),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms,
        protocol_type: request.protocol_type.to_string(),
        protocols: request.protocols.into_iter().map(|p| (p.name.to_string(), own(&p.metadata))).collect(),
        requires_known_member_id: version >= 4,
        supports_skip_assignment: version >= 9,
    }
}

/// A copy that does not keep the connection's read buffer alive for as long as the member lives.
pub(super) fn own(bytes: &bytes::Bytes) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(bytes)
}

fn respond(version: i16, joined: Joined) -> JoinGroupResponse {
    let members = joined
        .members
        .into_iter()
        .map(|m| {
            let instance_id = m.instance_id.filter(|_| version >= 5).map(StrBytes::from_string);
            JoinGroupResponseMember::default()
                .with_member_id(StrBytes::from_string(m.member_id))
                .with_group_instance_id(instance_id)
                .with_metadata(m.metadata)
        })
        .collect();
    JoinGroupResponse::default()
        .with_generation_id(joined.generation)
        .with_protocol_type(joined.protocol_type.filter(|_| version >= 7).map(StrBytes::from_string))
        .with_protocol_name(protocol_name(version, joined.protocol))
        .with_leader(StrBytes::from_string(joined.leader))
        .with_skip_assignment(joined.skip_assignment && version >= 9)
        .with_member_id(StrBytes::from_string(joined.member_id))
        .with_members(members)
}

/// Null is allowed from v7 on.
fn protocol_name(version: i16, name: Option<String>) -> Option<StrBytes> {
    match name {
        Some(name) => Some(StrBytes::from_string(name)),
        None if version < 7 => Some(StrBytes::default()),
        None => None,
    }
}

fn refuse(version: i16, refusal: &Error, asked_id: StrBytes) -> JoinGroupResponse {
    let member_id = match refusal {
        Error::MemberIdRequired(id) => StrBytes::from_string(id.clone()),
        _ => asked_id,
    };
    JoinGroupResponse::default()
        .with_error_code(error::of_group(refusal).0)
        .with_generation_id(-1)
        .with_protocol_name(protocol_name(version, None))
        .with_member_id(member_id)
}
