//! The table of actions: one line per operation; dispatch, the README and the tests read it.
//!
//! To add an action: one file here whose head is its contract, one `mod` line, one table line.
//! An action gets a request that its table of fields has accepted, and answers a body or a refusal.
//! Deliberately absent: HTTP (`exchange.rs`), the two forms of a body (`json.rs`, `cbor.rs`, `writer.rs`).

mod add_tags_to_stream;
mod create_stream;
mod decrease_stream_retention_period;
mod delete_resource_policy;
mod delete_stream;
mod deregister_stream_consumer;
mod describe_account_settings;
mod describe_limits;
mod describe_stream;
mod describe_stream_consumer;
mod describe_stream_summary;
mod disable_enhanced_monitoring;
mod enable_enhanced_monitoring;
mod get_records;
mod get_resource_policy;
mod get_shard_iterator;
mod increase_stream_retention_period;
mod list_shards;
mod list_stream_consumers;
mod list_streams;
mod list_tags_for_resource;
mod list_tags_for_stream;
mod merge_shards;
mod put_record;
mod put_records;
mod put_resource_policy;
mod register_stream_consumer;
mod remove_tags_from_stream;
mod split_shard;
mod start_stream_encryption;
mod stop_stream_encryption;
mod subscribe_to_shard;
mod tag_resource;
mod untag_resource;
mod update_account_settings;
mod update_max_record_size;
mod update_shard_count;
mod update_stream_mode;
mod update_stream_record_distribution_strategy;
mod update_stream_warm_throughput;

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::document::Item;
pub(super) use super::door::Shared;
use super::error::{Fault, Kind};
use super::reply::{Answer, Connection};
use super::sequence::Sequence;
use super::shape::Field;
use super::stream::{Stream, shard_id};
use super::writer::{Form, Writer};
use crate::broker::{Change, Edit, Operation};
use crate::topic::{Error, Partition, Shard};

const DAY_MS: i64 = 86_400_000;
/// Most bytes of an answer that is not a list.
const ANSWER_BYTES: usize = 4 * 1024;

/// What an action may use to answer.
pub(super) struct Context<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) client: &'a Arc<Connection>,
    /// The operation's place in the table.
    pub(super) place: usize,
    /// Where this call is counted.
    pub(super) operation: &'a Arc<Operation>,
    /// The whole body: what is kept of it is a slice.
    pub(super) body: &'a Bytes,
    /// Of the request's signature.
    pub(super) region: &'a str,
    pub(super) form: Form,
    pub(super) now_ms: i64,
}

type BoxFuture<'a> = Pin<Box<dyn Future<Output = Result<Answer, Fault>> + Send + 'a>>;

/// A line of the table.
pub(super) struct Entry {
    pub(super) name: &'static str,
    pub(super) fields: &'static [Field],
    /// Calls per second that the service allows; none for data calls, which shards limit.
    pub(super) rate: Option<u32>,
    pub(super) per: Per,
    pub(super) answer: How,
    /// Whether requests carry records.
    pub(super) takes_data: bool,
    /// About the most that the answer to a request takes; nothing where the action asks for it itself.
    pub(super) room: fn(Item<'_>) -> usize,
}

impl Entry {
    const fn new(
        name: &'static str,
        fields: &'static [Field],
        rate: Option<u32>,
        per: Per,
        answer: How,
    ) -> Self {
        Self { name, fields, rate, per, answer, takes_data: false, room: |_| ANSWER_BYTES }
    }

    const fn taking_data(self) -> Self {
        Self { takes_data: true, ..self }
    }

    const fn room(self, room: fn(Item<'_>) -> usize) -> Self {
        Self { room, ..self }
    }
}

/// What a rate is for. That of an account is held before the action, any other by the action, which knows what it names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Per {
    Account,
    Stream,
    Shard,
    /// A consumer on a shard.
    Reader,
}

/// How an action answers: what it has to wait for is a change that becomes durable, or a log that is opened.
pub(super) enum How {
    AtOnce(fn(&Context<'_>, Item<'_>) -> Result<Answer, Fault>),
    Later(for<'a> fn(&'a Context<'a>, Item<'a>) -> BoxFuture<'a>),
}

macro_rules! at_once {
    ($module:ident, $name:literal, $rate:expr) => {
        at_once!($module, $name, $rate, Per::Account)
    };
    ($module:ident, $name:literal, $rate:expr, $per:expr) => {
        Entry::new($name, $module::FIELDS, $rate, $per, How::AtOnce($module::answer))
    };
}

macro_rules! later {
    ($module:ident, $name:literal, $rate:expr) => {
        later!($module, $name, $rate, Per::Account)
    };
    ($module:ident, $name:literal, $rate:expr, $per:expr) => {
        Entry::new(
            $name,
            $module::FIELDS,
            $rate,
            $per,
            How::Later(|cx, request| Box::pin($module::answer(cx, request))),
        )
    };
}

/// Every operation that this door serves, by name.
pub(super) const TABLE: &[Entry] = &[
    later!(add_tags_to_stream, "AddTagsToStream", Some(5)),
    later!(create_stream, "CreateStream", Some(5)),
    later!(decrease_stream_retention_period, "DecreaseStreamRetentionPeriod", Some(5)),
    later!(delete_resource_policy, "DeleteResourcePolicy", Some(5)),
    later!(delete_stream, "DeleteStream", Some(5)),
    later!(deregister_stream_consumer, "DeregisterStreamConsumer", Some(5), Per::Stream),
    at_once!(describe_account_settings, "DescribeAccountSettings", Some(5)),
    at_once!(describe_limits, "DescribeLimits", Some(1)),
    at_once!(describe_stream, "DescribeStream", Some(10)).room(|_| describe_stream::ROOM),
    at_once!(describe_stream_consumer, "DescribeStreamConsumer", Some(20), Per::Stream),
    at_once!(describe_stream_summary, "DescribeStreamSummary", Some(20)),
    later!(disable_enhanced_monitoring, "DisableEnhancedMonitoring", Some(5)),
    later!(enable_enhanced_monitoring, "EnableEnhancedMonitoring", Some(5)),
    later!(get_records, "GetRecords", None).room(|_| 0),
    at_once!(get_resource_policy, "GetResourcePolicy", Some(5)).room(|_| get_resource_policy::ROOM),
    later!(get_shard_iterator, "GetShardIterator", Some(5), Per::Shard),
    later!(increase_stream_retention_period, "IncreaseStreamRetentionPeriod", Some(5)),
    at_once!(list_shards, "ListShards", Some(1000), Per::Stream).room(|_| list_shards::ROOM),
    at_once!(list_stream_consumers, "ListStreamConsumers", Some(5), Per::Stream)
        .room(|_| list_stream_consumers::ROOM),
    at_once!(list_streams, "ListStreams", Some(5)).room(|_| list_streams::ROOM),
    at_once!(list_tags_for_resource, "ListTagsForResource", Some(5)).room(|_| tag_resource::ROOM),
    at_once!(list_tags_for_stream, "ListTagsForStream", Some(5)).room(|_| tag_resource::ROOM),
    later!(merge_shards, "MergeShards", Some(5)),
    later!(put_record, "PutRecord", None).taking_data(),
    later!(put_records, "PutRecords", None).taking_data().room(put_records::room),
    later!(put_resource_policy, "PutResourcePolicy", Some(5)),
    later!(register_stream_consumer, "RegisterStreamConsumer", Some(5)),
    later!(remove_tags_from_stream, "RemoveTagsFromStream", Some(5)),
    later!(split_shard, "SplitShard", Some(5)),
    later!(start_stream_encryption, "StartStreamEncryption", Some(5)),
    later!(stop_stream_encryption, "StopStreamEncryption", Some(5)),
    later!(subscribe_to_shard, "SubscribeToShard", Some(1), Per::Reader).room(|_| 0),
    later!(tag_resource, "TagResource", Some(5)),
    later!(untag_resource, "UntagResource", Some(5)),
    later!(update_account_settings, "UpdateAccountSettings", Some(5)),
    later!(update_max_record_size, "UpdateMaxRecordSize", Some(5)),
    later!(update_shard_count, "UpdateShardCount", Some(10)),
    later!(update_stream_mode, "UpdateStreamMode", Some(5)),
    later!(update_stream_record_distribution_strategy, "UpdateStreamRecordDistributionStrategy", Some(5)),
    later!(update_stream_warm_throughput, "UpdateStreamWarmThroughput", Some(5)),
];

/// Operations of the service's queues and channels, which are not built.
const NOT_BUILT: &[&str] = &[
    "AcknowledgeDeadLetterQueueRecords",
    "AcknowledgeQueueRecords",
    "CreateChannel",
    "CreateQueue",
    "DeleteChannel",
    "DeleteQueue",
    "DescribeChannel",
    "DescribeQueue",
    "ListChannels",
    "ListQueues",
    "ReceiveDeadLetterQueueRecords",
    "ReceiveQueueRecords",
    "RestoreDeadLetterQueueRecords",
    "UpdateChannel",
    "UpdateDeadLetterQueueRecordsVisibility",
    "UpdateQueue",
    "UpdateQueueRecordsVisibility",
];

#[allow(clippy::indexing_slicing, reason = "at compile time a bad index stops the build")]
const _: () = {
    let mut at = 1;
    while at < TABLE.len() {
        assert!(
            is_below(TABLE[at - 1].name.as_bytes(), TABLE[at].name.as_bytes()),
            "the table is not sorted"
        );
        at += 1;
    }
};

#[allow(clippy::indexing_slicing, reason = "both lengths are checked")]
const fn is_below(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() {
        if one[at] != other[at] {
            return one[at] < other[at];
        }
        at += 1;
    }
    one.len() < other.len()
}

/// The place of an operation in the table.
///
/// # Errors
/// `UnknownOperationException`.
pub(super) fn find(name: &str) -> Result<usize, Fault> {
    TABLE.binary_search_by(|entry| entry.name.cmp(name)).map_err(|_| {
        let why = if NOT_BUILT.contains(&name) {
            format!("{name} is not built yet: weir has no queues and no channels")
        } else {
            String::new()
        };
        Fault::new(Kind::UnknownOperation, why)
    })
}

/// Name and rate (calls per second) of every operation served, by name.
pub fn supported_actions() -> impl Iterator<Item = (&'static str, Option<u32>)> {
    TABLE.iter().map(|entry| (entry.name, entry.rate))
}

impl Context<'_> {
    /// The stream that the request names.
    fn stream(&self, request: Item<'_>) -> Result<Stream, Fault> {
        self.shared.streams.named(request, self.region)
    }

    /// The stream that the request names, and means: there may have been another of its name before. To the second, as most
    /// clients keep a time.
    fn stream_created(&self, request: Item<'_>) -> Result<Stream, Fault> {
        let stream = self.stream(request)?;
        let second = |ms: i64| ms.div_euclid(1000);
        match request.time_ms("StreamCreationTimestamp") {
            Some(ms) if second(ms) != second(stream.topic.created_ms()) => {
                Err(stream.fault(&Error::UnknownTopic))
            }
            _ => Ok(stream),
        }
    }

    /// The stream that the request names, when it may be changed.
    fn settled_stream(&self, request: Item<'_>) -> Result<Stream, Fault> {
        let stream = self.stream(request)?;
        stream.settled(self.now_ms)?;
        Ok(stream)
    }

    /// The stream that the request names, when it takes and gives records.
    fn serving_stream(&self, request: Item<'_>) -> Result<Stream, Fault> {
        let stream = self.stream(request)?;
        stream.serving(self.now_ms)?;
        Ok(stream)
    }

    /// Opens the log of a shard, if it is not open.
    async fn open(&self, stream: &Stream, shard: &Shard) -> Result<Arc<Partition>, Fault> {
        let fail = |error: Error| stream.fault_in(&error, shard.id);
        let partition = stream.topic.partition(shard.partition).map_err(fail)?;
        self.shared.core.open_log(&partition).await.map_err(fail)?;
        Ok(partition)
    }

    /// Takes this call from the operation's rate, for a part of a topic (nil: of the whole account).
    pub(super) fn admit(&self, topic: Uuid, part: &str) -> Result<(), Fault> {
        let rate = TABLE.get(self.place).and_then(|entry| entry.rate);
        let passes = |most| self.shared.pace(self.place, (topic, part), most, 1000);
        if rate.is_none_or(passes) { Ok(()) } else { Err(self.too_often("")) }
    }

    /// Takes this call from the `most` that a stream may have in any 24 hours.
    fn admit_daily(&self, stream: &Stream, most: u32) -> Result<(), Fault> {
        let of = (stream.topic.id(), "");
        if self.shared.pace(self.place, of, most, DAY_MS) {
            return Ok(());
        }
        Err(self.too_often(&format!(" It may be called {most} times in 24 hours for a stream.")))
    }

    fn too_often(&self, why: &str) -> Fault {
        let name = TABLE.get(self.place).map_or("", |entry| entry.name);
        let account = &self.shared.settings.account_id;
        Fault::limit(format!("Rate exceeded for {name} under account {account}.{why}"))
    }

    /// Sets keys of the stream's topic; durable and in force when it returns.
    async fn configure<const N: usize>(
        &self,
        stream: &Stream,
        pairs: [(&str, String); N],
    ) -> Result<(), Fault> {
        let topic = Arc::clone(&stream.topic);
        let edits = pairs.map(|(key, value)| (key.to_owned(), Edit::Set(value)));
        let change = Change::Edit(edits.into());
        let altered = self.shared.core.blocking(move |core| core.alter_topic_config(&topic, change, false));
        altered.await.map_err(|error| stream.fault(&error))
    }

    fn say(&self, fill: impl FnOnce(&mut Writer)) -> Answer {
        Answer::Whole(Writer::pieces(self.form, fill))
    }

    /// The answer of an operation that says nothing.
    fn done() -> Answer {
        Answer::Whole(Vec::new())
    }

    /// Ends a call that only asks whether it would succeed.
    fn not_dry(request: Item<'_>) -> Result<(), Fault> {
        if request.bool("DryRun") {
            return Err(Fault::new(Kind::DryRun, "Request would have succeeded, but DryRun flag is set."));
        }
        Ok(())
    }
}

// --- what several answers tell

/// A shard in a description.
fn put_shard(w: &mut Writer, mark: u8, shard: &Shard) {
    w.text("ShardId", &shard_id(shard.id));
    for (name, parent) in ["ParentShardId", "AdjacentParentShardId"].into_iter().zip(shard.parents) {
        w.optional(name, parent.map(shard_id).as_deref());
    }
    put_range(w, shard);
    w.map("SequenceNumberRange", |w| {
        let first = Sequence {
            created_s: shard.created_s,
            shard: shard.id,
            offset: shard.from - 1,
            second: shard.created_s,
            mark,
            after: false,
        };
        w.text("StartingSequenceNumber", first.digits().as_str());
        if let Some(closed_ms) = shard.closed_ms {
            let end = Sequence::end(shard.created_s, shard.id, closed_ms.div_euclid(1000), mark);
            w.text("EndingSequenceNumber", end.digits().as_str());
        }
    });
}

fn put_range(w: &mut Writer, shard: &Shard) {
    w.map("HashKeyRange", |w| {
        w.text("StartingHashKey", &shard.start_hash.to_string());
        w.text("EndingHashKey", &shard.end_hash.to_string());
    });
}

/// Where the keys of a shard that has ended go on.
pub(super) fn child_shards(w: &mut Writer, stream: &Stream, shard: &Shard) {
    let shards = stream.topic.shards();
    w.list("ChildShards", |w| {
        for child in shards.children(shard.id) {
            w.item(|w| {
                w.text("ShardId", &shard_id(child.id));
                let parents: Vec<String> = child.parents.iter().flatten().copied().map(shard_id).collect();
                w.texts("ParentShards", parents.iter().map(String::as_str));
                put_range(w, child);
            });
        }
    });
}

/// What every description of a stream starts with.
fn put_stream(w: &mut Writer, cx: &Context<'_>, stream: &Stream) {
    let traits = &stream.traits;
    w.text("StreamName", stream.name());
    w.text("StreamARN", &stream.arn);
    w.text("StreamStatus", stream.status(cx.now_ms));
    w.map("StreamModeDetails", |w| w.text("StreamMode", stream.mode()));
    w.integer("RetentionPeriodHours", stream.retention_hours());
    w.time_ms("StreamCreationTimestamp", stream.topic.created_ms());
    w.list("EnhancedMonitoring", |w| {
        w.item(|w| w.texts("ShardLevelMetrics", traits.metrics.iter().map(String::as_str)));
    });
    w.text("EncryptionType", traits.encryption_type());
    w.optional("KeyId", traits.key_id.as_deref());
}
