//! The census: who is connected, to all doors of one broker, and whether one more may be.
//!
//! Limits: connections in all, of one address, and of this process's file descriptors (closed at once beyond); new
//! connections per second (accepted later, as in Kafka). What is refused is said once a second.
//! Deliberately absent: the limits' numbers, which are asked for at every accept.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::budget::Budget;
use crate::lock::{Mutex, MutexGuard, rank};

/// The rate of new connections is kept over this long: so much may come at once after a quiet time.
const PACE_WINDOW: Duration = Duration::from_secs(10);
/// Descriptors that neither connections nor segments may take: listeners, runtime, small files.
const SPARE_DESCRIPTORS: usize = 32;
/// Time between two lines about the same trouble.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// What bounds the connections of a listener.
#[derive(Clone, Copy, Debug)]
pub enum Limits {
    /// Together with the clients of all doors.
    Clients {
        /// Most at a time.
        connections: usize,
        /// Most at a time of this address.
        of_ip: usize,
        /// Most new ones per second.
        per_second: u32,
    },
    /// Seats that clients cannot take: whoever asks how a full broker fares must be answered.
    Reserved(usize),
}

/// How many connections there are: in all, per address and listener, and when the next one may come.
pub struct Census {
    /// What this process's descriptors allow.
    descriptors_max: usize,
    count: Mutex<rank::Census, Count>,
    /// The doors' budgets, for whoever looks from outside.
    budgets: Mutex<rank::ShownBudgets, Vec<Arc<Budget>>>,
}

struct Count {
    clients: usize,
    reserved: usize,
    per_ip: HashMap<IpAddr, usize>,
    per_listener: BTreeMap<Listener, u64>,
    /// When the next client is due at the present rate; the past is credit.
    due: Instant,
    refused: Complaint,
}

/// A listener's name and, as two doors may use the same, the name of its door.
pub(super) type Listener = (Arc<str>, &'static str);

/// The open connections of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Its door.
    pub door: &'static str,
    /// Its name.
    pub listener: Arc<str>,
    /// How many.
    pub connections: u64,
}

/// One connection's place in the census.
pub struct Seat {
    census: Arc<Census>,
    listener: Listener,
    /// None in a reserved one.
    ip: Option<IpAddr>,
}

/// Something that goes wrong often and is said seldom.
#[derive(Default)]
pub(super) struct Complaint {
    said: Option<Instant>,
    silent: u64,
}

impl Complaint {
    /// How often it happened since the last line, when it is time for one.
    pub(super) fn count(&mut self) -> Option<u64> {
        self.silent += 1;
        let now = Instant::now();
        if self.said.is_some_and(|said| now.duration_since(said) < SAY_EVERY) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.silent))
    }
}

impl Default for Census {
    /// That of a broker of which nobody knows yet.
    fn default() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        // The other half is for segments.
        let half = limit.map_or(usize::MAX, |all| usize::try_from(all / 2).unwrap_or(usize::MAX));
        let count = Count {
            clients: 0,
            reserved: 0,
            per_ip: HashMap::new(),
            per_listener: BTreeMap::new(),
            due: Instant::now().checked_sub(PACE_WINDOW).unwrap_or_else(Instant::now),
            refused: Complaint::default(),
        };
        let descriptors_max = half.saturating_sub(SPARE_DESCRIPTORS).max(1);
        Self { descriptors_max, count: Mutex::new(count), budgets: Mutex::default() }
    }
}

impl Census {
    /// Open connections of each listener that had any, in the order of their names.
    #[must_use]
    pub fn open(&self) -> Vec<Open> {
        let count = self.count();
        let open = |((listener, door), &connections): (&Listener, &u64)| Open {
            door,
            listener: Arc::clone(listener),
            connections,
        };
        count.per_listener.iter().map(open).collect()
    }

    /// Shows a budget of connections' memory to whoever looks from outside.
    pub fn show(&self, budget: &Arc<Budget>) {
        self.budgets.lock().push(Arc::clone(budget));
    }

    /// The budgets of connections' memory.
    #[must_use]
    pub fn budgets(&self) -> Vec<Arc<Budget>> {
        self.budgets.lock().clone()
    }

    /// A place for a connection that has come from `ip`, if there is one, and until when the next one must wait.
    pub(super) fn seat(
        self: &Arc<Self>,
        listener: &Listener,
        ip: IpAddr,
        limits: Limits,
    ) -> (Option<Seat>, Option<Instant>) {
        let mut count = self.count();
        let pause = match limits {
            Limits::Clients { per_second, .. } => count.pace(Instant::now(), per_second),
            Limits::Reserved(_) => None,
        };
        if let Some(limit) = count.limit_reached(ip, limits, self.descriptors_max) {
            if let Some(times) = count.refused.count() {
                tracing::warn!(listener = %listener.0, times, "connection refused: {limit}");
            }
            return (None, pause);
        }
        let ip = matches!(limits, Limits::Clients { .. }).then_some(ip);
        match ip {
            Some(ip) => {
                count.clients += 1;
                *count.per_ip.entry(ip).or_default() += 1;
            }
            None => count.reserved += 1,
        }
        *count.per_listener.entry(listener.clone()).or_default() += 1;
        (Some(Seat { census: Arc::clone(self), listener: listener.clone(), ip }), pause)
    }

    fn count(&self) -> MutexGuard<'_, rank::Census, Count> {
        self.count.lock()
    }
}

impl Count {
    /// Which limit one more connection from `ip` would break.
    fn limit_reached(&self, ip: IpAddr, limits: Limits, descriptors_max: usize) -> Option<String> {
        let here = self.per_ip.get(&ip).copied().unwrap_or(0);
        match limits {
            Limits::Reserved(max) => (self.reserved >= max).then(|| format!("there are {max}")),
            Limits::Clients { connections: max, .. } if self.clients >= max => {
                Some(format!("there are {max} (max.connections)"))
            }
            Limits::Clients { of_ip: max, .. } if here >= max => {
                Some(format!("there are {max} from {ip} (max.connections.per.ip)"))
            }
            Limits::Clients { .. } => (self.clients + self.reserved >= descriptors_max).then(|| {
                format!("there are {descriptors_max}, half of this process's open files (ulimit -n)")
            }),
        }
    }

    /// Counts a client that came at `now`; until when the next one must wait.
    fn pace(&mut self, now: Instant, per_second: u32) -> Option<Instant> {
        let cost = Duration::from_secs(1) / per_second.max(1);
        // One costs nothing at all: what is saved up is a window's worth less that one.
        let saved = now.checked_sub(PACE_WINDOW.saturating_sub(cost)).unwrap_or(now);
        self.due = self.due.max(saved) + cost;
        (self.due > now).then_some(self.due)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut count = self.census.count();
        match self.ip {
            Some(ip) => {
                count.clients -= 1;
                if let Some(here) = count.per_ip.get_mut(&ip) {
                    *here -= 1;
                    if *here == 0 {
                        count.per_ip.remove(&ip);
                    }
                }
            }
            None => count.reserved -= 1,
        }
        if let Some(here) = count.per_listener.get_mut(&self.listener) {
            *here -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(census: &Arc<Census>, listener: &str, ip: [u8; 4], limits: Limits) -> Option<Seat> {
        census.seat(&(listener.into(), "door"), ip.into(), limits).0
    }

    #[test]
    fn all_doors_share_the_descriptors_and_reserved_seats_are_nobody_elses() {
        let census = Arc::new(Census { descriptors_max: 3, ..Census::default() });
        let clients = Limits::Clients { connections: 10, of_ip: 10, per_second: 100 };
        let (one, two) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        let first = taken(&census, "A", one, clients).unwrap();
        let second = taken(&census, "B", two, clients).unwrap();
        let health = taken(&census, "C", one, Limits::Reserved(2)).unwrap();
        assert!(taken(&census, "A", one, clients).is_none(), "three descriptors");
        let other = taken(&census, "C", one, Limits::Reserved(2)).unwrap();
        assert!(taken(&census, "C", one, Limits::Reserved(2)).is_none(), "two seats");
        drop((health, other));

        let two_at_most = Limits::Clients { connections: 2, of_ip: 10, per_second: 100 };
        assert!(taken(&census, "A", one, two_at_most).is_none(), "two clients, wherever they came in");
        let one_of_each = Limits::Clients { connections: 10, of_ip: 1, per_second: 100 };
        assert!(taken(&census, "B", one, one_of_each).is_none(), "one of that address, wherever it came in");
        drop(first);
        assert!(taken(&census, "B", one, one_of_each).is_some(), "it has left");
        let open: Vec<_> =
            census.open().into_iter().map(|open| (open.listener.to_string(), open.connections)).collect();
        assert_eq!(open, [("A".to_owned(), 0), ("B".to_owned(), 1), ("C".to_owned(), 0)]);
        drop(second);
        assert!(census.count().per_ip.is_empty(), "nothing is kept for who has left");
    }
}
