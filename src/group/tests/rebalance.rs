//! Joining, syncing, sessions and generations.

use super::*;

#[test]
fn a_lone_member_becomes_leader_at_once_and_holds_what_it_planned() {
    let mut bench = Bench::new();
    let token = bench.send(Event::Join(join("a")));
    let joined = bench.joined(token);
    assert_eq!((joined.generation, joined.leader.as_str(), joined.members.len()), (1, "a", 1));
    assert_eq!(joined.protocol.as_deref(), Some("range"));
    let token = bench.sync("a", 1, &[("a", "all")]);
    assert_eq!(bench.synced(token), Ok(Bytes::from_static(b"all")));
    assert_eq!(bench.state(), Some(State::Stable));
}

#[test]
fn a_new_dynamic_member_is_told_its_id_and_leaves_no_trace_when_it_never_comes() {
    let mut bench = Bench::new();
    let asks = Join { requires_known_member_id: true, ..join("a") };
    let token = bench.send(Event::Join(asks));
    assert_eq!(bench.join_error(token), Error::MemberIdRequired("a".into()));
    assert_eq!((bench.coordinator.group_count(), bench.journal.len()), (1, 0));
    bench.pass(60_000);
    assert_eq!((bench.coordinator.group_count(), bench.coordinator.pending_count()), (0, 0));
    let token = bench.send(Event::Join(again("a")));
    assert_eq!(bench.join_error(token), Error::UnknownMember);
}

#[test]
fn a_second_member_makes_the_first_rejoin_and_the_leader_stays() {
    let mut bench = Bench::new();
    let generation = bench.stable(&[join("a")]);
    let second = bench.send(Event::Join(join("b")));
    assert_eq!(bench.beat("a", generation), Err(Error::RebalanceInProgress));
    assert_eq!(bench.reply(second), None);
    let first = bench.send(Event::Join(again("a")));
    assert_eq!(bench.joined(first).leader, "a");
    assert_eq!(bench.joined(second).generation, generation + 1);
    assert!(bench.joined(second).members.is_empty());
    // Completing: the heartbeat is fine, commits wait, a follower's plan is ignored.
    assert_eq!(bench.beat("b", 2), Ok(()));
    assert_eq!(bench.commit("b", 2, 1, ""), Err(Error::RebalanceInProgress));
    let follower = bench.sync("b", 2, &[("b", "mine")]);
    assert_eq!(bench.reply(follower), None);
    bench.sync("a", 2, &[("a", "x"), ("b", "y")]);
    assert_eq!(bench.synced(follower), Ok(Bytes::from_static(b"y")));
}

#[test]
fn members_that_do_not_rejoin_are_out_and_a_joined_one_leads() {
    let mut bench = Bench::new();
    bench.stable(&[join("a")]);
    let second = bench.send(Event::Join(join("b")));
    for _ in 0..12 {
        bench.pass(5_000);
        let _ = bench.beat("a", 1);
    }
    bench.pass(1);
    assert_eq!(bench.joined(second).leader, "b");
    assert_eq!(bench.beat("a", 1), Err(Error::UnknownMember));
}

#[test]
fn a_session_ends_by_time_alone_and_a_heartbeat_or_a_commit_prolongs_it() {
    let mut bench = Bench::new();
    bench.stable(&[join("a")]);
    bench.pass(9_000);
    assert_eq!(bench.beat("a", 1), Ok(()));
    bench.pass(9_000);
    assert_eq!(bench.commit("a", 1, 5, ""), Ok(()));
    bench.pass(9_999);
    assert_eq!(bench.state(), Some(State::Stable));
    bench.pass(1);
    assert_eq!(bench.state(), Some(State::Empty));
    assert_eq!(bench.beat("a", 1), Err(Error::UnknownMember));
}

#[test]
fn a_member_that_never_syncs_is_removed_after_the_rebalance_timeout() {
    let mut bench = Bench::new();
    bench.send(Event::Join(join("a")));
    for _ in 0..13 {
        let _ = bench.beat("a", 1);
        bench.pass(5_000);
    }
    assert_eq!(bench.beat("a", 1), Err(Error::UnknownMember));
}

#[test]
fn old_generations_and_strangers_are_refused_everywhere() {
    let mut bench = Bench::new();
    let generation = bench.stable(&[join("a")]);
    assert_eq!(bench.beat("a", generation - 1), Err(Error::IllegalGeneration));
    assert_eq!(bench.commit("a", generation - 1, 1, ""), Err(Error::IllegalGeneration));
    let token = bench.sync("a", generation - 1, &[]);
    assert_eq!(bench.synced(token), Err(Error::IllegalGeneration));
    let token = bench.sync("x", generation, &[]);
    assert_eq!(bench.synced(token), Err(Error::UnknownMember));
    assert_eq!(bench.commit("x", generation, 1, ""), Err(Error::UnknownMember));
    assert_eq!(bench.leave("x", None), Err(Error::UnknownMember));
    assert_eq!(bench.fetch(), None);
}

#[test]
fn a_retry_in_stable_gets_the_generation_but_a_leader_asks_for_a_rebalance() {
    let mut bench = Bench::new();
    let generation = bench.stable(&[join("a"), join("b")]);
    let token = bench.send(Event::Join(again("b")));
    assert_eq!(bench.joined(token).generation, generation);
    assert_eq!(bench.state(), Some(State::Stable));
    bench.send(Event::Join(again("a")));
    assert_eq!(bench.state(), Some(State::PreparingRebalance));
}

#[test]
fn a_join_that_replaces_a_waiting_one_answers_the_older() {
    let mut bench = Bench::new();
    bench.stable(&[join("a"), join("b")]);
    let older = bench.send(Event::Join(again("a")));
    let newer = bench.send(Event::Join(again("a")));
    assert_eq!(bench.join_error(older), Error::RebalanceInProgress);
    bench.send(Event::Join(again("b")));
    assert_eq!(bench.joined(newer).leader, "a");
}

#[test]
fn protocols_must_meet_and_the_most_votes_win() {
    let mut bench = Bench::new();
    let both = |id: &str, first: &str, second: &str| Join {
        protocols: vec![(first.into(), Bytes::new()), (second.into(), Bytes::new())],
        ..join(id)
    };
    let generation = bench.stable(&[both("a", "x", "y"), both("b", "y", "x"), both("c", "y", "x")]);
    let token = bench.send(Event::DescribeGroups(vec![GROUP.into()]));
    let Some(Reply::DescribeGroups(groups)) = bench.reply(token) else { panic!("no describe") };
    assert_eq!(groups[0].1.as_ref().map(|d| d.protocol.as_str()), Ok("y"));
    let stranger = bench.send(Event::Join(both("d", "p", "q")));
    assert_eq!(bench.join_error(stranger), Error::InconsistentProtocol);
    let connect = bench.send(Event::Join(Join { protocol_type: "connect".into(), ..both("e", "x", "y") }));
    assert_eq!(bench.join_error(connect), Error::InconsistentProtocol);
    let wrong = Sync { group: GROUP.into(), member_id: "a".into(), generation, ..Sync::default() };
    let token = bench.send(Event::Sync(Sync { protocol: Some("x".into()), ..wrong }));
    assert_eq!(bench.synced(token), Err(Error::InconsistentProtocol));
}

#[test]
fn an_initial_delay_gathers_members_into_one_generation() {
    let mut bench = Bench::with(Settings { initial_rebalance_delay_ms: 3_000, ..Settings::default() });
    let first = bench.send(Event::Join(join("a")));
    bench.pass(2_000);
    let second = bench.send(Event::Join(join("b")));
    bench.pass(1_000);
    assert_eq!(bench.reply(first), None, "a newcomer prolongs the wait");
    bench.pass(3_000);
    assert_eq!(bench.joined(first).members.len(), 2);
    assert_eq!(bench.joined(second).generation, 1);
}

#[test]
fn whatever_the_wall_clock_does_sessions_and_rebalances_last_as_long_as_they_last() {
    for set_by_ms in [60_000, 86_400_000, -86_400_000, -1_000] {
        let mut bench = Bench::new();
        bench.stable(&[join("a")]);
        bench.pass(5_000);
        bench.set_by_ms = set_by_ms;
        bench.pass(4_999);
        assert_eq!(bench.beat("a", 1), Ok(()), "{set_by_ms}");
        bench.set_by_ms = 0;
        bench.pass(9_999);
        assert_eq!(bench.state(), Some(State::Stable), "{set_by_ms}");
        bench.set_by_ms = set_by_ms;
        bench.pass(1);
        assert_eq!(bench.state(), Some(State::Empty), "a dead one is not kept, {set_by_ms}");
        let asks = Join { requires_known_member_id: true, ..join("b") };
        bench.send(Event::Join(asks));
        bench.set_by_ms = 0;
        bench.pass(10_000);
        assert_eq!(bench.coordinator.pending_count(), 0, "{set_by_ms}");
    }
}

#[test]
fn who_left_while_it_waited_has_its_session_and_no_more() {
    let mut bench = Bench::new();
    bench.stable(&[join("a")]);
    let patient = |id: &str| Join { rebalance_timeout_ms: i32::MAX, ..join(id) };
    let waiting = bench.send(Event::Join(patient("b")));
    assert_eq!(bench.reply(waiting), None);
    let out = bench.coordinator.forsaken(bench.now(), GROUP, waiting);
    bench.settle(out);
    for _ in 0..4 {
        bench.pass(5_000);
        let _ = bench.beat("a", 1);
    }
    // Its session is over, and so is the rebalance that it kept going.
    let token = bench.send(Event::Join(again("a")));
    assert_eq!(bench.joined(token).members.len(), 1);
}
