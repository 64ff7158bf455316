//! Laws of the admin APIs, in every version: what a handler answers can be encoded, and the crate reads it
//! back; old versions that are written by hand have Kafka's layout.
//!
//! Deliberately absent: sockets; behaviour over TCP is tested from outside.

use std::fmt::Debug;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::alter_configs_request::{
    AlterConfigsRequest, AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::create_partitions_request::{CreatePartitionsRequest, CreatePartitionsTopic};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use kafka_protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use kafka_protocol::messages::describe_cluster_request::DescribeClusterRequest;
use kafka_protocol::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResponse;
use kafka_protocol::messages::describe_log_dirs_request::DescribeLogDirsRequest;
use kafka_protocol::messages::describe_topic_partitions_request::{
    Cursor, DescribeTopicPartitionsRequest, TopicRequest,
};
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource as IncrementalResource, AlterableConfig as IncrementalConfig,
    IncrementalAlterConfigsRequest,
};
use kafka_protocol::messages::init_producer_id_request::InitProducerIdRequest;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{BrokerId, ProducerId, TopicName, TransactionalId};
use kafka_protocol::protocol::{Decodable, Request, StrBytes};
use uuid::Uuid;

use super::alter_configs::AlterConfigs;
use super::create_partitions::CreatePartitions;
use super::create_topics::CreateTopics;
use super::delete_records::DeleteRecords;
use super::delete_topics::DeleteTopics;
use super::describe_cluster::DescribeCluster;
use super::describe_configs::DescribeConfigs;
use super::describe_log_dirs::DescribeLogDirs;
use super::describe_topic_partitions::DescribeTopicPartitions;
use super::incremental_alter_configs::IncrementalAlterConfigs;
use super::init_producer_id::InitProducerId;
use super::offset_for_leader_epoch::OffsetForLeaderEpoch;
use super::{Api, Context, Reply, ResponseOf};
use crate::broker::{Core, IncidentKind, Refused, Wave, in_memory};
use crate::config::{Config, Source};
use crate::kafka::answers::Answers;
use crate::kafka::wire::Writer;

struct Rig {
    core: Arc<Core>,
}

fn rig() -> Rig {
    rig_with(&[])
}

fn rig_with(pairs: &[(&str, &str)]) -> Rig {
    let mut config = Config::default();
    config.set_all(pairs.iter().copied(), Source::CommandLine).unwrap();
    Rig { core: in_memory(config).unwrap() }
}

impl Rig {
    /// As a connection does: what needs a log that is not open is asked anew once it is.
    async fn ask<A: Api<Request: Clone>>(&self, version: i16, request: A::Request) -> ResponseOf<A> {
        let mut refused = Refused::new();
        loop {
            let mut wave = Wave::default();
            let answers = Answers::new(None);
            let mut cx = Context { refused, ..Context::of_test(&self.core, &mut wave, &answers) };
            let reply = A::answer(&mut cx, version, request.clone());
            if !cx.unopened.is_empty() {
                refused = self.core.open_logs(cx.unopened.into_values().collect(), false).await;
                continue;
            }
            return match reply {
                Reply::Now(response) => response,
                Reply::Phased(future) | Reply::Waits(future) | Reply::Alone(future) => future.await,
            };
        }
    }

    /// Asks, encodes the answer and, where the crate knows the version, reads it back to the same bytes.
    async fn survey<A: Api<Request: Clone>>(
        &self,
        readable: RangeInclusive<i16>,
        request: impl Fn(i16) -> A::Request,
    ) where
        ResponseOf<A>: Debug,
    {
        for version in A::VERSIONS {
            let response = self.ask::<A>(version, request(version)).await;
            let bytes =
                A::encode(version, &response).unwrap_or_else(|e| panic!("v{version}: {e}: {response:?}"));
            if readable.contains(&version) {
                let mut rest = Bytes::from(bytes.clone());
                let back = <A::Request as Request>::Response::decode(&mut rest, version).unwrap();
                assert!(rest.is_empty(), "v{version}: {} bytes too many", rest.len());
                assert_eq!(A::encode(version, &back).unwrap(), bytes, "v{version}");
            }
        }
    }

    async fn create(&self, name: &str, partitions: i32) {
        let made = self.ask::<CreateTopics>(7, create(vec![topic(name, partitions)])).await;
        assert_eq!(made.topics[0].error_code, 0, "{made:?}");
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn name(text: &str) -> TopicName {
    TopicName(StrBytes::from_string(text.to_owned()))
}

fn topic(topic: &str, partitions: i32) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(name(topic))
        .with_num_partitions(partitions)
        .with_replication_factor(-1)
}

fn config(key: &str, value: Option<&str>) -> CreatableTopicConfig {
    CreatableTopicConfig::default().with_name(text(key)).with_value(value.map(text))
}

fn create(topics: Vec<CreatableTopic>) -> CreateTopicsRequest {
    CreateTopicsRequest::default().with_topics(topics)
}

fn resource(kind: i8, at: &str) -> DescribeConfigsResource {
    DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(at))
        .with_configuration_keys(None)
}

fn edit(kind: i8, at: &str, edits: &[(&str, i8, Option<&str>)]) -> IncrementalAlterConfigsRequest {
    let configs = edits
        .iter()
        .map(|(key, operation, value)| {
            IncrementalConfig::default()
                .with_name(text(key))
                .with_config_operation(*operation)
                .with_value(value.map(text))
        })
        .collect();
    let resource = IncrementalResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(at))
        .with_configs(configs);
    IncrementalAlterConfigsRequest::default().with_resources(vec![resource])
}

async fn value(rig: &Rig, kind: i8, at: &str, key: &str) -> Option<(String, i8)> {
    let request = DescribeConfigsRequest::default().with_resources(vec![resource(kind, at)]);
    let response = rig.ask::<DescribeConfigs>(4, request).await;
    let found = response.results[0].configs.iter().find(|c| c.name.as_str() == key)?;
    Some((found.value.as_ref()?.to_string(), found.config_source))
}

#[tokio::test]
async fn every_version_of_every_admin_answer_can_be_encoded_and_read_back() {
    let rig = rig();
    rig.survey::<CreateTopics>(2..=7, |v| {
        create(vec![
            topic(&format!("t{v}"), 2).with_configs(vec![config("retention.ms", Some("5"))]),
            topic("bad name!", 1),
            topic("twice", 1),
            topic("twice", 1),
        ])
    })
    .await;
    rig.survey::<CreatePartitions>(0..=3, |v| {
        let grow = |at: &str| {
            CreatePartitionsTopic::default().with_name(name(at)).with_count(3).with_assignments(None)
        };
        CreatePartitionsRequest::default().with_topics(vec![grow(&format!("t{v}")), grow("nobody")])
    })
    .await;
    rig.survey::<DescribeConfigs>(1..=4, |_| {
        DescribeConfigsRequest::default()
            .with_resources(vec![
                resource(2, "t0"),
                resource(4, "1"),
                resource(4, ""),
                resource(8, "1"),
                resource(2, "?"),
            ])
            .with_include_synonyms(true)
            .with_include_documentation(true)
    })
    .await;
    rig.survey::<AlterConfigs>(0..=2, |_| {
        let alter = |at| {
            let set = AlterableConfig::default().with_name(text("retention.ms")).with_value(Some(text("7")));
            AlterConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(text(at))
                .with_configs(vec![set])
        };
        AlterConfigsRequest::default().with_resources(vec![alter("t0"), alter("nobody")])
    })
    .await;
    rig.survey::<IncrementalAlterConfigs>(0..=1, |_| edit(2, "t0", &[("no.such.key", 0, Some("1"))])).await;
    rig.survey::<DeleteRecords>(0..=2, |_| {
        let partition =
            |index, offset| DeleteRecordsPartition::default().with_partition_index(index).with_offset(offset);
        let partitions = vec![partition(0, -1), partition(0, 1), partition(0, -2), partition(9, 0)];
        DeleteRecordsRequest::default().with_topics(vec![
            DeleteRecordsTopic::default().with_name(name("t0")).with_partitions(partitions),
        ])
    })
    .await;
    rig.survey::<OffsetForLeaderEpoch>(2..=4, |_| {
        let partition = |epoch| OffsetForLeaderPartition::default().with_leader_epoch(epoch);
        let partitions = vec![partition(0), partition(i32::MAX), partition(-1)];
        OffsetForLeaderEpochRequest::default().with_topics(vec![
            OffsetForLeaderTopic::default().with_topic(name("t0")).with_partitions(partitions),
        ])
    })
    .await;
    rig.survey::<DescribeLogDirs>(1..=4, |_| DescribeLogDirsRequest::default().with_topics(None)).await;
    rig.survey::<DescribeCluster>(0..=2, |v| {
        let controllers = if v == 0 { 1 } else { 2 };
        DescribeClusterRequest::default().with_endpoint_type(controllers)
    })
    .await;
    rig.survey::<DescribeCluster>(0..=2, |_| DescribeClusterRequest::default()).await;
    rig.survey::<DescribeTopicPartitions>(0..=0, |_| DescribeTopicPartitionsRequest::default()).await;
    rig.survey::<InitProducerId>(0..=5, |_| InitProducerIdRequest::default().with_transactional_id(None))
        .await;
    rig.survey::<DeleteTopics>(1..=6, |v| {
        let names = vec![name(&format!("t{v}")), name("nobody")];
        if v < 6 {
            return DeleteTopicsRequest::default().with_topic_names(names);
        }
        let by_id = DeleteTopicState::default().with_name(None).with_topic_id(Uuid::from_u128(9));
        let by_name = names.into_iter().map(|n| DeleteTopicState::default().with_name(Some(n)));
        DeleteTopicsRequest::default().with_topics(by_name.chain([by_id]).collect())
    })
    .await;
    assert!((0..7).all(|v| rig.core.topics().by_name(&format!("t{v}")).is_none()));
}

#[test]
fn requests_of_versions_that_kafka_dropped_are_read_by_hand() {
    for version in [0, 1] {
        let mut w = Writer::new(false, 0);
        w.count(1);
        w.string("t");
        w.i32(-1);
        w.i16(-1);
        w.count(1);
        w.i32(0);
        w.count(1);
        w.i32(1);
        w.count(1);
        w.string("retention.ms");
        w.nullable_string(None);
        w.i32(5000);
        if version == 1 {
            w.i8(1);
        }
        let request = CreateTopics::decode(version, &mut w.finish().into()).unwrap();
        let assignment = CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(1)]);
        let expected = topic("t", -1)
            .with_assignments(vec![assignment])
            .with_configs(vec![config("retention.ms", None)]);
        assert_eq!(
            request,
            create(vec![expected]).with_timeout_ms(5000).with_validate_only(version == 1),
            "v{version}"
        );
    }
    let mut w = Writer::new(false, 0);
    w.count(2);
    w.i8(2);
    w.string("t");
    w.null_array();
    w.i8(4);
    w.string("1");
    w.count(1);
    w.string("node.id");
    let request = DescribeConfigs::decode(0, &mut w.finish().into()).unwrap();
    let one = resource(4, "1").with_configuration_keys(Some(vec![text("node.id")]));
    assert_eq!(request.resources, [resource(2, "t"), one]);
    let mut w = Writer::new(false, 0);
    w.count(1);
    w.string("t");
    w.i32(5000);
    let request = DeleteTopics::decode(0, &mut w.finish().into()).unwrap();
    assert_eq!(request.topic_names, [name("t")]);
}

#[test]
fn a_lying_count_in_an_old_version_is_refused() {
    let lie = || Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    assert!(CreateTopics::decode(0, &mut lie()).is_err());
    assert!(DescribeConfigs::decode(0, &mut lie()).is_err());
}

#[tokio::test]
async fn answers_written_by_hand_have_the_layout_of_their_version() {
    let rig = rig();
    let response = rig.ask::<CreateTopics>(1, create(vec![topic("t", 1)])).await;
    assert_eq!(CreateTopics::encode(0, &response).unwrap(), [0, 0, 0, 1, 0, 1, b't', 0, 0]);
    assert_eq!(CreateTopics::encode(1, &response).unwrap(), [0, 0, 0, 1, 0, 1, b't', 0, 0, 0xff, 0xff]);
    let keys = Some(vec![text("retention.ms")]);
    let request = DescribeConfigsRequest::default()
        .with_resources(vec![resource(2, "t").with_configuration_keys(keys)]);
    let response: DescribeConfigsResponse = rig.ask::<DescribeConfigs>(0, request).await;
    let mut w = Writer::new(false, 0);
    w.i32(0);
    w.count(1);
    w.i16(0);
    w.nullable_string(None);
    w.i8(2);
    w.string("t");
    w.count(1);
    w.string("retention.ms");
    w.string("604800000");
    w.i8(0);
    w.i8(1);
    w.i8(0);
    assert_eq!(DescribeConfigs::encode(0, &response).unwrap(), w.finish());
    // A directory that takes no writes is an offline one, and what it holds is still told.
    let described = async |code| {
        let response =
            rig.ask::<DescribeLogDirs>(4, DescribeLogDirsRequest::default().with_topics(None)).await;
        let found =
            response.results.iter().map(|dir| (dir.error_code, dir.topics.is_empty())).collect::<Vec<_>>();
        assert_eq!(found, [(code, false)]);
    };
    described(0).await;
    rig.core.incidents().raise(IncidentKind::DiskFull, "", &"no space left");
    described(56).await;
    rig.core.incidents().clear(IncidentKind::DiskFull, "");
    described(0).await;
    // v5 of DescribeLogDirs is v4 with one byte more per directory, before that directory's tags.
    let response = rig.ask::<DescribeLogDirs>(5, DescribeLogDirsRequest::default().with_topics(None)).await;
    let mut expected = DescribeLogDirs::encode(4, &response).unwrap();
    expected.insert(expected.len() - 2, 0);
    assert_eq!(DescribeLogDirs::encode(5, &response).unwrap(), expected);
    let request = DeleteTopicsRequest::default().with_topic_names(vec![name("t")]);
    let response = rig.ask::<DeleteTopics>(0, request).await;
    assert_eq!(DeleteTopics::encode(0, &response).unwrap(), [0, 0, 0, 1, 0, 1, b't', 0, 0]);
}

#[tokio::test]
async fn bad_topics_are_refused_with_kafkas_codes_and_leave_nothing_behind() {
    let rig = rig();
    let assignment = |index, brokers: &[i32]| {
        CreatableReplicaAssignment::default()
            .with_partition_index(index)
            .with_broker_ids(brokers.iter().copied().map(BrokerId).collect())
    };
    let long = "x".repeat(250);
    let huge = "9".repeat(32_767);
    for (code, bad) in [
        (17, topic("", 1)),
        (17, topic("..", 1)),
        (17, topic(&long, 1)),
        (17, topic("../../etc/x", 1)),
        (17, topic("__consumer_offsets", 1)),
        (37, topic("t", 0)),
        (37, topic("t", -2)),
        (37, topic("t", i32::MAX)),
        (38, topic("t", 1).with_replication_factor(0)),
        (38, topic("t", 1).with_replication_factor(3)),
        (39, topic("t", -1).with_assignments(vec![assignment(0, &[2])])),
        (39, topic("t", -1).with_assignments(vec![assignment(0, &[])])),
        (39, topic("t", -1).with_assignments(vec![assignment(1, &[1])])),
        (42, topic("t", 1).with_assignments(vec![assignment(0, &[1])])),
        (40, topic("t", 1).with_configs(vec![config("retention.ms", None)])),
        (40, topic("t", 1).with_configs(vec![config("retention.ms", Some("-2"))])),
        (40, topic("t", 1).with_configs(vec![config("retention.ms", Some(&huge))])),
        (40, topic("t", 1).with_configs(vec![config("no.such.key", Some("1"))])),
    ] {
        let response = rig.ask::<CreateTopics>(7, create(vec![bad.clone()])).await;
        assert_eq!(response.topics[0].error_code, code, "{bad:?}");
        CreateTopics::encode(7, &response).unwrap();
    }
    let response =
        rig.ask::<CreateTopics>(7, create(vec![topic("a.b", 1), topic("t", 1), topic("t", 1)])).await;
    let codes: Vec<_> = response.topics.iter().map(|t| (t.name.to_string(), t.error_code)).collect();
    assert_eq!(codes, [("t".to_owned(), 42), ("a.b".to_owned(), 0)]);
    let response = rig.ask::<CreateTopics>(7, create(vec![topic("a_b", 1), topic("a.b", 1)])).await;
    assert_eq!(response.topics.iter().map(|t| t.error_code).collect::<Vec<_>>(), [17, 36]);
    let many = (0..10_001).map(|n| topic(&format!("m{n}"), 1)).collect();
    let response = rig.ask::<CreateTopics>(7, create(many)).await;
    assert!(response.topics.iter().all(|t| t.error_code == 44));
    let dry = create(vec![topic("dry", -1)]).with_validate_only(true);
    let response = rig.ask::<CreateTopics>(7, dry).await;
    assert_eq!((response.topics[0].error_code, response.topics[0].num_partitions), (0, 1));
    assert_eq!(rig.core.topics().all().len(), 1);
}

#[tokio::test]
async fn topics_are_deleted_by_name_or_id_once_and_only_when_allowed() {
    let rig = rig();
    rig.create("a", 1).await;
    rig.create("b", 1).await;
    let id = rig.core.topics().by_name("a").unwrap().id();
    let by_id = || DeleteTopicState::default().with_name(None).with_topic_id(id);
    let by_name = |n: &str| DeleteTopicState::default().with_name(Some(name(n)));
    let delete = |topics: Vec<DeleteTopicState>| DeleteTopicsRequest::default().with_topics(topics);
    let codes = async |topics| {
        let response = rig.ask::<DeleteTopics>(6, delete(topics)).await;
        response.responses.iter().map(|r| r.error_code).collect::<Vec<_>>()
    };
    assert_eq!(codes(vec![by_id(), by_name("a")]).await, [42, 42]);
    assert_eq!(
        codes(vec![by_name("a").with_topic_id(id), by_id().with_topic_id(Uuid::nil())]).await,
        [42, 42]
    );
    assert_eq!(codes(vec![by_id(), by_name("b")]).await, [0, 0]);
    assert_eq!(codes(vec![by_id(), by_name("b")]).await, [100, 3]);
    rig.core.prepare_groups().await.unwrap();
    assert_eq!(codes(vec![by_name("__consumer_offsets")]).await, [17]);
    let strict = rig_with(&[("delete.topic.enable", "false")]);
    strict.create("a", 1).await;
    assert_eq!(strict.ask::<DeleteTopics>(6, delete(vec![by_name("a")])).await.responses[0].error_code, 73);
    assert!(strict.core.topics().by_name("a").is_some());
}

#[tokio::test]
async fn partitions_only_grow_and_only_onto_this_node() {
    let rig = rig();
    rig.create("t", 1).await;
    let grow = async |count, replicas: Option<Vec<Vec<i32>>>, validate_only| {
        let assignments = replicas.map(|all| {
            let one = |brokers: Vec<i32>| {
                kafka_protocol::messages::create_partitions_request::CreatePartitionsAssignment::default()
                    .with_broker_ids(brokers.into_iter().map(BrokerId).collect())
            };
            all.into_iter().map(one).collect()
        });
        let topic = CreatePartitionsTopic::default()
            .with_name(name("t"))
            .with_count(count)
            .with_assignments(assignments);
        let request =
            CreatePartitionsRequest::default().with_topics(vec![topic]).with_validate_only(validate_only);
        rig.ask::<CreatePartitions>(3, request).await.results[0].error_code
    };
    assert_eq!(grow(1, None, false).await, 37);
    assert_eq!(grow(i32::MAX, None, false).await, 37);
    assert_eq!(grow(3, Some(vec![vec![1]]), false).await, 39);
    assert_eq!(grow(2, Some(vec![vec![2]]), false).await, 39);
    assert_eq!(grow(2, None, true).await, 0);
    assert_eq!(rig.core.topics().by_name("t").unwrap().partitions().len(), 1);
    assert_eq!(grow(3, Some(vec![vec![1], vec![1]]), false).await, 0);
    assert_eq!(rig.core.topics().by_name("t").unwrap().partitions().len(), 3);
}

#[tokio::test]
async fn configs_are_edited_replaced_and_described_with_their_source() {
    let rig = rig_with(&[("log.retention.ms", "1000")]);
    rig.create("t", 1).await;
    let alter = async |request: IncrementalAlterConfigsRequest| {
        rig.ask::<IncrementalAlterConfigs>(1, request).await.responses[0].error_code
    };
    assert_eq!(value(&rig, 2, "t", "retention.ms").await, Some(("1000".into(), 4)));
    assert_eq!(alter(edit(2, "t", &[("cleanup.policy", 2, Some("compact"))])).await, 0);
    assert_eq!(value(&rig, 2, "t", "cleanup.policy").await, Some(("delete,compact".into(), 1)));
    assert_eq!(alter(edit(2, "t", &[("retention.ms", 2, Some("1"))])).await, 40);
    assert_eq!(alter(edit(2, "t", &[("retention.ms", 0, None)])).await, 42);
    assert_eq!(alter(edit(2, "t", &[("retention.ms", 9, Some("1"))])).await, 42);
    assert_eq!(alter(edit(2, "t", &[("retention.ms", 0, Some("1")), ("retention.ms", 1, None)])).await, 42);
    assert_eq!(alter(edit(2, "nobody", &[("retention.ms", 0, Some("1"))])).await, 3);
    assert_eq!(alter(edit(4, "2", &[("log.retention.ms", 0, Some("1"))])).await, 42);
    assert_eq!(alter(edit(4, "1", &[("log.dirs", 0, Some("/etc"))])).await, 42);
    assert_eq!(alter(edit(4, "1", &[("num.partitions", 0, Some("2"))])).await, 42);
    assert_eq!(alter(edit(4, "", &[("log.retention.ms", 0, Some("soon"))])).await, 42);
    assert_eq!(alter(edit(4, "1", &[("log.retention.ms", 0, Some("2"))])).await, 0);
    assert_eq!(value(&rig, 4, "1", "log.retention.ms").await, Some(("2".into(), 2)));
    assert_eq!(value(&rig, 2, "t", "retention.ms").await, Some(("2".into(), 2)));
    assert_eq!(value(&rig, 4, "", "log.retention.ms").await, None);
    let set = AlterableConfig::default().with_name(text("retention.ms")).with_value(Some(text("3")));
    let replace = AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("t"))
        .with_configs(vec![set]);
    let request = AlterConfigsRequest::default().with_resources(vec![replace.clone()]);
    assert_eq!(rig.ask::<AlterConfigs>(2, request).await.responses[0].error_code, 0);
    assert_eq!(value(&rig, 2, "t", "retention.ms").await, Some(("3".into(), 1)));
    assert_eq!(value(&rig, 2, "t", "cleanup.policy").await, Some(("delete".into(), 5)));
    let request = AlterConfigsRequest::default().with_resources(vec![replace.clone(), replace]);
    let twice = rig.ask::<AlterConfigs>(2, request).await;
    assert_eq!(twice.responses.iter().map(|r| r.error_code).collect::<Vec<_>>(), [42, 42]);
}

#[tokio::test]
async fn topics_are_paged_by_a_cursor_until_all_were_seen() {
    let rig = rig();
    for (name, partitions) in [("a", 2), ("b", 3), ("c", 1)] {
        rig.create(name, partitions).await;
    }
    let mut seen = Vec::new();
    let mut cursor = None;
    for _ in 0..10 {
        let request = DescribeTopicPartitionsRequest::default()
            .with_response_partition_limit(2)
            .with_cursor(cursor.take());
        let response = rig.ask::<DescribeTopicPartitions>(0, request).await;
        for topic in &response.topics {
            let name = topic.name.as_ref().unwrap().to_string();
            seen.extend(topic.partitions.iter().map(|p| format!("{name}{}", p.partition_index)));
        }
        let Some(next) = response.next_cursor else { break };
        cursor = Some(
            Cursor::default().with_topic_name(next.topic_name).with_partition_index(next.partition_index),
        );
    }
    assert_eq!(seen, ["a0", "a1", "b0", "b1", "b2", "c0"]);
    let asked = ["b", "nobody", "no body"].map(|n| TopicRequest::default().with_name(name(n)));
    let request = DescribeTopicPartitionsRequest::default().with_topics(asked.to_vec());
    let response = rig.ask::<DescribeTopicPartitions>(0, request).await;
    assert_eq!(response.topics.iter().map(|t| t.error_code).collect::<Vec<_>>(), [0, 17, 3]);
}

#[tokio::test]
async fn producer_ids_are_fresh_and_transactional_ones_are_refused() {
    let rig = rig();
    let ask = async |request| {
        let response = rig.ask::<InitProducerId>(5, request).await;
        (response.error_code, response.producer_id.0)
    };
    let plain = || InitProducerIdRequest::default().with_transactional_id(None);
    let (_, first) = ask(plain()).await;
    let (code, second) = ask(plain().with_producer_id(ProducerId(first)).with_producer_epoch(3)).await;
    assert_eq!(code, 0);
    assert_ne!(first, second);
    assert_eq!(ask(plain().with_producer_id(ProducerId(first))).await, (42, -1));
    let transactional = |id: &str, timeout_ms| {
        plain().with_transactional_id(Some(TransactionalId(text(id)))).with_transaction_timeout_ms(timeout_ms)
    };
    assert_eq!(ask(transactional("", 1000)).await, (42, -1));
    assert_eq!(ask(transactional("x", 0)).await, (50, -1));
    assert_eq!(ask(transactional("x", i32::MAX)).await, (50, -1));
    assert_eq!(ask(transactional("x", 1000)).await, (42, -1));
}
