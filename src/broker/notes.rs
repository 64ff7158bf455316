//! What a door keeps for itself, beside no topic: a key, an account's settings. Opaque here.

use std::sync::Arc;

use bytes::Bytes;

use super::Core;
use crate::store::{self, Put};
use crate::topic::{self, Error};

const PREFIX: &str = "note/";

impl Core {
    /// What is kept under `name`, and its version.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn note(&self, name: &str) -> topic::Result<Option<(u64, Bytes)>> {
        let kept = self.store.meta().get(&format!("{PREFIX}{name}"))?;
        Ok(kept.map(|kept| (kept.version, kept.value)))
    }

    /// Keeps `bytes` under `name` if the version there is `expected` (`None`: nothing is there). Durable when it
    /// returns.
    ///
    /// # Errors
    /// [`Error::InUse`] when somebody else was faster, [`Error::Storage`].
    pub async fn set_note(
        self: &Arc<Self>,
        name: &'static str,
        bytes: Bytes,
        expected: Option<u64>,
    ) -> topic::Result<()> {
        let work = move |core: &Arc<Self>| match core.store.meta().put_if(
            &format!("{PREFIX}{name}"),
            &bytes,
            expected,
        )? {
            Put::Won(_) => Ok(()),
            Put::Lost => Err(Error::InUse(format!("{name} changed meanwhile"))),
            Put::Unknown => Err(Error::Storage(store::Error::Fenced)),
        };
        self.blocking(work).await
    }
}
