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

use self::faulty::{Dice, Fault, Faulty};
use crate::store::{batch, id, read_all};
use weir_broker::batch::Batch;
use weir_broker::store::local::{Local, LocalOptions};
use weir_broker::store::{Error, LogOptions, Placed, Store};

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

fn compare(disk: &Faulty, models: &[Model], what: &str) {
    let store = open(disk).unwrap_or_else(|e| panic!("{what}: store does not open: {e}"));
    for (n, model) in models.iter().enumerate() {
        let mut replayed = 0;
        let opened = store.open_log(id(n as u128), TINY, &mut |_| replayed += 1);
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
        for header in read_all(&*log, span.start, 700) {
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
            compare(&disk.after_power_cut(), &models, &format!("seed {seed} {:?}", fault(n)));
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
