//! Power cuts and failing calls at every disk call of a seeded scenario.
//!
//! Small state is not exercised: redb writes past the `Disk` seam and its crash safety is its own.
//! After each run the disk is opened again without faults and compared with a model (reliability.md 3:
//! L1, L2, L5, L6): what was durable is there, what is there is a prefix of what was appended, the start
//! does not go back, and the log goes on.

mod faulty;
mod told;

use std::path::Path;
use std::sync::Arc;

pub use self::faulty::{Dice, Fault, Faulty, Names, PAGE_BYTES};
use crate::store::{batch, headers, id, read_all};
use weir_broker::batch::{Batch, Header};
use weir_broker::store::local::{Local, LocalOptions};
use weir_broker::store::{Error, Kind, Log, LogOptions, Placed, Store};

const TINY: LogOptions = LogOptions { segment_bytes: 1500, segment_ms: 1 << 40, index_interval_bytes: 200 };

#[derive(Clone)]
struct Known {
    base: i64,
    next: i64,
    crc: u32,
}

/// What a log's user knows.
#[derive(Default)]
struct Model {
    acked: Vec<Known>,
    in_doubt: Vec<Known>,
    durable: i64,
    start: i64,
    start_tried: i64,
}

impl Model {
    fn end(&self) -> i64 {
        self.acked.last().map_or(0, |known| known.next)
    }
}

fn open(disk: &Faulty) -> Result<Local, Error> {
    let disk = Arc::new(disk.clone());
    let options = LocalOptions { disk, inline: true, checkpoint_bytes: 0, ..LocalOptions::default() };
    Local::open_with(Path::new("/data"), options)
}

/// A store whose threads run only when the scenario says so, as they may under load.
fn open_held(disk: &Faulty) -> Result<Local, Error> {
    let disk = Arc::new(disk.clone());
    let options =
        LocalOptions { disk, held: true, side_by_side: 1, checkpoint_bytes: 0, ..LocalOptions::default() };
    Local::open_with(Path::new("/data"), options)
}

/// Runs appends, syncs, notes, trims, seals and clean restarts until done or until the store is of no use.
fn scenario(disk: &Faulty, seed: u64, models: &mut [Model]) -> Result<(), Error> {
    let mut dice = Dice::new(seed);
    for _life in 0..2 {
        let store = open(disk)?;
        let mut logs = Vec::new();
        for n in 0..models.len() {
            logs.push(store.open_log(id(n as u128), TINY, &mut |_| {})?.log);
        }
        for _step in 0..25 {
            let n = dice.below(models.len() as u64) as usize;
            let (log, model) = (&logs[n], &mut models[n]);
            match dice.below(12) {
                0..=5 => {
                    let placed = batches(&mut dice, model.end());
                    let known: Vec<_> = placed.iter().map(|p| known(p.base_offset, &p.batch)).collect();
                    match log.append(&placed, 0) {
                        Ok(()) => {
                            model.acked.extend(known);
                            model.in_doubt.clear();
                        }
                        Err(_) => {
                            assert_eq!(log.span().end, model.end(), "a failed append moves nothing");
                            model.in_doubt.extend(known);
                        }
                    }
                }
                6..=7 => log.sync(),
                8 => log.sync_in(|work| work()),
                9 => drop(log.checkpoint(&[7; 20])),
                10 => {
                    let to = model.start + dice.below((model.end() - model.start) as u64 + 1) as i64;
                    model.start_tried = model.start_tried.max(to);
                    if log.trim_to(to).is_ok() {
                        model.start = model.start.max(to);
                    }
                }
                _ => drop(log.seal()),
            }
            model.durable = model.durable.max(log.span().durable);
        }
        store.close()?;
        for (log, model) in logs.iter().zip(models.iter_mut()) {
            model.durable = log.span().end;
        }
    }
    Ok(())
}

fn batches(dice: &mut Dice, mut base_offset: i64) -> Vec<Placed> {
    let mut out = Vec::new();
    for _ in 0..=dice.below(3) {
        let batch = batch(1 + dice.below(3) as i32, dice.below(1000) as i64, dice.below(600) as usize);
        let placed = Placed { base_offset, leader_epoch: 0, batch };
        base_offset = placed.next_offset();
        out.push(placed);
    }
    out
}

fn known(base: i64, batch: &Batch) -> Known {
    Known { base, next: base + i64::from(batch.header().last_offset_delta) + 1, crc: batch.header().crc }
}

/// Every header that can be read. A write that reached the disk in part, but for its last bytes before the end of a sector,
/// with whole batches behind it, is taken for damage; that is no harm, but only where nothing had been told durable.
fn read_around(log: &dyn Log, durable: i64, what: &str) -> Vec<Header> {
    let (mut out, span) = (Vec::new(), log.span());
    let mut offset = span.start;
    while offset < span.end {
        match log.read(offset, 700, true, span.end) {
            Ok(slice) => {
                let got = headers(&slice.to_bytes().unwrap());
                offset = got.last().expect("a read below the end gives a batch").next_offset();
                out.extend(got);
            }
            Err(Error::Damaged { from, to, .. }) => {
                assert!(from == offset && to > from, "{what}: {from}..{to} at {offset}");
                assert!(from >= durable, "{what}: {from}..{to} are lost and were durable to {durable}");
                offset = to;
            }
            Err(error) => panic!("{what}: {error}"),
        }
    }
    out
}

fn compare(disk: &Faulty, models: &[Model], what: &str) {
    let store = open(disk).unwrap_or_else(|e| panic!("{what}: store does not open: {e}"));
    for (n, model) in models.iter().enumerate() {
        let opened = store.open_log(id(n as u128), TINY, &mut |_| {});
        let opened = opened.unwrap_or_else(|e| panic!("{what}: log {n} does not open: {e}"));
        let log = opened.log;
        let span = log.span();
        assert!(span.end >= model.durable, "{what}: durable to {} but ends at {}", model.durable, span.end);
        assert!(
            span.start >= model.start && span.start <= model.start_tried.max(span.end),
            "{what}: start {span:?}"
        );
        assert!(opened.note.is_none_or(|note| note.offset <= span.end), "{what}: note past the end");
        let appended: Vec<_> = model.acked.iter().chain(&model.in_doubt).collect();
        for header in read_around(&*log, model.durable, what) {
            let twin =
                appended.iter().find(|known| known.base == header.base_offset && known.crc == header.crc);
            assert!(
                twin.is_some(),
                "{what}: log {n} holds a batch at {} that nobody wrote",
                header.base_offset
            );
        }
        let end = appended.iter().any(|known| known.next == span.end) || span.end == 0;
        assert!(end, "{what}: log {n} ends at {} inside a batch", span.end);
        let placed = Placed { base_offset: span.end, leader_epoch: 9, batch: batch(1, 1, 40) };
        log.append(&[placed], 0).unwrap_or_else(|e| panic!("{what}: log {n} takes no append: {e}"));
        log.sync();
        assert_eq!(log.span().durable, span.end + 1, "{what}: log {n} does not sync");
    }
}

fn at_every_call(seeds: std::ops::Range<u64>, fault: impl Fn(u64) -> Fault) {
    for seed in seeds {
        for n in 1.. {
            let disk = Faulty::new(fault(n), seed ^ n);
            let mut models = [Model::default(), Model::default()];
            let _ = scenario(&disk, seed, &mut models);
            if !disk.struck() {
                assert!(n > 50, "the scenario makes calls");
                break;
            }
            let order = if n % 2 == 0 { Names::First } else { Names::Any };
            compare(&disk.after_power_cut(order), &models, &format!("seed {seed} {:?}", fault(n)));
        }
    }
}

#[test]
fn after_a_power_cut_at_any_call_what_was_durable_is_there_and_nothing_else() {
    at_every_call(0..20, Fault::CutAt);
}

#[test]
fn an_input_output_error_at_any_call_loses_nothing_durable() {
    at_every_call(100..106, |n| Fault::FailAt(n, libc::EIO));
}

#[test]
fn a_full_disk_at_any_call_loses_nothing_durable() {
    at_every_call(200..203, |n| Fault::FailAt(n, libc::ENOSPC));
}

/// Lives of one log under load: segments roll while older ones wait for their syncs, threads lag behind, and the power goes.
fn lives(seed: u64) {
    let mut dice = Dice::new(seed);
    let mut disk = Faulty::new(Fault::None, seed);
    let mut models = [Model::default(), Model::default()];
    for life in 0..6 {
        let what = format!("seed {seed} life {life}");
        let store = open_held(&disk).unwrap_or_else(|e| panic!("{what}: {e}"));
        let mut logs = Vec::new();
        for (n, model) in models.iter_mut().enumerate() {
            let log = store
                .open_log(id(n as u128), TINY, &mut |_| {})
                .unwrap_or_else(|e| panic!("{what}: {e}"))
                .log;
            let span = log.span();
            assert!(
                span.end >= model.durable,
                "{what}: log {n} ends at {span:?}, durable were {}",
                model.durable
            );
            model.acked.retain(|known| known.next <= span.end);
            assert_eq!(model.end(), span.end, "{what}: log {n} ends inside a batch");
            let read: Vec<_> =
                read_all(&*log, 0, 700).iter().map(|header| (header.base_offset, header.crc)).collect();
            let known: Vec<_> = model.acked.iter().map(|known| (known.base, known.crc)).collect();
            assert_eq!(read, known, "{what}: log {n}");
            assert!(!store.incidents().stands(Kind::LogDamaged), "{what}: a power cut alone damages nothing");
            model.durable = span.end;
            logs.push(log);
        }
        for _step in 0..40 {
            let n = dice.below(2) as usize;
            let (log, model) = (&logs[n], &mut models[n]);
            match dice.below(10) {
                0..=5 => {
                    let placed = batches(&mut dice, model.end());
                    log.append(&placed, 0).unwrap();
                    model.acked.extend(placed.iter().map(|p| known(p.base_offset, &p.batch)));
                }
                6 => log.sync_in(|work| work()),
                7 => log.sync(),
                8 => drop(log.checkpoint(&[7; 20])),
                _ => drop(store.run_jobs(1 + dice.below(4) as usize)),
            }
            for (log, model) in logs.iter().zip(models.iter_mut()) {
                model.durable = model.durable.max(log.span().durable);
            }
        }
        if dice.below(8) == 0 {
            store.close().unwrap();
            models.iter_mut().for_each(|model| model.durable = model.end());
        }
        // Now and then only the process dies.
        if dice.below(3) > 0 {
            disk = disk.after_power_cut(if dice.below(2) == 0 { Names::First } else { Names::Any });
        }
    }
}

/// How many seeds a test runs: few, or what `WEIR_CRASH_SEEDS` says.
fn seeds(few: u64) -> u64 {
    std::env::var("WEIR_CRASH_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(few)
}

#[test]
fn lives_that_power_cuts_end_under_load_lose_nothing_durable() {
    (0..seeds(60)).for_each(lives);
}

/// One bit turns somewhere in the batches of a log, with or without a clean close before: what is read is what was written,
/// and what is not read is the neighbourhood of that bit.
fn flipped(seed: u64) {
    let mut dice = Dice::new(seed);
    let disk = Faulty::new(Fault::None, seed);
    let mut model = Model::default();
    {
        let store = open(&disk).unwrap();
        let log = store.open_log(id(0), TINY, &mut |_| {}).unwrap().log;
        for step in 0..30 {
            let placed = batches(&mut dice, model.end());
            log.append(&placed, 0).unwrap();
            model.acked.extend(placed.iter().map(|p| known(p.base_offset, &p.batch)));
            if step % 3 == 0 {
                log.sync();
            }
        }
        log.sync();
        if dice.below(2) == 0 {
            store.close().unwrap();
        }
    }
    let logs: Vec<_> = disk
        .files()
        .into_iter()
        .filter(|(path, bytes)| path.extension().is_some_and(|e| e == "log") && *bytes > 0)
        .collect();
    let (path, bytes) = &logs[dice.below(logs.len() as u64) as usize];
    let bit = dice.below(bytes * 8);
    disk.flip(path, bit);
    let what = format!("seed {seed}: bit {bit} of {}", path.display());
    for life in 0..3 {
        let store = open(&disk).unwrap_or_else(|e| panic!("{what}: {e}"));
        let log = store.open_log(id(0), TINY, &mut |_| {}).unwrap_or_else(|e| panic!("{what}: {e}")).log;
        assert_eq!(log.span().end, model.end(), "{what}: life {life}");
        let (mut offset, mut lost, mut epochs) = (0, 0, 0);
        while offset < log.span().end {
            match log.read(offset, 700, true, log.span().end) {
                Ok(slice) => {
                    for header in headers(&slice.to_bytes().unwrap()) {
                        let same = |k: &&Known| (k.base, k.crc) == (header.base_offset, header.crc);
                        assert!(model.acked.iter().any(|k| same(&k)), "{what}: {header:?} was never written");
                        epochs += usize::from(header.leader_epoch != 0);
                        offset = header.next_offset();
                    }
                }
                Err(Error::Damaged { from, to, .. }) => {
                    assert!(from == offset && to > from, "{what}: {from}..{to} at {offset}");
                    lost += model.acked.iter().filter(|k| (from..to).contains(&k.base)).count();
                    offset = to;
                }
                Err(error) => panic!("{what}: {error}"),
            }
        }
        // A higher epoch of the last batch is plausible where nothing has summed it up yet.
        assert!((1..=3).contains(&lost) || (lost, epochs) == (0, 1), "{what}: {lost} lost in life {life}");
        assert!(lost == 0 || epochs == 0, "{what}: a wrong epoch is served");
        assert!(lost == 0 || store.incidents().stands(Kind::LogDamaged), "{what}: nobody is told");
        let placed = Placed { base_offset: model.end(), leader_epoch: 0, batch: batch(1, 1, 40) };
        model.acked.push(known(placed.base_offset, &placed.batch));
        log.append(&[placed], 0).unwrap();
        log.sync();
        if life == 1 {
            store.close().unwrap();
        }
    }
}

#[test]
fn a_bit_that_turns_takes_its_place_out_and_not_the_log() {
    (0..seeds(300)).for_each(flipped);
}
