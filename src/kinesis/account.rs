//! What the account committed to: kept beside no stream, told again, without effect.

use std::sync::Arc;

use super::cbor;
use super::error::{Fault, of_topic};
use super::stream::Place;
use super::writer::{Form, Writer};
use crate::broker::Core;

const NOTE: &str = "kinesis-account";
/// Shortest commitment, ms.
const COMMITMENT_MS: i64 = 86_400_000;

/// A commitment to a least throughput.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Commitment {
    enabled: bool,
    /// When it was last switched on, and off; ms since the epoch.
    started_ms: Option<i64>,
    ended_ms: Option<i64>,
}

impl Commitment {
    /// The commitment after it was switched.
    pub(super) fn turned(self, enabled: bool, now_ms: i64) -> Self {
        match (self.enabled, enabled) {
            (false, true) => Self { enabled, started_ms: Some(now_ms), ended_ms: None },
            (true, false) => Self { enabled, ended_ms: Some(now_ms), ..self },
            _ => self,
        }
    }

    pub(super) fn put(&self, w: &mut Writer) {
        w.map("MinimumThroughputBillingCommitment", |w| {
            w.text("Status", if self.enabled { "ENABLED" } else { "DISABLED" });
            if let Some(started) = self.started_ms {
                w.time_ms("StartedAt", started);
                if self.enabled {
                    w.time_ms("EarliestAllowedEndAt", started.saturating_add(COMMITMENT_MS));
                }
            }
            if let Some(ended) = self.ended_ms {
                w.time_ms("EndedAt", ended);
            }
        });
    }
}

/// What is kept, and its version.
pub(super) fn read(core: &Core) -> Result<(Option<u64>, Commitment), Fault> {
    let Some((version, bytes)) = core.note(NOTE).map_err(|error| fault(&error))? else {
        return Ok((None, Commitment::default()));
    };
    let document = cbor::parse(&bytes).map_err(|_| Fault::internal())?;
    let root = document.root();
    let commitment = Commitment {
        enabled: root.bool("enabled"),
        started_ms: root.integer("started_ms"),
        ended_ms: root.integer("ended_ms"),
    };
    Ok((Some(version), commitment))
}

pub(super) async fn write(
    core: &Arc<Core>,
    commitment: &Commitment,
    version: Option<u64>,
) -> Result<(), Fault> {
    let bytes = Writer::object(Form::Cbor, |w| {
        w.boolean("enabled", commitment.enabled);
        for (key, value) in [("started_ms", commitment.started_ms), ("ended_ms", commitment.ended_ms)] {
            if let Some(value) = value {
                w.integer(key, value);
            }
        }
    });
    core.set_note(NOTE, bytes.into(), version).await.map_err(|error| fault(&error))
}

fn fault(error: &crate::topic::Error) -> Fault {
    of_topic(error, &Place { stream: "", account: "", shard: None })
}
