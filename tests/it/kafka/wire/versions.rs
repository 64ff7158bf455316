//! Every version of every API that ApiVersions promises, asked of a running broker.
//!
//! Each answer carries the right header, decodes to its last byte with kafka-protocol in that version and
//! encodes back to the same bytes; versions which that crate lacks are asked and read by hand. Invariant:
//! the table in code, ApiVersions on the wire and what is asked here are one set.

use std::collections::BTreeMap;
use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::alter_client_quotas_request as quotas;
use kafka_protocol::messages::alter_configs_request as alter_configs;
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_topic_partitions_request::TopicRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::incremental_alter_configs_request as incremental;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    AlterClientQuotasRequest, AlterConfigsRequest, ApiKey, ApiVersionsRequest, CreateAclsRequest,
    CreatePartitionsRequest, CreateTopicsRequest, DeleteAclsRequest, DeleteGroupsRequest,
    DeleteRecordsRequest, DeleteTopicsRequest, DescribeAclsRequest, DescribeClientQuotasRequest,
    DescribeClusterRequest, DescribeConfigsRequest, DescribeGroupsRequest, DescribeLogDirsRequest,
    DescribeTopicPartitionsRequest, FetchRequest, FindCoordinatorRequest, GroupId, HeartbeatRequest,
    IncrementalAlterConfigsRequest, InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest,
    ListGroupsRequest, ListOffsetsRequest, ListPartitionReassignmentsRequest, MetadataRequest,
    OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest,
    ProduceRequest, RequestHeader, ResponseHeader, SyncGroupRequest, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};
use uuid::Uuid;

use super::exchange;
use crate::kafka::{Client, House, In, NOBODY, Out, batch};

const TOPIC: &str = "t";

/// What a request needs to know.
struct World {
    topic_id: Uuid,
    cluster_id: String,
    /// A member of the group `g`, in generation 1.
    member: String,
}

fn word(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic() -> TopicName {
    TopicName(word(TOPIC))
}

fn group() -> GroupId {
    GroupId(word("g"))
}

/// A body as kafka-protocol writes it, and its reader of the answer.
struct Asked {
    body: Vec<u8>,
    decode: fn(&mut Bytes, i16) -> (String, Vec<u8>),
}

fn bytes_of<M: Encodable>(version: i16, message: &M) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes, version).unwrap_or_else(|e| panic!("v{version}: {e}"));
    bytes.to_vec()
}

fn encode<R: Request<Response: Debug>>(version: i16, request: &R) -> Asked {
    Asked { body: bytes_of(version, request), decode: decode::<R::Response> }
}

/// The answer in words, and as the crate writes it again.
fn decode<M: Decodable + Encodable + Debug>(bytes: &mut Bytes, version: i16) -> (String, Vec<u8>) {
    let message = M::decode(bytes, version).unwrap_or_else(|e| panic!("v{version}: {e}"));
    (format!("{message:?}"), bytes_of(version, &message))
}

/// A request of that version that succeeds.
fn request(key: ApiKey, v: i16, world: &World) -> Asked {
    let fresh = format!("{key:?}-{v}");
    match key {
        ApiKey::Produce => {
            let data = PartitionProduceData::default().with_records(Some(batch(NOBODY, 1, b"v").into()));
            let named = TopicProduceData::default().with_partition_data(vec![data]);
            let named = if v >= 13 { named.with_topic_id(world.topic_id) } else { named.with_name(topic()) };
            encode(
                v,
                &ProduceRequest::default().with_acks(-1).with_timeout_ms(100).with_topic_data(vec![named]),
            )
        }
        ApiKey::Fetch => {
            let partition = FetchPartition::default().with_fetch_offset(0).with_partition_max_bytes(1 << 20);
            let named = FetchTopic::default().with_partitions(vec![partition]);
            let named = if v >= 13 { named.with_topic_id(world.topic_id) } else { named.with_topic(topic()) };
            let fetch = FetchRequest::default().with_min_bytes(1).with_max_bytes(1 << 20);
            let fetch = if v >= 7 { fetch.with_session_epoch(-1) } else { fetch };
            encode(v, &fetch.with_topics(vec![named]))
        }
        ApiKey::ListOffsets => {
            let partition = ListOffsetsPartition::default().with_timestamp(-1);
            let named = ListOffsetsTopic::default().with_name(topic()).with_partitions(vec![partition]);
            encode(v, &ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![named]))
        }
        ApiKey::Metadata => {
            let named = MetadataRequestTopic::default().with_name(Some(topic()));
            let asked = MetadataRequest::default().with_topics(Some(vec![named]));
            encode(v, &asked.with_allow_auto_topic_creation(true))
        }
        ApiKey::OffsetCommit => {
            let partition =
                OffsetCommitRequestPartition::default().with_committed_metadata(Some(word("note")));
            let named =
                OffsetCommitRequestTopic::default().with_partitions(vec![partition]).with_name(topic());
            let commit = OffsetCommitRequest::default().with_group_id(group()).with_topics(vec![named]);
            let commit = commit.with_generation_id_or_member_epoch(1).with_member_id(word(&world.member));
            encode(v, &commit)
        }
        ApiKey::OffsetFetch if v < 8 => {
            let named = OffsetFetchRequestTopic::default().with_name(topic()).with_partition_indexes(vec![0]);
            let asked = OffsetFetchRequest::default().with_group_id(group()).with_topics(Some(vec![named]));
            encode(v, &asked)
        }
        ApiKey::OffsetFetch => {
            let named =
                OffsetFetchRequestTopics::default().with_name(topic()).with_partition_indexes(vec![0]);
            let asked =
                OffsetFetchRequestGroup::default().with_group_id(group()).with_topics(Some(vec![named]));
            encode(v, &OffsetFetchRequest::default().with_groups(vec![asked]))
        }
        ApiKey::FindCoordinator if v < 4 => encode(v, &FindCoordinatorRequest::default().with_key(word("g"))),
        ApiKey::FindCoordinator => {
            encode(v, &FindCoordinatorRequest::default().with_coordinator_keys(vec![word("g"), word("h")]))
        }
        ApiKey::JoinGroup => {
            let range = JoinGroupRequestProtocol::default().with_name(word("range"));
            let join = JoinGroupRequest::default().with_group_id(GroupId(word(&fresh)));
            let join = join.with_session_timeout_ms(10_000).with_protocol_type(word("consumer"));
            let join = if v >= 1 { join.with_rebalance_timeout_ms(10_000) } else { join };
            // A static member is let in at once, without a second round for its id.
            let join = if v >= 5 { join.with_group_instance_id(Some(word("i"))) } else { join };
            encode(v, &join.with_protocols(vec![range]))
        }
        ApiKey::Heartbeat => {
            let beat = HeartbeatRequest::default().with_group_id(group()).with_generation_id(1);
            encode(v, &beat.with_member_id(word(&world.member)))
        }
        ApiKey::SyncGroup => {
            let plan = SyncGroupRequestAssignment::default().with_member_id(word(&world.member));
            let sync = SyncGroupRequest::default().with_group_id(group()).with_generation_id(1);
            let sync = sync.with_member_id(word(&world.member)).with_assignments(vec![plan]);
            let (kind, name) = (Some(word("consumer")), Some(word("range")));
            let sync = if v >= 5 { sync.with_protocol_type(kind).with_protocol_name(name) } else { sync };
            encode(v, &sync)
        }
        // The member stays: the answer names somebody who is not in the group.
        ApiKey::LeaveGroup if v < 3 => {
            encode(v, &LeaveGroupRequest::default().with_group_id(group()).with_member_id(word("nobody")))
        }
        ApiKey::LeaveGroup => {
            let member = MemberIdentity::default().with_member_id(word("nobody"));
            encode(v, &LeaveGroupRequest::default().with_group_id(group()).with_members(vec![member]))
        }
        ApiKey::DescribeGroups => encode(v, &DescribeGroupsRequest::default().with_groups(vec![group()])),
        ApiKey::ListGroups => encode(v, &ListGroupsRequest::default()),
        ApiKey::ApiVersions if v < 3 => encode(v, &ApiVersionsRequest::default()),
        ApiKey::ApiVersions => {
            let asked = ApiVersionsRequest::default().with_client_software_name(word("test"));
            encode(v, &asked.with_client_software_version(word("1")))
        }
        ApiKey::CreateTopics => {
            let named = CreatableTopic::default().with_name(TopicName(word(&fresh))).with_num_partitions(1);
            let named = named.with_replication_factor(1);
            encode(v, &CreateTopicsRequest::default().with_topics(vec![named]).with_timeout_ms(100))
        }
        ApiKey::DeleteTopics if v < 6 => {
            encode(v, &DeleteTopicsRequest::default().with_topic_names(vec![TopicName(word(&fresh))]))
        }
        ApiKey::DeleteTopics => {
            let named = DeleteTopicState::default().with_name(Some(TopicName(word(&fresh))));
            encode(v, &DeleteTopicsRequest::default().with_topics(vec![named]))
        }
        ApiKey::DeleteRecords => {
            let named = DeleteRecordsTopic::default().with_name(topic());
            let named = named.with_partitions(vec![DeleteRecordsPartition::default().with_offset(0)]);
            encode(v, &DeleteRecordsRequest::default().with_topics(vec![named]))
        }
        ApiKey::InitProducerId => {
            let asked = InitProducerIdRequest::default().with_transaction_timeout_ms(100);
            encode(
                v,
                &asked.with_transactional_id(None).with_producer_id((-1).into()).with_producer_epoch(-1),
            )
        }
        ApiKey::OffsetForLeaderEpoch => {
            let partition = OffsetForLeaderPartition::default().with_leader_epoch(0);
            let named = OffsetForLeaderTopic::default().with_topic(topic());
            let named = named.with_partitions(vec![partition.with_current_leader_epoch(-1)]);
            let asked = OffsetForLeaderEpochRequest::default().with_topics(vec![named]);
            encode(v, &asked.with_replica_id((-2).into()))
        }
        ApiKey::DescribeConfigs => {
            let named =
                DescribeConfigsResource::default().with_resource_type(2).with_resource_name(word(TOPIC));
            let asked = DescribeConfigsRequest::default().with_include_synonyms(true);
            encode(v, &asked.with_resources(vec![named.with_configuration_keys(None)]))
        }
        ApiKey::AlterConfigs => {
            let config = alter_configs::AlterableConfig::default().with_name(word("retention.ms"));
            let named = alter_configs::AlterConfigsResource::default().with_resource_type(2);
            let named =
                named.with_resource_name(word(TOPIC)).with_configs(vec![config.with_value(Some(word("-1")))]);
            encode(v, &AlterConfigsRequest::default().with_resources(vec![named]))
        }
        ApiKey::IncrementalAlterConfigs => {
            let config = incremental::AlterableConfig::default().with_name(word("retention.ms"));
            let named = incremental::AlterConfigsResource::default().with_resource_type(2);
            let named =
                named.with_resource_name(word(TOPIC)).with_configs(vec![config.with_value(Some(word("-1")))]);
            encode(v, &IncrementalAlterConfigsRequest::default().with_resources(vec![named]))
        }
        ApiKey::DescribeLogDirs => {
            let named = DescribableLogDirTopic::default().with_topic(topic()).with_partitions(vec![0]);
            encode(v, &DescribeLogDirsRequest::default().with_topics(Some(vec![named])))
        }
        ApiKey::CreatePartitions => {
            let named = CreatePartitionsTopic::default()
                .with_name(TopicName(word("grows")))
                .with_count(2 + i32::from(v))
                .with_assignments(None);
            encode(v, &CreatePartitionsRequest::default().with_topics(vec![named]).with_timeout_ms(100))
        }
        ApiKey::DeleteGroups => {
            let named = GroupId(word(&fresh));
            encode(v, &DeleteGroupsRequest::default().with_groups_names(vec![named]))
        }
        ApiKey::OffsetDelete => {
            let partition = OffsetDeleteRequestPartition::default();
            let named =
                OffsetDeleteRequestTopic::default().with_name(topic()).with_partitions(vec![partition]);
            encode(
                v,
                &OffsetDeleteRequest::default()
                    .with_group_id(GroupId(word("simple")))
                    .with_topics(vec![named]),
            )
        }
        ApiKey::DescribeClientQuotas => encode(v, &DescribeClientQuotasRequest::default()),
        ApiKey::AlterClientQuotas => {
            let of = quotas::EntityData::default().with_entity_type(word("user")).with_entity_name(None);
            let set = quotas::OpData::default().with_key(word("producer_byte_rate")).with_value(1e9);
            let entry = quotas::EntryData::default().with_entity(vec![of]).with_ops(vec![set]);
            encode(v, &AlterClientQuotasRequest::default().with_entries(vec![entry]).with_validate_only(true))
        }
        ApiKey::DescribeCluster => encode(v, &DescribeClusterRequest::default()),
        ApiKey::DescribeAcls => encode(v, &DescribeAclsRequest::default()),
        ApiKey::CreateAcls => {
            let one = AclCreation::default().with_resource_type(2).with_operation(3).with_permission_type(3);
            encode(v, &CreateAclsRequest::default().with_creations(vec![one]))
        }
        ApiKey::DeleteAcls => {
            let one = DeleteAclsFilter::default().with_resource_type_filter(2);
            encode(v, &DeleteAclsRequest::default().with_filters(vec![one]))
        }
        ApiKey::ListPartitionReassignments => encode(v, &ListPartitionReassignmentsRequest::default()),
        ApiKey::DescribeTopicPartitions => {
            let named = TopicRequest::default().with_name(topic());
            let asked = DescribeTopicPartitionsRequest::default().with_topics(vec![named]);
            encode(v, &asked.with_response_partition_limit(10))
        }
        other => panic!("{other:?} is served, and nobody asks for it here"),
    }
}

/// Error codes other than 0 that a request above is answered with.
fn expected_codes(key: ApiKey, version: i16) -> &'static [i16] {
    match (key, version) {
        // A member that is new gets its id first (KIP-394); static ones do not (KIP-345).
        (ApiKey::JoinGroup, 4) => &[79],
        // Nobody is not a member.
        (ApiKey::LeaveGroup, _) => &[25],
        // There is no authorizer.
        (ApiKey::DescribeAcls | ApiKey::CreateAcls | ApiKey::DeleteAcls, _) => &[54],
        // There is no group of that name.
        (ApiKey::DeleteGroups, _) => &[69],
        _ => &[],
    }
}

/// Codes other than 0 in an answer, wherever in it they stand.
fn codes(answer: &str) -> Vec<i16> {
    let found = answer.split("error_code: ").skip(1).map(|rest| {
        let end = rest.find(|c: char| c != '-' && !c.is_ascii_digit()).unwrap();
        rest[..end].parse::<i16>().unwrap()
    });
    found.filter(|code| *code != 0).collect()
}

/// A frame with the header that the version has, hand over hand with `ours` for what the crate lacks.
fn frame(key: i16, version: i16, flexible: bool, id: i32, body: &[u8]) -> Vec<u8> {
    let head = Out::new().i16(key).i16(version).i32(id).string("test");
    let head = if flexible { head.tags() } else { head };
    [&head.0[..], body].concat()
}

fn ask_with_the_crate(client: &mut Client, key: ApiKey, version: i16, world: &World) {
    let id = 1_000 * i32::from(key as i16) + i32::from(version);
    let header = RequestHeader::default()
        .with_request_api_key(key as i16)
        .with_request_api_version(version)
        .with_correlation_id(id)
        .with_client_id(Some(word("test")));
    let header = bytes_of(key.request_header_version(version), &header);
    let asked = request(key, version, world);
    let answer = exchange(client, &[header, asked.body].concat());

    let mut rest = Bytes::from(answer.clone());
    let header = ResponseHeader::decode(&mut rest, key.response_header_version(version)).unwrap();
    assert_eq!(header.correlation_id, id, "{key:?} v{version}");
    let body_at = answer.len() - rest.len();
    let (words, again) = (asked.decode)(&mut rest, version);
    assert!(rest.is_empty(), "{key:?} v{version}: {} bytes left", rest.len());
    assert_eq!(again, answer[body_at..], "{key:?} v{version}");
    assert_eq!(codes(&words), expected_codes(key, version), "{key:?} v{version}: {words}");
}

type ReadWhole = fn(&mut In, &World);
/// Whether the version is flexible, the request's body, and a reader of the whole answer.
type ByHand = (bool, Out, ReadWhole);

/// The versions that kafka-protocol 0.18 lacks.
fn by_hand(key: i16, version: i16, world: &World) -> Option<ByHand> {
    let one_partition = |out: Out| out.i32(1).string(TOPIC).i32(1).i32(0);
    Some(match (key, version) {
        (0, 0..=2) => {
            let body = one_partition(Out::new().i16(-1).i32(100)).blob(&batch(NOBODY, 1, b"v"));
            // Kafka 4 says 35 to these as well; they are advertised because librdkafka looks for them.
            let read: ReadWhole = match version {
                0 => |a, _| old_produce(a, 0),
                1 => |a, _| old_produce(a, 1),
                _ => |a, _| old_produce(a, 2),
            };
            (false, body, read)
        }
        (2, 11) => {
            let body = Out::new().i32(-1).i8(0).count(1).text(TOPIC).count(1).i32(0).i32(-1).i64(-1).tags();
            (true, body.tags().i32(100).tags(), |a, _| {
                assert_eq!((a.i32(), a.count(), a.text(), a.count()), (0, 1, TOPIC.to_owned(), 1));
                assert_eq!((a.i32(), a.i16(), a.i64()), (0, 0, -1));
                assert!(a.i64() > 0);
                assert_eq!(a.i32(), 0);
                a.tags();
                a.tags();
                a.tags();
            })
        }
        (8, 0) => {
            let body = one_partition(Out::new().string("simple")).i64(3).string("note");
            (false, body, |a, _| committed(a))
        }
        (8, 1) => {
            let body = one_partition(Out::new().string("simple").i32(-1).string("")).i64(3).i64(-1);
            (false, body.string("note"), |a, _| committed(a))
        }
        (8, 10) => {
            let body = Out::new().text("g").i32(1).text(&world.member).null().count(1);
            let body = body.raw(world.topic_id.as_bytes()).count(1).i32(0).i64(3).i32(-1).text("note").tags();
            (true, body.tags().tags(), |a, world| {
                assert_eq!((a.i32(), a.count()), (0, 1));
                assert_eq!(a.take(16), world.topic_id.as_bytes());
                assert_eq!((a.count(), a.i32(), a.i16()), (1, 0, 0));
                a.tags();
                a.tags();
                a.tags();
            })
        }
        (9, 0) => (false, one_partition(Out::new().string("simple")), |a, _| {
            assert_eq!((a.i32(), a.string(), a.i32()), (1, TOPIC.to_owned(), 1));
            assert_eq!((a.i32(), a.i64(), a.string(), a.i16()), (0, 3, "note".to_owned(), 0));
        }),
        (9, 10) => {
            let body = Out::new().count(1).text("simple").null().i32(-1).count(1);
            let body = body.raw(world.topic_id.as_bytes()).count(1).i32(0).tags().tags().i8(0).tags();
            (true, body, |a, world| {
                assert_eq!((a.i32(), a.count(), a.text(), a.count()), (0, 1, "simple".to_owned(), 1));
                assert_eq!(a.take(16), world.topic_id.as_bytes());
                assert_eq!((a.count(), a.i32(), a.i64(), a.i32()), (1, 0, 3, -1));
                assert_eq!((a.text(), a.i16()), ("note".to_owned(), 0));
                a.tags();
                a.tags();
                assert_eq!(a.i16(), 0);
                a.tags();
                a.tags();
            })
        }
        (18, 5) => {
            let body = Out::new().text("test").text("1").text(&world.cluster_id).i32(1).tags();
            (true, body, |a, _| {
                assert_eq!((a.i16(), a.count()), (0, weir_broker::supported_apis().count()));
                for (key, _, versions) in weir_broker::supported_apis() {
                    assert_eq!((a.i16(), a.i16(), a.i16()), (key, *versions.start(), *versions.end()));
                    a.tags();
                }
                assert_eq!(a.i32(), 0);
                a.tags();
            })
        }
        (19, 0 | 1) => {
            let name = format!("old-{version}");
            let body = Out::new().i32(1).string(&name).i32(1).i16(1).i32(0).i32(0).i32(100);
            let body = if version == 1 { body.i8(0) } else { body };
            let read: ReadWhole = match version {
                0 => |a, _| assert_eq!((a.i32(), a.string(), a.i16()), (1, "old-0".to_owned(), 0)),
                _ => |a, _| {
                    assert_eq!((a.i32(), a.string(), a.i16()), (1, "old-1".to_owned(), 0));
                    assert_eq!(a.i16(), -1, "a null error message");
                },
            };
            (false, body, read)
        }
        (20, 0) => (false, Out::new().i32(1).string("DeleteTopics-0").i32(100), |a, _| {
            assert_eq!((a.i32(), a.string(), a.i16()), (1, "DeleteTopics-0".to_owned(), 0));
        }),
        (32, 0) => {
            let body = Out::new().i32(1).i8(2).string(TOPIC).i32(1).string("retention.ms");
            (false, body, |a, _| {
                assert_eq!((a.i32(), a.i32(), a.i16(), a.i16()), (0, 1, 0, -1));
                assert_eq!((a.i8(), a.string(), a.i32()), (2, TOPIC.to_owned(), 1));
                assert_eq!(a.string(), "retention.ms");
                assert_eq!(a.string(), "604800000");
                assert_eq!((a.i8(), a.i8(), a.i8()), (0, 1, 0), "read only, default, sensitive");
            })
        }
        (35, 5) => (true, Out::new().count(1).text(TOPIC).count(1).i32(0).tags().tags(), |a, _| {
            assert_eq!((a.i32(), a.i16(), a.count(), a.i16()), (0, 0, 1, 0));
            assert!(a.text().starts_with('/'));
            assert_eq!((a.count(), a.text(), a.count(), a.i32()), (1, TOPIC.to_owned(), 1, 0));
            assert!(a.i64() > 0, "bytes of the partition");
            assert_eq!((a.i64(), a.i8()), (0, 0));
            a.tags();
            a.tags();
            assert!(a.i64() > 0 && a.i64() > 0, "total and usable bytes");
            assert_eq!(a.i8(), 0, "not cordoned");
            a.tags();
            a.tags();
        }),
        (42, 3) => (true, Out::new().count(1).text("nobody").tags(), |a, _| {
            assert_eq!((a.i32(), a.count(), a.text(), a.i16()), (0, 1, "nobody".to_owned(), 69));
            let _message = a.bytes();
            a.tags();
            a.tags();
        }),
        _ => return None,
    })
}

fn old_produce(answer: &mut In, version: i16) {
    assert_eq!((answer.i32(), answer.string(), answer.i32()), (1, TOPIC.to_owned(), 1));
    assert_eq!((answer.i32(), answer.i16(), answer.i64()), (0, 35, -1));
    if version >= 2 {
        assert_eq!(answer.i64(), -1);
    }
    if version >= 1 {
        assert_eq!(answer.i32(), 0);
    }
}

fn committed(answer: &mut In) {
    assert_eq!((answer.i32(), answer.string(), answer.i32()), (1, TOPIC.to_owned(), 1));
    assert_eq!((answer.i32(), answer.i16()), (0, 0));
}

fn world(client: &mut Client, house: &House) -> World {
    assert_eq!(client.create_topic(TOPIC, &[]), 0);
    assert_eq!(client.create_topic("grows", &[]), 0);
    (0..=6).for_each(|v| assert_eq!(client.create_topic(&format!("DeleteTopics-{v}"), &[]), 0));
    assert_eq!(client.produce(TOPIC, -1, &batch(NOBODY, 1, b"v")).0, 0);

    let metadata = Out::new().count(1).raw(&[0; 16]).text(TOPIC).tags().i8(0).i8(0).tags();
    let mut answer = client.call_flexible(3, 12, &metadata);
    answer.i32();
    assert_eq!(answer.count(), 1);
    answer.i32();
    answer.text();
    answer.i32();
    answer.text();
    answer.tags();
    answer.text();
    answer.i32();
    assert_eq!((answer.count(), answer.i16(), answer.text()), (1, 0, TOPIC.to_owned()));
    let topic_id = Uuid::from_slice(answer.take(16)).unwrap();

    let join = Out::new().string("g").i32(10_000).i32(10_000).string("").string("consumer");
    let mut answer = client.call(11, 3, &join.i32(1).string("range").blob(b""));
    answer.i32();
    assert_eq!((answer.i16(), answer.i32()), (0, 1));
    answer.string();
    answer.string();
    let member = answer.string();
    let sync = Out::new().string("g").i32(1).string(&member).i32(1).string(&member).blob(b"plan");
    let mut answer = client.call(14, 1, &sync);
    assert_eq!((answer.i32(), answer.i16()), (0, 0));
    // Something to delete, by which the group comes to be.
    let commit = Out::new().string("simple").i32(1).string(TOPIC).i32(1).i32(0).i64(3).string("note");
    committed(&mut client.call(8, 0, &commit));
    World { topic_id, cluster_id: house.broker.cluster_id().to_owned(), member }
}

#[test]
fn every_version_of_every_api_is_answered_whole() {
    let house = House::ephemeral();
    let mut client = house.client();
    let world = world(&mut client, &house);
    let mut asked: BTreeMap<i16, (i16, i16)> = BTreeMap::new();
    // What takes something away comes last.
    let (last, first): (Vec<_>, Vec<_>) = weir_broker::supported_apis().partition(|(key, ..)| *key == 47);
    for (key, name, versions) in first.into_iter().chain(last) {
        for version in versions.clone() {
            if let Some((flexible, body, read)) = by_hand(key, version, &world) {
                let answer = exchange(&mut client, &frame(key, version, flexible, 7, &body.0));
                let mut answer = In { bytes: answer, at: 0 };
                assert_eq!(answer.i32(), 7, "{name} v{version}");
                // ApiVersions answers with header v0 in every version (KIP-511).
                if flexible && key != 18 {
                    answer.tags();
                }
                read(&mut answer, &world);
                answer.end();
            } else {
                ask_with_the_crate(&mut client, ApiKey::try_from(key).unwrap(), version, &world);
            }
            let range = asked.entry(key).or_insert((version, version));
            range.1 = version;
        }
    }
    // ApiVersions v0 of the same broker: the set that was asked is the set that is promised.
    let mut answer = client.call(18, 0, &Out::new());
    assert_eq!(answer.i16(), 0);
    let promised: BTreeMap<i16, (i16, i16)> =
        (0..answer.i32()).map(|_| (answer.i16(), (answer.i16(), answer.i16()))).collect();
    answer.end();
    assert_eq!(promised, asked);
    drop(client);
    house.shutdown();
}

#[test]
fn one_version_past_either_end_closes_the_connection_and_api_versions_answers_35() {
    let house = House::ephemeral();
    let mut closed = 0;
    for (key, name, versions) in weir_broker::supported_apis() {
        for version in [versions.start() - 1, versions.end() + 1] {
            let mut client = house.client();
            client.send(key, version, &Out::new().raw(&[0; 64]));
            if key == 18 {
                let (_, mut answer) = client.receive();
                assert_eq!((answer.i16(), answer.i32()), (35, 1), "v{version}");
                assert_eq!(
                    (answer.i16(), answer.i16(), answer.i16()),
                    (18, *versions.start(), *versions.end())
                );
                answer.end();
                continue;
            }
            let end = std::io::Read::read(&mut client.stream, &mut [0; 1]);
            assert_eq!(end.unwrap_or(0), 0, "{name} v{version} is answered");
            closed += 1;
        }
    }
    assert!(closed > 50);
    house.shutdown();
}
