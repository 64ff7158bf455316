//! The shards of a topic: which span of which partition holds which part of the key space.
//!
//! A shard is (partition, from offset, until offset). Its partition never closes for Kafka when it is split: child one
//! goes on in it. Every reshard, from a split to a change of the count, is one mechanism: a new set of
//! ranges is laid over the open shards; those that stay equal stay open, the others close, and each new range
//! gets the shards it overlaps as parents. A shard names two parents at most, so a range over more is reached
//! through shards that open and close at once.
//! Invariant: the open shards tile the key space, no two of them in one partition; ids count up and
//! are never reused; a child's creation second is above its parents'.
//! Deliberately absent: where a partition ends now (passed in), persistence (registry.rs), waiting.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut};

use super::{Error, Result};

/// A part of the key space over a span of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Counts up per topic, never reused.
    pub id: u32,
    /// Index of the partition that holds its records.
    pub partition: i32,
    /// Its first offset there.
    pub from: i64,
    /// Offset after its last one; `None` while it is open.
    pub until: Option<i64>,
    /// First hash of its range.
    pub start_hash: u128,
    /// Last hash of its range, included.
    pub end_hash: u128,
    /// Parent and adjacent parent.
    pub parents: [Option<u32>; 2],
    /// Creation second, above its parents'.
    pub created_s: i64,
    /// When it was closed, ms since the epoch.
    pub closed_ms: Option<i64>,
}

/// All shards of a topic at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shards {
    /// By id.
    all: Vec<Shard>,
    /// Places in `all` of the open ones, by range.
    open: Vec<usize>,
    next_id: u32,
}

/// A change of the shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reshape {
    /// Two shards instead of one; the second begins at `start_hash`.
    Split {
        /// The open shard.
        shard: u32,
        /// Strictly inside its range.
        start_hash: u128,
    },
    /// One shard instead of two that touch; it goes on in the first one's partition.
    Merge {
        /// An open shard.
        shard: u32,
        /// Another, whose range touches.
        adjacent: u32,
    },
    /// That many shards: more of equal ranges, fewer by merging whole neighbours (see [`Shards::scaled`]).
    Scale {
        /// How many.
        count: u32,
    },
    /// That many more partitions, each with a half of one of the widest ranges.
    Grow {
        /// How many more.
        added: u32,
    },
}

/// What a reshape comes to, but for the offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Ids that close.
    closing: BTreeSet<u32>,
    opening: Vec<Opening>,
    /// Partitions there are afterwards.
    pub partitions: i32,
    /// Partitions that no open shard is in afterwards, each with the shard that has its keys then.
    pub retiring: BTreeMap<i32, u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Opening {
    id: u32,
    start_hash: u128,
    end_hash: u128,
    parents: [Option<u32>; 2],
    partition: i32,
    /// Opens and closes at once: only a name for its two parents.
    passing: bool,
}

type Range = (u128, u128);

impl Shard {
    /// Whether it takes records.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.until.is_none()
    }

    fn range(&self) -> Range {
        (self.start_hash, self.end_hash)
    }
}

impl Shards {
    /// The shards of a topic that was never resharded: one per partition, of equal ranges.
    #[must_use]
    pub fn uniform(partitions: i32, created_s: i64) -> Self {
        let count = u32::try_from(partitions).unwrap_or(0).max(1);
        let all = (0..count)
            .zip(equal_ranges(count))
            .map(|(id, (start_hash, end_hash))| Shard {
                id,
                partition: i32::try_from(id).unwrap_or(i32::MAX),
                from: 0,
                until: None,
                start_hash,
                end_hash,
                parents: [None, None],
                created_s,
                closed_ms: None,
            })
            .collect();
        Self::new(all, count)
    }

    fn new(all: Vec<Shard>, next_id: u32) -> Self {
        let mut open: Vec<(u128, usize)> =
            all.iter().enumerate().filter(|(_, s)| s.is_open()).map(|(at, s)| (s.start_hash, at)).collect();
        open.sort_unstable();
        Self { open: open.into_iter().map(|(_, at)| at).collect(), all, next_id }
    }

    /// All, by id.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Shard> + ExactSizeIterator {
        self.all.iter()
    }

    /// The open ones, by range.
    pub fn open(&self) -> impl DoubleEndedIterator<Item = &Shard> {
        self.open.iter().filter_map(|&at| self.all.get(at))
    }

    /// How many are open.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    /// The id that the next shard gets.
    #[must_use]
    pub fn next_id(&self) -> u32 {
        self.next_id
    }

    /// The shard with that id.
    #[must_use]
    pub fn by_id(&self, id: u32) -> Option<&Shard> {
        self.all.binary_search_by_key(&id, |s| s.id).ok().and_then(|at| self.all.get(at))
    }

    /// The open shard whose range holds `hash`.
    #[must_use]
    #[allow(
        clippy::indexing_slicing,
        reason = "the open shards tile the key space, so one starts at or below"
    )]
    pub fn holding(&self, hash: u128) -> &Shard {
        let after = self.open.partition_point(|&at| self.all[at].start_hash <= hash);
        &self.all[self.open[after.saturating_sub(1)]]
    }

    /// The open shards that hold a part of a range, by range.
    fn overlapping(&self, start_hash: u128, end_hash: u128) -> impl Iterator<Item = &Shard> {
        let first = self.holding(start_hash).start_hash;
        let starts = |at: &usize| self.all.get(*at).map_or(0, |s| s.start_hash);
        let from = self.open.partition_point(|at| starts(at) < first);
        let open = self.open.iter().skip(from).filter_map(|&at| self.all.get(at));
        open.take_while(move |s| s.start_hash <= end_hash)
    }

    /// The shards that have `id` as a parent, by id.
    pub fn children(&self, id: u32) -> impl Iterator<Item = &Shard> {
        // A child's id is above its parents'.
        let from = self.all.partition_point(|s| s.id <= id);
        self.all.iter().skip(from).filter(move |s| s.parents.contains(&Some(id)))
    }

    /// The open shard of a partition.
    #[must_use]
    pub fn open_in(&self, partition: i32) -> Option<&Shard> {
        self.open().find(|s| s.partition == partition)
    }

    /// What `reshape` comes to, on a topic with `partitions` partitions. Nothing changes yet.
    ///
    /// # Errors
    /// [`Error::UnknownShard`], [`Error::InvalidReshard`].
    pub fn plan(&self, partitions: i32, reshape: &Reshape) -> Result<Plan> {
        let mut first = None;
        let ranges = match *reshape {
            Reshape::Split { shard, start_hash } => self.split(shard, start_hash)?,
            Reshape::Merge { shard, adjacent } => {
                first = Some(shard);
                self.merged(shard, adjacent)?
            }
            Reshape::Scale { count: 0 } => {
                return Err(Error::InvalidReshard("a stream has at least one shard".into()));
            }
            Reshape::Scale { count } => self.scaled(count),
            Reshape::Grow { added } => self.widest_halved(added)?,
        };
        Ok(self.lay(&ranges, partitions, first, !matches!(reshape, Reshape::Grow { .. })))
    }

    fn open_shard(&self, id: u32) -> Result<&Shard> {
        let shard = self.by_id(id).ok_or(Error::UnknownShard(id))?;
        if shard.is_open() { Ok(shard) } else { Err(Error::InvalidReshard(format!("shard {id} is closed"))) }
    }

    fn split(&self, id: u32, at: u128) -> Result<Vec<Range>> {
        let (start, end) = self.open_shard(id)?.range();
        if at <= start || at >= end {
            return Err(Error::InvalidReshard(format!(
                "hash key {at} is not strictly inside {start} to {end}, the range of shard {id}"
            )));
        }
        let halves = |range: Range| {
            let parts = if range == (start, end) { vec![(start, at - 1), (at, end)] } else { vec![range] };
            parts.into_iter()
        };
        Ok(self.open().flat_map(|s| halves(s.range())).collect())
    }

    fn merged(&self, one: u32, other: u32) -> Result<Vec<Range>> {
        let (a, b) = (self.open_shard(one)?.range(), self.open_shard(other)?.range());
        let (low, high) = if a < b { (a, b) } else { (b, a) };
        if low.1.checked_add(1) != Some(high.0) {
            return Err(Error::InvalidReshard(format!("shards {one} and {other} are not adjacent")));
        }
        let whole = |range: Range| if range == low { (low.0, high.1) } else { range };
        Ok(self.open().map(|s| whole(s.range())).filter(|range| *range != high).collect())
    }

    /// The ranges of a scale to `count`. On the way down they are cut where ranges meet already, as near to equal cuts as
    /// can be: whole neighbours merge, nothing is split, and what is wide enough stays open. On the way up, and where
    /// such cuts would leave one range more than twice as wide as another, the ranges are equal.
    fn scaled(&self, count: u32) -> Vec<Range> {
        let equal = || equal_ranges(count).collect();
        if u64::from(count) >= self.open.len() as u64 {
            return equal();
        }
        let meeting: Vec<u128> = self.open().skip(1).map(|s| s.start_hash).collect();
        let mut cuts: Vec<u128> =
            equal_ranges(count).skip(1).map(|(cut, _)| nearest(&meeting, cut)).collect();
        cuts.dedup();
        let starts = std::iter::once(0).chain(cuts.iter().copied());
        let ends = cuts.iter().map(|cut| cut - 1).chain(std::iter::once(u128::MAX));
        let ranges: Vec<Range> = starts.zip(ends).collect();
        let widths = || ranges.iter().map(|(start, end)| end - start);
        let (narrowest, widest) = (widths().min().unwrap_or(0), widths().max().unwrap_or(0));
        // What division left over when ranges were equal is at most their number.
        let level = widest / 2 <= narrowest.saturating_add(self.open.len() as u128);
        if level && ranges.len() as u64 == u64::from(count) { ranges } else { equal() }
    }

    fn widest_halved(&self, added: u32) -> Result<Vec<Range>> {
        // Widest first, and of equal ones the lowest.
        let widths = self.open().map(|s| (s.end_hash - s.start_hash, std::cmp::Reverse(s.start_hash)));
        let mut by_width: std::collections::BinaryHeap<_> = widths.collect();
        for _ in 0..added {
            let (width, start) = by_width
                .pop()
                .filter(|(width, _)| *width > 0)
                .ok_or_else(|| Error::InvalidReshard("no shard's range is wide enough to be split".into()))?;
            let half = width / 2;
            by_width.push((half, start));
            by_width.push((width - half - 1, std::cmp::Reverse(start.0 + half + 1)));
        }
        let mut ranges: Vec<Range> = by_width.into_iter().map(|(width, s)| (s.0, s.0 + width)).collect();
        ranges.sort_unstable();
        Ok(ranges)
    }

    /// Lays `ranges`, which tile the key space, over the open shards.
    fn lay(&self, ranges: &[Range], partitions: i32, first: Option<u32>, reuse: bool) -> Plan {
        let kept: BTreeSet<Range> = ranges.iter().copied().collect();
        let closing: BTreeSet<u32> =
            self.open().filter(|s| !kept.contains(&s.range())).map(|s| s.id).collect();
        let stays: BTreeSet<Range> = self.open().map(Shard::range).collect();
        let mut next_id = self.next_id;
        let mut opening = Vec::new();
        let mut homes = Homes::new(self, &closing, partitions, reuse);
        for &(start_hash, end_hash) in ranges.iter().filter(|range| !stays.contains(*range)) {
            let mut sources: Vec<(u32, i32)> =
                self.overlapping(start_hash, end_hash).map(|s| (s.id, s.partition)).collect();
            sources.sort_by_key(|(id, _)| Some(*id) != first);
            let home = sources.iter().map(|(_, partition)| *partition).find(|p| homes.take(*p));
            let mut parents = sources.iter();
            let mut pair = [parents.next().map(|(id, _)| *id), parents.next().map(|(id, _)| *id)];
            for (source, _) in parents {
                let id = next_id;
                next_id += 1;
                let reach = self.by_id(*source).map_or(end_hash, |s| s.start_hash - 1);
                opening.push(Opening {
                    id,
                    start_hash,
                    end_hash: reach,
                    parents: pair,
                    partition: sources.first().map_or(0, |(_, partition)| *partition),
                    passing: true,
                });
                pair = [Some(id), Some(*source)];
            }
            opening.push(Opening {
                id: next_id,
                start_hash,
                end_hash,
                parents: pair,
                partition: home.unwrap_or(HOMELESS),
                passing: false,
            });
            next_id += 1;
        }
        for shard in opening.iter_mut().filter(|o| o.partition == HOMELESS) {
            shard.partition = homes.any();
        }
        let partitions = homes.partitions;
        let retiring = homes
            .free
            .into_iter()
            .filter_map(|partition| {
                let shard = self.open_in(partition)?;
                let heir = opening.iter().find(|o| {
                    !o.passing && o.start_hash <= shard.start_hash && o.end_hash >= shard.start_hash
                })?;
                Some((partition, heir.id))
            })
            .collect();
        Plan { closing, opening, partitions, retiring }
    }

    /// The table after `plan`; `end_of` says where a partition ended when it was carried out.
    #[must_use]
    pub fn after(&self, plan: &Plan, now_ms: i64, end_of: &dyn Fn(i32) -> i64) -> Self {
        let mut all = self.all.clone();
        for shard in all.iter_mut().filter(|s| plan.closing.contains(&s.id)) {
            shard.until = Some(end_of(shard.partition));
            shard.closed_ms = Some(now_ms);
        }
        let mut created: BTreeMap<u32, i64> = all.iter().map(|s| (s.id, s.created_s)).collect();
        let mut next_id = self.next_id;
        for new in &plan.opening {
            let parents = new.parents.iter().flatten().filter_map(|id| created.get(id));
            let created_s = parents.max().map_or(0, |s| s + 1).max(now_ms.div_euclid(1000));
            created.insert(new.id, created_s);
            let from = end_of(new.partition);
            all.push(Shard {
                id: new.id,
                partition: new.partition,
                from,
                until: new.passing.then_some(from),
                start_hash: new.start_hash,
                end_hash: new.end_hash,
                parents: new.parents,
                created_s,
                closed_ms: new.passing.then_some(now_ms),
            });
            next_id = next_id.max(new.id + 1);
        }
        Self::new(all, next_id)
    }

    /// The table without closed shards that are `gone`; `None` when none is.
    #[must_use]
    pub fn without(&self, gone: &dyn Fn(&Shard) -> bool) -> Option<Self> {
        let all: Vec<Shard> = self.all.iter().filter(|s| s.is_open() || !gone(s)).cloned().collect();
        (all.len() < self.all.len()).then(|| Self::new(all, self.next_id))
    }

    /// Which shard has the keys of a partition that has no open one; `None` when retention took its lineage.
    #[must_use]
    pub fn heir(&self, partition: i32) -> Option<u32> {
        let last = self.all.iter().rev().find(|s| s.partition == partition)?;
        Some(self.holding(last.start_hash).id)
    }

    /// next id u32, count u32, then the shards, each with id u32, partition i32, from i64, until i64 (-1: open), start
    /// and end hash u128, two parents i64 (-1: none), created i64 s, closed i64 ms (-1: open).
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(self.next_id);
        out.put_u32(u32::try_from(self.all.len()).unwrap_or(u32::MAX));
        for shard in &self.all {
            out.put_u32(shard.id);
            out.put_i32(shard.partition);
            out.put_i64(shard.from);
            out.put_i64(shard.until.unwrap_or(-1));
            out.put_u128(shard.start_hash);
            out.put_u128(shard.end_hash);
            for parent in shard.parents {
                out.put_i64(parent.map_or(-1, i64::from));
            }
            out.put_i64(shard.created_s);
            out.put_i64(shard.closed_ms.unwrap_or(-1));
        }
    }

    pub(super) fn decode(input: &mut impl Buf) -> Option<Self> {
        let next_id = input.try_get_u32().ok()?;
        let mut all = Vec::new();
        for _ in 0..input.try_get_u32().ok()? {
            let mut shard = Shard {
                id: input.try_get_u32().ok()?,
                partition: input.try_get_i32().ok()?,
                from: input.try_get_i64().ok()?,
                until: known(input.try_get_i64().ok()?),
                start_hash: input.try_get_u128().ok()?,
                end_hash: input.try_get_u128().ok()?,
                parents: [None, None],
                created_s: 0,
                closed_ms: None,
            };
            for parent in &mut shard.parents {
                *parent = u32::try_from(input.try_get_i64().ok()?).ok();
            }
            shard.created_s = input.try_get_i64().ok()?;
            shard.closed_ms = known(input.try_get_i64().ok()?);
            all.push(shard);
        }
        let shards = Self::new(all, next_id);
        shards.tiles().then_some(shards)
    }

    /// Whether the open shards cover the key space without gap or overlap.
    fn tiles(&self) -> bool {
        let mut next = Some(0);
        for shard in self.open() {
            if next != Some(shard.start_hash) || shard.end_hash < shard.start_hash {
                return false;
            }
            next = shard.end_hash.checked_add(1);
        }
        next.is_none() && !self.open.is_empty()
    }
}

impl Plan {
    /// Whether nothing would change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.opening.is_empty()
    }

    /// Partitions whose end the plan needs: those that it opens a shard in, and those that it closes one in, with that one.
    #[must_use]
    pub fn touched(&self, shards: &Shards) -> BTreeMap<i32, Option<u32>> {
        let mut all: BTreeMap<_, _> = self.opening.iter().map(|opening| (opening.partition, None)).collect();
        let closing = self.closing.iter().filter_map(|id| shards.by_id(*id));
        all.extend(closing.map(|shard| (shard.partition, Some(shard.id))));
        all
    }
}

const HOMELESS: i32 = -1;

/// Partitions that new shards may live in.
struct Homes {
    /// Of shards that close, and not taken yet.
    free: BTreeSet<i32>,
    /// Without an open shard since an earlier merge.
    idle: BTreeSet<i32>,
    partitions: i32,
}

impl Homes {
    fn new(shards: &Shards, closing: &BTreeSet<u32>, partitions: i32, reuse: bool) -> Self {
        let free = closing.iter().filter_map(|id| shards.by_id(*id)).map(|s| s.partition).collect();
        let busy: BTreeSet<i32> = shards.open().map(|s| s.partition).collect();
        let idle = (0..partitions).filter(|p| reuse && !busy.contains(p)).collect();
        Self { free, idle, partitions }
    }

    fn take(&mut self, partition: i32) -> bool {
        self.free.remove(&partition)
    }

    /// One that is left over, one that a merge left empty, or a new one.
    fn any(&mut self) -> i32 {
        self.free.pop_first().or_else(|| self.idle.pop_first()).unwrap_or_else(|| {
            self.partitions += 1;
            self.partitions - 1
        })
    }
}

fn known(value: i64) -> Option<i64> {
    (value >= 0).then_some(value)
}

/// The one of `sorted` nearest to `hash`, of two as near the lower; `hash` when there is none.
fn nearest(sorted: &[u128], hash: u128) -> u128 {
    let above = sorted.partition_point(|at| *at < hash);
    let around = sorted.get(above.saturating_sub(1)..).unwrap_or_default().iter().take(2).copied();
    around.min_by_key(|at| at.abs_diff(hash)).unwrap_or(hash)
}

/// `count` ranges that tile the key space; the last takes what division leaves.
fn equal_ranges(count: u32) -> impl Iterator<Item = Range> {
    let width = u128::MAX / u128::from(count.max(1));
    // 2^128 / count, where that is whole: u128::MAX / count is one less than it.
    let width = if count.is_power_of_two() && count > 1 { width + 1 } else { width };
    (0..u128::from(count)).map(move |n| {
        let start = n * width;
        (start, if n + 1 == u128::from(count) { u128::MAX } else { start + (width - 1) })
    })
}
