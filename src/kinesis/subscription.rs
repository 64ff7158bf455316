//! Subscriptions to shards: one per consumer and shard, events pushed as records come.
//!
//! A feed reads with a limit of its own, sleeps on the partition's high watermark and on changes of the shards, and
//! says something at least every five seconds, as clients expect. It lasts five minutes. A newer subscription takes
//! over once the present one is five seconds old. Dropping the response ends it: nothing else holds it.
//! Memory for an event is held before it is made, and it is as large as there is memory for.

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
use super::records::{put_record, sequence_of, weight};
use super::reply::Connection;
use super::sequence::Sequence;
use super::stream::{Consumer, Stream, shard_id};
use super::writer::{Form, Writer};
use crate::broker::{Fate, Got, GotRecord, Most, Operation, ReadCharge, Registration, Watermark};
use crate::listen::Lease;
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
/// What an event takes beside its records, how little room is worth a read, and how much it can want.
const FRAME_BYTES: usize = 1024;
const LEAST_BYTES: usize = 4 * 1024;
const WANT_BYTES: usize = 2 << 20;

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
    end: watch::Sender<Option<End>>,
}

/// Why a subscription ends before its time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Its consumer has a newer one.
    TakenOver,
    /// Its consumer is no more.
    Deregistered,
}

/// A subscription's place; given back when dropped.
struct Place {
    subscriptions: Arc<Subscriptions>,
    key: Key,
    id: u64,
    ended: watch::Receiver<Option<End>>,
}

impl Subscriptions {
    /// `now_ms` is of a time that does not jump.
    fn take(self: &Arc<Self>, key: Key, stream: &Stream, now_ms: i64) -> Result<Place, Fault> {
        let mut seats = self.seats.lock();
        if let Some(seat) = seats.get(&key) {
            if now_ms.saturating_sub(seat.since_ms) < TAKE_OVER_MS {
                return Err(taken(stream, key.3, &key.1));
            }
            // Whoever had it may be gone already.
            let _ = seat.end.send(Some(End::TakenOver));
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (end, ended) = watch::channel(None);
        seats.insert(key.clone(), Seat { id, since_ms: now_ms, end });
        Ok(Place { subscriptions: Arc::clone(self), key, id, ended })
    }

    /// Ends every subscription of a consumer that is no more.
    pub(super) fn end(&self, topic: Uuid, consumer: &Consumer) {
        let seats = self.seats.lock();
        let theirs = |key: &Key| (key.0, &key.1, key.2) == (topic, &consumer.name, consumer.created_s);
        for (_, seat) in seats.iter().filter(|(key, _)| theirs(key)) {
            let _ = seat.end.send(Some(End::Deregistered));
        }
    }
}

fn taken(stream: &Stream, shard: u32, consumer: &str) -> Fault {
    let (account, stream) = (&stream.account, stream.name());
    Fault::in_use(format!(
        "Another active subscription exists for this consumer: {account}:{stream}:{}:{consumer}",
        shard_id(shard)
    ))
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
    client: Arc<Connection>,
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

/// What a look at the shard brought.
enum Read {
    Tell(Shard, Got),
    /// The next record alone needs so much room.
    Heavy(usize),
    Refuse(Fault),
    Nothing(Arc<Partition>, i64, i64),
    Throttled(u64),
}

/// Why a feed has waited enough.
enum Woken {
    News,
    Silence,
    Ended(End),
    Over,
}

impl Feed {
    /// Takes the place of a consumer on a shard.
    pub(super) fn open(
        cx: &Context<'_>,
        stream: Stream,
        consumer: &Consumer,
        shard: &Shard,
        offset: i64,
    ) -> Result<Box<Self>, Fault> {
        let key = (stream.topic.id(), consumer.name.clone(), consumer.created_s, shard.id);
        let place = cx.shared.subscriptions.take(key, &stream, cx.shared.core.steady_ms())?;
        // Whoever deregisters it from here on ends this; whoever did so before is seen.
        cx.shared.streams.by_consumer_arn(&stream.consumer_arn(consumer), cx.region)?;
        Ok(Box::new(Self {
            shared: Arc::clone(cx.shared),
            client: Arc::clone(cx.client),
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
        let mut lease = self.client.answers.lease();
        let message = match self.stage {
            Stage::Over => return None,
            Stage::Opening => {
                self.stage = Stage::First;
                event::event("initial-response", self.form, &Writer::object(self.form, |_| {}))
            }
            Stage::First | Stage::Running => self.event(&mut lease).await?,
        };
        let message = self.client.owed(vec![message], lease).next()?;
        Some((message, self))
    }

    async fn event(&mut self, lease: &mut Lease) -> Option<Vec<u8>> {
        let mut least = LEAST_BYTES;
        loop {
            // One that has always something to say is not heard of in a wait.
            let end = *self.place.ended.borrow();
            if let Some(end) = end {
                return Some(self.end(end));
            }
            if Instant::now() >= self.until {
                return None;
            }
            // That may take long, and nothing is held meanwhile.
            match self.wait(self.opened()).await {
                Woken::News => {}
                // Nothing is known of the shard that could be said.
                Woken::Silence => continue,
                Woken::Ended(end) => return Some(self.end(end)),
                Woken::Over => return None,
            }
            // It may have to wait for what its own client has not taken; no longer than it lives.
            let grown = tokio::time::timeout_at(self.until, lease.grow(least, WANT_BYTES.max(least)));
            let room = grown.await.ok()?.saturating_sub(FRAME_BYTES);
            let wake = match self.read(room).await {
                Read::Tell(shard, got) => {
                    let used: usize = got.records.iter().map(|record| weight(self.form, record)).sum();
                    lease.shrink(used + FRAME_BYTES);
                    let core = Arc::clone(&self.shared.core);
                    return Some(core.work(Some(self.client.peer), used, || self.tell(&shard, got)).await);
                }
                Read::Heavy(weight) => {
                    lease.shrink(0);
                    least = weight + FRAME_BYTES;
                    continue;
                }
                Read::Refuse(fault) => return Some(self.refuse(&fault)),
                // Nothing is held while it sleeps.
                Read::Nothing(partition, seen, changes) => {
                    lease.shrink(0);
                    self.wait(news(&self.stream.topic, &partition, seen, changes)).await
                }
                Read::Throttled(wait_ms) => {
                    lease.shrink(0);
                    self.wait(tokio::time::sleep(Duration::from_millis(wait_ms))).await
                }
            };
            match wake {
                Woken::News => {}
                Woken::Silence => {
                    let shards = self.stream.topic.shards();
                    let quiet = Got { next_offset: self.offset, ..Got::default() };
                    return Some(match shards.by_id(self.shard) {
                        Some(shard) => self.tell(shard, quiet),
                        None => self.refuse(&self.stream.fault(&Error::UnknownShard(self.shard))),
                    });
                }
                Woken::Ended(end) => return Some(self.end(end)),
                Woken::Over => return None,
            }
        }
    }

    /// Its shard's log is open, or says at the read why not.
    async fn opened(&self) {
        let index = self.stream.topic.shards().by_id(self.shard).map(|shard| shard.partition);
        if let Some(Ok(partition)) = index.map(|index| self.stream.topic.partition(index)) {
            let _ = self.shared.core.open_log(&partition).await;
        }
    }

    /// Reads on, as far as there is `room` to tell it.
    async fn read(&mut self, room: usize) -> Read {
        let topic = Arc::clone(&self.stream.topic);
        let shards = topic.shards();
        let changes = topic.changes().value();
        let Some(shard) = shards.by_id(self.shard) else {
            return Read::Refuse(self.stream.fault(&Error::UnknownShard(self.shard)));
        };
        let partition = match topic.partition(shard.partition) {
            Ok(partition) => partition,
            Err(error) => return Read::Refuse(self.stream.fault_in(&error, self.shard)),
        };
        // Of the moment before the read: behind the end of a shard that is being closed there may be records of its child.
        let seen = partition.high_watermark().map_or(self.offset, |mark| mark.value().max(self.offset));
        let form = self.form;
        let weigh = |record: &GotRecord| weight(form, record);
        let most = Most {
            records: EVENT_RECORDS_MAX,
            bytes: EVENT_BYTES_MAX,
            weight: room,
            asker: Some(self.client.peer),
            weigh: &weigh,
        };
        let core = &self.shared.core;
        let got = core.get(&topic, shard, self.offset, &most, ReadCharge::Own(&self.bucket)).await;
        match got {
            Ok(Got { heavy: Some(weight), .. }) => Read::Heavy(weight),
            Ok(got) if got.at_end || !got.records.is_empty() || self.stage == Stage::First => {
                Read::Tell(shard.clone(), got)
            }
            Ok(got) => {
                // It may have looked through old records and not be at the tip.
                let seen = if got.behind_ms > 0 { got.next_offset - 1 } else { seen };
                self.offset = got.next_offset;
                Read::Nothing(partition, seen, changes)
            }
            Err(Error::Throttled { wait_ms, .. }) => Read::Throttled(wait_ms),
            Err(_) if self.shared.core.topics().by_id(topic.id()).is_none() => {
                Read::Refuse(self.stream.fault(&Error::UnknownTopicId))
            }
            Err(error) => Read::Refuse(self.stream.fault_in(&error, self.shard)),
        }
    }

    fn end(&mut self, end: End) -> Vec<u8> {
        let consumer = &self.place.key.1;
        let fault = match end {
            End::TakenOver => taken(&self.stream, self.shard, consumer),
            End::Deregistered => {
                Fault::not_found(format!("Consumer {consumer}, account {} not found.", self.stream.account))
            }
        };
        self.refuse(&fault)
    }

    async fn wait(&self, news: impl Future<Output = ()>) -> Woken {
        let mut ended = self.place.ended.clone();
        let silence = (Instant::now() + KEEP_ALIVE).min(self.until);
        let stopping = self.shared.stop.wait();
        tokio::select! {
            biased;
            end = ended.wait_for(Option::is_some) => {
                let end = end.ok().and_then(|end| *end);
                Woken::Ended(end.unwrap_or(End::Deregistered))
            }
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
        let (traits, mark) = (&self.stream.traits, self.stream.mark);
        let now_ms = self.shared.core.now_ms();
        let payload = Writer::object(self.form, |w| {
            w.list("Records", |w| {
                for record in &got.records {
                    w.item(|w| put_record(w, (mark, shard), record, traits));
                }
            });
            // The model calls it required, but KCL takes a shard for ended only without it.
            if !got.at_end {
                let time_ms = got.records.last().map_or(now_ms, |record| record.time_ms);
                let last = sequence_of(mark, shard, got.next_offset - 1, time_ms);
                // Good for AT and for AFTER.
                let last = Sequence { after: true, ..last };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::kinesis::door;
    use crate::listen::{Census, Doorway};

    /// A stream of one shard, and the door to it, which is open as long as it is held.
    async fn stream_and_door() -> (Arc<Shared>, Arc<Topic>, Doorway) {
        let config = Config::default();
        let settings = config.kinesis_settings().unwrap();
        let core = crate::broker::in_memory(config).unwrap();
        let topic = core.create_topic("s".into(), 1, [].into()).await.unwrap();
        let door = Doorway::new("kinesis", &Arc::<Census>::default());
        (Arc::new(door::shared(&core, settings, door.stop()).await.unwrap()), topic, door)
    }

    static NOTHING: Bytes = Bytes::new();

    fn context<'a>(shared: &'a Arc<Shared>, client: &'a Arc<Connection>) -> Context<'a> {
        Context {
            shared,
            client,
            place: 0,
            operation: &shared.operations[0],
            body: &NOTHING,
            region: "eu-west-1",
            form: Form::Json,
            now_ms: 0,
        }
    }

    async fn register(shared: &Shared) -> Consumer {
        let consumer = Consumer { name: "c".into(), created_s: 1, tags: [].into(), policy: None };
        let registered = |traits: &mut crate::kinesis::stream::Traits| {
            traits.consumers.push(consumer.clone());
            Ok(())
        };
        let stream = shared.streams.by_name("s", "eu-west-1").unwrap();
        shared.streams.change(&stream, registered).await.unwrap();
        consumer
    }

    #[tokio::test]
    async fn nothing_is_held_while_a_shard_opens_and_whoever_ends_it_waits_for_that_no_more() {
        let (shared, topic, _door) = stream_and_door().await;
        let client = shared.connection(([127, 0, 0, 1], 1).into());
        let consumer = register(&shared).await;
        let shard = topic.shards().by_id(0).unwrap().clone();
        let stream = shared.streams.by_name("s", "eu-west-1").unwrap();
        let feed = Feed::open(&context(&shared, &client), stream, &consumer, &shard, 0).unwrap();
        let (_, mut feed) = feed.next().await.unwrap();
        let before = client.answers.lease().budget().used();
        assert!(!topic.partition(0).unwrap().is_open());
        let mut lease = client.answers.lease();
        {
            let mut event = std::pin::pin!(feed.event(&mut lease));
            // Whoever opens it has not had a turn on this thread.
            let first = std::future::poll_fn(|cx| Poll::Ready(event.as_mut().poll(cx))).await;
            assert!(first.is_pending() && !topic.partition(0).unwrap().is_open());
            assert_eq!(client.answers.lease().budget().used(), before);
            shared.subscriptions.end(topic.id(), &consumer);
            let end = std::future::poll_fn(|cx| Poll::Ready(event.as_mut().poll(cx))).await;
            assert!(end.is_ready(), "it does not wait for the shard");
        }
        assert!(feed.stage == Stage::Over);
    }

    #[tokio::test]
    async fn a_consumer_that_went_after_it_was_looked_up_gets_no_subscription() {
        let (shared, topic, _door) = stream_and_door().await;
        let client = shared.connection(([127, 0, 0, 1], 1).into());
        let cx = context(&shared, &client);
        let consumer = register(&shared).await;
        let stream = || shared.streams.by_name("s", "eu-west-1").unwrap();
        let shard = topic.shards().by_id(0).unwrap().clone();
        let looked_up = stream();
        drop(Feed::open(&cx, stream(), &consumer, &shard, 0).unwrap());

        shared.streams.change(&stream(), |traits| traits.deregister(&consumer)).await.unwrap();
        // There was nothing to end.
        shared.subscriptions.end(topic.id(), &consumer);
        let refused = Feed::open(&cx, looked_up, &consumer, &shard, 0).err().unwrap();
        assert_eq!(refused.kind, Kind::ResourceNotFound);
        assert!(shared.subscriptions.seats.lock().is_empty());
    }
}
