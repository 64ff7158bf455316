//! Memory that the connections of a door share: what has come and is not answered, what is answered and not taken.
//!
//! Who wants to hold bytes takes them from the budget *before* they are allocated, and gives them back by dropping its
//! [`Lease`]. Each connection has a little of its own that nobody else can take; the rest is one sum.
//! Above the sum people stand in line. Who needs least goes first into what becomes free, and one that has waited
//! longest has the turn until its bytes are back: it alone may go over the sum, so nothing locks up and nobody waits for
//! ever behind small ones. What it took by that is nobody else's burden: the others share the sum as if it were not there.
//! A part of the sum only small things take, so that large ones which fill the rest, and move as slowly as they may, do not
//! keep everybody else waiting.
//! Those whose clients have moved something before go first, and every other turn is a stranger's: a crowd that came only
//! to hold memory does not stand between the others and it.
//! Invariant: what is asked for is at most the limit and what one turn needs; a connection holds at most its share of it.
//! While somebody waits, whoever was to move bytes and does not ([`Debt`]) is cut: memory that a client holds by doing
//! nothing is no one's but the next client's. While nobody waits a client may be as slow as it likes.
//! Cost: to count what is there, and to give it back while nobody waits, is an addition or two; a lock is taken by who asks
//! before it takes, which large things do.
//! Deliberately absent: what is held (each door's), where the numbers come from, sockets.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, Sleep};

use crate::lock::{Mutex, MutexGuard, rank};

/// What a connection may hold whatever the others do: small requests and small answers go on.
pub const OWN_BYTES: usize = 16 * 1024;
/// How long a client may move nothing while others wait for the memory that it holds.
const PATIENCE: Duration = Duration::from_secs(1);
/// What it must move on average then, bytes a second.
const PACE: u64 = 1 << 20;
/// This part of the sum is left to small things.
const SPARE_PART: usize = 8;
/// No more than this part of it is small.
const SMALL_PART: usize = 64;
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
    /// What connections hold beyond their own.
    used: AtomicUsize,
    /// And of that what somebody who has the turn took by it.
    turn: AtomicUsize,
    /// How many wait. Who gives back looks at it after `used` is less, who waits looks at `used` after it is more.
    waiting: AtomicUsize,
    line: Mutex<rank::MemoryBudget, Line>,
}

#[derive(Default)]
struct Line {
    /// Whose account has the turn.
    turn: Option<u64>,
    /// The next turn is a stranger's, if there is one.
    is_strangers: bool,
    /// In the order of arrival; first those that are known.
    waiting: BTreeMap<Ticket, Waiter>,
    /// The same by what they need.
    by_need: BTreeSet<(bool, usize, Ticket)>,
    /// Those who wait for their own connection's other leases, by account.
    apart: BTreeMap<(u64, Ticket), Waiter>,
    debts: HashMap<u64, Owed>,
    /// The last number that was given out.
    last: u64,
    looked: Option<Instant>,
    said: Option<Instant>,
}

/// A place in line: whether it is a stranger's, and its number.
type Ticket = (bool, u64);

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
    held: AtomicUsize,
    /// Its client has moved something before.
    known: AtomicBool,
}

/// Bytes that somebody holds; given back when dropped.
pub struct Lease {
    account: Arc<Account>,
    bytes: usize,
    /// And what it held before it got it: once it holds no more than that the turn is another's.
    turn: Option<(Arc<Turn>, usize)>,
    waits: Option<Box<Waits>>,
}

/// Standing in line.
struct Waits {
    ticket: Ticket,
    granted: oneshot::Receiver<Grant>,
    look: Pin<Box<Sleep>>,
}

/// The right to go over the sum; given back with the last of the bytes that it was for.
struct Turn(Arc<Budget>);

/// A client's duty to move the bytes that are held for it, while it lasts.
pub struct Debt {
    budget: Arc<Budget>,
    id: u64,
}

/// The same, of who is told by itself that it was not done.
pub struct Duty {
    debt: Debt,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Budget {
    /// `key` is what the configuration calls it; a `limit` of `None` is none; one connection holds `share` at most.
    #[must_use]
    pub fn new(key: &'static str, limit: Option<usize>, share: Option<usize>) -> Arc<Self> {
        let all = |bytes: Option<usize>| bytes.unwrap_or(usize::MAX);
        Arc::new(Self {
            key,
            limit: all(limit),
            share: all(share),
            used: AtomicUsize::new(0),
            turn: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            line: Mutex::default(),
        })
    }

    /// For one more connection.
    #[must_use]
    pub fn account(self: &Arc<Self>) -> Arc<Account> {
        let id = self.line().number();
        Arc::new(Account {
            id,
            budget: Arc::clone(self),
            held: AtomicUsize::new(0),
            known: AtomicBool::new(false),
        })
    }

    /// What the configuration calls it.
    #[must_use]
    pub fn key(&self) -> &'static str {
        self.key
    }

    /// Bytes that connections hold beyond their own.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::SeqCst)
    }

    /// How many stand in line.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Whether what all share is used up.
    #[must_use]
    pub fn is_used_up(&self) -> bool {
        self.shared() >= self.limit
    }

    /// The least that counts as large. What nobody can size before it is made asks for so much.
    #[must_use]
    pub fn large(&self) -> usize {
        if self.limit == usize::MAX { 0 } else { self.limit / SMALL_PART + 1 }
    }

    /// Whether large things wait.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.shared() > self.sum(self.large())
    }

    /// Whether nobody should keep memory that is not in use.
    #[must_use]
    pub fn is_tight(&self) -> bool {
        self.used() >= self.limit / 2
    }

    /// When one of those who wait looks next: in all they look often enough, and a crowd does little else if each does.
    fn look_in(&self) -> Duration {
        let crowd = u32::try_from(self.waiting.load(Ordering::Relaxed) / 64).unwrap_or(u32::MAX);
        LOOK.saturating_mul(crowd.saturating_add(1)).min(PATIENCE)
    }

    fn line(&self) -> MutexGuard<'_, rank::MemoryBudget, Line> {
        self.line.lock()
    }

    /// What is in use, save what the turn took.
    fn shared(&self) -> usize {
        self.used().saturating_sub(self.turn.load(Ordering::SeqCst))
    }

    /// How much all may hold together when one takes so much of it.
    fn sum(&self, needs: usize) -> usize {
        if needs < self.large() { self.limit } else { self.limit - self.limit / SPARE_PART }
    }

    /// How much of the sum is free for this account beyond what it holds, for something that needs so much. Its share does not
    /// count while it holds little more than `with`, which is one thing that grows: a thing may be larger than a share.
    fn room(&self, line: &Line, account: &Account, with: usize, is_new: bool, needs: usize) -> Room {
        let held = account.held();
        let own = OWN_BYTES.saturating_sub(held);
        let others = held.saturating_sub(with);
        let share = if others <= OWN_BYTES { usize::MAX } else { self.share.saturating_sub(held).max(own) };
        // Who comes anew does not overtake those who stand in line.
        let is_late = is_new && !line.waiting.is_empty();
        let free = if is_late { 0 } else { self.sum(needs).saturating_sub(self.shared()) };
        Room { share, all: own.saturating_add(free).min(share) }
    }

    /// How much of it comes out of what all share.
    fn give(&self, account: &Account, bytes: usize) -> usize {
        let before = account.held.fetch_add(bytes, Ordering::SeqCst);
        let more = excess(before + bytes) - excess(before);
        self.used.fetch_add(more, Ordering::SeqCst);
        more
    }

    /// As [`Budget::give`].
    fn lessen(&self, account: &Account, bytes: usize) -> usize {
        let before = account.held.fetch_sub(bytes, Ordering::SeqCst);
        let less = excess(before) - excess(before - bytes);
        self.used.fetch_sub(less, Ordering::SeqCst);
        less
    }

    fn take_back(&self, account: &Account, bytes: usize, is_of_turn: bool) {
        if is_of_turn {
            let mut line = self.line();
            let less = self.lessen(account, bytes).min(self.turn.load(Ordering::SeqCst));
            self.turn.fetch_sub(less, Ordering::SeqCst);
            self.reconsider(&mut line, account);
            return;
        }
        self.lessen(account, bytes);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.reconsider(&mut self.line(), account);
        }
    }

    /// Lets in whoever can be, after something changed for those in line or for those that wait for this account.
    fn reconsider(&self, line: &mut Line, account: &Account) {
        self.waiting.store(line.count(), Ordering::SeqCst);
        // Its connection's other requests were waiting for one of its own.
        let apart = line.apart.range((account.id, (false, 0))..=(account.id, (true, u64::MAX)));
        for ticket in apart.map(|((_, ticket), _)| *ticket).collect::<Vec<_>>() {
            let Some(waiter) = line.apart.get(&(account.id, ticket)) else { continue };
            if waiter.needs > self.room(line, account, 0, false, waiter.needs).share {
                break;
            }
            if let Some(waiter) = line.apart.remove(&(account.id, ticket)) {
                line.enter(ticket, waiter);
            }
        }
        self.admit(line);
        self.waiting.store(line.count(), Ordering::SeqCst);
    }

    /// Lets in whoever can be, from the line. What becomes free is kept for those that are known, but for what is left to small
    /// things.
    fn admit(&self, line: &mut Line) {
        while let Some((is_stranger, needs, ticket)) = line.by_need.first().copied() {
            if self.pass(line, needs, ticket) {
                continue;
            }
            let stranger = line.by_need.range((true, 0, (false, 0))..).next().copied();
            match stranger {
                Some((_, needs, ticket))
                    if !is_stranger && needs < self.large() && self.pass(line, needs, ticket) => {}
                _ => break,
            }
        }
        while line.turn.is_none()
            && let Some((ticket, waiter)) = line.next()
        {
            let is_over = waiter.needs > self.room(line, &waiter.account, 0, false, waiter.needs).share;
            if is_over {
                line.leave(ticket).into_iter().for_each(|waiter| line.stand_apart(ticket, waiter));
            } else {
                self.let_in(line, ticket, true);
            }
        }
    }

    /// Whether somebody in line left it: there is room, or its own connection has to give back first.
    fn pass(&self, line: &mut Line, needs: usize, ticket: Ticket) -> bool {
        let Some(waiter) = line.waiting.get(&ticket) else { return false };
        let room = self.room(line, &waiter.account, 0, false, needs);
        if needs <= room.all {
            self.let_in(line, ticket, false);
        } else if needs > room.share {
            line.leave(ticket).into_iter().for_each(|waiter| line.stand_apart(ticket, waiter));
        } else {
            return false;
        }
        true
    }

    fn let_in(&self, line: &mut Line, ticket: Ticket, turn: bool) {
        let Some(Waiter { account, needs, grant }) = line.leave(ticket) else { return };
        // Before it is told: from then on it gives back.
        let more = self.give(&account, needs);
        if grant.send(Grant { bytes: needs, turn }).is_ok() {
            if turn {
                (line.turn, line.is_strangers) = (Some(account.id), !ticket.0);
                self.turn.store(more, Ordering::SeqCst);
            }
        } else {
            // It went away meanwhile.
            self.lessen(&account, needs);
        }
    }

    /// Cuts those that hold memory and do not move it, who holds most first, until there is room for those in line. Not who
    /// holds little, as one does who waits to read records that are mapped: all that are left by that hold half of the sum at most. Who has
    /// the turn never holds little: others wait for that, too.
    fn look(&self, now: Instant) {
        let mut line = self.line();
        if line.waiting.is_empty() || line.looked.is_some_and(|at| now.saturating_duration_since(at) < LOOK) {
            return;
        }
        line.looked = Some(now);
        let little = self.large().min(self.limit / 2 / line.debts.len().max(1));
        let wanted: usize = line.by_need.iter().map(|(_, needs, _)| *needs).fold(0, usize::saturating_add);
        let mut late: Vec<(Reverse<usize>, Instant, u64)> = line
            .debts
            .iter()
            .filter(|(_, owed)| {
                let holds = excess(owed.account.held()) > little || line.turn == Some(owed.account.id);
                holds && !owed.is_cut && owed.is_late(now)
            })
            .map(|(id, owed)| (Reverse(owed.account.held()), owed.last, *id))
            .collect();
        late.sort_unstable();
        let (mut freed, mut seen) = (0usize, BTreeSet::new());
        for (_, _, id) in late {
            if freed >= wanted {
                break;
            }
            if let Some(owed) = line.debts.get_mut(&id) {
                owed.is_cut = true;
                owed.cut.notify_one();
                if seen.insert(owed.account.id) {
                    freed = freed.saturating_add(excess(owed.account.held()));
                }
            }
        }
        if line.said.is_none_or(|said| now.saturating_duration_since(said) >= SAY_EVERY) {
            line.said = Some(now);
            let (waiting, limit, cut) = (line.waiting.len(), self.limit, seen.len());
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

impl Line {
    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// How many wait.
    fn count(&self) -> usize {
        self.waiting.len() + self.apart.len()
    }

    /// Whose turn is next: of those that are known, and of the others, by turns.
    fn next(&self) -> Option<(Ticket, &Waiter)> {
        let stranger = self.waiting.range((true, 0)..).next().filter(|_| self.is_strangers);
        stranger.or_else(|| self.waiting.first_key_value()).map(|(ticket, waiter)| (*ticket, waiter))
    }

    fn enter(&mut self, ticket: Ticket, waiter: Waiter) {
        self.by_need.insert((ticket.0, waiter.needs, ticket));
        self.waiting.insert(ticket, waiter);
    }

    fn leave(&mut self, ticket: Ticket) -> Option<Waiter> {
        let waiter = self.waiting.remove(&ticket)?;
        self.by_need.remove(&(ticket.0, waiter.needs, ticket));
        Some(waiter)
    }

    fn stand_apart(&mut self, ticket: Ticket, waiter: Waiter) {
        self.apart.insert((waiter.account.id, ticket), waiter);
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
        self.held.load(Ordering::SeqCst)
    }

    /// Nothing yet.
    #[must_use]
    pub fn lease(self: &Arc<Self>) -> Lease {
        Lease { account: Arc::clone(self), bytes: 0, turn: None, waits: None }
    }

    /// Its client has moved something: it is no stranger in line.
    pub fn know(&self) {
        self.known.store(true, Ordering::Relaxed);
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
        let mut line = self.budget.line();
        let id = line.number();
        line.debts.insert(id, owed);
        Debt { budget: Arc::clone(&self.budget), id }
    }

    /// The same, for one thing.
    #[must_use]
    pub fn duty(self: &Arc<Self>) -> Duty {
        let cut = Arc::<Notify>::default();
        Duty { debt: self.owe(&cut), cut: Box::pin(cut.notified_owned()) }
    }
}

impl Duty {
    /// The client moved so many bytes.
    pub fn moved(&self, bytes: usize) {
        self.debt.moved(bytes);
    }

    /// Ready once it was not done and others wait.
    pub fn poll_cut(&mut self, task: &mut Context<'_>) -> Poll<()> {
        self.cut.as_mut().poll(task)
    }
}

impl Debt {
    /// The client moved so many bytes.
    pub fn moved(&self, bytes: usize) {
        if let Some(owed) = self.budget.line().debts.get_mut(&self.id) {
            owed.moved = owed.moved.saturating_add(bytes as u64);
            owed.last = Instant::now();
        }
    }
}

impl Drop for Debt {
    fn drop(&mut self) {
        self.budget.line().debts.remove(&self.id);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut line = self.0.line();
        line.turn = None;
        self.0.turn.store(0, Ordering::SeqCst);
        self.0.admit(&mut line);
        self.0.waiting.store(line.count(), Ordering::SeqCst);
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
        // Who goes away leaves the line.
        let waiting = Waiting(self);
        poll_fn(|task| waiting.0.poll_grow(least, want, task)).await
    }

    /// The same for who polls by hand, and steps aside if it will not any more.
    pub fn poll_grow(&mut self, least: usize, want: usize, task: &mut Context<'_>) -> Poll<usize> {
        if self.waits.is_none() {
            if self.takes(least.saturating_sub(self.bytes), want.saturating_sub(self.bytes)) {
                return Poll::Ready(self.bytes);
            }
            self.stand_in_line(least - self.bytes);
        }
        let Some(waits) = &mut self.waits else { return Poll::Ready(self.bytes) };
        match Pin::new(&mut waits.granted).poll(task) {
            Poll::Ready(grant) => {
                self.waits = None;
                // The sender lives as long as this stands in line.
                if let Ok(grant) = grant {
                    self.accept(grant);
                }
                Poll::Ready(self.bytes)
            }
            Poll::Pending => {
                while waits.look.as_mut().poll(task).is_ready() {
                    let now = Instant::now();
                    self.account.budget.look(now);
                    waits.look.as_mut().reset(now + self.account.budget.look_in());
                }
                Poll::Pending
            }
        }
    }

    /// Takes `want` bytes more, or as many as there are, if that is `least`.
    fn takes(&mut self, least: usize, want: usize) -> bool {
        if want == 0 {
            return true;
        }
        let budget = &self.account.budget;
        let line = budget.line();
        let room = |needs| budget.room(&line, &self.account, self.bytes, true, needs).all;
        if least > room(least) && self.turn.is_none() {
            return false;
        }
        let bytes = want.min(room(want)).max(least);
        let more = budget.give(&self.account, bytes);
        self.bytes += bytes;
        // Of what has the turn all has it.
        if self.turn.is_some() {
            budget.turn.fetch_add(more, Ordering::SeqCst);
        }
        true
    }

    fn stand_in_line(&mut self, needs: usize) {
        let budget = &self.account.budget;
        let (grant, granted) = oneshot::channel();
        let waiter = Waiter { account: Arc::clone(&self.account), needs, grant };
        let mut line = budget.line();
        let ticket = (!self.account.known.load(Ordering::Relaxed), line.number());
        if needs > budget.room(&line, &self.account, self.bytes, true, needs).share {
            line.stand_apart(ticket, waiter);
        } else {
            line.enter(ticket, waiter);
        }
        budget.reconsider(&mut line, &self.account);
        self.waits = Some(Box::new(Waits { ticket, granted, look: Box::pin(tokio::time::sleep(LOOK)) }));
    }

    fn accept(&mut self, grant: Grant) {
        if grant.turn {
            self.turn = Some((Arc::new(Turn(Arc::clone(&self.account.budget))), self.bytes));
        }
        self.bytes += grant.bytes;
    }

    /// Leaves the line.
    pub fn step_aside(&mut self) {
        if let Some(mut waits) = self.waits.take() {
            let gone = {
                let mut line = self.account.budget.line();
                let gone = line.leave(waits.ticket);
                let gone = gone.or_else(|| line.apart.remove(&(self.account.id, waits.ticket)));
                // It may have stood before others for whom there is room.
                self.account.budget.reconsider(&mut line, &self.account);
                // Dropped outside the lock, as is what it holds.
                gone
            };
            drop(gone);
            // It was let in at the same moment.
            if let Ok(grant) = waits.granted.try_recv() {
                self.accept(grant);
            }
        }
    }

    /// Whether it may go over the sum.
    #[must_use]
    pub fn has_turn(&self) -> bool {
        self.turn.is_some()
    }

    /// Whether it stands in line.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.waits.is_some()
    }

    /// Whose it is.
    #[must_use]
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// What it takes from.
    #[must_use]
    pub fn budget(&self) -> &Arc<Budget> {
        &self.account.budget
    }

    /// Gives back all but `bytes`.
    pub fn shrink(&mut self, bytes: usize) {
        if let Some(less) = self.bytes.checked_sub(bytes).filter(|less| *less > 0) {
            self.bytes = bytes;
            self.account.budget.take_back(&self.account, less, self.turn.is_some());
            if self.turn.as_ref().is_some_and(|(_, before)| bytes <= *before) {
                self.turn = None;
            }
        }
    }

    /// Parts with up to `bytes` of it, for what is given back by itself.
    #[must_use]
    pub fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        let turn = self.turn.as_ref().map(|(turn, _)| (Arc::clone(turn), 0));
        Self { account: Arc::clone(&self.account), bytes, turn, waits: None }
    }

    /// Counts `bytes` from now on, without waiting: they are there already.
    pub fn settle(&mut self, bytes: usize) {
        if let Some(more) = bytes.checked_sub(self.bytes).filter(|more| *more > 0) {
            self.bytes = bytes;
            let budget = &self.account.budget;
            let line = self.turn.is_some().then(|| budget.line());
            let more = budget.give(&self.account, more);
            if line.is_some() {
                budget.turn.fetch_add(more, Ordering::SeqCst);
            }
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
        self.step_aside();
        self.shrink(0);
    }
}

/// Somebody in line, who leaves it when dropped.
struct Waiting<'l>(&'l mut Lease);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.0.is_waiting() {
            let bytes = self.0.bytes;
            self.0.step_aside();
            // It may have been let in at the same moment.
            self.0.shrink(bytes);
        }
    }
}

#[cfg(test)]
mod tests;
