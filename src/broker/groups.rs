//! Journals the group coordinator: its records go to `__consumer_offsets` through the same log as everything
//! else, and a reply that depends on them waits until they are durable.
//!
//! Invariant: under one lock an event is handled, its records are appended and replayed; so the order of the
//! journal is the order of the state. The lock is never held across an await.
//! Deliberately absent: the rules of groups (`group/`), Kafka's error codes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};

use super::{Core, Receipt};
use crate::batch::{Batches, Builder, MAX_PLAIN_BYTES, Record};
use crate::config::Config;
use crate::group::{Coordinator, Error, Event, JournalRecord, Outcome, Reply, Settings, Token};
use crate::lock::{Mutex, rank};
use crate::store::{Incidents, Kind};
use crate::topic::{self, Append, NewTopic, Partition, Topic};

/// The internal topic, by Kafka's name and with Kafka's own record format.
const JOURNAL: &str = "__consumer_offsets";
/// Bytes per read while the journal is loaded.
const LOAD_BYTES: usize = 1 << 20;

/// The coordinator with its journal.
pub(super) struct Groups {
    state: Mutex<rank::Groups, State>,
    /// Told when the next deadline came nearer.
    sooner: Notify,
}

struct State {
    coordinator: Coordinator,
    waiting: HashMap<Token, oneshot::Sender<Held>>,
    next_token: Token,
    /// What the timer sleeps towards.
    armed_ms: i64,
}

/// A reply and what must be durable before it leaves.
struct Held {
    reply: Reply,
    receipts: Vec<Receipt>,
}

impl Groups {
    pub(super) fn new(config: &Config) -> Self {
        let coordinator = Coordinator::new(settings(config));
        let state = State { coordinator, waiting: HashMap::new(), next_token: 0, armed_ms: i64::MAX };
        Self { state: Mutex::new(state), sooner: Notify::new() }
    }
}

impl Core {
    /// Hands an event to the coordinator at once, in the caller's order; the future completes when the reply
    /// may be sent.
    ///
    /// # Errors
    /// [`Error::Storage`] when the journal failed.
    pub fn group(&self, event: Event) -> impl Future<Output = Result<Reply, Error>> + Send + use<> {
        let (sender, receiver) = oneshot::channel();
        let now_ms = self.now_ms();
        {
            let mut state = self.groups.state.lock();
            let token = state.next_token;
            state.next_token += 1;
            state.waiting.insert(token, sender);
            let outcome = state.coordinator.handle(now_ms, token, event);
            self.carry_out(&mut state, now_ms, outcome);
        }
        async move {
            let held = receiver.await.map_err(|_| Error::Storage)?;
            for receipt in held.receipts {
                if receipt.await.is_err() {
                    return Err(Error::Storage);
                }
            }
            Ok(held.reply)
        }
    }

    /// Makes sure that the journal's topic exists, as FindCoordinator does in Kafka.
    ///
    /// # Errors
    /// [`topic::Error`] when it cannot be created.
    pub async fn prepare_groups(self: &Arc<Self>) -> topic::Result<()> {
        if self.topics.by_name(JOURNAL).is_some() {
            return Ok(());
        }
        self.blocking(|core| core.journal().map(|_| ())).await
    }

    /// Forgets the offsets that groups committed for a deleted topic.
    pub fn forget_topic(&self, name: &str) {
        let now_ms = self.now_ms();
        let mut state = self.groups.state.lock();
        let outcome = state.coordinator.topic_deleted(name);
        self.carry_out(&mut state, now_ms, outcome);
    }

    /// Rebuilds the groups from the journal; before that they answer "loading".
    pub(super) fn load_groups(&self) -> topic::Result<()> {
        let now_ms = self.now_ms();
        let mut state = self.groups.state.lock();
        if let Some(topic) = self.topics.by_name(JOURNAL) {
            for partition in topic.partitions().iter() {
                replay(partition, &mut state.coordinator, now_ms, self.incidents())?;
            }
        }
        let outcome = state.coordinator.finish_loading(now_ms);
        self.carry_out(&mut state, now_ms, outcome);
        Ok(())
    }

    /// Lets the coordinator's time pass until `stopped`.
    pub(super) async fn time_groups(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        loop {
            let deadline_ms = {
                let mut state = self.groups.state.lock();
                let now_ms = self.now_ms();
                if state.coordinator.next_deadline().is_some_and(|at| at <= now_ms) {
                    let outcome = state.coordinator.tick(now_ms);
                    self.carry_out(&mut state, now_ms, outcome);
                }
                state.armed_ms = state.coordinator.next_deadline().unwrap_or(i64::MAX);
                state.armed_ms
            };
            let pause = u64::try_from(deadline_ms.saturating_sub(self.now_ms())).unwrap_or(0);
            tokio::select! {
                _ = stopped.changed() => return,
                () = self.groups.sooner.notified() => {}
                () = tokio::time::sleep(Duration::from_millis(pause)) => {}
            }
        }
    }

    /// Journals what the coordinator decided, applies it, and lets the replies go.
    fn carry_out(&self, state: &mut State, now_ms: i64, outcome: Outcome) {
        send(state, outcome.replies, &[]);
        let durable = self.journal_records(state, now_ms, &outcome.records);
        match durable {
            Ok(ends) => send(state, outcome.after, &ends),
            Err(error) => {
                let text = format_args!("a change of groups was refused by {JOURNAL}: {error}");
                self.incidents().note(Kind::JournalRefused, &text);
                let undone = state.coordinator.abandon(&outcome.records, now_ms);
                let refused =
                    outcome.after.into_iter().map(|(t, r)| (t, r.with_error(Error::Storage))).collect();
                send(state, refused, &[]);
                send(state, undone.replies, &[]);
                send(state, undone.after, &[]);
            }
        }
        if state.coordinator.next_deadline().is_some_and(|at| at < state.armed_ms) {
            self.groups.sooner.notify_one();
        }
    }

    /// Appends records, one batch per partition, and replays each; returns where they end.
    fn journal_records(
        &self,
        state: &mut State,
        now_ms: i64,
        records: &[JournalRecord],
    ) -> topic::Result<Vec<(Arc<Partition>, i64)>> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let topic = self.journal()?;
        let mut by_partition: BTreeMap<i32, Vec<&JournalRecord>> = BTreeMap::new();
        for record in records {
            by_partition.entry(record.partition).or_default().push(record);
        }
        let mut ends = Vec::new();
        for (index, records) in by_partition {
            let partition = topic.partition(index)?;
            let mut append = Append::new(batch(&records, now_ms)?);
            partition.append(now_ms, &mut [&mut append]);
            let appended = append.outcome.unwrap_or(Err(topic::Error::UnknownPartition))?;
            for record in records {
                apply(&mut state.coordinator, &record.key, record.value.as_deref(), now_ms, self.incidents());
            }
            if self.acks_wait_for_sync() {
                ends.push((partition, appended.next_offset));
            }
        }
        Ok(ends)
    }

    fn journal(&self) -> topic::Result<Arc<Topic>> {
        if let Some(topic) = self.topics.by_name(JOURNAL) {
            return Ok(topic);
        }
        let settings = self.config().group_settings();
        let overrides = [
            ("cleanup.policy", "compact".to_owned()),
            ("compression.type", "producer".to_owned()),
            ("segment.bytes", settings.offsets_topic_segment_bytes.to_string()),
        ];
        let new = NewTopic {
            id: self.clock.uuid(),
            name: JOURNAL.to_owned(),
            partitions: settings.offsets_topic_partitions,
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
        let _ = waiter.send(held);
    }
}

fn batch(records: &[&JournalRecord], now_ms: i64) -> topic::Result<crate::batch::Batch> {
    let mut builder = Builder::new();
    for record in records {
        builder.push(Record {
            timestamp_ms: now_ms,
            key: Some(record.key.clone()),
            value: record.value.clone(),
            headers: Vec::new(),
        });
    }
    Ok(builder.build()?)
}

fn replay(
    partition: &Arc<Partition>,
    coordinator: &mut Coordinator,
    now_ms: i64,
    incidents: &Incidents,
) -> topic::Result<()> {
    let mut offset = partition.span()?.start;
    loop {
        let bytes = partition.bytes_of(&partition.read(offset, LOAD_BYTES)?.slice)?;
        if bytes.is_empty() {
            return Ok(());
        }
        for batch in Batches::new(&bytes) {
            let batch = batch?;
            offset = batch.header.next_offset();
            if batch.header.is_control() {
                continue;
            }
            let section = batch.section(MAX_PLAIN_BYTES)?;
            for record in crate::batch::Records::new(&section, batch.header.record_count) {
                let record = record?;
                apply(coordinator, record.key.unwrap_or_default(), record.value, now_ms, incidents);
            }
        }
    }
}

/// A record that does not read is skipped, and said: the others still count.
fn apply(
    coordinator: &mut Coordinator,
    key: &[u8],
    value: Option<&[u8]>,
    now_ms: i64,
    incidents: &Incidents,
) {
    if let Err(error) = coordinator.replay(key, value, now_ms) {
        incidents.note(Kind::JournalDamaged, &format_args!("a record of {JOURNAL} was skipped: {error}"));
    }
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
        ..Settings::default()
    }
}
