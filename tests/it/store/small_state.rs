//! The store's own files, missing, empty, damaged or of another directory (reliability.md 5.2, rows 171 to 174, and more).

use std::fs;
use std::path::Path;

use weir_broker::store::local::Local;
use weir_broker::store::{Error, Kind, Put, Store};

use super::{id, open, push, read_all, wait_durable};

/// A directory with two logs and ten keys, closed or killed.
fn lived(clean: bool) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = Local::open(dir.path()).unwrap();
    for n in [1, 2] {
        let log = open(&store, id(n));
        (0..40).for_each(|t| {
            push(&*log, 2, t, 300);
        });
        wait_durable(&*log);
    }
    for n in 0..10 {
        let put = store.meta().put_if(&format!("key/{n}"), format!("value {n}").as_bytes(), None).unwrap();
        assert!(matches!(put, Put::Won(_)));
    }
    if clean {
        store.close().unwrap();
    }
    dir
}

fn assert_whole(dir: &Path, what: &str) -> Local {
    let store = Local::open(dir).unwrap_or_else(|e| panic!("{what}: {e}"));
    let kept = store.meta().list("key/").unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(kept.len(), 10, "{what}");
    for (n, (key, kept)) in kept.iter().enumerate() {
        assert_eq!(
            (key.as_str(), &kept.value[..]),
            (&*format!("key/{n}"), format!("value {n}").as_bytes()),
            "{what}"
        );
    }
    for n in [1, 2] {
        let log = open(&store, id(n));
        assert_eq!((log.span().start, log.span().end), (0, 80), "{what}");
        assert_eq!(read_all(&*log, 0, 1 << 20).len(), 40, "{what}");
    }
    let version = kept[3].1.version;
    assert!(matches!(store.meta().put_if("key/3", b"value 3", Some(version)), Ok(Put::Won(_))), "{what}");
    store
}

type Harm = fn(&Path);

const HARMS: [(&str, Harm); 8] = [
    ("missing", |path| fs::remove_file(path).unwrap()),
    ("empty", |path| fs::write(path, b"").unwrap()),
    ("half", |path| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    }),
    ("garbage", |path| fs::write(path, vec![0xA5; 5000]).unwrap()),
    ("zeros", |path| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, vec![0; bytes.len()]).unwrap();
    }),
    ("another front", |path| {
        let mut bytes = fs::read(path).unwrap();
        bytes[0] ^= 1;
        fs::write(path, bytes).unwrap();
    }),
    ("cut by one byte", |path| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
    }),
    ("many bits", |path| {
        let mut bytes = fs::read(path).unwrap();
        let len = bytes.len();
        (0..200).for_each(|n: usize| bytes[n * 7919 % len] ^= 0x10);
        fs::write(path, bytes).unwrap();
    }),
];

#[test]
fn small_state_that_is_lost_or_damaged_comes_back_from_its_copy() {
    for clean in [true, false] {
        for (what, harm) in HARMS {
            let dir = lived(clean);
            harm(&dir.path().join("meta"));
            let what = format!("meta {what}, clean {clean}");
            let store = assert_whole(dir.path(), &what);
            let told = store.incidents().counted(Kind::StateFailed) > 0;
            let kept = dir.path().join("quarantine").join("meta.0").exists();
            assert!(told || !kept, "{what}: nobody is told");
            assert!(told || !["missing", "empty", "garbage"].iter().any(|w| what.contains(w)), "{what}");
            drop(store);
            drop(assert_whole(dir.path(), &format!("{what}, the life after")));
        }
    }
}

#[test]
fn small_state_that_is_lost_with_its_copy_is_not_taken_for_a_new_one() {
    for (what, harm) in HARMS.into_iter().take(4) {
        let dir = lived(true);
        harm(&dir.path().join("meta"));
        fs::remove_file(dir.path().join("meta.copy")).unwrap();
        let before = fs::read(dir.path().join("meta")).ok();
        for _life in 0..2 {
            let store = Local::open(dir.path()).unwrap();
            let Err(Error::Refused(why)) = store.meta().get("key/1") else { panic!("{what}: starts empty") };
            assert!(why.contains("meta") && why.contains("backup"), "{why}");
        }
        assert_eq!(fs::read(dir.path().join("meta")).ok(), before, "{what}: touched");
    }
}

#[test]
fn a_copy_that_is_behind_missing_or_damaged_is_made_anew() {
    for (what, harm) in HARMS {
        let dir = lived(true);
        harm(&dir.path().join("meta.copy"));
        drop(assert_whole(dir.path(), what));
        fs::remove_file(dir.path().join("meta")).unwrap();
        drop(assert_whole(dir.path(), what));
    }
}

#[test]
fn whatever_becomes_of_one_of_the_stores_own_files_no_record_is_lost() {
    let other = lived(true);
    for name in ["format", "life", "lock", "clean", "baseline", "marks"] {
        for clean in [true, false] {
            let foreign = fs::read(other.path().join(name)).ok();
            for (what, harm) in HARMS {
                let dir = lived(clean);
                let path = dir.path().join(name);
                if fs::metadata(&path).is_ok_and(|found| found.len() > 0) {
                    harm(&path);
                    drop(assert_whole(dir.path(), &format!("{name} {what}, clean {clean}")));
                }
            }
            if let Some(foreign) = foreign.filter(|_| name != "lock") {
                let dir = lived(clean);
                fs::write(dir.path().join(name), foreign).unwrap();
                drop(assert_whole(dir.path(), &format!("{name} of another directory, clean {clean}")));
            }
        }
    }
}

#[test]
fn without_any_file_that_says_whose_directory_it_is_nothing_is_touched() {
    let dir = lived(true);
    for name in ["format", "life"] {
        fs::write(dir.path().join(name), b"nonsense").unwrap();
    }
    let Err(Error::Refused(why)) = Local::open(dir.path()) else { panic!("opens") };
    assert!(why.contains("format") && why.contains("backup"), "{why}");
    fs::remove_file(dir.path().join("format")).unwrap();
    let Err(Error::Refused(why)) = Local::open(dir.path()) else { panic!("opens") };
    assert!(why.contains("format"), "{why}");
    assert!(dir.path().join("clean").exists());
}

#[test]
fn what_does_not_check_out_is_said() {
    for name in ["life", "clean", "baseline", "marks", "meta.copy"] {
        // `clean` is read after a close, `baseline` after a kill.
        let dir = lived(name != "baseline");
        if name == "baseline" {
            let store = Local::open(dir.path()).unwrap();
            store.close().unwrap();
            drop(store);
            drop(Local::open(dir.path()).unwrap());
        }
        let path = dir.path().join(name);
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        let store = Local::open(dir.path()).unwrap();
        store.meta().get("key/1").unwrap();
        let seen = store.incidents().seen().into_iter().find(|seen| seen.kind == Kind::FileDamaged).unwrap();
        assert!(seen.count == 1 && seen.text.contains(name), "{name}: {seen:?}");
    }
}

/// What the close before the last one knew still says most of a log.
#[test]
fn a_damaged_close_does_not_take_the_place_of_the_one_before() {
    let dir = lived(true);
    Local::open(dir.path()).unwrap().close().unwrap();
    let (clean, baseline) = (dir.path().join("clean"), dir.path().join("baseline"));
    let before = fs::read(&baseline).unwrap();
    fs::write(&clean, b"nonsense").unwrap();
    drop(Local::open(dir.path()).unwrap());
    assert_eq!(fs::read(&baseline).unwrap(), before);
}

#[test]
fn a_flipped_bit_in_the_format_is_not_another_version() {
    let dir = lived(true);
    let path = dir.path().join("format");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("weir 1", "weir 9", 1)).unwrap();
    drop(assert_whole(dir.path(), "version flipped"));
}

#[test]
fn versions_grow_over_a_restored_state() {
    let dir = lived(true);
    let gone = {
        let store = Local::open(dir.path()).unwrap();
        let Ok(Put::Won(gone)) = store.meta().put_if("gone", b"value", None) else { panic!("not written") };
        store.meta().delete_if("gone", gone).unwrap();
        store.close().unwrap();
        gone
    };
    fs::remove_file(dir.path().join("meta")).unwrap();
    let store = Local::open(dir.path()).unwrap();
    let Ok(Put::Won(version)) = store.meta().put_if("gone", b"again", None) else { panic!("not written") };
    assert!(version > gone, "{version} after {gone}");
}

#[test]
fn numbers_of_lives_never_go_back() {
    let dir = lived(true);
    let before = Local::open(dir.path()).unwrap().incarnation();
    fs::remove_file(dir.path().join("format")).unwrap();
    let store = assert_whole(dir.path(), "format missing");
    assert!(store.incarnation() > before);
}
