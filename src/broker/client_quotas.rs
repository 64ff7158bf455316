//! Quotas by user and client id: kept in `Meta`, changed while the broker runs.
//!
//! Invariant: a change is durable before it counts, and counts before the call returns.
//! Deliberately absent: which quota counts for whom (`quota::clients`), wire formats.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};

use super::Core;
use crate::quota::clients::{Clients, Entity, Kind, Name, Quotas};
use crate::store::{self, Meta, Put};
use crate::topic::{self, Error};

const KEY: &str = "client-quotas";
/// Entities with quotas: each is looked through by DescribeClientQuotas, and all are one record.
const MAX_ENTITIES: usize = 10_000;

/// New values of one entity; `None` takes a quota back.
pub type Changes = Vec<(Kind, Option<f64>)>;

impl Core {
    /// Quotas by user and client id.
    #[must_use]
    pub fn client_quotas(&self) -> &Clients {
        &self.client_quotas
    }

    /// Changes quotas (only checks, with `validate_only`).
    ///
    /// # Errors
    /// [`Error::LimitReached`], [`Error::InUse`], [`Error::Storage`].
    pub async fn alter_client_quotas(
        self: &Arc<Self>,
        changes: Vec<(Entity, Changes)>,
        validate_only: bool,
    ) -> topic::Result<()> {
        self.blocking(move |core| {
            let _change = core.config_changes.lock();
            let mut quotas = Quotas::clone(&core.client_quotas.quotas());
            for (entity, changes) in changes {
                let values = quotas.entry(entity.clone()).or_default();
                for (kind, value) in changes {
                    match value {
                        Some(value) => values.insert(kind, value),
                        None => values.remove(&kind),
                    };
                }
                if values.is_empty() {
                    quotas.remove(&entity);
                }
            }
            if quotas.len() > MAX_ENTITIES {
                return Err(Error::LimitReached(format!("more than {MAX_ENTITIES} entities with quotas")));
            }
            if !validate_only {
                save(core.store.meta(), &quotas)?;
                core.client_quotas.replace(quotas);
            }
            Ok(())
        })
        .await
    }
}

/// What was kept before the restart.
pub(super) fn load(meta: &dyn Meta) -> store::Result<Clients> {
    let clients = Clients::default();
    if let Some(kept) = meta.get(KEY)? {
        let quotas = decode(kept.value).ok_or_else(|| store::Error::Corrupt {
            path: KEY.into(),
            position: 0,
            what: "client quotas do not read".into(),
        })?;
        if !quotas.is_empty() {
            clients.replace(quotas);
        }
    }
    Ok(clients)
}

fn save(meta: &dyn Meta, quotas: &Quotas) -> topic::Result<()> {
    let version = meta.get(KEY)?.map(|kept| kept.version);
    match meta.put_if(KEY, &encode(quotas), version)? {
        Put::Won(_) => Ok(()),
        Put::Lost => Err(Error::InUse("client quotas changed meanwhile".into())),
        Put::Unknown => Err(Error::Storage(store::Error::Fenced)),
    }
}

/// version u8 = 1, count u32, per entity: user and client id (u8 0 none, 1 default, 2 and a u32 length + UTF-8), count
/// u8 and per quota its kind u8 and value f64.
fn encode(quotas: &Quotas) -> Vec<u8> {
    let mut out = vec![1];
    out.put_u32(u32::try_from(quotas.len()).unwrap_or(u32::MAX));
    for (entity, values) in quotas {
        for name in [&entity.user, &entity.client] {
            match name {
                None => out.put_u8(0),
                Some(Name::Default) => out.put_u8(1),
                Some(Name::Exact(text)) => {
                    out.put_u8(2);
                    out.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
                    out.put_slice(text.as_bytes());
                }
            }
        }
        out.put_u8(u8::try_from(values.len()).unwrap_or(u8::MAX));
        for (kind, value) in values {
            out.put_u8(match kind {
                Kind::Produce => 0,
                Kind::Fetch => 1,
                Kind::Request => 2,
            });
            out.put_f64(*value);
        }
    }
    out
}

fn decode(mut input: Bytes) -> Option<Quotas> {
    if input.try_get_u8().ok()? != 1 {
        return None;
    }
    let mut quotas = Quotas::new();
    for _ in 0..input.try_get_u32().ok()? {
        let entity = Entity { user: decode_name(&mut input)?, client: decode_name(&mut input)? };
        let mut values = BTreeMap::new();
        for _ in 0..input.try_get_u8().ok()? {
            let kind = *Kind::ALL.get(usize::from(input.try_get_u8().ok()?))?;
            values.insert(kind, input.try_get_f64().ok()?);
        }
        quotas.insert(entity, values);
    }
    input.is_empty().then_some(quotas)
}

fn decode_name(input: &mut Bytes) -> Option<Option<Name>> {
    Some(match input.try_get_u8().ok()? {
        0 => None,
        1 => Some(Name::Default),
        2 => {
            let len = usize::try_from(input.try_get_u32().ok()?).ok().filter(|len| *len <= input.len())?;
            Some(Name::Exact(String::from_utf8(input.split_to(len).to_vec()).ok()?))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Clock;
    use crate::config::Config;
    use crate::store::{Store, memory::Memory};

    #[test]
    fn kept_quotas_read_back_and_damage_is_noticed() {
        let quotas = Quotas::from([
            (
                Entity { user: Some(Name::Exact("u".into())), client: Some(Name::Default) },
                BTreeMap::from([(Kind::Produce, 1.5), (Kind::Request, 200.0)]),
            ),
            (
                Entity { user: None, client: Some(Name::Exact("c".into())) },
                BTreeMap::from([(Kind::Fetch, 7.0)]),
            ),
        ]);
        let bytes = encode(&quotas);
        assert_eq!(decode(bytes.clone().into()), Some(quotas));
        for cut in 0..bytes.len() {
            assert_eq!(decode(Bytes::copy_from_slice(&bytes[..cut])), None, "{cut}");
        }
    }

    #[tokio::test]
    async fn quotas_survive_a_restart_and_go_when_they_are_taken_back() {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        let open = || {
            let store = Arc::clone(&store);
            crate::broker::open::open_on(store, "memory".into(), Config::default(), Clock::System).unwrap()
        };
        let core = open();
        assert_eq!(core.client_quotas().version(), 0);
        let entity = Entity { user: Some(Name::Default), client: None };
        let set = |value| vec![(entity.clone(), vec![(Kind::Produce, value)])];
        core.alter_client_quotas(set(Some(5.0)), true).await.unwrap();
        assert!(core.client_quotas().quotas().is_empty());
        core.alter_client_quotas(set(Some(5.0)), false).await.unwrap();
        assert!(core.client_quotas().of("u", "c").produce.is_some());
        let core = open();
        assert!(core.client_quotas().of("u", "c").produce.is_some());
        core.alter_client_quotas(set(None), false).await.unwrap();
        assert!(core.client_quotas().of("u", "c").produce.is_none());
        assert_eq!(open().client_quotas().version(), 0);
    }
}
