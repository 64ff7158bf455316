//! Memory that the connections of a door share: what has come and is not answered, what is answered and not taken.
//!
//! Who wants to hold bytes takes them from the budget *before* they are allocated, and gives them back by dropping its
//! [`Lease`]. Each connection has a little of its own that nobody else can take; the rest is one sum.
//! Above the sum people stand in line. Who needs least goes first into what becomes free, and the one that has waited
//! longest has the turn: it alone may go over the sum, so nothing locks up and nobody waits for ever behind small ones.
//! Invariant: the sum is at most its limit and what one turn needs; a connection holds at most its share of it.
//! While somebody waits, whoever was to move bytes and does not ([`Debt`]) is cut: memory that a client holds by doing
//! nothing is no one's but the next client's. While nobody waits a client may be as slow as it likes.
//! Deliberately absent: what is held (each door's), where the numbers come from, sockets.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::lock::{Mutex, MutexGuard, rank};

/// What a connection may hold whatever the others do: small requests and small answers go on.
const OWN_BYTES: usize = 16 * 1024;
/// How long a client may move nothing while others wait for the memory that it holds.
const PATIENCE: Duration = Duration::from_secs(1);
/// What it must move on average then, bytes a second.
const PACE: u64 = 1 << 20;
/// How often those who wait look for somebody to cut.
const LOOK: Duration = Duration::from_millis(100);
/// Time between two lines about a budget that is used up.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// A sum of bytes, and the line of those who wait for some of it.
pub struct Budget {
    /// Its name in the configuration.
    key: &'static str,
    limit: usize,
    /// The most that one connection may hold of it, unless a single thing is larger.
    share: usize,
    sum: Mutex<rank::MemoryBudget, Sum>,
}

#[derive(Default)]
struct Sum {
    /// What connections hold beyond their own.
    used: usize,
    /// Somebody has the turn.
    turn: bool,
    /// In the order of arrival.
    line: BTreeMap<u64, Waiter>,
    /// The same by what they need.
    by_need: BTreeSet<(usize, u64)>,
    /// Those who wait for their own connection's other leases, by account.
    apart: BTreeMap<(u64, u64), Waiter>,
    debts: HashMap<u64, Owed>,
    /// The last number that was given out.
    last: u64,
    looked: Option<Instant>,
    said: Option<Instant>,
}

struct Waiter {
    account: Arc<Account>,
    needs: usize,
    grant: oneshot::Sender<Grant>,
}

/// What somebody got who waited.
struct Grant {
    bytes: usize,
    turn: bool,
}

struct Owed {
    account: Arc<Account>,
    cut: Arc<Notify>,
    since: Instant,
    moved: u64,
    last: Instant,
    is_cut: bool,
}

/// A connection's part of a budget.
pub struct Account {
    id: u64,
    budget: Arc<Budget>,
    /// Written under the budget's lock.
    held: AtomicUsize,
}

/// Bytes that somebody holds; given back when dropped.
pub struct Lease {
    account: Arc<Account>,
    bytes: usize,
    turn: Option<Arc<Turn>>,
}

/// The right to go over the sum; given back with the last lease that has it.
struct Turn(Arc<Budget>);

/// A client's duty to move the bytes that are held for it, while it lasts.
pub struct Debt {
    budget: Arc<Budget>,
    id: u64,
}

impl Budget {
    /// `key` is what the configuration calls it; a `limit` of `None` is none; one connection holds `share` at most.
    #[must_use]
    pub fn new(key: &'static str, limit: Option<usize>, share: Option<usize>) -> Arc<Self> {
        let all = |bytes: Option<usize>| bytes.unwrap_or(usize::MAX);
        Arc::new(Self { key, limit: all(limit), share: all(share), sum: Mutex::default() })
    }

    /// For one more connection.
    #[must_use]
    pub fn account(self: &Arc<Self>) -> Arc<Account> {
        let id = self.sum().number();
        Arc::new(Account { id, budget: Arc::clone(self), held: AtomicUsize::new(0) })
    }

    /// What the configuration calls it.
    #[must_use]
    pub fn key(&self) -> &'static str {
        self.key
    }

    /// Bytes that connections hold beyond their own.
    #[must_use]
    pub fn used(&self) -> usize {
        self.sum().used
    }

    fn sum(&self) -> MutexGuard<'_, rank::MemoryBudget, Sum> {
        self.sum.lock()
    }

    /// How much of the sum is free for this account beyond what it holds. Its share does not count while it holds little
    /// more than `with`, which is one thing that grows: a thing may be larger than a share.
    fn room(&self, sum: &Sum, account: &Account, with: usize, is_new: bool) -> Room {
        let held = account.held();
        let own = OWN_BYTES.saturating_sub(held);
        let others = held.saturating_sub(with);
        let share = if others <= OWN_BYTES { usize::MAX } else { self.share.saturating_sub(held).max(own) };
        // Who comes anew does not overtake those who stand in line.
        let free = if is_new && !sum.line.is_empty() { 0 } else { self.limit.saturating_sub(sum.used) };
        Room { share, all: own.saturating_add(free).min(share) }
    }

    fn give(sum: &mut Sum, account: &Account, bytes: usize) {
        let before = account.held();
        account.held.store(before + bytes, Ordering::Relaxed);
        sum.used += excess(before + bytes) - excess(before);
    }

    fn take_back(&self, account: &Account, bytes: usize) {
        let mut sum = self.sum();
        let before = account.held();
        account.held.store(before - bytes, Ordering::Relaxed);
        sum.used -= excess(before) - excess(before - bytes);
        // Its connection's other requests were waiting for this one.
        let apart: Vec<u64> = sum
            .apart
            .range((account.id, 0)..=(account.id, u64::MAX))
            .map(|((_, ticket), _)| *ticket)
            .collect();
        for ticket in apart {
            let Some(waiter) = sum.apart.get(&(account.id, ticket)) else { continue };
            if waiter.needs > self.room(&sum, account, 0, false).share {
                break;
            }
            if let Some(waiter) = sum.apart.remove(&(account.id, ticket)) {
                sum.enter(ticket, waiter);
            }
        }
        self.admit(&mut sum);
    }

    /// Lets in whoever can be, from the line.
    fn admit(&self, sum: &mut Sum) {
        while let Some((needs, ticket)) = sum.by_need.first().copied() {
            let Some(waiter) = sum.line.get(&ticket) else { break };
            let room = self.room(sum, &waiter.account, 0, false);
            if needs > room.all {
                if needs <= room.share {
                    break;
                }
                sum.leave(ticket).into_iter().for_each(|waiter| sum.stand_apart(ticket, waiter));
                continue;
            }
            sum.let_in(ticket, false);
        }
        while !sum.turn
            && let Some((ticket, waiter)) = sum.line.first_key_value()
        {
            let (ticket, is_over) = (*ticket, waiter.needs > self.room(sum, &waiter.account, 0, false).share);
            if is_over {
                sum.leave(ticket).into_iter().for_each(|waiter| sum.stand_apart(ticket, waiter));
            } else {
                sum.let_in(ticket, true);
            }
        }
    }

    /// Cuts those that hold memory and do not move it, the longest still first, until there is room for those in line.
    fn look(&self, now: Instant) {
        let mut sum = self.sum();
        if sum.line.is_empty() || sum.looked.is_some_and(|at| now.saturating_duration_since(at) < LOOK) {
            return;
        }
        sum.looked = Some(now);
        let wanted: usize = sum.by_need.iter().map(|(needs, _)| *needs).fold(0, usize::saturating_add);
        let mut late: Vec<(Instant, u64)> = sum
            .debts
            .iter()
            .filter(|(_, owed)| !owed.is_cut && excess(owed.account.held()) > 0 && owed.is_late(now))
            .map(|(id, owed)| (owed.last, *id))
            .collect();
        late.sort_unstable();
        let (mut freed, mut seen) = (0usize, BTreeSet::new());
        for (_, id) in late {
            if freed >= wanted {
                break;
            }
            if let Some(owed) = sum.debts.get_mut(&id) {
                owed.is_cut = true;
                owed.cut.notify_one();
                if seen.insert(owed.account.id) {
                    freed = freed.saturating_add(excess(owed.account.held()));
                }
            }
        }
        if sum.said.is_none_or(|said| now.saturating_duration_since(said) >= SAY_EVERY) {
            sum.said = Some(now);
            let (waiting, limit, cut) = (sum.line.len(), self.limit, seen.len());
            tracing::warn!(waiting, cut, "{limit} bytes are in use ({}): large ones wait", self.key);
        }
    }
}

/// How much an account may take now.
struct Room {
    /// As far as its own share goes.
    share: usize,
    /// In all.
    all: usize,
}

fn excess(held: usize) -> usize {
    held.saturating_sub(OWN_BYTES)
}

impl Sum {
    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn enter(&mut self, ticket: u64, waiter: Waiter) {
        self.by_need.insert((waiter.needs, ticket));
        self.line.insert(ticket, waiter);
    }

    fn leave(&mut self, ticket: u64) -> Option<Waiter> {
        let waiter = self.line.remove(&ticket)?;
        self.by_need.remove(&(waiter.needs, ticket));
        Some(waiter)
    }

    fn stand_apart(&mut self, ticket: u64, waiter: Waiter) {
        self.apart.insert((waiter.account.id, ticket), waiter);
    }

    fn let_in(&mut self, ticket: u64, turn: bool) {
        let Some(Waiter { account, needs, grant }) = self.leave(ticket) else { return };
        // Whoever went away meanwhile takes nothing.
        if grant.send(Grant { bytes: needs, turn }).is_ok() {
            Budget::give(self, &account, needs);
            self.turn |= turn;
        }
    }
}

impl Owed {
    fn is_late(&self, now: Instant) -> bool {
        let still = now.saturating_duration_since(self.last);
        let all = now.saturating_duration_since(self.since);
        still > PATIENCE || all > PATIENCE + Duration::from_millis(self.moved.saturating_mul(1000) / PACE)
    }
}

impl Account {
    fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Nothing yet.
    #[must_use]
    pub fn lease(self: &Arc<Self>) -> Lease {
        Lease { account: Arc::clone(self), bytes: 0, turn: None }
    }

    /// From now on the client has to move bytes that are held for it; `cut` is told when it does not and others wait.
    #[must_use]
    pub fn owe(self: &Arc<Self>, cut: &Arc<Notify>) -> Debt {
        let now = Instant::now();
        let owed = Owed {
            account: Arc::clone(self),
            cut: Arc::clone(cut),
            since: now,
            moved: 0,
            last: now,
            is_cut: false,
        };
        let mut sum = self.budget.sum();
        let id = sum.number();
        sum.debts.insert(id, owed);
        Debt { budget: Arc::clone(&self.budget), id }
    }
}

impl Debt {
    /// The client moved so many bytes.
    pub fn moved(&self, bytes: usize) {
        if let Some(owed) = self.budget.sum().debts.get_mut(&self.id) {
            owed.moved = owed.moved.saturating_add(bytes as u64);
            owed.last = Instant::now();
        }
    }
}

impl Drop for Debt {
    fn drop(&mut self) {
        self.budget.sum().debts.remove(&self.id);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut sum = self.0.sum();
        sum.turn = false;
        self.0.admit(&mut sum);
    }
}

impl Lease {
    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Grows to `want` bytes in all if they are there now, else to what there is, if that is `least`; otherwise waits for
    /// `least`. The bytes held then.
    pub async fn grow(&mut self, least: usize, want: usize) -> usize {
        let budget = Arc::clone(&self.account.budget);
        let (least, want) = (least.saturating_sub(self.bytes), want.saturating_sub(self.bytes));
        if want == 0 {
            return self.bytes;
        }
        let (ticket, granted) = {
            let mut sum = budget.sum();
            let room = budget.room(&sum, &self.account, self.bytes, true);
            if least <= room.all || self.turn.is_some() {
                let bytes = want.min(room.all).max(least);
                Budget::give(&mut sum, &self.account, bytes);
                self.bytes += bytes;
                return self.bytes;
            }
            let (grant, granted) = oneshot::channel();
            let ticket = sum.number();
            let waiter = Waiter { account: Arc::clone(&self.account), needs: least, grant };
            if least > room.share {
                sum.stand_apart(ticket, waiter);
            } else {
                sum.enter(ticket, waiter);
                budget.admit(&mut sum);
            }
            (ticket, granted)
        };
        Waiting { lease: self, ticket, granted }.wait().await;
        self.bytes
    }

    /// Gives back all but `bytes`.
    pub fn shrink(&mut self, bytes: usize) {
        if let Some(less) = self.bytes.checked_sub(bytes).filter(|less| *less > 0) {
            self.bytes = bytes;
            self.account.budget.take_back(&self.account, less);
        }
    }

    /// Parts with up to `bytes` of it, for what is given back by itself.
    #[must_use]
    pub fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { account: Arc::clone(&self.account), bytes, turn: self.turn.clone() }
    }

    /// Counts `bytes` from now on, without waiting: they are there already.
    pub fn settle(&mut self, bytes: usize) {
        if let Some(more) = bytes.checked_sub(self.bytes).filter(|more| *more > 0) {
            self.bytes = bytes;
            Budget::give(&mut self.account.budget.sum(), &self.account, more);
        } else {
            self.shrink(bytes);
        }
    }

    /// Whether its connection takes from what all share, as one that holds little does not.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        excess(self.account.held()) > 0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

/// Somebody in line; it leaves when dropped.
struct Waiting<'l> {
    lease: &'l mut Lease,
    ticket: u64,
    granted: oneshot::Receiver<Grant>,
}

impl Waiting<'_> {
    async fn wait(mut self) {
        loop {
            tokio::select! {
                biased;
                grant = &mut self.granted => {
                    // The sender lives as long as this stands in line.
                    if let Ok(grant) = grant {
                        self.take(grant);
                    }
                    return;
                }
                () = tokio::time::sleep(LOOK) => self.lease.account.budget.look(Instant::now()),
            }
        }
    }

    fn take(&mut self, grant: Grant) {
        self.lease.bytes += grant.bytes;
        if grant.turn {
            self.lease.turn = Some(Arc::new(Turn(Arc::clone(&self.lease.account.budget))));
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let account = Arc::clone(&self.lease.account);
        let gone = {
            let mut sum = account.budget.sum();
            // Dropped outside the lock, as is what it holds.
            sum.leave(self.ticket).or_else(|| sum.apart.remove(&(account.id, self.ticket)))
        };
        drop(gone);
        // It was let in at the same moment: the lease gives it back.
        if let Ok(grant) = self.granted.try_recv() {
            self.take(grant);
        }
    }
}

#[cfg(test)]
mod tests;
