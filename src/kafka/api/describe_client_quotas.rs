//! DescribeClientQuotas (key 48), versions 0-1, flexible from 1.
//!
//! - v0: KIP-546. v1: flexible.
//!
//! Known deviations from Apache Kafka: there are no quotas by address, so a filter for them finds none.
//! Source: apache/kafka ClientQuotasImage.java.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use kafka_protocol::messages::describe_client_quotas_request::{ComponentData, DescribeClientQuotasRequest};
use kafka_protocol::messages::describe_client_quotas_response::{
    DescribeClientQuotasResponse, EntityData, EntryData, ValueData,
};
use kafka_protocol::protocol::StrBytes;

use super::{Api, Context, Reply};
use crate::broker::clients::{Entity, Kind, Name};
use crate::kafka::error::{Code, Refused};

pub(super) struct DescribeClientQuotas;

pub(super) const USER: &str = "user";
pub(super) const CLIENT: &str = "client-id";
pub(super) const ADDRESS: &str = "ip";

/// What an entity must have of one type.
enum Wanted {
    /// This name.
    Name(Name),
    /// Any.
    Any,
}

impl Api for DescribeClientQuotas {
    type Request = DescribeClientQuotasRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=1;

    /// Nobody knows before.
    fn is_large(_cx: &Context<'_>, _request: &DescribeClientQuotasRequest) -> bool {
        true
    }

    fn answer(
        cx: &mut Context<'_>,
        _version: i16,
        request: DescribeClientQuotasRequest,
    ) -> Reply<DescribeClientQuotasResponse> {
        let response = DescribeClientQuotasResponse::default();
        let filter = match read(request.components) {
            Ok(filter) => filter,
            Err(refused) => {
                return Reply::Now(
                    response
                        .with_error_code(refused.code.0)
                        .with_error_message(refused.message())
                        .with_entries(None),
                );
            }
        };
        let quotas = cx.core.client_quotas().quotas();
        let found = quotas.iter().filter(|(entity, _)| matches(entity, &filter, request.strict));
        let entries = found.map(|(entity, values)| {
            let values = values.iter().map(|(kind, value)| {
                ValueData::default().with_key(StrBytes::from_static_str(key_of(*kind))).with_value(*value)
            });
            EntryData::default().with_entity(names(entity)).with_values(values.collect())
        });
        Reply::Now(response.with_entries(Some(entries.collect())))
    }
}

/// The name of a quota on the wire.
pub(super) fn key_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Produce => "producer_byte_rate",
        Kind::Fetch => "consumer_byte_rate",
        Kind::Request => "request_percentage",
    }
}

fn names(entity: &Entity) -> Vec<EntityData> {
    [(USER, &entity.user), (CLIENT, &entity.client)]
        .into_iter()
        .filter_map(|(kind, name)| {
            let name = match name.as_ref()? {
                Name::Default => None,
                Name::Exact(text) => Some(StrBytes::from_string(text.clone())),
            };
            Some(
                EntityData::default()
                    .with_entity_type(StrBytes::from_static_str(kind))
                    .with_entity_name(name),
            )
        })
        .collect()
}

fn read(components: Vec<ComponentData>) -> Result<BTreeMap<&'static str, Wanted>, Refused> {
    let invalid = |why: String| Err(Refused::new(Code::INVALID_REQUEST, why));
    let mut filter = BTreeMap::new();
    for ComponentData { entity_type, match_type, _match: name, .. } in components {
        let kind = match entity_type.as_str() {
            "" => return invalid("Invalid empty entity type.".into()),
            USER => USER,
            CLIENT => CLIENT,
            ADDRESS => ADDRESS,
            other => {
                let why = format!("Unsupported entity type {other}");
                return Err(Refused::new(Code::UNSUPPORTED_VERSION, why));
            }
        };
        let wanted = match (match_type, name) {
            (0, Some(name)) => Wanted::Name(Name::Exact(name.to_string())),
            (1, None) => Wanted::Name(Name::Default),
            (2, None) => Wanted::Any,
            (0, None) => return invalid("an exact match needs a name".into()),
            (1 | 2, Some(_)) => return invalid("this match type takes no name".into()),
            (other, _) => return invalid(format!("Unknown match type {other}")),
        };
        if filter.insert(kind, wanted).is_some() {
            return invalid(format!("Entity type {kind} cannot appear more than once in the filter."));
        }
    }
    if filter.contains_key(ADDRESS) && filter.len() > 1 {
        return invalid("Invalid entity filter component combination.".into());
    }
    Ok(filter)
}

fn matches(entity: &Entity, filter: &BTreeMap<&'static str, Wanted>, strict: bool) -> bool {
    let parts = usize::from(entity.user.is_some()) + usize::from(entity.client.is_some());
    let fits = filter.iter().all(|(kind, wanted)| {
        let name = match *kind {
            USER => entity.user.as_ref(),
            CLIENT => entity.client.as_ref(),
            _ => None,
        };
        match wanted {
            Wanted::Name(wanted) => name == Some(wanted),
            Wanted::Any => name.is_some(),
        }
    });
    fits && (!strict || parts == filter.len())
}
