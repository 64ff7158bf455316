//! Laws of requests that are answered in a lane: they wait for no disk there.
//!
//! Deliberately absent: sockets; what a connection makes of an outcome is tested from outside.

use std::sync::Arc;
use std::task::{Context as Task, Poll, Waker};

use bytes::Bytes;
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::OffsetForLeaderEpochResponse;
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};

use super::{Answer, Answers, Context, LARGE_BYTES, Outcome, answer};
use crate::broker::{Core, Refused, Wave, in_memory};
use crate::config::Config;
use crate::kafka::error::Code;
use crate::topic::{Error, Topic};

const PARTITIONS: i32 = 1000;

fn name() -> TopicName {
    TopicName(StrBytes::from_static_str("t"))
}

fn bytes_of(request: &impl Encodable, version: i16) -> Bytes {
    let mut body = Vec::new();
    request.encode(&mut body, version).unwrap();
    assert!(body.len() > LARGE_BYTES);
    body.into()
}

/// What a worker makes of a request.
fn on_worker(core: &Arc<Core>, key: i16, version: i16, body: Bytes, refused: Refused) -> Answer {
    let (mut wave, answers) = (Wave::default(), Answers::new(None));
    let mut cx = Context { refused, ..Context::of_test(core, &mut wave, &answers) };
    let (_, answer) = answer(&mut cx, key, version, body).unwrap();
    assert!(cx.unopened.is_empty());
    answer
}

/// What a lane makes of a request.
async fn in_lane(core: &Arc<Core>, key: i16, version: i16, body: Bytes, refused: Refused) -> Outcome {
    let Answer::Deferred(work) = on_worker(core, key, version, body, refused) else { panic!("it is large") };
    (work.begin)(false).await.unwrap()
}

fn all_are_shut(topic: &Topic) -> bool {
    topic.partitions().iter().all(|partition| !partition.is_open())
}

#[tokio::test]
async fn a_lane_opens_no_log_and_answers_what_is_open() {
    let core = in_memory(Config::default()).unwrap();
    let topic = core.create_topic("t".into(), PARTITIONS, [].into()).await.unwrap();
    let asked = (0..PARTITIONS)
        .map(|p| OffsetForLeaderPartition::default().with_partition(p).with_leader_epoch(0))
        .collect();
    let asked = OffsetForLeaderTopic::default().with_topic(name()).with_partitions(asked);
    let body = bytes_of(&OffsetForLeaderEpochRequest::default().with_topics(vec![asked]), 3);
    let ask =
        async |refused| in_lane(&core, OffsetForLeaderEpochRequest::KEY, 3, body.clone(), refused).await;
    let Outcome::Unopened(unopened) = ask(Refused::new()).await else { panic!("nothing is open") };
    assert_eq!(unopened.len(), PARTITIONS as usize);
    assert!(all_are_shut(&topic));

    // It has waited for them, and one is open.
    core.open_log(&unopened[7]).await.unwrap();
    let refused = unopened.iter().map(|partition| (partition.id(), Error::Opening)).collect();
    let Outcome::Done(late) = ask(refused).await else { panic!("it waits no more") };
    let Answer::Now(body) = late.answer else { panic!("there is nothing to wait for") };
    let told = OffsetForLeaderEpochResponse::decode(&mut Bytes::from(body.bytes), 3).unwrap();
    for partition in &told.topics[0].partitions {
        let code = if partition.partition == 7 { Code::NONE } else { Code::NOT_LEADER_OR_FOLLOWER };
        assert_eq!(partition.error_code, code.0, "{}", partition.partition);
    }
    assert_eq!(topic.partitions().iter().filter(|partition| partition.is_open()).count(), 1);
    core.close().unwrap();
}

#[tokio::test]
async fn offsets_that_are_sought_in_logs_wait_until_those_are_open_like_others() {
    let core = in_memory(Config::default()).unwrap();
    let topic = core.create_topic("t".into(), PARTITIONS, [].into()).await.unwrap();
    for timestamp in [-1, -3, 1_000] {
        let asked = (0..PARTITIONS)
            .map(|p| ListOffsetsPartition::default().with_partition_index(p).with_timestamp(timestamp));
        let asked = ListOffsetsTopic::default().with_name(name()).with_partitions(asked.collect());
        let body = bytes_of(&ListOffsetsRequest::default().with_topics(vec![asked]), 7);
        let outcome = in_lane(&core, ListOffsetsRequest::KEY, 7, body, Refused::new()).await;
        assert!(matches!(outcome, Outcome::Unopened(logs) if logs.len() == PARTITIONS as usize));
        assert!(all_are_shut(&topic), "{timestamp}");
    }
    core.close().unwrap();
}

/// A string of the classic form.
fn text(value: &str) -> Vec<u8> {
    [&u16::try_from(value.len()).unwrap().to_be_bytes()[..], value.as_bytes()].concat()
}

#[tokio::test]
async fn a_group_that_is_known_to_be_small_is_told_without_a_lane() {
    let core = in_memory(Config::default()).unwrap();
    core.create_topic("t".into(), 10, [].into()).await.unwrap();
    let one = 1_u32.to_be_bytes();
    for (group, metadata) in [("small", 10), ("large", 4_000)] {
        for partition in 0..10_u32 {
            // OffsetCommit v2 of somebody who is in no generation.
            let body = [
                &text(group)[..],
                &(-1_i32).to_be_bytes(),
                &text(""),
                &(-1_i64).to_be_bytes(),
                &one,
                &text("t"),
                &one,
                &partition.to_be_bytes(),
                &7_i64.to_be_bytes(),
                &text(&"m".repeat(metadata)),
            ];
            match on_worker(&core, 8, 2, body.concat().into(), Refused::new()) {
                Answer::Phased(committed) | Answer::Alone(committed) => drop(committed.await),
                Answer::Now(_) => {}
                _ => panic!("a commit is short work"),
            }
        }
        let all = [&text(group)[..], &(-1_i32).to_be_bytes()].concat();
        let described = [&one[..], &text(group)].concat();
        for (key, version, body) in [(9, 2, all), (15, 0, described)] {
            let answer = on_worker(&core, key, version, body.into(), Refused::new());
            assert_eq!(matches!(answer, Answer::Deferred(_)), group == "large", "{key}");
        }
    }
    core.close().unwrap();
}

#[tokio::test]
async fn a_fetch_of_many_partitions_is_decoded_where_it_is_asked_once_it_has_the_memory() {
    let core = in_memory(Config::default()).unwrap();
    let topic = core.create_topic("t".into(), 1, [].into()).await.unwrap();
    core.open_log(&topic.partition(0).unwrap()).await.unwrap();
    for (count, waits) in [(50_u32, false), (1_000, true)] {
        let one = [&0_u32.to_be_bytes()[..], &0_u64.to_be_bytes(), &1_000_u32.to_be_bytes()].concat();
        let head = [u32::MAX, 1_000, 1, 1_000].map(u32::to_be_bytes).concat();
        let topics = [&1_u32.to_be_bytes()[..], &text("t"), &count.to_be_bytes()].concat();
        let body = [head, vec![0], topics, one.repeat(count as usize)].concat();
        let Answer::Deferred(work) = on_worker(&core, 1, 4, body.into(), Refused::new()) else {
            assert!(!waits);
            continue;
        };
        assert!(waits && work.read_bytes >= count as usize * 256);
        let mut begun = (work.begin)(false);
        let Poll::Ready(outcome) = begun.as_mut().poll(&mut Task::from_waker(Waker::noop())) else {
            panic!("there is nothing to wait for")
        };
        let Outcome::Done(late) = outcome.unwrap() else { panic!("its log is open") };
        let Answer::Fetch(poll) = late.answer else { panic!("it is read in steps") };
        assert!(late.held_bytes <= work.read_bytes && poll.answer_bytes() >= count as usize * 64);
    }
    core.close().unwrap();
}
