//! Appends in waves: everything that one socket read brought in becomes one write per partition.
//!
//! Invariant: batches for one partition keep the order in which they were pushed; a [`Receipt`] is
//! ready only when the batch is as durable as the client asked for.

use std::sync::Arc;
use std::task::{Poll, Waker};

use tokio::runtime::{Handle, RuntimeFlavor};

use crate::batch::Batch;
use crate::store::{self, Log, Registration};
use crate::topic::{Append, Appended, Error, Partition};

/// Bytes to sync after which it is better to sync while reading than to wait for the last request.
const AHEAD_BYTES: usize = 320 << 10;

/// Logs of one wave that are synced among those of everybody else.
const FEW_LOGS: usize = 16;

/// Batches on their way, in request order.
#[derive(Default)]
pub struct Wave {
    jobs: Vec<Job>,
    /// Whose batches these are, in words for people.
    client: Option<Arc<str>>,
    /// Logs that hold something which a receipt waits for and nobody has synced yet.
    owed: Vec<Arc<dyn Log>>,
    owed_bytes: usize,
}

struct Job {
    partition: Arc<Partition>,
    append: Append,
}

impl Wave {
    /// Says whose batches come from now on.
    pub fn set_client(&mut self, client: Arc<str>) {
        self.client = Some(client);
    }

    /// Adds a batch; returns the place of its outcome.
    pub fn push(&mut self, partition: Arc<Partition>, batch: Batch) -> usize {
        self.jobs
            .push(Job { partition, append: Append { client: self.client.clone(), ..Append::new(batch) } });
        self.jobs.len() - 1
    }

    /// Whether nothing waits to be committed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// How many batches wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Takes back what was pushed after there were `len`.
    pub fn truncate(&mut self, len: usize) {
        self.jobs.truncate(len);
    }

    /// Appends everything: one call, and so at most one write, per partition.
    pub fn commit(&mut self, now_ms: i64) {
        if let [job] = self.jobs.as_mut_slice() {
            job.partition.append(now_ms, &mut [&mut job.append]);
            return;
        }
        for at in 0..self.jobs.len() {
            let Some(job) = self.jobs.get(at).filter(|j| j.append.outcome.is_none()) else { continue };
            let partition = Arc::clone(&job.partition);
            let mut appends: Vec<&mut Append> = self
                .jobs
                .iter_mut()
                .skip(at)
                .filter(|j| Arc::ptr_eq(&j.partition, &partition))
                .map(|j| &mut j.append)
                .collect();
            partition.append(now_ms, &mut appends);
        }
    }

    /// The outcome at `place`, after [`Wave::commit`].
    ///
    /// # Errors
    /// Why the batch was not appended.
    pub fn outcome(&mut self, place: usize) -> Result<Appended, Error> {
        let outcome = self.jobs.get_mut(place).and_then(|job| job.append.outcome.take());
        outcome.unwrap_or(Err(Error::Storage(store::Error::Fenced)))
    }

    /// Waits for everything below `until` in the partition of the batch at `place`; [`Wave::sync`] makes
    /// it durable.
    ///
    /// # Errors
    /// [`Error::Storage`] when the log cannot be opened.
    pub fn receipt(&mut self, place: usize, until: i64) -> Result<Receipt, Error> {
        let job = self.jobs.get(place).ok_or(Error::Storage(store::Error::Fenced))?;
        let log = job.partition.log()?;
        self.owed_bytes += job.append.batch.bytes().len();
        // One that is owed twice is synced once: it is not asked twice before it is.
        if !self.owed.last().is_some_and(|owed| Arc::ptr_eq(owed, log)) {
            self.owed.push(Arc::clone(log));
        }
        Ok(Receipt { log: Arc::clone(log), until, place: Registration::default() })
    }

    /// Whether a receipt waits for something that nobody was asked to sync.
    #[must_use]
    pub fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Makes durable what receipts wait for: called when the connection has nothing else to do, so that one
    /// sync serves all that it has read. A single log is synced here and now if nobody else does, several by
    /// the engine's threads side by side.
    pub fn sync(&mut self) {
        match self.owed.as_slice() {
            [log] if may_block() => {
                log.sync_in(|work| tokio::task::block_in_place(work));
                self.owed.clear();
                self.owed_bytes = 0;
            }
            _ => self.sync_elsewhere(),
        }
    }

    /// Has the engine's threads make durable what receipts wait for.
    pub fn sync_elsewhere(&mut self) {
        let first = self.owed.len().min(FEW_LOGS);
        self.owed.drain(..first).for_each(|log| log.sync());
        self.owed.drain(..).for_each(|log| log.sync_among_many());
        self.owed_bytes = 0;
    }

    /// Forgets the batches; their outcomes have been taken. With a lot to sync, the disk starts on it while
    /// more arrives.
    pub fn clear(&mut self) {
        self.jobs.clear();
        if self.owed_bytes >= AHEAD_BYTES {
            self.sync_elsewhere();
        }
    }
}

/// Does work that may take long where it is asked for, once the scheduler knows.
pub(super) fn in_place(work: &mut dyn FnMut()) {
    if may_block() { tokio::task::block_in_place(work) } else { work() }
}

/// Whether this thread's scheduler can do without it for a while.
pub(super) fn may_block() -> bool {
    Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread)
}

/// As [`Partition::admit`]; where that compresses, this thread's scheduler does without it meanwhile.
///
/// # Errors
/// Those of [`Partition::admit`].
pub fn admit(
    partition: &Partition,
    batch: Batch,
    max_plain_bytes: usize,
    now_ms: i64,
) -> Result<Batch, Error> {
    if partition.recodes() && may_block() {
        tokio::task::block_in_place(|| partition.admit(batch, max_plain_bytes, now_ms))
    } else {
        partition.admit(batch, max_plain_bytes, now_ms)
    }
}

/// Waits for an append to become durable.
pub struct Receipt {
    log: Arc<dyn Log>,
    until: i64,
    place: Registration,
}

impl Receipt {
    /// Asks for durability of everything below `until` in `partition`.
    ///
    /// # Errors
    /// [`Error::Storage`] when the log cannot be opened.
    pub fn new(partition: &Partition, until: i64) -> Result<Self, Error> {
        Ok(Self { log: partition.sync()?, until, place: Registration::default() })
    }

    /// Ready when durable.
    ///
    /// # Errors
    /// [`Error::Storage`] when a sync failed: the records may be lost in a crash.
    pub fn poll(&mut self, waker: &Waker) -> Poll<Result<(), Error>> {
        self.log.durable().poll_reach(self.until, &mut self.place, waker).map_err(Error::from)
    }
}

impl Future for Receipt {
    type Output = Result<(), Error>;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        Self::poll(&mut self, cx.waker())
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.log.durable().forget(&mut self.place);
    }
}
