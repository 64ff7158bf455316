//! Groups as a whole: listed, deleted, hashed to a partition.

use super::*;

#[test]
fn a_group_is_deleted_only_when_empty() {
    let mut bench = Bench::new();
    let delete = |bench: &mut Bench| {
        let token = bench.send(Event::DeleteGroups(vec![GROUP.into()]));
        let Some(Reply::DeleteGroups(groups)) = bench.reply(token) else { panic!("no reply") };
        groups[0].1.clone()
    };
    assert_eq!(delete(&mut bench), Err(Error::GroupIdNotFound));
    bench.stable(&[join("a")]);
    bench.commit("a", 1, 5, "").expect("commit");
    assert_eq!(delete(&mut bench), Err(Error::NonEmptyGroup));
    bench.leave("a", None).expect("leave");
    assert_eq!(delete(&mut bench), Ok(()));
    assert_eq!((bench.fetch(), bench.coordinator.group_count()), (None, 0));
}

#[test]
fn groups_are_listed_by_state_and_type() {
    let mut bench = Bench::new();
    bench.stable(&[join("a")]);
    let mut count = |states: &[&str], types: &[&str]| {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let token = bench.send(Event::ListGroups { states: owned(states), types: owned(types), after: None });
        let Some(Reply::ListGroups(Ok(listed))) = bench.reply(token) else { panic!("no reply") };
        listed.len()
    };
    assert_eq!((count(&[], &[]), count(&["stable"], &["CLASSIC"])), (1, 1));
    assert_eq!((count(&["Empty"], &[]), count(&[], &["consumer"])), (0, 0));
}

#[test]
fn the_partition_of_a_group_is_javas() {
    // "polygenelubricants" hashes to i32::MIN; Utils.abs makes 0 of it.
    let hashes = [("", 0), ("a", 97 % 50), ("test", 3_556_498 % 50), ("polygenelubricants", 0)];
    for (group, partition) in hashes {
        assert_eq!(partition_for(group), partition, "{group}");
    }
}

#[test]
fn groups_are_hashed_over_as_many_partitions_as_the_journal_has() {
    let mut coordinator = Coordinator::new(Settings::default());
    coordinator.found_journal(7);
    coordinator.finish_loading(at(0));
    let out = coordinator.handle(at(0), 1, commit_event("", -1, 1, ""));
    assert_eq!(
        (out.records[0].partition, coordinator.partition_of(GROUP)),
        (i32::from(b'g') % 7, i32::from(b'g') % 7)
    );
}
