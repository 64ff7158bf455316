//! Journals the group coordinator: its records go to `__consumer_offsets` through the same log as everything
//! else, and a reply that depends on them waits until they are durable.
//!
//! Invariant: under one lock an event is handled, its records are appended and replayed; so the order of the
//! journal is the order of the state. The lock is never held across an await, nor for more than a step of the coordinator's:
//! what takes several is done by whoever brings it, with a pause after each, so that everybody else gets the lock.
//! Waits count in steady time; what is kept bears the wall clock's, and expires by the calendar (`calendar.rs`).
//! Deliberately absent: the rules of groups (`group/`), Kafka's error codes; reading the journal (`journal.rs`).

mod compaction;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;
use uuid::Uuid;

use super::append::in_place;
use super::{Core, IncidentKind, Receipt, journal};
use crate::batch::{Batch, Builder, Record};
use crate::config::Config;
use crate::group::{
    CommittedOffset, Coordinator, Error, Event, FetchedGroup, Forgetting, Found, JournalRecord, Now, Outcome,
    Pieces, Reply, Settings, Token, Walk,
};
use crate::lock::{Mutex, rank};
use crate::store::Pace;
use crate::topic::{self, Append, NewTopic, Partition, Topic};

/// The internal topic, by Kafka's name and with Kafka's own record format.
const JOURNAL: &str = "__consumer_offsets";
/// A batch of the journal is closed before it grows past this, whatever larger ones the topic would take.
const BATCH_BYTES: usize = 1 << 20;
/// A timer that runs so much later than it was set for is one of a process that did not run meanwhile.
const LATE: Duration = Duration::from_secs(1);
/// So long what was sent to it meanwhile is read first.
const GRACE: Duration = Duration::from_secs(1);
/// Between two steps of the same work. A lock that is let go and taken at once goes to nobody else.
const PAUSE: Duration = Duration::from_micros(200);
/// So many of those who left are seen at a time.
const LEFT_MAX: usize = 100;
/// How often somebody looks whether those who wait are still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The coordinator with its journal.
pub(super) struct Groups {
    state: Mutex<rank::Groups, State>,
    /// The coordinator's, for what is looked at before the lock is taken.
    settings: Settings,
    /// Told when the next deadline came nearer, or somebody begins to wait.
    sooner: Notify,
    /// How many partitions the journal has, or gets.
    partitions: AtomicI32,
    /// How long offsets are kept. Milliseconds.
    retention_ms: i64,
    /// Of lines that say that groups take what they may.
    full: Pace,
}

struct State {
    coordinator: Coordinator,
    waiting: HashMap<Token, Waiter>,
    next_token: Token,
    /// What the timer sleeps towards, in steady time.
    armed_ms: i64,
    /// Partitions of the journal with records that are none of a group: they are kept as they are.
    foreign: BTreeSet<i32>,
}

/// Time in which the process did not run (SIGSTOP, a paused container) is nobody's silence: before a deadline of
/// that time counts, the heartbeats that lie in the sockets are read. Told by the timer, not by the clock of the groups,
/// which a test sets forward as it likes.
#[derive(Default)]
struct Grace {
    /// When the timer was to run.
    set_for: Option<Instant>,
    until: Option<Instant>,
}

/// Who waits for a reply.
struct Waiter {
    sender: oneshot::Sender<Held>,
    /// Of a join or a sync: what may wait for long, and holds a member meanwhile.
    group: Option<Box<str>>,
}

/// A reply and what must be durable before it leaves.
struct Held {
    reply: Reply,
    receipts: Vec<Receipt>,
}

impl Held {
    /// What was answered before, and then this.
    fn joined(before: Option<Self>, next: Self) -> Self {
        let Some(mut all) = before else { return next };
        all.receipts.extend(next.receipts);
        Self { reply: all.reply.and(next.reply), receipts: all.receipts }
    }
}

/// What a group committed: topic, partition, offset, the topic's id where it is known.
pub(super) type SeenOffset = (String, i32, i64, Option<Uuid>);

/// What became of records.
#[derive(Default)]
struct Journaled {
    /// Where they end.
    ends: Vec<(Arc<Partition>, i64)>,
    /// Partitions that took none.
    failed: BTreeSet<i32>,
}

impl Grace {
    /// How long deadlines have to wait, at `now`; `None`: they count.
    fn left(&mut self, now: Instant) -> Option<Duration> {
        if self.set_for.take().is_some_and(|at| now.saturating_duration_since(at) > LATE) {
            self.until = Some(now + GRACE);
        }
        self.until = self.until.filter(|until| now < *until);
        self.until.map(|until| until.saturating_duration_since(now))
    }

    /// The timer sleeps from `now` on.
    fn sleep(&mut self, now: Instant, pause: Duration) {
        self.set_for = now.checked_add(pause);
    }
}

impl Groups {
    pub(super) fn new(config: &Config) -> Self {
        let settings = settings(config);
        let coordinator = Coordinator::new(settings.clone());
        let partitions = AtomicI32::new(coordinator.journal_partitions());
        let retention_ms = config.group_settings().offsets_retention_ms;
        let (waiting, foreign) = (HashMap::new(), BTreeSet::new());
        let state = State { coordinator, waiting, next_token: 0, armed_ms: i64::MAX, foreign };
        Self {
            state: Mutex::new(state),
            settings,
            sooner: Notify::new(),
            partitions,
            retention_ms,
            full: Pace::default(),
        }
    }
}

impl Core {
    /// Hands an event to the coordinator at once, in the caller's order; the future completes when the reply
    /// may be sent. A large event is handed over piece by piece, with pauses: doors answer those, as they answer all large
    /// requests, off the workers.
    ///
    /// # Errors
    /// [`Error::Storage`] when the journal failed.
    pub fn group(&self, event: Event) -> impl Future<Output = Result<Reply, Error>> + Send + use<> {
        let handed = match event.check(&self.groups.settings) {
            Ok(()) => Ok(self.hand_pieces(event.in_pieces())),
            Err(error) => Err(event.refused(error)),
        };
        async move {
            let (before, last) = match handed {
                Ok(handed) => handed?,
                Err(refused) => return Ok(refused),
            };
            let last = last.await.map_err(|_| Error::Storage)?;
            let Held { reply, receipts } = Held::joined(before, last);
            for receipt in receipts {
                if receipt.await.is_err() {
                    return Err(Error::Storage);
                }
            }
            Ok(reply)
        }
    }

    /// Hands over the pieces of an event, and what is left of each: what all but the last were answered, and where the last's
    /// reply comes. One that is followed by another never waits for its reply.
    fn hand_pieces(&self, mut pieces: Pieces) -> Result<(Option<Held>, oneshot::Receiver<Held>), Error> {
        let mut before = None;
        let mut piece = pieces.next().ok_or(Error::InvalidRequest)?;
        loop {
            let (mut receiver, rest) = self.hand(piece);
            let Some(next) = rest.or_else(|| pieces.next()) else { return Ok((before, receiver)) };
            let held = receiver.try_recv().map_err(|_| Error::Storage)?;
            before = Some(Held::joined(before, held));
            piece = next;
            pause();
        }
    }

    /// One holding of the lock: where the reply comes, and what of the event is left.
    fn hand(&self, event: Event) -> (oneshot::Receiver<Held>, Option<Event>) {
        let (sender, receiver) = oneshot::channel();
        let now = self.group_now();
        let mut state = self.groups.state.lock();
        let token = state.next_token;
        state.next_token += 1;
        let group = match &event {
            Event::Join(join) => Some(join.group.as_str().into()),
            Event::Sync(sync) => Some(sync.group.as_str().into()),
            _ => None,
        };
        state.waiting.insert(token, Waiter { sender, group });
        let mut outcome = self.handle(&mut state.coordinator, now, token, event);
        let rest = outcome.rest.take();
        self.carry_out(&mut state, now, outcome);
        if state.waiting.len() == 1 {
            self.groups.sooner.notify_one();
        }
        (receiver, rest)
    }

    /// Whether the journal's topic exists: what begins a group has to wait for it first ([`Core::first_group`]).
    #[must_use]
    pub fn has_journal(&self) -> bool {
        self.topics.by_name(JOURNAL).is_some()
    }

    /// As [`Core::group`], once the journal's topic exists: it is made before the groups' lock is taken, for everybody's
    /// heartbeat waits for that.
    ///
    /// # Errors
    /// [`Error::Storage`] when the journal cannot be created, or failed.
    pub async fn first_group(self: Arc<Self>, event: Event) -> Result<Reply, Error> {
        if let Err(error) = self.prepare_groups().await {
            self.incidents().note(IncidentKind::JournalRefused, &format_args!("{JOURNAL}: {error}"));
            return Err(Error::Storage);
        }
        self.group(event).await
    }

    /// Makes sure that the journal's topic exists, as FindCoordinator does in Kafka.
    ///
    /// # Errors
    /// [`topic::Error`] when it cannot be created.
    pub async fn prepare_groups(self: &Arc<Self>) -> topic::Result<()> {
        if self.has_journal() {
            return Ok(());
        }
        self.blocking(|core| {
            // Opened here, so that the first commit does not wait for the disk.
            core.create_journal()?.partitions().iter().try_for_each(|partition| partition.log().map(|_| ()))
        })
        .await
    }

    /// Forgets the offsets that groups committed for a topic that is deleted: after it, so that no commit to it can
    /// come later.
    pub fn forget_topic(&self, topic: &Topic) {
        let mut forgetting = Forgetting::new(topic.name(), topic.id());
        while !self.forget_some(&mut forgetting) {
            pause();
        }
    }

    /// One holding of the lock; whether all is forgotten.
    fn forget_some(&self, forgetting: &mut Forgetting) -> bool {
        let now = self.group_now();
        let mut state = self.groups.state.lock();
        // Under the lock: a commit to a topic that is not there yet comes behind this step.
        let has_heir = self.topics.by_name(forgetting.topic()).is_some();
        let outcome = state.coordinator.forget_topic(forgetting, has_heir);
        self.carry_out(&mut state, now, outcome);
        forgetting.is_through()
    }

    /// How many members a group has, and where it stands (topic, partition, offset, the topic's id where it is known) behind a
    /// place: a page of `most`, in order, so that nobody waits long for the lock. `None` without such a group.
    pub(super) fn glance_at_group(
        &self,
        group: &str,
        after: Option<(&str, i32)>,
        most: usize,
    ) -> Option<(usize, Vec<SeenOffset>)> {
        let state = self.groups.state.lock();
        let (members, offsets) = state.coordinator.glance(group, after, most)?;
        let told = |(topic, partition, kept): (&str, i32, &CommittedOffset)| {
            (topic.to_owned(), partition, kept.offset, kept.topic_id)
        };
        Some((members, offsets.map(told).collect()))
    }

    /// What the state of these groups takes, about, in bytes: an answer that tells it is no larger.
    pub fn bytes_of_groups<'a>(&self, groups: impl Iterator<Item = &'a str>) -> usize {
        let state = self.groups.state.lock();
        groups.map(|group| state.coordinator.bytes_of(group)).fold(0, usize::saturating_add)
    }

    /// What the state of all groups takes, in bytes, and what it may.
    #[must_use]
    pub fn group_state_bytes(&self) -> (usize, usize) {
        let state = self.groups.state.lock();
        (state.coordinator.bytes(), state.coordinator.bytes_max())
    }

    /// Rebuilds the groups from the journal; before that they answer "loading". What of it is damaged is said, and stops
    /// nothing.
    ///
    /// # Errors
    /// Those of `journal::load`.
    pub(super) fn load_groups(&self) -> topic::Result<()> {
        let now = self.group_now();
        let mut state = self.groups.state.lock();
        if let Some(topic) = self.topics.by_name(JOURNAL) {
            let partitions = topic.partitions();
            let count = i32::try_from(partitions.len()).unwrap_or(i32::MAX);
            state.coordinator.found_journal(count);
            self.groups.partitions.store(count, Ordering::Relaxed);
            for partition in partitions.iter() {
                let index = partition.id().partition;
                let found = journal::load(partition, &mut state.coordinator, now, &self.location)?;
                if found.foreign {
                    state.foreign.insert(index);
                }
                if let Some(damage) = found.damage {
                    if state.coordinator.is_damaged(index) {
                        self.incidents().raise(IncidentKind::JournalDamaged, &index.to_string(), &damage);
                    } else {
                        self.incidents().note(IncidentKind::JournalDamaged, &damage);
                    }
                }
            }
        }
        let outcome = state.coordinator.finish_loading(now);
        self.carry_out(&mut state, now, outcome);
        let mut walk = Walk::default();
        while !walk.is_through() {
            let id = |name: &str| self.topics.by_name(name).map(|topic| topic.id());
            let outcome = state.coordinator.forget_nameless(&mut walk, &id);
            self.carry_out(&mut state, now, outcome);
        }
        Ok(())
    }

    /// Lets the coordinator's time pass until `stopped`.
    pub(super) async fn time_groups(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let mut look_ms = self.clock.steady_ms();
        let mut grace = Grace::default();
        loop {
            let pause = {
                let mut state = self.groups.state.lock();
                let now = self.group_now();
                if now.steady_ms >= look_ms {
                    if self.see_who_left(&mut state, now) < LEFT_MAX {
                        look_ms = now.steady_ms.saturating_add(milliseconds(LOOK_EVERY));
                    }
                    self.end_damage(&state);
                }
                let waits = grace.left(Instant::now());
                if waits.is_none() && state.coordinator.next_deadline().is_some_and(|at| at <= now.steady_ms)
                {
                    let outcome = state.coordinator.tick(now);
                    self.carry_out(&mut state, now, outcome);
                }
                state.armed_ms = state.coordinator.next_deadline().unwrap_or(i64::MAX);
                let pause_ms = state.armed_ms.saturating_sub(self.clock.steady_ms());
                let pause = Duration::from_millis(u64::try_from(pause_ms).unwrap_or(0));
                let pause = waits.map_or(pause, |waits| waits.max(pause)).max(PAUSE);
                if state.waiting.is_empty() { pause } else { pause.min(LOOK_EVERY) }
            };
            grace.sleep(Instant::now(), pause);
            tokio::select! {
                _ = stopped.changed() => return,
                () = self.groups.sooner.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// The times of a step of the coordinator.
    fn group_now(&self) -> Now {
        let (steady_ms, wall_ms) = (self.clock.steady_ms(), self.clock.now_ms());
        let calendar_ms = self.calendar.believed_ms(steady_ms, wall_ms, self.groups.retention_ms);
        Now { steady_ms, wall_ms, calendar_ms }
    }

    /// One event, with what is known of topics: what was committed is of a topic, not of whatever has its name.
    fn handle(&self, coordinator: &mut Coordinator, now: Now, token: Token, mut event: Event) -> Outcome {
        let mut whole = Vec::new();
        match &mut event {
            Event::CommitOffsets(commit) => {
                let is_gone = |id: Option<Uuid>| id.is_some_and(|id| self.topics.by_id(id).is_none());
                commit.topics.iter_mut().for_each(|topic| topic.gone = is_gone(topic.id));
            }
            Event::FetchOffsets(groups) => whole.extend(groups.iter().map(|asked| asked.topics.is_none())),
            _ => {}
        }
        let mut outcome = coordinator.handle(now, token, event);
        for (_, reply) in &mut outcome.replies {
            match reply {
                Reply::FetchOffsets(groups) => {
                    for ((_, fetched), whole) in groups.iter_mut().zip(&whole) {
                        if let Ok(fetched) = fetched {
                            self.leave_out(fetched, *whole);
                        }
                    }
                }
                Reply::Join(Err(Error::CoordinatorFull))
                | Reply::CommitOffsets(Err(Error::CoordinatorFull)) => {
                    if let Some(suppressed) = self.groups.full.admit() {
                        let (bytes, most) = (coordinator.bytes(), coordinator.bytes_max());
                        tracing::warn!(bytes, most, suppressed, "refused: group.state.max.bytes is used up");
                    }
                }
                _ => {}
            }
        }
        outcome
    }

    /// Takes out what was committed to a topic that is no more, although its name may be there.
    fn leave_out(&self, fetched: &mut FetchedGroup, whole: bool) {
        for topic in &mut fetched.topics {
            let id = self.topics.by_name(&topic.name).map(|topic| topic.id());
            let is_past = |committed: &Found| {
                committed.as_ref().is_ok_and(|found| found.as_ref().is_some_and(|offset| !offset.is_of(id)))
            };
            if whole {
                topic.partitions.retain(|(_, committed)| !is_past(committed));
            } else {
                for (_, committed) in topic.partitions.iter_mut().filter(|(_, c)| is_past(c)) {
                    *committed = Ok(None);
                }
            }
        }
        fetched.topics.retain(|topic| !whole || !topic.partitions.is_empty());
    }

    /// Tells the coordinator who does not wait any more: some of them, and how many.
    fn see_who_left(&self, state: &mut State, now: Now) -> usize {
        let left = state.waiting.iter().filter(|(_, waiter)| waiter.sender.is_closed()).take(LEFT_MAX);
        let left: Vec<_> = left.map(|(token, waiter)| (*token, waiter.group.clone())).collect();
        let count = left.len();
        for (token, group) in left {
            state.waiting.remove(&token);
            if let Some(group) = group {
                let outcome = state.coordinator.forsaken(now, &group, token);
                self.carry_out(state, now, outcome);
            }
        }
        count
    }

    /// Health is told when nothing of the journal's damage matters any more.
    fn end_damage(&self, state: &State) {
        if !self.incidents().stands(IncidentKind::JournalDamaged) {
            return;
        }
        for index in 0..state.coordinator.journal_partitions() {
            if !state.coordinator.is_damaged(index) {
                self.incidents().clear(IncidentKind::JournalDamaged, &index.to_string());
            }
        }
    }

    /// Journals what the coordinator decided, applies it, and lets the replies go.
    fn carry_out(&self, state: &mut State, now: Now, outcome: Outcome) {
        send(state, outcome.replies, &[]);
        let journaled = self.journal_records(state, now, &outcome.records);
        if journaled.failed.is_empty() {
            send(state, outcome.after, &journaled.ends);
        } else {
            let failed = |record: &JournalRecord| journaled.failed.contains(&record.partition);
            let refused: Vec<_> = outcome.records.into_iter().filter(failed).collect();
            let undone = state.coordinator.abandon(&refused, now);
            let failed = |group: &str| journaled.failed.contains(&state.coordinator.partition_of(group));
            let after = outcome.after.into_iter().map(|(t, r)| (t, r.refused(&failed, Error::Storage)));
            let after = after.collect();
            send(state, after, &journaled.ends);
            send(state, undone.replies, &[]);
            send(state, undone.after, &[]);
        }
        if state.coordinator.next_deadline().is_some_and(|at| at < state.armed_ms) {
            self.groups.sooner.notify_one();
        }
    }

    /// Appends records, all of a partition at once, and replays each; a partition that refuses its records keeps
    /// nobody else's.
    fn journal_records(&self, state: &mut State, now: Now, records: &[JournalRecord]) -> Journaled {
        let mut by_partition: BTreeMap<i32, Vec<&JournalRecord>> = BTreeMap::new();
        for record in records {
            by_partition.entry(record.partition).or_default().push(record);
        }
        let mut journaled = Journaled::default();
        for (index, records) in by_partition {
            match self.append_records(index, &records, now) {
                Ok((partition, end)) => {
                    for record in records {
                        let applied = state.coordinator.replay(&record.key, record.value.as_deref(), now);
                        debug_assert!(applied.is_ok(), "our own record: {applied:?}");
                    }
                    if self.acks_wait_for_sync() {
                        journaled.ends.push((partition, end));
                    }
                }
                Err(error) => {
                    let refused = format_args!("partition {index} of {JOURNAL}: {error}");
                    self.incidents().note(IncidentKind::JournalRefused, &refused);
                    journaled.failed.insert(index);
                }
            }
        }
        journaled
    }

    /// One append, of as many batches as it takes: all or none of it, but for a crash. A crash leaves whole batches, the
    /// first ones; so what belongs together is one record, or says with its first record what is to come.
    fn append_records(
        &self,
        index: i32,
        records: &[&JournalRecord],
        now: Now,
    ) -> topic::Result<(Arc<Partition>, i64)> {
        let topic = self.topics.by_name(JOURNAL).ok_or(topic::Error::UnknownTopic)?;
        let partition = topic.partition(index)?;
        let most = usize::try_from(topic.config().max_message_bytes).unwrap_or(usize::MAX).min(BATCH_BYTES);
        let batches = batches(records, now.wall_ms, most)?;
        let mut appends: Vec<_> = batches.into_iter().map(Append::own).collect();
        partition.append(now.wall_ms, &mut appends.iter_mut().collect::<Vec<_>>());
        let mut end = 0;
        for append in appends {
            end = append.outcome.unwrap_or(Err(topic::Error::UnknownPartition))?.next_offset;
        }
        Ok((partition, end))
    }

    fn create_journal(&self) -> topic::Result<Arc<Topic>> {
        let settings = self.config().group_settings();
        let overrides = [
            ("cleanup.policy", "compact".to_owned()),
            ("compression.type", "producer".to_owned()),
            ("segment.bytes", settings.offsets_topic_segment_bytes.to_string()),
        ];
        let new = NewTopic {
            id: self.clock.uuid(),
            name: JOURNAL.to_owned(),
            partitions: self.groups.partitions.load(Ordering::Relaxed),
            overrides: overrides.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
            created_ms: self.clock.now_ms(),
        };
        match self.topics.create(new) {
            Err(topic::Error::TopicExists(_)) => {
                self.topics.by_name(JOURNAL).ok_or(topic::Error::UnknownTopic)
            }
            outcome => outcome,
        }
    }
}

fn send(state: &mut State, replies: Vec<(Token, Reply)>, ends: &[(Arc<Partition>, i64)]) {
    for (token, reply) in replies {
        let Some(waiter) = state.waiting.remove(&token) else { continue };
        let receipts: Result<Vec<_>, _> = ends.iter().map(|(p, end)| Receipt::new(p, *end)).collect();
        let held = match receipts {
            Ok(receipts) => Held { reply, receipts },
            Err(_) => Held { reply: reply.with_error(Error::Storage), receipts: Vec::new() },
        };
        // A client that left does not wait for its reply.
        let _ = waiter.sender.send(held);
    }
}

/// Lets others have the lock. Whoever has several steps to make is in a lane, or its worker's other work goes elsewhere.
#[allow(clippy::disallowed_methods, reason = "no worker is blocked")]
fn pause() {
    in_place(&mut || std::thread::sleep(PAUSE));
}

/// Batches of at most `most` bytes, but for a record that is larger alone.
fn batches(records: &[&JournalRecord], now_ms: i64, most: usize) -> topic::Result<Vec<Batch>> {
    let (mut batches, mut builder, mut filled) = (Vec::new(), Builder::new(), 0);
    for record in records {
        if filled > 0 && filled + record.bytes() + crate::batch::HEADER_BYTES > most {
            batches.push(std::mem::replace(&mut builder, Builder::new()).build()?);
            filled = 0;
        }
        filled += record.bytes();
        builder.push(Record {
            timestamp_ms: now_ms,
            key: Some(record.key.clone()),
            value: record.value.clone(),
            headers: Vec::new(),
        });
    }
    batches.push(builder.build()?);
    Ok(batches)
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn settings(config: &Config) -> Settings {
    let groups = config.group_settings();
    Settings {
        session_timeout_min_ms: groups.min_session_timeout_ms,
        session_timeout_max_ms: groups.max_session_timeout_ms,
        initial_rebalance_delay_ms: i32::try_from(groups.initial_rebalance_delay_ms).unwrap_or(i32::MAX),
        group_max_size: groups.max_members,
        groups_max: groups.max_groups,
        metadata_max_chars: groups.offset_metadata_max_bytes,
        offsets_retention_ms: groups.offsets_retention_ms,
        retention_check_interval_ms: i64::try_from(groups.offsets_retention_check_interval_ms)
            .unwrap_or(i64::MAX),
        journal_partitions: groups.offsets_topic_partitions,
        state_max_bytes: groups.state_max_bytes,
        group_max_bytes: Settings::default().group_max_bytes.min(groups.state_max_bytes / 4),
        ..Settings::default()
    }
}

#[cfg(test)]
mod journal_tests;
#[cfg(test)]
mod tests;
