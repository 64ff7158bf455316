//! The rules of classic groups, one test a rule, time driven by hand.

use bytes::Bytes;
use uuid::Uuid;

use super::*;

const GROUP: &str = "g";
/// The id of topic `t`.
pub(super) const TOPIC: Uuid = Uuid::from_u128(0xbe74_681f_a5d8_4b2b_9dd8_fb77_ba3b_69f6);

/// All clocks at one time.
pub(super) fn at(ms: i64) -> Now {
    Now { steady_ms: ms, wall_ms: ms, calendar_ms: ms }
}

/// A coordinator with its journal: handle, append, replay, release, as the broker does it.
pub(super) struct Bench {
    pub coordinator: Coordinator,
    pub journal: Vec<JournalRecord>,
    pub replies: Vec<(Token, Reply)>,
    /// Steady time; the wall clock is ahead of it by `set_by_ms`.
    pub now_ms: i64,
    pub set_by_ms: i64,
    /// What the calendar says, where it is not the wall clock's.
    pub calendar_ms: Option<i64>,
    next: Token,
    pub refuse_writes: bool,
}

impl Bench {
    pub fn new() -> Self {
        Self::with(Settings::default())
    }

    pub fn with(settings: Settings) -> Self {
        let mut coordinator = Coordinator::new(settings);
        coordinator.finish_loading(at(1_000), &|_| None);
        let (journal, replies) = (Vec::new(), Vec::new());
        let (set_by_ms, calendar_ms) = (0, None);
        let (now_ms, next, refuse_writes) = (1_000, 0, false);
        Self { coordinator, journal, replies, now_ms, set_by_ms, calendar_ms, next, refuse_writes }
    }

    pub fn now(&self) -> Now {
        let wall_ms = self.now_ms + self.set_by_ms;
        Now { steady_ms: self.now_ms, wall_ms, calendar_ms: self.calendar_ms.unwrap_or(wall_ms) }
    }

    /// The state that a broker has after a start from what the journal holds up to `end`.
    fn restarted(&self, end: usize) -> Self {
        let mut coordinator = Coordinator::new(Settings::default());
        for record in &self.journal[..end] {
            coordinator.replay(&record.key, record.value.as_deref(), self.now()).expect("own record");
        }
        coordinator.finish_loading(self.now(), &|_| Some(TOPIC));
        Self { coordinator, ..Self::new() }
    }

    pub fn settle(&mut self, out: Outcome) {
        self.replies.extend(out.replies);
        if self.refuse_writes {
            let undone = self.coordinator.abandon(&out.records, self.now());
            self.replies.extend(
                out.after.into_iter().map(|(token, reply)| (token, reply.with_error(Error::Storage))),
            );
            self.replies.extend(undone.replies);
            return;
        }
        for record in &out.records {
            self.coordinator.replay(&record.key, record.value.as_deref(), self.now()).expect("own record");
        }
        self.journal.extend(out.records);
        self.replies.extend(out.after);
    }

    pub fn send(&mut self, event: Event) -> Token {
        self.next += 1;
        let out = self.coordinator.handle(self.now(), self.next, event);
        self.settle(out);
        self.next
    }

    pub fn pass(&mut self, ms: i64) {
        let end_ms = self.now_ms + ms;
        while let Some(at_ms) = self.coordinator.next_deadline().filter(|at_ms| *at_ms <= end_ms) {
            self.now_ms = self.now_ms.max(at_ms);
            let out = self.coordinator.tick(self.now());
            self.settle(out);
        }
        self.now_ms = end_ms;
    }

    pub fn reply(&self, token: Token) -> Option<&Reply> {
        self.replies.iter().rev().find(|(t, _)| *t == token).map(|(_, reply)| reply)
    }

    fn joined(&self, token: Token) -> Joined {
        match self.reply(token) {
            Some(Reply::Join(Ok(joined))) => joined.clone(),
            other => panic!("not joined: {other:?}"),
        }
    }

    fn join_error(&self, token: Token) -> Error {
        match self.reply(token) {
            Some(Reply::Join(Err(error))) => error.clone(),
            other => panic!("not refused: {other:?}"),
        }
    }

    fn synced(&self, token: Token) -> Result<Bytes, Error> {
        match self.reply(token) {
            Some(Reply::Sync(result)) => result.clone().map(|synced| synced.assignment),
            other => panic!("not synced: {other:?}"),
        }
    }

    fn sync(&mut self, member: &str, generation: i32, plan: &[(&str, &'static str)]) -> Token {
        let assignments =
            plan.iter().map(|(id, bytes)| (id.to_string(), Bytes::from_static(bytes.as_bytes())));
        self.send(Event::Sync(Sync {
            group: GROUP.into(),
            member_id: member.into(),
            generation,
            assignments: assignments.collect(),
            ..Sync::default()
        }))
    }

    fn beat(&mut self, member: &str, generation: i32) -> Result<(), Error> {
        let token = self.send(Event::Heartbeat(Heartbeat {
            group: GROUP.into(),
            member_id: member.into(),
            generation,
            ..Heartbeat::default()
        }));
        match self.reply(token) {
            Some(Reply::Heartbeat(result)) => result.clone(),
            other => panic!("no heartbeat: {other:?}"),
        }
    }

    fn leave(&mut self, member: &str, instance: Option<&str>) -> Result<(), Error> {
        let member = LeavingMember { member_id: member.into(), instance_id: instance.map(Into::into) };
        let token = self.send(Event::Leave(Leave { group: GROUP.into(), members: vec![member] }));
        match self.reply(token) {
            Some(Reply::Leave(Ok(results))) => results[0].1.clone(),
            other => panic!("no leave: {other:?}"),
        }
    }

    fn commit(&mut self, member: &str, generation: i32, offset: i64, metadata: &str) -> Result<(), Error> {
        let token = self.send(commit_event(member, generation, offset, metadata));
        match self.reply(token) {
            Some(Reply::CommitOffsets(Ok(topics))) => topics[0].partitions[0].1.clone(),
            Some(Reply::CommitOffsets(Err(error))) => Err(error.clone()),
            other => panic!("no commit: {other:?}"),
        }
    }

    fn fetch(&mut self) -> Option<CommittedOffset> {
        let token = self.send(Event::FetchOffsets(vec![FetchGroup { group: GROUP.into(), topics: None }]));
        match self.reply(token) {
            Some(Reply::FetchOffsets(groups)) => {
                let topics = &groups[0].1.as_ref().expect("group").topics;
                topics.first().and_then(|topic| topic.partitions[0].1.clone().expect("readable"))
            }
            other => panic!("no fetch: {other:?}"),
        }
    }

    fn state(&mut self) -> Option<State> {
        let token = self.send(Event::DescribeGroups(vec![GROUP.into()]));
        match self.reply(token) {
            Some(Reply::DescribeGroups(groups)) => groups[0].1.as_ref().ok().map(|d| d.state),
            other => panic!("no describe: {other:?}"),
        }
    }

    /// Members join together and sync; the first is the leader. Answers the generation.
    fn stable(&mut self, members: &[Join]) -> i32 {
        let mut tokens: Vec<Token> =
            members.iter().map(|join| self.send(Event::Join(join.clone()))).collect();
        // The first joined alone; it comes again when the others ask.
        if members.len() > 1 {
            let mut again = members[0].clone();
            again.member_id = again.new_member_id.clone();
            tokens[0] = self.send(Event::Join(again));
            for (i, join) in members.iter().enumerate().skip(1) {
                if self.reply(tokens[i]).is_none() {
                    let mut again = join.clone();
                    again.member_id = again.new_member_id.clone();
                    tokens[i] = self.send(Event::Join(again));
                }
            }
        }
        let joined = self.joined(tokens[0]);
        let leader = joined.leader.clone();
        let plan: Vec<(&str, &'static str)> =
            members.iter().map(|j| (j.new_member_id.as_str(), "plan")).collect();
        for join in members.iter().filter(|j| j.new_member_id != leader) {
            self.sync(&join.new_member_id, joined.generation, &[]);
        }
        self.sync(&leader, joined.generation, &plan);
        assert_eq!(self.state(), Some(State::Stable));
        joined.generation
    }
}

/// ConsumerProtocolSubscription v0 with one topic.
fn subscription(topic: &str) -> Bytes {
    let mut out = vec![0, 0, 0, 0, 0, 1, 0, topic.len() as u8];
    out.extend_from_slice(topic.as_bytes());
    Bytes::from(out)
}

/// A first join of the old way: no id required.
fn join(id: &str) -> Join {
    Join {
        group: GROUP.into(),
        new_member_id: id.into(),
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), subscription("t"))],
        ..Join::default()
    }
}

fn static_join(id: &str, instance: &str) -> Join {
    Join { instance_id: Some(instance.into()), supports_skip_assignment: true, ..join(id) }
}

fn again(id: &str) -> Join {
    Join { member_id: id.into(), ..join("unused") }
}

pub(super) fn commit_event(member: &str, generation: i32, offset: i64, metadata: &str) -> Event {
    let partition =
        CommitPartition { partition: 0, offset, leader_epoch: 3, metadata: metadata.into(), commit_ms: None };
    Event::CommitOffsets(Commit {
        group: GROUP.into(),
        member_id: member.into(),
        generation,
        topics: vec![CommitTopic {
            name: "t".into(),
            id: Some(TOPIC),
            gone: false,
            partitions: vec![partition],
        }],
        ..Commit::default()
    })
}

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
fn a_hundred_thousand_first_joins_keep_no_more_than_the_bound() {
    let mut bench = Bench::new();
    for i in 0..100_000 {
        let group = format!("g{i}");
        let asks = Join { requires_known_member_id: true, group, ..join("a") };
        bench.send(Event::Join(asks));
    }
    assert!(bench.replies.iter().all(|(_, r)| matches!(r, Reply::Join(Err(Error::MemberIdRequired(_))))));
    assert_eq!((bench.coordinator.group_count(), bench.coordinator.pending_count()), (1_000, 1_000));
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
    let out = bench.coordinator.topic_deleted("t", TOPIC);
    bench.settle(out);
    assert_eq!(bench.fetch(), None);
}

#[test]
fn a_group_is_deleted_only_when_empty() {
    let mut bench = Bench::new();
    let delete = |bench: &mut Bench| {
        let token = bench.send(Event::DeleteGroups(vec![GROUP.into()]));
        let Some(Reply::DeleteGroups(groups)) = bench.reply(token) else { panic!("no reply") };
        groups[0].1.clone()
    };
    assert_eq!(delete(&mut bench), Err(Error::GroupIdNotFound));
    bench.stable(&[join("a")]);
    bench.commit("a", 1, 5, "").expect("commit");
    assert_eq!(delete(&mut bench), Err(Error::NonEmptyGroup));
    bench.leave("a", None).expect("leave");
    assert_eq!(delete(&mut bench), Ok(()));
    assert_eq!((bench.fetch(), bench.coordinator.group_count()), (None, 0));
}

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
    let out = fresh.handle(at(5_000), 1, Event::ListGroups { states: Vec::new(), types: Vec::new() });
    assert_eq!(out.replies[0].1, Reply::ListGroups(Err(Error::CoordinatorLoading)));
    for record in &bench.journal {
        fresh.replay(&record.key, record.value.as_deref(), at(5_000)).expect("record");
    }
    fresh.finish_loading(at(5_000), &|_| Some(TOPIC));
    bench.coordinator = fresh;
    bench.now_ms = 5_000;
    bench.pass(9_000);
    assert_eq!(bench.beat("a", generation), Ok(()));
    let token = bench.sync("a", generation, &[]);
    assert_eq!(bench.synced(token), Ok(Bytes::from_static(b"plan")));
    assert_eq!(bench.fetch().map(|o| o.metadata), Some("m".into()));
}

#[test]
fn groups_are_listed_by_state_and_type() {
    let mut bench = Bench::new();
    bench.stable(&[join("a")]);
    let mut count = |states: &[&str], types: &[&str]| {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let token = bench.send(Event::ListGroups { states: owned(states), types: owned(types) });
        let Some(Reply::ListGroups(Ok(listed))) = bench.reply(token) else { panic!("no reply") };
        listed.len()
    };
    assert_eq!((count(&[], &[]), count(&["stable"], &["CLASSIC"])), (1, 1));
    assert_eq!((count(&["Empty"], &[]), count(&[], &["consumer"])), (0, 0));
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
    coordinator.finish_loading(at(10), &|_| Some(TOPIC));
    let asked = vec![FetchGroup { group: GROUP.into(), topics: None }];
    let out = coordinator.handle(at(10), 1, Event::FetchOffsets(asked));
    let Reply::FetchOffsets(groups) = &out.replies[0].1 else { panic!("no fetch") };
    let fetched = groups[0].1.as_ref().expect("group");
    let found: Vec<_> =
        fetched.topics[0].partitions.iter().map(|(_, o)| o.clone().map(|o| o.map(|o| o.offset))).collect();
    assert_eq!(found, [Ok(Some(6)), Err(Error::Unreadable)], "what stood there before is older");
}

#[test]
fn the_partition_of_a_group_is_javas() {
    // "polygenelubricants" hashes to i32::MIN; Utils.abs makes 0 of it.
    let hashes = [("", 0), ("a", 97 % 50), ("test", 3_556_498 % 50), ("polygenelubricants", 0)];
    for (group, partition) in hashes {
        assert_eq!(partition_for(group), partition, "{group}");
    }
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
        assert_eq!(bench.journal.len(), before + 21);
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
fn offsets_are_of_a_topic_and_not_of_a_name() {
    let mut bench = Bench::new();
    let other = Uuid::from_u128(7);
    bench.commit("", -1, 5, "").expect("commit");
    // A topic of that name that came and went before does not take them along.
    let out = bench.coordinator.topic_deleted("t", other);
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
        let out = fresh.finish_loading(at(10), &|_| topic);
        bench.coordinator = fresh;
        bench.settle(out);
        assert_eq!(bench.fetch().is_some(), left);
    }
}

#[test]
fn what_a_damaged_journal_may_have_held_is_not_known_until_it_is_said_anew() {
    let mut bench = Bench::new();
    bench.commit("", -1, 5, "").expect("commit");
    let ask = |bench: &mut Bench, group: &str, partition| {
        let topics = Some(vec![TopicPartitions { name: "t".into(), partitions: vec![partition] }]);
        let token = bench.send(Event::FetchOffsets(vec![FetchGroup { group: group.into(), topics }]));
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
    coordinator.finish_loading(at(2_000), &|_| Some(TOPIC));
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

#[test]
fn groups_are_hashed_over_as_many_partitions_as_the_journal_has() {
    let mut coordinator = Coordinator::new(Settings::default());
    coordinator.found_journal(7);
    coordinator.finish_loading(at(0), &|_| None);
    let out = coordinator.handle(at(0), 1, commit_event("", -1, 1, ""));
    assert_eq!(
        (out.records[0].partition, coordinator.partition_of(GROUP)),
        (i32::from(b'g') % 7, i32::from(b'g') % 7)
    );
}
