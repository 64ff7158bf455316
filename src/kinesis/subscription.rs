//! Subscriptions to shards: one per consumer and shard, events pushed as records come.
//!
//! A feed reads with a limit of its own, sleeps on the partition's high watermark and on changes of the shards, and
//! says something at least every five seconds, as clients expect. It lasts five minutes. A newer subscription takes
//! over once the present one is five seconds old. Dropping the response ends it: nothing else holds it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use super::action::{Context, Shared, child_shards};
use super::error::{Fault, Kind};
use super::event;
use super::records::put_record;
use super::sequence::Sequence;
use super::stream::Stream;
use super::writer::{Form, Writer};
use crate::broker::{Fate, Got, Operation, ReadCharge, Registration, Watermark};
use crate::lock::{Mutex, rank};
use crate::quota::Bucket;
use crate::topic::{Error, Partition, Shard, Topic};

/// How long a subscription lasts.
const LIFE: Duration = Duration::from_secs(300);
/// How long nothing may be said.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Age at which a subscription may be taken over, ms.
const TAKE_OVER_MS: i64 = 5_000;
/// Most bytes of keys and values in one event.
const EVENT_BYTES_MAX: usize = 1 << 20;
const EVENT_RECORDS_MAX: usize = 10_000;

/// Topic, consumer, its creation second, shard.
type Key = (Uuid, String, i64, u32);

/// Who is subscribed.
#[derive(Default)]
pub(super) struct Subscriptions {
    seats: Mutex<rank::Seats, HashMap<Key, Seat>>,
    next: AtomicU64,
}

struct Seat {
    id: u64,
    since_ms: i64,
    end: watch::Sender<bool>,
}

/// A subscription's place; given back when dropped.
struct Place {
    subscriptions: Arc<Subscriptions>,
    key: Key,
    id: u64,
    ended: watch::Receiver<bool>,
}

impl Subscriptions {
    /// `now_ms` is of a time that does not jump.
    fn take(self: &Arc<Self>, key: Key, now_ms: i64) -> Result<Place, Fault> {
        let mut seats = self.seats.lock();
        if let Some(seat) = seats.get(&key) {
            if now_ms.saturating_sub(seat.since_ms) < TAKE_OVER_MS {
                return Err(Fault::in_use(format!(
                    "Another active subscription exists for this consumer: {} and shard: {}",
                    key.1,
                    super::stream::shard_id(key.3)
                )));
            }
            // Whoever had it may be gone already.
            let _ = seat.end.send(true);
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (end, ended) = watch::channel(false);
        seats.insert(key.clone(), Seat { id, since_ms: now_ms, end });
        Ok(Place { subscriptions: Arc::clone(self), key, id, ended })
    }

    /// Ends every subscription of a consumer that is no more.
    pub(super) fn end(&self, topic: Uuid, consumer: &str) {
        let seats = self.seats.lock();
        for (_, seat) in seats.iter().filter(|(key, _)| key.0 == topic && key.1 == consumer) {
            let _ = seat.end.send(true);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut seats = self.subscriptions.seats.lock();
        if seats.get(&self.key).is_some_and(|seat| seat.id == self.id) {
            seats.remove(&self.key);
        }
    }
}

/// A running subscription.
pub(super) struct Feed {
    shared: Arc<Shared>,
    operation: Arc<Operation>,
    stream: Stream,
    shard: u32,
    offset: i64,
    form: Form,
    bucket: Bucket,
    place: Place,
    until: Instant,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The response's own fields come first.
    Opening,
    /// The first event comes at once, with or without records.
    First,
    Running,
    Over,
}

/// Why a feed has waited enough.
enum Woken {
    News,
    Silence,
    TakenOver,
    Over,
}

impl Feed {
    /// Takes the place of a consumer on a shard.
    pub(super) fn open(
        cx: &Context<'_>,
        stream: Stream,
        consumer: (&str, i64),
        shard: &Shard,
        offset: i64,
    ) -> Result<Box<Self>, Fault> {
        let key = (stream.topic.id(), consumer.0.to_owned(), consumer.1, shard.id);
        let place = cx.shared.subscriptions.take(key, cx.shared.core.steady_ms())?;
        Ok(Box::new(Self {
            shared: Arc::clone(cx.shared),
            operation: Arc::clone(cx.operation),
            stream,
            shard: shard.id,
            offset,
            form: cx.form,
            bucket: Bucket::default(),
            place,
            until: Instant::now() + LIFE,
            stage: Stage::Opening,
        }))
    }

    /// The next message, and the feed to go on with.
    pub(super) async fn next(mut self: Box<Self>) -> Option<(Bytes, Box<Self>)> {
        let message = match self.stage {
            Stage::Over => return None,
            Stage::Opening => {
                self.stage = Stage::First;
                event::event("initial-response", self.form, &Writer::object(self.form, |_| {}))
            }
            Stage::First | Stage::Running => self.event().await?,
        };
        Some((message.into(), self))
    }

    async fn event(&mut self) -> Option<Vec<u8>> {
        loop {
            let shards = self.stream.topic.shards();
            let changes = self.stream.topic.changes().value();
            let Some(shard) = shards.by_id(self.shard) else {
                return Some(self.refuse(&self.stream.fault(&Error::UnknownShard(self.shard))));
            };
            let charge = ReadCharge::Own(&self.bucket);
            let core = &self.shared.core;
            let topic = &self.stream.topic;
            let partition = topic.partition(shard.partition).ok()?;
            // Of the moment before the read: behind the end of a shard that is being closed there may be records of its child.
            let seen = partition.high_watermark().map_or(self.offset, |mark| mark.value().max(self.offset));
            let wake = match core.get(topic, shard, self.offset, EVENT_RECORDS_MAX, EVENT_BYTES_MAX, charge) {
                Ok(got) if got.at_end || !got.records.is_empty() || self.stage == Stage::First => {
                    return Some(self.tell(shard, got));
                }
                Ok(got) => {
                    self.offset = got.next_offset;
                    self.wait(news(topic, &partition, seen, changes)).await
                }
                Err(Error::Throttled { wait_ms, .. }) => {
                    self.wait(tokio::time::sleep(Duration::from_millis(wait_ms))).await
                }
                Err(error) => {
                    let fault = self.stream.fault_in(&error, self.shard);
                    return Some(self.refuse(&fault));
                }
            };
            match wake {
                Woken::News => {}
                Woken::Silence => {
                    let quiet = Got { next_offset: self.offset, ..Got::default() };
                    return Some(self.tell(shard, quiet));
                }
                Woken::TakenOver => {
                    let fault = Fault::in_use("A newer subscription of this consumer took over this shard.");
                    return Some(self.refuse(&fault));
                }
                Woken::Over => return None,
            }
        }
    }

    async fn wait(&self, news: impl Future<Output = ()>) -> Woken {
        let mut ended = self.place.ended.clone();
        let silence = (Instant::now() + KEEP_ALIVE).min(self.until);
        let stopping = self.shared.stop.wait();
        tokio::select! {
            biased;
            _ = ended.wait_for(|ended| *ended) => Woken::TakenOver,
            () = stopping => Woken::Over,
            () = news => Woken::News,
            () = tokio::time::sleep_until(silence) => {
                if Instant::now() >= self.until { Woken::Over } else { Woken::Silence }
            }
        }
    }

    fn tell(&mut self, shard: &Shard, got: Got) -> Vec<u8> {
        self.stage = if got.at_end { Stage::Over } else { Stage::Running };
        self.offset = got.next_offset;
        self.operation.records(Fate::Read, got.records.len());
        let traits = &self.stream.traits;
        let now_s = self.shared.core.now_ms().div_euclid(1000);
        let payload = Writer::object(self.form, |w| {
            w.list("Records", |w| {
                for record in &got.records {
                    w.item(|w| put_record(w, shard, record, traits));
                }
            });
            // The model calls it required, but KCL takes a shard for ended only without it.
            if !got.at_end {
                let last = Sequence {
                    created_s: shard.created_s,
                    shard: shard.id,
                    offset: got.next_offset - 1,
                    second: got.records.last().map_or(now_s, |record| record.time_ms.div_euclid(1000)),
                };
                w.text("ContinuationSequenceNumber", last.digits().as_str());
            }
            w.integer("MillisBehindLatest", got.behind_ms);
            if got.at_end {
                child_shards(w, &self.stream, shard);
            }
        });
        event::event("SubscribeToShardEvent", self.form, &payload)
    }

    fn refuse(&mut self, fault: &Fault) -> Vec<u8> {
        self.stage = Stage::Over;
        // The model knows few in the stream.
        let kind = match fault.kind {
            Kind::ResourceInUse | Kind::ResourceNotFound => fault.kind,
            _ => Kind::InternalFailure,
        };
        let payload = Writer::object(self.form, |w| w.text("message", &fault.message));
        event::exception(kind.name(), self.form, &payload)
    }
}

/// Completes when something stands behind `offset` or the shards have changed since `changes`.
async fn news(topic: &Topic, partition: &Partition, offset: i64, changes: i64) {
    let Ok(records) = partition.high_watermark() else { return };
    let mut waits =
        Waits { marks: [(records, offset + 1), (topic.changes(), changes + 1)], places: Default::default() };
    std::future::poll_fn(|cx| {
        let Waits { marks, places } = &mut waits;
        let mut ready = false;
        for ((mark, target), place) in marks.iter().zip(places) {
            // A mark that will never move is news too: the topic is gone.
            ready |= mark.poll_reach(*target, place, cx.waker()).is_ready();
        }
        if ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

struct Waits<'a> {
    marks: [(&'a Watermark, i64); 2],
    places: [Registration; 2],
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        for ((mark, _), place) in self.marks.iter().zip(&mut self.places) {
            mark.forget(place);
        }
    }
}
