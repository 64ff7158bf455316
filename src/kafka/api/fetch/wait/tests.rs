//! What a waiting fetch looks at, when it wakes and what it takes.

use super::super::plan::{HEAD_BYTES, TopicKey, TopicPlan};
use super::*;
use crate::batch::{Builder, Record};
use crate::broker::{Core, Wave, in_memory};
use crate::config::Config;
use crate::kafka::answers::Answers;
use crate::kafka::out::{Piece, QUEUED_BYTES};
use crate::listen::OWN_BYTES;
use crate::topic::Topic;
use bytes::Bytes;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Rig {
    core: Arc<Core>,
    topic: Arc<Topic>,
    count: Arc<Count>,
    waker: Waker,
}

async fn rig(partitions: i32) -> Rig {
    let core = in_memory(Config::default()).unwrap();
    let topic =
        core.create_topic("t".to_owned(), partitions, std::collections::BTreeMap::new()).await.unwrap();
    let count = Arc::<Count>::default();
    Rig { core, topic, waker: Waker::from(Arc::clone(&count)), count }
}

impl Rig {
    /// Appends one batch; its bytes.
    fn append(&self, partition: i32) -> usize {
        self.append_of(partition, b"value")
    }

    fn append_of(&self, partition: i32, value: &'static [u8]) -> usize {
        let mut builder = Builder::new();
        builder.push(Record {
            timestamp_ms: 1,
            key: None,
            value: Some(Bytes::from_static(value)),
            headers: Vec::new(),
        });
        let batch = builder.build().unwrap();
        let bytes = batch.bytes().len();
        let mut wave = Wave::default();
        wave.push(self.topic.partition(partition).unwrap(), batch);
        wave.commit(self.core.now_ms());
        wave.outcome(0).unwrap();
        bytes
    }

    fn plan(&self, min_bytes: usize, max_wait_ms: u64) -> Plan {
        let part = |index: i32| PartitionPlan {
            index,
            leader_epoch: -1,
            offset: 0,
            last_fetched_epoch: -1,
            max_bytes: 1 << 20,
            partition: self.topic.partition(index),
        };
        let count = i32::try_from(self.topic.partitions().len()).unwrap();
        Plan {
            core: Arc::clone(&self.core),
            answers: Answers::new(None),
            throttle_ms: 0,
            meter: None,
            version: 4,
            max_wait_ms,
            min_bytes,
            max_bytes: 50 << 20,
            read_committed: false,
            topics: vec![TopicPlan {
                key: TopicKey::Known(Arc::clone(self.topic.name())),
                partitions: (0..count).map(part).collect(),
            }],
        }
    }

    fn wait(&self, min_bytes: usize) -> LongPoll {
        let plan = self.plan(min_bytes, 600_000);
        let attempt = plan.attempt();
        LongPoll::new(plan, attempt)
    }

    /// Goes on as a connection does: in one turn after the other, until it waits.
    fn poll(&self, poll: &mut LongPoll) -> Poll<Body> {
        self.turns(poll).1
    }

    /// How many turns that took.
    fn turns(&self, poll: &mut LongPoll) -> (usize, Poll<Body>) {
        let mut task = Task::from_waker(&self.waker);
        let mut turns = 0;
        loop {
            match poll.step(&mut task, turns > 0) {
                Step::Done(body) => return (turns, Poll::Ready(body)),
                Step::Waits => return (turns, Poll::Pending),
                Step::More => turns += 1,
            }
        }
    }

    fn woken(&self) -> usize {
        self.count.0.swap(0, Ordering::Relaxed)
    }
}

fn seen(poll: &LongPoll) -> Vec<i64> {
    poll.places.iter().map(|place| place.seen).collect()
}

#[tokio::test]
async fn a_waiting_fetch_looks_at_what_moved_and_wakes_once_for_all_of_it() {
    let rig = rig(1_000).await;
    let mut poll = rig.wait(1_000_000);
    // Four steps to read a thousand partitions, and four to wait at them.
    assert!(matches!(rig.turns(&mut poll), (8, Poll::Pending)));
    assert!(matches!(poll.phase, Phase::Waiting));
    assert_eq!(seen(&poll), vec![0; 1_000]);

    let bytes = rig.append(7);
    rig.append(7);
    rig.append(400);
    assert_eq!(rig.woken(), 1);
    assert_eq!(poll.bell.0.lock().moved, [7, 400]);
    assert!(rig.poll(&mut poll).is_pending());
    assert_eq!(rig.woken(), 0);
    assert_eq!((poll.available, seen(&poll).iter().sum::<i64>()), (3 * bytes, 3));
    assert_eq!((poll.places[7].seen, poll.places[400].seen), (2, 1));

    // Nothing is told twice, and what comes next is counted from there.
    rig.append(7);
    assert_eq!(poll.bell.0.lock().moved, [7]);
    assert!(rig.poll(&mut poll).is_pending());
    assert_eq!((poll.available, poll.places[7].seen), (4 * bytes, 3));
    drop(poll);
    let waited = rig.topic.partitions().iter().filter(|p| p.high_watermark().unwrap().has_waiters()).count();
    assert_eq!(waited, 0, "every place was given back");
}

#[tokio::test]
async fn enough_bytes_are_answered_with_all_of_them() {
    let rig = rig(3).await;
    let bytes = rig.append(0);
    let mut poll = rig.wait(3 * bytes);
    assert!(rig.poll(&mut poll).is_pending());
    assert_eq!(poll.available, bytes);
    rig.append(2);
    assert!(rig.poll(&mut poll).is_pending());
    rig.append(2);
    let Poll::Ready(body) = rig.poll(&mut poll) else { panic!("{} bytes are enough", poll.available) };
    let told: usize =
        body.pieces.iter().map(|(_, piece)| if let Piece::Log(s) = piece { s.len() } else { 0 }).sum();
    assert_eq!(told, 3 * bytes);
}

#[tokio::test]
async fn a_partition_that_goes_ends_the_wait_and_one_that_is_full_does_not() {
    let rig = rig(2).await;
    let bytes = rig.append(0);
    let mut plan = rig.plan(10 * bytes, 600_000);
    plan.topics[0].partitions[0].max_bytes = bytes;
    let attempt = plan.attempt();
    let mut poll = LongPoll::new(plan, attempt);
    assert!(rig.poll(&mut poll).is_pending());
    for _ in 0..20 {
        rig.append(0);
    }
    assert_eq!((rig.woken(), poll.available), (0, bytes), "an answer takes no more from there");
    rig.core.topics().delete(rig.topic.id()).unwrap();
    assert_eq!(rig.woken(), 1);
    assert!(rig.poll(&mut poll).is_ready());
}

#[tokio::test]
async fn an_answer_without_a_wait_is_read_in_steps_too() {
    let rig = rig(600).await;
    let bytes = rig.append(599);
    let plan = rig.plan(1, 0);
    let mut attempt = plan.attempt();
    assert!(!plan.step(&mut attempt));
    assert_eq!(attempt.found.len(), STEP);
    let mut poll = LongPoll::new(plan, attempt);
    let (2, Poll::Ready(body)) = rig.turns(&mut poll) else { panic!("all is read in two more") };
    assert_eq!(
        body.pieces
            .iter()
            .map(|(_, piece)| matches!(piece, Piece::Log(s) if s.len() == bytes))
            .collect::<Vec<_>>(),
        [true]
    );
}

#[tokio::test]
async fn what_is_read_counts_and_when_memory_is_used_up_little_more_is_copied_from_logs() {
    let rig = rig(300).await;
    for partition in 0..300 {
        for _ in 0..5 {
            rig.append(partition);
        }
    }
    let mut plan = rig.plan(1, 0);
    plan.answers = Answers::new(Some(10));
    let mut holder = plan.answers.budget.account().lease();
    holder.settle(OWN_BYTES + 10);
    let mut attempt = plan.attempt();
    while !plan.step(&mut attempt) {}
    assert!((1..=OWN_BYTES).contains(&attempt.bytes), "{}", attempt.bytes);
    drop(holder);
    let mut attempt = plan.attempt();
    assert!(!plan.step(&mut attempt));
    let first = attempt.bytes;
    assert!(first > 2 * OWN_BYTES && attempt.heap == first + STEP * (HEAD_BYTES + QUEUED_BYTES), "{first}");
    let mut holder = plan.answers.budget.account().lease();
    holder.settle(OWN_BYTES + 10);
    while !plan.step(&mut attempt) {}
    assert_eq!(attempt.bytes, first, "others have used it up meanwhile");
}

#[tokio::test]
async fn what_has_no_room_in_an_answer_takes_none_from_what_stands_behind_it() {
    let rig = rig(30).await;
    let bytes = rig.append(0);
    for partition in 1..30 {
        rig.append_of(partition, if partition < 20 { &[7; 10_000] } else { b"value" });
    }
    let mut plan = rig.plan(12 * bytes, 1_000);
    plan.max_bytes = 12 * bytes;
    let mut attempt = plan.attempt();
    assert!(plan.step(&mut attempt));
    let read: Vec<_> = attempt.found.iter().map(|found| found.slice.len()).collect();
    let told = [vec![bytes], vec![0; 19], vec![bytes; 10]].concat();
    assert_eq!((read, attempt.left), (told, bytes));
    assert!(!plan.waits_after(&attempt), "there is more than it may give");
    assert!(attempt.found.iter().all(|found| found.code == Code::NONE && found.high_watermark == 1));

    // What does not fit into what its partition may give says nothing of the others.
    plan.topics[0].partitions.truncate(2);
    plan.topics[0].partitions[1].max_bytes = 1;
    let mut attempt = plan.attempt();
    assert!(plan.step(&mut attempt));
    assert!(attempt.bytes == bytes && plan.waits_after(&attempt));
}

#[tokio::test]
async fn many_partitions_are_read_in_turns_and_few_at_once() {
    let rig = rig(100).await;
    rig.append(99);
    let plan = rig.plan(1, 1_000);
    let attempt = plan.attempt();
    let mut poll = LongPoll::new(plan, attempt);
    let mut task = Task::from_waker(&rig.waker);
    for _ in 0..3 {
        assert!(matches!(poll.step(&mut task, false), Step::More), "nothing without a turn");
        assert!(matches!(&poll.phase, Phase::Reading { attempt, .. } if attempt.found.is_empty()));
    }
    assert_eq!(rig.woken(), 0, "it does not run in circles meanwhile");
    assert!(matches!(poll.step(&mut task, true), Step::Done(_)));
    let mut few = rig.plan(1, 1_000);
    few.topics[0].partitions.drain(..50);
    assert!(!few.is_long());
    let attempt = few.attempt();
    assert!(matches!(LongPoll::new(few, attempt).step(&mut task, false), Step::Done(_)));
}
