//! From exec to the first answer of ApiVersions, and what an idle broker weighs one second later.
//!
//! Invariant: every process that is started here is killed and reaped here, by its own handle.
//! Deliberately absent: fresh directories (`{n}` in the command names one per repetition).

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::conn::Conn;
use super::process::Usage;
use super::progress::Progress;
use super::report::Line;
use super::{Error, Options};

const PATIENCE: Duration = Duration::from_secs(60);

/// A started broker, killed when dropped.
struct Broker(Child);

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the command `repeat` times.
pub(super) fn run(options: &Options, progress: &Progress) -> Result<Line, Error> {
    let mut times = Vec::new();
    let mut cpu = Vec::new();
    let mut idle = Usage::default();
    for number in 0..options.repeat.max(1) {
        progress.tick(|| format!("{number} starts"));
        let (took, used, broker) = once(options, number)?;
        times.push(took.as_secs_f64() * 1e3);
        cpu.push(used.cpu_s);
        if number == 0 {
            thread::sleep(Duration::from_secs(1));
            idle = Usage::of(broker.0.id())?;
        }
    }
    times.sort_by(f64::total_cmp);
    cpu.sort_by(f64::total_cmp);
    let middle = |sorted: &[f64]| sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN);
    let mut line = Line::new("start");
    line.integer("repeat", times.len()).number("min_ms", times.first().copied().unwrap_or(f64::NAN));
    line.number("median_ms", middle(&times)).number("cpu_s", middle(&cpu));
    line.number("idle_rss_mb", idle.rss_mb).number("idle_anon_mb", idle.anon_mb);
    Ok(line)
}

fn once(options: &Options, number: usize) -> Result<(Duration, Usage, Broker), Error> {
    let mut words = options.command.iter().map(|word| word.replace("{n}", &number.to_string()));
    let program = words.next().ok_or_else(|| Error::Usage("start needs the broker's command line".into()))?;
    if Conn::open(options.addr).is_ok() {
        return Err(Error::Usage(format!("a broker already answers on {}", options.addr)));
    }
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let began = Instant::now();
    let mut broker = Broker(command.spawn().map_err(Error::io("starting the broker"))?);
    loop {
        if Conn::open(options.addr).is_ok() {
            let took = began.elapsed();
            return Ok((took, Usage::of(broker.0.id())?, broker));
        }
        if let Ok(Some(status)) = broker.0.try_wait() {
            return Err(Error::Usage(format!("the broker ended with {status}")));
        }
        if began.elapsed() > PATIENCE {
            return Err(Error::Usage("the broker does not answer".into()));
        }
        thread::sleep(Duration::from_micros(200));
    }
}
