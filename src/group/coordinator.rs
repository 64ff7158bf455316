//! The coordinator: all groups of this broker, their alarms, and the way from event to journal and back.
//!
//! Invariant: `handle`, then append, then `replay` (or `abandon`) of its records, with nothing in between, is
//! one step; every group with a deadline has an alarm that is not later than it.
//! What groups hold is weighed: `weights` are the sums over all, kept up to date by `change` and `replay`.
//! Whatever is done in one go is bounded (`step.rs`): large events come in pieces, and what an event of few names grows with is
//! handed back as the rest of it.
//! Deliberately absent: the journal itself, batching, locks; what is owed where the journal is damaged (`damage.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::classic::{Classic, Pending, Turn};
use super::damage::Damage;
use super::event::{
    Commit, DeleteOffsets, Described, Error, Event, FetchGroup, FetchedGroup, GroupType, Join, Leave, Listed,
    Outcome, Reply, State, Sync, Token,
};
use super::journal::{
    GroupValue, JournalError, JournalRecord, Key, group_record, read_group, read_key, read_offset,
};
use super::offsets::{CommittedOffset, Offsets, added_bytes, check_commit, commit_records};
use super::step::{LOOKS, Step, Walk};
use super::{Now, Settings, partition_of};

/// What a group takes beside its members, its offsets and its name.
const GROUP_BYTES: usize = 512;

/// What protocol a group speaks; KIP-848 groups will stand beside.
#[derive(Debug)]
enum Kind {
    Classic(Classic),
}

#[derive(Debug)]
pub(super) struct Group {
    kind: Kind,
    pub offsets: Offsets,
    /// Of the journal.
    pub partition: i32,
    /// When `tick` must look at it; `i64::MAX` for never.
    alarm_ms: i64,
    /// What its members take, as of the last change of them.
    members_bytes: usize,
    /// What of it the coordinator's sum holds.
    weighed_bytes: usize,
}

impl Group {
    fn new(partition: i32) -> Self {
        let classic = Classic::new();
        let members_bytes = classic.bytes();
        Self {
            kind: Kind::Classic(classic),
            offsets: Offsets::default(),
            partition,
            alarm_ms: i64::MAX,
            members_bytes,
            weighed_bytes: 0,
        }
    }

    /// Brings the sums up to date.
    fn weigh(&mut self, id: &str, weights: &mut Weights) {
        let bytes = GROUP_BYTES + 3 * id.len() + self.members_bytes + self.offsets.bytes();
        weights.change(self.partition, self.weighed_bytes, bytes);
        self.weighed_bytes = bytes;
    }

    pub fn classic(&self) -> &Classic {
        let Kind::Classic(classic) = &self.kind;
        classic
    }

    pub fn classic_mut(&mut self) -> &mut Classic {
        let Kind::Classic(classic) = &mut self.kind;
        classic
    }

    /// Nothing would be lost without it.
    fn is_bare(&self) -> bool {
        let classic = self.classic();
        // A generation that was told to members is not forgotten before a sweep, even if its write was refused.
        let idle = classic.state == State::Empty && classic.pending.is_empty() && classic.generation == 0;
        idle && classic.journaled.is_none() && self.offsets.is_empty()
    }
}

/// What groups take, in bytes.
#[derive(Debug, Default)]
pub(super) struct Weights {
    all: usize,
    by_partition: BTreeMap<i32, usize>,
}

impl Weights {
    fn change(&mut self, partition: i32, before: usize, after: usize) {
        self.all = (self.all + after).saturating_sub(before);
        let part = self.by_partition.entry(partition).or_default();
        *part = (*part + after).saturating_sub(before);
        if *part == 0 {
            self.by_partition.remove(&partition);
        }
    }

    /// What an ended group had.
    pub fn heavier(&mut self, bytes: usize) {
        self.all += bytes;
    }

    /// Some of that is dropped.
    pub fn lighter(&mut self, bytes: usize) {
        self.all = self.all.saturating_sub(bytes);
    }
}

/// Consumer groups and their offsets, as one pure state machine.
#[derive(Debug)]
pub struct Coordinator {
    pub(super) settings: Settings,
    /// In order, so that a walk over them needs a place alone.
    pub(super) groups: BTreeMap<Arc<str>, Group>,
    alarms: BTreeSet<(i64, Arc<str>)>,
    pending: Pending,
    /// The sweep under way, and when it goes on or the next begins.
    pub(super) sweep: Walk,
    pub(super) sweep_ms: i64,
    loading: bool,
    pub(super) weights: Weights,
    pub(super) damage: Damage,
    /// Partitions of the journal that refused records since the last whole sweep, which leaves them out.
    pub(super) refused: BTreeSet<i32>,
    /// What ended groups had, where it is more than one step may drop.
    pub(super) ended: Vec<Offsets>,
}

impl Coordinator {
    /// An empty coordinator that loads: it answers `CoordinatorLoading` until `finish_loading`.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            groups: BTreeMap::new(),
            alarms: BTreeSet::new(),
            pending: Pending::new(),
            sweep: Walk::default(),
            sweep_ms: i64::MAX,
            loading: true,
            weights: Weights::default(),
            damage: Damage::default(),
            refused: BTreeSet::new(),
            ended: Vec::new(),
        }
    }

    /// The journal's topic is there and has that many partitions: every group is hashed over them.
    pub fn found_journal(&mut self, partitions: i32) {
        debug_assert!(self.groups.is_empty(), "before anything is replayed");
        self.settings.journal_partitions = partitions;
    }

    /// Partitions that the journal's topic has, or must get when it is created.
    pub fn journal_partitions(&self) -> i32 {
        self.settings.journal_partitions
    }

    /// The partition of the journal that holds a group.
    pub fn partition_of(&self, group: &str) -> i32 {
        partition_of(group, self.settings.journal_partitions)
    }

    /// A part of a partition of the journal does not read. What groups of it committed there is not known, until it
    /// would have expired: offsets that were there were committed before `until_ms` less the retention (calendar).
    pub fn journal_damaged(&mut self, partition: i32, before_ms: i64) {
        let until_ms = before_ms.saturating_add(self.settings.offsets_retention_ms);
        self.damage.mark(partition, until_ms);
    }

    /// Whether a part of that partition of the journal does not read, and still matters.
    pub fn is_damaged(&self, partition: i32) -> bool {
        self.damage.is_marked(partition)
    }

    /// All records are replayed: members get a fresh session, time starts. Once, and nobody waits yet.
    pub fn finish_loading(&mut self, now: Now) -> Outcome {
        let mut out = Outcome::default();
        self.loading = false;
        self.sweep_ms = now.steady_ms.saturating_add(self.settings.retention_check_interval_ms);
        for id in self.ids() {
            self.change(now, &id, &mut out, |classic, turn| {
                classic.touch_all(turn);
                // The limit was lowered: let them rejoin, as many as fit.
                if classic.members.len() > turn.settings.group_max_size {
                    classic.prepare(turn);
                }
            });
        }
        out
    }

    /// What it takes, weighed anew.
    #[cfg(test)]
    pub fn bytes_anew(&self) -> usize {
        let weigh = |(id, group): (&Arc<str>, &Group)| {
            GROUP_BYTES + 3 * id.len() + group.classic().bytes() + group.offsets.bytes()
        };
        let ended = self.ended.iter().map(Offsets::bytes);
        self.groups.iter().map(weigh).chain(ended).sum()
    }

    /// Whether what groups can speak is what their members list.
    #[cfg(test)]
    pub fn counts_what_is_listed(&self) -> bool {
        self.groups.values().all(|group| group.classic().supported == group.classic().supported_anew())
    }

    /// How many members a group has, and the first `most` of its offsets behind a place; `None` without such a group.
    pub fn glance(
        &self,
        group: &str,
        after: Option<(&str, i32)>,
        most: usize,
    ) -> Option<(usize, impl Iterator<Item = (&str, i32, &CommittedOffset)>)> {
        let group = self.groups.get(group)?;
        Some((group.classic().members.len(), group.offsets.after(after).take(most)))
    }

    /// What the state of a group takes, about; nothing where there is none.
    pub fn bytes_of(&self, group: &str) -> usize {
        self.groups.get(group).map_or(0, |group| group.members_bytes + group.offsets.bytes())
    }

    /// What the state of all groups takes.
    pub fn bytes(&self) -> usize {
        self.weights.all
    }

    /// What it may take.
    pub fn bytes_max(&self) -> usize {
        self.settings.state_max_bytes
    }

    /// Number of groups, those without members included.
    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// Number of member ids handed out and not yet used.
    pub fn pending_count(&self) -> usize {
        self.pending.len()
    }

    /// When `tick` has something to do next, in steady time.
    pub fn next_deadline(&self) -> Option<i64> {
        let alarm_ms = self.alarms.first().map_or(i64::MAX, |(at_ms, _)| *at_ms);
        if !self.ended.is_empty() {
            return Some(i64::MIN);
        }
        Some(alarm_ms.min(self.sweep_ms)).filter(|at_ms| *at_ms != i64::MAX)
    }

    /// Takes one request. Its reply is in this outcome or in a later one.
    pub fn handle(&mut self, now: Now, token: Token, event: Event) -> Outcome {
        let mut out = Outcome::default();
        if self.loading {
            out.replies.push((token, event.refused(Error::CoordinatorLoading)));
            return out;
        }
        if let Err(error) = event.check(&self.settings) {
            out.replies.push((token, event.refused(error)));
            return out;
        }
        match event {
            Event::Join(join) => self.join(now, token, join, &mut out),
            Event::Sync(sync) => {
                let id = sync.group.clone();
                let planned = self.check_plan(&sync);
                let step = |classic: &mut Classic, turn: &mut Turn<'_>| match planned {
                    Ok(()) => classic.sync(turn, token, sync),
                    Err(error) => turn.reply(token, Reply::Sync(Err(error))),
                };
                if self.change(now, &id, &mut out, step).is_none() {
                    out.replies.push((token, Reply::Sync(Err(Error::UnknownMember))));
                }
            }
            Event::Heartbeat(beat) => {
                let result =
                    self.turn(now, &beat.group, &mut out, |classic, turn| classic.heartbeat(turn, &beat));
                out.replies.push((token, Reply::Heartbeat(result.unwrap_or(Err(Error::UnknownMember)))));
            }
            Event::Leave(leave) => self.leave(now, token, leave, &mut out),
            Event::CommitOffsets(commit) => {
                let reply = self.commit(now, commit, &mut out);
                finish(&mut out, token, Reply::CommitOffsets(reply));
            }
            Event::FetchOffsets(groups) => {
                let reply = self.fetch(now, groups, &mut out.rest);
                out.replies.push((token, Reply::FetchOffsets(reply)));
            }
            Event::DeleteGroups(ids) => {
                let delete = |id: String| {
                    let result = self.delete_group(now, &id, &mut out.records);
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
                let reply = self.describe_all(ids, &mut out.rest);
                out.replies.push((token, Reply::DescribeGroups(reply)));
            }
            Event::ListGroups { states, types, after } => {
                let (listed, last) = self.list(&states, &types, after.as_deref());
                out.replies.push((token, Reply::ListGroups(Ok(listed))));
                out.rest = last.map(|last| Event::ListGroups { states, types, after: Some(last) });
            }
        }
        out
    }

    /// Lets time pass: sessions, rebalances and retention end. As many as a step may; then the next deadline is past.
    pub fn tick(&mut self, now: Now) -> Outcome {
        let mut out = Outcome::default();
        let mut step = Step::new();
        while let Some((at_ms, id)) = self.alarms.first().cloned() {
            if at_ms > now.steady_ms || step.is_over() {
                break;
            }
            let (records, members) =
                (out.records.len(), self.groups.get(&id).map_or(0, |group| group.classic().members.len()));
            self.alarms.pop_first();
            if let Some(group) = self.groups.get_mut(&id) {
                group.alarm_ms = i64::MAX;
            }
            // What a group still owes at `now` waits for the next millisecond, so that this loop ends.
            self.change(now, &id, &mut out, |classic, turn| {
                classic.tick(turn);
                turn.wake_ms = turn.wake_ms.max(now.steady_ms.saturating_add(1));
            });
            step.look_at(1 + members);
            step.make(out.records.iter().skip(records).map(JournalRecord::bytes).sum());
            self.drop_if_bare(&id);
        }
        self.discard();
        if now.steady_ms >= self.sweep_ms && !step.is_over() {
            self.sweep(now, &mut out);
        }
        out
    }

    /// Whoever sent `token` is gone: what it keeps waiting with it lives on for its session alone.
    pub fn forsaken(&mut self, now: Now, group: &str, token: Token) -> Outcome {
        let mut out = Outcome::default();
        self.turn(now, group, &mut out, |classic, turn| classic.forsaken(turn, token));
        out
    }

    /// Applies one record that the journal holds: at start to rebuild, live right after its append.
    ///
    /// # Errors
    /// [`JournalError`] for bytes that are no record of a group. Nothing changes then, but that an offset whose value
    /// does not read is known no more: what stood there before is older.
    pub fn replay(&mut self, key: &[u8], value: Option<&[u8]>, now: Now) -> Result<(), JournalError> {
        match read_key(key)? {
            Key::Offset { group, topic, partition } => match value.map(read_offset).transpose() {
                Ok(Some(offset)) => self.put_offset(group, |offsets| {
                    offsets.put(topic, partition, offset, now.wall_ms);
                }),
                Ok(None) => self.remove_offset(&group, &topic, partition),
                Err(error) => {
                    self.put_offset(group, |offsets| offsets.put_unreadable(topic, partition, now.wall_ms));
                    return Err(error);
                }
            },
            Key::Group(id) => match value {
                Some(value) => self.replay_group(&id, read_group(value)?, Bytes::copy_from_slice(value), now),
                None => self.replay_group_end(&id),
            },
        }
        Ok(())
    }

    /// The journal refused these records: undoes what waited for them. The caller answers the `after` tokens
    /// of the outcome they came from with `Reply::with_error(Error::Storage)`.
    pub fn abandon(&mut self, records: &[JournalRecord], now: Now) -> Outcome {
        let mut out = Outcome::default();
        for record in records {
            self.refused.insert(record.partition);
            let Ok(Key::Group(id)) = read_key(&record.key) else { continue };
            let Some(Ok(value)) = record.value.as_deref().map(read_group) else { continue };
            self.change(now, &id, &mut out, |classic, turn| classic.abandon(turn, &value));
        }
        out
    }

    // --- replay ---

    fn put_offset(&mut self, id: String, put: impl FnOnce(&mut Offsets)) {
        let (group, weights) = self.group_or_new(&id);
        put(&mut group.offsets);
        group.weigh(&id, weights);
    }

    fn remove_offset(&mut self, id: &str, topic: &str, partition: i32) {
        if let Some(group) = self.groups.get_mut(id) {
            group.offsets.remove(topic, partition);
            group.weigh(id, &mut self.weights);
        }
        self.drop_if_bare(id);
    }

    fn replay_group(&mut self, id: &str, value: GroupValue, record: Bytes, now: Now) {
        if !self.loading && self.groups.contains_key(id) {
            // Memory is never behind the journal here; the record only confirms.
            self.change(now, id, &mut Outcome::default(), |classic, turn| {
                classic.journaled = Some(record);
                classic.confirm(turn, &value);
            });
            return;
        }
        let mut classic = Classic::from_journal(value);
        classic.journaled = Some(record);
        classic.clamp(now.wall_ms);
        let (group, weights) = self.group_or_new(id);
        group.members_bytes = classic.bytes();
        group.kind = Kind::Classic(classic);
        group.weigh(id, weights);
    }

    fn group_or_new(&mut self, id: &str) -> (&mut Group, &mut Weights) {
        let partition = self.partition_of(id);
        let group = self.groups.entry(id.into()).or_insert_with(|| Group::new(partition));
        (group, &mut self.weights)
    }

    /// The end of a group takes its offsets along: it is one record, so that a crash leaves all of the group or nothing.
    fn replay_group_end(&mut self, id: &str) {
        self.damage.settle(self.partition_of(id), id);
        let Some(group) = self.groups.get_mut(id) else { return };
        let Kind::Classic(classic) = &mut group.kind;
        if self.loading {
            *classic = Classic::new();
        } else if classic.state == State::Empty {
            classic.start_over();
        }
        classic.journaled = None;
        group.members_bytes = classic.bytes();
        let ended = std::mem::take(&mut group.offsets);
        group.weigh(id, &mut self.weights);
        if !self.loading && ended.count() > LOOKS {
            self.weights.heavier(ended.bytes());
            self.ended.push(ended);
        }
        self.drop_if_bare(id);
    }

    // --- what the journal must hold ---

    /// What the groups of a partition of the journal weigh.
    pub fn weight_of(&self, partition: i32) -> usize {
        self.weights.by_partition.get(&partition).copied().unwrap_or(0)
    }

    // --- groups ---

    fn ids(&self) -> Vec<Arc<str>> {
        self.groups.keys().cloned().collect()
    }

    /// Runs a step that may change what a group holds; `None` without such a group.
    fn change<R>(
        &mut self,
        now: Now,
        id: &str,
        out: &mut Outcome,
        step: impl FnOnce(&mut Classic, &mut Turn<'_>) -> R,
    ) -> Option<R> {
        let result = self.turn(now, id, out, step);
        if let Some(group) = self.groups.get_mut(id) {
            group.members_bytes = group.classic().bytes();
            group.weigh(id, &mut self.weights);
        }
        result
    }

    /// Runs one step of a group and sets its alarm; `None` without such a group.
    fn turn<R>(
        &mut self,
        now: Now,
        id: &str,
        out: &mut Outcome,
        step: impl FnOnce(&mut Classic, &mut Turn<'_>) -> R,
    ) -> Option<R> {
        let (id, _) = self.groups.get_key_value(id)?;
        let id = id.clone();
        let group = self.groups.get_mut(&id)?;
        let Kind::Classic(classic) = &mut group.kind;
        let (settings, pending) = (&self.settings, &mut self.pending);
        let mut turn = Turn { now, settings, group: id.clone(), out, pending, wake_ms: i64::MAX };
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
            self.weights.change(group.partition, group.weighed_bytes, 0);
            self.alarms.remove(&(group.alarm_ms, id));
        }
    }

    fn join(&mut self, now: Now, token: Token, join: Join, out: &mut Outcome) {
        let id = join.group.clone();
        if let Err(error) = self.check_join(&join) {
            out.replies.push((token, Reply::Join(Err(error))));
            return;
        }
        if !self.groups.contains_key(id.as_str()) {
            self.groups.insert(id.as_str().into(), Group::new(self.partition_of(&id)));
        }
        self.change(now, &id, out, |classic, turn| classic.join(turn, token, join));
        while self.pending.len() > self.settings.pending_members_max {
            let Some((group, member)) = self.pending.values().next().cloned() else { break };
            self.change(now, &group, out, |classic, turn| classic.forget_pending(turn, &member));
            self.drop_if_bare(&group);
        }
        self.drop_if_bare(&id);
    }

    fn check_join(&self, join: &Join) -> Result<(), Error> {
        check_group_id(&join.group)?;
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
        let group = match self.groups.get(join.group.as_str()) {
            Some(group) => group.classic().added_bytes(join),
            None if !join.member_id.is_empty() => return Err(Error::UnknownMember),
            None if self.groups.len() >= self.settings.groups_max => return Err(Error::GroupMaxSizeReached),
            None => (0, GROUP_BYTES + 3 * join.group.len() + join.protocol_type.len() + join.bytes()),
        };
        self.check_room(group, self.open_bytes())
    }

    /// A leader's plan, for as long as it is one.
    fn check_plan(&self, sync: &Sync) -> Result<(), Error> {
        let Some(group) = self.groups.get(sync.group.as_str()) else { return Ok(()) };
        self.check_room(group.classic().planned_bytes(sync), self.settings.state_max_bytes)
    }

    /// Where joins and new groups stop: the rest is for commits of groups that are there.
    fn open_bytes(&self) -> usize {
        self.settings.state_max_bytes - self.settings.state_max_bytes / 8
    }

    /// May a group that takes `present` bytes take `added` more? What takes no more is always welcome.
    fn check_room(&self, (present, added): (usize, usize), limit: usize) -> Result<(), Error> {
        if added == 0 {
            Ok(())
        } else if present + added > self.settings.group_max_bytes {
            Err(Error::GroupMaxSizeReached)
        } else if self.weights.all + added > limit {
            Err(Error::CoordinatorFull)
        } else {
            Ok(())
        }
    }

    fn leave(&mut self, now: Now, token: Token, leave: Leave, out: &mut Outcome) {
        let (id, members) = (leave.group.clone(), leave.members.clone());
        let results = self.change(now, &id, out, |classic, turn| classic.leave(turn, leave));
        let unknown = || members.into_iter().map(|member| (member, Err(Error::UnknownMember))).collect();
        out.replies.push((token, Reply::Leave(Ok(results.unwrap_or_else(unknown)))));
        self.drop_if_bare(&id);
    }

    /// The group's end takes its offsets along (`replay_group_end`). Where the journal is damaged, a group that is not known
    /// may be in what does not read; its end says that it is to begin anew.
    fn delete_group(&self, now: Now, id: &str, records: &mut Vec<JournalRecord>) -> Result<(), Error> {
        let end = group_record(self.settings.journal_partitions, id, None);
        let Some(group) = self.groups.get(id) else {
            if self.damage.hides(self.partition_of(id), id, now.calendar_ms) {
                records.push(end);
                return Ok(());
            }
            return Err(Error::GroupIdNotFound);
        };
        if group.classic().state != State::Empty {
            return Err(Error::NonEmptyGroup);
        }
        records.push(end);
        Ok(())
    }

    fn describe_all(
        &self,
        ids: Vec<String>,
        rest: &mut Option<Event>,
    ) -> Vec<(String, Result<Described, Error>)> {
        let (mut described, mut step) = (Vec::new(), Step::new());
        let mut ids = ids.into_iter();
        while !step.is_over()
            && let Some(id) = ids.next()
        {
            let (id, found) = self.describe(id);
            step.look_at(1 + found.as_ref().map_or(0, |group| group.members.len()));
            described.push((id, found));
        }
        let ids: Vec<String> = ids.collect();
        *rest = (!ids.is_empty()).then_some(Event::DescribeGroups(ids));
        described
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

    /// The groups behind one, and the last that was looked at if there may be more.
    fn list(
        &self,
        states: &[String],
        types: &[String],
        after: Option<&str>,
    ) -> (Vec<Listed>, Option<String>) {
        let any = |filter: &[String], name: &str| {
            filter.is_empty() || filter.iter().any(|f| f.eq_ignore_ascii_case(name))
        };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let (mut listed, mut step) = (Vec::new(), Step::new());
        for (id, group) in self.groups.range::<str, _>((from, Bound::Unbounded)) {
            let classic = group.classic();
            if any(states, classic.state.name()) && any(types, GroupType::Classic.name()) {
                step.make(id.len());
                listed.push(Listed {
                    group: id.to_string(),
                    protocol_type: classic.protocol_type.clone().unwrap_or_default(),
                    state: classic.state,
                    group_type: GroupType::Classic,
                });
            }
            step.look();
            if step.is_over() {
                return (listed, Some(id.to_string()));
            }
        }
        (listed, None)
    }

    // --- offsets ---

    fn commit(
        &mut self,
        now: Now,
        commit: Commit,
        out: &mut Outcome,
    ) -> Result<Vec<super::CommittedTopic>, Error> {
        check_group_id_length(&commit.group)?;
        let checked = self.turn(now, &commit.group, out, |classic, turn| {
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
        self.check_commit_room(&commit)?;
        Ok(commit_records(&self.settings, now, commit, &mut out.records))
    }

    fn check_commit_room(&self, commit: &Commit) -> Result<(), Error> {
        let (known, limit) = match self.groups.get(commit.group.as_str()) {
            Some(group) => (Some(&group.offsets), self.settings.state_max_bytes),
            None => (None, self.open_bytes()),
        };
        let added = added_bytes(known, commit);
        if added > 0 && self.weights.all + added > limit { Err(Error::CoordinatorFull) } else { Ok(()) }
    }

    fn fetch(
        &self,
        now: Now,
        groups: Vec<FetchGroup>,
        rest: &mut Option<Event>,
    ) -> Vec<(String, Result<FetchedGroup, Error>)> {
        let (mut fetched, mut step) = (Vec::new(), Step::new());
        let mut groups = groups.into_iter();
        while let Some(asked) = groups.next() {
            let (found, stopped) = self.fetch_one(now, &asked, &mut step);
            fetched.push((asked.group.clone(), found));
            if let Some(place) = stopped {
                let first = FetchGroup { after: Some(place), ..asked };
                *rest = Some(Event::FetchOffsets(std::iter::once(first).chain(groups).collect()));
                break;
            }
        }
        fetched
    }

    fn fetch_one(
        &self,
        now: Now,
        asked: &FetchGroup,
        step: &mut Step,
    ) -> (Result<FetchedGroup, Error>, Option<(String, i32)>) {
        if let Err(error) = check_group_id_length(&asked.group) {
            return (Err(error), None);
        }
        let nothing = Offsets::default();
        let offsets = self.groups.get(asked.group.as_str()).map_or(&nothing, |group| &group.offsets);
        let hidden = self.damage.hides(self.partition_of(&asked.group), &asked.group, now.calendar_ms);
        let (found, stopped) = offsets.fetch(asked, hidden, step);
        (Ok(found), stopped)
    }

    fn delete_offsets(
        &self,
        asked: DeleteOffsets,
        records: &mut Vec<JournalRecord>,
    ) -> Result<Vec<super::CommittedTopic>, Error> {
        let group = self.groups.get(asked.group.as_str()).ok_or(Error::GroupIdNotFound)?;
        group.offsets.delete(&self.settings, group.classic(), asked, records)
    }
}

/// A reply that waits for records if there are any.
fn finish(out: &mut Outcome, token: Token, reply: Reply) {
    let into = if out.records.is_empty() { &mut out.replies } else { &mut out.after };
    into.push((token, reply));
}

fn check_group_id(id: &str) -> Result<(), Error> {
    if id.is_empty() { Err(Error::InvalidGroupId) } else { check_group_id_length(id) }
}

/// Simple consumers from before groups had to have a name commit to the empty one, as Kafka lets them.
/// As long as Kafka's strings can be, an id may be: the journal's end there.
fn check_group_id_length(id: &str) -> Result<(), Error> {
    i16::try_from(id.len()).map(|_| ()).map_err(|_| Error::InvalidGroupId)
}
