//! A classic group: members, generation, and the four states between them (join and rejoin are in `rejoin.rs`).
//!
//! Invariant: state Stable and assignments are reached only through `confirm`, which `replay` calls; a crash
//! before that leaves the generation before. Every token taken is answered once.
//! Deliberately absent: assignment logic (the leader's business), offsets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::event::{
    Error, Heartbeat, Join, Joined, Leave, LeaveResult, LeavingMember, Outcome, Reply, State, Sync, Synced,
    Token,
};
use super::journal::{GroupValue, group_record};
use super::member::Member;
use super::protocols::{Protocols, Supported};
use super::{Now, Settings, subscription};

/// What a pending id takes beside its words.
const PENDING_BYTES: usize = 256;
/// Most topics that a group's subscriptions are remembered by; a longer list is as good as unknown.
const SUBSCRIBED_MAX: usize = 10_000;

/// Ids handed out and not yet used, over all groups, in the order in which they were: group and member.
pub(super) type Pending = BTreeMap<u64, (Arc<str>, String)>;

/// An id that was handed out.
#[derive(Clone, Copy, Debug)]
pub(super) struct HandedOut {
    /// Its place in [`Pending`].
    number: u64,
    end_ms: i64,
}

/// What one step of a group may see and touch outside itself.
pub(super) struct Turn<'a> {
    pub now: Now,
    pub settings: &'a Settings,
    pub group: Arc<str>,
    pub out: &'a mut Outcome,
    pub pending: &'a mut Pending,
    /// The earliest time this step asked to be woken at.
    pub wake_ms: i64,
}

impl Turn<'_> {
    pub fn reply(&mut self, token: Token, reply: Reply) {
        self.out.replies.push((token, reply));
    }

    fn wake(&mut self, at_ms: i64) {
        self.wake_ms = self.wake_ms.min(at_ms);
    }
}

/// When a rebalance ends although not all have joined.
#[derive(Debug, Clone, Copy)]
struct JoinTimer {
    at_ms: i64,
    /// An initial rebalance may be prolonged while new members come: last delay and what is left, in ms.
    initial: Option<(i64, i64)>,
}

#[derive(Debug)]
pub(super) struct Classic {
    pub state: State,
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub leader: Option<String>,
    pub state_since_ms: Option<i64>,
    pub members: BTreeMap<String, Member>,
    /// What its members can speak.
    pub supported: Supported,
    /// Instance id to member id.
    pub instances: BTreeMap<String, String>,
    /// Member ids handed out (KIP-394).
    pub pending: BTreeMap<String, HandedOut>,
    /// Members of this generation that have not asked for their assignment.
    pending_sync: BTreeSet<String>,
    sync_deadline_ms: Option<i64>,
    join_timer: Option<JoinTimer>,
    /// The rebalance under way started from Empty.
    pub initial: bool,
    pub new_member_added: bool,
    subscribed: Option<BTreeSet<String>>,
    subscribed_bytes: usize,
    /// What the journal holds of this group: its last record's value, from before the rebalance under way if there is one.
    pub journaled: Option<Bytes>,
}

impl Classic {
    pub fn new() -> Self {
        Self {
            state: State::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            state_since_ms: None,
            members: BTreeMap::new(),
            supported: Supported::default(),
            instances: BTreeMap::new(),
            pending: BTreeMap::new(),
            pending_sync: BTreeSet::new(),
            sync_deadline_ms: None,
            join_timer: None,
            initial: false,
            new_member_added: false,
            subscribed: None,
            subscribed_bytes: 0,
            journaled: None,
        }
    }

    /// The journal forgot this empty group. Ids that were handed out may still be used: they found it anew.
    pub fn start_over(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        *self = Self { pending, ..Self::new() };
    }

    pub fn from_journal(value: GroupValue) -> Self {
        let mut group = Self::new();
        group.state = if value.members.is_empty() { State::Empty } else { State::Stable };
        group.generation = value.generation;
        group.protocol_type = Some(value.protocol_type).filter(|kind| !kind.is_empty());
        group.state_since_ms = value.state_since_ms;
        let protocol = value.protocol.unwrap_or_default();
        for member in &value.members {
            if let Some(instance) = &member.instance_id {
                group.instances.insert(instance.clone(), member.member_id.clone());
            }
            let loaded = Member::from_journal(member, &protocol);
            group.supported.add(&loaded.protocols);
            if let Some(before) = group.members.insert(member.member_id.clone(), loaded) {
                group.supported.remove(&before.protocols);
            }
        }
        // A leader that is no member would leave the group headless for ever.
        group.leader = value.leader.filter(|id| group.members.contains_key(id));
        if group.leader.is_none() {
            group.leader = group.members.keys().next().cloned();
        }
        group.protocol = Some(protocol).filter(|_| !group.members.is_empty());
        group.subscribe();
        group
    }

    pub fn to_journal(&self, assignments: &BTreeMap<&str, Bytes>, state_since_ms: Option<i64>) -> GroupValue {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.iter().map(|(id, member)| {
            let assignment = assignments.get(id.as_str()).cloned().unwrap_or_default();
            member.to_journal(id, protocol, assignment)
        });
        GroupValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_since_ms,
            members: members.collect(),
        }
    }

    /// The whole group as it would be journaled now.
    pub fn snapshot(&self) -> GroupValue {
        let assignments = self.members.iter().map(|(id, m)| (id.as_str(), m.assignment.clone())).collect();
        self.to_journal(&assignments, self.state_since_ms)
    }

    pub fn write(&self, turn: &mut Turn<'_>, value: &GroupValue) {
        turn.out.records.push(group_record(turn.settings.journal_partitions, &turn.group, Some(value)));
    }

    // --- what it takes ---

    /// Bytes of its members, its pending ids, what it derived from them, and its record as the journal holds it: with each
    /// member counts its part of the next one, so that a plan finds the room.
    pub fn bytes(&self) -> usize {
        let members = self.members.iter().map(|(id, member)| member.bytes(id));
        let pending = self.pending.keys().map(|id| PENDING_BYTES + 2 * id.len());
        let kind = self.protocol_type.as_ref().map_or(0, String::len);
        let next: usize = self.members.iter().map(|(id, member)| member.record_bytes(id)).sum();
        let surplus = self.journaled.as_ref().map_or(0, Bytes::len).saturating_sub(next);
        members.chain(pending).sum::<usize>() + kind + self.subscribed_bytes + surplus
    }

    /// What it takes, and how much more it will with this member.
    pub fn added_bytes(&self, join: &Join) -> (usize, usize) {
        let known = join.instance_id.as_ref().and_then(|id| self.instances.get(id));
        let before = self.members.get_key_value(known.unwrap_or(&join.member_id));
        let before = before.map_or(0, |(id, member)| member.bytes(id) - 2 * member.assignment.len());
        (self.bytes(), join.bytes().saturating_sub(before))
    }

    /// What it takes, and how much more it will with this plan.
    pub fn planned_bytes(&self, sync: &Sync) -> (usize, usize) {
        if self.state != State::CompletingRebalance || !self.is_leader(&sync.member_id) {
            return (0, 0);
        }
        let members = sync.assignments.iter().filter(|(id, _)| self.members.contains_key(id));
        // With its member, and in the record.
        (self.bytes(), members.map(|(_, plan)| 2 * plan.len()).sum())
    }

    /// An emptiness that lies in the future began now: the clock was wrong then, or is now.
    pub fn clamp(&mut self, wall_ms: i64) {
        self.state_since_ms = self.state_since_ms.map(|since_ms| since_ms.min(wall_ms));
    }

    // --- what it knows ---

    /// What its members can speak, counted anew.
    #[cfg(test)]
    pub fn supported_anew(&self) -> Supported {
        let mut supported = Supported::default();
        self.members.values().for_each(|member| supported.add(&member.protocols));
        supported
    }

    pub fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    pub fn is_consumer(&self) -> bool {
        self.protocol_type.as_deref() == Some("consumer")
    }

    /// KIP-345: an instance id is bound to its newest member; older ones are fenced.
    pub fn check_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), Error> {
        if let Some(instance) = instance_id {
            match self.instances.get(instance) {
                None => return Err(Error::UnknownMember),
                Some(current) if current != member_id => return Err(Error::FencedInstance),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(Error::UnknownMember) }
    }

    pub fn supports(&self, protocol_type: &str, protocols: &Protocols) -> bool {
        if self.state == State::Empty {
            return !protocol_type.is_empty() && protocols.names().next().is_some();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.names().any(|name| self.supported.is_known_to(self.members.len(), name))
    }

    pub fn awaiting_joins(&self) -> usize {
        self.members.values().filter(|m| m.awaiting_join.is_some()).count()
    }

    pub fn all_joined(&self) -> bool {
        self.pending.is_empty() && self.members.values().all(|m| m.awaiting_join.is_some())
    }

    fn rebalance_timeout_ms(&self) -> i64 {
        self.members.values().map(|m| i64::from(m.rebalance_timeout_ms)).max().unwrap_or(0)
    }

    /// The protocol most members prefer among those all of them know; ties go to the lesser name.
    pub fn select_protocol(&self) -> Option<String> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let known = |name: &&str| self.supported.is_known_to(self.members.len(), name);
            if let Some(name) = member.protocols.names().find(known) {
                *votes.entry(name).or_default() += 1;
            }
        }
        votes.into_iter().rev().max_by_key(|(_, count)| *count).map(|(name, _)| name.to_owned())
    }

    fn subscribe(&mut self) {
        self.subscribed = self.subscribed_topics();
        let names = self.subscribed.iter().flatten().map(|name| PENDING_BYTES / 2 + name.len());
        self.subscribed_bytes = names.sum();
    }

    /// `None`: not known, which for consumers means "perhaps every topic".
    fn subscribed_topics(&self) -> Option<BTreeSet<String>> {
        if !self.is_consumer() {
            return None;
        }
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            let protocol = self.protocol.as_deref()?;
            subscription::add_topics(&mut topics, &member.subscription(protocol), SUBSCRIBED_MAX)?;
        }
        Some(topics)
    }

    pub fn subscribes_to(&self, topic: &str) -> bool {
        self.subscribed.as_ref().map_or(self.is_consumer(), |topics| topics.contains(topic))
    }

    /// From when an offset's retention counts; `None` while offsets may not expire.
    pub fn retention_base_ms(&self, commit_ms: i64) -> Option<i64> {
        match (&self.protocol_type, self.state) {
            (None, _) => Some(commit_ms),
            (Some(_), State::Empty) => Some(self.state_since_ms.unwrap_or(commit_ms)),
            (Some(_), State::Stable) if self.is_consumer() && self.subscribed.is_some() => Some(commit_ms),
            _ => None,
        }
    }

    pub fn joined(&self, member_id: &str) -> Joined {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.iter().filter(|_| self.is_leader(member_id));
        Joined {
            member_id: member_id.to_owned(),
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            members: members.map(|(id, member)| member.joined(id, protocol)).collect(),
            skip_assignment: false,
        }
    }

    fn synced(&self, member: &Member) -> Synced {
        Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: member.assignment.clone(),
        }
    }

    // --- sessions ---

    pub fn touch(&mut self, turn: &mut Turn<'_>, member_id: &str) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.expires_ms = turn.now.steady_ms.saturating_add(i64::from(member.session_timeout_ms));
            turn.wake(member.expires_ms);
        }
    }

    pub fn touch_all(&mut self, turn: &mut Turn<'_>) {
        let ids: Vec<String> = self.members.keys().cloned().collect();
        ids.iter().for_each(|id| self.touch(turn, id));
    }

    /// Gives a member's first join its own, longer, patience.
    pub fn grant_first_join(&mut self, turn: &mut Turn<'_>, member_id: &str) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.expires_ms =
                turn.now.steady_ms.saturating_add(i64::from(turn.settings.new_member_join_timeout_ms));
            turn.wake(member.expires_ms);
        }
    }

    pub fn add_pending(&mut self, turn: &mut Turn<'_>, member_id: String, session_timeout_ms: i32) {
        let life_ms = i64::from(session_timeout_ms).min(turn.settings.pending_expiry_ms);
        let end_ms = turn.now.steady_ms.saturating_add(life_ms);
        let number = turn.pending.last_key_value().map_or(0, |(number, _)| number + 1);
        turn.pending.insert(number, (turn.group.clone(), member_id.clone()));
        self.pending.insert(member_id, HandedOut { number, end_ms });
        turn.wake(end_ms);
    }

    pub fn remove_pending(&mut self, turn: &mut Turn<'_>, member_id: &str) -> bool {
        let Some(id) = self.pending.remove(member_id) else { return false };
        turn.pending.remove(&id.number);
        true
    }

    /// A pending id ended or was evicted: the others need not wait for it.
    pub fn forget_pending(&mut self, turn: &mut Turn<'_>, member_id: &str) {
        if self.remove_pending(turn, member_id)
            && self.state == State::PreparingRebalance
            && self.all_joined()
        {
            self.complete_join(turn);
        }
    }

    /// Whoever takes a member's place owes its sync.
    pub fn rename_pending_sync(&mut self, old_id: &str, new_id: &str) {
        if self.pending_sync.remove(old_id) {
            self.pending_sync.insert(new_id.to_owned());
        }
    }

    /// Removes a member and answers whatever it waits for.
    pub fn remove(&mut self, turn: &mut Turn<'_>, member_id: &str) {
        self.remove_pending(turn, member_id);
        self.pending_sync.remove(member_id);
        let Some(member) = self.members.remove(member_id) else { return };
        self.supported.remove(&member.protocols);
        if let Some(token) = member.awaiting_join {
            turn.reply(token, Reply::Join(Err(Error::UnknownMember)));
        }
        if let Some(token) = member.awaiting_sync {
            turn.reply(token, Reply::Sync(Err(Error::UnknownMember)));
        }
        if let Some(instance) = &member.instance_id {
            self.instances.remove(instance);
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// Whoever sent `token` is gone: its member waits no more and has its session to come back.
    pub fn forsaken(&mut self, turn: &mut Turn<'_>, token: Token) {
        let mut found = None;
        for (id, member) in &mut self.members {
            for waiting in [&mut member.awaiting_join, &mut member.awaiting_sync] {
                if *waiting == Some(token) {
                    *waiting = None;
                    found = Some(id.clone());
                }
            }
        }
        if let Some(id) = found {
            self.touch(turn, &id);
        }
    }

    // --- rebalance ---

    fn enter(&mut self, turn: &Turn<'_>, state: State) {
        self.state = state;
        self.state_since_ms = Some(turn.now.wall_ms);
    }

    /// After a member came or changed: start a rebalance, or see whether the one under way is complete.
    pub fn rebalance(&mut self, turn: &mut Turn<'_>) {
        if self.state == State::PreparingRebalance {
            // An initial rebalance ends by its timer alone, so that more members may come.
            if !self.initial && self.all_joined() {
                self.complete_join(turn);
            }
        } else {
            self.prepare(turn);
        }
    }

    pub fn prepare(&mut self, turn: &mut Turn<'_>) {
        if self.state == State::CompletingRebalance {
            self.refuse_syncs(turn);
        }
        self.pending_sync.clear();
        self.sync_deadline_ms = None;
        self.initial = self.state == State::Empty;
        self.enter(turn, State::PreparingRebalance);
        let delay_ms = i64::from(turn.settings.initial_rebalance_delay_ms.max(0));
        if self.initial {
            self.new_member_added = false;
            let left_ms = (self.rebalance_timeout_ms() - delay_ms).max(0);
            self.await_joins(turn, delay_ms, Some((delay_ms, left_ms)));
            if delay_ms == 0 {
                self.complete_join(turn);
            }
        } else if self.all_joined() {
            self.complete_join(turn);
        } else {
            self.await_joins(turn, self.rebalance_timeout_ms(), None);
        }
    }

    fn await_joins(&mut self, turn: &mut Turn<'_>, delay_ms: i64, initial: Option<(i64, i64)>) {
        let at_ms = turn.now.steady_ms.saturating_add(delay_ms);
        self.join_timer = Some(JoinTimer { at_ms, initial });
        turn.wake(at_ms);
    }

    fn refuse_syncs(&mut self, turn: &mut Turn<'_>) {
        let mut answered = Vec::new();
        for (id, member) in &mut self.members {
            member.assignment = Bytes::new();
            if let Some(token) = member.awaiting_sync.take() {
                turn.out.replies.push((token, Reply::Sync(Err(Error::RebalanceInProgress))));
                answered.push(id.clone());
            }
        }
        answered.iter().for_each(|id| self.touch(turn, id));
    }

    /// Ends the joining: dynamic members that did not come are out, the rest are a new generation.
    pub fn complete_join(&mut self, turn: &mut Turn<'_>) {
        self.join_timer = None;
        let late = |m: &Member| m.awaiting_join.is_none() && m.instance_id.is_none();
        let late: Vec<String> =
            self.members.iter().filter(|(_, m)| late(m)).map(|(id, _)| id.clone()).collect();
        late.iter().for_each(|id| self.remove(turn, id));
        if !self.elect_leader() {
            // Only static members are left and none has come back: give them another round.
            self.await_joins(turn, self.rebalance_timeout_ms().max(1), None);
            return;
        }
        self.initial = false;
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.pending_sync.clear();
        self.protocol = self.select_protocol();
        self.subscribe();
        if self.members.is_empty() {
            self.leader = None;
            self.enter(turn, State::Empty);
            self.write(turn, &self.snapshot());
        } else {
            self.enter(turn, State::CompletingRebalance);
            self.announce_generation(turn);
        }
    }

    /// A leader that did not rejoin gives way to a member that did. False: members, but nobody joined.
    fn elect_leader(&mut self) -> bool {
        let leader = self.leader.as_ref().and_then(|id| self.members.get(id));
        if self.members.is_empty() || leader.is_some_and(|m| m.awaiting_join.is_some()) {
            return true;
        }
        let joined = self.members.iter().find(|(_, m)| m.awaiting_join.is_some());
        let Some((id, _)) = joined else { return false };
        self.leader = Some(id.clone());
        true
    }

    fn announce_generation(&mut self, turn: &mut Turn<'_>) {
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let joined = self.joined(&id);
            if let Some(member) = self.members.get_mut(&id) {
                member.is_new = false;
                if let Some(token) = member.awaiting_join.take() {
                    turn.reply(token, Reply::Join(Ok(joined)));
                }
            }
            self.touch(turn, &id);
            self.pending_sync.insert(id);
        }
        let deadline_ms = turn.now.steady_ms.saturating_add(self.rebalance_timeout_ms());
        self.sync_deadline_ms = Some(deadline_ms);
        turn.wake(deadline_ms);
    }

    // --- sync, heartbeat, leave ---

    fn check_sync(&self, sync: &Sync) -> Result<(), Error> {
        self.check_member(&sync.member_id, sync.instance_id.as_deref())?;
        if sync.generation != self.generation {
            return Err(Error::IllegalGeneration);
        }
        let differs = |asked: &Option<String>, ours: &Option<String>| {
            asked.is_some() && ours.is_some() && asked != ours
        };
        if differs(&sync.protocol_type, &self.protocol_type) || differs(&sync.protocol, &self.protocol) {
            return Err(Error::InconsistentProtocol);
        }
        if self.state == State::PreparingRebalance { Err(Error::RebalanceInProgress) } else { Ok(()) }
    }

    pub fn sync(&mut self, turn: &mut Turn<'_>, token: Token, sync: Sync) {
        if let Err(error) = self.check_sync(&sync) {
            return turn.reply(token, Reply::Sync(Err(error)));
        }
        self.pending_sync.remove(&sync.member_id);
        if self.state == State::Stable {
            let Some(member) = self.members.get(&sync.member_id) else { return };
            let synced = self.synced(member);
            return turn.reply(token, Reply::Sync(Ok(synced)));
        }
        let Some(member) = self.members.get_mut(&sync.member_id) else { return };
        if let Some(older) = member.awaiting_sync.replace(token) {
            turn.reply(older, Reply::Sync(Err(Error::RebalanceInProgress)));
        }
        if self.is_leader(&sync.member_id) {
            self.accept_plan(turn, &sync.assignments);
        }
    }

    /// The leader's plan goes to the journal; everybody who waits is answered when it is durable.
    fn accept_plan(&mut self, turn: &mut Turn<'_>, plan: &[(String, Bytes)]) {
        let plan = plan.iter().map(|(id, bytes)| (id.as_str(), bytes.clone())).collect();
        let value = self.to_journal(&plan, Some(turn.now.wall_ms));
        self.write(turn, &value);
        let mut answered = Vec::new();
        for (id, member) in &mut self.members {
            if let Some(token) = member.awaiting_sync.take() {
                let synced = Synced {
                    protocol_type: self.protocol_type.clone(),
                    protocol: self.protocol.clone(),
                    assignment: plan.get(id.as_str()).cloned().unwrap_or_default(),
                };
                turn.out.after.push((token, Reply::Sync(Ok(synced))));
                answered.push(id.clone());
            }
        }
        answered.iter().for_each(|id| self.touch(turn, id));
    }

    /// The journal holds this value now: a plan of this very generation makes the group Stable.
    pub fn confirm(&mut self, turn: &mut Turn<'_>, value: &GroupValue) {
        if self.state != State::CompletingRebalance || value.generation != self.generation {
            return;
        }
        for planned in &value.members {
            if let Some(member) = self.members.get_mut(&planned.member_id) {
                member.assignment = planned.assignment.clone();
            }
        }
        self.state = State::Stable;
        self.state_since_ms = value.state_since_ms;
        // Somebody who asked in between is answered by the next tick.
        if self.members.values().any(|m| m.awaiting_sync.is_some()) {
            turn.wake(turn.now.steady_ms);
        }
    }

    /// The journal refused this value: a plan of this generation is void, its members join again.
    pub fn abandon(&mut self, turn: &mut Turn<'_>, value: &GroupValue) {
        if self.state == State::CompletingRebalance && value.generation == self.generation {
            self.prepare(turn);
        }
    }

    pub fn heartbeat(&mut self, turn: &mut Turn<'_>, beat: &Heartbeat) -> Result<(), Error> {
        self.check_member(&beat.member_id, beat.instance_id.as_deref())?;
        if beat.generation != self.generation {
            return Err(Error::IllegalGeneration);
        }
        self.touch(turn, &beat.member_id);
        // Completing answers well, as Kafka: the member is about to sync.
        if self.state == State::PreparingRebalance { Err(Error::RebalanceInProgress) } else { Ok(()) }
    }

    pub fn leave(&mut self, turn: &mut Turn<'_>, leave: Leave) -> Vec<LeaveResult> {
        let mut results = Vec::with_capacity(leave.members.len());
        for member in leave.members {
            let result = self.leave_one(turn, &member);
            results.push((member, result));
        }
        if results.iter().any(|(_, result)| result.is_ok()) && self.state != State::Empty {
            self.rebalance(turn);
        }
        results
    }

    fn leave_one(&mut self, turn: &mut Turn<'_>, member: &LeavingMember) -> Result<(), Error> {
        let instance = member.instance_id.as_deref();
        if member.member_id.is_empty() {
            let current = instance.and_then(|id| self.instances.get(id)).cloned();
            self.remove(turn, &current.ok_or(Error::UnknownMember)?);
            return Ok(());
        }
        if !self.pending.contains_key(&member.member_id) {
            self.check_member(&member.member_id, instance)?;
        }
        self.remove(turn, &member.member_id);
        Ok(())
    }

    // --- time ---

    /// Applies every deadline that has passed; asks to be woken at the next one.
    pub fn tick(&mut self, turn: &mut Turn<'_>) {
        self.expire_pending(turn);
        self.expire_sessions(turn);
        self.expire_syncs(turn);
        self.expire_joins(turn);
        if self.state == State::Stable {
            self.answer_syncs(turn);
        }
        let sessions = self.members.values().map(|m| m.expires_ms);
        let pending = self.pending.values().map(|id| id.end_ms);
        let timers = self.join_timer.map(|t| t.at_ms).into_iter().chain(self.sync_deadline_ms);
        if let Some(at_ms) = sessions.chain(pending).chain(timers).min() {
            turn.wake(at_ms);
        }
    }

    fn expire_pending(&mut self, turn: &mut Turn<'_>) {
        let ended = self.pending.iter().filter(|(_, id)| id.end_ms <= turn.now.steady_ms);
        let ended: Vec<String> = ended.map(|(id, _)| id.clone()).collect();
        ended.iter().for_each(|id| self.forget_pending(turn, id));
    }

    fn expire_sessions(&mut self, turn: &mut Turn<'_>) {
        let mut lost = Vec::new();
        for (id, member) in &mut self.members {
            if member.expires_ms > turn.now.steady_ms {
                continue;
            }
            if member.is_excused() {
                member.expires_ms = i64::MAX;
            } else {
                lost.push(id.clone());
            }
        }
        lost.iter().for_each(|id| self.remove(turn, id));
        if lost.is_empty() {
            return;
        }
        match self.state {
            State::Stable | State::CompletingRebalance => self.prepare(turn),
            State::PreparingRebalance if self.all_joined() => self.complete_join(turn),
            _ => {}
        }
    }

    fn expire_syncs(&mut self, turn: &mut Turn<'_>) {
        if self.sync_deadline_ms.is_none_or(|at_ms| at_ms > turn.now.steady_ms) {
            return;
        }
        self.sync_deadline_ms = None;
        let silent: Vec<String> = std::mem::take(&mut self.pending_sync).into_iter().collect();
        if !silent.is_empty() && matches!(self.state, State::Stable | State::CompletingRebalance) {
            silent.iter().for_each(|id| self.remove(turn, id));
            self.prepare(turn);
        }
    }

    fn expire_joins(&mut self, turn: &mut Turn<'_>) {
        let Some(timer) = self.join_timer.filter(|t| t.at_ms <= turn.now.steady_ms) else { return };
        match timer.initial {
            Some((delay_ms, left_ms)) if self.new_member_added && left_ms > 0 => {
                self.new_member_added = false;
                let next_ms = i64::from(turn.settings.initial_rebalance_delay_ms).min(left_ms);
                self.await_joins(turn, next_ms, Some((next_ms, (left_ms - delay_ms).max(0))));
            }
            _ => self.complete_join(turn),
        }
    }

    fn answer_syncs(&mut self, turn: &mut Turn<'_>) {
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let Some(member) = self.members.get_mut(&id) else { continue };
            let Some(token) = member.awaiting_sync.take() else { continue };
            if let Some(member) = self.members.get(&id) {
                turn.reply(token, Reply::Sync(Ok(self.synced(member))));
            }
            self.touch(turn, &id);
        }
    }
}
