//! DeleteGroups (key 42), versions 0-3, flexible from 2.
//!
//! - v1: throttling happens after the response (KIP-219). v2: flexible. v3: error message per group (KIP-1331).
//!
//! Known deviations from Apache Kafka: none.

use std::ops::RangeInclusive;

use bytes::Bytes;
use kafka_protocol::messages::GroupId;
use kafka_protocol::messages::delete_groups_request::DeleteGroupsRequest;
use kafka_protocol::messages::delete_groups_response::{DeletableGroupResult, DeleteGroupsResponse};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use super::{Api, Context, Reply};
use crate::group::{self, Error, Event};
use crate::kafka::connection::Close;
use crate::kafka::error;
use crate::kafka::wire::Writer;

pub(super) struct DeleteGroups;

/// Newest version that `kafka_protocol` 0.18 has.
const CRATE_MAX: i16 = 2;

impl Api for DeleteGroups {
    type Request = DeleteGroupsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=3;

    fn answer(
        cx: &mut Context<'_>,
        _version: i16,
        request: DeleteGroupsRequest,
    ) -> Reply<DeleteGroupsResponse> {
        let ids: Vec<String> = request.groups_names.iter().map(|g| g.to_string()).collect();
        let reply = cx.core.group(Event::DeleteGroups(ids.clone()));
        Reply::phased(async move {
            let groups = match reply.await {
                Ok(group::Reply::DeleteGroups(groups)) => groups,
                Ok(_) | Err(_) => ids.into_iter().map(|id| (id, Err(Error::Storage))).collect(),
            };
            let results = groups
                .into_iter()
                .map(|(id, result)| {
                    DeletableGroupResult::default()
                        .with_group_id(GroupId(StrBytes::from_string(id)))
                        .with_error_code(error::of_group_result(&result).0)
                })
                .collect();
            DeleteGroupsResponse::default().with_results(results)
        })
    }

    /// The request of v3 is that of v2.
    fn decode(version: i16, body: &mut Bytes) -> Result<DeleteGroupsRequest, Close> {
        DeleteGroupsRequest::decode(body, version.min(CRATE_MAX))
            .map_err(|e| Close::Refused(format!("request body: {e}")))
    }

    /// v3 adds a nullable error message to each result.
    fn encode(version: i16, response: &DeleteGroupsResponse) -> Result<Vec<u8>, Close> {
        if version <= CRATE_MAX {
            let mut out = Vec::new();
            response.encode(&mut out, version).map_err(|e| Close::Refused(format!("response body: {e}")))?;
            return Ok(out);
        }
        let mut w = Writer::new(true, 16);
        w.i32(response.throttle_time_ms);
        w.count(response.results.len());
        for result in &response.results {
            w.string(&result.group_id);
            w.i16(result.error_code);
            w.nullable_string(None);
            w.tags();
        }
        w.tags();
        Ok(w.finish())
    }
}
