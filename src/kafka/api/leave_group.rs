//! LeaveGroup (key 13), versions 0-5, flexible from 4.
//!
//! - v1: throttle time. v3: many members, by member or instance id (KIP-345). v4: flexible. v5: reason (KIP-800).
//!
//! Known deviations from Apache Kafka: none.

use std::ops::RangeInclusive;

use kafka_protocol::messages::leave_group_request::LeaveGroupRequest;
use kafka_protocol::messages::leave_group_response::{LeaveGroupResponse, MemberResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Api, Context, Reply};
use crate::group::{self, Error, Event, Leave, LeavingMember};
use crate::kafka::error;

pub(super) struct LeaveGroup;

impl Api for LeaveGroup {
    type Request = LeaveGroupRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=5;

    fn answer(cx: &mut Context<'_>, version: i16, request: LeaveGroupRequest) -> Reply<LeaveGroupResponse> {
        let members = if version < 3 {
            vec![LeavingMember { member_id: request.member_id.to_string(), instance_id: None }]
        } else {
            let member = |m: &kafka_protocol::messages::leave_group_request::MemberIdentity| LeavingMember {
                member_id: m.member_id.to_string(),
                instance_id: m.group_instance_id.as_ref().map(ToString::to_string),
            };
            request.members.iter().map(member).collect()
        };
        let reply = cx.core.group(Event::Leave(Leave { group: request.group_id.to_string(), members }));
        Reply::phased(async move {
            let left = match reply.await {
                Ok(group::Reply::Leave(left)) => left,
                Ok(_) | Err(_) => Err(Error::Storage),
            };
            match left {
                Ok(left) => respond(version, left),
                Err(refusal) => LeaveGroupResponse::default().with_error_code(error::of_group(&refusal).0),
            }
        })
    }
}

fn respond(version: i16, left: Vec<(LeavingMember, Result<(), Error>)>) -> LeaveGroupResponse {
    if version < 3 {
        // One member: its outcome is the request's.
        let code = left.first().map_or(0, |(_, result)| error::of_group_result(result).0);
        return LeaveGroupResponse::default().with_error_code(code);
    }
    let members = left
        .into_iter()
        .map(|(member, result)| {
            MemberResponse::default()
                .with_member_id(StrBytes::from_string(member.member_id))
                .with_group_instance_id(member.instance_id.map(StrBytes::from_string))
                .with_error_code(error::of_group_result(&result).0)
        })
        .collect();
    LeaveGroupResponse::default().with_members(members)
}
