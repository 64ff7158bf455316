//! AlterConfigs (key 33), versions 0-2, flexible from 2. Still sent by librdkafka, kafkajs and sarama.
//!
//! Behaviour: replaces all overrides of a resource: what is not named goes back to its default. Topics,
//! this node (its id) and all nodes (an empty name). Each resource succeeds or fails for itself.
//!
//! - v0: topics and brokers (KIP-133). v1: throttling happens after the response (KIP-219). v2: flexible.
//!
//! Known deviations from Apache Kafka: keys of security, unknown keys of a broker and broker loggers cannot be altered
//! (42).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use kafka_protocol::messages::alter_configs_request::{AlterConfigsRequest, AlterableConfig};
use kafka_protocol::messages::alter_configs_response::{AlterConfigsResourceResponse, AlterConfigsResponse};

use super::resource::{self, Alteration, Name};
use super::{Api, Context, Reply};
use crate::broker::Change;
use crate::kafka::error::{Code, Refused};

pub(super) struct AlterConfigs;

impl Api for AlterConfigs {
    type Request = AlterConfigsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    fn answer(
        cx: &mut Context<'_>,
        _version: i16,
        request: AlterConfigsRequest,
    ) -> Reply<AlterConfigsResponse> {
        let alterations = request
            .resources
            .into_iter()
            .map(|r| Alteration {
                at: Name { kind: r.resource_type, name: r.resource_name },
                change: change(r.configs),
            })
            .collect();
        let core = Arc::clone(cx.core);
        Reply::alone(async move {
            let outcomes = resource::alter(core, alterations, request.validate_only).await;
            let responses = outcomes
                .into_iter()
                .map(|(at, outcome)| {
                    let (code, message) = Refused::fields(&outcome);
                    AlterConfigsResourceResponse::default()
                        .with_error_code(code)
                        .with_error_message(message)
                        .with_resource_type(at.kind)
                        .with_resource_name(at.name)
                })
                .collect();
            AlterConfigsResponse::default().with_responses(responses)
        })
    }
}

fn change(configs: Vec<AlterableConfig>) -> Result<Change, Refused> {
    let mut values = BTreeMap::new();
    for config in configs {
        let Some(value) = config.value else {
            return Err(Refused::new(
                Code::INVALID_REQUEST,
                format!("{}: null is not a value", config.name.as_str()),
            ));
        };
        let name = config.name.to_string();
        if values.insert(name, value.to_string()).is_some() {
            return Err(Refused::new(
                Code::INVALID_REQUEST,
                format!("{}: named more than once", config.name.as_str()),
            ));
        }
    }
    Ok(Change::Replace(values))
}
