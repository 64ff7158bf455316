//! What configuration hangs on: topics, brokers and their loggers, as the three config APIs name them.
//!
//! Owns: the numbers of resource types, the look-up of a resource, and the carrying out of alterations.
//! Deliberately absent: layouts of the three APIs; which keys exist.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use kafka_protocol::protocol::StrBytes;

use crate::broker::{Change, Core, Scope};
use crate::kafka::error::{Code, Refused};
use crate::topic::{Error, Topic, check_name};

// apache/kafka ConfigResource.java.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;

/// A resource that exists.
pub(super) enum Resource {
    Topic(Arc<Topic>),
    Broker(Scope),
    /// weir's log levels are not configuration: nothing to describe, nothing to alter.
    Loggers,
}

/// Type and name of a resource, as on the wire.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Name {
    pub(super) kind: i8,
    pub(super) name: StrBytes,
}

/// A change that a client asks for.
pub(super) struct Alteration {
    pub(super) at: Name,
    pub(super) change: Result<Change, Refused>,
}

impl Name {
    pub(super) fn find(&self, core: &Core) -> Result<Resource, Refused> {
        match self.kind {
            TOPIC => {
                check_name(&self.name)?;
                let unknown = || Refused::new(Code::UNKNOWN_TOPIC_OR_PARTITION, "no such topic");
                core.topics().by_name(&self.name).map(Resource::Topic).ok_or_else(unknown)
            }
            BROKER if self.name.is_empty() => Ok(Resource::Broker(Scope::Cluster)),
            BROKER => self.check_node(core).map(|()| Resource::Broker(Scope::Node)),
            BROKER_LOGGER => self.check_node(core).map(|()| Resource::Loggers),
            other => Err(Refused::new(
                Code::INVALID_REQUEST,
                format!("resource type {other} has no configuration"),
            )),
        }
    }

    pub(super) fn is_topic(&self) -> bool {
        self.kind == TOPIC
    }

    fn check_node(&self, core: &Core) -> Result<(), Refused> {
        if self.name.parse() == Ok(core.node_id()) {
            return Ok(());
        }
        let why = format!("broker '{}' is not this node, which is {}", self.name.as_str(), core.node_id());
        Err(Refused::new(Code::INVALID_REQUEST, why))
    }
}

/// Those that occur more than once: what is asked twice is answered with an error, in all APIs of topics
/// and configuration, so that one request cannot make one resource be written out a million times.
pub(super) fn repeated<T: Eq + Hash + Clone>(all: impl Iterator<Item = T>) -> HashSet<T> {
    let mut seen: HashMap<T, usize> = HashMap::new();
    for one in all {
        *seen.entry(one).or_default() += 1;
    }
    seen.into_iter().filter(|(_, times)| *times > 1).map(|(one, _)| one).collect()
}

/// Carries out alterations, each for itself.
pub(super) async fn alter(
    core: Arc<Core>,
    alterations: Vec<Alteration>,
    validate_only: bool,
) -> Vec<(Name, Result<(), Refused>)> {
    let twice = repeated(alterations.iter().map(|a| a.at.clone()));
    let mut outcomes = Vec::with_capacity(alterations.len());
    for Alteration { at, change } in alterations {
        let outcome = if twice.contains(&at) {
            Err(Refused::new(Code::INVALID_REQUEST, "the resource is named more than once"))
        } else {
            alter_one(&core, &at, change, validate_only).await
        };
        outcomes.push((at, outcome));
    }
    outcomes
}

async fn alter_one(
    core: &Arc<Core>,
    at: &Name,
    change: Result<Change, Refused>,
    validate_only: bool,
) -> Result<(), Refused> {
    let resource = at.find(core)?;
    let change = change?;
    let done = match resource {
        Resource::Topic(topic) => {
            core.blocking(move |core| core.alter_topic_config(&topic, change, validate_only)).await
        }
        Resource::Broker(scope) => {
            let done =
                core.blocking(move |core| core.alter_broker_config(scope, change, validate_only)).await;
            // As in Apache Kafka: of a broker, whatever is wrong with key or value is wrong with the request.
            return done.map_err(|error| match error {
                Error::InvalidConfig(why) => Refused::new(Code::INVALID_REQUEST, why),
                error => Refused::from(error),
            });
        }
        Resource::Loggers => {
            return Err(Refused::new(Code::INVALID_REQUEST, "log levels are set when the broker starts"));
        }
    };
    done.map_err(Refused::from)
}
