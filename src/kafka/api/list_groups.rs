//! ListGroups (key 16), versions 0-5, flexible from 3.
//!
//! - v1: throttle time. v3: flexible. v4: filter by state (KIP-518). v5: filter by type (KIP-848).
//!
//! Known deviations from Apache Kafka: none.

use std::ops::RangeInclusive;

use kafka_protocol::messages::GroupId;
use kafka_protocol::messages::list_groups_request::ListGroupsRequest;
use kafka_protocol::messages::list_groups_response::{ListGroupsResponse, ListedGroup};
use kafka_protocol::protocol::StrBytes;

use super::{Api, Context, Reply};
use crate::group::{self, Error, Event};
use crate::kafka::error;

pub(super) struct ListGroups;

impl Api for ListGroups {
    type Request = ListGroupsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=5;

    /// Nobody knows before.
    fn is_large(_cx: &Context<'_>, _request: &ListGroupsRequest) -> bool {
        true
    }

    fn answer(cx: &mut Context<'_>, version: i16, request: ListGroupsRequest) -> Reply<ListGroupsResponse> {
        let words = |filter: Vec<StrBytes>| filter.iter().map(ToString::to_string).collect();
        let (states, types) = (words(request.states_filter), words(request.types_filter));
        let event = Event::ListGroups { states, types, after: None };
        let reply = cx.core.group(event);
        Reply::phased(async move {
            let listed = match reply.await {
                Ok(group::Reply::ListGroups(listed)) => listed,
                Ok(_) | Err(_) => Err(Error::Storage),
            };
            let code = error::of_group_result(&listed);
            let groups = listed.unwrap_or_default().into_iter().map(|g| describe(version, g)).collect();
            ListGroupsResponse::default().with_error_code(code.0).with_groups(groups)
        })
    }
}

fn describe(version: i16, listed: group::Listed) -> ListedGroup {
    let mut group = ListedGroup::default()
        .with_group_id(GroupId(StrBytes::from_string(listed.group)))
        .with_protocol_type(StrBytes::from_string(listed.protocol_type));
    if version >= 4 {
        group.group_state = StrBytes::from_static_str(listed.state.name());
    }
    if version >= 5 {
        group.group_type = StrBytes::from_static_str(listed.group_type.name());
    }
    group
}
