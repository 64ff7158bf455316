//! What a local store is after a clean close, after none, and who may open it.

use std::fs;
use std::path::Path;

use weir_broker::store::local::{Local, LocalOptions};
use weir_broker::store::{Error, Placed, Put, Replayed, Store};

use super::{SMALL, batch, eager, id, open, push, read_all, wait_durable};

#[test]
fn a_clean_close_keeps_logs_notes_and_small_state() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = Local::open(dir.path()).unwrap();
        let log = open(&store, id(1));
        (0..40).for_each(|n| {
            push(&*log, 2, n, 300);
        });
        log.checkpoint(b"note").unwrap();
        log.trim_to(31).unwrap();
        assert!(matches!(store.meta().put_if("k", b"v", None).unwrap(), Put::Won(_)));
        store.close().unwrap();
    }
    for _ in 0..3 {
        let store = Local::open(dir.path()).unwrap();
        assert_eq!(store.incarnation(), 0);
        assert_eq!(store.logs().unwrap(), vec![id(1)]);
        let mut replayed = 0;
        let opened = store
            .open_log(id(1), SMALL, &mut |seen| replayed += usize::from(matches!(seen, Replayed::Batch(_))))
            .unwrap();
        assert_eq!((replayed, opened.note.unwrap().offset), (0, 80));
        let span = opened.log.span();
        assert_eq!((span.start, span.durable, span.end), (31, 80, 80));
        assert_eq!(read_all(&*opened.log, 31, 700).len(), 25);
        assert_eq!(&store.meta().get("k").unwrap().unwrap().value[..], b"v");
        store.close().unwrap();
    }
}

#[test]
fn logs_not_opened_in_a_life_survive_its_clean_close() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = Local::open(dir.path()).unwrap();
        push(&*open(&store, id(1)), 2, 0, 10);
        push(&*open(&store, id(2)), 3, 0, 10);
        store.close().unwrap();
    }
    {
        let store = Local::open(dir.path()).unwrap();
        push(&*open(&store, id(1)), 2, 0, 10);
        store.close().unwrap();
    }
    let store = Local::open(dir.path()).unwrap();
    assert_eq!(open(&store, id(1)).span().end, 4);
    assert_eq!(open(&store, id(2)).span().end, 3);
}

#[test]
fn a_note_of_a_small_log_waits_in_memory_for_the_close() {
    let dir = tempfile::tempdir().unwrap();
    let store = Local::open(dir.path()).unwrap();
    let log = open(&store, id(1));
    push(&*log, 2, 0, 300);
    wait_durable(&*log);
    log.checkpoint(b"note").unwrap();
    store.close().unwrap();
    drop(store);
    let at = dir.path().join("topics").join(id(1).topic.to_string()).join("0");
    assert!(!at.join("checkpoint").exists());
    let store = Local::open(dir.path()).unwrap();
    let note = store
        .open_log(id(1), SMALL, &mut |seen| assert!(matches!(seen, Replayed::Note(_)), "nothing to replay"));
    let note = note.unwrap().note.unwrap();
    assert_eq!((note.offset, &note.bytes[..]), (2, &b"note"[..]));
}

#[test]
fn a_close_ends_thousands_of_logs_that_were_never_synced() {
    let dir = tempfile::tempdir().unwrap();
    let store = Local::open(dir.path()).unwrap();
    for n in 0..2500 {
        push(&*open(&store, id(n)), 1, 0, 10);
    }
    store.close().unwrap();
    drop(store);
    let store = Local::open(dir.path()).unwrap();
    assert_eq!(store.logs().unwrap().len(), 2500);
    for n in 0..2500 {
        let span = open(&store, id(n)).span();
        assert_eq!((span.start, span.durable, span.end), (0, 1, 1), "log {n}");
    }
}

#[test]
fn without_a_clean_close_the_log_is_recovered_and_the_incarnation_grows() {
    let dir = tempfile::tempdir().unwrap();
    for life in 0..4 {
        let store = eager(dir.path());
        assert_eq!(store.incarnation(), life);
        let log = open(&store, id(1));
        assert_eq!(log.span().end, i64::from(life) * 40);
        assert_eq!(log.span().durable, log.span().end);
        (0..20).for_each(|n| {
            push(&*log, 2, n, 300);
        });
        if life == 1 {
            log.checkpoint(b"kept").unwrap();
            wait_durable(&*log);
        }
    }
    let store = Local::open(dir.path()).unwrap();
    let log = open(&store, id(1));
    assert_eq!(read_all(&*log, 0, 700).len(), 80);
    assert_eq!(store.logs().unwrap(), vec![id(1)]);
}

#[test]
fn a_log_deleted_and_made_again_forgets_what_the_baseline_knows() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = Local::open(dir.path()).unwrap();
        (0..9).for_each(|n| {
            push(&*open(&store, id(1)), 2, n, 300);
        });
        store.close().unwrap();
    }
    {
        let store = Local::open(dir.path()).unwrap();
        store.delete_log(id(1)).unwrap();
        let log = open(&store, id(1));
        push(&*log, 1, 0, 10);
        wait_durable(&*log);
    }
    let store = Local::open(dir.path()).unwrap();
    assert_eq!(open(&store, id(1)).span().end, 1);
}

#[test]
fn no_file_exists_for_a_log_before_its_first_append() {
    let dir = tempfile::tempdir().unwrap();
    let store = eager(dir.path());
    let log = open(&store, id(1));
    log.checkpoint(b"").unwrap();
    log.sync();
    assert!(!dir.path().join("topics").exists());
    assert!(store.logs().unwrap().is_empty());
}

#[test]
fn a_second_owner_is_refused_with_the_directory_and_the_first_ones_pid() {
    let dir = tempfile::tempdir().unwrap();
    let first = Local::open(dir.path()).unwrap();
    let Err(Error::Refused(why)) = Local::open(dir.path()) else { panic!("two owners") };
    assert!(why.contains(&dir.path().display().to_string()) && why.contains(&std::process::id().to_string()));
    drop(first);
    assert!(Local::open(dir.path()).is_ok());
}

#[test]
fn a_lock_file_that_somebody_removes_lets_no_second_owner_in() {
    let dir = tempfile::tempdir().unwrap();
    let first = Local::open(dir.path()).unwrap();
    fs::remove_file(dir.path().join("lock")).unwrap();
    let Err(Error::Refused(why)) = Local::open(dir.path()) else { panic!("two owners") };
    assert!(why.contains("lock file"), "{why}");
    drop(first);
    assert!(Local::open(dir.path()).is_ok());
}

/// Unmounted under the store, or moved away by somebody.
#[test]
fn nothing_is_made_in_a_directory_that_took_the_place_of_the_one_that_was_opened() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("data");
    let store = Local::open(&dir).unwrap();
    let old = open(&store, id(1));
    push(&*old, 1, 0, 10);
    wait_durable(&*old);
    fs::rename(&dir, place.path().join("moved")).unwrap();
    for there in [false, true] {
        if there {
            fs::create_dir(&dir).unwrap();
        }
        let log = open(&store, id(2));
        let placed = Placed { base_offset: 0, leader_epoch: 0, batch: batch(1, 0, 10) };
        assert!(log.append(&[placed], 0).is_err());
        assert_eq!(dir.exists(), there);
    }
    assert!(store.close().is_err());
    assert!(tree(&dir).is_empty());
}

#[test]
fn foreign_and_newer_directories_are_refused_and_left_as_they_are() {
    for (name, text) in [("server.properties", "x"), ("format", "weir 2\nwhatever\n"), ("format", "garbage")]
    {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(name), text).unwrap();
        assert!(matches!(Local::open(dir.path()), Err(Error::Refused(_))), "{name} {text}");
        assert_eq!(tree(dir.path()), vec![(name.to_owned(), text.as_bytes().to_vec())]);
    }
}

#[test]
fn strange_things_in_the_directory_are_ignored() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = Local::open(dir.path()).unwrap();
        wait_durable(&*{
            let log = open(&store, id(1));
            push(&*log, 1, 0, 10);
            log
        });
    }
    let topics = dir.path().join("topics");
    fs::create_dir(topics.join("no-uuid")).unwrap();
    fs::write(topics.join("file"), "x").unwrap();
    std::os::unix::fs::symlink("/etc", topics.join(uuid::Uuid::from_u128(9).to_string())).unwrap();
    fs::create_dir(topics.join(uuid::Uuid::from_u128(1).to_string()).join("007")).unwrap();
    let store = Local::open(dir.path()).unwrap();
    assert_eq!(store.logs().unwrap(), vec![id(1)]);
    assert_eq!(open(&store, id(1)).span().end, 1);
    assert!(topics.join("no-uuid").exists() && topics.join("file").exists());
}

/// Plain files directly in `dir` with their content.
fn tree(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())).collect()
}

#[test]
fn what_a_crash_left_half_written_is_gone_before_the_log_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = {
        let store = Local::open(dir.path()).unwrap();
        let log = open(&store, id(1));
        push(&*log, 2, 0, 10);
        log.trim_to(1).unwrap();
        dir.path().join("topics").join(id(1).topic.to_string()).join("0")
    };
    for round in 0..20 {
        for name in ["checkpoint.tmp", "spare", "00000000000000000000.tmp"] {
            fs::write(path.join(name), b"half").unwrap();
        }
        let store = Local::open(dir.path()).unwrap();
        let log = open(&store, id(1));
        assert_eq!(log.span().end, 2 + round);
        let left: Vec<_> = fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name()).collect();
        let half = left.iter().filter(|name| name.to_string_lossy().ends_with("tmp") || *name == "spare");
        assert_eq!(half.count(), 0, "{left:?}");
        push(&*log, 1, 0, 10);
        // What the removal must not hit: this writes checkpoint.tmp again.
        log.trim_to(2 + round).unwrap();
    }
}

/// Descriptors of this process that lead into `dir`.
fn descriptors(dir: &Path) -> usize {
    let entries = fs::read_dir("/proc/self/fd").unwrap().filter_map(Result::ok);
    entries.filter(|entry| fs::read_link(entry.path()).is_ok_and(|to| to.starts_with(dir))).count()
}

#[test]
fn logs_that_nobody_syncs_keep_no_more_descriptors_than_there_may_be() {
    // With threads that sync, and with none that does anything.
    for held in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let options = LocalOptions { held, max_files: Some(16), ..LocalOptions::default() };
        let store = Local::open_with(dir.path(), options).unwrap();
        let logs: Vec<_> = (0..200).map(|n| open(&store, id(n))).collect();
        let before = descriptors(dir.path());
        for log in &logs {
            push(&**log, 1, 0, 10);
            let more = descriptors(dir.path()).saturating_sub(before);
            // Beside those of files: what threads have open for a moment.
            assert!(more <= 32, "{more} descriptors, held {held}");
        }
        store.close().unwrap();
    }
}

#[test]
fn an_index_that_a_trim_left_behind_goes_with_the_next_sweep() {
    let dir = tempfile::tempdir().unwrap();
    let store = Local::open(dir.path()).unwrap();
    let log = open(&store, id(1));
    for n in 0..40 {
        push(&*log, 2, n, 300);
    }
    store.close().unwrap();
    drop((log, store));
    let held =
        || Local::open_with(dir.path(), LocalOptions { held: true, ..LocalOptions::default() }).unwrap();
    let store = held();
    open(&store, id(1)).trim_to(70).unwrap();
    // What is queued now is dropped.
    store.close().unwrap();
    drop(store);
    let at = super::damage::log_dir(dir.path(), 1);
    let count = |suffix| super::damage::files(&at, suffix).len();
    assert!(count(".index") > count(".log") && count(".deleted") > 0);
    let store = held();
    store.sweep([(id(1).topic, 1)].into(), std::collections::HashSet::new());
    while store.run_jobs(10) > 0 {}
    assert!(count(".index") <= count(".log"));
    assert_eq!(count(".deleted"), 0);
    assert_eq!(read_all(&*open(&store, id(1)), 70, 700).len(), 5);
}
