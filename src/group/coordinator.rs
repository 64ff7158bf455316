//! The coordinator: all groups of this broker, their alarms, and the way from event to journal and back.
//!
//! Invariant: `handle`, then append, then `replay` (or `abandon`) of its records, with nothing in between, is
//! one step; every group with a deadline has an alarm that is not later than it.
//! Deliberately absent: the journal itself, batching, locks.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::Settings;
use super::classic::{Classic, Pending, Turn};
use super::event::{
    Commit, DeleteOffsets, Described, Error, Event, FetchGroup, FetchedGroup, GroupType, Join, Leave, Listed,
    Outcome, Reply, State, Token,
};
use super::journal::{
    GroupValue, JournalError, JournalRecord, Key, group_record, read_group, read_key, read_offset,
};
use super::offsets::{Offsets, check_commit, commit_records};

/// A sweep stops after so many records and goes on in a second: one append stays small.
const SWEEP_RECORDS: usize = 5_000;
const SWEEP_PAUSE_MS: i64 = 1_000;

/// What protocol a group speaks; KIP-848 groups will stand beside.
#[derive(Debug)]
enum Kind {
    Classic(Classic),
}

#[derive(Debug)]
struct Group {
    kind: Kind,
    offsets: Offsets,
    /// When `tick` must look at it; `i64::MAX` for never.
    alarm_ms: i64,
}

impl Group {
    fn new(classic: Classic) -> Self {
        Self { kind: Kind::Classic(classic), offsets: Offsets::default(), alarm_ms: i64::MAX }
    }

    fn classic(&self) -> &Classic {
        let Kind::Classic(classic) = &self.kind;
        classic
    }

    /// Nothing would be lost without it.
    fn is_bare(&self) -> bool {
        let classic = self.classic();
        // A generation that was told to members is not forgotten before a sweep, even if its write was refused.
        let idle = classic.state == State::Empty && classic.pending.is_empty() && classic.generation == 0;
        idle && !classic.journaled && self.offsets.is_empty()
    }
}

/// Consumer groups and their offsets, as one pure state machine.
#[derive(Debug)]
pub struct Coordinator {
    settings: Settings,
    groups: HashMap<Arc<str>, Group>,
    alarms: BTreeSet<(i64, Arc<str>)>,
    pending: Pending,
    sweep_ms: i64,
    loading: bool,
}

impl Coordinator {
    /// An empty coordinator that loads: it answers `CoordinatorLoading` until `finish_loading`.
    pub fn new(settings: Settings) -> Self {
        let (groups, alarms, pending) = (HashMap::new(), BTreeSet::new(), BTreeSet::new());
        Self { settings, groups, alarms, pending, sweep_ms: i64::MAX, loading: true }
    }

    /// All records are replayed: members get a fresh session, time starts.
    pub fn finish_loading(&mut self, now_ms: i64) -> Outcome {
        let mut out = Outcome::default();
        self.loading = false;
        self.sweep_ms = now_ms.saturating_add(self.settings.retention_check_interval_ms);
        for id in self.ids() {
            self.turn(now_ms, &id, &mut out, |classic, turn| {
                classic.touch_all(turn);
                // The limit was lowered: let them rejoin, as many as fit.
                if classic.members.len() > turn.settings.group_max_size {
                    classic.prepare(turn);
                }
            });
        }
        out
    }

    /// Number of groups, those without members included.
    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// Number of member ids handed out and not yet used.
    pub fn pending_count(&self) -> usize {
        self.pending.len()
    }

    /// When `tick` has something to do next.
    pub fn next_deadline(&self) -> Option<i64> {
        let alarm_ms = self.alarms.first().map_or(i64::MAX, |(at_ms, _)| *at_ms);
        Some(alarm_ms.min(self.sweep_ms)).filter(|at_ms| *at_ms != i64::MAX)
    }

    /// Takes one request. Its reply is in this outcome or in a later one.
    pub fn handle(&mut self, now_ms: i64, token: Token, event: Event) -> Outcome {
        let mut out = Outcome::default();
        if self.loading {
            out.replies.push((token, refusal(event, Error::CoordinatorLoading)));
            return out;
        }
        match event {
            Event::Join(join) => self.join(now_ms, token, join, &mut out),
            Event::Sync(sync) => {
                let id = sync.group.clone();
                if self.turn(now_ms, &id, &mut out, |classic, turn| classic.sync(turn, token, sync)).is_none()
                {
                    out.replies.push((token, Reply::Sync(Err(Error::UnknownMember))));
                }
            }
            Event::Heartbeat(beat) => {
                let result =
                    self.turn(now_ms, &beat.group, &mut out, |classic, turn| classic.heartbeat(turn, &beat));
                out.replies.push((token, Reply::Heartbeat(result.unwrap_or(Err(Error::UnknownMember)))));
            }
            Event::Leave(leave) => self.leave(now_ms, token, leave, &mut out),
            Event::CommitOffsets(commit) => {
                let reply = self.commit(now_ms, commit, &mut out);
                finish(&mut out, token, Reply::CommitOffsets(reply));
            }
            Event::FetchOffsets(groups) => {
                let reply = groups.into_iter().map(|asked| self.fetch(asked)).collect();
                out.replies.push((token, Reply::FetchOffsets(reply)));
            }
            Event::DeleteGroups(ids) => {
                let delete = |id: String| {
                    let result = self.delete_group(&id, &mut out.records);
                    (id, result)
                };
                let reply = ids.into_iter().map(delete).collect();
                finish(&mut out, token, Reply::DeleteGroups(reply));
            }
            Event::DeleteOffsets(asked) => {
                let reply = self.delete_offsets(asked, &mut out.records);
                finish(&mut out, token, Reply::DeleteOffsets(reply));
            }
            Event::DescribeGroups(ids) => {
                let reply = ids.into_iter().map(|id| self.describe(id)).collect();
                out.replies.push((token, Reply::DescribeGroups(reply)));
            }
            Event::ListGroups { states, types } => {
                out.replies.push((token, Reply::ListGroups(Ok(self.list(&states, &types)))));
            }
        }
        out
    }

    /// Lets time pass: sessions, rebalances and retention end.
    pub fn tick(&mut self, now_ms: i64) -> Outcome {
        let mut out = Outcome::default();
        while let Some((at_ms, id)) = self.alarms.first().cloned() {
            if at_ms > now_ms {
                break;
            }
            self.alarms.pop_first();
            if let Some(group) = self.groups.get_mut(&id) {
                group.alarm_ms = i64::MAX;
            }
            // What a group still owes at `now` waits for the next millisecond, so that this loop ends.
            self.turn(now_ms, &id, &mut out, |classic, turn| {
                classic.tick(turn);
                turn.wake_ms = turn.wake_ms.max(now_ms.saturating_add(1));
            });
            self.drop_if_bare(&id);
        }
        if now_ms >= self.sweep_ms {
            self.sweep(now_ms, &mut out);
        }
        out
    }

    /// A topic is gone: so are the offsets of all groups in it. No reply.
    pub fn topic_deleted(&mut self, topic: &str) -> Outcome {
        let mut out = Outcome::default();
        for (id, group) in &self.groups {
            group.offsets.forget_topic(&self.settings, id, topic, &mut out.records);
        }
        out
    }

    /// Applies one record that the journal holds: at start to rebuild, live right after its append.
    ///
    /// # Errors
    /// [`JournalError`] for bytes that are no record of a group.
    pub fn replay(&mut self, key: &[u8], value: Option<&[u8]>, now_ms: i64) -> Result<(), JournalError> {
        match read_key(key)? {
            Key::Other => {}
            Key::Offset { group, topic, partition } => {
                let offset = value.map(read_offset).transpose()?;
                self.replay_offset(group, topic, partition, offset);
            }
            Key::Group(id) => match value.map(read_group).transpose()? {
                Some(value) => self.replay_group(&id, value, now_ms),
                None => self.replay_group_end(&id),
            },
        }
        Ok(())
    }

    /// The journal refused these records: undoes what waited for them. The caller answers the `after` tokens
    /// of the outcome they came from with `Reply::with_error(Error::Storage)`.
    pub fn abandon(&mut self, records: &[JournalRecord], now_ms: i64) -> Outcome {
        let mut out = Outcome::default();
        for record in records {
            let Ok(Key::Group(id)) = read_key(&record.key) else { continue };
            let Some(Ok(value)) = record.value.as_deref().map(read_group) else { continue };
            self.turn(now_ms, &id, &mut out, |classic, turn| classic.abandon(turn, &value));
        }
        out
    }

    // --- replay ---

    fn replay_offset(
        &mut self,
        id: String,
        topic: String,
        partition: i32,
        offset: Option<super::CommittedOffset>,
    ) {
        match offset {
            Some(offset) => {
                let group = self.groups.entry(id.into()).or_insert_with(|| Group::new(Classic::new()));
                group.offsets.put(topic, partition, offset);
            }
            None => {
                if let Some(group) = self.groups.get_mut(id.as_str()) {
                    group.offsets.remove(&topic, partition);
                }
                self.drop_if_bare(&id);
            }
        }
    }

    fn replay_group(&mut self, id: &str, value: GroupValue, now_ms: i64) {
        if !self.loading && self.groups.contains_key(id) {
            // Memory is never behind the journal here; the record only confirms.
            self.turn(now_ms, id, &mut Outcome::default(), |classic, turn| classic.confirm(turn, &value));
            return;
        }
        let classic = Classic::from_journal(value);
        match self.groups.get_mut(id) {
            Some(group) => group.kind = Kind::Classic(classic),
            None => {
                self.groups.insert(id.into(), Group::new(classic));
            }
        }
    }

    fn replay_group_end(&mut self, id: &str) {
        let Some(group) = self.groups.get_mut(id) else { return };
        let Kind::Classic(classic) = &mut group.kind;
        if self.loading {
            *classic = Classic::new();
        } else if classic.state == State::Empty {
            classic.start_over();
        }
        self.drop_if_bare(id);
    }

    // --- groups ---

    fn ids(&self) -> Vec<Arc<str>> {
        self.groups.keys().cloned().collect()
    }

    /// Runs one step of a group and sets its alarm; `None` without such a group.
    fn turn<R>(
        &mut self,
        now_ms: i64,
        id: &str,
        out: &mut Outcome,
        step: impl FnOnce(&mut Classic, &mut Turn<'_>) -> R,
    ) -> Option<R> {
        let (id, _) = self.groups.get_key_value(id)?;
        let id = id.clone();
        let group = self.groups.get_mut(&id)?;
        let Kind::Classic(classic) = &mut group.kind;
        let (settings, pending) = (&self.settings, &mut self.pending);
        let mut turn = Turn { now_ms, settings, group: id.clone(), out, pending, wake_ms: i64::MAX };
        let result = step(classic, &mut turn);
        // Deadlines mostly move away: an alarm that rings too early is cheaper than one moved every heartbeat.
        let wake_ms = turn.wake_ms;
        if wake_ms < group.alarm_ms {
            self.alarms.remove(&(group.alarm_ms, id.clone()));
            group.alarm_ms = wake_ms;
            self.alarms.insert((wake_ms, id));
        }
        Some(result)
    }

    fn drop_if_bare(&mut self, id: &str) {
        if self.groups.get(id).is_some_and(Group::is_bare)
            && let Some((id, group)) = self.groups.remove_entry(id)
        {
            self.alarms.remove(&(group.alarm_ms, id));
        }
    }

    fn join(&mut self, now_ms: i64, token: Token, join: Join, out: &mut Outcome) {
        let id = join.group.clone();
        if let Err(error) = self.check_join(&join) {
            out.replies.push((token, Reply::Join(Err(error))));
            return;
        }
        if !self.groups.contains_key(id.as_str()) {
            self.groups.insert(id.as_str().into(), Group::new(Classic::new()));
        }
        self.turn(now_ms, &id, out, |classic, turn| classic.join(turn, token, join));
        while self.pending.len() > self.settings.pending_members_max {
            let Some((_, group, member)) = self.pending.first().cloned() else { break };
            self.turn(now_ms, &group, out, |classic, turn| classic.forget_pending(turn, &member));
            self.drop_if_bare(&group);
        }
        self.drop_if_bare(&id);
    }

    fn check_join(&self, join: &Join) -> Result<(), Error> {
        check_group_id(&self.settings, &join.group)?;
        let allowed = self.settings.session_timeout_min_ms..=self.settings.session_timeout_max_ms;
        if !allowed.contains(&join.session_timeout_ms) || join.rebalance_timeout_ms < 0 {
            return Err(Error::InvalidSessionTimeout);
        }
        // Everything that is journaled as a string ends at 32,767 bytes.
        let names = join.protocols.iter().map(|(name, _)| name);
        let texts = [&join.new_member_id, &join.client_id, &join.client_host, &join.protocol_type];
        let mut texts = texts.into_iter().chain(&join.instance_id).chain(names);
        let subscriptions: usize = join.protocols.iter().map(|(name, bytes)| name.len() + bytes.len()).sum();
        if texts.any(|text| i16::try_from(text.len()).is_err())
            || subscriptions > self.settings.subscription_max_bytes
        {
            return Err(Error::InvalidRequest);
        }
        if self.groups.contains_key(join.group.as_str()) {
            Ok(())
        } else if !join.member_id.is_empty() {
            Err(Error::UnknownMember)
        } else if self.groups.len() >= self.settings.groups_max {
            Err(Error::GroupMaxSizeReached)
        } else {
            Ok(())
        }
    }

    fn leave(&mut self, now_ms: i64, token: Token, leave: Leave, out: &mut Outcome) {
        let (id, members) = (leave.group.clone(), leave.members.clone());
        let results = self.turn(now_ms, &id, out, |classic, turn| classic.leave(turn, leave));
        let unknown = || members.into_iter().map(|member| (member, Err(Error::UnknownMember))).collect();
        out.replies.push((token, Reply::Leave(Ok(results.unwrap_or_else(unknown)))));
        self.drop_if_bare(&id);
    }

    fn delete_group(&self, id: &str, records: &mut Vec<JournalRecord>) -> Result<(), Error> {
        let group = self.groups.get(id).ok_or(Error::GroupIdNotFound)?;
        if group.classic().state != State::Empty {
            return Err(Error::NonEmptyGroup);
        }
        group.offsets.forget_all(&self.settings, id, records);
        records.push(group_record(self.settings.journal_partitions, id, None));
        Ok(())
    }

    fn describe(&self, id: String) -> (String, Result<Described, Error>) {
        let Some(group) = self.groups.get(id.as_str()) else { return (id, Err(Error::GroupIdNotFound)) };
        let classic = group.classic();
        let chosen = classic.protocol.as_deref().unwrap_or_default();
        let stable = classic.state == State::Stable;
        let members = classic.members.iter().map(|(id, member)| member.described(id, classic.state, chosen));
        let described = Described {
            state: classic.state,
            protocol_type: classic.protocol_type.clone().unwrap_or_default(),
            protocol: if stable { chosen.to_owned() } else { String::new() },
            members: members.collect(),
        };
        (id, Ok(described))
    }

    fn list(&self, states: &[String], types: &[String]) -> Vec<Listed> {
        let any = |filter: &[String], name: &str| {
            filter.is_empty() || filter.iter().any(|f| f.eq_ignore_ascii_case(name))
        };
        let listed = |(id, group): (&Arc<str>, &Group)| {
            let classic = group.classic();
            let fits = any(states, classic.state.name()) && any(types, GroupType::Classic.name());
            fits.then(|| Listed {
                group: id.to_string(),
                protocol_type: classic.protocol_type.clone().unwrap_or_default(),
                state: classic.state,
                group_type: GroupType::Classic,
            })
        };
        self.groups.iter().filter_map(listed).collect()
    }

    // --- offsets ---

    fn commit(
        &mut self,
        now_ms: i64,
        commit: Commit,
        out: &mut Outcome,
    ) -> Result<Vec<super::CommittedTopic>, Error> {
        check_group_id_length(&self.settings, &commit.group)?;
        let checked = self.turn(now_ms, &commit.group, out, |classic, turn| {
            check_commit(classic, &commit)?;
            // A commit is a sign of life.
            classic.touch(turn, &commit.member_id);
            Ok(())
        });
        match checked {
            Some(result) => result?,
            None if commit.generation >= 0 => return Err(Error::GroupIdNotFound),
            None if self.groups.len() >= self.settings.groups_max => return Err(Error::GroupMaxSizeReached),
            None => {}
        }
        Ok(commit_records(&self.settings, now_ms, commit, &mut out.records))
    }

    fn fetch(&self, asked: FetchGroup) -> (String, Result<FetchedGroup, Error>) {
        let nothing = Offsets::default();
        let offsets = self.groups.get(asked.group.as_str()).map_or(&nothing, |group| &group.offsets);
        let fetched =
            check_group_id_length(&self.settings, &asked.group).map(|()| offsets.fetch(asked.topics));
        (asked.group, fetched)
    }

    fn delete_offsets(
        &self,
        asked: DeleteOffsets,
        records: &mut Vec<JournalRecord>,
    ) -> Result<Vec<super::CommittedTopic>, Error> {
        let group = self.groups.get(asked.group.as_str()).ok_or(Error::GroupIdNotFound)?;
        group.offsets.delete(&self.settings, group.classic(), asked, records)
    }

    /// Expired offsets go; a group without members and offsets follows.
    fn sweep(&mut self, now_ms: i64, out: &mut Outcome) {
        let mut pause_ms = self.settings.retention_check_interval_ms;
        for (id, group) in &self.groups {
            if out.records.len() >= SWEEP_RECORDS {
                pause_ms = SWEEP_PAUSE_MS;
                break;
            }
            let classic = group.classic();
            let all = group.offsets.expire(&self.settings, now_ms, id, classic, &mut out.records);
            if all && classic.state == State::Empty && classic.pending.is_empty() {
                out.records.push(group_record(self.settings.journal_partitions, id, None));
            }
        }
        self.sweep_ms = now_ms.saturating_add(pause_ms);
    }
}

/// A reply that waits for records if there are any.
fn finish(out: &mut Outcome, token: Token, reply: Reply) {
    let into = if out.records.is_empty() { &mut out.replies } else { &mut out.after };
    into.push((token, reply));
}

fn check_group_id(settings: &Settings, id: &str) -> Result<(), Error> {
    if id.is_empty() { Err(Error::InvalidGroupId) } else { check_group_id_length(settings, id) }
}

/// Simple consumers from before groups had to have a name commit to the empty one, as Kafka lets them.
fn check_group_id_length(settings: &Settings, id: &str) -> Result<(), Error> {
    let fits = id.len() <= settings.group_id_max_bytes.min(i16::MAX as usize);
    if fits { Ok(()) } else { Err(Error::InvalidGroupId) }
}

/// The reply to an event that is not looked at.
fn refusal(event: Event, error: Error) -> Reply {
    match event {
        Event::Join(_) => Reply::Join(Err(error)),
        Event::Sync(_) => Reply::Sync(Err(error)),
        Event::Heartbeat(_) => Reply::Heartbeat(Err(error)),
        Event::Leave(_) => Reply::Leave(Err(error)),
        Event::CommitOffsets(_) => Reply::CommitOffsets(Err(error)),
        Event::FetchOffsets(groups) => {
            Reply::FetchOffsets(groups.into_iter().map(|asked| (asked.group, Err(error.clone()))).collect())
        }
        Event::DeleteGroups(ids) => {
            Reply::DeleteGroups(ids.into_iter().map(|id| (id, Err(error.clone()))).collect())
        }
        Event::DeleteOffsets(_) => Reply::DeleteOffsets(Err(error)),
        Event::DescribeGroups(ids) => {
            Reply::DescribeGroups(ids.into_iter().map(|id| (id, Err(error.clone()))).collect())
        }
        Event::ListGroups { .. } => Reply::ListGroups(Err(error)),
    }
}
