//! The requests of group members, classic encoding, for the tests of groups, offsets and restarts.
//!
//! Owns: one fn per API, its newest classic version. Deliberately absent: a consumer; tests decide each step.

use super::{Client, In, Out};

/// One who wants to be a member.
#[derive(Clone, Copy)]
pub(super) struct Join<'a> {
    pub(super) group: &'a str,
    pub(super) member: &'a str,
    pub(super) instance: Option<&'a str>,
    pub(super) session_ms: i32,
    pub(super) rebalance_ms: i32,
    pub(super) kind: &'a str,
    pub(super) protocols: &'a [(&'a str, &'a [u8])],
}

/// A consumer with the protocol `range`.
pub(super) fn consumer(group: &str) -> Join<'_> {
    Join {
        group,
        member: "",
        instance: None,
        session_ms: 10_000,
        rebalance_ms: 10_000,
        kind: "consumer",
        protocols: &[("range", b"meta")],
    }
}

/// A consumer's subscription to one topic (ConsumerProtocolSubscription v0).
pub(super) fn subscription(topic: &str) -> Vec<u8> {
    Out::new().i16(0).i32(1).string(topic).i32(-1).0
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Joined {
    pub(super) code: i16,
    pub(super) generation: i32,
    pub(super) protocol: String,
    pub(super) leader: String,
    pub(super) member: String,
    /// Member, instance, metadata; the leader alone sees them.
    pub(super) members: Vec<(String, String, Vec<u8>)>,
}

impl Out {
    pub(super) fn maybe(self, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.string(value),
            None => self.i16(-1),
        }
    }
}

pub(super) fn join_body(version: i16, join: Join<'_>) -> Out {
    let mut body = Out::new().string(join.group).i32(join.session_ms);
    if version >= 1 {
        body = body.i32(join.rebalance_ms);
    }
    body = body.string(join.member);
    if version >= 5 {
        body = body.maybe(join.instance);
    }
    body = body.string(join.kind).i32(join.protocols.len() as i32);
    for (name, metadata) in join.protocols {
        body = body.string(name).blob(metadata);
    }
    body
}

pub(super) fn joined(version: i16, mut answer: In) -> Joined {
    if version >= 2 {
        assert_eq!(answer.i32(), 0);
    }
    let (code, generation, protocol) = (answer.i16(), answer.i32(), answer.string());
    let (leader, member) = (answer.string(), answer.string());
    let mut members = Vec::new();
    for _ in 0..answer.i32() {
        let id = answer.string();
        let instance = if version >= 5 { answer.string() } else { String::new() };
        members.push((id, instance, answer.blob()));
    }
    answer.end();
    Joined { code, generation, protocol, leader, member, members }
}

impl Client {
    /// JoinGroup v5, and once more with the id that the first answer hands out.
    pub(super) fn join(&mut self, join: Join<'_>) -> Joined {
        let first = joined(5, self.call(11, 5, &join_body(5, join)));
        if first.code != 79 {
            return first;
        }
        joined(5, self.call(11, 5, &join_body(5, Join { member: &first.member, ..join })))
    }

    /// Sends a JoinGroup v5 whose answer is waited for later.
    pub(super) fn send_join(&mut self, join: Join<'_>) {
        self.send(11, 5, &join_body(5, join));
    }

    pub(super) fn joined(&mut self) -> Joined {
        joined(5, self.receive().1)
    }

    /// Sends a SyncGroup v3; the leader's carries the plan.
    pub(super) fn send_sync(&mut self, group: &str, me: (i32, &str, Option<&str>), plan: &[(&str, &[u8])]) {
        let mut body = Out::new().string(group).i32(me.0).string(me.1).maybe(me.2).i32(plan.len() as i32);
        for (member, assignment) in plan {
            body = body.string(member).blob(assignment);
        }
        self.send(14, 3, &body);
    }

    /// Error code and assignment.
    pub(super) fn synced(&mut self) -> (i16, Vec<u8>) {
        let (_, mut answer) = self.receive();
        assert_eq!(answer.i32(), 0);
        let synced = (answer.i16(), answer.blob());
        answer.end();
        synced
    }

    pub(super) fn sync(
        &mut self,
        group: &str,
        me: (i32, &str, Option<&str>),
        plan: &[(&str, &[u8])],
    ) -> (i16, Vec<u8>) {
        self.send_sync(group, me, plan);
        self.synced()
    }

    /// Joins and syncs as the only member, with its plan `mine`.
    pub(super) fn settle(&mut self, join: Join<'_>) -> Joined {
        let joined = self.join(join);
        assert_eq!((joined.code, &joined.leader), (0, &joined.member));
        let me = (joined.generation, joined.member.as_str(), join.instance);
        let plan = [(joined.member.as_str(), &b"mine"[..])];
        assert_eq!(self.sync(join.group, me, &plan), (0, b"mine".to_vec()));
        joined
    }

    /// Heartbeat v3: error code.
    pub(super) fn heartbeat(&mut self, group: &str, me: (i32, &str, Option<&str>)) -> i16 {
        let body = Out::new().string(group).i32(me.0).string(me.1).maybe(me.2);
        let mut answer = self.call(12, 3, &body);
        assert_eq!(answer.i32(), 0);
        answer.i16()
    }

    /// LeaveGroup v3 of one member: its error code.
    pub(super) fn leave(&mut self, group: &str, member: &str, instance: Option<&str>) -> i16 {
        let body = Out::new().string(group).i32(1).string(member).maybe(instance);
        let mut answer = self.call(13, 3, &body);
        assert_eq!((answer.i32(), answer.i16(), answer.i32()), (0, 0, 1));
        assert_eq!(
            (answer.string(), answer.string()),
            (member.to_owned(), instance.unwrap_or("").to_owned())
        );
        let code = answer.i16();
        answer.end();
        code
    }

    /// OffsetCommit v7 of one partition: its error code.
    pub(crate) fn commit(
        &mut self,
        group: &str,
        me: (i32, &str, Option<&str>),
        at: (&str, i32, i64),
        metadata: Option<&str>,
    ) -> i16 {
        let body = Out::new().string(group).i32(me.0).string(me.1).maybe(me.2).i32(1).string(at.0);
        let mut answer = self.call(8, 7, &body.i32(1).i32(at.1).i64(at.2).i32(-1).maybe(metadata));
        assert_eq!((answer.i32(), answer.i32(), answer.string()), (0, 1, at.0.to_owned()));
        assert_eq!((answer.i32(), answer.i32()), (1, at.1));
        let code = answer.i16();
        answer.end();
        code
    }

    /// OffsetFetch v5 of one partition: error code, offset, metadata.
    pub(super) fn committed(&mut self, group: &str, topic: &str, partition: i32) -> (i16, i64, String) {
        let body = Out::new().string(group).i32(1).string(topic).i32(1).i32(partition);
        let mut answer = self.call(9, 5, &body);
        assert_eq!((answer.i32(), answer.i32(), answer.string()), (0, 1, topic.to_owned()));
        assert_eq!((answer.i32(), answer.i32()), (1, partition));
        let offset = answer.i64();
        answer.i32();
        let (metadata, code) = (answer.string(), answer.i16());
        let whole = answer.i16();
        answer.end();
        (if code == 0 { whole } else { code }, offset, metadata)
    }

    /// DescribeGroups v4: error code, state, kind, protocol and members (id, instance, client, metadata, plan).
    #[allow(clippy::type_complexity, reason = "the fields of the answer, in its order")]
    pub(super) fn describe(
        &mut self,
        group: &str,
    ) -> (i16, String, String, String, Vec<(String, String, String, Vec<u8>, Vec<u8>)>) {
        let mut answer = self.call(15, 4, &Out::new().i32(1).string(group).i8(0));
        assert_eq!((answer.i32(), answer.i32()), (0, 1));
        let code = answer.i16();
        assert_eq!(answer.string(), group);
        let (state, kind, protocol) = (answer.string(), answer.string(), answer.string());
        let mut members = Vec::new();
        for _ in 0..answer.i32() {
            let (id, instance, client) = (answer.string(), answer.string(), answer.string());
            assert!(answer.string().starts_with("/127.0.0.1"), "the host of a member");
            members.push((id, instance, client, answer.blob(), answer.blob()));
        }
        assert_eq!(answer.i32(), i32::MIN, "operations were not asked for");
        answer.end();
        (code, state, kind, protocol, members)
    }

    /// The state of DescribeGroups.
    pub(super) fn group_state(&mut self, group: &str) -> String {
        self.describe(group).1
    }

    /// DeleteGroups v1 of one group: its error code.
    pub(super) fn delete_group(&mut self, group: &str) -> i16 {
        let mut answer = self.call(42, 1, &Out::new().i32(1).string(group));
        assert_eq!((answer.i32(), answer.i32(), answer.string()), (0, 1, group.to_owned()));
        answer.i16()
    }
}
