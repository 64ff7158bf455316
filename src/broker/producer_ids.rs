//! Producer ids: unique for ever, reserved in blocks so that an id costs no disk write.
//!
//! Invariant: a block is durable in `Meta` before its first id is given (KIP-730 does the same).

use std::ops::Range;

use crate::lock::{Mutex, rank};
use crate::store::{Error, Meta, Put};
use crate::topic;

const KEY: &str = "producer-ids";
const BLOCK: i64 = 1000;

/// The ids that may still be given.
#[derive(Default)]
pub(super) struct ProducerIds(Mutex<rank::ProducerIds, Range<i64>>);

impl ProducerIds {
    /// The next id of the block, if there is one.
    pub(super) fn take(&self) -> Option<i64> {
        self.0.lock().next()
    }

    /// Reserves a block and gives its first id.
    pub(super) fn refill(&self, meta: &dyn Meta) -> topic::Result<i64> {
        let mut block = self.0.lock();
        if let Some(id) = block.next() {
            return Ok(id);
        }
        loop {
            let present = meta.get(KEY)?;
            let first = present
                .as_ref()
                .and_then(|v| v.value.first_chunk::<8>())
                .map_or(0, |bytes| i64::from_be_bytes(*bytes));
            let next = first + BLOCK;
            match meta.put_if(KEY, &next.to_be_bytes(), present.map(|v| v.version))? {
                Put::Won(_) => {
                    *block = first + 1..next;
                    return Ok(first);
                }
                Put::Lost => {}
                Put::Unknown => return Err(topic::Error::Storage(Error::Fenced)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, memory::Memory};

    #[test]
    fn ids_are_never_given_twice_even_by_two_owners_of_one_meta() {
        let store = Memory::new();
        let (a, b) = (ProducerIds::default(), ProducerIds::default());
        let mut seen = std::collections::HashSet::new();
        for n in 0..2500 {
            let ids = if n % 2 == 0 { &a } else { &b };
            let id = ids.take().map_or_else(|| ids.refill(store.meta()), Ok);
            assert!(id.is_ok_and(|id| seen.insert(id)));
        }
    }
}
