//! Places that nobody who wants little waits for behind those who want much.
//!
//! Work in a lane takes microseconds or seconds, and nobody knows before which. In the order of arrival everybody would wait
//! for all that clients with heavy work have queued. So what each asker (a connection) has used lately is remembered, and
//! every other place goes to who has used least, the others to who has waited longest: who has little to do waits for what is
//! being done and for one of the others, and those get half of the places at least. Whom nobody knows counts as one who has used
//! a little, so that who comes anew with heavy work each time is no better off. In each line askers take
//! turns, too: who queues much at once stands with the first of it before who comes later, and with the rest behind.
//! Cost: what is remembered fades, so no more accounts are kept than some per place and one per asker that waits.
//! Deliberately absent: putting aside what has begun; more than one account for those behind one connection.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::places::{Progress, Waiting};
use crate::lock::{Mutex, rank};

/// What one that nobody knows counts as having used.
const UNKNOWN: Duration = Duration::from_millis(100);
/// By so much of the time that passes what was used is forgotten.
const FADES: u32 = 10;
/// Accounts from which on those that say nothing are looked for.
const ACCOUNTS: usize = 1024;

/// Who wants a place: a connection; nobody's is a newcomer each time.
pub type Asker = Option<SocketAddr>;

/// So many places.
pub struct FairPlaces {
    lines: Mutex<rank::FairLines, Lines>,
    waiting: AtomicUsize,
}

#[derive(Default)]
struct Lines {
    free: usize,
    /// By round, then in the order of arrival.
    waiting: BTreeMap<Ticket, Waiter>,
    /// The same by what they had used when they came, about ([`rank_of`]).
    by_use: BTreeSet<(u32, Ticket)>,
    /// Whether the next place is for who has used least.
    is_for_least: bool,
    /// That of whoever was served last.
    round: u64,
    accounts: HashMap<SocketAddr, Account>,
    /// Of those who waited so far, and of those who were served.
    number: u64,
    served: u64,
    /// From so many accounts on they are looked through.
    look_from: usize,
}

/// A round, and a number.
type Ticket = (u64, u64);

struct Waiter {
    asker: Asker,
    rank: u32,
    grant: oneshot::Sender<FairPlace>,
}

/// What an asker has used, and the last round in which it stands.
struct Account {
    used: Duration,
    at: Instant,
    round: u64,
    /// It had a place before.
    is_known: bool,
}

/// One of the places; given back when dropped.
pub struct FairPlace {
    places: Option<Arc<FairPlaces>>,
    asker: Asker,
    since: Instant,
}

impl FairPlaces {
    /// `count` of them.
    #[must_use]
    pub fn new(count: usize) -> Arc<Self> {
        let lines = Lines { free: count, look_from: ACCOUNTS, ..Lines::default() };
        Arc::new(Self { lines: Mutex::new(lines), waiting: AtomicUsize::new(0) })
    }

    /// Takes a place, or stands in line for one from when the future is polled first. `None` when they are all gone, which
    /// does not happen.
    pub async fn take(self: Arc<Self>, asker: Asker) -> Option<FairPlace> {
        let granted = {
            let mut lines = self.lines.lock();
            // There is none free while somebody stands in line.
            if lines.free > 0 {
                lines.free -= 1;
                drop(lines);
                return Some(self.place(asker));
            }
            lines.stand(asker, Instant::now())
        };
        let _waiting = Waiting::new(&self.waiting);
        granted.await.ok()
    }

    fn place(self: &Arc<Self>, asker: Asker) -> FairPlace {
        FairPlace { places: Some(Arc::clone(self)), asker, since: Instant::now() }
    }

    fn give_back(self: &Arc<Self>, asker: Asker, took: Duration) {
        let mut gone = Vec::new();
        let now = Instant::now();
        let mut lines = self.lines.lock();
        lines.charge(asker, took, now);
        lines.free += 1;
        while let Some(next) = lines.next() {
            match next.grant.send(self.place(next.asker)) {
                Ok(()) => {
                    lines.free -= 1;
                    lines.is_for_least = !lines.is_for_least;
                    lines.served += 1;
                    break;
                }
                // It went away meanwhile.
                Err(place) => gone.push(place),
            }
        }
        lines.forget(now);
        drop(lines);
        gone.into_iter().for_each(FairPlace::void);
    }

    /// How its lines stand.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress { waiting: self.waiting.load(Ordering::Relaxed), served: self.lines.lock().served }
    }

    /// How many are free.
    #[cfg(test)]
    pub fn free(&self) -> usize {
        self.lines.lock().free
    }

    /// All that are free, as if somebody had each.
    #[cfg(test)]
    pub fn take_all(self: &Arc<Self>) -> Vec<FairPlace> {
        let free = std::mem::take(&mut self.lines.lock().free);
        (0..free).map(|_| self.place(None)).collect()
    }
}

impl Lines {
    /// Stands in line, in the round after the present one and after its own last.
    fn stand(&mut self, asker: Asker, now: Instant) -> oneshot::Receiver<FairPlace> {
        let (grant, granted) = oneshot::channel();
        let (mut round, mut used) = (self.round + 1, UNKNOWN);
        if let Some(asker) = asker {
            let account = self.accounts.entry(asker).or_insert(Account::new(now));
            round = round.max(account.round + 1);
            account.round = round;
            if account.is_known {
                used = account.used(now);
            }
        }
        self.number += 1;
        let (ticket, rank) = ((round, self.number), rank_of(used));
        self.by_use.insert((rank, ticket));
        self.waiting.insert(ticket, Waiter { asker, rank, grant });
        granted
    }

    /// Who is next.
    fn next(&mut self) -> Option<Waiter> {
        let ticket = match self.by_use.first().filter(|_| self.is_for_least) {
            Some((_, ticket)) => *ticket,
            None => *self.waiting.first_key_value()?.0,
        };
        let waiter = self.waiting.remove(&ticket)?;
        self.by_use.remove(&(waiter.rank, ticket));
        self.round = self.round.max(ticket.0);
        Some(waiter)
    }

    /// Notes what an asker has used.
    fn charge(&mut self, asker: Asker, took: Duration, now: Instant) {
        if let Some(asker) = asker {
            let account = self.accounts.entry(asker).or_insert(Account::new(now));
            (account.used, account.at) = (account.used(now) + took, now);
            account.is_known = true;
        }
    }

    /// Lets go of accounts that say nothing.
    fn forget(&mut self, now: Instant) {
        if self.accounts.len() >= self.look_from {
            let round = self.round;
            self.accounts.retain(|_, account| account.round > round || !account.used(now).is_zero());
            self.look_from = ACCOUNTS.max(self.accounts.len() * 2);
        }
    }
}

/// What was used, in steps that double from a millisecond on: within one the order is that of arrival.
fn rank_of(used: Duration) -> u32 {
    u128::BITS - used.as_millis().leading_zeros()
}

impl Account {
    fn new(now: Instant) -> Self {
        Self { used: Duration::ZERO, at: now, round: 0, is_known: false }
    }

    /// What it has used lately.
    fn used(&self, now: Instant) -> Duration {
        self.used.saturating_sub(now.saturating_duration_since(self.at) / FADES)
    }
}

impl FairPlace {
    /// It never was one.
    fn void(mut self) {
        self.places = None;
    }
}

impl Drop for FairPlace {
    fn drop(&mut self) {
        if let Some(places) = self.places.take() {
            places.give_back(self.asker, self.since.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    type Waits = Pin<Box<dyn Future<Output = Option<FairPlace>>>>;

    fn asker(n: u16) -> Asker {
        Some(([127, 0, 0, 1], n).into())
    }

    fn poll(waits: &mut Waits) -> Option<FairPlace> {
        match waits.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(place) => place,
            Poll::Pending => None,
        }
    }

    fn stand(places: &Arc<FairPlaces>, asker: Asker) -> Waits {
        let mut waits: Waits = Box::pin(Arc::clone(places).take(asker));
        assert!(poll(&mut waits).is_none());
        waits
    }

    /// Ends what is done in a place, as if it had taken so long.
    fn end(mut place: FairPlace, seconds: u64) {
        let places = place.places.take().unwrap();
        places.give_back(place.asker, Duration::from_secs(seconds));
    }

    #[tokio::test]
    async fn who_has_little_to_do_is_next_whatever_others_have_queued_and_those_come_too() {
        let places = FairPlaces::new(1);
        let held = places.take_all().pop().unwrap();
        // Forty come with heavy work; nobody knows that of the first of it.
        let mut heavy: Vec<Waits> = (0..40).map(|n| stand(&places, asker(n))).collect();
        end(held, 0);
        for one in &mut heavy {
            end(poll(one).expect("in the order of arrival"), 3);
        }
        let held = places.take_all().pop().unwrap();
        let mut heavy: Vec<Waits> = (0..40).map(|n| stand(&places, asker(n))).collect();
        end(held, 0);
        // Somebody asks for little, again and again.
        for one in &mut heavy[..39] {
            let place = poll(one).expect("one of those with much to do");
            let (mut light, mut nobody) = (stand(&places, asker(99)), stand(&places, None));
            end(place, 3);
            end(poll(&mut light).expect("before all others who had three seconds each"), 0);
            assert!(poll(&mut nobody).is_none(), "one of those comes before the second");
        }
    }

    #[tokio::test]
    async fn who_queues_much_at_once_stands_behind_who_queues_one() {
        let places = FairPlaces::new(1);
        let held = places.take_all();
        let mut many: Vec<Waits> = (0..10).map(|_| stand(&places, asker(1))).collect();
        let mut one = stand(&places, asker(2));
        drop(held);
        end(poll(&mut many[0]).expect("it was first"), 0);
        end(poll(&mut one).expect("the others wait for another round"), 0);
        assert!(poll(&mut many[1]).is_some());
    }

    #[tokio::test]
    async fn who_leaves_the_line_takes_no_place_along_and_accounts_have_an_end() {
        let places = FairPlaces::new(2);
        let held = places.take_all();
        let mut waits: Vec<Waits> = (0..5_000).map(|n| stand(&places, asker(n))).collect();
        // Granted and not taken; and gone while waiting.
        let last = waits.pop().unwrap();
        waits.truncate(1);
        drop(held);
        drop(waits);
        drop(last);
        assert_eq!(places.free(), 2);
        assert_eq!(places.progress().waiting, 0);
        for n in 0..5_000 {
            drop(Arc::clone(&places).take(asker(n)).await);
        }
        let lines = places.lines.lock();
        assert!(lines.waiting.is_empty() && lines.by_use.is_empty());
        assert!(lines.accounts.len() <= 3 * ACCOUNTS, "{}", lines.accounts.len());
    }
}
