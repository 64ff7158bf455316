//! What the broker's process has used, read from the kernel.
//!
//! CPU is utime + stime of `/proc/PID/stat`: all threads, dead ones too, kernel work included, in ticks of
//! 10 ms, which is why a window lasts until two CPU-seconds are spent. Deliberately absent: children.

use std::fs;
use std::path::Path;

use super::Error;

/// USER_HZ, fixed at 100 in the Linux user-space ABI.
const TICKS_PER_S: f64 = 100.0;

/// One look at a process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// CPU seconds since the process began.
    pub(super) cpu_s: f64,
    /// Resident memory, MB of 10^6 bytes, mapped files included.
    pub(super) rss_mb: f64,
    /// Anonymous resident memory, MB of 10^6 bytes.
    pub(super) anon_mb: f64,
}

impl Usage {
    /// Reads `/proc/PID`.
    ///
    /// # Errors
    /// [`Error::Usage`] when no such process can be read.
    pub(super) fn of(pid: u32) -> Result<Self, Error> {
        let dir = Path::new("/proc").join(pid.to_string());
        let read = |file: &str| {
            fs::read_to_string(dir.join(file)).map_err(|e| Error::Usage(format!("process {pid}: {e}")))
        };
        let (stat, status) = (read("stat")?, read("status")?);
        let kb = |key: &str| field_kb(&status, key).unwrap_or(0.0) * 1024.0 / 1e6;
        Ok(Self { cpu_s: cpu_s(&stat).unwrap_or(0.0), rss_mb: kb("VmRSS:"), anon_mb: kb("RssAnon:") })
    }

    /// As [`Usage::of`], when there is a pid.
    pub(super) fn of_option(pid: Option<u32>) -> Result<Option<Self>, Error> {
        pid.map(Self::of).transpose()
    }
}

/// Fields 14 and 15; the name before them may hold anything, so they are counted from its last bracket.
fn cpu_s(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let utime: f64 = fields.next()?.parse().ok()?;
    let stime: f64 = fields.next()?.parse().ok()?;
    Some((utime + stime) / TICKS_PER_S)
}

fn field_kb(status: &str, key: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// CPU time of the calling thread in seconds, to the nanosecond.
pub(super) fn thread_cpu_s() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_ascii_whitespace().next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}

/// Lets the calling thread wake within a microsecond of the time it asked for (the kernel's default
/// lateness of 50 µs would count as the broker's latency). Best effort.
pub(super) fn wake_on_time() {
    if let Some(thread) =
        fs::read_link("/proc/thread-self").ok().and_then(|p| p.file_name().map(ToOwned::to_owned))
    {
        let _ = fs::write(Path::new("/proc").join(thread).join("timerslack_ns"), "1000");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_a_hostile_process_name() {
        let stat = "7 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 1 0 100 0 0";
        assert_eq!(cpu_s(stat), Some(3.0));
        assert_eq!(cpu_s("nothing"), None);
    }

    #[test]
    fn this_process_uses_memory() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.rss_mb > usage.anon_mb && usage.anon_mb > 0.0);
    }

    #[test]
    fn a_process_that_is_not_there_is_a_usage_error() {
        assert!(matches!(Usage::of(u32::MAX), Err(Error::Usage(_))));
    }
}
