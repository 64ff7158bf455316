//! Background upkeep: checkpoints of what was written, syncs by interval, retention.
//!
//! Invariant: idle partitions cost nothing; a round visits those that were written since the last one. Only
//! retention looks at everything, every `log.retention.check.interval.ms`.
//! Deliberately absent: what is due (topic/retention.rs decides), when a sync is owed to a client (append.rs).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Core;
use crate::config::{Flush, TopicSettings};
use crate::store;
use crate::topic::Topic;

/// How often what was written is checkpointed: bounds what a recovery has to scan.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);

/// The running upkeep.
pub struct Upkeep {
    stop: watch::Sender<bool>,
    tasks: [JoinHandle<()>; 5],
}

impl Upkeep {
    /// Starts it on the current runtime.
    #[must_use]
    pub fn start(core: &Arc<Core>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let groups = tokio::spawn(Arc::clone(core).time_groups(stopped.clone()));
        let demand = tokio::spawn(Arc::clone(core).follow_demand(stopped.clone()));
        let journal = tokio::spawn(Arc::clone(core).compact_journal(stopped.clone()));
        let lines = tokio::spawn(Arc::clone(core).watch_lines(stopped.clone()));
        Self { stop, tasks: [tokio::spawn(run(Arc::clone(core), stopped)), groups, demand, journal, lines] }
    }

    /// Stops it and waits for the round under way.
    pub async fn stop(self) {
        // The tasks listen until they end; an error means that they have ended.
        let _ = self.stop.send(true);
        for task in self.tasks {
            let _ = task.await;
        }
    }
}

async fn run(core: Arc<Core>, mut stopped: watch::Receiver<bool>) {
    let every = match core.flush {
        Flush::Interval { interval_ms } => duration(interval_ms).min(CHECKPOINT_EVERY),
        Flush::Group | Flush::Never => CHECKPOINT_EVERY,
    };
    let retention_every = duration(core.topic_settings.retention_check_interval_ms);
    let mut round = interval(every.min(retention_every));
    round.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next_retention = Instant::now() + retention_every;
    let mut next_checkpoint = Instant::now() + CHECKPOINT_EVERY;
    loop {
        tokio::select! {
            _ = stopped.changed() => return,
            _ = round.tick() => {}
        }
        let now = Instant::now();
        let retain = now >= next_retention;
        if retain {
            next_retention = now + retention_every;
        }
        // A checkpoint names synced bytes only: without syncs, the engine makes them where segments roll.
        let checkpoint = now >= next_checkpoint && core.flush != Flush::Never;
        if checkpoint {
            next_checkpoint = now + CHECKPOINT_EVERY;
        }
        let stop = stopped.clone();
        let work = core.blocking(move |core| {
            core.look_for_space(CHECKPOINT_EVERY);
            core.tend(checkpoint, retain, &|| *stop.borrow());
            Ok(())
        });
        // A round that panicked is over; the next one comes.
        let _ = work.await;
    }
}

fn duration(ms: u64) -> Duration {
    Duration::from_millis(ms.max(10))
}

impl Core {
    /// One round of upkeep, which ends early, between two partitions, once `stopped` says so. What fails was noted where it
    /// failed, and is tried again with the next round.
    pub(super) fn tend(&self, checkpoint: bool, retain: bool, stopped: &dyn Fn() -> bool) {
        let now_ms = self.now_ms();
        // Whatever else it does: what the clock did between two rounds is seen at the latest then.
        self.calendar.look(self.clock.steady_ms(), now_ms);
        let syncs = matches!(self.flush, Flush::Interval { .. });
        if syncs || checkpoint {
            self.look_after_written(now_ms, syncs, checkpoint, stopped);
        }
        if retain {
            let (mut partitions, mut removed_bytes) = (0_usize, 0_u64);
            for topic in self.topics.all() {
                // Nothing goes because somebody set the clock.
                let (count, bytes) =
                    self.retain(&topic, self.calendar_ms(topic.config().retention_ms), stopped);
                (partitions, removed_bytes) = (partitions + count, removed_bytes.saturating_add(bytes));
            }
            // One line a round, however many partitions there are.
            if partitions > 0 {
                tracing::info!(partitions, bytes = removed_bytes, "retention removed");
            }
            self.gates.retain(|id| self.topics.by_id(id).is_some());
        }
    }

    /// In how many partitions something went, and how many bytes.
    fn retain(&self, topic: &Arc<Topic>, now_ms: i64, stopped: &dyn Fn() -> bool) -> (usize, u64) {
        let (mut partitions, mut removed_bytes) = (0_usize, 0_u64);
        for partition in topic.partitions().iter() {
            if stopped() {
                return (partitions, removed_bytes);
            }
            match partition.retain(now_ms) {
                Ok(0) => {}
                Ok(bytes) => {
                    (partitions, removed_bytes) = (partitions + 1, removed_bytes.saturating_add(bytes));
                    let index = partition.id().partition;
                    tracing::debug!(topic = %topic.name(), partition = index, bytes, "retention removed");
                }
                Err(error) => tracing::debug!(topic = %topic.name(), "retention: {error}"),
            }
        }
        if let Err(error) = self.topics.expire_shards(topic, now_ms) {
            tracing::debug!(topic = %topic.name(), "lineage of shards: {error}");
        }
        (partitions, removed_bytes)
    }

    /// Syncs (asks for it) and checkpoints what was written since the last look.
    fn look_after_written(&self, now_ms: i64, syncs: bool, checkpoint: bool, stopped: &dyn Fn() -> bool) {
        let TopicSettings { producer_id_expiration_ms, max_producer_ids_per_partition, .. } =
            self.config().topic_settings();
        self.topics.limit_producers(max_producer_ids_per_partition);
        let calendar_ms = self.calendar_ms(producer_id_expiration_ms).min(now_ms);
        let heard_since_ms = calendar_ms.saturating_sub(producer_id_expiration_ms);
        for partition in self.topics.take_dirty() {
            if stopped() {
                partition.relist();
                continue;
            }
            if syncs && let Err(error) = partition.sync() {
                tracing::debug!(topic = %partition.id().topic, partition = partition.id().partition, "sync: {error}");
            }
            if !checkpoint {
                partition.relist();
            } else if let Err(error) =
                partition.checkpoint(now_ms, heard_since_ms, max_producer_ids_per_partition)
            {
                tracing::debug!(topic = %partition.id().topic, partition = partition.id().partition, "checkpoint: {error}");
            }
        }
    }

    /// Saves all state with the logs, makes everything durable and marks the store clean.
    ///
    /// # Errors
    /// The engine's.
    pub fn close(&self) -> Result<(), store::Error> {
        self.look_after_written(self.now_ms(), false, true, &|| false);
        self.store.close()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use crate::batch::{Builder, Record};
    use crate::broker::{Change, Edit, Scope};
    use crate::config::Config;
    use crate::topic::{Append, NewTopic, Partition};

    fn create(core: &Core) -> Arc<Topic> {
        let new = NewTopic {
            id: core.clock().uuid(),
            name: "t".into(),
            partitions: 1,
            overrides: BTreeMap::new(),
            created_ms: 0,
        };
        core.topics().create(new).unwrap()
    }

    fn append(partition: &Arc<Partition>, producer: i64, now_ms: i64) {
        let mut batch = Builder::new().producer(producer, 0, 0);
        let value = Some("v".into());
        batch.push(Record { timestamp_ms: now_ms, key: None, value, headers: Vec::new() });
        let mut append = Append::new(batch.build().unwrap());
        partition.append(now_ms, &mut [&mut append]);
        assert!(append.outcome.is_some_and(|outcome| outcome.is_ok()));
    }

    fn checkpoint(core: &Core, now_ms: i64) {
        core.look_after_written(now_ms, false, true, &|| false);
    }

    #[test]
    fn what_is_written_between_the_look_and_the_sync_is_looked_at_again() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::default();
        let core = crate::broker::open(dir.path(), config, crate::broker::Clock::System).unwrap();
        let topic = create(&core);
        let partition = Arc::clone(topic.partitions().iter().next().unwrap());
        append(&partition, 1, 1_000);
        for partition in core.topics.take_dirty() {
            append(&partition, 2, 1_001);
            checkpoint(&core, 1_001);
            append(&partition, 3, 1_002);
            // What the look found is synced, and all that came before.
            drop(partition.sync().unwrap());
        }
        append(&partition, 4, 1_003);
        let again = core.topics.take_dirty();
        assert_eq!(again.len(), 1, "listed again, once");
        core.close().unwrap();
    }

    #[test]
    fn a_round_that_is_stopped_leaves_what_it_did_not_look_at_listed() {
        let core = crate::broker::in_memory(Config::default()).unwrap();
        let partition = Arc::clone(create(&core).partitions().iter().next().unwrap());
        append(&partition, 7, 1_000);
        core.tend(true, true, &|| true);
        assert_eq!(core.topics.take_dirty().len(), 1);
        assert!(core.topics.take_dirty().is_empty());
    }

    #[test]
    fn an_altered_expiration_of_producer_ids_counts_from_the_next_checkpoint_on() {
        let core = crate::broker::in_memory(Config::default()).unwrap();
        let topic = create(&core);
        let partition = Arc::clone(topic.partitions().iter().next().unwrap());
        let append = |producer, now_ms| append(&partition, producer, now_ms);
        append(7, 1_000);
        checkpoint(&core, 1_900);
        append(8, 2_000);
        checkpoint(&core, 2_000);
        assert_eq!(partition.producer_count(), 2);
        let change = Edit::Set("500".to_owned());
        let change = Change::Edit(vec![("producer.id.expiration.ms".to_owned(), change)]);
        core.alter_broker_config(Scope::Cluster, change, false).unwrap();
        append(9, 2_100);
        checkpoint(&core, 2_100);
        assert_eq!(partition.producer_count(), 2, "the first one is forgotten");
    }

    fn one_record(core: &Core, name: &str, producer: i64) -> Arc<crate::topic::Partition> {
        let topic = core.topics().by_name(name).unwrap();
        let partition = Arc::clone(topic.partitions().iter().next().unwrap());
        let mut batch = Builder::new().producer(producer, 0, 0);
        batch.push(Record { timestamp_ms: 1, value: Some("v".into()), ..Record::default() });
        let mut append = Append::new(batch.build().unwrap());
        partition.append(1_000 + producer, &mut [&mut append]);
        assert!(append.outcome.is_some_and(|outcome| outcome.is_ok()));
        partition
    }

    fn configured(pairs: &[(&str, &str)]) -> Config {
        let mut config = Config::default();
        for (key, value) in pairs {
            config.set(key, value, crate::config::Source::CommandLine).unwrap();
        }
        config
    }

    #[test]
    fn producer_ids_are_bounded_where_no_checkpoint_comes() {
        let mut config = Config::default();
        config.set("max.producer.ids.per.partition", "100", crate::config::Source::CommandLine).unwrap();
        let core = crate::broker::in_memory(config).unwrap();
        let new = NewTopic {
            id: core.clock().uuid(),
            name: "t".into(),
            partitions: 1,
            overrides: BTreeMap::new(),
            created_ms: 0,
        };
        let topic = core.topics().create(new).unwrap();
        let partition = topic.partition(0).unwrap();
        for producer in 0..5_000 {
            let mut batch = Builder::new().producer(producer, 0, 0);
            batch.push(Record { timestamp_ms: 1, key: None, value: Some("v".into()), headers: Vec::new() });
            let mut append = Append::new(batch.build().unwrap());
            partition.append(producer, &mut [&mut append]);
            assert!(append.outcome.is_some_and(|outcome| outcome.is_ok()));
        }
        assert!((100..=126).contains(&partition.producer_count()), "{}", partition.producer_count());
    }

    #[tokio::test]
    async fn who_waits_for_a_sync_and_who_makes_it_is_for_flush_to_say() {
        for (flush, waits, is_synced) in
            [("group", true, false), ("interval", false, true), ("never", false, false)]
        {
            let dir = tempfile::tempdir().unwrap();
            let config = configured(&[("flush", flush), ("flush.interval.ms", "10")]);
            let core = crate::broker::open(dir.path(), config, crate::broker::Clock::System).unwrap();
            assert_eq!(core.acks_wait_for_sync(), waits, "{flush}");
            core.create_topic("t".into(), 1, BTreeMap::new()).await.unwrap();
            let partition = one_record(&core, "t", 1);
            let upkeep = Upkeep::start(&core);
            let synced = async {
                while partition.span().unwrap().durable < 1 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            // Nobody asks for a sync: only an interval makes one.
            let patience = Duration::from_millis(if is_synced { 20_000 } else { 200 });
            assert_eq!(tokio::time::timeout(patience, synced).await.is_ok(), is_synced, "{flush}");
            upkeep.stop().await;
        }
    }
}
