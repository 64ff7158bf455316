//! Rewrites of the journal: nothing is lost wherever they are cut, and the journal stays small.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;

use super::super::tests::{commit, committed, config, copy_all, delete_groups, journal_file};
use super::*;
use crate::broker::{Clock, open};
use crate::group::{Commit, CommitPartition, CommitTopic, Event, FetchGroup, Join, Reply, Sync};
use crate::topic::Topic;

/// One partition for all groups, so that a rewrite has something to do.
const ONE: &[(&str, &str)] = &[("offsets.topic.num.partitions", "1")];

/// Everything that clients can ask of groups.
async fn everything(core: &Arc<Core>, groups: &[String]) -> String {
    let described = core.group(Event::DescribeGroups(groups.to_vec())).await.unwrap();
    let all = groups.iter().map(|group| FetchGroup { group: group.clone(), ..FetchGroup::default() });
    let fetched = core.group(Event::FetchOffsets(all.collect())).await.unwrap();
    let listed =
        core.group(Event::ListGroups { states: Vec::new(), types: Vec::new(), after: None }).await.unwrap();
    let Reply::ListGroups(Ok(mut listed)) = listed else { panic!("{listed:?}") };
    listed.sort_by(|a, b| a.group.cmp(&b.group));
    format!("{described:#?} {fetched:#?} {listed:#?}")
}

/// A member with an instance id that has synced.
async fn stable(core: &Arc<Core>, group: &str, member: &str) {
    let join = Join {
        group: group.into(),
        new_member_id: member.into(),
        instance_id: Some(format!("instance of {member}")),
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: 1_000_000,
        rebalance_timeout_ms: 1_000_000,
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), Bytes::from_static(b"subscription"))],
        ..Join::default()
    };
    assert!(matches!(core.group(Event::Join(join)).await, Ok(Reply::Join(Ok(_)))));
    let assignments = vec![(member.to_owned(), Bytes::from_static(b"assignment"))];
    let sync =
        Sync { group: group.into(), member_id: member.into(), generation: 1, assignments, ..Sync::default() };
    assert!(matches!(core.group(Event::Sync(sync)).await, Ok(Reply::Sync(Ok(_)))));
}

/// A commit with all that a commit can say.
async fn commit_wordy(core: &Arc<Core>, group: &str, topic: &Topic, retention_ms: Option<i64>) {
    let partition = CommitPartition {
        partition: 0,
        offset: 17,
        leader_epoch: 5,
        metadata: "{\"storm\": 1}".into(),
        commit_ms: Some(1_234_567_890_123),
    };
    let topics = vec![CommitTopic {
        name: topic.name().to_string(),
        id: Some(topic.id()),
        gone: false,
        partitions: vec![partition],
    }];
    let event = Commit { group: group.into(), generation: -1, topics, retention_ms, ..Commit::default() };
    assert!(matches!(core.group(Event::CommitOffsets(event)).await, Ok(Reply::CommitOffsets(Ok(_)))));
}

/// The broker that a kill at this moment leaves behind.
async fn killed_now(dir: &Path, settings: &[(&str, &str)], groups: &[String]) -> String {
    let copy = tempfile::tempdir().unwrap();
    copy_all(dir, copy.path());
    let core = open(copy.path(), config(settings), Clock::System).unwrap();
    everything(&core, groups).await
}

#[tokio::test]
async fn a_rewrite_that_is_cut_at_any_step_changes_nothing_for_anybody() {
    for flush in ["group", "interval", "never"] {
        let settings = [ONE[0], ("flush", flush)];
        let dir = tempfile::tempdir().unwrap();
        let core = open(dir.path(), config(&settings), Clock::System).unwrap();
        core.prepare_groups().await.unwrap();
        let topic = core.create_topic("t".into(), 50, BTreeMap::new()).await.unwrap();
        let other = core.create_topic("u".into(), 50, BTreeMap::new()).await.unwrap();
        let groups: Vec<String> =
            (0..8).map(|n| format!("g{n}")).chain(["late".into(), "static".into()]).collect();
        for (n, group) in groups.iter().enumerate().take(8) {
            let n = i64::try_from(n).unwrap();
            assert!(commit(&core, group, &topic, 50, n).await.iter().all(Result::is_ok));
            assert!(commit(&core, group, &other, 20, 100 + n).await.iter().all(Result::is_ok));
        }
        stable(&core, "static", "m").await;
        commit_wordy(&core, "g0", &topic, None).await;
        commit_wordy(&core, "g1", &topic, Some(1 << 40)).await;
        assert_eq!(delete_groups(&core, &["g2", "g3"]).await, [Ok(()), Ok(())]);
        assert!(commit(&core, "g3", &topic, 3, 333).await.iter().all(Result::is_ok));
        // A generation that has no plan yet: the journal's last word on the group is the one before.
        let again = Join {
            group: "static".into(),
            new_member_id: "n".into(),
            session_timeout_ms: 1_000_000,
            rebalance_timeout_ms: 1_000_000,
            protocol_type: "consumer".into(),
            protocols: vec![("range".into(), Bytes::from_static(b"another"))],
            ..Join::default()
        };
        let waits = core.group(Event::Join(again));
        let start = || core.topics().by_name(JOURNAL).unwrap().partition(0).unwrap().span().unwrap().start;
        let mut before = killed_now(dir.path(), &settings, &groups).await;
        assert!(before.contains("instance of m") && before.contains("assignment"), "{before}");
        let mut rewrite = core.begin_rewrite(0).unwrap().unwrap();
        assert_eq!(killed_now(dir.path(), &settings, &groups).await, before, "{flush}, rolled");
        let mut step = 0;
        while core.write_piece(&mut rewrite, 1_500).unwrap() {
            assert_eq!(killed_now(dir.path(), &settings, &groups).await, before, "{flush}, piece {step}");
            // And life goes on between two pieces, before and behind where the rewrite is.
            match step {
                1 => assert!(commit(&core, "g0", &other, 50, 7).await.iter().all(Result::is_ok)),
                3 => assert_eq!(delete_groups(&core, &["g4", "g5", "g6"]).await.len(), 3),
                5 => assert!(commit(&core, "g5", &topic, 2, 555).await.iter().all(Result::is_ok)),
                7 => assert!(commit(&core, "late", &topic, 1, 9).await.iter().all(Result::is_ok)),
                8 => core.delete_topic(other.id()).unwrap(),
                _ => {}
            }
            if [1, 3, 5, 7, 8].contains(&step) {
                before = killed_now(dir.path(), &settings, &groups).await;
            }
            step += 1;
        }
        assert!(step > 10, "{step} pieces");
        assert_eq!(start(), 0);
        core.end_rewrite(rewrite).await.unwrap();
        assert!(start() > 0, "{flush}");
        assert_eq!(killed_now(dir.path(), &settings, &groups).await, before, "{flush}, at the end");
        drop(waits);
    }
}

#[tokio::test]
async fn the_journal_holds_a_few_times_what_is_alive_and_is_not_rewritten_for_less() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [ONE[0], ("offsets.topic.segment.bytes", "1048576"), ("flush", "never")];
    let core = open(dir.path(), config(&settings), Clock::System).unwrap();
    core.prepare_groups().await.unwrap();
    let topic = core.create_topic("t".into(), 400, BTreeMap::new()).await.unwrap();
    let journal = core.topics().by_name(JOURNAL).unwrap().partition(0).unwrap();
    let bytes = || journal.glance().unwrap().1;
    let (mut limits, mut rewrites, mut most) = (Limits::default(), 0, 0);
    for round in 0..400 {
        // What is alive grows, too: from 30 KB to 600 KB, so the limit becomes four times that.
        let group = format!("g{}", round % (1 + round / 20));
        assert!(commit(&core, &group, &topic, 400, round).await.iter().all(Result::is_ok));
        most = most.max(bytes());
        for (index, held) in core.grown_partitions(&mut limits) {
            let outcome = core.rewrite(index).await;
            limits.note(index, held, &outcome);
            let Ok(Some(live)) = outcome else { panic!("{outcome:?}") };
            assert!(bytes() <= live && held > 1 << 20, "{live} are alive, {} bytes are left", bytes());
            rewrites += 1;
        }
    }
    let written = journal.span().unwrap().end;
    assert!(most < 3 << 20 && (4..15).contains(&rewrites), "{most} bytes, {rewrites} rewrites");
    assert!(written < 400 * 400 * 3 / 2, "{written} records for 160,000 that clients wrote");
    core.close().unwrap();
    drop((core, topic, journal));
    let core = open(dir.path(), config(&settings), Clock::System).unwrap();
    assert_eq!(committed(&core, "g19", "t", 400).await, vec![Ok(Some(399)); 400]);
}

#[tokio::test]
async fn what_cannot_be_read_keeps_its_partition_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let core = open(dir.path(), config(ONE), Clock::System).unwrap();
    core.prepare_groups().await.unwrap();
    let topic = core.create_topic("t".into(), 3, BTreeMap::new()).await.unwrap();
    assert!(commit(&core, "g", &topic, 1, 5).await.iter().all(Result::is_ok));
    let file = journal_file(&core, dir.path(), "g");
    assert!(commit(&core, "g", &topic, 2, 6).await.iter().all(Result::is_ok));
    core.close().unwrap();
    drop((core, topic));
    // What damage hid is not known in the next life either.
    let mut damaged = std::fs::read(&file).unwrap();
    damaged[70] ^= 1;
    std::fs::write(&file, damaged).unwrap();
    for _life in 0..2 {
        let core = open(dir.path(), config(ONE), Clock::System).unwrap();
        assert!(core.rewrite(0).await.unwrap().is_none());
        assert!(committed(&core, "g", "t", 3).await[2].is_err());
        core.close().unwrap();
    }
}

#[tokio::test]
async fn what_is_not_known_keeps_its_partition_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let core = open(dir.path(), config(ONE), Clock::System).unwrap();
    core.prepare_groups().await.unwrap();
    let topic = core.create_topic("t".into(), 2, BTreeMap::new()).await.unwrap();
    assert!(commit(&core, "g", &topic, 2, 6).await.iter().all(Result::is_ok));
    assert!(core.begin_rewrite(0).unwrap().is_some());
    let unknown = JournalRecord { partition: 0, key: Bytes::from_static(b"\0\x63new"), value: None };
    core.append_records(0, &[&unknown], core.group_now()).unwrap();
    core.close().unwrap();
    drop((core, topic));
    let core = open(dir.path(), config(ONE), Clock::System).unwrap();
    assert!(core.rewrite(0).await.unwrap().is_none());
    assert_eq!(committed(&core, "g", "t", 2).await, [Ok(Some(6)), Ok(Some(6))]);
}
