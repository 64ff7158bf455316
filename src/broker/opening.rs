//! Work that waits for the disk: opening logs, finding times in them, changes.
//!
//! Invariant: none of it runs on the runtime's workers, and of each kind only so much at once that however many connections
//! ask, threads are left for the others and for syncs. A log is opened once, whoever waits for it, and those who ask for logs
//! take turns: whoever wants thousands of them holds nobody up who wants one. What nobody waits for any more stands in line
//! once. Once an append has waited enough for a log none waits for it until it is open: the next would overtake the first.
//! Deliberately absent: what an open does (`topic::Partition::log`).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::{Core, Places};
use crate::lock::{Mutex, rank};
use crate::store::LogId;
use crate::topic::{self, Error, Partition};

/// How many logs are opened at once, and how many are looked through.
const AT_ONCE: usize = 4;
/// How long a request waits for logs: clients give up after 30 s, and opens of few logs take seconds where the disk is busy.
const PATIENCE: Duration = Duration::from_secs(15);
/// How many changes run at once; most wait for each other anyway.
const CHANGES_AT_ONCE: usize = 32;

/// Logs that could not be opened, and why.
pub type Refused = HashMap<LogId, Error>;

/// Logs that a request needs and that nobody has opened, each once.
pub type Unopened = BTreeMap<LogId, Arc<Partition>>;

/// What became of an open, once that is known.
type Outcome = Option<topic::Result<()>>;

/// The work under way.
pub(super) struct Opening {
    logs: Mutex<rank::Openings, Logs>,
    line: Arc<Places>,
    changes: Arc<Places>,
}

/// Logs that are being opened, and those that wait for that.
#[derive(Default)]
struct Logs {
    underway: HashMap<LogId, Open>,
    /// What everybody who asked wants, in the order of their turns. Some of it may have been opened for others meanwhile.
    askers: VecDeque<Asker>,
    last: u64,
    /// Tasks that open.
    openers: usize,
}

/// Who has a turn.
struct Asker {
    /// [`NOBODY`] for all who wait no more.
    id: u64,
    wants: VecDeque<Arc<Partition>>,
}

const NOBODY: u64 = 0;

/// A log that is wanted.
struct Open {
    outcome: watch::Receiver<Outcome>,
    /// Until it is begun.
    sender: Option<watch::Sender<Outcome>>,
    /// Whether it is opened also when nobody waits any more: somebody did.
    is_left: bool,
    /// Whether an append has waited for it for long enough.
    is_late: bool,
}

/// Logs that somebody waits for; goes on without him.
struct Asked {
    opening: Arc<Opening>,
    id: u64,
    outcomes: Vec<watch::Receiver<Outcome>>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        if !self.outcomes.is_empty() {
            self.opening.logs.lock().leave(self.id);
        }
    }
}

impl Logs {
    /// Stands in line for logs; the number there, and what tells the outcome of each.
    fn ask(&mut self, partitions: &[Arc<Partition>]) -> (u64, Vec<watch::Receiver<Outcome>>) {
        self.last += 1;
        self.askers.push_back(Asker { id: self.last, wants: partitions.iter().cloned().collect() });
        let open = |partition: &Arc<Partition>| {
            let open = self.underway.entry(partition.id()).or_insert_with(|| {
                let (sender, outcome) = watch::channel(None);
                Open { outcome, sender: Some(sender), is_left: false, is_late: false }
            });
            open.outcome.clone()
        };
        let outcomes = partitions.iter().map(open).collect();
        (self.last, outcomes)
    }

    /// Who asked waits no more: what is not begun for him is opened all the same, in the turn that all such have together.
    fn leave(&mut self, id: u64) {
        let Some(at) = self.askers.iter().position(|asker| asker.id == id) else { return };
        let Some(asker) = self.askers.remove(at) else { return };
        let mut left = Vec::new();
        for partition in asker.wants {
            if let Some(open) = self.underway.get_mut(&partition.id())
                && open.sender.is_some()
                && !std::mem::replace(&mut open.is_left, true)
            {
                left.push(partition);
            }
        }
        match self.askers.iter_mut().find(|asker| asker.id == NOBODY) {
            Some(nobody) => nobody.wants.extend(left),
            None if left.is_empty() => {}
            None => self.askers.push_back(Asker { id: NOBODY, wants: left.into() }),
        }
    }

    /// Whether an append may wait for a log.
    fn may_append(&self, partition: &Partition) -> bool {
        self.underway.get(&partition.id()).is_none_or(|open| !open.is_late)
    }

    /// An append has waited for it for long enough.
    fn give_up_on(&mut self, partition: &Partition) {
        if let Some(open) = self.underway.get_mut(&partition.id()) {
            open.is_late = true;
        }
    }

    /// The next log to open, of whose turn it is.
    fn next(&mut self) -> Option<(Arc<Partition>, watch::Sender<Outcome>)> {
        while let Some(mut asker) = self.askers.pop_front() {
            while let Some(partition) = asker.wants.pop_front() {
                let open = self.underway.get_mut(&partition.id());
                if let Some(sender) = open.and_then(|open| open.sender.take()) {
                    if !asker.wants.is_empty() {
                        self.askers.push_back(asker);
                    }
                    return Some((partition, sender));
                }
            }
        }
        None
    }
}

impl Default for Opening {
    fn default() -> Self {
        Self { logs: Mutex::default(), line: Places::new(AT_ONCE), changes: Places::new(CHANGES_AT_ONCE) }
    }
}

impl Opening {
    /// Has both lines watched.
    pub(super) fn watch(&self, core: &Core) {
        core.watch_places(
            "their turn to look through a log (offsets by time, deletes of records)",
            &self.line,
        );
        core.watch_places("their turn to change something (topics, configuration, upkeep)", &self.changes);
    }
}

impl Core {
    /// Opens the log of a partition, if it is not open, and recovers it first where that is needed. Goes on when the caller
    /// stops waiting.
    ///
    /// # Errors
    /// [`Error::Storage`] when it cannot be opened.
    pub async fn open_log(self: &Arc<Self>, partition: &Arc<Partition>) -> topic::Result<()> {
        if partition.is_open() {
            return Ok(());
        }
        let mut asked = self.begin_to_open(std::slice::from_ref(partition));
        match asked.outcomes.first_mut() {
            Some(outcome) => told(outcome).await,
            None => Ok(()),
        }
    }

    /// Opens the logs of partitions; those that could not be opened, or have not been within a request's patience: that goes on,
    /// and whoever asks again finds more of them open. `appends` says whether the order of such requests counts.
    pub async fn open_logs(self: &Arc<Self>, partitions: Vec<Arc<Partition>>, appends: bool) -> Refused {
        self.open_within(PATIENCE, partitions, appends).await
    }

    /// Opens the logs of partitions, all that do open, however long that takes.
    pub async fn open_all(self: &Arc<Self>, partitions: Vec<Arc<Partition>>) {
        let closed: Vec<_> = partitions.into_iter().filter(|partition| !partition.is_open()).collect();
        for outcome in &mut self.begin_to_open(&closed).outcomes {
            // What does not open is told of where it fails.
            let _ = told(outcome).await;
        }
    }

    async fn open_within(
        self: &Arc<Self>,
        patience: Duration,
        partitions: Vec<Arc<Partition>>,
        appends: bool,
    ) -> Refused {
        let until = Instant::now() + patience;
        let closed: Vec<_> = partitions.into_iter().filter(|partition| !partition.is_open()).collect();
        let mut refused = HashMap::new();
        let mut asked = self.begin_to_open(&closed);
        for (outcome, partition) in asked.outcomes.iter_mut().zip(&closed) {
            let overtakes = appends && !self.opening.logs.lock().may_append(partition);
            let deadline = if overtakes { Instant::now() } else { until };
            // Those that are open by then are, whatever came before them.
            let opened = timeout_at(deadline, told(outcome)).await.unwrap_or_else(|_| {
                if appends {
                    self.opening.logs.lock().give_up_on(partition);
                }
                Err(Error::Opening)
            });
            if let Err(error) = opened {
                refused.insert(partition.id(), error);
            }
        }
        refused
    }

    fn begin_to_open(&self, partitions: &[Arc<Partition>]) -> Asked {
        let opening = Arc::clone(&self.opening);
        let mut logs = self.opening.logs.lock();
        for _ in 0..partitions.len().min(AT_ONCE - logs.openers) {
            logs.openers += 1;
            tokio::spawn(open_in_turns(Arc::clone(&self.opening)));
        }
        let (id, outcomes) = if partitions.is_empty() { (NOBODY, Vec::new()) } else { logs.ask(partitions) };
        drop(logs);
        Asked { opening, id, outcomes }
    }

    /// Runs work that waits for the disk off the caller's thread.
    ///
    /// # Errors
    /// Those of the work.
    pub async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Arc<Self>) -> topic::Result<T> + Send + 'static,
    ) -> topic::Result<T> {
        self.in_turn(&self.opening.changes, work).await
    }

    /// As [`Core::blocking`], for what may read all that a log holds: it stands in line.
    ///
    /// # Errors
    /// Those of the work.
    pub async fn in_line<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Arc<Self>) -> topic::Result<T> + Send + 'static,
    ) -> topic::Result<T> {
        self.in_turn(&self.opening.line, work).await
    }

    async fn in_turn<T: Send + 'static>(
        self: &Arc<Self>,
        turns: &Arc<Places>,
        work: impl FnOnce(&Arc<Self>) -> topic::Result<T> + Send + 'static,
    ) -> topic::Result<T> {
        let turn = Arc::clone(turns).take().await;
        let core = Arc::clone(self);
        // The turn is the thread's: the work goes on when its caller leaves.
        let worked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work(&core)
        });
        match worked.await {
            Ok(outcome) => outcome,
            // The work panicked: nothing is known about what it did.
            Err(_) => Err(Error::Storage(crate::store::Error::Fenced)),
        }
    }
}

/// What became of an open.
async fn told(outcome: &mut watch::Receiver<Outcome>) -> topic::Result<()> {
    match outcome.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or(Ok(())),
        // The task is gone: the runtime ends.
        Err(_) => Err(Error::Storage(crate::store::Error::Fenced)),
    }
}

/// Opens logs as long as somebody waits for one. Does not hold on to the broker: whoever is told may be about to close it.
async fn open_in_turns(opening: Arc<Opening>) {
    loop {
        let next = {
            let mut logs = opening.logs.lock();
            let next = logs.next();
            logs.openers -= usize::from(next.is_none());
            next
        };
        let Some((partition, sender)) = next else { return };
        let id = partition.id();
        let opened = tokio::task::spawn_blocking(move || partition.log().map(|_| ())).await;
        // One that panicked opened nothing.
        let opened = opened.unwrap_or(Err(Error::Storage(crate::store::Error::Fenced)));
        opening.logs.lock().underway.remove(&id);
        // Nobody may be left who waits.
        let _ = sender.send(Some(opened));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::broker::Clock;
    use crate::config::Config;
    use crate::topic::NewTopic;

    #[tokio::test]
    async fn a_log_is_opened_once_for_all_who_ask_and_by_nobody_whom_that_holds_up() {
        let dir = tempfile::tempdir().unwrap();
        let core = crate::broker::open(dir.path(), Config::default(), Clock::System).unwrap();
        let new = NewTopic {
            id: core.clock().uuid(),
            name: "t".into(),
            partitions: 40,
            overrides: BTreeMap::new(),
            created_ms: 0,
        };
        let topic = core.topics().create(new).unwrap();
        let all: Vec<_> = topic.partitions().iter().cloned().collect();
        assert!(all.iter().all(|partition| !partition.is_open()));
        let ask = |n: usize| core.begin_to_open(std::slice::from_ref(&all[n % 40]));
        let asked: Vec<_> = (0..1000).map(ask).collect();
        {
            let logs = core.opening.logs.lock();
            assert_eq!((logs.underway.len(), logs.openers), (40, AT_ONCE), "each is opened once");
        }
        assert!(core.open_logs(all.clone(), true).await.is_empty());
        assert!(all.iter().all(|partition| partition.is_open()));
        for mut asked in asked {
            assert!(told(&mut asked.outcomes[0]).await.is_ok());
        }
        while core.opening.logs.lock().openers > 0 {
            tokio::task::yield_now().await;
        }
        let logs = core.opening.logs.lock();
        assert!(logs.underway.is_empty() && logs.askers.is_empty());
        drop(logs);
        core.close().unwrap();
    }

    #[tokio::test]
    async fn who_wants_one_log_does_not_wait_for_all_that_somebody_else_wants() {
        let core = crate::broker::in_memory(Config::default()).unwrap();
        let topic = core.create_topic("t".into(), 11, BTreeMap::new()).await.unwrap();
        let all: Vec<_> = topic.partitions().iter().cloned().collect();
        let mut logs = Logs::default();
        // Everything but one; that one; and one of those that the first wants last.
        for wanted in [&all[..10], &all[10..], &all[9..10]] {
            assert_eq!(logs.ask(wanted).1.len(), wanted.len());
        }
        let order: Vec<i32> =
            std::iter::from_fn(|| logs.next()).map(|(partition, _)| partition.id().partition).collect();
        assert_eq!(order, [0, 10, 9, 1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[tokio::test]
    async fn who_leaves_gives_his_turn_back_when_the_work_has_ended_and_not_before() {
        let core = crate::broker::in_memory(Config::default()).unwrap();
        let (begun, begins) = std::sync::mpsc::sync_channel(AT_ONCE);
        let (release, released) = std::sync::mpsc::sync_channel::<()>(0);
        let released = Arc::new(std::sync::Mutex::new(released));
        let asked: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                let (core, begun, released) = (Arc::clone(&core), begun.clone(), Arc::clone(&released));
                let work = move |_: &Arc<Core>| {
                    begun.send(()).unwrap();
                    // Ends with the sender.
                    let _ = released.lock().unwrap().recv();
                    Ok(())
                };
                tokio::spawn(async move { core.in_line(work).await })
            })
            .collect();
        // All of them compute; then nobody waits for them any more.
        let begins = tokio::task::spawn_blocking(move || begins.iter().take(AT_ONCE).count());
        assert_eq!(begins.await.unwrap(), AT_ONCE);
        for task in asked {
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
        }
        assert_eq!(core.opening.line.free(), 0, "their threads are at work");
        drop(release);
        assert_eq!(core.in_line(|_| Ok(7)).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn who_has_waited_enough_goes_on_with_what_is_open_and_the_rest_is_opened_all_the_same() {
        let core = crate::broker::in_memory(Config::default()).unwrap();
        let topic = core.create_topic("t".into(), 3, BTreeMap::new()).await.unwrap();
        let all: Vec<_> = topic.partitions().iter().cloned().collect();
        core.open_log(&all[1]).await.unwrap();
        while core.opening.logs.lock().openers > 0 {
            tokio::task::yield_now().await;
        }
        // As if all of them were busy.
        core.opening.logs.lock().openers = AT_ONCE;
        let refused = core.open_within(Duration::ZERO, all.clone(), false).await;
        let ids: std::collections::BTreeSet<i32> = refused.keys().map(|id| id.partition).collect();
        assert!(ids == [0, 2].into() && refused.values().all(|e| matches!(e, Error::Opening)), "{refused:?}");
        tokio::spawn(open_in_turns(Arc::clone(&core.opening)));
        core.open_all(all.clone()).await;
        assert!(all.iter().all(|partition| partition.is_open()));
        assert!(core.open_within(Duration::ZERO, all, false).await.is_empty());
    }

    #[tokio::test]
    async fn no_append_waits_for_a_log_that_one_before_it_has_waited_enough_for() {
        let core = crate::broker::in_memory(Config::default()).unwrap();
        let topic = core.create_topic("t".into(), 2, BTreeMap::new()).await.unwrap();
        let all: Vec<_> = topic.partitions().iter().cloned().collect();
        let (one, other) = (all[..1].to_vec(), all[1..].to_vec());
        let long = Duration::from_millis(50);
        // As if all of them were busy.
        core.opening.logs.lock().openers = AT_ONCE;
        assert_eq!(core.open_within(Duration::ZERO, one.clone(), false).await.len(), 1);
        let first = tokio::time::timeout(long, core.open_logs(one.clone(), true)).await;
        assert!(first.is_err(), "it waits, whatever reads have");
        assert_eq!(core.open_within(Duration::ZERO, one.clone(), true).await.len(), 1);
        // Its records would come before those of the first.
        let refused = core.open_within(Duration::from_secs(3600), one.clone(), true).await;
        assert!(matches!(refused.get(&one[0].id()), Some(Error::Opening)), "{refused:?}");
        for (wanted, appends) in [(one, false), (other, true)] {
            let waits = tokio::time::timeout(long, core.open_logs(wanted, appends)).await;
            assert!(waits.is_err(), "reads, and what goes elsewhere, wait");
        }
        tokio::spawn(open_in_turns(Arc::clone(&core.opening)));
        core.open_all(all.clone()).await;
        assert!(core.open_logs(all, true).await.is_empty());
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_stands_in_line_once() {
        let core = crate::broker::in_memory(Config::default()).unwrap();
        let topic = core.create_topic("t".into(), 50, BTreeMap::new()).await.unwrap();
        let all: Vec<_> = topic.partitions().iter().cloned().collect();
        // As if all of them were busy.
        core.opening.logs.lock().openers = AT_ONCE;
        for _ in 0..100 {
            assert_eq!(core.open_within(Duration::ZERO, all.clone(), false).await.len(), 50);
            drop(core.begin_to_open(&[]));
        }
        {
            let logs = core.opening.logs.lock();
            let wanted: Vec<usize> = logs.askers.iter().map(|asker| asker.wants.len()).collect();
            assert_eq!((wanted, logs.underway.len()), (vec![50], 50));
        }
        open_in_turns(Arc::clone(&core.opening)).await;
        assert!(all.iter().all(|partition| partition.is_open()), "it is opened all the same");
        let logs = core.opening.logs.lock();
        assert!(logs.underway.is_empty() && logs.askers.is_empty());
    }

    #[tokio::test]
    async fn a_log_that_cannot_be_opened_says_why_and_is_tried_again_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let core = crate::broker::open(dir.path(), Config::default(), Clock::System).unwrap();
        let new = NewTopic {
            id: core.clock().uuid(),
            name: "t".into(),
            partitions: 1,
            overrides: BTreeMap::new(),
            created_ms: 0,
        };
        let topic = core.topics().create(new).unwrap();
        let partition = topic.partition(0).unwrap();
        // A file where the log's directory belongs.
        let place = dir.path().join("topics").join(topic.id().to_string());
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(place.join("0"), b"x").unwrap();
        let refused = core.open_logs(vec![Arc::clone(&partition)], true).await;
        assert!(matches!(refused.get(&partition.id()), Some(Error::Storage(_))), "{refused:?}");
        assert!(!partition.is_open());
        std::fs::remove_file(place.join("0")).unwrap();
        assert!(core.open_log(&partition).await.is_ok());
        core.close().unwrap();
    }
}
