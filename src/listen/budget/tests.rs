//! Budgets of memory: who waits, who is let through, who is cut.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;

/// What a future gave, polled once; it is dropped when it is not ready.
fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fn held(lease: &mut Lease, bytes: usize) -> bool {
    at_once(lease.grow(bytes, bytes)).is_some()
}

fn budget(limit: usize, share: usize) -> Arc<Budget> {
    Budget::new("test", Some(limit), Some(share))
}

/// Three who may be told that they are cut, and hold nothing yet.
fn three(budget: &Arc<Budget>) -> (Vec<Arc<Notify>>, Vec<Arc<Account>>, Vec<Lease>) {
    let accounts: Vec<_> = (0..3).map(|_| budget.account()).collect();
    let leases = accounts.iter().map(Account::lease).collect();
    ((0..3).map(|_| Arc::default()).collect(), accounts, leases)
}

/// Waits in line for `bytes`, in a task of its own.
fn in_line(account: &Arc<Account>, bytes: usize) -> tokio::task::JoinHandle<Lease> {
    let mut lease = account.lease();
    tokio::spawn(async move {
        lease.grow(bytes, bytes).await;
        lease
    })
}

async fn soon(mut condition: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if condition() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it did not come");
}

#[tokio::test]
async fn small_things_pass_one_goes_over_and_the_others_wait() {
    let budget = budget(100_000, usize::MAX);
    let accounts: Vec<_> = (0..4).map(|_| budget.account()).collect();
    let mut full = accounts[0].lease();
    full.settle(OWN_BYTES + 100_000);
    let mut over = accounts[1].lease();
    assert!(held(&mut over, 50_000), "the first in line has the turn");
    let mut small = accounts[2].lease();
    assert!(held(&mut small, OWN_BYTES), "its own is its own");
    assert!(!held(&mut small, OWN_BYTES + 1));
    assert_eq!((small.bytes(), budget.line().waiting.len()), (OWN_BYTES, 0), "who goes away leaves the line");

    let waits = in_line(&accounts[3], 60_000);
    soon(|| budget.line().waiting.len() == 1).await;
    // A part of what has the turn has it too.
    let part = over.split(10_000);
    drop(over);
    tokio::task::yield_now().await;
    assert!(!waits.is_finished());
    drop(part);
    soon(|| waits.is_finished()).await;
    drop((waits.await.unwrap(), full, small));
    assert_eq!((budget.used(), budget.line().turn), (0, None));
}

#[tokio::test]
async fn who_has_the_turn_keeps_it_until_the_memory_is_back() {
    let budget = budget(100_000, usize::MAX);
    let mut full = budget.account().lease();
    full.settle(OWN_BYTES + 100_000);
    let mut over = budget.account().lease();
    assert!(held(&mut over, 10_000) && held(&mut over, 60_000), "its own, then the turn");
    let waits = in_line(&budget.account(), 50_000);
    soon(|| budget.line().waiting.len() == 1).await;
    over.settle(90_000);
    over.step_aside();
    over.shrink(10_001);
    tokio::task::yield_now().await;
    assert!(!waits.is_finished() && over.has_turn());
    over.shrink(10_000);
    assert!(!over.has_turn());
    soon(|| waits.is_finished()).await;
    assert!(waits.await.unwrap().has_turn());
    drop((full, over));
    assert_eq!((budget.used(), budget.line().turn), (0, None));
}

#[tokio::test]
async fn what_becomes_free_goes_to_who_needs_least_and_the_turn_to_who_waited_longest() {
    let budget = budget(100_000, usize::MAX);
    let accounts: Vec<_> = (0..5).map(|_| budget.account()).collect();
    let mut full = accounts[0].lease();
    full.settle(OWN_BYTES + 100_000);
    let mut turn = accounts[1].lease();
    assert!(held(&mut turn, OWN_BYTES + 1));
    let (large, small) = (in_line(&accounts[2], 90_000), in_line(&accounts[3], 40_000));
    soon(|| budget.line().waiting.len() == 2).await;
    full.shrink(OWN_BYTES + 60_000);
    soon(|| small.is_finished()).await;
    assert!(!large.is_finished());
    drop(turn);
    soon(|| large.is_finished()).await;
    assert!(budget.line().turn.is_some());
    // Who comes later with little does not wait behind them, who comes with more does.
    let mut later = accounts[4].lease();
    assert!(held(&mut later, OWN_BYTES));
    assert!(!held(&mut later, OWN_BYTES + 90_000));
    drop((full, later, small.await.unwrap(), large.await.unwrap()));
    assert_eq!((budget.used(), budget.line().waiting.len()), (0, 0));
}

#[tokio::test]
async fn who_is_known_goes_before_strangers_and_every_other_turn_is_a_strangers() {
    let budget = budget(100_000, usize::MAX);
    let mut full = budget.account().lease();
    full.settle(OWN_BYTES + 100_000);
    let mut turn = budget.account().lease();
    assert!(held(&mut turn, 50_000), "the turn of a stranger");
    let strangers: Vec<_> = (0..2).map(|_| in_line(&budget.account(), 20_000)).collect();
    soon(|| budget.line().waiting.len() == 2).await;
    let known = budget.account();
    known.know();
    let [first, second] = [0, 1].map(|_| in_line(&known, 60_000));
    soon(|| budget.line().waiting.len() == 4).await;
    let done = || strangers.iter().filter(|one| one.is_finished()).count();
    full.shrink(OWN_BYTES + 70_000);
    tokio::task::yield_now().await;
    assert_eq!(done(), 0, "what becomes free is kept for those that are known");
    drop(turn);
    soon(|| first.is_finished()).await;
    assert_eq!((done(), second.is_finished()), (0, false));
    drop(first.await.unwrap());
    soon(|| done() == 1).await;
    assert!(!second.is_finished());
    full.settle(OWN_BYTES);
    soon(|| second.is_finished() && done() == 2).await;
    drop((full, second.await.unwrap()));
    for one in strangers {
        one.await.unwrap();
    }
    assert_eq!((budget.used(), budget.line().turn), (0, None));
}

#[tokio::test]
async fn a_connection_waits_for_its_own_share_and_nobody_waits_for_it() {
    let budget = budget(1_000_000, 200_000);
    let (one, other) = (budget.account(), budget.account());
    let mut first = one.lease();
    assert!(held(&mut first, 300_000), "a thing may be larger than a share");
    let mut second = one.lease();
    assert_eq!(at_once(second.grow(10, 500_000)), None, "nothing is left of its share");
    let waits = in_line(&one, 50_000);
    soon(|| budget.line().apart.len() == 1).await;
    assert!(budget.line().waiting.is_empty());
    let mut free = other.lease();
    assert_eq!(at_once(free.grow(10, 500_000)), Some(500_000));
    first.shrink(100_000);
    soon(|| waits.is_finished()).await;
    assert_eq!(waits.await.unwrap().bytes(), 50_000);
    assert!(budget.line().apart.is_empty());
}

#[tokio::test]
async fn who_holds_memory_and_moves_nothing_is_cut_while_others_wait() {
    let budget = budget(100_000, usize::MAX);
    let (cuts, accounts, mut leases) = three(&budget);
    for (lease, bytes) in leases.iter_mut().zip([60_000, 56_000, OWN_BYTES]) {
        assert!(held(lease, bytes));
    }
    let begin = Instant::now();
    let debts: Vec<_> = accounts.iter().zip(&cuts).map(|(account, cut)| account.owe(cut)).collect();
    let end = Instant::now();
    let cut = |at: usize| at_once(cuts[at].notified()).is_some();
    budget.look(end + 2 * PATIENCE);
    assert!(!cut(0) && !cut(1), "nobody waits");

    let mut turn = budget.account().lease();
    assert!(held(&mut turn, 40_000));
    let mut third = budget.account().lease();
    // Polled by hand: nobody looks but this test, at times of its own.
    let mut waits = Box::pin(third.grow(42_000, 42_000));
    let mut poll = || waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
    assert!(!poll());
    budget.look(begin + PATIENCE / 2);
    assert!(!cut(0) && !cut(1), "they have a second");
    // The second goes on.
    let later = end + PATIENCE + Duration::from_millis(1);
    if let Some(owed) = budget.line().debts.get_mut(&debts[1].id) {
        (owed.last, owed.moved) = (later, 2 * PACE);
    }
    budget.look(later + LOOK);
    assert!(
        cut(0) && !cut(1) && !cut(2),
        "one is enough, and one that holds only its own gives nothing back"
    );
    leases[0].shrink(0);
    assert!(poll());
    drop(debts);
    assert!(budget.line().debts.is_empty());
}

#[tokio::test]
async fn a_drop_at_a_time_is_too_slow_and_a_steady_stream_is_not() {
    let begin = Instant::now();
    let after = |ms: u64| begin + Duration::from_millis(ms);
    let owed = |moved: u64, last_ms: u64| Owed {
        account: budget(1, 1).account(),
        cut: Arc::default(),
        since: begin,
        moved,
        last: after(last_ms),
        is_cut: false,
    };
    assert!(owed(30, 2_900).is_late(after(3_000)));
    assert!(!owed(3 * PACE, 2_900).is_late(after(3_000)));
    assert!(owed(3 * PACE, 1_900).is_late(after(3_000)));
}

#[tokio::test]
async fn without_a_limit_nobody_waits() {
    let budget = Budget::new("test", None, None);
    let mut lease = budget.account().lease();
    assert!(held(&mut lease, usize::MAX / 2));
}

#[tokio::test]
async fn large_things_leave_a_part_to_small_ones_and_the_turn_is_no_burden() {
    let budget = budget(640_000, usize::MAX);
    let (mut large, mut more, mut turn) =
        (budget.account().lease(), budget.account().lease(), budget.account().lease());
    assert!(held(&mut large, OWN_BYTES + 500_000) && !large.has_turn());
    assert_eq!(at_once(more.grow(OWN_BYTES, 500_000)), Some(OWN_BYTES + 60_000), "what there is for it");
    assert!(!budget.is_short());
    assert!(held(&mut turn, 900_000) && turn.has_turn());
    assert!(!budget.is_short(), "the turn does not count");
    // Nothing is left for what is large, and 80,000 for what is small.
    let mut crowd: Vec<_> = (0..9).map(|_| budget.account().lease()).collect();
    assert!(!held(&mut crowd[0], OWN_BYTES + 10_001));
    for small in &mut crowd[..8] {
        small.settle(OWN_BYTES);
        assert!(held(small, OWN_BYTES + 10_000) && !small.has_turn());
    }
    assert!(budget.is_short());
    crowd[8].settle(OWN_BYTES);
    assert!(!held(&mut crowd[8], OWN_BYTES + 1));
    drop((large, more, turn, crowd));
    assert_eq!((budget.used(), budget.line().turn), (0, None));
}

#[tokio::test]
async fn who_holds_little_is_not_cut_for_those_who_hold_much() {
    let budget = budget(640_000, usize::MAX);
    let (cuts, accounts, mut leases) = three(&budget);
    for (lease, bytes) in leases.iter_mut().zip([9_000, 300_000, 331_000]) {
        lease.settle(OWN_BYTES + bytes);
    }
    let debts: Vec<_> = accounts.iter().zip(&cuts).map(|(account, cut)| account.owe(cut)).collect();
    let late = Instant::now() + 2 * PATIENCE;
    let (mut turn, mut waits) = (budget.account().lease(), budget.account().lease());
    assert!(held(&mut turn, 40_000));
    let mut waits = Box::pin(waits.grow(700_000, 700_000));
    assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let cut = |at: usize| at_once(cuts[at].notified()).is_some();
    budget.look(late);
    assert!(!cut(0) && cut(1) && cut(2), "all that are there do not give back what it needs");
    drop(debts);
}

#[tokio::test]
async fn who_holds_most_is_cut_first_and_who_has_the_turn_holds_never_little() {
    let budget = budget(640_000, usize::MAX);
    let (cuts, accounts, mut leases) = three(&budget);
    leases[0].settle(OWN_BYTES + 200_000);
    leases[1].settle(OWN_BYTES + 440_000);
    assert!(held(&mut leases[2], OWN_BYTES + 1) && leases[2].has_turn());
    let debts: Vec<_> = accounts.iter().zip(&cuts).map(|(account, cut)| account.owe(cut)).collect();
    let late = Instant::now() + 2 * PATIENCE;
    let cut = |at: usize| at_once(cuts[at].notified()).is_some();
    let wait = |bytes: usize| {
        let mut lease = budget.account().lease();
        let mut waits = Box::pin(async move { lease.grow(bytes, bytes).await });
        assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        waits
    };
    let few = wait(300_000);
    budget.look(late);
    assert!(!cut(0) && cut(1) && !cut(2));
    let many = wait(700_000);
    budget.look(late + LOOK);
    assert!(cut(0) && cut(2));
    drop((debts, few, many));
}

#[tokio::test]
async fn what_has_the_turn_may_grow_and_is_no_burden() {
    let budget = budget(640_000, usize::MAX);
    let (mut full, mut turn) = (budget.account().lease(), budget.account().lease());
    full.settle(OWN_BYTES + 560_000);
    assert!(held(&mut turn, 100_000) && turn.has_turn());
    assert!(held(&mut turn, 500_000));
    turn.settle(900_000);
    assert!(budget.used() > 1_400_000 && !budget.is_short() && !budget.is_used_up());
    turn.shrink(50_000);
    let mut small = budget.account().lease();
    small.settle(OWN_BYTES);
    assert!(held(&mut small, OWN_BYTES + 10_000));
    drop(turn);
    assert_eq!(budget.shared(), 570_000);
    drop((full, small));
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn what_is_left_to_small_things_is_strangers_too() {
    let budget = budget(640_000, usize::MAX);
    let (mut full, mut turn) = (budget.account().lease(), budget.account().lease());
    full.settle(OWN_BYTES + 600_000);
    assert!(held(&mut turn, 100_000) && turn.has_turn());
    let known = budget.account();
    known.know();
    let large = in_line(&known, 200_000);
    soon(|| budget.line().waiting.len() == 1).await;
    let mut stranger = budget.account().lease();
    stranger.settle(OWN_BYTES);
    assert!(held(&mut stranger, OWN_BYTES + 10_000));
    assert!(!held(&mut stranger, OWN_BYTES + 30_000) && !large.is_finished());
    drop((full, stranger, turn));
    drop(large.await.unwrap());
    assert_eq!(budget.used(), 0);
}
