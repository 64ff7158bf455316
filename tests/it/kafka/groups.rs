//! The life of a classic group, seen from its members' side of the wire.
//!
//! Every expectation here holds on Apache Kafka 4.3.1 as well (`subject.rs` says how to see it), but where it
//! says so. Deliberately absent: offsets (`offsets.rs`), restarts (`restart.rs`).

use std::time::{Duration, Instant};

use super::membership::{Join, consumer, join_body, joined};
use super::subject::Subject;
use super::{Client, Out};

/// Waits until the group is in that state.
fn until_state(client: &mut Client, group: &str, state: &str) {
    let until = Instant::now() + Duration::from_secs(5);
    while client.group_state(group) != state {
        assert!(Instant::now() < until, "still {}", client.group_state(group));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn two_members_join_share_a_plan_and_part() {
    let subject = Subject::start();
    let (mut a, mut b) = (subject.client(), subject.client());
    let group = &subject.name("g");
    let first = a.settle(consumer(group));
    assert_eq!((first.generation, first.protocol.as_str()), (1, "range"));
    assert_eq!(a.heartbeat(group, (1, &first.member, None)), 0);

    let id = joined(5, b.call(11, 5, &join_body(5, consumer(group)))).member;
    b.send_join(Join { member: &id, protocols: &[("range", b"of b")], ..consumer(group) });
    until_state(&mut a, group, "PreparingRebalance");
    assert_eq!(a.heartbeat(group, (1, &first.member, None)), 27);
    let again = a.join(Join { member: &first.member, ..consumer(group) });
    let other = b.joined();
    assert_eq!((again.code, again.generation, other.code, other.generation), (0, 2, 0, 2));
    assert_eq!((&again.leader, &other.leader, &other.member), (&first.member, &first.member, &id));
    assert_eq!(other.members, [], "only the leader sees the members");
    let mut seen = again.members.clone();
    seen.sort();
    let mut expected = vec![
        (first.member.clone(), String::new(), b"meta".to_vec()),
        (id.clone(), String::new(), b"of b".to_vec()),
    ];
    expected.sort();
    assert_eq!(seen, expected);

    // The follower's sync waits for the leader's.
    b.send_sync(group, (2, &id, None), &[]);
    assert_eq!(a.group_state(group), "CompletingRebalance");
    let plan = [(first.member.as_str(), &b"plan of a"[..]), (&id, b"plan of b")];
    assert_eq!(a.sync(group, (2, &first.member, None), &plan), (0, b"plan of a".to_vec()));
    assert_eq!(b.synced(), (0, b"plan of b".to_vec()));
    assert_eq!(b.heartbeat(group, (2, &id, None)), 0);
    // A sync that comes again is told the same.
    assert_eq!(b.sync(group, (2, &id, None), &[]), (0, b"plan of b".to_vec()));

    assert_eq!(b.leave(group, &id, None), 0);
    assert_eq!(a.heartbeat(group, (2, &first.member, None)), 27);
    let alone = a.join(Join { member: &first.member, ..consumer(group) });
    assert_eq!((alone.generation, alone.members.len()), (3, 1));
    assert_eq!(a.leave(group, &first.member, None), 0);
    assert_eq!(a.group_state(group), "Empty");
    assert_eq!(a.heartbeat(group, (3, &first.member, None)), 25);
    subject.end();
}

#[test]
fn a_new_member_gets_its_id_first_from_version_4_on() {
    let subject = Subject::start();
    let mut client = subject.client();
    for version in 0..=5 {
        let group = &subject.name("g");
        let first = joined(version, client.call(11, version, &join_body(version, consumer(group))));
        assert!(first.member.starts_with("test-") && first.member.len() == 5 + 36, "{}", first.member);
        if version < 4 {
            assert_eq!((first.code, first.generation), (0, 1), "v{version}");
        } else {
            assert_eq!((first.code, first.generation), (79, -1), "v{version}");
            // Nobody has joined yet, and an id of somebody else's making is not known.
            assert!(["Empty", "Dead"].contains(&client.group_state(group).as_str()));
            let made_up = Join { member: "made-up", ..consumer(group) };
            assert_eq!(client.join(made_up).code, 25);
            let second = client.join(Join { member: &first.member, ..consumer(group) });
            assert_eq!((second.code, second.generation, second.member), (0, 1, first.member));
        }
    }
    subject.end();
}

#[test]
fn a_static_member_takes_over_without_a_rebalance_and_fences_its_older_self() {
    let subject = Subject::start();
    let (mut old, mut new) = (subject.client(), subject.client());
    let (group, topic) = (&subject.name("g"), subject.topic(&mut old, 1, &[]));
    let fixed = Join { instance: Some("i"), ..consumer(group) };
    let before = old.settle(fixed);
    assert!(before.member.starts_with("i-"), "{}", before.member);

    let after = joined(5, new.call(11, 5, &join_body(5, fixed)));
    assert_eq!((after.code, after.generation), (0, 1), "no rebalance");
    assert_ne!(after.member, before.member);
    // A client of v5 that read its own id as the leader's would make a new plan.
    assert_eq!((&after.leader, after.members.len()), (&before.member, 0));
    assert_eq!(new.sync(group, (1, &after.member, Some("i")), &[]), (0, b"mine".to_vec()));

    let fenced = (1, before.member.as_str(), Some("i"));
    assert_eq!(old.heartbeat(group, fenced), 82);
    assert_eq!(old.sync(group, fenced, &[]).0, 82);
    assert_eq!(old.commit(group, fenced, (&topic, 0, 1), None), 82);
    assert_eq!(old.leave(group, &before.member, Some("i")), 82);
    assert_eq!(old.join(Join { member: &before.member, ..fixed }).code, 82);
    assert_eq!(old.heartbeat(group, (1, &before.member, None)), 25);
    assert_eq!(old.heartbeat(group, (1, &after.member, Some("other"))), 25);

    assert_eq!(new.heartbeat(group, (1, &after.member, Some("i"))), 0);
    assert_eq!(new.commit(group, (1, &after.member, Some("i")), (&topic, 0, 1), None), 0);
    // An administrator removes it by its instance alone.
    assert_eq!(old.leave(group, "", Some("i")), 0);
    assert_eq!(new.heartbeat(group, (1, &after.member, Some("i"))), 25);
    assert_eq!(old.leave(group, "", Some("i")), 25);
    subject.end();
}

#[test]
fn a_static_member_comes_back_with_another_subscription_but_not_another_protocol() {
    let subject = Subject::start();
    let mut client = subject.client();
    let group = &subject.name("g");
    let fixed = Join { instance: Some("i"), ..consumer(group) };
    assert_eq!(client.settle(fixed).generation, 1);
    let changed = Join { protocols: &[("range", b"other")], ..fixed };
    assert_eq!(client.join(changed).generation, 1, "the protocol is the same");
    let moved = Join { protocols: &[("sticky", b"other")], ..fixed };
    assert_eq!(client.join(moved).code, 23, "the group knows only the other");
    subject.end();
}

#[test]
fn the_protocol_is_one_that_all_know_and_most_prefer() {
    let subject = Subject::start();
    let (mut a, mut b) = (subject.client(), subject.client());
    let group = &subject.name("g");
    let both: &[(&str, &[u8])] = &[("range", b"r"), ("cooperative-sticky", b"c")];
    let first = a.settle(Join { protocols: both, ..consumer(group) });
    assert_eq!(first.protocol, "range");
    // Protocols that not all know, or another kind of group.
    let nothing = Join { protocols: &[("roundrobin", b"")], ..consumer(group) };
    assert_eq!(b.join(nothing).code, 23);
    assert_eq!(b.join(Join { protocols: &[], ..consumer(group) }).code, 23);
    assert_eq!(b.join(Join { kind: "connect", ..consumer(group) }).code, 23);
    assert_eq!(a.heartbeat(group, (1, &first.member, None)), 0, "a refused member disturbs nobody");

    let only: &[(&str, &[u8])] = &[("cooperative-sticky", b"b")];
    let id = joined(5, b.call(11, 5, &join_body(5, Join { protocols: only, ..consumer(group) }))).member;
    b.send_join(Join { member: &id, protocols: only, ..consumer(group) });
    until_state(&mut a, group, "PreparingRebalance");
    let again = a.join(Join { member: &first.member, protocols: both, ..consumer(group) });
    assert_eq!(
        (again.protocol.as_str(), b.joined().protocol.as_str()),
        ("cooperative-sticky", "cooperative-sticky")
    );
    let mut metadata: Vec<_> = again.members.into_iter().map(|(_, _, metadata)| metadata).collect();
    metadata.sort();
    assert_eq!(metadata, [b"b", b"c"], "each member's words for the chosen protocol");
    subject.end();
}

/// What a cooperative consumer does: it gives up partitions and joins again, with what it owns now.
/// In about half of the runs Apache Kafka 4.3.1 leaves the follower's last but one join unanswered.
#[test]
fn a_member_that_joins_again_with_other_words_starts_a_rebalance_and_with_the_same_it_does_not() {
    let subject = Subject::start();
    let (mut a, mut b) = (subject.client(), subject.client());
    let group = &subject.name("g");
    let first = a.settle(consumer(group));
    let id = joined(5, b.call(11, 5, &join_body(5, consumer(group)))).member;
    b.send_join(Join { member: &id, ..consumer(group) });
    until_state(&mut a, group, "PreparingRebalance");
    a.join(Join { member: &first.member, ..consumer(group) });
    assert_eq!(b.joined().generation, 2);
    // While the plan is awaited, the same words get the same answer.
    assert_eq!(b.join(Join { member: &id, ..consumer(group) }).generation, 2);
    a.sync(group, (2, &first.member, None), &[(&id, b"b")]);
    assert_eq!(b.sync(group, (2, &id, None), &[]), (0, b"b".to_vec()));

    let same = b.join(Join { member: &id, ..consumer(group) });
    assert_eq!((same.code, same.generation), (0, 2), "a follower's retry changes nothing");
    assert_eq!(a.heartbeat(group, (2, &first.member, None)), 0);

    b.send_join(Join { member: &id, protocols: &[("range", b"owns less")], ..consumer(group) });
    until_state(&mut a, group, "PreparingRebalance");
    let leader = a.join(Join { member: &first.member, ..consumer(group) });
    assert_eq!((leader.generation, b.joined().generation), (3, 3));
    a.sync(group, (3, &first.member, None), &[]);
    assert_eq!(b.sync(group, (3, &id, None), &[]), (0, Vec::new()), "a member outside the plan has nothing");

    // The leader's word always counts.
    a.send_join(Join { member: &first.member, ..consumer(group) });
    until_state(&mut b, group, "PreparingRebalance");
    assert_eq!(b.join(Join { member: &id, ..consumer(group) }).generation, 4);
    assert_eq!(a.joined().generation, 4);
    subject.end();
}

#[test]
fn wrong_generations_are_22_and_strangers_25() {
    let subject = Subject::start();
    let mut client = subject.client();
    let (group, topic) = (&subject.name("g"), subject.topic(&mut client, 1, &[]));
    let id = client.settle(consumer(group)).member;
    for generation in [0, 2, i32::MAX] {
        assert_eq!(client.heartbeat(group, (generation, &id, None)), 22);
        assert_eq!(client.sync(group, (generation, &id, None), &[]).0, 22);
        assert_eq!(client.commit(group, (generation, &id, None), (&topic, 0, 1), None), 22);
    }
    assert_eq!(client.heartbeat(group, (1, "stranger", None)), 25);
    assert_eq!(client.sync(group, (1, "stranger", None), &[]).0, 25);
    assert_eq!(client.commit(group, (1, "stranger", None), (&topic, 0, 1), None), 25);
    assert_eq!(client.leave(group, "stranger", None), 25);
    // A group that nobody knows.
    let nowhere = &subject.name("g");
    assert_eq!(client.heartbeat(nowhere, (1, &id, None)), 25);
    assert_eq!(client.sync(nowhere, (1, &id, None), &[]).0, 25);
    assert_eq!(client.leave(nowhere, &id, None), 25);
    assert_eq!(client.commit(nowhere, (1, &id, None), (&topic, 0, 1), None), 22);
    assert_eq!(client.join(Join { member: "stranger", ..consumer(nowhere) }).code, 25);
    subject.end();
}

#[test]
fn what_cannot_be_joined_says_why() {
    let subject = Subject::start();
    let mut client = subject.client();
    let group = &subject.name("g");
    assert_eq!(client.join(consumer("")).code, 24);
    for session_ms in [-1, 0, 100, 1_800_001] {
        assert_eq!(client.join(Join { session_ms, ..consumer(group) }).code, 26, "{session_ms}");
    }
    assert_eq!(client.join(Join { protocols: &[], ..consumer(group) }).code, 23);
    assert_eq!(client.join(Join { kind: "", ..consumer(group) }).code, 23);
    subject.end();
}

#[test]
fn a_silent_member_is_out_after_its_session_and_the_others_are_told() {
    let subject = Subject::start();
    let (mut a, mut b) = (subject.client(), subject.client());
    let group = &subject.name("g");
    let first = a.settle(consumer(group));
    let brief = Join { session_ms: 1_000, ..consumer(group) };
    let id = joined(5, b.call(11, 5, &join_body(5, brief))).member;
    b.send_join(Join { member: &id, ..brief });
    until_state(&mut a, group, "PreparingRebalance");
    a.join(Join { member: &first.member, ..consumer(group) });
    b.joined();
    a.sync(group, (2, &first.member, None), &[(&id, b"b")]);
    let last_sign = Instant::now();
    assert_eq!(b.sync(group, (2, &id, None), &[]).0, 0);
    while a.heartbeat(group, (2, &first.member, None)) == 0 {
        assert!(last_sign.elapsed() < Duration::from_secs(5));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(last_sign.elapsed() >= Duration::from_millis(950), "{:?}", last_sign.elapsed());
    assert_eq!(b.heartbeat(group, (2, &id, None)), 25);
    let alone = a.join(Join { member: &first.member, ..consumer(group) });
    assert_eq!((alone.generation, alone.members.len()), (3, 1));
    subject.end();
}

#[test]
fn who_does_not_join_again_in_time_is_out_of_the_next_generation() {
    let subject = Subject::start();
    let (mut a, mut b) = (subject.client(), subject.client());
    let group = &subject.name("g");
    let first = a.settle(Join { rebalance_ms: 600, ..consumer(group) });
    let id = joined(5, b.call(11, 5, &join_body(5, consumer(group)))).member;
    let started = Instant::now();
    // Its own rebalance timeout counts as well: the longest of all members' does.
    b.send_join(Join { member: &id, rebalance_ms: 600, ..consumer(group) });
    let joined = b.joined();
    assert!(started.elapsed() >= Duration::from_millis(550), "{:?}", started.elapsed());
    assert_eq!((joined.code, joined.generation, &joined.leader), (0, 2, &id));
    assert_eq!(joined.members.len(), 1);
    assert_eq!(a.heartbeat(group, (2, &first.member, None)), 25);
    subject.end();
}

#[test]
fn describe_tells_every_state_and_what_members_said() {
    let subject = Subject::start();
    let (mut a, mut b) = (subject.client(), subject.client());
    let group = &subject.name("g");
    let nothing = |state: &str, kind: &str| (0, state.to_owned(), kind.to_owned(), String::new(), Vec::new());
    assert_eq!(a.describe(group), nothing("Dead", ""));
    let joined = a.join(consumer(group));
    let mut described = a.describe(group);
    assert_eq!((described.1.as_str(), described.3.as_str()), ("CompletingRebalance", ""));
    let me = (1, joined.member.as_str(), None);
    a.sync(group, me, &[(&joined.member, b"plan")]);
    described = a.describe(group);
    let member =
        (joined.member.clone(), String::new(), "test".to_owned(), b"meta".to_vec(), b"plan".to_vec());
    let stable = (0, "Stable".to_owned(), "consumer".to_owned(), "range".to_owned(), vec![member]);
    assert_eq!(described, stable);

    let id = joined_id(&mut b, group);
    b.send_join(Join { member: &id, ..consumer(group) });
    until_state(&mut a, group, "PreparingRebalance");
    assert_eq!(a.leave(group, &joined.member, None), 0);
    b.joined();
    assert_eq!(a.leave(group, &id, None), 0);
    assert_eq!(a.describe(group), nothing("Empty", "consumer"));
    subject.end();
}

fn joined_id(client: &mut Client, group: &str) -> String {
    joined(5, client.call(11, 5, &join_body(5, consumer(group)))).member
}

/// ListGroups v5 with filters: (group, kind, state, type).
fn list(client: &mut Client, states: &[&str], types: &[&str]) -> Vec<(String, String, String, String)> {
    let mut body = Out::new();
    for words in [states, types] {
        body = words.iter().fold(body.count(words.len()), |body, word| body.text(word));
    }
    let mut answer = client.call_flexible(16, 5, &body.tags());
    assert_eq!((answer.i32(), answer.i16()), (0, 0));
    let mut groups = Vec::new();
    for _ in 0..answer.count() {
        groups.push((answer.text(), answer.text(), answer.text(), answer.text()));
        answer.tags();
    }
    answer.tags();
    answer.end();
    groups
}

#[test]
fn list_names_groups_by_state_and_type() {
    let subject = Subject::start();
    let (mut a, mut b) = (subject.client(), subject.client());
    let (stable, empty, topic) = (subject.name("s"), subject.name("e"), subject.topic(&mut a, 1, &[]));
    a.settle(consumer(&stable));
    assert_eq!(b.commit(&empty, (-1, "", None), (&topic, 0, 1), None), 0);
    let mut ours = |states: &[&str], types: &[&str]| -> Vec<(String, String, String, String)> {
        let mut found = list(&mut a, states, types);
        found.retain(|(group, ..)| *group == stable || *group == empty);
        found.sort();
        found
    };
    let line = |group: &str, kind: &str, state: &str| {
        (group.to_owned(), kind.to_owned(), state.to_owned(), "classic".to_owned())
    };
    let (s, e) = (line(&stable, "consumer", "Stable"), line(&empty, "", "Empty"));
    let mut all = vec![s.clone(), e.clone()];
    all.sort();
    assert_eq!(ours(&[], &[]), all);
    assert_eq!(ours(&["Stable"], &[]), std::slice::from_ref(&s));
    assert_eq!(ours(&["empty"], &["Classic"]), [e]);
    assert_eq!(ours(&["Stable", "Dead"], &["classic"]), [s]);
    assert_eq!(ours(&["Nonsense"], &[]), []);
    assert_eq!(ours(&[], &["consumer"]), []);
    subject.end();
}

#[test]
fn only_a_group_without_members_is_deleted() {
    let subject = Subject::start();
    let mut client = subject.client();
    let (group, topic) = (&subject.name("g"), subject.topic(&mut client, 1, &[]));
    assert_eq!(client.delete_group(group), 69);
    let me = client.settle(consumer(group));
    assert_eq!(client.commit(group, (1, &me.member, None), (&topic, 0, 5), None), 0);
    assert_eq!(client.delete_group(group), 68);
    assert_eq!(client.leave(group, &me.member, None), 0);
    assert_eq!(client.delete_group(group), 0);
    assert_eq!(client.group_state(group), "Dead");
    assert_eq!(client.committed(group, &topic, 0).1, -1);
    assert_eq!(client.delete_group(group), 69);
    assert_eq!(client.settle(consumer(group)).generation, 1, "a new group begins");
    subject.end();
}
