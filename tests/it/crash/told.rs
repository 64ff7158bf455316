//! Every failing call is found in the ledger of incidents, once, whoever was told of it beside.

use std::path::Path;
use std::sync::Arc;

use super::faulty::{Dice, Fault, Faulty};
use super::{TINY, batches};
use crate::store::id;
use weir_broker::store::local::{Local, LocalOptions};
use weir_broker::store::{Error, Incidents, Kind, Store};

/// All verbs of a store on `disk`, each as often as segments roll a few times; how many failed with more than a refusal.
fn all_verbs(disk: &Faulty, incidents: &Arc<Incidents>) -> Result<u64, Error> {
    let options = LocalOptions {
        disk: Arc::new(disk.clone()),
        inline: true,
        checkpoint_bytes: 0,
        incidents: Arc::clone(incidents),
        ..LocalOptions::default()
    };
    let store = Local::open_with(Path::new("/data"), options)?;
    let (mut failed, mut dice) = (0, Dice::new(7));
    let mut see = |outcome: Result<(), Error>| {
        if matches!(outcome, Err(Error::Io { .. } | Error::Full { .. } | Error::Corrupt { .. })) {
            failed += 1;
        }
    };
    match store.open_log(id(1), TINY, &mut |_| {}) {
        Err(error) => see(Err(error)),
        Ok(opened) => {
            let log = opened.log;
            for step in 0..12 {
                see(log.append(&batches(&mut dice, log.span().end), 0));
                log.sync();
                let span = log.span();
                see(log.read(span.start, 1 << 20, true, span.end).map(drop));
                see(log.seek_time(0, 0).map(drop));
                see(log.max_timestamp(0).map(drop));
                match step {
                    4 => see(log.seal()),
                    6 => see(log.trim_to(log.span().durable)),
                    8 => see(log.checkpoint(&[1; 20])),
                    _ => {}
                }
            }
        }
    }
    see(store.delete_log(id(1)));
    Ok(failed)
}

#[test]
fn a_call_that_fails_is_told_once_whatever_it_was_and_refusals_are_not() {
    let mut kinds = std::collections::BTreeSet::new();
    let mut nothing_failed = 0;
    for call in 1.. {
        let errno = if call % 2 == 0 { 5 } else { 28 };
        let (disk, incidents) = (Faulty::new(Fault::FailAt(call, errno), 1), Arc::new(Incidents::default()));
        let Ok(failed) = all_verbs(&disk, &incidents) else { continue };
        if !disk.struck() {
            break;
        }
        let told: u64 = Kind::ALL.into_iter().map(|kind| incidents.counted(kind)).sum();
        // One call failed, so one verb at most did for that reason; what followed from it was a refusal.
        assert!(failed <= 1 && told <= 1, "call {call}: {failed} failed, {:?}", incidents.seen());
        assert!(told >= failed, "call {call}: nobody was told");
        nothing_failed += u64::from(told == 0);
        kinds.extend(Kind::ALL.into_iter().filter(|kind| incidents.counted(*kind) > 0));
    }
    // A read that fails once is made again, page by page.
    let some = [Kind::WriteFailed, Kind::OpenFailed, Kind::SyncFailed, Kind::DiskFull, Kind::UpkeepFailed];
    for kind in some {
        assert!(kinds.contains(&kind), "{kind:?} is not in {kinds:?}");
    }
    // Hints, marks and blocks reserved ahead may fail in silence, an append that finds space and a read that works the second time.
    assert!(nothing_failed < 80, "{nothing_failed} calls failed in silence");
}
