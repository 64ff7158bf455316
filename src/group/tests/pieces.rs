//! Nothing is done in one go that grows with what a request names or a group holds: counted in records and looks, not in time.

use std::collections::BTreeSet;

use super::*;
use crate::group::step::{BYTES, LOOKS};

fn partition(partition: i32, offset: i64) -> CommitPartition {
    CommitPartition { partition, offset, leader_epoch: -1, metadata: String::new(), commit_ms: None }
}

/// A simple commit of partitions of `t`, of offset 7.
fn commit_of(group: &str, partitions: Vec<CommitPartition>) -> Event {
    let topics = vec![CommitTopic { name: "t".into(), id: Some(TOPIC), gone: false, partitions }];
    Event::CommitOffsets(Commit { group: group.into(), generation: -1, topics, ..Commit::default() })
}

/// Whatever was decided in one go.
fn is_small(out: &Outcome) -> bool {
    let bytes: usize = out.records.iter().map(JournalRecord::bytes).sum();
    out.records.len() <= LOOKS && bytes < 2 * BYTES
}

/// All pieces, one after the other, each of which is small; the whole reply.
fn send_in_pieces(bench: &mut Bench, event: Event) -> (Reply, usize) {
    let mut pieces = event.in_pieces();
    let mut next = pieces.next();
    let (mut whole, mut count): (Option<Reply>, _) = (None, 0);
    while let Some(piece) = next.take() {
        let mut out = bench.coordinator.handle(bench.now(), 7_000_000, piece);
        assert!(is_small(&out), "{} records", out.records.len());
        next = out.rest.take().or_else(|| pieces.next());
        bench.settle(out);
        let (_, reply) = bench.replies.pop().unwrap();
        whole = Some(match whole {
            None => reply,
            Some(before) => before.and(reply),
        });
        count += 1;
    }
    (whole.unwrap(), count)
}

fn results(reply: Reply) -> usize {
    match reply {
        Reply::CommitOffsets(Ok(topics)) | Reply::DeleteOffsets(Ok(topics)) => {
            let all = topics.iter().flat_map(|topic| topic.partitions.iter().map(|(index, _)| *index));
            let count = all.clone().count();
            assert_eq!(count, all.collect::<BTreeSet<_>>().len(), "each once");
            count
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_request_names_twice_is_done_once() {
    let mut bench = Bench::new();
    let same = (0..100_000).map(|n| partition(n % 2, i64::from(n))).collect();
    let (reply, pieces) = send_in_pieces(&mut bench, commit_of(GROUP, same));
    assert_eq!((results(reply), pieces, bench.journal.len()), (2, 1, 2));
    assert_eq!(bench.fetch().map(|o| o.offset), Some(99_998), "the last mention counts");
    let topics: Vec<_> =
        (0..10_000).map(|_| TopicPartitions { name: "t".into(), partitions: vec![1, 1, 0] }).collect();
    let asked = FetchGroup { group: GROUP.into(), topics: Some(topics.clone()), after: None };
    let (reply, pieces) = send_in_pieces(&mut bench, Event::FetchOffsets(vec![asked]));
    let Reply::FetchOffsets(groups) = reply else { panic!() };
    let found = groups[0].1.as_ref().unwrap();
    assert_eq!((found.topics.len(), found.topics[0].partitions.len(), pieces), (1, 2, 1));
    let asked = Event::DeleteOffsets(DeleteOffsets { group: GROUP.into(), topics });
    let (reply, pieces) = send_in_pieces(&mut bench, asked);
    assert_eq!((results(reply), pieces, bench.journal.len()), (2, 1, 4));
    bench.send(commit_of(GROUP, (0..900).map(|n| partition(n, 1)).collect()));
    let before = bench.journal.len();
    let (reply, _) = send_in_pieces(&mut bench, Event::DeleteGroups(vec![GROUP.into(); 4_000]));
    assert_eq!(reply, Reply::DeleteGroups(vec![(GROUP.into(), Ok(()))]));
    assert_eq!(bench.journal.len(), before + 1);
}

#[test]
fn large_requests_are_done_in_small_pieces_and_answered_whole() {
    let mut bench = Bench::new();
    let many = |offset| (0..5_500).map(|n| partition(n, offset)).collect();
    let (reply, pieces) = send_in_pieces(&mut bench, commit_of(GROUP, many(7)));
    assert_eq!((results(reply), pieces), (5_500, 6));
    // Long names make records large.
    let group = "g".repeat(30_000);
    let (reply, pieces) =
        send_in_pieces(&mut bench, commit_of(&group, (0..100).map(|n| partition(n, 1)).collect()));
    assert_eq!((results(reply), pieces), (100, 12));
    // A long name is in an answer once.
    let topics = vec![TopicPartitions { name: "t".repeat(30_000), partitions: (0..5_500).collect() }];
    let asked = FetchGroup { group: group.clone(), topics: Some(topics), after: None };
    let (reply, pieces) = send_in_pieces(&mut bench, Event::FetchOffsets(vec![asked]));
    let Reply::FetchOffsets(groups) = reply else { panic!() };
    let found = groups[0].1.as_ref().unwrap();
    assert_eq!(
        (groups.len(), found.topics.len(), found.topics[0].partitions.len(), pieces),
        (1, 1, 5_500, 7)
    );
    // Also where a million of them are asked for that nobody committed.
    assert!(size_of_val(&found.topics[0].partitions[0]) <= 32);
    let everything = FetchGroup { group: GROUP.into(), ..FetchGroup::default() };
    let (reply, pieces) = send_in_pieces(&mut bench, Event::FetchOffsets(vec![everything]));
    let Reply::FetchOffsets(groups) = reply else { panic!() };
    let found = groups[0].1.as_ref().unwrap();
    assert_eq!((groups.len(), found.topics.len(), pieces), (1, 1, 6));
    let found = found.topics[0].partitions.iter().map(|(index, _)| *index);
    assert!(found.eq(0..5_500), "each once, in order");
    let topics = vec![TopicPartitions { name: "t".into(), partitions: (0..5_500).collect() }];
    let asked = Event::DeleteOffsets(DeleteOffsets { group: GROUP.into(), topics });
    assert_eq!(results(send_in_pieces(&mut bench, asked).0), 5_500);
    assert_eq!(bench.fetch(), None);
    for n in 0..2_500 {
        bench.send(commit_of(&format!("group {n}"), vec![partition(0, 1)]));
    }
    let states = vec!["no such state".to_owned(); 10_000];
    let list = |states| Event::ListGroups { states, types: Vec::new(), after: None };
    let Some(Event::ListGroups { states, .. }) = list(states).in_pieces().next() else { panic!() };
    assert_eq!(states.len(), 1, "compared with each group");
    let (Reply::ListGroups(Ok(listed)), pieces) = send_in_pieces(&mut bench, list(states)) else { panic!() };
    assert_eq!((listed.len(), pieces), (0, 3));
    let states = vec!["stable".to_owned(), "EMPTY".to_owned()];
    let (Reply::ListGroups(Ok(listed)), _) = send_in_pieces(&mut bench, list(states)) else { panic!() };
    assert_eq!(listed.iter().map(|group| &group.group).collect::<BTreeSet<_>>().len(), 2_501);
    let ids: Vec<String> = listed.into_iter().map(|group| group.group).collect();
    let (reply, pieces) = send_in_pieces(&mut bench, Event::DescribeGroups(ids.clone()));
    let Reply::DescribeGroups(described) = reply else { panic!() };
    assert_eq!((described.len(), pieces), (2_501, 3));
    let (reply, pieces) = send_in_pieces(&mut bench, Event::DeleteGroups(ids));
    let Reply::DeleteGroups(deleted) = reply else { panic!() };
    assert_eq!(
        (deleted.len(), deleted.iter().filter(|(_, result)| result.is_ok()).count(), pieces),
        (2_501, 2_501, 3)
    );
    assert_eq!(bench.coordinator.group_count(), 0);
}

#[test]
fn a_piece_that_is_refused_is_the_reply() {
    let mut bench = Bench::new();
    let many = (0..2_500).map(|n| partition(n, 1)).collect();
    let mut pieces = commit_of(GROUP, many).in_pieces();
    let token = bench.send(pieces.next().unwrap());
    let done = bench.reply(token).unwrap().clone();
    bench.stable(&[join("a")]);
    let token = bench.send(pieces.next().unwrap());
    let refused = bench.reply(token).unwrap().clone();
    assert_eq!(refused, Reply::CommitOffsets(Err(Error::UnknownMember)));
    assert_eq!(done.clone().and(refused.clone()), refused);
    assert_eq!(refused.clone().and(done), refused);
}

/// Offsets of ended groups, of a topic that is gone, and expired ones: step by step, each small, and all of it goes.
#[test]
fn what_ends_by_itself_ends_in_small_steps() {
    let mut bench = Bench::new();
    for group in ["a", "b", "c"] {
        send_in_pieces(&mut bench, commit_of(group, (0..3_200).map(|n| partition(n, 7)).collect()));
    }
    bench.send(Event::DeleteGroups(vec!["a".into()]));
    assert_eq!(bench.coordinator.group_count(), 2);
    let weight = bench.coordinator.bytes();
    for step in 1..=4 {
        assert_eq!(bench.coordinator.bytes(), bench.coordinator.bytes_anew());
        let out = bench.coordinator.tick(bench.now());
        bench.settle(out);
        let dropped = weight - bench.coordinator.bytes();
        assert!(dropped >= 190_000 * step.min(3) && dropped <= 210_000 * step, "{dropped} after step {step}");
    }
    // Every step is a place where a crash may be.
    let mut forgetting = Forgetting::new("t", TOPIC);
    let mut steps = 0;
    while !forgetting.is_through() {
        let out = bench.coordinator.forget_topic(&mut forgetting, false);
        assert!(is_small(&out), "{} records", out.records.len());
        // What is refused by the journal does not make it go round for ever.
        bench.refuse_writes = steps == 1;
        bench.settle(out);
        steps += 1;
    }
    bench.refuse_writes = false;
    assert!((7..10).contains(&steps), "{steps}");
    let left = FetchGroup { group: "b".into(), ..FetchGroup::default() };
    let (Reply::FetchOffsets(groups), _) = send_in_pieces(&mut bench, Event::FetchOffsets(vec![left])) else {
        panic!()
    };
    assert!(groups[0].1.as_ref().unwrap().topics[0].partitions.len() <= LOOKS, "what was refused");
    // And expiry.
    send_in_pieces(&mut bench, commit_of("c", (0..3_200).map(|n| partition(n, 7)).collect()));
    bench.now_ms += 2 * Settings::default().offsets_retention_ms;
    for _ in 0..20 {
        let at_ms = bench.coordinator.next_deadline().unwrap();
        bench.now_ms = bench.now_ms.max(at_ms);
        let out = bench.coordinator.tick(bench.now());
        assert!(is_small(&out), "{} records", out.records.len());
        bench.settle(out);
    }
    assert_eq!((bench.coordinator.group_count(), bench.coordinator.bytes()), (0, 0));
}

#[test]
fn many_deadlines_at_once_are_met_in_small_steps() {
    let mut bench = Bench::new();
    for n in 0..3_000 {
        bench.send(Event::Join(Join { group: format!("g{n}"), ..join("a") }));
    }
    bench.now_ms += 1_000_000;
    let mut steps = 0;
    while bench.coordinator.next_deadline().is_some_and(|at_ms| at_ms <= bench.now_ms) {
        let out = bench.coordinator.tick(bench.now());
        assert!(is_small(&out), "{} records", out.records.len());
        bench.settle(out);
        steps += 1;
    }
    assert!((6..12).contains(&steps), "{steps}");
}

#[test]
fn a_member_lists_few_protocols_and_each_once() {
    let mut bench = Bench::new();
    let named = |n: usize| (format!("p{n}"), Bytes::from_static(b"s"));
    let many = |count: usize| Join { protocols: (0..count).map(named).collect(), ..join("a") };
    let token = bench.send(Event::Join(many(101)));
    assert_eq!(bench.join_error(token), Error::InvalidRequest);
    assert_eq!(many(101).protocols.len(), 101);
    assert_eq!(
        Event::Join(many(101)).check(&Settings::default()),
        Err(Error::InvalidRequest),
        "before the lock"
    );
    let plan = (0..1_001).map(|n| (format!("m{n}"), Bytes::new())).collect();
    let plan = Event::Sync(Sync { assignments: plan, ..Sync::default() });
    assert_eq!(
        plan.check(&Settings::default()),
        Err(Error::UnknownMember),
        "it names some that nobody knows"
    );
    // A name that one member lists twice is not known to two.
    let twice = vec![named(1), named(1), named(2)];
    bench.stable(&[Join { protocols: twice, ..join("a") }]);
    let token = bench.send(Event::Join(Join { protocols: vec![named(3)], ..join("b") }));
    assert_eq!(bench.join_error(token), Error::InconsistentProtocol);
    bench.send(Event::Join(Join { protocols: vec![named(3), named(2)], ..join("b") }));
    assert!(bench.coordinator.counts_what_is_listed());
    bench.send(Event::Join(Join { protocols: vec![named(1), named(2)], ..again("a") }));
    let token = bench.send(Event::DescribeGroups(vec![GROUP.into()]));
    let Some(Reply::DescribeGroups(groups)) = bench.reply(token) else { panic!() };
    assert_eq!(groups[0].1.as_ref().unwrap().members.len(), 2);
    assert!(bench.coordinator.counts_what_is_listed());
}
