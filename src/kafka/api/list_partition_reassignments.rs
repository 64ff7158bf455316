//! ListPartitionReassignments (key 46), version 0, flexible.
//!
//! Behaviour: an empty list, whatever is asked for: there is one broker, and nothing moves. topicctl asks before it
//! applies anything.
//!
//! - v0: KIP-455.
//!
//! Known deviations from Apache Kafka: none; it, too, leaves out partitions that do not exist.

use std::ops::RangeInclusive;

use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsRequest;
use kafka_protocol::messages::list_partition_reassignments_response::ListPartitionReassignmentsResponse;

use super::{Api, Context, Reply};

pub(super) struct ListPartitionReassignments;

impl Api for ListPartitionReassignments {
    type Request = ListPartitionReassignmentsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn answer(
        _: &mut Context<'_>,
        _: i16,
        _: ListPartitionReassignmentsRequest,
    ) -> Reply<ListPartitionReassignmentsResponse> {
        Reply::Now(ListPartitionReassignmentsResponse::default().with_error_message(None))
    }
}
