//! Bad input, row by row: what it is, what weir answers, and that the broker is none the worse for it.
//!
//! Owns: the table of rows 1 to 108 (one file per heading) and what holds after each of them: the same broker
//! answers ApiVersions and a produce/fetch round trip within a second, its memory has grown by at most 8 MiB
//! (at the peak, too, unless the row says why not), its log has no panic and no raw control byte in it.
//! The broker is the built binary, one for each heading: in this process its memory could not be told from
//! that of the bombs made here. Where weir has a choice the row says which, and why.
//! Deliberately absent: groups, logins, HTTP and damaged files, which have tests of their own.

mod batches;
mod compression;
mod counts;
mod fetch;
mod forged;
mod framing;
mod header;
mod served;
mod waiting;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::{Client, In, Out, produced};
use served::{Served, request};

/// What a row may leave behind, and what it may take while it runs unless it says otherwise.
const GROWTH_KIB_MAX: u64 = 8 * 1024;

/// Figures of time are those of an optimised build; one for debugging is many times slower.
const fn figure(optimised_ms: u64) -> Duration {
    Duration::from_millis(if cfg!(debug_assertions) { optimised_ms * 4 } else { optimised_ms })
}

/// Rows that are not in the table, and why.
const ABSENT: &[(u8, &str)] =
    &[(8, "a SASL listener: there is none yet"), (11, "a TLS listener: there is none yet")];

/// A line of the table. A number may stand in several lines.
struct Row {
    number: u8,
    name: &'static str,
    case: Case,
    peak_kib: u64,
}

enum Case {
    /// Each of these, on a connection of its own, is closed without an answer.
    Closed(Vec<Vec<u8>>),
    /// Each of these as the records of a Produce v7 to a new topic has this code, and nothing is appended.
    Refused(i16, Vec<Vec<u8>>),
    /// Each of these as the records of a Produce v7 to a new topic is appended; that many records come of it.
    Appended(i64, Vec<Vec<u8>>),
    /// Looks for itself.
    Driven(fn(&Served)),
}

fn row(number: u8, name: &'static str, case: Case) -> Row {
    Row { number, name, case, peak_kib: GROWTH_KIB_MAX }
}

fn closed<const N: usize>(number: u8, name: &'static str, inputs: [Vec<u8>; N]) -> Row {
    row(number, name, Case::Closed(inputs.into()))
}

fn refused<const N: usize>(number: u8, name: &'static str, code: i16, records: [Vec<u8>; N]) -> Row {
    row(number, name, Case::Refused(code, records.into()))
}

fn driven(number: u8, name: &'static str, drive: fn(&Served)) -> Row {
    row(number, name, Case::Driven(drive))
}

impl Row {
    /// Another limit while the row runs, in KiB; the comment beside it says why.
    fn peak_kib(self, peak_kib: u64) -> Self {
        Self { peak_kib, ..self }
    }

    fn run(&self, broker: &Served) {
        match &self.case {
            Case::Closed(inputs) => inputs.iter().for_each(|input| broker.closes(input)),
            Case::Refused(code, inputs) => self.produce(broker, *code, 0, inputs),
            Case::Appended(end, inputs) => self.produce(broker, 0, *end, inputs),
            Case::Driven(drive) => drive(broker),
        }
    }

    fn produce(&self, broker: &Served, code: i16, end: i64, inputs: &[Vec<u8>]) {
        let mut client = broker.client();
        let topic = format!("row-{}", self.number);
        // A number may stand in several lines: 36 is the topic of the one before.
        let created = client.create_topic(&topic, &[]);
        assert!([0, 36].contains(&created), "{topic}: {created}");
        let before = client.list_offset(&topic, -1).1;
        for (n, records) in inputs.iter().enumerate() {
            let (answered, ..) = client.produce(&topic, -1, records);
            assert_eq!(answered, code, "input {n} of {}", inputs.len());
        }
        assert_eq!(client.list_offset(&topic, -1).1 - before, end, "records appended");
    }
}

/// Runs the rows in order on one broker and reports every red one.
fn hold(broker: Served, rows: Vec<Row>) {
    let red: Vec<String> = rows.iter().filter_map(|row| judge(&broker, row)).collect();
    assert!(red.is_empty(), "{} of {} rows are red:\n{}", red.len(), rows.len(), red.join("\n"));
    broker.end();
}

/// What is wrong with a row, or nothing.
fn judge(broker: &Served, row: &Row) -> Option<String> {
    let name = format!("row {} ({})", row.number, row.name);
    let before_kib = broker.resident_kib();
    broker.forget_peak();
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| row.run(broker))) {
        let said = panic.downcast_ref::<String>().cloned();
        let said = said.or(panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default();
        return Some(format!("{name}: {said}"));
    }
    let peak_kib = broker.peak_kib().saturating_sub(before_kib);
    let kept_kib = broker.settled_kib(before_kib + GROWTH_KIB_MAX).saturating_sub(before_kib);
    if peak_kib > row.peak_kib || kept_kib > GROWTH_KIB_MAX {
        return Some(format!("{name}: {peak_kib} KiB more at the peak, {kept_kib} KiB more afterwards"));
    }
    if let Some(line) = broker.shameful_line() {
        return Some(format!("{name}: in the log: {line:?}"));
    }
    broker.canary().err().map(|why| format!("{name}: afterwards {why}"))
}

fn everything() -> Vec<Row> {
    let waiting = waiting::rows().into_iter().map(|(_, row)| row);
    let others = [framing::rows, header::rows, counts::rows, batches::rows, compression::rows, fetch::rows];
    others.into_iter().flat_map(|rows| rows()).chain(waiting).collect()
}

#[test]
fn every_row_is_in_the_table_or_excused() {
    let rows = everything();
    for number in 1..=108 {
        let here = rows.iter().any(|row| row.number == number);
        let excused = ABSENT.iter().any(|(absent, why)| *absent == number && !why.is_empty());
        assert!(here != excused, "row {number}: in the table {here}, excused {excused}");
    }
    assert!(rows.iter().all(|row| (1..=108).contains(&row.number)));
}

#[test]
fn framing_is_held() {
    hold(Served::start(&[]), framing::rows());
}

#[test]
fn headers_are_held() {
    hold(Served::start(&[]), header::rows());
}

#[test]
fn counts_are_held() {
    hold(Served::start(&[]), counts::rows());
}

#[test]
fn batches_are_held() {
    hold(Served::start(&[]), batches::rows());
}

#[test]
fn compression_is_held() {
    hold(Served::start(&[]), compression::rows());
}

#[test]
fn fetches_are_held() {
    hold(Served::start(&["fetch.max.bytes=1048576"]), fetch::rows());
}

/// Each on a broker of its own, all at once: together they would take a minute.
#[test]
fn who_waits_is_held() {
    std::thread::scope(|scope| {
        for (settings, row) in waiting::rows() {
            scope.spawn(|| hold(Served::start(settings), vec![row]));
        }
    });
}
