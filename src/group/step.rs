//! How much is done in one go: whoever asks the coordinator waits while another is answered.
//!
//! A [`Step`] is what may be looked at and written under one holding of the lock. A [`Walk`] goes over all groups and what they
//! committed in as many steps as it takes, in order, so that a place is enough to go on; what changes behind it is not seen again.
//! Deliberately absent: what is done with a group (`ends.rs`, `snapshot.rs`), locks, pauses.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// Groups, members, offsets or names that one step looks at.
pub(super) const LOOKS: usize = 1_000;
/// Bytes of records, or of an answer, that one step makes.
pub(super) const BYTES: usize = 256 << 10;

/// What one step may still do.
#[derive(Debug)]
pub(super) struct Step {
    looks: usize,
    bytes: usize,
}

/// An offset's topic and partition.
pub(super) type Place = (String, i32);

/// How far a walk has come.
#[derive(Debug, Default)]
pub struct Walk {
    /// The last group that was looked at.
    group: Option<Arc<str>>,
    /// The last of its offsets that was, unless the group is through.
    inside: Option<Place>,
    through: bool,
}

impl Step {
    pub fn new() -> Self {
        Self::of(BYTES)
    }

    /// One that makes `bytes`.
    pub fn of(bytes: usize) -> Self {
        Self { looks: LOOKS, bytes }
    }

    pub fn look(&mut self) {
        self.look_at(1);
    }

    pub fn look_at(&mut self, things: usize) {
        self.looks = self.looks.saturating_sub(things);
    }

    pub fn make(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    pub fn is_over(&self) -> bool {
        self.looks == 0 || self.bytes == 0
    }
}

impl Walk {
    /// All groups were looked at.
    pub fn is_through(&self) -> bool {
        self.through
    }

    /// Goes on until the step is over. `visit` gets a group, where in it to go on, and tells where it stopped if it is not through
    /// with it.
    pub(super) fn go_on<G>(
        &mut self,
        groups: &mut BTreeMap<Arc<str>, G>,
        step: &mut Step,
        mut visit: impl FnMut(&Arc<str>, &mut G, Option<Place>, &mut Step) -> Option<Place>,
    ) {
        while !self.through && !step.is_over() {
            let from = match &self.group {
                Some(id) if self.inside.is_some() => Bound::Included(&**id),
                Some(id) => Bound::Excluded(&**id),
                None => Bound::Unbounded,
            };
            let Some((id, group)) = groups.range_mut::<str, _>((from, Bound::Unbounded)).next() else {
                self.through = true;
                return;
            };
            // The group in which it stopped may have ended.
            let inside = self.inside.take().filter(|_| self.group.as_ref() == Some(id));
            step.look();
            self.inside = visit(id, group, inside, step);
            self.group = Some(Arc::clone(id));
        }
    }
}
