//! Commits, their ends, and of what they are.

use super::*;

#[test]
fn simple_commits_work_only_while_nobody_is_a_member() {
    let mut bench = Bench::new();
    assert_eq!(bench.commit("", -1, 7, ""), Ok(()));
    assert_eq!(bench.fetch().map(|o| (o.offset, o.leader_epoch, o.commit_ms)), Some((7, 3, 1_000)));
    bench.stable(&[join("a")]);
    assert_eq!(bench.commit("", -1, 8, ""), Err(Error::UnknownMember));
    assert_eq!(bench.fetch().map(|o| o.offset), Some(7));
    assert_eq!(bench.commit("a", 1, 9, ""), Ok(()));
    assert_eq!(bench.leave("a", None), Ok(()));
    assert_eq!(bench.commit("", -1, 10, ""), Ok(()));
    assert_eq!(bench.fetch().map(|o| o.offset), Some(10));
}

#[test]
fn metadata_comes_back_byte_for_byte_up_to_its_limit() {
    let mut bench = Bench::new();
    let limit = "x".repeat(4_096);
    for metadata in ["", "\0", "\u{1F980}\"{}'", r#"{"topologyId":"t-1","taskId":3}"#, limit.as_str()] {
        assert_eq!(bench.commit("", -1, 1, metadata), Ok(()));
        assert_eq!(bench.fetch().map(|o| o.metadata), Some(metadata.to_owned()));
    }
    assert_eq!(bench.commit("", -1, 2, &"x".repeat(4_097)), Err(Error::OffsetMetadataTooLarge));
    assert_eq!(bench.fetch().map(|o| o.offset), Some(1));
}

#[test]
fn offsets_expire_after_the_group_was_empty_for_the_retention_and_the_group_follows() {
    let mut bench = Bench::new();
    bench.stable(&[join("a")]);
    bench.commit("a", 1, 5, "").expect("commit");
    let week_ms = Settings::default().offsets_retention_ms;
    for _ in 0..=(week_ms / 9_000) {
        bench.pass(9_000);
        bench.beat("a", 1).expect("alive");
    }
    assert!(bench.fetch().is_some(), "never while a member reads the topic");
    bench.leave("a", None).expect("leave");
    bench.pass(week_ms - 1);
    assert!(bench.fetch().is_some());
    bench.pass(600_000);
    assert_eq!((bench.fetch(), bench.coordinator.group_count()), (None, 0));
}

#[test]
fn an_offset_with_its_own_retention_ends_by_it() {
    let mut bench = Bench::new();
    let Event::CommitOffsets(commit) = commit_event("", -1, 5, "") else { unreachable!() };
    bench.send(Event::CommitOffsets(Commit { retention_ms: Some(1_000), ..commit }));
    assert_eq!(bench.fetch().and_then(|o| o.expire_ms), Some(2_000));
    assert_eq!(bench.journal[0].value.as_ref().map(|v| v[..2].to_vec()), Some(vec![0, 1]), "value version 1");
    bench.pass(600_000);
    assert_eq!(bench.fetch(), None);
}

#[test]
fn offsets_are_deleted_only_where_nobody_subscribes_and_with_their_topic() {
    let mut bench = Bench::new();
    bench.stable(&[join("a")]);
    bench.commit("a", 1, 5, "").expect("commit");
    let asked = || {
        let topics = vec![TopicPartitions { name: "t".into(), partitions: vec![0] }];
        Event::DeleteOffsets(DeleteOffsets { group: GROUP.into(), topics })
    };
    let token = bench.send(asked());
    let Some(Reply::DeleteOffsets(Ok(topics))) = bench.reply(token) else { panic!("no reply") };
    assert_eq!(topics[0].partitions[0].1, Err(Error::GroupSubscribedToTopic));
    bench.leave("a", None).expect("leave");
    bench.send(asked());
    assert_eq!(bench.fetch(), None);
    bench.commit("", -1, 6, "").expect("commit");
    let out = bench.coordinator.forget_topic(&mut Forgetting::new("t", TOPIC), false);
    bench.settle(out);
    assert_eq!(bench.fetch(), None);
}

#[test]
fn offsets_expire_by_the_calendar_and_from_when_a_future_time_was_found() {
    let mut bench = Bench::new();
    let week_ms = Settings::default().offsets_retention_ms;
    bench.commit("", -1, 5, "").expect("commit");
    // Somebody sets the clock a month ahead; the calendar does not believe it.
    bench.set_by_ms = 30 * 86_400_000;
    bench.calendar_ms = Some(bench.now_ms);
    bench.pass(1_200_000);
    assert_eq!(bench.fetch().map(|o| o.offset), Some(5));
    bench.commit("", -1, 6, "").expect("commit");
    // It is set right again: what was committed meanwhile lies in the future, and ages all the same.
    (bench.set_by_ms, bench.calendar_ms) = (0, None);
    bench.pass(600_000);
    bench.pass(week_ms - 1);
    assert_eq!(bench.fetch().map(|o| o.offset), Some(6));
    bench.pass(600_000);
    assert_eq!((bench.fetch(), bench.coordinator.group_count()), (None, 0));
}

#[test]
fn offsets_are_of_a_topic_and_not_of_a_name() {
    let mut bench = Bench::new();
    let other = Uuid::from_u128(7);
    bench.commit("", -1, 5, "").expect("commit");
    // A topic of that name that came and went before does not take them along.
    let out = bench.coordinator.forget_topic(&mut Forgetting::new("t", other), false);
    assert!(out.records.is_empty());
    let Event::CommitOffsets(mut commit) = commit_event("", -1, 6, "") else { unreachable!() };
    commit.topics[0].gone = true;
    let token = bench.send(Event::CommitOffsets(commit));
    let Some(Reply::CommitOffsets(Ok(topics))) = bench.reply(token) else { panic!("no reply") };
    assert_eq!(topics[0].partitions[0].1, Err(Error::UnknownTopic));
    let committed = bench.fetch().expect("committed");
    assert_eq!(
        (committed.offset, committed.is_of(Some(TOPIC)), committed.is_of(Some(other))),
        (5, true, false)
    );
    // From before offsets bore ids: what has no topic at the start is of none that comes later.
    for (topic, left) in [(Some(other), true), (None, false)] {
        let mut fresh = Coordinator::new(Settings::default());
        let v3 = b"\0\x03\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\0\0\0\0\0\0\x09";
        fresh.replay(b"\0\x01\0\x01g\0\x01t\0\0\0\0", Some(v3), at(0)).expect("record");
        fresh.finish_loading(at(10));
        let out = fresh.forget_nameless(&mut Walk::default(), &|_| topic);
        bench.coordinator = fresh;
        bench.settle(out);
        assert_eq!(bench.fetch().is_some(), left);
    }
}
