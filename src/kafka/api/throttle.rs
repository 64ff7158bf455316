//! Where `throttle_time_ms` stands in the answer of every API and version that has it, and how it gets there.
//!
//! Answers are encoded with 0; the few that belong to a client over its quota are patched, so that no API has to know.
//! Produce and Fetch also know limits of their own (of shards, of bytes) and write the field themselves; the larger
//! of the two counts.
//! Source: the message definitions (`common/message/*Response.json`) of kafka-clients 4.4.0.

use super::{api_versions, produce};
use crate::kafka::out::Body;
use crate::kafka::schema;

/// Raises the field of an encoded answer to `throttle_ms`, where its version has one.
pub(super) fn raise(body: &mut Body, key: i16, version: i16, throttle_ms: u32) {
    let Some(field) = place(key, version, body.bytes.len())
        .and_then(|at| body.bytes.get_mut(at..))
        .and_then(|rest| rest.first_chunk_mut::<4>())
    else {
        return;
    };
    let throttle_ms = i32::try_from(throttle_ms).unwrap_or(i32::MAX);
    *field = i32::from_be_bytes(*field).max(throttle_ms).to_be_bytes();
}

/// Position of the field in an answer of `len` bytes.
fn place(key: i16, version: i16, len: usize) -> Option<usize> {
    if version < since(key)? {
        return None;
    }
    match key {
        // The last field, before the tags.
        produce::KEY | api_versions::KEY => {
            len.checked_sub(4 + usize::from(version >= schema::flexible_from(key)))
        }
        // OffsetDelete: after the error code.
        47 => Some(2),
        _ => Some(0),
    }
}

/// First version whose answer has the field.
#[rustfmt::skip]
fn since(key: i16) -> Option<i16> {
    Some(match key {
        // Produce, Fetch, FindCoordinator, Heartbeat, LeaveGroup, SyncGroup, DescribeGroups, ListGroups,
        // ApiVersions, DeleteTopics
        0 | 1 | 10 | 12..=16 | 18 | 20 => 1,
        // ListOffsets, JoinGroup, CreateTopics, OffsetForLeaderEpoch
        2 | 11 | 19 | 23 => 2,
        // Metadata, OffsetCommit, OffsetFetch
        3 | 8 | 9 => 3,
        // SaslHandshake, SaslAuthenticate: before anybody is known
        17 | 36 => return None,
        _ => 0,
    })
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::*;
    use kafka_protocol::protocol::Encodable;

    use super::super::TABLE;
    use super::*;

    /// The bytes of the smallest answer, with the field set.
    macro_rules! answers {
        ($($key:literal $response:ident)*) => {
            fn answer(key: i16, version: i16) -> Option<Vec<u8>> {
                let mut out = Vec::new();
                match key {
                    // Versions that the crate lacks are written by hand in the API's own file.
                    $($key => $response::default().with_throttle_time_ms(MARK).encode(&mut out, version).ok()?,)*
                    _ => return None,
                }
                Some(out)
            }
        };
    }

    answers! {
        0 ProduceResponse 1 FetchResponse 2 ListOffsetsResponse 3 MetadataResponse 8 OffsetCommitResponse
        9 OffsetFetchResponse 10 FindCoordinatorResponse 11 JoinGroupResponse 12 HeartbeatResponse
        13 LeaveGroupResponse 14 SyncGroupResponse 15 DescribeGroupsResponse 16 ListGroupsResponse
        18 ApiVersionsResponse 19 CreateTopicsResponse 20 DeleteTopicsResponse 21 DeleteRecordsResponse
        22 InitProducerIdResponse 23 OffsetForLeaderEpochResponse 24 AddPartitionsToTxnResponse
        25 AddOffsetsToTxnResponse 26 EndTxnResponse 28 TxnOffsetCommitResponse 29 DescribeAclsResponse
        30 CreateAclsResponse 31 DeleteAclsResponse 32 DescribeConfigsResponse 33 AlterConfigsResponse
        34 AlterReplicaLogDirsResponse 35 DescribeLogDirsResponse 37 CreatePartitionsResponse
        42 DeleteGroupsResponse 43 ElectLeadersResponse 44 IncrementalAlterConfigsResponse
        45 AlterPartitionReassignmentsResponse 46 ListPartitionReassignmentsResponse 47 OffsetDeleteResponse
        48 DescribeClientQuotasResponse 49 AlterClientQuotasResponse 50 DescribeUserScramCredentialsResponse
        51 AlterUserScramCredentialsResponse 60 DescribeClusterResponse 61 DescribeProducersResponse
        65 DescribeTransactionsResponse 66 ListTransactionsResponse 68 ConsumerGroupHeartbeatResponse
        69 ConsumerGroupDescribeResponse 75 DescribeTopicPartitionsResponse
    }

    const MARK: i32 = 0x0102_0304;

    #[test]
    fn the_field_is_where_the_protocol_has_it_in_every_version_that_is_served() {
        for entry in TABLE {
            let mut with_field = 0;
            for version in entry.min..=entry.max {
                let Some(bytes) = answer(entry.key, version) else { continue };
                let has = bytes.windows(4).filter(|w| *w == MARK.to_be_bytes()).count();
                let at = place(entry.key, version, bytes.len());
                assert_eq!(has, usize::from(at.is_some()), "{} v{version}", entry.name);
                let Some(at) = at else { continue };
                with_field += 1;
                assert_eq!(bytes[at..at + 4], MARK.to_be_bytes(), "{} v{version}", entry.name);
                let mut body = Body::from(bytes);
                raise(&mut body, entry.key, version, 0x0203_0405);
                assert_eq!(body.bytes[at..at + 4], [2, 3, 4, 5]);
                raise(&mut body, entry.key, version, 1);
                assert_eq!(body.bytes[at..at + 4], [2, 3, 4, 5], "never less");
            }
            assert!(with_field > 0 || since(entry.key).is_none(), "{}", entry.name);
        }
    }
}
