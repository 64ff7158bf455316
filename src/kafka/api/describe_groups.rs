//! DescribeGroups (key 15), versions 0-6, flexible from 5.
//!
//! Behaviour: an unknown group is Dead below v6 and GROUP_ID_NOT_FOUND from v6 on (KIP-1043). A group that is named more
//! than once is described once. Groups past 64 MiB of one answer are COORDINATOR_LOAD_IN_PROGRESS: clients ask again.
//!
//! - v1: throttle time. v3: authorized operations, where asked for (KIP-430).
//! - v4: instance id (KIP-345). v5: flexible. v6: error message (KIP-1043).
//!
//! Known deviations from Apache Kafka: none.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use kafka_protocol::messages::GroupId;
use kafka_protocol::messages::describe_groups_request::DescribeGroupsRequest;
use kafka_protocol::messages::describe_groups_response::{
    DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};
use kafka_protocol::protocol::StrBytes;

use super::{Api, Context, FEW, Reply, operations};
use crate::group::{self, Described, DescribedMember, Error, Event};
use crate::kafka::error;
use crate::listen::OWN_BYTES;

pub(super) struct DescribeGroups;

/// Groups that are looked at before others get to the coordinator.
const AT_A_TIME: usize = 16;
/// Bytes of one answer.
const BYTES_MAX: usize = 64 * 1024 * 1024;

impl Api for DescribeGroups {
    type Request = DescribeGroupsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=6;

    /// What their members say of themselves is theirs.
    fn is_large(cx: &Context<'_>, request: &DescribeGroupsRequest) -> bool {
        let groups = || request.groups.iter().map(|id| id.as_str());
        groups().count() > FEW || cx.core.bytes_of_groups(groups()) > OWN_BYTES
    }

    fn answer(
        cx: &mut Context<'_>,
        version: i16,
        request: DescribeGroupsRequest,
    ) -> Reply<DescribeGroupsResponse> {
        let mut seen = HashSet::new();
        let ids: Vec<String> =
            request.groups.iter().filter(|id| seen.insert(id.as_str())).map(|g| g.to_string()).collect();
        drop(seen);
        let may = operations::when(request.include_authorized_operations, operations::GROUP);
        let core = Arc::clone(cx.core);
        Reply::phased(async move {
            let mut described = Vec::with_capacity(ids.len());
            let mut bytes = 0;
            for ids in ids.chunks(AT_A_TIME) {
                if bytes > BYTES_MAX {
                    let later = |id: &String| (id.clone(), Err(Error::CoordinatorLoading));
                    described.extend(ids.iter().map(later));
                    continue;
                }
                match core.group(Event::DescribeGroups(ids.to_vec())).await {
                    Ok(group::Reply::DescribeGroups(groups)) => {
                        bytes +=
                            groups.iter().map(|(_, found)| found.as_ref().map_or(0, size)).sum::<usize>();
                        described.extend(groups);
                    }
                    Ok(_) | Err(_) => {
                        described.extend(ids.iter().map(|id| (id.clone(), Err(Error::Storage))))
                    }
                }
            }
            let groups = described.into_iter().map(|(id, found)| describe(version, id, found, may)).collect();
            DescribeGroupsResponse::default().with_groups(groups)
        })
    }
}

/// About what a group takes in the answer.
fn size(group: &Described) -> usize {
    let member = |m: &DescribedMember| 100 + m.metadata.len() + m.assignment.len();
    group.members.iter().map(member).sum()
}

fn describe(version: i16, id: String, found: Result<Described, Error>, may: i32) -> DescribedGroup {
    let group = DescribedGroup::default()
        .with_group_id(GroupId(StrBytes::from_string(id.clone())))
        .with_authorized_operations(may);
    match found {
        Ok(found) => group
            .with_group_state(StrBytes::from_static_str(found.state.name()))
            .with_protocol_type(StrBytes::from_string(found.protocol_type))
            .with_protocol_data(StrBytes::from_string(found.protocol))
            .with_members(found.members.into_iter().map(|m| member(version, m)).collect()),
        Err(Error::GroupIdNotFound) if version < 6 => {
            group.with_group_state(StrBytes::from_static_str("Dead"))
        }
        Err(refusal) => {
            let dead = if refusal == Error::GroupIdNotFound { "Dead" } else { "" };
            let message = (version >= 6).then(|| StrBytes::from_string(format!("Group {id}: {refusal}.")));
            group
                .with_error_code(error::of_group(&refusal).0)
                .with_error_message(message)
                .with_group_state(StrBytes::from_static_str(dead))
        }
    }
}

fn member(version: i16, member: DescribedMember) -> DescribedGroupMember {
    DescribedGroupMember::default()
        .with_member_id(StrBytes::from_string(member.member_id))
        .with_group_instance_id(member.instance_id.filter(|_| version >= 4).map(StrBytes::from_string))
        .with_client_id(StrBytes::from_string(member.client_id))
        .with_client_host(StrBytes::from_string(member.client_host))
        .with_member_metadata(member.metadata)
        .with_member_assignment(member.assignment)
}
