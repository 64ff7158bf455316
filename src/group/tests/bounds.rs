//! How many and how large: joins, plans, and all groups together.

use super::*;

#[test]
fn a_hundred_thousand_first_joins_keep_no_more_than_the_bound() {
    let mut bench = Bench::new();
    for i in 0..100_000 {
        let group = format!("g{i}");
        let asks = Join { requires_known_member_id: true, group, ..join("a") };
        bench.send(Event::Join(asks));
    }
    assert!(bench.replies.iter().all(|(_, r)| matches!(r, Reply::Join(Err(Error::MemberIdRequired(_))))));
    assert_eq!((bench.coordinator.group_count(), bench.coordinator.pending_count()), (5_000, 5_000));
}

#[test]
fn strangers_who_ask_for_ids_keep_nobody_out_who_comes_with_his() {
    let mut bench = Bench::new();
    let ask = |n: usize, session_timeout_ms| Join {
        new_member_id: format!("m{n}"),
        group: if session_timeout_ms == 45_000 { "known".into() } else { format!("strange{}", n % 700) },
        session_timeout_ms,
        requires_known_member_id: true,
        ..join("a")
    };
    for n in 0..20_000 {
        if n % 4_000 != 0 {
            bench.send(Event::Join(ask(n, 60_000)));
            continue;
        }
        // A usual session, shorter than theirs; and some of them come between his two joins.
        let token = bench.send(Event::Join(ask(n, 45_000)));
        assert_eq!(bench.join_error(token), Error::MemberIdRequired(format!("m{n}")));
        for more in 0..100 {
            bench.send(Event::Join(ask(100_000 + n + more, 60_000)));
        }
        let token = bench.send(Event::Join(Join { member_id: format!("m{n}"), ..ask(n, 45_000) }));
        assert!(!matches!(bench.reply(token), Some(Reply::Join(Err(_)))), "{n}");
    }
    assert!(bench.coordinator.pending_count() <= 5_000);
}

#[test]
fn bounds_of_a_join_are_held() {
    let mut bench = Bench::with(Settings { group_max_size: 1, ..Settings::default() });
    let mut refused = |join: Join| {
        let token = bench.send(Event::Join(join));
        bench.join_error(token)
    };
    assert_eq!(refused(Join { group: String::new(), ..join("a") }), Error::InvalidGroupId);
    assert_eq!(refused(Join { group: "x".repeat(32_768), ..join("a") }), Error::InvalidGroupId);
    assert_eq!(refused(Join { session_timeout_ms: 1, ..join("a") }), Error::InvalidSessionTimeout);
    assert_eq!(refused(Join { session_timeout_ms: 86_400_000, ..join("a") }), Error::InvalidSessionTimeout);
    assert_eq!(refused(Join { rebalance_timeout_ms: -1, ..join("a") }), Error::InvalidSessionTimeout);
    assert_eq!(refused(Join { protocols: Vec::new(), ..join("a") }), Error::InconsistentProtocol);
    assert_eq!(bench.coordinator.group_count(), 0);
    bench.stable(&[join("a")]);
    let token = bench.send(Event::Join(join("b")));
    assert_eq!(bench.join_error(token), Error::GroupMaxSizeReached);
}

#[test]
fn the_state_of_all_groups_stays_below_its_bound_and_comes_back() {
    let settings = Settings { state_max_bytes: 1 << 20, group_max_bytes: 1 << 18, ..Settings::default() };
    let mut bench = Bench::with(settings);
    let large = |group: String| Join {
        group,
        protocols: vec![("range".into(), Bytes::from(vec![0; 50_000]))],
        ..join("a")
    };
    let tokens: Vec<_> = (0..100).map(|n| bench.send(Event::Join(large(format!("g{n}"))))).collect();
    let refused =
        tokens.iter().filter(|t| matches!(bench.reply(**t), Some(Reply::Join(Err(Error::CoordinatorFull)))));
    let (refused, groups) = (refused.count(), bench.coordinator.group_count());
    assert_eq!((groups, refused), (9, 91));
    assert!(bench.coordinator.bytes() <= (1 << 20) / 8 * 7);
    // Who is in may come again, and commit; who is not may not begin.
    let again = Join { group: "g0".into(), member_id: "a".into(), ..large(String::new()) };
    let token = bench.send(Event::Join(Join { group: "g0".into(), ..again }));
    assert_eq!(bench.joined(token).generation, 1);
    let commit = |group: &str, generation, member_id: &str| {
        let Event::CommitOffsets(commit) = commit_event(member_id, generation, 1, &"m".repeat(4_000)) else {
            unreachable!()
        };
        Event::CommitOffsets(Commit { group: group.into(), ..commit })
    };
    let sync = Sync { group: "g0".into(), member_id: "a".into(), generation: 1, ..Sync::default() };
    bench.send(Event::Sync(sync));
    let token = bench.send(commit("g0", 1, "a"));
    assert!(matches!(bench.reply(token), Some(Reply::CommitOffsets(Ok(_)))));
    for n in 0..100 {
        bench.send(commit(&format!("new{n}"), -1, ""));
    }
    let token = bench.send(commit("another", -1, ""));
    assert_eq!(bench.reply(token), Some(&Reply::CommitOffsets(Err(Error::CoordinatorFull))));
    assert!(bench.coordinator.bytes() <= (1 << 20) / 8 * 7 + 8_000);
    // One group may not take it all.
    let member = |n: usize| Join { new_member_id: format!("m{n}"), ..large("crowd".into()) };
    bench.pass(Settings::default().offsets_retention_ms + 3_600_000);
    assert_eq!((bench.coordinator.group_count(), bench.coordinator.bytes()), (0, 0), "all of it has an end");
    let tokens: Vec<_> = (0..10).map(|n| bench.send(Event::Join(member(n)))).collect();
    assert_eq!(bench.join_error(tokens[5]), Error::GroupMaxSizeReached);
}

#[test]
fn a_plan_counts_as_well() {
    let mut bench = Bench::with(Settings { group_max_bytes: 1 << 17, ..Settings::default() });
    bench.send(Event::Join(join("a")));
    let plan = |bytes| vec![("a".to_owned(), Bytes::from(vec![0; bytes]))];
    let sync = |bytes| Sync {
        group: GROUP.into(),
        member_id: "a".into(),
        generation: 1,
        assignments: plan(bytes),
        ..Sync::default()
    };
    let token = bench.send(Event::Sync(sync(1 << 16)));
    assert_eq!(bench.synced(token), Err(Error::GroupMaxSizeReached));
    let token = bench.send(Event::Sync(sync(1 << 15)));
    assert_eq!(bench.synced(token).map(|plan| plan.len()), Ok(1 << 15));
}
