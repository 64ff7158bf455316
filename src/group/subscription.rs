//! Topics out of a consumer's subscription (`ConsumerProtocolSubscription`), read only as far as they stand.
//!
//! Invariant: no count reserves memory; anything odd is `None`, "not known", and never an error.
//! Deliberately absent: everything behind the topics (owned partitions, rack): the server is agnostic of it.

use std::collections::BTreeSet;

use super::wire::Reader;

/// Adds the topics of one subscription to `topics`; `None` when it cannot be read, or when there are more than `most`.
pub(super) fn add_topics(topics: &mut BTreeSet<String>, subscription: &[u8], most: usize) -> Option<()> {
    let mut r = Reader::new(subscription);
    if r.i16().ok()? < 0 {
        return None;
    }
    for _ in 0..r.count().ok()? {
        topics.insert(r.string().ok()?);
        if topics.len() > most {
            return None;
        }
    }
    Some(())
}
