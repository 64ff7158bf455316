//! The groups' journal as it lies in a log: what is too large for a batch, damaged, refused, or of another time.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::broker::{Clock, in_memory, open};
use crate::config::Source;
use crate::group::{
    Commit, CommitPartition, CommitTopic, FetchGroup, Heartbeat, Join, Sync, TopicPartitions,
};

pub(super) fn config(pairs: &[(&str, &str)]) -> Config {
    let mut config = Config::default();
    for (key, value) in pairs {
        config.set(key, value, Source::CommandLine).unwrap();
    }
    config
}

pub(super) async fn commit(
    core: &Arc<Core>,
    group: &str,
    topic: &Topic,
    partitions: i32,
    offset: i64,
) -> Vec<Result<(), Error>> {
    send_commit(core, commit_of(group, topic, partitions, offset)).await
}

fn commit_of(group: &str, topic: &Topic, partitions: i32, offset: i64) -> Commit {
    let partition = |partition| CommitPartition {
        partition,
        offset,
        leader_epoch: -1,
        metadata: String::new(),
        commit_ms: None,
    };
    let partitions = (0..partitions).map(partition).collect();
    let topics =
        vec![CommitTopic { name: topic.name().to_string(), id: Some(topic.id()), gone: false, partitions }];
    Commit { group: group.to_owned(), generation: -1, topics, ..Commit::default() }
}

async fn send_commit(core: &Arc<Core>, commit: Commit) -> Vec<Result<(), Error>> {
    match Arc::clone(core).first_group(Event::CommitOffsets(commit)).await {
        Ok(Reply::CommitOffsets(Ok(topics))) => topics[0].partitions.iter().map(|(_, r)| r.clone()).collect(),
        Ok(Reply::CommitOffsets(Err(error))) | Err(error) => vec![Err(error)],
        other => panic!("{other:?}"),
    }
}

/// What a group committed in partitions of a topic, by name.
pub(super) async fn committed(
    core: &Arc<Core>,
    group: &str,
    topic: &str,
    partitions: i32,
) -> Vec<Result<Option<i64>, Error>> {
    let topics =
        Some(vec![TopicPartitions { name: topic.to_owned(), partitions: (0..partitions).collect() }]);
    match core
        .group(Event::FetchOffsets(vec![FetchGroup { group: group.to_owned(), topics, after: None }]))
        .await
    {
        Ok(Reply::FetchOffsets(groups)) => {
            let topics = &groups[0].1.as_ref().unwrap().topics;
            topics[0].partitions.iter().map(|(_, o)| o.clone().map(|o| o.map(|o| o.offset))).collect()
        }
        other => panic!("{other:?}"),
    }
}

pub(super) async fn delete_groups(core: &Arc<Core>, groups: &[&str]) -> Vec<Result<(), Error>> {
    match core.group(Event::DeleteGroups(groups.iter().map(ToString::to_string).collect())).await {
        Ok(Reply::DeleteGroups(groups)) => groups.into_iter().map(|(_, result)| result).collect(),
        other => panic!("{other:?}"),
    }
}

/// Lets the groups' time pass.
fn tick(core: &Core, now: Now) {
    let mut state = core.groups.state.lock();
    let outcome = state.coordinator.tick(now);
    core.carry_out(&mut state, now, outcome);
}

#[tokio::test]
async fn a_group_with_more_than_a_batch_of_offsets_is_committed_deleted_and_forgotten_whole() {
    a_large_group_comes_and_goes("100000", 100_000).await;
    // Where a batch may be larger, it is not: a batch is written under the lock.
    a_large_group_comes_and_goes("1048588", 400_000).await;
}

async fn a_large_group_comes_and_goes(message_max_bytes: &str, most: usize) {
    let core = in_memory(config(&[("message.max.bytes", message_max_bytes)])).unwrap();
    let (name, group) = ("t".repeat(249), "g".repeat(250));
    let topic = core.create_topic(name.clone(), 4000, BTreeMap::new()).await.unwrap();
    assert!(commit(&core, &group, &topic, 4000, 777).await.iter().all(Result::is_ok));
    let journal = core.topics().by_name(JOURNAL).unwrap();
    let sizes = |core: &Arc<Core>| {
        let index = core.groups.state.lock().coordinator.partition_of(&group);
        let slice = journal.partition(index).unwrap().read(0, 100 << 20, true).unwrap().slice;
        let bytes = slice.to_bytes().unwrap();
        crate::batch::Batches::new(&bytes).map(|batch| batch.unwrap().bytes.len()).collect::<Vec<_>>()
    };
    let written = sizes(&core);
    assert!(written.len() > 4 && written.iter().all(|bytes| *bytes <= most), "{written:?}");
    assert_eq!(delete_groups(&core, &[&group]).await, [Ok(())]);
    assert!(committed(&core, &group, &name, 4000).await.iter().all(|offset| *offset == Ok(None)));
    // The same when the topic goes, and another comes under its name.
    assert!(commit(&core, &group, &topic, 4000, 778).await.iter().all(Result::is_ok));
    core.delete_topic(topic.id()).unwrap();
    core.create_topic(name.clone(), 4000, BTreeMap::new()).await.unwrap();
    assert!(committed(&core, &group, &name, 4000).await.iter().all(|offset| *offset == Ok(None)));
    assert!(
        core.group_state_bytes().0 > 3_000 * 192,
        "what the deleted group had counts until it is dropped"
    );
    for _ in 0..4 {
        tick(&core, core.group_now());
    }
    assert_eq!(core.group_state_bytes().0, 0);
}

#[tokio::test]
async fn a_commit_is_of_the_topic_and_not_of_the_next_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let core = open(dir.path(), Config::default(), Clock::System).unwrap();
    let first = core.create_topic("t".into(), 1, BTreeMap::new()).await.unwrap();
    assert_eq!(commit(&core, "g", &first, 1, 5).await, [Ok(())]);
    // The process ends between the deletion and the end of the offsets.
    core.topics().delete(first.id()).unwrap();
    let second = core.create_topic("t".into(), 1, BTreeMap::new()).await.unwrap();
    core.close().unwrap();
    drop((core, first, second));
    let core = open(dir.path(), Config::default(), Clock::System).unwrap();
    assert_eq!(committed(&core, "g", "t", 1).await, [Ok(None)]);
    let everything = vec![FetchGroup { group: "g".into(), ..FetchGroup::default() }];
    let Ok(Reply::FetchOffsets(groups)) = core.group(Event::FetchOffsets(everything)).await else { panic!() };
    assert_eq!(groups[0].1.as_ref().unwrap().topics, []);
    // A commit that was on its way to a topic that is gone comes too late.
    let first = core.topics().by_name("t").unwrap();
    core.topics().delete(first.id()).unwrap();
    let second = core.create_topic("t".into(), 1, BTreeMap::new()).await.unwrap();
    assert_eq!(commit(&core, "g", &first, 1, 6).await, [Err(Error::UnknownTopic)]);
    assert_eq!(commit(&core, "g", &second, 1, 1).await, [Ok(())]);
    // The end of the first one's offsets, however late, is not the end of these.
    core.forget_topic(&first);
    assert_eq!(committed(&core, "g", "t", 1).await, [Ok(Some(1))]);
}

/// Its record has no place for the topic's id.
#[tokio::test]
async fn a_commit_with_an_expiry_is_of_the_topic_that_is_there() {
    let core = in_memory(Config::default()).unwrap();
    let first = core.create_topic("t".into(), 1, BTreeMap::new()).await.unwrap();
    let expiring =
        |topic, offset| Commit { retention_ms: Some(3_600_000), ..commit_of("g", topic, 1, offset) };
    assert_eq!(send_commit(&core, expiring(&first, 5)).await, [Ok(())]);
    core.delete_topic(first.id()).unwrap();
    assert_eq!(committed(&core, "g", "t", 1).await, [Ok(None)]);
    // Whoever forgets the first one's offsets comes to this group when the next one is there.
    let second = core.create_topic("t".into(), 1, BTreeMap::new()).await.unwrap();
    assert_eq!(send_commit(&core, expiring(&second, 1)).await, [Ok(())]);
    core.forget_topic(&first);
    assert_eq!(committed(&core, "g", "t", 1).await, [Ok(Some(1))]);
}

#[tokio::test]
async fn who_reaches_the_limit_of_partitions_leaves_everybody_their_groups() {
    let core = in_memory(config(&[("max.partitions", "1")])).unwrap();
    let topic = core.create_topic("t".into(), 1, BTreeMap::new()).await.unwrap();
    assert!(core.create_topic("u".into(), 1, BTreeMap::new()).await.is_err());
    assert_eq!(commit(&core, "g", &topic, 1, 5).await, [Ok(())]);
    assert!(core.create_topic("u".into(), 1, BTreeMap::new()).await.is_err());
}

#[tokio::test]
async fn the_number_of_partitions_is_the_topics_own() {
    let dir = tempfile::tempdir().unwrap();
    let groups: Vec<String> = (0..40).map(|n| format!("g{n}")).collect();
    for (round, partitions) in ["50", "7", "100"].into_iter().enumerate() {
        let config = config(&[("offsets.topic.num.partitions", partitions)]);
        let core = open(dir.path(), config, Clock::System).unwrap();
        if round == 0 {
            core.create_topic("t".into(), 1, BTreeMap::new()).await.unwrap();
        }
        let topic = core.topics().by_name("t").unwrap();
        for group in &groups {
            let before = (round > 0).then_some(round as i64 * 100);
            assert_eq!(committed(&core, group, "t", 1).await, [Ok(before)], "{partitions}");
            let offset = (round as i64 + 1) * 100;
            assert_eq!(commit(&core, group, &topic, 1, offset).await, [Ok(())], "{partitions}");
        }
        assert_eq!(core.topics().by_name(JOURNAL).unwrap().partitions().len(), 50);
        core.close().unwrap();
    }
}

#[tokio::test]
async fn a_partition_that_takes_nothing_holds_up_no_other() {
    let clock = Clock::Manual(Arc::default());
    let Clock::Manual(time) = clock.clone() else { unreachable!() };
    let dir = tempfile::tempdir().unwrap();
    let core = open(dir.path(), config(&[("offsets.retention.minutes", "1")]), clock).unwrap();
    let topic = core.create_topic("t".into(), 1, BTreeMap::new()).await.unwrap();
    let groups: Vec<String> = (0..40).map(|n| format!("g{n}")).collect();
    for group in &groups {
        assert_eq!(commit(&core, group, &topic, 1, 5).await, [Ok(())]);
    }
    let sick = core.groups.state.lock().coordinator.partition_of("g0");
    let is_sick = |group: &&str| core.groups.state.lock().coordinator.partition_of(group) == sick;
    core.topics().by_name(JOURNAL).unwrap().partition(sick).unwrap().retire(None);
    // Several groups in one request: each has its own answer.
    assert_eq!(delete_groups(&core, &["g0", "g1"]).await, [Err(Error::Storage), Ok(())]);
    assert_eq!(committed(&core, "g0", "t", 1).await, [Ok(Some(5))]);
    // And in one sweep.
    time.now_ms.fetch_add(3_600_000, Ordering::Relaxed);
    tick(&core, core.group_now());
    let mut left = BTreeSet::new();
    for group in &groups {
        if committed(&core, group, "t", 1).await == [Ok(Some(5))] {
            left.insert(group.as_str());
        }
    }
    let expected: BTreeSet<_> = groups.iter().map(String::as_str).filter(is_sick).collect();
    assert_eq!(left, expected);
}

#[tokio::test]
async fn a_clock_that_is_set_ends_no_session_no_offset_and_no_record() {
    let clock = Clock::Manual(Arc::default());
    let Clock::Manual(time) = clock.clone() else { unreachable!() };
    time.now_ms.store(1_700_000_000_000, Ordering::Relaxed);
    let core = crate::broker::open::open_on(
        Arc::new(crate::store::memory::Memory::new()),
        "memory".into(),
        config(&[("offsets.retention.check.interval.ms", "1")]),
        clock,
    )
    .unwrap();
    let topic = core.create_topic("t".into(), 1, BTreeMap::new()).await.unwrap();
    let mut one = Builder::new();
    one.push(Record { timestamp_ms: core.now_ms(), value: Some("v".into()), ..Record::default() });
    let mut append = Append::new(one.build().unwrap());
    topic.partition(0).unwrap().append(core.now_ms(), &mut [&mut append]);
    assert_eq!(commit(&core, "simple", &topic, 1, 5).await, [Ok(())]);
    let join = Join {
        group: "g".into(),
        new_member_id: "m".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), bytes::Bytes::new())],
        ..Join::default()
    };
    assert!(matches!(core.group(Event::Join(join)).await, Ok(Reply::Join(Ok(_)))));
    let sync = Sync { group: "g".into(), member_id: "m".into(), generation: 1, ..Sync::default() };
    assert!(matches!(core.group(Event::Sync(sync)).await, Ok(Reply::Sync(Ok(_)))));
    for set_by_ms in [60_000, 30 * 86_400_000, -86_400_000] {
        time.set_by_ms.store(set_by_ms, Ordering::Relaxed);
        time.now_ms.fetch_add(3_000, Ordering::Relaxed);
        tick(&core, core.group_now());
        core.tend(true, true, &|| false);
        let beat =
            Heartbeat { group: "g".into(), member_id: "m".into(), generation: 1, ..Heartbeat::default() };
        let beat = core.group(Event::Heartbeat(beat)).await;
        assert_eq!(beat, Ok(Reply::Heartbeat(Ok(()))), "{set_by_ms}");
        assert_eq!(committed(&core, "simple", "t", 1).await, [Ok(Some(5))], "{set_by_ms}");
        let span = topic.partition(0).unwrap().span().unwrap();
        assert_eq!((span.start, span.end), (0, 1), "{set_by_ms}");
    }
    // A dead one does not outlive its session either.
    time.now_ms.fetch_add(10_000, Ordering::Relaxed);
    tick(&core, core.group_now());
    let beat = Heartbeat { group: "g".into(), member_id: "m".into(), generation: 1, ..Heartbeat::default() };
    assert_eq!(core.group(Event::Heartbeat(beat)).await, Ok(Reply::Heartbeat(Err(Error::UnknownMember))));
}

#[tokio::test]
async fn who_left_while_it_waited_is_seen() {
    let core = in_memory(Config::default()).unwrap();
    let join = |id: &str| Join {
        group: "g".into(),
        new_member_id: id.into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: i32::MAX,
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), bytes::Bytes::new())],
        ..Join::default()
    };
    core.prepare_groups().await.unwrap();
    assert!(matches!(core.group(Event::Join(join("a"))).await, Ok(Reply::Join(Ok(_)))));
    // "a" does not join again: this waits for it until its client goes.
    drop(core.group(Event::Join(join("b"))));
    let now = core.group_now();
    {
        let mut state = core.groups.state.lock();
        assert_eq!(state.waiting.len(), 1);
        core.see_who_left(&mut state, now);
        assert_eq!(state.waiting.len(), 0);
    }
    tick(&core, Now { steady_ms: now.steady_ms + 10_001, ..now });
    let described = core.group(Event::DescribeGroups(vec!["g".into()])).await;
    let Ok(Reply::DescribeGroups(groups)) = described else { panic!("{described:?}") };
    assert!(groups[0].1.as_ref().is_ok_and(|group| group.members.is_empty()));
}

/// The file of the journal that holds `group`.
pub(super) fn journal_file(core: &Core, dir: &Path, group: &str) -> PathBuf {
    let index = core.groups.state.lock().coordinator.partition_of(group);
    let id = core.topics().by_name(JOURNAL).unwrap().id();
    let mut found = Vec::new();
    for topic in fs::read_dir(dir.join("topics")).unwrap().map(|entry| entry.unwrap().path()) {
        let name = topic.file_name().unwrap().to_string_lossy().into_owned();
        if uuid::Uuid::parse_str(&name).is_ok_and(|uuid| uuid == id) {
            let files =
                fs::read_dir(topic.join(index.to_string())).unwrap().map(|entry| entry.unwrap().path());
            found.extend(files.filter(|file| file.extension().is_some_and(|e| e == "log")));
        }
    }
    found.remove(0)
}

/// Three commits of one group, one batch each; then one byte of the second batch is another. Wherever it is: the broker
/// starts, says nothing that was not committed, and never that nothing was.
#[tokio::test]
async fn a_damaged_batch_of_the_journal_is_no_commit_and_stops_nothing() {
    let kept = tempfile::tempdir().unwrap();
    let core = open(kept.path(), Config::default(), Clock::System).unwrap();
    let topics = [
        core.create_topic("a".into(), 1, BTreeMap::new()).await.unwrap(),
        core.create_topic("b".into(), 1, BTreeMap::new()).await.unwrap(),
        core.create_topic("c".into(), 1, BTreeMap::new()).await.unwrap(),
    ];
    assert_eq!(commit(&core, "elsewhere", &topics[0], 1, 5).await, [Ok(())]);
    let mut ends = Vec::new();
    let file = {
        assert_eq!(commit(&core, "g", &topics[0], 1, 1001).await, [Ok(())]);
        journal_file(&core, kept.path(), "g")
    };
    let index = core.groups.state.lock().coordinator.partition_of("g");
    let partition = core.topics().by_name(JOURNAL).unwrap().partition(index).unwrap();
    let bytes = || partition.segments().unwrap().iter().map(|segment| segment.bytes).sum::<u64>();
    ends.push(bytes());
    assert_eq!(commit(&core, "g", &topics[1], 1, 1004).await, [Ok(())]);
    ends.push(bytes());
    assert_eq!(commit(&core, "g", &topics[2], 1, 1005).await, [Ok(())]);
    core.close().unwrap();
    drop(core);
    let good = fs::read(&file).unwrap();
    for at in (ends[0]..ends[1]).step_by(3) {
        let at = usize::try_from(at).unwrap();
        let copy = tempfile::tempdir().unwrap();
        copy_all(kept.path(), copy.path());
        let mut damaged = good.clone();
        damaged[at] ^= 0x40;
        fs::write(copy.path().join(file.strip_prefix(kept.path()).unwrap()), damaged).unwrap();
        let core = open(copy.path(), Config::default(), Clock::System).unwrap();
        assert_eq!(committed(&core, "elsewhere", "a", 1).await, [Ok(Some(5))], "byte {at}");
        for (topic, right) in [("a", 1001), ("b", 1004), ("c", 1005)] {
            let said = committed(&core, "g", topic, 1).await.remove(0);
            let in_place = said == Ok(Some(right));
            // Offset and leader epoch of the batch are no part of it.
            let harmless = at - usize::try_from(ends[0]).unwrap() < 21;
            assert!(in_place || said == Err(Error::Unreadable), "byte {at}: {topic} at {said:?}");
            assert!(!in_place || topic != "b" || harmless, "byte {at} is not missed");
            assert!(in_place || topic == "b", "byte {at}: {topic} is sound");
        }
    }
}

pub(super) fn copy_all(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy_all(&entry.path(), &target);
        } else if let Err(error) = fs::copy(entry.path(), &target) {
            // A file that only lives while another is replaced.
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{}", entry.path().display());
        }
    }
}

/// Whoever begins the first group waits for the disk, and nobody else: not even for the groups' lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journals_topic_is_made_before_the_groups_lock_is_taken() {
    let core = in_memory(Config::default()).unwrap();
    let topic = core.create_topic("t".into(), 1, BTreeMap::new()).await.unwrap();
    // Without the topic nothing is made under the lock; what is asked there is refused.
    let event = Event::DeleteGroups(vec!["g".into()]);
    assert!(core.group(event).await.is_ok() && !core.has_journal());
    let records = [crate::group::JournalRecord { partition: 0, key: "k".into(), value: None }];
    assert!(core.append_records(0, &[&records[0]], core.group_now()).is_err() && !core.has_journal());
    // While somebody else has the lock, the first commit has its topic made.
    let committing = Arc::clone(&core);
    let made = {
        let _held = core.groups.state.lock();
        let made = tokio::spawn(async move { commit(&committing, "g", &topic, 1, 5).await });
        while !core.has_journal() && !made.is_finished() {
            std::thread::yield_now();
        }
        made
    };
    assert_eq!(made.await.unwrap(), [Ok(())]);
    assert!(core.has_journal());
}

/// A process that stood still for longer than a session reads what came meanwhile before anybody is out, and no longer.
#[test]
fn time_in_which_the_broker_did_not_run_is_nobodys_silence() {
    let (mut grace, second) = (Grace::default(), Duration::from_secs(1));
    let start = Instant::now();
    assert_eq!(grace.left(start), None);
    grace.sleep(start, 10 * second);
    assert_eq!(grace.left(start + 10 * second + LATE), None, "a busy machine");
    grace.sleep(start, 10 * second);
    let woken = start + 40 * second;
    assert_eq!(grace.left(woken), Some(GRACE));
    grace.sleep(woken, GRACE);
    assert_eq!(grace.left(woken + GRACE / 2), Some(GRACE / 2), "somebody was heard");
    grace.sleep(woken + GRACE / 2, GRACE / 2);
    assert_eq!(grace.left(woken + GRACE), None);
    grace.sleep(start, Duration::MAX);
    assert_eq!(grace.left(woken), None);
}
