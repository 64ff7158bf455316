//! What stands in the way of serving, in words for operators, and the pace of lines that clients can cause.
//!
//! Degraded is not "not ready": a broker with a fenced log or a full disk still serves whatever else there is, and a
//! restart in a loop would take that away, too. Deliberately absent: what happened (`store::Incidents` is told where it
//! happens), what a door makes of it.

use uuid::Uuid;

use super::Core;
use crate::store::{Kind, Pace, Reason};

/// Free bytes from which on a disk that was full is taken for usable again.
const USABLE_BYTES: u64 = 1 << 20;

/// Lines that somebody outside can cause at will: each at most once a second, the others at the debug level.
#[derive(Debug, Default)]
pub struct Lines {
    /// A connection was closed for what it sent.
    pub closed: Pace,
    /// A topic that somebody asked for was not created.
    pub not_created: Pace,
    /// A topic on demand was not resharded.
    pub not_resharded: Pace,
    /// Something was asked for that weir does not do yet: transactions, compaction.
    pub unheeded: Pace,
}

impl Core {
    /// The pace of lines that somebody outside can cause at will.
    #[must_use]
    pub fn lines(&self) -> &Lines {
        &self.lines
    }

    /// Why the broker is degraded; empty when it is not. The engine knows ids of topics: their names are put beside.
    #[must_use]
    pub fn reasons(&self) -> Vec<Reason> {
        let mut reasons = self.incidents().reasons();
        reasons.iter_mut().for_each(|reason| self.name_topic(&mut reason.text));
        reasons
    }

    /// Whether the data directory as a whole or a log in it takes no writes: what Kafka calls an offline directory.
    #[must_use]
    pub fn refuses_writes(&self) -> bool {
        [Kind::DiskFull, Kind::StateFailed, Kind::SyncFailed]
            .into_iter()
            .any(|kind| self.incidents().stands(kind))
    }

    /// Ends the incident of a full disk when nothing was refused since the last look and there is space, and has the engine
    /// keep some of that back again.
    pub(super) fn look_for_space(&self, every: std::time::Duration) {
        self.store.keep_space_back();
        let incidents = self.incidents();
        let refused_ago = incidents.since(Kind::DiskFull);
        if incidents.stands(Kind::DiskFull)
            && refused_ago.is_none_or(|ago| ago >= every)
            && self.capacity().is_none_or(|capacity| capacity.free_bytes >= USABLE_BYTES)
        {
            incidents.clear(Kind::DiskFull, "");
        }
    }

    fn name_topic(&self, text: &mut String) {
        let words = text.split(|c: char| !c.is_ascii_hexdigit() && c != '-').filter(|word| word.len() == 36);
        let topic = words.filter_map(|word| Uuid::parse_str(word).ok()).find_map(|id| self.topics.by_id(id));
        if let Some(topic) = topic {
            text.push_str(" (topic '");
            text.push_str(topic.name());
            text.push_str("')");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::broker::in_memory;
    use crate::config::Config;
    use crate::store::Kind;

    #[tokio::test]
    async fn a_reason_names_the_topic_that_it_is_about() {
        let core = in_memory(Config::default()).unwrap();
        let topic = core.create_topic("orders".into(), 1, [].into()).await.unwrap();
        let path = format!("/data/topics/{}/0", topic.id());
        core.incidents().raise(Kind::SyncFailed, &path, &format_args!("fdatasync {path}/0.log: EIO"));
        let reasons = core.reasons();
        assert!(reasons.len() == 1 && reasons[0].text.ends_with("EIO (topic 'orders')"), "{reasons:?}");
        assert!(core.refuses_writes());
    }

    #[test]
    fn a_full_disk_is_over_when_nothing_was_refused_for_a_while() {
        let core = in_memory(Config::default()).unwrap();
        core.incidents().note_error(Kind::WriteFailed, &crate::store::Error::Full { path: "d".into() });
        core.look_for_space(Duration::from_secs(3600));
        assert!(core.incidents().stands(Kind::DiskFull));
        core.look_for_space(Duration::ZERO);
        assert!(!core.incidents().stands(Kind::DiskFull));
    }
}
