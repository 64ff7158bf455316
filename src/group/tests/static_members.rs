//! Members with an instance id: they come back, and fence who they were.

use super::*;

#[test]
fn a_static_member_comes_back_without_a_rebalance_and_its_old_self_is_fenced() {
    let mut bench = Bench::new();
    let generation = bench.stable(&[static_join("i-1", "i"), static_join("j-1", "j")]);
    let token = bench.send(Event::Join(static_join("i-2", "i")));
    let back = bench.joined(token);
    assert_eq!((back.generation, back.leader.as_str(), back.skip_assignment), (generation, "i-2", true));
    assert_eq!(bench.state(), Some(State::Stable));
    let token = bench.sync("i-2", generation, &[]);
    assert_eq!(bench.synced(token), Ok(Bytes::from_static(b"plan")));
    let old =
        Heartbeat { group: GROUP.into(), member_id: "i-1".into(), instance_id: Some("i".into()), generation };
    let token = bench.send(Event::Heartbeat(old));
    assert_eq!(bench.reply(token), Some(&Reply::Heartbeat(Err(Error::FencedInstance))));
    // An older client must not take itself for the leader.
    let older = Join { supports_skip_assignment: false, ..static_join("i-3", "i") };
    let token = bench.send(Event::Join(older));
    assert_eq!((bench.joined(token).leader.as_str(), bench.joined(token).members.len()), ("i-2", 0));
    assert_eq!(bench.leave("", Some("i")), Ok(()));
    assert_eq!(bench.leave("", Some("i")), Err(Error::UnknownMember));
}

#[test]
fn a_static_member_that_changes_the_chosen_protocol_starts_a_rebalance() {
    let mut bench = Bench::new();
    let knows = |id: &str, instance: &str, names: &[&str]| Join {
        protocols: names.iter().map(|name| (name.to_string(), Bytes::new())).collect(),
        ..static_join(id, instance)
    };
    bench.stable(&[knows("i-1", "i", &["x", "y"]), knows("j-1", "j", &["x", "y"])]);
    let stranger = bench.send(Event::Join(knows("i-2", "i", &["z"])));
    assert_eq!(bench.join_error(stranger), Error::InconsistentProtocol);
    let changed = bench.send(Event::Join(knows("i-2", "i", &["y"])));
    assert_eq!(bench.reply(changed), None);
    assert_eq!(bench.state(), Some(State::PreparingRebalance));
    bench.send(Event::Join(Join { member_id: "j-1".into(), ..knows("unused", "j", &["x", "y"]) }));
    assert_eq!(bench.joined(changed).protocol.as_deref(), Some("y"));
}

#[test]
fn a_static_member_that_stays_away_ends_with_its_session() {
    let mut bench = Bench::new();
    bench.stable(&[static_join("i-1", "i")]);
    bench.pass(9_999);
    assert_eq!(bench.state(), Some(State::Stable));
    bench.pass(1);
    assert_eq!(bench.state(), Some(State::Empty));
}

#[test]
fn a_waiting_static_member_is_fenced_by_its_successor() {
    let mut bench = Bench::new();
    bench.stable(&[join("a"), static_join("i-1", "i")]);
    let mut waits = static_join("unused", "i");
    waits.member_id = "i-1".into();
    waits.protocols.push(("sticky".into(), Bytes::new()));
    let waiting = bench.send(Event::Join(waits));
    let successor = bench.send(Event::Join(static_join("i-2", "i")));
    assert_eq!(bench.join_error(waiting), Error::FencedInstance);
    bench.send(Event::Join(again("a")));
    assert_eq!(bench.joined(successor).member_id, "i-2");
}
