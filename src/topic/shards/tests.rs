//! Reshards, alone and in generated sequences, against the laws of the table.

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;

use super::*;

/// A topic under test: its shards, and where its partitions end.
struct Toy {
    shards: Shards,
    ends: Vec<i64>,
    now_ms: i64,
}

impl Toy {
    fn new(partitions: i32) -> Self {
        let ends = (0..partitions).map(|p| i64::from(p) * 10).collect();
        Self { shards: Shards::uniform(partitions, 1), ends, now_ms: 1500 }
    }

    fn reshape(&mut self, how: &Reshape) -> Result<Plan> {
        let plan = self.shards.plan(i32::try_from(self.ends.len()).unwrap(), how)?;
        let end_of = |p: i32| self.ends.get(usize::try_from(p).unwrap()).copied().unwrap_or(0);
        let before = self.shards.clone();
        self.shards = before.after(&plan, self.now_ms, &end_of);
        let touched = plan.touched(&before);
        for shard in self.shards.iter().filter(|s| s.id >= before.next_id) {
            assert!(touched.contains_key(&shard.partition), "the plan did not ask for the end of {shard:?}");
        }
        self.ends.resize(usize::try_from(plan.partitions).unwrap(), 0);
        Ok(plan)
    }

    fn ids(&self) -> Vec<u32> {
        self.shards.open().map(|s| s.id).collect()
    }

    /// How many times as wide as the narrowest the widest open range is, but for what division leaves over.
    fn unevenness(&self) -> f64 {
        let widths = || self.shards.open().map(|s| (s.end_hash - s.start_hash) >> 64);
        widths().max().unwrap() as f64 / (widths().min().unwrap() + 1) as f64
    }

    /// Every law that holds after every reshape.
    fn check(&self) {
        assert!(self.shards.tiles());
        let homes: HashSet<i32> = self.shards.open().map(|s| s.partition).collect();
        assert_eq!(homes.len(), self.shards.open_count(), "two open shards in one partition");
        assert!(self.shards.all.windows(2).all(|pair| pair[0].id < pair[1].id));
        let mut spans: BTreeMap<i32, Vec<&Shard>> = BTreeMap::new();
        for shard in self.shards.iter() {
            if shard.until != Some(shard.from) {
                spans.entry(shard.partition).or_default().push(shard);
            }
            for parent in shard.parents.iter().flatten() {
                let parent = self.shards.by_id(*parent).unwrap();
                assert!(!parent.is_open() && parent.created_s < shard.created_s && parent.id < shard.id);
                assert!(parent.start_hash <= shard.end_hash && parent.end_hash >= shard.start_hash);
            }
            if !shard.is_open() {
                // Its keys have exactly one place to go on, and no gap.
                let mut reached: Vec<Range> = self
                    .shards
                    .children(shard.id)
                    .map(|c| (c.start_hash.max(shard.start_hash), c.end_hash.min(shard.end_hash)))
                    .collect();
                reached.sort_unstable();
                assert_eq!(reached.first().unwrap().0, shard.start_hash);
                assert_eq!(reached.last().unwrap().1, shard.end_hash);
                assert!(reached.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0), "{reached:?}");
            }
        }
        for spans in spans.values_mut() {
            spans.sort_by_key(|s| (s.from, s.id));
            for pair in spans.windows(2) {
                assert!(pair[0].until.unwrap() <= pair[1].from, "spans of a partition overlap");
            }
        }
        for partition in 0..i32::try_from(self.ends.len()).unwrap() {
            match self.shards.open_in(partition) {
                Some(_) => {}
                None => assert!(self.shards.by_id(self.shards.heir(partition).unwrap()).unwrap().is_open()),
            }
        }
        let mut bytes = Vec::new();
        self.shards.encode(&mut bytes);
        assert_eq!(Shards::decode(&mut bytes.as_slice()).unwrap(), self.shards);
    }
}

#[test]
fn a_topic_without_reshards_has_a_shard_per_partition_of_equal_ranges() {
    let shards = Shards::uniform(4, 7);
    let starts: Vec<u128> = shards.open().map(|s| s.start_hash >> 126).collect();
    assert_eq!(starts, [0, 1, 2, 3]);
    assert!(shards.tiles() && shards.iter().all(|s| s.partition == i32::try_from(s.id).unwrap()));
    assert!(shards.iter().all(|s| (s.created_s, s.from, s.until, s.parents) == (7, 0, None, [None, None])));
    for count in [1, 2, 3, 7, 10_000] {
        assert!(Shards::uniform(count, 0).tiles(), "{count}");
    }
    // As AWS prints the first of three.
    let third = Shards::uniform(3, 0).by_id(0).unwrap().end_hash;
    assert_eq!(third.to_string(), "113427455640312821154458202477256070484");
}

#[test]
fn a_split_goes_on_in_its_partition_and_opens_another_at_0() {
    let mut toy = Toy::new(2);
    let middle = 1 << 126;
    let plan = toy.reshape(&Reshape::Split { shard: 0, start_hash: middle }).unwrap();
    assert!(plan.retiring.is_empty());
    toy.check();
    let [one, two] = [2, 3].map(|id| toy.shards.by_id(id).unwrap().clone());
    assert_eq!((one.partition, one.from, one.end_hash, one.parents), (0, 0, middle - 1, [Some(0), None]));
    assert_eq!((two.partition, two.from, two.start_hash, two.parents), (2, 0, middle, [Some(0), None]));
    let parent = toy.shards.by_id(0).unwrap();
    assert_eq!((parent.until, parent.closed_ms), (Some(0), Some(1500)));
    // The topic was created in second 1, as it is now.
    assert_eq!((one.created_s, two.created_s), (2, 2));
    assert_eq!(toy.shards.holding(middle).id, 3);
    assert_eq!(toy.shards.holding(middle - 1).id, 2);
    assert_eq!(toy.shards.holding(u128::MAX).id, 1);
}

#[test]
fn a_merge_goes_on_in_the_first_ones_partition_and_tells_the_others_heir() {
    for (first, second, home) in [(0, 1, 0), (1, 0, 1)] {
        let mut toy = Toy::new(3);
        let plan = toy.reshape(&Reshape::Merge { shard: first, adjacent: second }).unwrap();
        toy.check();
        let child = toy.shards.by_id(3).unwrap();
        assert_eq!((child.partition, child.from), (home, i64::from(home) * 10));
        assert_eq!(child.parents, [Some(first), Some(second)]);
        assert_eq!(plan.retiring, BTreeMap::from([(1 - home, 3)]));
        assert_eq!(toy.shards.heir(1 - home), Some(3));
    }
}

#[test]
fn a_partition_that_a_merge_left_empty_is_used_again_but_not_counted_as_growth() {
    let mut toy = Toy::new(2);
    toy.reshape(&Reshape::Merge { shard: 0, adjacent: 1 }).unwrap();
    let mut other = Toy { shards: toy.shards.clone(), ends: toy.ends.clone(), now_ms: 1 };
    toy.reshape(&Reshape::Split { shard: 2, start_hash: 5 }).unwrap();
    assert_eq!(toy.ends.len(), 2);
    assert_eq!(toy.shards.open_in(1).map(|s| (s.id, s.from)), Some((4, 10)));
    toy.check();
    other.reshape(&Reshape::Grow { added: 1 }).unwrap();
    assert_eq!(other.ends.len(), 3);
    assert!(other.shards.open_in(1).is_none());
    other.check();
}

#[test]
fn a_new_count_is_reached_at_once_through_as_few_shards_as_can_be() {
    let mut toy = Toy::new(1);
    toy.reshape(&Reshape::Scale { count: 16 }).unwrap();
    toy.check();
    assert_eq!(toy.ids(), (1..17).collect::<Vec<_>>());
    assert!(toy.shards.children(0).count() == 16 && toy.shards.iter().len() == 17);
    // Four parents each: through shards that open and close at once.
    toy.reshape(&Reshape::Scale { count: 4 }).unwrap();
    toy.check();
    assert_eq!(toy.shards.open_count(), 4);
    assert_eq!(toy.ends.len(), 16);
    assert_eq!(toy.shards.iter().len(), 17 + 4 * 3);
    toy.reshape(&Reshape::Scale { count: 16 }).unwrap();
    toy.check();
    assert_eq!(toy.ends.len(), 16, "the idle partitions were used again");
    for count in [5, 3, 7, 7, 1] {
        toy.reshape(&Reshape::Scale { count }).unwrap();
        toy.check();
        assert_eq!(toy.shards.open_count(), usize::try_from(count).unwrap());
        assert!(toy.unevenness() <= 2.0, "{count}");
    }
}

#[test]
fn a_scale_down_merges_whole_neighbours_and_leaves_alone_what_is_alone() {
    let mut toy = Toy::new(5);
    let cuts: Vec<u128> = toy.shards.open().map(|s| s.start_hash).collect();
    toy.reshape(&Reshape::Scale { count: 3 }).unwrap();
    toy.check();
    assert_eq!(toy.ids(), [5, 2, 6]);
    assert_eq!(toy.shards.open().map(|s| s.start_hash).collect::<Vec<_>>(), [cuts[0], cuts[2], cuts[3]]);
    assert_eq!(
        [5, 6].map(|id| toy.shards.by_id(id).unwrap().parents),
        [[Some(0), Some(1)], [Some(3), Some(4)]]
    );
    assert_eq!(toy.shards.iter().len(), 7);
    // Half of equal ones are equal.
    let mut toy = Toy::new(8);
    toy.reshape(&Reshape::Scale { count: 4 }).unwrap();
    let ranges: Vec<Range> = toy.shards.open().map(Shard::range).collect();
    assert_eq!(ranges, equal_ranges(4).collect::<Vec<_>>());
}

#[test]
fn a_scale_down_of_uneven_ranges_makes_them_equal() {
    for count in [2, 3] {
        let mut toy = Toy::new(1);
        for start_hash in [1 << 20, 1 << 10, 1 << 5] {
            let shard = toy.shards.holding(0).id;
            toy.reshape(&Reshape::Split { shard, start_hash }).unwrap();
        }
        toy.reshape(&Reshape::Scale { count }).unwrap();
        toy.check();
        let ranges: Vec<Range> = toy.shards.open().map(Shard::range).collect();
        assert_eq!(ranges, equal_ranges(count).collect::<Vec<_>>());
    }
}

#[test]
fn growth_halves_the_widest() {
    let mut toy = Toy::new(1);
    toy.reshape(&Reshape::Grow { added: 2 }).unwrap();
    toy.check();
    let widths: Vec<u128> = toy.shards.open().map(|s| (s.end_hash - s.start_hash) >> 124).collect();
    assert_eq!(widths, [3, 3, 7]);
    assert_eq!(toy.ends.len(), 3);
    assert_eq!(toy.shards.iter().len(), 4, "no shard between the parent and its grandchildren");
}

#[test]
fn what_is_no_reshard_is_refused() {
    let mut toy = Toy::new(4);
    let end = toy.shards.by_id(0).unwrap().end_hash;
    for start_hash in [0, end, end + 1, u128::MAX] {
        let refused = toy.reshape(&Reshape::Split { shard: 0, start_hash });
        assert!(matches!(refused, Err(Error::InvalidReshard(_))), "{start_hash}");
    }
    for (shard, adjacent) in [(0, 2), (0, 0), (3, 0)] {
        let refused = toy.reshape(&Reshape::Merge { shard, adjacent });
        assert!(matches!(refused, Err(Error::InvalidReshard(_))), "{shard} {adjacent}");
    }
    let unknown = toy.reshape(&Reshape::Split { shard: 4, start_hash: 1 });
    assert!(matches!(unknown, Err(Error::UnknownShard(4))));
    assert!(matches!(toy.reshape(&Reshape::Scale { count: 0 }), Err(Error::InvalidReshard(_))));
    toy.reshape(&Reshape::Merge { shard: 0, adjacent: 1 }).unwrap();
    let closed = toy.reshape(&Reshape::Split { shard: 1, start_hash: end + 9 });
    assert!(matches!(closed, Err(Error::InvalidReshard(_))));
    assert!(toy.shards.plan(4, &Reshape::Scale { count: 3 }).is_ok_and(|plan| !plan.is_empty()));
    let mut same = Toy::new(4);
    assert!(same.reshape(&Reshape::Scale { count: 4 }).unwrap().is_empty());
}

#[test]
fn emptied_lineage_goes_and_what_is_open_stays() {
    let mut toy = Toy::new(1);
    toy.reshape(&Reshape::Split { shard: 0, start_hash: 9 }).unwrap();
    let rest = toy.shards.without(&|_| true).unwrap();
    assert_eq!(rest.iter().map(|s| s.id).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(rest.next_id(), 3);
    assert!(rest.without(&|_| true).is_none());
}

#[test]
fn an_emptied_span_costs_less_than_a_kibibyte() {
    let mut bytes = Vec::new();
    Shards::uniform(100, 0).encode(&mut bytes);
    assert!(bytes.len() / 100 + size_of::<Shard>() + size_of::<usize>() < 1024);
}

#[test]
fn a_cut_or_holed_table_does_not_read() {
    let mut toy = Toy::new(2);
    toy.reshape(&Reshape::Split { shard: 0, start_hash: 9 }).unwrap();
    let mut bytes = Vec::new();
    toy.shards.encode(&mut bytes);
    for cut in 0..bytes.len() {
        assert!(Shards::decode(&mut &bytes[..cut]).is_none(), "{cut}");
    }
    let mut holed = Shards::uniform(3, 0);
    holed.all.remove(1);
    bytes.clear();
    Shards::new(holed.all, 3).encode(&mut bytes);
    assert!(Shards::decode(&mut bytes.as_slice()).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn on_the_way_down_from_equal_ranges_nothing_is_split(partitions in 2i32..300, of in 0.5f64..1.0) {
        let count = ((f64::from(partitions) * of).ceil() as u32).min(u32::try_from(partitions).unwrap() - 1);
        let mut toy = Toy::new(partitions);
        let before: HashSet<u128> = toy.shards.open().map(|s| s.start_hash).collect();
        toy.reshape(&Reshape::Scale { count }).unwrap();
        toy.check();
        prop_assert_eq!(toy.shards.open_count(), usize::try_from(count).unwrap());
        prop_assert!(toy.shards.open().all(|s| before.contains(&s.start_hash)));
        prop_assert!(toy.unevenness() <= 2.0);
        // One shard per pair that merged and none on the way to it: nobody has more than two parents.
        let merged = usize::try_from(partitions).unwrap() - usize::try_from(count).unwrap();
        prop_assert_eq!(toy.shards.iter().len(), usize::try_from(partitions).unwrap() + merged);
    }

    #[test]
    fn however_often_it_is_scaled_the_ranges_stay_within_twice_of_each_other(
        partitions in 1i32..100,
        counts in prop::collection::vec(1u32..100, 1..8),
    ) {
        let mut toy = Toy::new(partitions);
        for count in counts {
            toy.reshape(&Reshape::Scale { count }).unwrap();
            toy.check();
            prop_assert_eq!(toy.shards.open_count(), usize::try_from(count).unwrap());
            prop_assert!(toy.unevenness() <= 2.0);
        }
    }

    #[test]
    fn whatever_is_done_the_laws_hold(
        partitions in 1i32..6,
        steps in prop::collection::vec((0u8..5, any::<u32>(), any::<u128>(), 0i64..2000, 0i64..50), 1..30),
    ) {
        let mut toy = Toy::new(partitions);
        for (what, pick, hash, later, written) in steps {
            toy.now_ms += later;
            let ids = toy.ids();
            let nth = usize::try_from(pick).unwrap() % ids.len();
            let shard = toy.shards.by_id(ids[nth]).unwrap().clone();
            let how = match what {
                0 | 1 => Reshape::Split { shard: shard.id, start_hash: hash.clamp(shard.start_hash, shard.end_hash) },
                2 => Reshape::Merge { shard: shard.id, adjacent: ids[(nth + 1) % ids.len()] },
                3 => Reshape::Scale { count: pick % 20 },
                _ => Reshape::Grow { added: pick % 4 },
            };
            let _ = toy.reshape(&how);
            toy.check();
            for end in toy.shards.open().map(|s| usize::try_from(s.partition).unwrap()).collect::<Vec<_>>() {
                toy.ends[end] += written;
            }
        }
    }
}
