//! Power cuts and failing calls at every call of the engine, through puts, produces and reshards.
//!
//! The engine here loses what was not synced when its power goes; the call under way may have reached the disk or
//! not. After each run the broker opens on what is left: what was acknowledged is there, once and in order per
//! key, every shard lies within its partition, the topic has what was created beside it, and everything goes on.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::tests::{by_key, put_of, record};
use super::*;
use crate::broker::{Clock, Wave};
use crate::config::Config;
use crate::store::memory::Memory;
use crate::store::{Capacity, Put as Kept, Versioned, Watermark};
use crate::store::{
    Error as Failure, Incidents, Log, LogId, LogOptions, Meta, Opened, Placed, Replayed, Segment, Slice,
    Span, Store,
};

/// Under what name something is kept beside the topic.
const BESIDE: &str = "kept";

/// What happens at the chosen call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The call fails, what comes later works.
    Fails,
    /// The power goes before the call did anything.
    CutBefore,
    /// The power goes when the call is through, and nobody hears of it.
    CutAfter,
    /// Nobody hears what became of the call, which is through, and what comes later works.
    Unheard,
}

struct Power {
    calls: AtomicUsize,
    at: usize,
    fault: Fault,
}

enum Call {
    Works,
    Fails,
    Unheard,
}

impl Power {
    fn call(&self) -> Call {
        let n = self.calls.fetch_add(1, Ordering::SeqCst);
        match self.fault {
            Fault::CutAfter | Fault::Unheard if n == self.at => Call::Unheard,
            Fault::Fails | Fault::Unheard if n != self.at => Call::Works,
            _ if n < self.at => Call::Works,
            _ => Call::Fails,
        }
    }
}

fn broken() -> Failure {
    Failure::Io { op: "test", path: "power".into(), source: Arc::new(std::io::Error::other("cut")) }
}

struct Perishable {
    inner: Memory,
    power: Arc<Power>,
    logs: Mutex<HashMap<LogId, Arc<PerishableLog>>>,
}

struct PerishableLog {
    inner: Arc<dyn Log>,
    power: Arc<Power>,
    durable: Watermark,
    placed: Mutex<Vec<Placed>>,
}

impl Perishable {
    fn new(at: usize, fault: Fault) -> Self {
        Self {
            inner: Memory::new(),
            power: Arc::new(Power { calls: AtomicUsize::new(0), at, fault }),
            logs: Mutex::default(),
        }
    }

    /// What the next owner of the disk finds.
    fn remains(&self) -> Memory {
        let left = Memory::new();
        for (key, kept) in self.inner.meta().list("").unwrap() {
            left.meta().put_if(&key, &kept.value, None).unwrap();
        }
        for (id, log) in &*self.logs.lock().unwrap() {
            let options =
                LogOptions { segment_bytes: 1 << 30, segment_ms: i64::MAX, index_interval_bytes: 4096 };
            let to = left.open_log(*id, options, &mut |_| {}).unwrap().log;
            for placed in log.placed.lock().unwrap().iter() {
                if placed.next_offset() <= log.durable.value() {
                    to.append(std::slice::from_ref(placed), 0).unwrap();
                }
            }
        }
        left
    }
}

impl Store for Perishable {
    fn open_log(
        &self,
        id: LogId,
        options: LogOptions,
        replay: &mut dyn FnMut(Replayed<'_>),
    ) -> store::Result<Opened> {
        let opened = self.inner.open_log(id, options, replay)?;
        let log = PerishableLog {
            inner: opened.log,
            power: Arc::clone(&self.power),
            durable: Watermark::new(0),
            placed: Mutex::default(),
        };
        let log = Arc::clone(self.logs.lock().unwrap().entry(id).or_insert_with(|| Arc::new(log)));
        Ok(Opened { log, note: opened.note })
    }

    fn delete_log(&self, id: LogId) -> store::Result<()> {
        self.inner.delete_log(id)
    }

    fn logs(&self) -> store::Result<Vec<LogId>> {
        self.inner.logs()
    }

    fn meta(&self) -> &dyn Meta {
        self
    }

    fn incidents(&self) -> &Arc<Incidents> {
        self.inner.incidents()
    }

    fn incarnation(&self) -> i32 {
        0
    }

    fn capacity(&self) -> Option<Capacity> {
        None
    }

    fn close(&self) -> store::Result<()> {
        Ok(())
    }
}

impl Meta for Perishable {
    fn get(&self, key: &str) -> store::Result<Option<Versioned>> {
        self.inner.meta().get(key)
    }

    fn put_if(&self, key: &str, value: &[u8], expected: Option<u64>) -> store::Result<Kept> {
        match self.power.call() {
            Call::Works => self.inner.meta().put_if(key, value, expected),
            Call::Fails => Err(broken()),
            Call::Unheard => self.inner.meta().put_if(key, value, expected).map(|_| Kept::Unknown),
        }
    }

    fn delete_if(&self, key: &str, expected: u64) -> store::Result<Kept> {
        self.inner.meta().delete_if(key, expected)
    }

    fn list(&self, prefix: &str) -> store::Result<Vec<(String, Versioned)>> {
        self.inner.meta().list(prefix)
    }
}

impl Log for PerishableLog {
    fn append(&self, batches: &[Placed], now_ms: i64) -> store::Result<()> {
        if self.durable.is_fenced() {
            return Err(Failure::Fenced);
        }
        match self.power.call() {
            Call::Works => {}
            Call::Fails | Call::Unheard => return Err(broken()),
        }
        self.inner.append(batches, now_ms)?;
        self.placed.lock().unwrap().extend_from_slice(batches);
        Ok(())
    }

    fn sync(&self) {
        let end = self.inner.span().end;
        if end == self.durable.value() {
            return;
        }
        match self.power.call() {
            Call::Works => self.durable.advance(end),
            Call::Fails => self.durable.fence(),
            Call::Unheard => {
                self.durable.advance(end);
                self.durable.fence();
            }
        }
    }

    fn read(&self, offset: i64, max_bytes: usize, min_one_message: bool, until: i64) -> store::Result<Slice> {
        self.inner.read(offset, max_bytes, min_one_message, until)
    }

    fn seek_time(&self, timestamp: i64, from: i64) -> store::Result<Option<i64>> {
        self.inner.seek_time(timestamp, from)
    }

    fn max_timestamp(&self, from: i64) -> store::Result<Option<(i64, i64)>> {
        self.inner.max_timestamp(from)
    }

    fn trim_to(&self, offset: i64) -> store::Result<()> {
        self.inner.trim_to(offset)
    }

    fn span(&self) -> Span {
        Span { durable: self.durable.value(), ..self.inner.span() }
    }

    fn segments(&self) -> Vec<Segment> {
        self.inner.segments()
    }

    fn durable(&self) -> &Watermark {
        &self.durable
    }

    fn seal(&self) -> store::Result<()> {
        self.inner.seal()
    }

    fn checkpoint(&self, note: &[u8]) -> store::Result<()> {
        self.inner.checkpoint(note)
    }

    fn set_options(&self, options: LogOptions) {
        self.inner.set_options(options);
    }
}

/// What the clients know.
#[derive(Default)]
struct Model {
    /// Values that were acknowledged, by key.
    acked: HashMap<String, Vec<u64>>,
    round: u64,
}

const KEYS: usize = 12;

/// A round of puts, and one batch of a Kafka producer per partition, which asks for no sync.
async fn write(core: &Arc<Core>, topic: &Arc<Topic>, model: &mut Model) {
    let round = model.round;
    model.round += 1;
    let mut wave = Wave::default();
    for partition in topic.partitions().iter() {
        let mut builder = Builder::new();
        // Its key space is nobody's: Kafka clients choose partitions by themselves.
        builder.push(Record { key: None, ..record("", round) });
        wave.push(Arc::clone(partition), builder.build().unwrap());
    }
    wave.commit(core.now_ms());
    let entries = (0..KEYS).map(|key| put_of(&format!("k{key}"), round)).collect();
    let Ok(outcomes) = core.put(topic, entries).await else { return };
    for (key, outcome) in outcomes.iter().enumerate() {
        if outcome.is_ok() {
            model.acked.entry(format!("k{key}")).or_default().push(round);
        }
    }
}

/// Goes on whatever fails, as clients do.
async fn live(core: &Arc<Core>, model: &mut Model) {
    let beside = vec![(BESIDE, Bytes::from_static(b"traits"))];
    let Ok(topic) = core.create_topic_with("t".into(), 2, BTreeMap::new(), beside).await else { return };
    write(core, &topic, model).await;
    let first = |topic: &Topic| topic.shards().open().next().map_or(0, |s| s.id);
    let _ = core.split_shard(&topic, first(&topic), 12_345).await;
    write(core, &topic, model).await;
    let _ = core.scale_shards(&topic, 3, true).await;
    write(core, &topic, model).await;
    let pair: Vec<u32> = topic.shards().open().map(|s| s.id).take(2).collect();
    if let [one, other] = pair[..] {
        let _ = core.merge_shards(&topic, one, other, true).await;
    }
    write(core, &topic, model).await;
    let _ = core.scale_shards(&topic, 1, true).await;
    write(core, &topic, model).await;
    let _ = core.grow_shards(&topic, 5).await;
    write(core, &topic, model).await;
    if model.acked.values().all(|values| values.len() == 6) {
        // Nothing failed so far: the broker that wrote sees what a reader sees.
        check(core, &topic, model, "live");
    }
}

fn check(core: &Arc<Core>, topic: &Arc<Topic>, model: &Model, when: &str) {
    for shard in topic.shards().iter() {
        let end = topic.partition(shard.partition).unwrap().span().unwrap().end;
        assert!(
            shard.from <= end && shard.until.is_none_or(|until| until <= end),
            "{when}: {shard:?} past {end}"
        );
    }
    let read = by_key(core, topic);
    for (key, acked) in &model.acked {
        let seen = read.get(key.as_bytes()).map_or(&[][..], Vec::as_slice);
        assert!(
            seen.windows(2).all(|pair| pair[0] < pair[1]),
            "{when}: {key} out of order or twice: {seen:?}"
        );
        let lost: Vec<_> = acked.iter().filter(|value| !seen.contains(value)).collect();
        assert!(lost.is_empty(), "{when}: {key} lost {lost:?} of {acked:?}: {seen:?}");
    }
}

async fn run(at: usize, fault: Fault) -> usize {
    let when = format!("{fault:?} at {at}");
    let store = Arc::new(Perishable::new(at, fault));
    let mut model = Model::default();
    let open = |store: Arc<dyn Store>| {
        crate::broker::open::open_on(store, "memory".into(), Config::default(), Clock::System)
    };
    if let Ok(core) = open(Arc::clone(&store) as Arc<dyn Store>) {
        live(&core, &mut model).await;
    }
    let calls = store.power.calls.load(Ordering::SeqCst);
    let core = open(Arc::new(store.remains())).unwrap();
    let Some(topic) = core.topics().by_name("t") else {
        assert!(model.acked.is_empty(), "{when}: the topic is gone");
        let left = core.store.meta().list("attachment/").unwrap();
        assert!(left.is_empty(), "{when}: what stood beside it is not");
        return calls;
    };
    assert!(core.attachment(topic.id(), BESIDE).unwrap().is_some(), "{when}: the topic is there alone");
    check(&core, &topic, &model, &when);
    // And on: every shard takes records, splits and merges.
    write(&core, &topic, &mut model).await;
    core.scale_shards(&topic, 4, true).await.unwrap();
    write(&core, &topic, &mut model).await;
    assert!(
        model.acked.values().all(|values| values.ends_with(&[model.round - 2, model.round - 1])),
        "{when}"
    );
    check(&core, &topic, &model, &when);
    calls
}

#[tokio::test]
async fn no_call_of_the_engine_can_fail_so_that_a_reshard_loses_or_doubles_or_reorders() {
    let calls = run(usize::MAX, Fault::Fails).await;
    assert!(calls > 40, "{calls} calls are too few to show anything");
    for fault in [Fault::Fails, Fault::CutBefore, Fault::CutAfter, Fault::Unheard] {
        for at in 0..calls {
            run(at, fault).await;
        }
    }
}
