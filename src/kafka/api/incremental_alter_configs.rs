//! IncrementalAlterConfigs (key 44), versions 0-1, flexible from 1.
//!
//! Behaviour: SET, DELETE, APPEND and SUBTRACT of single keys; the others stay. APPEND and SUBTRACT work
//! on list keys and start from the value in force, default included. Topics, this node (its id) and all
//! nodes (an empty name). Each resource succeeds or fails for itself.
//!
//! - v0: KIP-339. v1: flexible.
//!
//! Known deviations from Apache Kafka: keys of security, unknown keys of a broker and broker loggers cannot be altered
//! (42).

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterableConfig, IncrementalAlterConfigsRequest,
};
use kafka_protocol::messages::incremental_alter_configs_response::{
    AlterConfigsResourceResponse, IncrementalAlterConfigsResponse,
};

use super::resource::{self, Alteration, Name};
use super::{Api, Context, Reply};
use crate::broker::{Change, Edit};
use crate::kafka::error::{Code, Refused};

pub(super) struct IncrementalAlterConfigs;

impl Api for IncrementalAlterConfigs {
    type Request = IncrementalAlterConfigsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=1;

    fn answer(
        cx: &mut Context<'_>,
        _version: i16,
        request: IncrementalAlterConfigsRequest,
    ) -> Reply<IncrementalAlterConfigsResponse> {
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
            IncrementalAlterConfigsResponse::default().with_responses(responses)
        })
    }
}

fn change(configs: Vec<AlterableConfig>) -> Result<Change, Refused> {
    let mut named = HashSet::new();
    let mut edits = Vec::with_capacity(configs.len());
    for config in configs {
        let name = config.name.to_string();
        let refuse = |why: &str| Refused::new(Code::INVALID_REQUEST, format!("{name}: {why}"));
        let value = config.value.as_ref().map(ToString::to_string);
        let value = || value.ok_or_else(|| refuse("null is not a value"));
        // apache/kafka AlterConfigOp.java.
        let edit = match config.config_operation {
            0 => Edit::Set(value()?),
            1 => Edit::Remove,
            2 => Edit::Append(value()?),
            3 => Edit::Subtract(value()?),
            _ => return Err(refuse("unknown operation")),
        };
        if !named.insert(name.clone()) {
            return Err(refuse("named more than once"));
        }
        edits.push((name, edit));
    }
    Ok(Change::Edit(edits))
}
