//! DescribeConfigs (key 32), versions 0-4, flexible from 4. v0 is read and written by hand.
//!
//! Behaviour: every key of a topic, of this node (its id), or what was set for all nodes (an empty name),
//! each with the value in force and its true source; secrets are null. Broker loggers have no keys.
//!
//! - v0: value, read only, is default, sensitive (KIP-133). v1: source and synonyms (KIP-226).
//! - v2: throttling happens after the response (KIP-219). v3: type and documentation (KIP-569). v4: flexible.
//!
//! Known deviations from Apache Kafka: v0 is gone from Kafka 4 (KIP-896); a resource that is asked for twice
//! in one request is INVALID_REQUEST.

use std::collections::{BTreeMap, HashSet};
use std::ops::RangeInclusive;

use bytes::Bytes;
use kafka_protocol::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use super::resource::{self, Name, Resource};
use super::{Api, Context, Reply};
use crate::broker::{Core, Scope, is_alterable};
use crate::config::{Config, Kind, Source};
use crate::kafka::connection::Close;
use crate::kafka::error::{Code, Refused};
use crate::kafka::wire::{Malformed, Reader, Writer};
use crate::topic::config::Origin;

pub(super) struct DescribeConfigs;

/// Oldest version that `kafka_protocol` has.
const CRATE_MIN: i16 = 1;

// Sources, apache/kafka DescribeConfigsResponse.java.
const TOPIC: i8 = 1;
const NODE: i8 = 2;
const CLUSTER: i8 = 3;
const STATIC: i8 = 4;
const DEFAULT: i8 = 5;

impl Api for DescribeConfigs {
    type Request = DescribeConfigsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=4;

    fn answer(
        cx: &mut Context<'_>,
        _version: i16,
        request: DescribeConfigsRequest,
    ) -> Reply<DescribeConfigsResponse> {
        let name =
            |r: &DescribeConfigsResource| Name { kind: r.resource_type, name: r.resource_name.clone() };
        let twice = resource::repeated(request.resources.iter().map(name));
        let results = request
            .resources
            .iter()
            .map(|asked| {
                let at = name(asked);
                let configs = if twice.contains(&at) {
                    Err(Refused::new(Code::INVALID_REQUEST, "the resource is named more than once"))
                } else {
                    at.find(cx.core).map(|resource| describe(cx.core, &resource))
                };
                let (code, message) = Refused::fields(&configs);
                DescribeConfigsResult::default()
                    .with_error_code(code)
                    .with_error_message(message)
                    .with_resource_type(at.kind)
                    .with_resource_name(at.name)
                    .with_configs(trim(configs.unwrap_or_default(), asked, &request))
            })
            .collect();
        Reply::Now(DescribeConfigsResponse::default().with_results(results))
    }

    /// All keys of a broker with their texts are some sixty kilobytes, those of a topic ten.
    fn is_large(_cx: &Context<'_>, request: &DescribeConfigsRequest) -> bool {
        let topics = |r: &DescribeConfigsResource| {
            !Name { kind: r.resource_type, name: r.resource_name.clone() }.is_topic()
        };
        request.resources.len() > 2 || request.resources.iter().any(topics)
    }

    fn decode(version: i16, body: &mut Bytes) -> Result<DescribeConfigsRequest, Close> {
        if version < CRATE_MIN {
            return Ok(decode_old(body)?);
        }
        DescribeConfigsRequest::decode(body, version)
            .map_err(|e| Close::Refused(format!("request body: {e}")))
    }

    fn encode(version: i16, response: &DescribeConfigsResponse) -> Result<Vec<u8>, Close> {
        if version < CRATE_MIN {
            return Ok(encode_old(response));
        }
        let mut out = Vec::new();
        response.encode(&mut out, version).map_err(|e| Close::Refused(format!("response body: {e}")))?;
        Ok(out)
    }
}

fn describe(core: &Core, resource: &Resource) -> Vec<DescribeConfigsResourceResult> {
    match resource {
        Resource::Topic(topic) => topic_configs(core, &topic.overrides()),
        Resource::Broker(Scope::Node) => node_configs(&core.config()),
        Resource::Broker(Scope::Cluster) => cluster_configs(&core.config()),
        Resource::Loggers => Vec::new(),
    }
}

/// Leaves out what was not asked for.
fn trim(
    mut configs: Vec<DescribeConfigsResourceResult>,
    asked: &DescribeConfigsResource,
    request: &DescribeConfigsRequest,
) -> Vec<DescribeConfigsResourceResult> {
    if let Some(keys) = &asked.configuration_keys {
        let keys: HashSet<&str> = keys.iter().map(StrBytes::as_str).collect();
        configs.retain(|config| keys.contains(config.name.as_str()));
    }
    for config in &mut configs {
        if !request.include_synonyms {
            config.synonyms.clear();
        }
        if !request.include_documentation {
            config.documentation = None;
        }
    }
    configs
}

/// Every key of a topic with these overrides.
pub(super) fn topic_configs(
    core: &Core,
    overrides: &BTreeMap<String, String>,
) -> Vec<DescribeConfigsResourceResult> {
    let config = core.config();
    let broker = |key: &str| config.value(key).map(str::to_owned);
    let from = |origin: Origin, key: &'static str| match origin {
        Origin::Topic => (key, TOPIC),
        Origin::Broker(name) => (name, source(config.source(name))),
        Origin::Default => (key, DEFAULT),
    };
    crate::topic::config::describe(&broker, overrides)
        .into_iter()
        .map(|d| {
            let mut synonyms: Vec<_> = d
                .synonyms
                .iter()
                .map(|(origin, value)| {
                    let (name, source) = from(*origin, d.name);
                    synonym(name, Some(value), source)
                })
                .collect();
            if synonyms.is_empty() {
                synonyms.push(synonym(d.name, Some(&d.value), DEFAULT));
            }
            DescribeConfigsResourceResult::default()
                .with_name(StrBytes::from_static_str(d.name))
                .with_value(Some(StrBytes::from_string(d.value)))
                .with_config_source(from(d.origin, d.name).1)
                .with_synonyms(synonyms)
                .with_config_type(type_number(d.kind))
                .with_documentation(Some(StrBytes::from_static_str(d.doc)))
        })
        .collect()
}

fn node_configs(config: &Config) -> Vec<DescribeConfigsResourceResult> {
    config
        .describe()
        .into_iter()
        .map(|d| {
            let synonyms = d
                .synonyms
                .iter()
                .map(|(from, value)| synonym(d.name, Some(value).filter(|_| !d.sensitive), source(*from)))
                .collect();
            DescribeConfigsResourceResult::default()
                .with_name(StrBytes::from_static_str(d.name))
                .with_value(d.value.map(StrBytes::from_string))
                .with_read_only(!is_alterable(d.name))
                .with_config_source(source(d.source))
                .with_is_sensitive(d.sensitive)
                .with_synonyms(synonyms)
                .with_config_type(type_number(d.kind))
                .with_documentation(Some(StrBytes::from_static_str(d.doc)))
        })
        .collect()
}

/// What was set for all nodes, whether or not this node overrides it.
fn cluster_configs(config: &Config) -> Vec<DescribeConfigsResourceResult> {
    let set = Scope::Cluster.source();
    config
        .said_by(set)
        .filter_map(|(name, value)| {
            let known = config.describe_key(name)?;
            let value = Some(value.to_owned()).filter(|_| !known.sensitive);
            let result = DescribeConfigsResourceResult::default()
                .with_name(StrBytes::from_static_str(known.name))
                .with_config_source(source(set))
                .with_is_sensitive(known.sensitive)
                .with_synonyms(vec![synonym(known.name, value.as_ref(), source(set))])
                .with_config_type(type_number(known.kind))
                .with_documentation(Some(StrBytes::from_static_str(known.doc)));
            Some(result.with_value(value.map(StrBytes::from_string)))
        })
        .collect()
}

fn synonym(name: &'static str, value: Option<&String>, source: i8) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym::default()
        .with_name(StrBytes::from_static_str(name))
        .with_value(value.cloned().map(StrBytes::from_string))
        .with_source(source)
}

fn source(source: Source) -> i8 {
    match source {
        Source::Default => DEFAULT,
        Source::File | Source::Environment | Source::CommandLine => STATIC,
        Source::DynamicDefault => CLUSTER,
        Source::Dynamic => NODE,
    }
}

/// Numbers of apache/kafka DescribeConfigsResponse.ConfigType.
fn type_number(kind: Kind) -> i8 {
    match kind {
        Kind::Bool => 1,
        Kind::Text => 2,
        Kind::Int => 3,
        Kind::Short => 4,
        Kind::Long => 5,
        Kind::Double => 6,
        Kind::List => 7,
        Kind::Class => 8,
        Kind::Password => 9,
    }
}

fn decode_old(body: &Bytes) -> Result<DescribeConfigsRequest, Malformed> {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let mut r = Reader::new(body, false);
    let mut resources = Vec::new();
    for _ in 0..r.count(7)? {
        let kind = r.i8()?;
        let name = text(r.string()?);
        let keys = match r.nullable_count(2)? {
            None => None,
            Some(count) => {
                Some((0..count).map(|_| r.string().map(text)).collect::<Result<Vec<_>, Malformed>>()?)
            }
        };
        resources.push(
            DescribeConfigsResource::default()
                .with_resource_type(kind)
                .with_resource_name(name)
                .with_configuration_keys(keys),
        );
    }
    r.end()?;
    Ok(DescribeConfigsRequest::default().with_resources(resources))
}

fn encode_old(response: &DescribeConfigsResponse) -> Vec<u8> {
    let mut w = Writer::new(false, 256);
    w.i32(0);
    w.count(response.results.len());
    for result in &response.results {
        let is_topic = Name { kind: result.resource_type, name: result.resource_name.clone() }.is_topic();
        w.i16(result.error_code);
        w.nullable_string(result.error_message.as_ref().map(StrBytes::as_str));
        w.i8(result.resource_type);
        w.string(&result.resource_name);
        w.count(result.configs.len());
        for config in &result.configs {
            // Old clients read "not default" as "set on this resource".
            let is_default =
                if is_topic { config.config_source != TOPIC } else { config.config_source == DEFAULT };
            w.string(&config.name);
            w.nullable_string(config.value.as_ref().map(StrBytes::as_str));
            w.i8(i8::from(config.read_only));
            w.i8(i8::from(is_default));
            w.i8(i8::from(config.is_sensitive));
        }
    }
    w.finish()
}
