//! kafka-protocol as the second reader: what the walk accepts, it must read whole.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Message, Request};

/// One request type of kafka-protocol.
pub struct Decoder {
    pub key: i16,
    pub min: i16,
    pub max: i16,
    decode: fn(Bytes, i16) -> Result<Decoded, String>,
}

/// What a body became.
pub struct Decoded {
    /// Bytes that the decoder left unread.
    pub left: usize,
    /// The body as the crate writes it.
    pub again: Vec<u8>,
}

impl Decoder {
    pub fn knows(&self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }

    pub fn decode(&self, body: &[u8], version: i16) -> Result<Decoded, String> {
        (self.decode)(Bytes::copy_from_slice(body), version)
    }
}

fn decode<R: Request>(mut body: Bytes, version: i16) -> Result<Decoded, String> {
    let request = R::decode(&mut body, version).map_err(|e| e.to_string())?;
    let mut again = BytesMut::new();
    request.encode(&mut again, version).map_err(|e| e.to_string())?;
    Ok(Decoded { left: body.len(), again: again.to_vec() })
}

/// The empty request of the crate's own making.
fn default_body<R: Request + Default>(version: i16) -> Option<Vec<u8>> {
    let mut body = BytesMut::new();
    R::default().encode(&mut body, version).ok().map(|()| body.to_vec())
}

macro_rules! decoders {
    ($($request:ident)*) => {
        pub fn decoder(key: i16) -> Option<Decoder> {
            match key {
                $(<$request as Request>::KEY => {
                    let versions = <$request as Message>::VERSIONS;
                    Some(Decoder { key, min: versions.min, max: versions.max, decode: decode::<$request> })
                })*
                _ => None,
            }
        }

        pub fn default_request(key: i16, version: i16) -> Option<Vec<u8>> {
            match key {
                $(<$request as Request>::KEY => default_body::<$request>(version),)*
                _ => None,
            }
        }
    };
}

decoders! {
    ProduceRequest FetchRequest ListOffsetsRequest MetadataRequest OffsetCommitRequest OffsetFetchRequest FindCoordinatorRequest JoinGroupRequest HeartbeatRequest LeaveGroupRequest SyncGroupRequest DescribeGroupsRequest ListGroupsRequest SaslHandshakeRequest ApiVersionsRequest CreateTopicsRequest DeleteTopicsRequest DeleteRecordsRequest InitProducerIdRequest OffsetForLeaderEpochRequest AddPartitionsToTxnRequest AddOffsetsToTxnRequest EndTxnRequest TxnOffsetCommitRequest DescribeAclsRequest CreateAclsRequest DeleteAclsRequest DescribeConfigsRequest AlterConfigsRequest AlterReplicaLogDirsRequest DescribeLogDirsRequest SaslAuthenticateRequest CreatePartitionsRequest DeleteGroupsRequest ElectLeadersRequest IncrementalAlterConfigsRequest AlterPartitionReassignmentsRequest ListPartitionReassignmentsRequest OffsetDeleteRequest DescribeClientQuotasRequest AlterClientQuotasRequest DescribeUserScramCredentialsRequest AlterUserScramCredentialsRequest DescribeQuorumRequest UpdateFeaturesRequest DescribeClusterRequest DescribeProducersRequest DescribeTransactionsRequest ListTransactionsRequest ConsumerGroupHeartbeatRequest ConsumerGroupDescribeRequest GetTelemetrySubscriptionsRequest PushTelemetryRequest ListConfigResourcesRequest DescribeTopicPartitionsRequest
}
