//! The ends of offsets that no request asks for: they expire, or their topic is deleted. And what a group's end leaves behind.
//!
//! Invariant: whatever a step of these looks at, writes or drops is bounded (`step.rs`), however large groups are. A crash between
//! two steps leaves some offsets that would have gone: they go in the next life.
//! Deliberately absent: when steps are made (`Coordinator::tick`, the broker).

use std::sync::Arc;

use uuid::Uuid;

use super::coordinator::{Coordinator, Group};
use super::event::{Outcome, State};
use super::journal::{JournalRecord, group_record};
use super::step::{LOOKS, Place, Step, Walk};
use super::{Now, Settings};

/// Between two steps of a sweep: time for everybody else.
const SWEEP_PAUSE_MS: i64 = 10;

/// The walk that forgets what was committed to a topic.
#[derive(Debug)]
pub struct Forgetting {
    topic: String,
    id: Uuid,
    walk: Walk,
}

impl Forgetting {
    /// Of a topic that is gone, but not of another that has its name by now.
    pub fn new(topic: &str, id: Uuid) -> Self {
        Self { topic: topic.to_owned(), id, walk: Walk::default() }
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Nothing of it is left.
    pub fn is_through(&self) -> bool {
        self.walk.is_through()
    }
}

impl Coordinator {
    /// A step of a sweep: expired offsets go; a group without members and offsets follows.
    pub(super) fn sweep(&mut self, now: Now, out: &mut Outcome) {
        let Self { settings, groups, refused, sweep, .. } = self;
        sweep.go_on(groups, &mut Step::new(), |id, group, after, step| {
            if refused.contains(&group.partition) {
                return None;
            }
            group.expire(settings, now, id, after.as_ref(), step, &mut out.records)
        });
        let mut pause_ms = SWEEP_PAUSE_MS;
        if self.sweep.is_through() {
            pause_ms = self.settings.retention_check_interval_ms;
            self.sweep = Walk::default();
            self.refused.clear();
            self.damage.expire(now.calendar_ms);
        }
        self.sweep_ms = now.steady_ms.saturating_add(pause_ms);
    }

    /// A step of forgetting a topic. No reply. Where another topic has its name by now (`has_heir`), an offset that bears no
    /// topic's id may be of that one, and stays.
    pub fn forget_topic(&mut self, forgetting: &mut Forgetting, has_heir: bool) -> Outcome {
        let mut out = Outcome::default();
        let settings = &self.settings;
        let Forgetting { topic, id: of, walk } = forgetting;
        walk.go_on(&mut self.groups, &mut Step::new(), |id, group, after, step| {
            let after = after.map(|(_, partition)| partition);
            let of = (topic.as_str(), *of, has_heir);
            group.offsets.forget_topic(settings, id, of, after, step, &mut out.records)
        });
        out
    }

    /// A step of forgetting the offsets that bear no topic's id, where there is no topic of that name. `topic` says which id a
    /// topic has now; an offset from before offsets bore ids belongs to no topic that will get its name later. No reply.
    pub fn forget_nameless(&mut self, walk: &mut Walk, topic: &dyn Fn(&str) -> Option<Uuid>) -> Outcome {
        let mut out = Outcome::default();
        let settings = &self.settings;
        walk.go_on(&mut self.groups, &mut Step::new(), |id, group, after, step| {
            group.offsets.forget_nameless(settings, id, topic, after.as_ref(), step, &mut out.records)
        });
        out
    }

    /// A step of taking leave of what groups had that ended with more than a step may drop: until then it counts.
    pub(super) fn discard(&mut self) {
        let mut step = Step::new();
        if let Some(offsets) = self.ended.last_mut() {
            let before = offsets.bytes();
            offsets.discard(&mut step);
            self.weights.lighter(before - offsets.bytes());
            if offsets.is_empty() {
                self.ended.pop();
            }
        }
    }
}

impl Group {
    /// What ended of it, behind a place; where it stopped.
    fn expire(
        &mut self,
        settings: &Settings,
        now: Now,
        id: &Arc<str>,
        after: Option<&Place>,
        step: &mut Step,
        records: &mut Vec<JournalRecord>,
    ) -> Option<Place> {
        self.classic_mut().clamp(now.wall_ms);
        self.offsets.clamp(now.wall_ms, after, LOOKS);
        let first = records.len();
        let classic = self.classic();
        let stopped = self.offsets.expire(settings, now.calendar_ms, (id, classic), after, step, records);
        let all = records.len() - first == self.offsets.count();
        if all && classic.state == State::Empty && classic.pending.is_empty() {
            // It takes them along.
            records.truncate(first);
            let end = group_record(settings.journal_partitions, id, None);
            step.make(end.bytes());
            records.push(end);
        }
        stopped
    }
}
