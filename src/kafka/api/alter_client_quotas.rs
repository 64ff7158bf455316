//! AlterClientQuotas (key 49), versions 0-1, flexible from 1.
//!
//! Behaviour: each entity is changed as a whole or not at all, and has its own outcome; a change counts for connections
//! that are open, from their next request on.
//!
//! - v0: KIP-546. v1: flexible.
//!
//! Known deviations from Apache Kafka: no quotas by address (`connection_creation_rate`) and none of controller
//! mutations (`controller_mutation_rate`); both are refused with INVALID_REQUEST, as unknown keys are.
//! Source: apache/kafka ClientQuotaControlManager.java.

use std::ops::RangeInclusive;
use std::sync::Arc;

use kafka_protocol::messages::alter_client_quotas_request::{
    AlterClientQuotasRequest, EntityData, EntryData, OpData,
};
use kafka_protocol::messages::alter_client_quotas_response::{
    AlterClientQuotasResponse, EntityData as EntityAnswer, EntryData as EntryAnswer,
};
use kafka_protocol::protocol::StrBytes;

use super::describe_client_quotas::{CLIENT, USER, key_of};
use super::{Api, Context, Reply};
use crate::broker::clients::{Entity, Kind, MAX_NAME_BYTES, Name};
use crate::kafka::error::{Code, Refused};

pub(super) struct AlterClientQuotas;

impl Api for AlterClientQuotas {
    type Request = AlterClientQuotasRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=1;

    fn answer(
        cx: &mut Context<'_>,
        _version: i16,
        request: AlterClientQuotasRequest,
    ) -> Reply<AlterClientQuotasResponse> {
        let core = Arc::clone(cx.core);
        Reply::alone(async move {
            let mut changes = Vec::new();
            let read: Vec<_> = request
                .entries
                .into_iter()
                .map(|EntryData { entity, ops, .. }| {
                    (read(&entity, &ops).map(|one| changes.push(one)), entity)
                })
                .collect();
            // One change: each is written with all quotas that there are.
            let outcome =
                core.alter_client_quotas(changes, request.validate_only).await.map_err(Refused::from);
            let entries = read.into_iter().map(|(read, entity)| {
                let (code, message) = match &read {
                    Ok(()) => Refused::fields(&outcome),
                    Err(_) => Refused::fields(&read),
                };
                let named = entity.into_iter().map(|part| {
                    EntityAnswer::default()
                        .with_entity_type(part.entity_type)
                        .with_entity_name(part.entity_name)
                });
                EntryAnswer::default()
                    .with_error_code(code)
                    .with_error_message(message)
                    .with_entity(named.collect())
            });
            AlterClientQuotasResponse::default().with_entries(entries.collect())
        })
    }
}

type Change = (Entity, Vec<(Kind, Option<f64>)>);

fn read(parts: &[EntityData], ops: &[OpData]) -> Result<Change, Refused> {
    let mut entity = Entity::default();
    if parts.is_empty() {
        return Err(invalid("Invalid empty client quota entity"));
    }
    for part in parts {
        let place = match part.entity_type.as_str() {
            USER => &mut entity.user,
            CLIENT => &mut entity.client,
            other => return Err(invalid(format!("Unhandled client quota entity type: {other}"))),
        };
        let name = match part.entity_name.as_ref().map(StrBytes::as_str) {
            Some("") => return Err(invalid(format!("Empty {} not supported", part.entity_type.as_str()))),
            Some(name) if name.len() > MAX_NAME_BYTES => {
                return Err(invalid(format!("a name is longer than {MAX_NAME_BYTES} bytes")));
            }
            Some(name) => Name::Exact(name.to_owned()),
            None => Name::Default,
        };
        if place.replace(name).is_some() {
            return Err(invalid(format!("{} is named more than once", part.entity_type.as_str())));
        }
    }
    let changes = ops.iter().map(|op| {
        let kind = Kind::ALL.into_iter().find(|kind| key_of(*kind) == op.key.as_str());
        let kind = kind.ok_or_else(|| invalid(format!("Invalid configuration key {}", op.key.as_str())))?;
        Ok((kind, if op.remove { None } else { Some(value(kind, op.value)?) }))
    });
    Ok((entity, changes.collect::<Result<_, Refused>>()?))
}

fn value(kind: Kind, value: f64) -> Result<f64, Refused> {
    let key = key_of(kind);
    if value.is_nan() || value <= 0.0 {
        return Err(invalid(format!("Quota {key} must be greater than 0")));
    }
    if kind != Kind::Request {
        if value > i64::MAX as f64 {
            return Err(invalid(format!("Proposed value for {key} is too large for a LONG.")));
        }
        if value.fract() != 0.0 {
            return Err(invalid(format!("{key} cannot be a fractional value.")));
        }
    }
    Ok(value)
}

fn invalid(why: impl Into<String>) -> Refused {
    Refused::new(Code::INVALID_REQUEST, why)
}
