//! The journal: its bytes, what a restart knows, refused, cut short or damaged.

use super::*;

#[test]
fn a_refused_journal_write_voids_the_plan_and_the_offset() {
    let mut bench = Bench::new();
    bench.send(Event::Join(join("a")));
    bench.refuse_writes = true;
    let token = bench.sync("a", 1, &[("a", "x")]);
    assert_eq!(bench.synced(token), Err(Error::Storage));
    assert_eq!(bench.state(), Some(State::PreparingRebalance));
    bench.refuse_writes = false;
    let token = bench.send(Event::Join(again("a")));
    assert_eq!(bench.joined(token).generation, 2);
    bench.sync("a", 2, &[("a", "x")]);
    bench.refuse_writes = true;
    let token = bench.send(commit_event("a", 2, 5, ""));
    assert_eq!(bench.reply(token), Some(&Reply::CommitOffsets(Err(Error::Storage))));
    assert_eq!(bench.fetch(), None);
}

#[test]
fn a_restart_keeps_members_assignments_and_offsets_and_gives_a_fresh_session() {
    let mut bench = Bench::new();
    let generation = bench.stable(&[join("a")]);
    bench.commit("a", generation, 5, "m").expect("commit");
    let mut fresh = Coordinator::new(Settings::default());
    let out =
        fresh.handle(at(5_000), 1, Event::ListGroups { states: Vec::new(), types: Vec::new(), after: None });
    assert_eq!(out.replies[0].1, Reply::ListGroups(Err(Error::CoordinatorLoading)));
    for record in &bench.journal {
        fresh.replay(&record.key, record.value.as_deref(), at(5_000)).expect("record");
    }
    fresh.finish_loading(at(5_000));
    bench.coordinator = fresh;
    bench.now_ms = 5_000;
    bench.pass(9_000);
    assert_eq!(bench.beat("a", generation), Ok(()));
    let token = bench.sync("a", generation, &[]);
    assert_eq!(bench.synced(token), Ok(Bytes::from_static(b"plan")));
    assert_eq!(bench.fetch().map(|o| o.metadata), Some("m".into()));
}

#[test]
fn journal_records_are_kafkas_byte_for_byte() {
    let mut bench = Bench::new();
    bench.commit("", -1, 258, "m").expect("commit");
    let record = &bench.journal[0];
    assert_eq!(&record.key[..], b"\0\x01\0\x01g\0\x01t\0\0\0\0");
    // As Apache Kafka 4.3.1 writes it: version 4, the topic id in tagged field 0.
    let value = b"\0\x04\0\0\0\0\0\0\x01\x02\0\0\0\x03\x02m\0\0\0\0\0\0\x03\xe8\x01\0\x10\
        \xbet\x68\x1f\xa5\xd8\x4b\x2b\x9d\xd8\xfb\x77\xba\x3b\x69\xf6";
    assert_eq!(record.value.as_deref(), Some(&value[..]));
    bench.send(Event::Join(Join {
        protocols: vec![("r".into(), Bytes::from_static(b"s"))],
        ..static_join("a", "i")
    }));
    bench.sync("a", 1, &[("a", "z")]);
    let record = &bench.journal[1];
    assert_eq!(&record.key[..], b"\0\x02\0\x01g");
    let value = b"\0\x03\0\x08consumer\0\0\0\x01\0\x01r\0\x01a\0\0\0\0\0\0\x03\xe8\0\0\0\x01\
        \0\x01a\0\x01i\0\x06client\0\x0a/127.0.0.1\0\0\xea\x60\0\0\x27\x10\0\0\0\x01s\0\0\0\x01z";
    assert_eq!(record.value.as_deref(), Some(&value[..]));
    assert_eq!(record.partition, partition_for(GROUP));
}

#[test]
fn older_and_flexible_journal_values_are_read_and_broken_ones_change_nothing() {
    let mut coordinator = Coordinator::new(Settings::default());
    let key = b"\0\x01\0\x01g\0\x01t\0\0\0\0";
    let v0 = b"\0\0\0\0\0\0\0\0\0\x05\0\x01m\0\0\0\0\0\0\0\x09";
    let v4 = b"\0\x04\0\0\0\0\0\0\0\x06\0\0\0\x01\x02m\0\0\0\0\0\0\0\x09\0";
    assert_eq!(coordinator.replay(key, Some(v0), at(0)), Ok(()));
    assert_eq!(coordinator.replay(key, Some(v4), at(0)), Ok(()));
    let other = b"\0\x01\0\x01g\0\x01t\0\0\0\x01";
    assert_eq!(coordinator.replay(other, Some(v4), at(0)), Ok(()));
    assert_eq!(coordinator.replay(other, Some(b"\0\x09"), at(0)), Err(JournalError::Version(9)));
    assert_eq!(coordinator.replay(b"\0\x07\0\x01g", Some(v4), at(0)), Err(JournalError::Kind(7)));
    assert_eq!(coordinator.replay(b"\0\x02\x7f\xffg", None, at(0)), Err(JournalError::Truncated));
    let many_members = b"\0\x03\0\0\0\0\0\x01\xff\xff\xff\xff\0\0\0\0\0\0\0\0\x7f\xff\xff\xff";
    assert_eq!(coordinator.replay(b"\0\x02\0\x01g", Some(many_members), at(0)), Err(JournalError::Malformed));
    coordinator.finish_loading(at(10));
    let asked = vec![FetchGroup { group: GROUP.into(), ..FetchGroup::default() }];
    let out = coordinator.handle(at(10), 1, Event::FetchOffsets(asked));
    let Reply::FetchOffsets(groups) = &out.replies[0].1 else { panic!("no fetch") };
    let fetched = groups[0].1.as_ref().expect("group");
    let found: Vec<_> =
        fetched.topics[0].partitions.iter().map(|(_, o)| o.clone().map(|o| o.map(|o| o.offset))).collect();
    assert_eq!(found, [Ok(Some(6)), Err(Error::Unreadable)], "what stood there before is older");
}

/// Commits at 20 partitions of two topics, without a member.
fn commit_many(bench: &mut Bench) {
    let partitions = || {
        (0..10).map(|partition| CommitPartition {
            partition,
            offset: 7,
            leader_epoch: -1,
            metadata: String::new(),
            commit_ms: None,
        })
    };
    let topic = |name: &str| CommitTopic {
        name: name.into(),
        id: Some(TOPIC),
        gone: false,
        partitions: partitions().collect(),
    };
    let topics = vec![topic("t"), topic("u")];
    let commit = Commit { group: GROUP.into(), generation: -1, topics, ..Commit::default() };
    bench.send(Event::CommitOffsets(commit));
}

#[test]
fn a_crash_in_the_middle_of_a_deletion_leaves_the_whole_group_or_nothing_of_it() {
    let delete = |bench: &mut Bench| {
        bench.send(Event::DeleteGroups(vec![GROUP.into()]));
    };
    let expire = |bench: &mut Bench| bench.pass(Settings::default().offsets_retention_ms + 600_000);
    let ways: [&dyn Fn(&mut Bench); 2] = [&delete, &expire];
    for end in ways {
        let mut bench = Bench::new();
        bench.stable(&[join("a")]);
        bench.leave("a", None).expect("leave");
        commit_many(&mut bench);
        let before = bench.journal.len();
        end(&mut bench);
        assert_eq!(bench.journal.len(), before + 1, "its end takes its offsets along");
        for cut in before..=bench.journal.len() {
            let mut fresh = bench.restarted(cut);
            let known = fresh.fetch().is_some();
            assert_eq!(
                (known, fresh.coordinator.group_count()),
                if cut == before { (true, 1) } else { (false, 0) }
            );
        }
    }
}

#[test]
fn what_a_damaged_journal_may_have_held_is_not_known_until_it_is_said_anew() {
    let mut bench = Bench::new();
    bench.commit("", -1, 5, "").expect("commit");
    let ask = |bench: &mut Bench, group: &str, partition| {
        let topics = Some(vec![TopicPartitions { name: "t".into(), partitions: vec![partition] }]);
        let token =
            bench.send(Event::FetchOffsets(vec![FetchGroup { group: group.into(), topics, after: None }]));
        let Some(Reply::FetchOffsets(groups)) = bench.reply(token) else { panic!("no fetch") };
        groups[0].1.as_ref().expect("group").topics[0].partitions[0].1.clone().map(|o| o.map(|o| o.offset))
    };
    // "g" and "g2" share a partition of the journal, "h" has another.
    let elsewhere = "h";
    let neighbour =
        (0..10_000).map(|n| format!("n{n}")).find(|id| partition_for(id) == partition_for(GROUP)).unwrap();
    let mut coordinator = Coordinator::new(Settings::default());
    for record in &bench.journal {
        coordinator.replay(&record.key, record.value.as_deref(), at(2_000)).expect("record");
    }
    coordinator.journal_damaged(partition_for(GROUP), 2_000);
    coordinator.finish_loading(at(2_000));
    bench.coordinator = coordinator;
    bench.now_ms = 2_000;
    assert!(bench.coordinator.is_damaged(partition_for(GROUP)));
    assert_eq!(ask(&mut bench, GROUP, 0), Ok(Some(5)), "what reads is served");
    assert_eq!(ask(&mut bench, GROUP, 1), Err(Error::Unreadable));
    assert_eq!(ask(&mut bench, &neighbour, 0), Err(Error::Unreadable));
    assert_eq!(ask(&mut bench, elsewhere, 0), Ok(None));
    // Said anew, by a commit or by the end of the group.
    let Event::CommitOffsets(mut commit) = commit_event("", -1, 9, "") else { unreachable!() };
    commit.topics[0].partitions[0].partition = 1;
    bench.send(Event::CommitOffsets(commit));
    assert_eq!(ask(&mut bench, GROUP, 1), Ok(Some(9)));
    let token = bench.send(Event::DeleteGroups(vec![neighbour.clone(), elsewhere.into()]));
    let Some(Reply::DeleteGroups(groups)) = bench.reply(token) else { panic!("no reply") };
    assert_eq!((&groups[0].1, &groups[1].1), (&Ok(()), &Err(Error::GroupIdNotFound)));
    assert_eq!(ask(&mut bench, &neighbour, 0), Ok(None));
    assert_eq!(ask(&mut bench, GROUP, 2), Err(Error::Unreadable));
    // What was lost would have expired by then.
    bench.pass(Settings::default().offsets_retention_ms);
    assert_eq!(ask(&mut bench, GROUP, 2), Ok(None));
    bench.pass(600_000);
    assert!(!bench.coordinator.is_damaged(partition_for(GROUP)));
}
