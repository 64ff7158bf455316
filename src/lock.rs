//! The locks of the house: a mutex, a read-write lock and a condition with a rank in their type.
//!
//! Owns the order in which locks are taken, one table for all rooms. Invariant: while a thread holds a lock it
//! takes only locks that stand further down in the table, so no two threads ever wait for each other; and no lock
//! is held over a wait that its line does not allow. Builds with debug assertions, and those with the feature
//! `lock-ranks`, check both at every lock and panic with the names; others carry no trace of it. One rank is
//! never taken twice by a thread, not even for reading: two locks of one rank (two partitions, two logs) are held
//! one after the other. A lock whose holder panicked is entered all the same: what each guards is whole between
//! any two statements, or is checked by whoever uses it.
//! Deliberately absent: locks that are held across an await (those are tokio's, and only tokio's).

#![allow(clippy::disallowed_types, reason = "this is what the others use")]
#![cfg_attr(
    not(any(debug_assertions, feature = "lock-ranks")),
    allow(dead_code, reason = "only builds that check the table read it")
)]

#[cfg(test)]
pub mod schedule;

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::{self, PoisonError, TryLockError};
use std::time::Duration;

/// What a thread may wait for while it holds a lock, beside locks further down that allow no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Waits {
    /// Nothing: whoever waits for the lock waits for a few instructions.
    Never,
    /// Calls on files that the page cache answers in most cases: open, read, write, rename.
    Files,
    /// The disk itself: `fdatasync`, or whatever else takes as long.
    Disk,
}

/// A line of the table.
pub trait Rank {
    /// Its place, counted from the outermost.
    const PLACE: u16;
    /// Its name, for whoever broke the order.
    const NAME: &'static str;
    /// What may be waited for under it.
    const WAITS: Waits;
}

/// The table: outermost first. A line says what the lock guards and what may be waited for under it.
macro_rules! ranks {
    ($($(#[$doc:meta])* $name:ident $waits:ident,)*) => {
        #[derive(Clone, Copy)]
        enum Place { $($name,)* }

        /// The lines of the table, as types.
        pub mod rank {
            use super::{Place, Rank, Waits};
            $(
                $(#[$doc])*
                #[derive(Debug)]
                pub enum $name {}

                impl Rank for $name {
                    const PLACE: u16 = Place::$name as u16;
                    const NAME: &'static str = stringify!($name);
                    const WAITS: Waits = Waits::$waits;
                }
            )*
        }
    };
}

ranks! {
    // Doors.
    /// Kinesis: what is kept of streams, by topic.
    StreamCache Never,
    /// Kinesis: who is subscribed to which shard.
    Seats Never,
    /// Kinesis: when control operations were called last.
    Paces Never,
    /// The driver's line at a terminal.
    Progress Never,
    /// Kafka: answers that are made once for everybody.
    KeptAnswers Never,

    // Broker.
    /// The coordinator of groups and, with it, the order of their journal.
    Groups Disk,
    /// What the wall clock has done in this life.
    Calendar Never,
    /// Logs that are being opened.
    Openings Never,
    /// Plain records of batches that are read a few at a time.
    Sections Never,
    /// One change of configuration or client quotas at a time.
    ConfigChanges Disk,
    /// The block of producer ids that is being given out.
    ProducerIds Disk,

    // Topics.
    /// One change of topics at a time.
    TopicChanges Disk,
    /// The version of a topic's record.
    TopicVersion Disk,
    /// A topic's table of shards.
    TopicShards Never,
    /// Topics by name and id.
    TopicMaps Never,
    /// What doors keep beside topics.
    Attachments Never,
    /// A topic's partitions.
    TopicPartitions Never,
    /// One partition's log is opened once.
    LogOpening Disk,
    /// One partition's writer: producers, epochs, the order of its log.
    PartitionWriter Disk,
    /// The broker's values that topics follow.
    TopicDefaults Never,
    /// A topic's effective configuration.
    TopicConfig Never,
    /// What was set on a topic.
    TopicOverrides Never,
    /// Partitions written since upkeep looked.
    DirtyPartitions Never,
    /// The shard that was closed last in a partition.
    ClosedShard Never,
    /// Who wrote last to a partition.
    LastClient Never,

    // Local engine.
    /// The logs that are open.
    OpenLogs Never,
    /// One log's writer: its active segment.
    LogWriter Disk,
    /// One checkpoint of a log at a time.
    Checkpointing Disk,
    /// One sync of a log at a time.
    Flushing Disk,
    /// The numbers of this life are made durable once.
    Settling Disk,
    /// The database of small state is opened once.
    MetaOpening Disk,
    /// One change of small state at a time.
    MetaOrder Disk,
    /// The database of small state.
    MetaDatabase Disk,
    /// The second copy of small state.
    MetaCopy Disk,
    /// The space that is kept back.
    Ballast Disk,
    /// The segment file that was made ahead.
    Spare Files,
    /// Whose mark is where.
    Marks Files,
    /// A log's segments.
    Segments Never,
    /// What is written of a segment, and its index.
    Tail Never,
    /// What of a segment is durable.
    Synced Never,
    /// Damaged places of a segment.
    Holes Never,
    /// What a checkpoint keeps beside segments.
    CheckpointState Never,
    /// Topics whose directories are durable.
    NamedTopics Never,
    /// What the last close knew.
    Past Never,
    /// Logs that were set aside.
    Quarantined Never,
    /// Logs that may hold blocks past their ends.
    Reserving Never,
    /// The order in which descriptors were opened.
    OpenFiles Never,
    /// A segment's descriptor.
    FileHandle Never,
    /// A descriptor's map.
    FileMap Files,
    /// A descriptor's index.
    FileIndex Never,
    /// The queue of background work.
    Workers Never,

    // Memory engine.
    /// The logs of a store in memory.
    MemoryLogs Never,
    /// One log in memory.
    MemoryLog Never,
    /// Small state in memory.
    MemoryMeta Never,

    // What anybody may touch while holding anything.
    /// The configuration as it stands.
    Config Never,
    /// Advertised addresses.
    Advertised Never,
    /// Limits of connections.
    Admission Never,
    /// Client quotas and their buckets.
    ClientQuotas Never,
    /// The gates of topics, by topic.
    Gates Never,
    /// Operations that doors count.
    Operations Never,
    /// Refusals of one operation.
    Refused Never,
    /// Who is connected.
    Census Never,
    /// What is waited for.
    Watched Never,
    /// Who waits for a lane, and what each has had.
    FairLines Never,
    /// What the connections of a door hold of its memory, and who waits.
    MemoryBudget Never,
    /// Budgets that the admin door shows.
    ShownBudgets Never,
    /// The writing half of an HTTP connection.
    WriteHalf Never,
    /// Who waits for an offset.
    Waiters Never,
    /// Which partitions of a waiting fetch moved.
    Bell Never,
    /// What is kept of one kind of incidents.
    Incident Never,
}

/// A mutual exclusion with a rank.
pub struct Mutex<R, T: ?Sized> {
    rank: PhantomData<fn() -> R>,
    inner: sync::Mutex<T>,
}

/// What a locked [`Mutex`] guards.
pub struct MutexGuard<'a, R: Rank, T: ?Sized> {
    inner: sync::MutexGuard<'a, T>,
    held: Held<R>,
}

impl<R: Rank, T> Mutex<R, T> {
    /// An open lock around `value`.
    pub const fn new(value: T) -> Self {
        Self { rank: PhantomData, inner: sync::Mutex::new(value) }
    }
}

impl<R: Rank, T: ?Sized> Mutex<R, T> {
    /// Waits for the lock.
    pub fn lock(&self) -> MutexGuard<'_, R, T> {
        let held = Held::wait();
        #[cfg(test)]
        if schedule::is_on() {
            return MutexGuard { inner: in_turn::<R, _>(|| self.try_inner()), held };
        }
        MutexGuard { inner: self.inner.lock().unwrap_or_else(PoisonError::into_inner), held }
    }

    /// Takes the lock if nobody has it. Waits for nobody, so its place in the table does not matter.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, R, T>> {
        let inner = self.try_inner()?;
        Some(MutexGuard { inner, held: Held::take() })
    }

    fn try_inner(&self) -> Option<sync::MutexGuard<'_, T>> {
        entered(self.inner.try_lock())
    }
}

impl<R: Rank, T: Default> Default for Mutex<R, T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<R: Rank, T: ?Sized> fmt::Debug for Mutex<R, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(R::NAME)
    }
}

impl<R: Rank, T: ?Sized> Deref for MutexGuard<'_, R, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<R: Rank, T: ?Sized> DerefMut for MutexGuard<'_, R, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

/// One writer or many readers, with a rank.
pub struct RwLock<R, T: ?Sized> {
    rank: PhantomData<fn() -> R>,
    inner: sync::RwLock<T>,
}

/// What a [`RwLock`] guards, for reading.
pub struct ReadGuard<'a, R: Rank, T: ?Sized> {
    inner: sync::RwLockReadGuard<'a, T>,
    _held: Held<R>,
}

/// What a [`RwLock`] guards, for writing.
pub struct WriteGuard<'a, R: Rank, T: ?Sized> {
    inner: sync::RwLockWriteGuard<'a, T>,
    _held: Held<R>,
}

impl<R: Rank, T> RwLock<R, T> {
    /// An open lock around `value`.
    pub const fn new(value: T) -> Self {
        Self { rank: PhantomData, inner: sync::RwLock::new(value) }
    }
}

impl<R: Rank, T: ?Sized> RwLock<R, T> {
    /// Waits until nobody writes.
    pub fn read(&self) -> ReadGuard<'_, R, T> {
        let held = Held::wait();
        #[cfg(test)]
        if schedule::is_on() {
            return ReadGuard { inner: in_turn::<R, _>(|| entered(self.inner.try_read())), _held: held };
        }
        ReadGuard { inner: self.inner.read().unwrap_or_else(PoisonError::into_inner), _held: held }
    }

    /// Waits until nobody writes or reads.
    pub fn write(&self) -> WriteGuard<'_, R, T> {
        let held = Held::wait();
        #[cfg(test)]
        if schedule::is_on() {
            return WriteGuard { inner: in_turn::<R, _>(|| entered(self.inner.try_write())), _held: held };
        }
        WriteGuard { inner: self.inner.write().unwrap_or_else(PoisonError::into_inner), _held: held }
    }
}

impl<R: Rank, T: Default> Default for RwLock<R, T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<R: Rank, T: ?Sized> fmt::Debug for RwLock<R, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(R::NAME)
    }
}

impl<R: Rank, T: ?Sized> Deref for ReadGuard<'_, R, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<R: Rank, T: ?Sized> Deref for WriteGuard<'_, R, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<R: Rank, T: ?Sized> DerefMut for WriteGuard<'_, R, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

/// The guard, if there is one.
fn entered<G>(tried: Result<G, TryLockError<G>>) -> Option<G> {
    match tried {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Takes a lock when the schedule of a test says so.
#[cfg(test)]
fn in_turn<R: Rank, G>(take: impl Fn() -> Option<G>) -> G {
    schedule::point();
    loop {
        match take() {
            Some(guard) => return guard,
            None => schedule::wait(R::NAME),
        }
    }
}

/// Where threads wait for a change of what a [`Mutex`] guards.
#[derive(Default)]
pub struct Condvar(sync::Condvar);

impl Condvar {
    /// Opens the lock, waits to be notified, and takes it again. May return without that.
    pub fn wait<'a, R: Rank, T>(&self, guard: MutexGuard<'a, R, T>) -> MutexGuard<'a, R, T> {
        let MutexGuard { inner, held } = guard;
        drop(held);
        let inner = self.0.wait(inner).unwrap_or_else(PoisonError::into_inner);
        MutexGuard { inner, held: Held::wait() }
    }

    /// As [`Condvar::wait`], for so long at most.
    pub fn wait_for<'a, R: Rank, T>(
        &self,
        guard: MutexGuard<'a, R, T>,
        most: Duration,
    ) -> MutexGuard<'a, R, T> {
        let MutexGuard { inner, held } = guard;
        drop(held);
        let (inner, _) = self.0.wait_timeout(inner, most).unwrap_or_else(PoisonError::into_inner);
        MutexGuard { inner, held: Held::wait() }
    }

    /// Wakes one thread that waits.
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Wakes every thread that waits.
    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// Said where a thread is about to wait for `what`: no lock that it holds may forbid that.
#[inline]
pub fn about_to_wait(what: Waits) {
    #[cfg(any(debug_assertions, feature = "lock-ranks"))]
    checked::may_wait(what);
    #[cfg(test)]
    schedule::point();
    let _ = what;
}

/// One lock of rank `R` in the hands of this thread.
struct Held<R: Rank>(PhantomData<fn() -> R>);

impl<R: Rank> Held<R> {
    /// Of a lock that may have to be waited for.
    #[inline]
    fn wait() -> Self {
        #[cfg(any(debug_assertions, feature = "lock-ranks"))]
        checked::may_take::<R>();
        Self::take()
    }

    /// Of a lock that is taken already.
    #[inline]
    fn take() -> Self {
        #[cfg(any(debug_assertions, feature = "lock-ranks"))]
        checked::take::<R>();
        Self(PhantomData)
    }
}

#[cfg(any(debug_assertions, feature = "lock-ranks"))]
impl<R: Rank> Drop for Held<R> {
    fn drop(&mut self) {
        checked::give_back::<R>();
        // The lock itself is open by now: guards name it before this.
        #[cfg(test)]
        schedule::opened();
    }
}

/// What each thread holds.
#[cfg(any(debug_assertions, feature = "lock-ranks"))]
mod checked {
    use std::cell::RefCell;

    use super::{Rank, Waits};

    struct Line {
        place: u16,
        name: &'static str,
        waits: Waits,
    }

    thread_local! {
        static HELD: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
    }

    /// Panics with the first line that `breaks` the rule; a thread that unwinds, or ends, is left in peace.
    fn check(breaks: impl Fn(&Line) -> bool, tell: impl Fn(&Line) -> String) {
        let found = HELD.try_with(|held| held.borrow().iter().find(|line| breaks(line)).map(&tell));
        if let Ok(Some(text)) = found
            && !std::thread::panicking()
        {
            panic!("{text}");
        }
    }

    pub(super) fn may_take<R: Rank>() {
        check(
            |line| line.place >= R::PLACE,
            |line| format!("{} is taken while {} is held: out of rank", R::NAME, line.name),
        );
        check(
            |line| line.waits < R::WAITS,
            |line| format!("{} may wait for {:?} and {} must not", R::NAME, R::WAITS, line.name),
        );
    }

    pub(super) fn may_wait(what: Waits) {
        check(|line| line.waits < what, |line| format!("a wait for {what:?} while {} is held", line.name));
    }

    pub(super) fn take<R: Rank>() {
        let line = Line { place: R::PLACE, name: R::NAME, waits: R::WAITS };
        let _ = HELD.try_with(|held| held.borrow_mut().push(line));
    }

    pub(super) fn give_back<R: Rank>() {
        let _ = HELD.try_with(|held| {
            let mut held = held.borrow_mut();
            if let Some(at) = held.iter().rposition(|line| line.place == R::PLACE) {
                held.remove(at);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    type Outer = Mutex<rank::Groups, u8>;
    type Inner = Mutex<rank::Waiters, u8>;

    fn complaint(work: impl FnOnce()) -> Option<String> {
        let panicked = catch_unwind(AssertUnwindSafe(work)).err()?;
        Some(*panicked.downcast::<String>().unwrap())
    }

    #[test]
    fn locks_are_taken_down_the_table_and_never_up() {
        let (outer, inner) = (Outer::default(), Inner::default());
        assert_eq!(complaint(|| drop((outer.lock(), inner.lock()))), None);
        let said = complaint(|| drop((inner.lock(), outer.lock())));
        assert_eq!(said.as_deref(), Some("Groups is taken while Waiters is held: out of rank"));
        assert_eq!(complaint(|| drop((outer.lock(), inner.lock()))), None, "nothing is held any more");
    }

    #[test]
    fn two_of_one_rank_are_never_held_at_once_not_even_for_reading() {
        let (one, two) = (Inner::default(), Inner::default());
        assert!(complaint(|| drop((one.lock(), two.lock()))).is_some());
        let both = RwLock::<rank::Config, u8>::default();
        assert!(complaint(|| drop((both.read(), both.read()))).is_some());
    }

    #[test]
    fn a_guard_may_go_before_one_that_was_taken_later() {
        let (outer, inner) = (Outer::default(), Inner::default());
        let (first, second) = (outer.lock(), inner.lock());
        drop(first);
        assert!(complaint(|| drop(outer.lock())).is_some(), "the inner one is still held");
        drop(second);
        assert_eq!(complaint(|| drop(outer.lock())), None);
    }

    #[test]
    fn what_is_tried_waits_for_nobody_and_may_come_in_any_order() {
        let (outer, inner) = (Outer::default(), Inner::default());
        let held = inner.lock();
        assert!(outer.try_lock().is_some());
        assert!(inner.try_lock().is_none());
        drop(held);
    }

    #[test]
    fn nobody_waits_for_the_disk_under_a_lock_that_forbids_it() {
        let (brief, slow) = (Mutex::<rank::OpenLogs, u8>::default(), Mutex::<rank::Flushing, u8>::default());
        let held = brief.lock();
        let direct = complaint(|| about_to_wait(Waits::Disk)).unwrap();
        assert_eq!(direct, "a wait for Disk while OpenLogs is held");
        let behind = complaint(|| drop(slow.lock())).unwrap();
        assert_eq!(behind, "Flushing may wait for Disk and OpenLogs must not");
        drop(held);
        let _held = slow.lock();
        assert_eq!(complaint(|| about_to_wait(Waits::Disk)), None);
    }

    #[test]
    fn a_lock_whose_holder_panicked_is_entered() {
        let lock = Inner::new(1);
        assert!(
            catch_unwind(AssertUnwindSafe(|| {
                let mut held = lock.lock();
                *held = 2;
                panic!("under the lock");
            }))
            .is_err()
        );
        assert_eq!(*lock.lock(), 2);
    }

    #[test]
    fn waiting_for_a_condition_holds_nothing() {
        let pair = std::sync::Arc::new((Inner::new(0), Condvar::default()));
        let other = pair.clone();
        let thread = std::thread::spawn(move || {
            let mut value = other.0.lock();
            while *value == 0 {
                value = other.1.wait(value);
            }
            *value
        });
        *pair.0.lock() = 7;
        pair.1.notify_all();
        assert_eq!(thread.join().unwrap(), 7);
    }
}
