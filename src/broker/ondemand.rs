//! Topics on demand: samples what their shards take, and carries out what follows from it.
//!
//! Deliberately absent: the decision (topic/ondemand.rs).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use uuid::Uuid;

use super::Core;
use crate::topic::config::ShardMode;
use crate::topic::ondemand::{History, SAMPLES};

/// What was sampled, by topic.
type Histories = HashMap<Uuid, History>;

impl Core {
    /// Runs until the broker stops.
    pub(super) async fn follow_demand(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let mut histories = Histories::new();
        loop {
            let window_ms = self.config().demand_settings().window_ms;
            let every = Duration::from_millis((window_ms / SAMPLES as u64).max(10));
            tokio::select! {
                _ = stopped.changed() => return,
                () = sleep(every) => {}
            }
            self.meet_demand(&mut histories).await;
        }
    }

    /// One sample of every topic on demand, and at most one change of each.
    async fn meet_demand(self: &Arc<Self>, histories: &mut Histories) {
        let on_demand = |topic: &Arc<crate::topic::Topic>| topic.config().shard_mode == ShardMode::OnDemand;
        let topics: Vec<_> = self.topics.all().into_iter().filter(on_demand).collect();
        histories.retain(|id, _| topics.iter().any(|topic| topic.id() == *id));
        let thresholds = self.config().demand_settings().thresholds;
        for topic in topics {
            let shards = topic.shards();
            let history = histories.entry(topic.id()).or_default();
            let written = |p| topic.partition(p).map_or(0, |p| p.written_bytes());
            history.sample(&shards, self.steady_ms(), &written);
            let unused = |p| topic.partition(p).is_ok_and(|p| !self.clients_write_to(&p));
            let Some(reshape) = history.decide(&shards, thresholds, &unused) else { continue };
            if let Err(error) = self.reshape(&topic, reshape.clone(), false).await {
                match self.lines.not_resharded.admit() {
                    Some(suppressed) => {
                        tracing::warn!(topic = %topic.name(), suppressed, "on demand: {reshape:?}: {error}");
                    }
                    None => tracing::debug!(topic = %topic.name(), "on demand: {reshape:?}: {error}"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::batch::Record;
    use crate::broker::{Change, Clock, Edit, Put, open};
    use crate::config::Config;

    #[tokio::test]
    async fn a_hot_stream_grows_a_cold_one_shrinks_and_a_provisioned_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(crate::broker::clock::Manual::default());
        clock.now_ms.store(1_700_000_000_000, Ordering::Relaxed);
        let core = open(dir.path(), Config::default(), Clock::Manual(Arc::clone(&clock))).unwrap();
        let mut histories = Histories::new();
        let create = |name: &str, mode: &str| {
            core.create_topic(name.into(), 4, [("shard.mode".to_owned(), mode.to_owned())].into())
        };
        let demand = create("demand", "on-demand").await.unwrap();
        let fixed = create("fixed", "provisioned").await.unwrap();
        let record = Record { value: Some(vec![0; 800_000].into()), ..Record::default() };
        let mut counts = Vec::new();
        for round in 0..40 {
            for topic in [&demand, &fixed] {
                let shards = topic.shards();
                let entries = shards.open().map(|s| Put { hash: s.start_hash, record: record.clone() });
                // 800 KB a second to each of the first shards, then nothing.
                let entries: Vec<_> = entries.take(if round < 20 { 5 } else { 0 }).collect();
                assert!(core.put(topic, entries).await.unwrap().iter().all(Result::is_ok));
            }
            clock.now_ms.fetch_add(1000, Ordering::Relaxed);
            core.meet_demand(&mut histories).await;
            counts.push(demand.shards().open_count());
            assert_eq!(fixed.shards().open_count(), 4);
        }
        let most = counts.iter().max().copied().unwrap();
        assert!(most >= 6, "{counts:?}");
        // Back to the least, one merge at a time.
        assert!(counts.windows(2).all(|pair| pair[0].abs_diff(pair[1]) <= 1), "{counts:?}");
        assert_eq!(counts.last(), Some(&4), "{counts:?}");
        let edit = Edit::Set("provisioned".to_owned());
        core.alter_topic_config(&demand, Change::Edit(vec![("shard.mode".to_owned(), edit)]), false).unwrap();
        core.meet_demand(&mut histories).await;
        assert!(histories.is_empty());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_hot_cold_few_and_many_is_for_the_configuration_to_say() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        for (key, value) in [
            ("shard.ondemand.window.ms", "300"),
            ("shard.ondemand.split.bytes.per.second", "1000"),
            ("shard.ondemand.merge.bytes.per.second", "500"),
            ("shard.ondemand.max.shards", "2"),
            ("shard.ondemand.min.shards", "1"),
        ] {
            config.set(key, value, crate::config::Source::CommandLine).unwrap();
        }
        let core = open(dir.path(), config, Clock::System).unwrap();
        let mode = [("shard.mode".to_owned(), "on-demand".to_owned())].into();
        let topic = core.create_topic("t".into(), 1, mode).await.unwrap();
        let upkeep = crate::broker::Upkeep::start(&core);
        let record = Record { value: Some(vec![0; 10_000].into()), ..Record::default() };
        let write = async || {
            let shards = topic.shards();
            let entries = shards.open().map(|s| Put { hash: s.start_hash, record: record.clone() }).collect();
            core.put(&topic, entries).await.unwrap();
            sleep(Duration::from_millis(2)).await;
        };
        let until = tokio::time::Instant::now() + Duration::from_secs(30);
        while topic.shards().open_count() != 2 {
            assert!(tokio::time::Instant::now() < until, "it does not grow");
            write().await;
        }
        for _ in 0..300 {
            write().await;
            assert_eq!(topic.shards().open_count(), 2, "as many as there may be");
        }
        while topic.shards().open_count() != 1 {
            assert!(tokio::time::Instant::now() < until, "it does not shrink");
            sleep(Duration::from_millis(10)).await;
        }
        upkeep.stop().await;
    }
}
