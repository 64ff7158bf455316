//! Laws of `Store`, `Log` and `Meta` that hold for every engine.

use std::task::{Poll, Waker};

use weir_broker::batch::Header;
use weir_broker::store::{Error, Placed, Put, Registration, Replayed, Slice};

use super::{SMALL, batch, headers, id, on_every_engine, open, push, read_all, wait_durable};

#[test]
fn what_is_appended_is_read_back_with_its_offsets_and_epochs() {
    on_every_engine(|store| {
        let log = open(store, id(1));
        let mut expected = Vec::new();
        for n in 0..200 {
            expected.push(push(&*log, 1 + n % 5, i64::from(n), (n as usize * 37) % 700));
        }
        for max_bytes in [1, 300, 5000, 1 << 20] {
            let got = read_all(&*log, 0, max_bytes);
            assert_eq!(got.iter().map(|h| h.base_offset).collect::<Vec<_>>(), expected);
            assert!(got.iter().all(|h| h.leader_epoch == 3));
        }
    });
}

#[test]
fn many_batches_in_one_append_are_written_in_order() {
    on_every_engine(|store| {
        let log = open(store, id(1));
        let placed: Vec<_> =
            (0..1500).map(|n| Placed { base_offset: n, leader_epoch: 0, batch: batch(1, n, 10) }).collect();
        log.append(&placed, 0).unwrap();
        assert_eq!(log.span().end, 1500);
        assert_eq!(read_all(&*log, 0, 10_000).len(), 1500);
    });
}

#[test]
fn a_read_starts_with_the_batch_that_contains_the_offset() {
    on_every_engine(|store| {
        let log = open(store, id(1));
        (0..100).for_each(|n| {
            push(&*log, 7, n, 100);
        });
        for offset in 0..700 {
            let got = headers(&log.read(offset, 1, true, 700).unwrap().to_bytes().unwrap());
            let none = log.read(offset, 1, false, 700).unwrap();
            assert!(none.is_empty() && none.next_offset() == offset, "it has no room");
            assert!(!log.read(offset, 1 << 20, false, 700).unwrap().is_empty());
            assert_eq!(got.len(), 1, "one byte allows the first batch only");
            assert!(got[0].base_offset <= offset && offset <= got[0].last_offset());
        }
    });
}

#[test]
fn a_read_ends_at_until_and_within_its_size() {
    on_every_engine(|store| {
        let log = open(store, id(1));
        (0..100).for_each(|n| {
            push(&*log, 2, n, 50);
        });
        for until in (0..=200).step_by(2) {
            for max in [1, 111, 112, 600, 4000] {
                let slice = log.read(0, max, true, until).unwrap();
                let got = headers(&slice.to_bytes().unwrap());
                assert!(got.iter().all(|h| h.next_offset() <= until));
                assert!(slice.len() <= max || got.len() <= 1);
                assert_eq!(slice.is_empty(), until == 0);
                assert_eq!(slice.next_offset(), got.last().map_or(0, Header::next_offset));
                assert_eq!(slice.for_socket().len(), slice.len());
            }
        }
    });
}

#[test]
fn offsets_outside_the_log_are_out_of_range_and_the_end_is_empty() {
    on_every_engine(|store| {
        let log = open(store, id(1));
        assert!(matches!(log.read(0, 10, true, 0), Ok(slice) if slice.is_empty()));
        push(&*log, 3, 0, 10);
        assert!(matches!(log.read(4, 10, true, 3), Err(Error::OutOfRange { start: 0, end: 3 })));
        assert!(matches!(log.read(-1, 10, true, 3), Err(Error::OutOfRange { .. })));
        assert!(log.read(3, 10, true, 3).unwrap().is_empty());
        assert!(Slice::empty(0).is_empty());
    });
}

#[test]
fn segments_roll_by_size_and_by_age() {
    on_every_engine(|store| {
        let log = open(store, id(1));
        (0..50).for_each(|_| {
            push(&*log, 1, 5, 1000);
        });
        let parts = log.segments();
        assert!(parts.len() > 10 && parts.iter().all(|p| p.bytes <= SMALL.segment_bytes));
        assert!(parts.windows(2).all(|w| w[0].next_offset == w[1].base_offset && w[0].sealed));
        assert!(!parts.last().unwrap().sealed);
        log.set_options(weir_broker::store::LogOptions { segment_ms: 100, ..SMALL });
        let before = log.segments().len();
        push(&*log, 1, 5 + 101, 10);
        assert_eq!(log.segments().len(), before + 1);
    });
}

#[test]
fn a_sealed_log_goes_on_in_a_new_segment() {
    on_every_engine(|store| {
        let log = open(store, id(1));
        log.seal().unwrap();
        push(&*log, 1, 1, 10);
        log.seal().unwrap();
        assert!(log.segments().iter().all(|p| p.sealed));
        push(&*log, 1, 2, 10);
        assert_eq!(log.segments().len(), 2);
        assert_eq!(read_all(&*log, 0, 1000).len(), 2);
    });
}

#[test]
fn timestamps_are_found_as_by_brute_force() {
    on_every_engine(|store| {
        let log = open(store, id(1));
        let times: Vec<i64> = (0..300i64).map(|n| n * 10 + (n * 7919) % 97).collect();
        times.iter().for_each(|t| {
            push(&*log, 2, *t, 80);
        });
        for start in [0, 101] {
            log.trim_to(start).unwrap();
            let live: Vec<_> = (0i64..)
                .zip(&times)
                .map(|(i, t)| (i * 2, *t))
                .filter(|(base, _)| base + 1 >= start)
                .collect();
            for at in (-5..3200).step_by(13) {
                let expected = live.iter().find(|(_, t)| *t >= at).map(|(base, _)| *base);
                assert_eq!(log.seek_time(at, 0).unwrap(), expected, "timestamp {at} from {start}");
            }
            for from in [0, start, 102, 599, 600] {
                let whole = || live.iter().filter(|(base, _)| *base >= from.max(start));
                let newest = whole().map(|(_, t)| *t).max();
                let first = whole().find(|(_, t)| Some(*t) == newest).copied();
                assert_eq!(log.max_timestamp(from).unwrap(), first, "from {from} past {start}");
            }
        }
    });
}

#[test]
fn the_start_moves_up_and_frees_whole_segments() {
    on_every_engine(|store| {
        let log = open(store, id(1));
        (0..60).for_each(|n| {
            push(&*log, 1, n, 500);
        });
        let before = log.segments().len();
        log.trim_to(30).unwrap();
        log.trim_to(20).unwrap();
        assert_eq!(log.span().start, 30);
        assert!(log.segments().len() < before && log.segments()[0].next_offset > 30);
        assert!(matches!(log.read(29, 10, true, 60), Err(Error::OutOfRange { start: 30, .. })));
        assert_eq!(read_all(&*log, 30, 900).first().unwrap().base_offset, 30);
        assert!(matches!(log.trim_to(61), Err(Error::OutOfRange { .. })));
        log.trim_to(60).unwrap();
        assert!(log.segments().is_empty());
        assert_eq!(push(&*log, 1, 99, 10), 60);
        assert_eq!(read_all(&*log, 60, 900).len(), 1);
    });
}

#[test]
fn a_slice_outlives_the_log_it_was_read_from() {
    on_every_engine(|store| {
        let log = open(store, id(1));
        let big = 40_000;
        push(&*log, 1, 1, big);
        let slice = log.read(0, 1 << 20, true, 1).unwrap();
        push(&*log, 1, 2, 10);
        log.trim_to(1).unwrap();
        store.delete_log(id(1)).unwrap();
        drop(log);
        assert_eq!(headers(&slice.to_bytes().unwrap()).len(), 1);
        assert_eq!(slice.for_socket().len(), big + 61);
    });
}

#[test]
fn a_deleted_log_is_empty_when_opened_again() {
    on_every_engine(|store| {
        let log = open(store, id(1));
        push(&*log, 5, 1, 10);
        assert_eq!(store.logs().unwrap(), vec![id(1)]);
        store.delete_log(id(1)).unwrap();
        store.delete_log(id(2)).unwrap();
        assert!(store.logs().unwrap().is_empty());
        let placed = Placed { base_offset: 5, leader_epoch: 0, batch: batch(1, 1, 1) };
        assert!(matches!(log.append(&[placed], 0), Err(Error::Deleted)));
        let log = open(store, id(1));
        assert_eq!(log.span().end, 0);
        assert_eq!(push(&*log, 1, 1, 10), 0);
    });
}

/// A log that is gone is not one that failed.
#[test]
fn who_waits_for_a_deleted_log_is_told_that_it_was_deleted() {
    on_every_engine(|store| {
        let log = open(store, id(1));
        push(&*log, 5, 1, 10);
        let mut place = Registration::default();
        assert!(log.durable().poll_reach(7, &mut place, Waker::noop()).is_pending());
        store.delete_log(id(1)).unwrap();
        let waited = log.durable().poll_reach(7, &mut place, Waker::noop());
        assert!(matches!(waited, Poll::Ready(Err(Error::Deleted))), "{waited:?}");
        log.sync();
        assert!(matches!(
            log.durable().poll_reach(7, &mut place, Waker::noop()),
            Poll::Ready(Err(Error::Deleted))
        ));
    });
}

#[test]
fn sync_makes_everything_durable() {
    on_every_engine(|store| {
        let logs: Vec<_> = (0..20).map(|n| open(store, id(n))).collect();
        for round in 0..5 {
            logs.iter().for_each(|log| {
                push(&**log, 3, round, 2000);
            });
            logs.iter().for_each(|log| wait_durable(&**log));
        }
        assert!(logs.iter().all(|log| log.durable().value() == 15));
    });
}

#[test]
fn a_sync_in_place_or_by_a_thread_covers_all_that_was_there_when_it_was_asked_for() {
    on_every_engine(|store| {
        let logs: Vec<_> = (0..4).map(|n| open(store, id(n))).collect();
        std::thread::scope(|scope| {
            for log in &logs {
                scope.spawn(move || {
                    for round in 0..50 {
                        push(&**log, 1, round, 100);
                        let end = log.span().end;
                        // Several logs ask at once: one of them syncs here, the others' threads do.
                        log.sync_in(|work| work());
                        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
                        while log.durable().value() < end {
                            assert!(std::time::Instant::now() < deadline, "a sync was forgotten");
                            std::thread::yield_now();
                        }
                    }
                });
            }
        });
    });
}

#[test]
fn opening_again_replays_only_past_the_note() {
    on_every_engine(|store| {
        let log = open(store, id(1));
        (0..40).for_each(|n| {
            push(&*log, 2, n, 300);
        });
        log.checkpoint(b"first").unwrap();
        (0..5).for_each(|n| {
            push(&*log, 2, n, 300);
        });
        let (mut seen, mut noted) = (Vec::new(), None);
        let mut replay = |replayed: Replayed<'_>| match replayed {
            Replayed::Note(note) => noted = Some((note.offset, seen.len())),
            Replayed::Batch(header) => seen.push(header.base_offset),
        };
        let opened = store.open_log(id(1), SMALL, &mut replay).unwrap();
        assert_eq!(noted, Some((80, 0)), "the note comes first");
        let note = opened.note.unwrap();
        assert_eq!((note.offset, &note.bytes[..]), (80, &b"first"[..]));
        assert_eq!(seen, vec![80, 82, 84, 86, 88]);
    });
}

#[test]
fn readers_see_whole_batches_while_a_writer_appends() {
    on_every_engine(|store| {
        let log = open(store, id(1));
        std::thread::scope(|scope| {
            for max in [1, 500, 100_000] {
                let log = &*log;
                scope.spawn(move || {
                    let mut offset = 0;
                    while offset < 2000 {
                        let end = log.span().end;
                        let got = headers(&log.read(offset, max, true, end).unwrap().to_bytes().unwrap());
                        for header in got {
                            assert_eq!(header.base_offset, offset);
                            offset = header.next_offset();
                        }
                    }
                });
            }
            (0..1000).for_each(|n| {
                push(&*log, 2, n, (n as usize * 13) % 400);
            });
        });
    });
}

#[test]
fn small_state_is_compare_and_set() {
    on_every_engine(|store| {
        let meta = store.meta();
        assert_eq!(meta.get("a/1").unwrap(), None);
        let Put::Won(v1) = meta.put_if("a/1", b"x", None).unwrap() else { panic!("new key") };
        assert_eq!(meta.put_if("a/1", b"y", None).unwrap(), Put::Lost);
        let Put::Won(v2) = meta.put_if("a/1", b"y", Some(v1)).unwrap() else { panic!("right version") };
        assert!(v2 > v1);
        assert_eq!(meta.put_if("a/1", b"z", Some(v1)).unwrap(), Put::Lost);
        assert_eq!(&meta.get("a/1").unwrap().unwrap().value[..], b"y");
        assert!(matches!(meta.put_if("a/2", b"2", None).unwrap(), Put::Won(_)));
        assert!(matches!(meta.put_if("b", b"3", None).unwrap(), Put::Won(_)));
        let keys: Vec<_> = meta.list("a/").unwrap().into_iter().map(|(k, _)| k).collect();
        assert_eq!(keys, ["a/1", "a/2"]);
        assert_eq!(meta.delete_if("a/1", v1).unwrap(), Put::Lost);
        assert_eq!(meta.delete_if("a/1", v2).unwrap(), Put::Won(0));
        assert_eq!(meta.get("a/1").unwrap(), None);
        let Put::Won(v3) = meta.put_if("a/1", b"x", None).unwrap() else { panic!("new key") };
        assert!(v3 > v2, "versions of a key only grow, over a deletion too");
    });
}
