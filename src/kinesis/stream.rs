//! A stream: a topic, and what only the Kinesis door knows of it.
//!
//! Owns: [`Traits`] (tags, consumers, policy, ...), which are kept beside the topic and cached here; ARNs;
//! how a request names a stream. A topic made through the Kafka door has the traits of a stream that nobody
//! touched.
//! Invariant: traits are durable before they are visible; changes of them happen one at a time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::document::Item;
use super::error::{Fault, of_topic};
use super::sequence::mark_of;
use super::shape::{Field, Pattern, consumer_of_resource, resource_of_arn};
use super::writer::{Form, Writer};
use super::{cbor, json};
use crate::broker::{Core, IncidentKind};
use crate::lock::{RwLock, rank};
use crate::topic::config::ShardMode;
use crate::topic::{Shard, Topic};

/// The name of the attachment.
const TRAITS: &str = "kinesis";
/// Longest time that a stream is CREATING (kinesis.create.delay.ms).
const CREATING_MAX_MS: i64 = 600_000;
/// Longest stream name; a topic with a longer one is no stream.
pub(super) const NAME_BYTES_MAX: usize = 128;

/// The three ways in which a request names a stream; the ARN counts when there are both.
pub(super) const STREAM_NAME: Field = Field::text("StreamName").between(1, 128).pattern(Pattern::Name);
pub(super) const STREAM_ARN: Field = Field::text("StreamARN").between(1, 2048).pattern(Pattern::StreamArn);
/// Reserved by the service; checked and not used.
pub(super) const STREAM_ID: Field = Field::text("StreamId").between(1, 24).pattern(Pattern::StreamId);

/// Where something happened, for messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) stream: &'a str,
    pub(super) account: &'a str,
    pub(super) shard: Option<u32>,
}

impl Place<'_> {
    pub(super) fn shard_id(&self) -> String {
        shard_id(self.shard.unwrap_or_default())
    }
}

/// The name of a shard.
pub(super) fn shard_id(id: u32) -> String {
    format!("shardId-{id:012}")
}

/// The id of a shard's name: `shardId-000000000007`, or a bare `7` as the service allows.
pub(super) fn parse_shard_id(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("shardId-").unwrap_or(text);
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// A registered consumer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Consumer {
    pub(super) name: String,
    pub(super) created_s: i64,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) policy: Option<String>,
}

impl Consumer {
    /// Whether it is the same one, whatever became of what is kept with it.
    fn is(&self, other: &Self) -> bool {
        (&self.name, self.created_s) == (&other.name, other.created_s)
    }
}

/// What the Kinesis door knows of a stream beyond its topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Traits {
    /// Whether records are spread without regard to their keys.
    pub(super) auto_distribution: bool,
    /// The key of an encrypted stream. A flag: nothing is encrypted.
    pub(super) key_id: Option<String>,
    /// Names of shard-level metrics, in the model's order.
    pub(super) metrics: Vec<String>,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) policy: Option<String>,
    pub(super) consumers: Vec<Consumer>,
    pub(super) warm_mibps: Option<i64>,
    pub(super) max_record_kib: i64,
    /// Until when the stream is CREATING, ms since the epoch.
    pub(super) creating_until_ms: i64,
}

impl Default for Traits {
    fn default() -> Self {
        Self {
            auto_distribution: false,
            key_id: None,
            metrics: Vec::new(),
            tags: BTreeMap::new(),
            policy: None,
            consumers: Vec::new(),
            warm_mibps: None,
            max_record_kib: 1024,
            creating_until_ms: 0,
        }
    }
}

/// Streams of deleted topics that are kept before anybody looks for them.
const UNSWEPT: usize = 64;

impl Traits {
    pub(super) fn consumer(&self, name: &str) -> Option<&Consumer> {
        self.consumers.iter().find(|c| c.name == name)
    }

    /// What is kept of a consumer that a request found before.
    ///
    /// # Errors
    /// `ResourceNotFoundException` when it is no more.
    pub(super) fn kept_of(&mut self, consumer: &Consumer) -> Result<&mut Consumer, Fault> {
        let found = self.consumers.iter_mut().find(|c| c.is(consumer));
        found.ok_or_else(|| Fault::not_found(format!("Consumer {} not found.", consumer.name)))
    }

    /// Forgets a consumer that a request found before.
    ///
    /// # Errors
    /// As [`Traits::kept_of`].
    pub(super) fn deregister(&mut self, consumer: &Consumer) -> Result<(), Fault> {
        self.kept_of(consumer)?;
        self.consumers.retain(|c| !c.is(consumer));
        Ok(())
    }

    pub(super) fn encryption_type(&self) -> &'static str {
        if self.key_id.is_some() { "KMS" } else { "NONE" }
    }

    /// As it is kept beside the topic: under what name, and in what bytes.
    pub(super) fn kept(&self) -> (&'static str, Bytes) {
        (TRAITS, self.encode().into())
    }

    fn encode(&self) -> Vec<u8> {
        let put_tags = |w: &mut Writer, tags: &BTreeMap<String, String>| {
            w.map("tags", |w| tags.iter().for_each(|(key, value)| w.text(key, value)));
        };
        Writer::object(Form::Cbor, |w| {
            w.integer("version", 1);
            w.boolean("auto_distribution", self.auto_distribution);
            w.optional("key_id", self.key_id.as_deref());
            w.texts("metrics", self.metrics.iter().map(String::as_str));
            put_tags(w, &self.tags);
            w.optional("policy", self.policy.as_deref());
            w.list("consumers", |w| {
                for consumer in &self.consumers {
                    w.item(|w| {
                        w.text("name", &consumer.name);
                        w.integer("created_s", consumer.created_s);
                        put_tags(w, &consumer.tags);
                        w.optional("policy", consumer.policy.as_deref());
                    });
                }
            });
            if let Some(warm) = self.warm_mibps {
                w.integer("warm_mibps", warm);
            }
            w.integer("max_record_kib", self.max_record_kib);
            w.integer("creating_until_ms", self.creating_until_ms);
        })
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let document = cbor::parse(bytes).ok()?;
        let root = document.root();
        let owned = |text: &str| text.to_owned();
        let tags = |item: Item<'_>| {
            let entries = item.field("tags").into_iter().flat_map(Item::entries);
            entries.filter_map(|(key, value)| Some((owned(key), owned(value.as_text()?)))).collect()
        };
        if root.integer("version")? != 1 {
            return None;
        }
        Some(Self {
            auto_distribution: root.bool("auto_distribution"),
            key_id: root.text("key_id").map(owned),
            metrics: root.texts("metrics").map(owned).collect(),
            tags: tags(root),
            policy: root.text("policy").map(owned),
            consumers: root
                .field("consumers")?
                .items()
                .map(|item| {
                    Some(Consumer {
                        name: owned(item.text("name")?),
                        created_s: item.integer("created_s")?,
                        tags: tags(item),
                        policy: item.text("policy").map(owned),
                    })
                })
                .collect::<Option<_>>()?,
            warm_mibps: root.integer("warm_mibps"),
            max_record_kib: root.integer("max_record_kib")?,
            creating_until_ms: root.integer("creating_until_ms")?,
        })
    }
}

/// A stream as one request sees it.
#[derive(Clone)]
pub(super) struct Stream {
    pub(super) topic: Arc<Topic>,
    pub(super) traits: Arc<Traits>,
    pub(super) arn: String,
    pub(super) account: Arc<str>,
    /// Of its sequence numbers.
    pub(super) mark: u8,
}

impl Stream {
    pub(super) fn name(&self) -> &str {
        self.topic.name()
    }

    pub(super) fn place(&self) -> Place<'_> {
        Place { stream: self.name(), account: &self.account, shard: None }
    }

    pub(super) fn fault(&self, error: &crate::topic::Error) -> Fault {
        of_topic(error, &self.place())
    }

    pub(super) fn fault_in(&self, error: &crate::topic::Error, shard: u32) -> Fault {
        of_topic(error, &Place { shard: Some(shard), ..self.place() })
    }

    pub(super) fn status(&self, now_ms: i64) -> &'static str {
        let left_ms = self.traits.creating_until_ms.saturating_sub(now_ms);
        // More than the key allows: the clock was set back.
        if (1..=CREATING_MAX_MS).contains(&left_ms) { "CREATING" } else { "ACTIVE" }
    }

    /// Refuses a change of a stream that is still being created.
    pub(super) fn settled(&self, now_ms: i64) -> Result<(), Fault> {
        let status = self.status(now_ms);
        if status == "ACTIVE" {
            return Ok(());
        }
        let Place { stream, account, .. } = self.place();
        Err(Fault::in_use(format!(
            "Stream {stream} under account {account} not ACTIVE, instead in state {status}"
        )))
    }

    /// Refuses data calls on a stream that is still being created.
    pub(super) fn serving(&self, now_ms: i64) -> Result<(), Fault> {
        if self.status(now_ms) == "ACTIVE" {
            Ok(())
        } else {
            Err(self.fault(&crate::topic::Error::UnknownTopic))
        }
    }

    /// Whether the broker decides how many shards there are.
    pub(super) fn on_demand(&self) -> bool {
        self.topic.config().shard_mode == ShardMode::OnDemand
    }

    pub(super) fn mode(&self) -> &'static str {
        if self.on_demand() { "ON_DEMAND" } else { "PROVISIONED" }
    }

    pub(super) fn retention_hours(&self) -> i64 {
        let ms = self.topic.config().retention_ms;
        if ms < 0 { 8760 } else { (ms / 3_600_000).max(1) }
    }

    /// Shards whose records may still be there, by id.
    pub(super) fn shards(&self, core: &Core) -> Vec<Shard> {
        let horizon_ms = core.horizon_ms(&self.topic);
        self.topic.shards().iter().filter(|shard| !is_over(shard, horizon_ms)).cloned().collect()
    }

    /// The shard of that name, if its records may still be there.
    pub(super) fn shard(&self, name: &str, core: &Core) -> Option<Shard> {
        self.shard_by_id(parse_shard_id(name)?, core)
    }

    /// The shard of that id, if its records may still be there.
    pub(super) fn shard_by_id(&self, id: u32, core: &Core) -> Option<Shard> {
        let horizon_ms = core.horizon_ms(&self.topic);
        self.topic.shards().by_id(id).filter(|shard| !is_over(shard, horizon_ms)).cloned()
    }

    /// The id of a shard that there is or was: a list may go on after one that has gone meanwhile.
    ///
    /// # Errors
    /// `ResourceNotFoundException` for one that never was.
    pub(super) fn past_or_present(&self, name: &str) -> Result<u32, Fault> {
        let last = self.topic.shards().iter().map(|shard| shard.id).max();
        let known = parse_shard_id(name).filter(|id| last.is_some_and(|last| *id <= last));
        known.ok_or_else(|| {
            Fault::not_found(format!(
                "Could not find shard {name} in stream {} under account {}.",
                self.name(),
                self.account
            ))
        })
    }

    pub(super) fn consumer_arn(&self, consumer: &Consumer) -> String {
        format!("{}/consumer/{}:{}", self.arn, consumer.name, consumer.created_s)
    }
}

/// Whether a shard was closed so long ago that none of its records is kept.
fn is_over(shard: &Shard, horizon_ms: i64) -> bool {
    shard.closed_ms.is_some_and(|closed| closed < horizon_ms)
}

/// Traits with the version that is kept, if one is.
type Known = (Option<u64>, Arc<Traits>);

/// Traits of all streams.
pub(super) struct Streams {
    core: Arc<Core>,
    account: Arc<str>,
    cache: RwLock<rank::StreamCache, HashMap<Uuid, Known>>,
    /// Serialises changes.
    changes: Arc<tokio::sync::Mutex<()>>,
}

impl Streams {
    pub(super) fn new(core: Arc<Core>, account: Arc<str>) -> Self {
        Self { core, account, cache: RwLock::default(), changes: Arc::default() }
    }

    pub(super) fn of(&self, topic: Arc<Topic>, region: &str) -> Result<Stream, Fault> {
        let account = Arc::clone(&self.account);
        let arn = format!("arn:aws:kinesis:{region}:{account}:stream/{}", topic.name());
        let (_, traits) = self.kept(topic.id()).map_err(|error| {
            of_topic(&error, &Place { stream: topic.name(), account: &account, shard: None })
        })?;
        let mark = mark_of(topic.id());
        Ok(Stream { topic, traits, arn, account, mark })
    }

    fn kept(&self, topic: Uuid) -> crate::topic::Result<Known> {
        if let Some(kept) = self.cache.read().get(&topic) {
            return Ok(kept.clone());
        }
        let kept = self.core.attachment(topic, TRAITS)?;
        let version = kept.as_ref().map(|(version, _)| *version);
        let traits = kept.map(|(_, bytes)| {
            Traits::decode(&bytes).unwrap_or_else(|| {
                let text = format_args!("what is kept of stream {topic} does not read: defaults are used");
                self.core.incidents().note(IncidentKind::StateFailed, &text);
                Traits::default()
            })
        });
        let entry = (version, Arc::new(traits.unwrap_or_default()));
        self.remember(topic, entry.clone());
        Ok(entry)
    }

    fn remember(&self, topic: Uuid, entry: Known) {
        let mut cache = self.cache.write();
        // Topics that were deleted leave when they have become as many as there are.
        if cache.len() >= 2 * self.core.topics().count() + UNSWEPT {
            cache.retain(|id, _| self.core.topics().by_id(*id).is_some());
        }
        cache.insert(topic, entry);
    }

    /// Changes the traits of a stream; durable and visible when it returns. Comes to its end also when the caller leaves: what
    /// is kept and what is remembered are one.
    pub(super) async fn change<T>(
        self: &Arc<Self>,
        stream: &Stream,
        edit: impl FnOnce(&mut Traits) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let one_at_a_time = Arc::clone(&self.changes).lock_owned().await;
        let topic = stream.topic.id();
        let (version, present) = self.kept(topic).map_err(|error| stream.fault(&error))?;
        let mut traits = Traits::clone(&present);
        let outcome = edit(&mut traits)?;
        if traits == *present {
            return Ok(outcome);
        }
        let streams = Arc::clone(self);
        let change = tokio::spawn(async move {
            let bytes = traits.encode().into();
            let version = streams.core.set_attachment(topic, TRAITS, bytes, version).await?;
            streams.remember(topic, (Some(version), Arc::new(traits)));
            drop(one_at_a_time);
            Ok(())
        });
        // It panicked: nothing is known about what it did.
        let changed = change.await.map_err(|_| Fault::internal())?;
        changed.map_err(|error| stream.fault(&error)).map(|()| outcome)
    }

    /// The stream of that name.
    pub(super) fn by_name(&self, name: &str, region: &str) -> Result<Stream, Fault> {
        let topic = self.core.topics().by_name(name).filter(|topic| !topic.is_internal());
        let topic = topic.ok_or_else(|| self.unknown(name))?;
        self.of(topic, region)
    }

    /// The stream that a request names by ARN or name.
    pub(super) fn named(&self, request: Item<'_>, region: &str) -> Result<Stream, Fault> {
        match (request.text("StreamARN"), request.text("StreamName")) {
            (Some(arn), _) => self.by_arn(arn, region),
            (None, Some(name)) => self.by_name(name, region),
            (None, None) => Err(Fault::invalid("Either StreamName or StreamARN must be provided.")),
        }
    }

    /// The stream of an ARN.
    pub(super) fn by_arn(&self, arn: &str, region: &str) -> Result<Stream, Fault> {
        let name = resource_of_arn(arn).and_then(|r| r.strip_prefix("stream/"));
        self.by_name(name.ok_or_else(|| self.unknown(arn))?, region)
    }

    /// The stream, and the consumer if it names one, of a resource's ARN.
    pub(super) fn by_resource(&self, arn: &str, region: &str) -> Result<(Stream, Option<Consumer>), Fault> {
        let resource = resource_of_arn(arn).unwrap_or_default();
        if consumer_of_resource(resource).is_some() {
            return self.by_consumer_arn(arn, region).map(|(stream, consumer)| (stream, Some(consumer)));
        }
        let name = resource.strip_prefix("stream/").unwrap_or(resource);
        let topic = self.core.topics().by_name(name).filter(|topic| !topic.is_internal());
        Ok((self.of(topic.ok_or_else(|| self.unknown(arn))?, region)?, None))
    }

    /// A consumer and its stream. A consumer that was registered anew under its name is another one.
    pub(super) fn by_consumer_arn(&self, arn: &str, region: &str) -> Result<(Stream, Consumer), Fault> {
        let unknown = || Fault::not_found(format!("Consumer {arn}, account {} not found.", self.account));
        let resource = resource_of_arn(arn).ok_or_else(unknown)?;
        let (stream, name, created) = consumer_of_resource(resource).ok_or_else(unknown)?;
        let stream = self.by_name(stream, region)?;
        let consumer = stream.traits.consumer(name).filter(|c| c.created_s.to_string() == created).cloned();
        Ok((stream, consumer.ok_or_else(unknown)?))
    }

    fn unknown(&self, stream: &str) -> Fault {
        Fault::not_found(format!("Stream {stream} under account {} not found.", self.account))
    }

    /// Every stream, by name.
    pub(super) fn all(&self) -> Vec<Arc<Topic>> {
        let mut all = self.core.topics().all();
        all.retain(|topic| !topic.is_internal() && topic.name().len() <= NAME_BYTES_MAX);
        all
    }
}

/// Whether a text is a JSON map, as a policy is.
pub(super) fn is_json_map(text: &str) -> bool {
    json::parse(text.as_bytes()).is_ok_and(|d| matches!(d.root().node(), super::document::Node::Map { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traits_read_back() {
        let tags = BTreeMap::from([("a".to_owned(), "b\"".to_owned()), ("c".to_owned(), String::new())]);
        let traits = Traits {
            key_id: Some("alias/k".into()),
            metrics: vec!["IncomingBytes".into()],
            tags: tags.clone(),
            policy: Some("{}".into()),
            consumers: vec![Consumer { name: "c".into(), created_s: 5, tags, policy: None }],
            warm_mibps: Some(4),
            max_record_kib: 2048,
            ..Traits::default()
        };
        assert_eq!(Traits::decode(&traits.encode()), Some(traits.clone()));
        assert_eq!(Traits::decode(&Traits::default().encode()), Some(Traits::default()));
        let bytes = traits.encode();
        for cut in 0..bytes.len() {
            assert_eq!(Traits::decode(&bytes[..cut]), None, "{cut}");
        }
    }

    #[tokio::test]
    async fn a_consumer_is_the_same_one_whatever_became_of_its_tags_and_another_of_its_name_is_not() {
        let core = crate::broker::in_memory(crate::config::Config::default()).unwrap();
        let topic = core.create_topic("s".into(), 1, BTreeMap::new()).await.unwrap();
        let streams = Arc::new(Streams::new(core, "000000000000".into()));
        let stream = streams.of(topic, "r").unwrap();
        let found = Consumer { name: "c".into(), created_s: 5, ..Consumer::default() };
        let add = |traits: &mut Traits| {
            traits.consumers.push(found.clone());
            Ok(())
        };
        streams.change(&stream, add).await.unwrap();
        // Somebody tags it between the look and the change.
        let tag = |traits: &mut Traits| {
            traits.kept_of(&found)?.tags.insert("k".into(), "v".into());
            Ok(())
        };
        streams.change(&stream, tag).await.unwrap();
        let later = Consumer { created_s: 6, ..found.clone() };
        assert!(streams.change(&stream, |traits| traits.deregister(&later)).await.is_err());
        streams.change(&stream, |traits| traits.deregister(&found)).await.unwrap();
        assert!(streams.by_name("s", "r").unwrap().traits.consumers.is_empty());
        assert!(streams.change(&stream, |traits| traits.deregister(&found)).await.is_err(), "it is no more");
    }

    #[tokio::test]
    async fn a_change_comes_to_its_end_when_nobody_waits_for_it_and_the_next_one_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let core =
            crate::broker::open(dir.path(), crate::config::Config::default(), crate::broker::Clock::System)
                .unwrap();
        let topic = core.create_topic("s".into(), 1, BTreeMap::new()).await.unwrap();
        let streams = Arc::new(Streams::new(Arc::clone(&core), "000000000000".into()));
        let stream = streams.of(topic, "r").unwrap();
        let tag = |key: &'static str| {
            move |traits: &mut Traits| {
                traits.tags.insert(key.to_owned(), String::new());
                Ok(())
            }
        };
        {
            let mut left = std::pin::pin!(streams.change(&stream, tag("a")));
            // Begun, and then nobody waits for it.
            let begun = std::future::poll_fn(|cx| std::task::Poll::Ready(left.as_mut().poll(cx))).await;
            assert!(begun.is_pending());
        }
        streams.change(&stream, tag("b")).await.unwrap();
        let tags: Vec<_> = streams.by_name("s", "r").unwrap().traits.tags.keys().cloned().collect();
        assert_eq!(tags, ["a", "b"]);
        core.close().unwrap();
    }

    #[test]
    fn a_shard_has_two_names() {
        assert_eq!(parse_shard_id("shardId-000000000012"), Some(12));
        assert_eq!(parse_shard_id("12"), Some(12));
        for text in ["", "shardId-", "shardId-x", "-1", "shardId-99999999999"] {
            assert_eq!(parse_shard_id(text), None, "{text}");
        }
        assert_eq!(shard_id(12), "shardId-000000000012");
    }
}
