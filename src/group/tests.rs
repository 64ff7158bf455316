//! The rules of classic groups, one test a rule, time driven by hand: the bench that all of them stand on.

mod bounds;
mod groups;
mod journal;
mod offsets;
mod pieces;
mod rebalance;
mod static_members;

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
        coordinator.finish_loading(at(1_000));
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
        coordinator.finish_loading(self.now());
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
        let token =
            self.send(Event::FetchOffsets(vec![FetchGroup { group: GROUP.into(), ..FetchGroup::default() }]));
        match self.reply(token) {
            Some(Reply::FetchOffsets(groups)) => {
                let topics = &groups[0].1.as_ref().expect("group").topics;
                topics
                    .first()
                    .and_then(|topic| topic.partitions[0].1.clone().expect("readable"))
                    .map(|found| *found)
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
