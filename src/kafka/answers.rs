//! Answers of all connections of a door: the memory of those that were not read yet, those that are made once for
//! everybody who asks, and how many connections that have much to do are ready to run at a time.
//!
//! Deliberately absent: what an answer says (`api/`), when it leaves (`connection.rs`).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll, ready};

use bytes::Bytes;
use tokio::sync::AcquireError;

use super::out::Out;
use crate::broker::{Core, Place, Places};
use crate::listen::{Budget, Lease};
use crate::lock::{Mutex, rank};

/// Encodings kept: a client uses one version, a cluster's clients a few.
const KEPT: usize = 4;
/// How many there may be at a time, with those that are good no more and not sent yet.
const LIVING_MAX: usize = 16;

/// One of the turns of those who have much to do.
pub(super) type Turn = Place;

/// Standing in line for a turn.
pub(super) type NextTurn = Pin<Box<dyn Future<Output = Result<Turn, AcquireError>> + Send>>;

/// What the answers of a door share.
pub(super) struct Answers {
    pub(super) budget: Arc<Budget>,
    /// Who has used up its share of a wake-up goes on with one of these: as many as can run. So those who have little
    /// to do find few before them.
    turns: Arc<Places>,
    kept: Mutex<rank::KeptAnswers, Vec<Kept>>,
    living: Arc<()>,
}

/// Which encoding: the API's version and the flags that change it.
pub(super) type Form = (i16, bool);

/// An encoded part of an answer that is good for one state of what it tells of.
struct Kept {
    form: Form,
    state: u64,
    bytes: Bytes,
}

/// Memory that is counted until the last connection has sent it.
struct Counted {
    bytes: Box<[u8]>,
    _lease: Lease,
    _living: Arc<()>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Answers {
    /// At most `limit` bytes of memory for answers that were not read; `None` is no limit.
    pub(super) fn new(limit: Option<usize>) -> Arc<Self> {
        let budget = Budget::new("queued.max.response.bytes", limit, None);
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Arc::new(Self {
            budget,
            turns: Places::new(processors),
            kept: Mutex::default(),
            living: Arc::default(),
        })
    }

    /// Has everything that these answers make others wait for watched.
    pub(super) fn watch(&self, core: &Core) {
        let turns = Arc::clone(&self.turns);
        core.watch("a turn (connections of Kafka clients with much to do)", move || turns.progress());
    }

    /// Stands in line for a turn.
    pub(super) fn next_turn(&self) -> NextTurn {
        Box::pin(Arc::clone(&self.turns).take())
    }

    /// What was kept in this form, if `state` is still what it was made from.
    pub(super) fn find(&self, form: Form, state: u64) -> Option<Bytes> {
        let mut kept = self.kept.lock();
        let at = kept.iter().position(|one| one.form == form && one.state == state)?;
        // The last one used is the last one to go.
        let found = kept.remove(at);
        let bytes = found.bytes.clone();
        kept.push(found);
        Some(bytes)
    }

    /// Keeps what was made from `state`, instead of what was made from others, and counts its memory for as long as
    /// somebody sends it.
    ///
    /// # Errors
    /// The bytes, when as many as may be are sent to clients that do not take them: they are one answer's own.
    pub(super) fn keep(&self, form: Form, state: u64, bytes: Vec<u8>) -> Result<Bytes, Vec<u8>> {
        if Arc::strong_count(&self.living) > LIVING_MAX {
            return Err(bytes);
        }
        let mut lease = self.budget.account().lease();
        lease.settle(bytes.len());
        let bytes = Bytes::from_owner(Counted {
            bytes: bytes.into(),
            _lease: lease,
            _living: Arc::clone(&self.living),
        });
        let mut kept = self.kept.lock();
        kept.retain(|one| one.form != form && one.state == state);
        if kept.len() == KEPT {
            kept.remove(0);
        }
        kept.push(Kept { form, state, bytes: bytes.clone() });
        Ok(bytes)
    }
}

/// Memory for an answer of `bytes`, once `free` are there, and what is held then in all. Nobody makes a second large one before
/// the first was read: writing it wakes the connection.
pub(super) fn poll_room(
    answers: &mut Lease,
    out: &Out,
    bytes: usize,
    free: usize,
    task: &mut Task<'_>,
) -> Poll<usize> {
    if out.heap_len() > 0 && answers.budget().is_used_up() {
        answers.step_aside();
        return Poll::Pending;
    }
    let held = answers.bytes();
    if out.sent_ever() > 0 {
        answers.account().know();
    }
    ready!(answers.poll_grow(held + free, held + free, task));
    answers.shrink(held + bytes);
    Poll::Ready(held + bytes)
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;
    use crate::broker::IncidentKind;

    #[tokio::test]
    async fn a_turn_that_nobody_gets_degrades_health() {
        let core = crate::broker::in_memory(crate::config::Config::default()).unwrap();
        let answers = Answers::new(None);
        answers.watch(&core);
        let held = answers.turns.take_all();
        let mut next = answers.next_turn();
        assert!(next.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        (0..20).for_each(|_| core.look_at_lines());
        assert!(core.reasons()[0].text.contains("1 wait for a turn"), "{:?}", core.reasons());
        drop(held);
        assert!(next.await.is_ok());
        core.look_at_lines();
        assert!(!core.incidents().stands(IncidentKind::Standstill));
    }

    #[test]
    fn one_encoding_serves_all_until_its_state_changes_and_is_counted_until_it_is_sent() {
        let answers = Answers::new(Some(1_000_000));
        assert_eq!(answers.find((1, false), 7), None);
        let made = answers.keep((1, false), 7, vec![1; 900_000]).unwrap();
        let found = answers.find((1, false), 7).unwrap();
        assert_eq!(found.as_ptr(), made.as_ptr(), "the same bytes");
        assert_eq!(answers.find((2, false), 7), None);
        assert_eq!(answers.find((1, true), 7), None);
        assert_eq!(answers.find((1, false), 8), None);
        assert!(!answers.budget.is_used_up());
        answers.keep((1, false), 8, vec![2; 200_000]).unwrap();
        assert!(answers.budget.is_used_up(), "the old one is still being sent");
        drop(made);
        assert!(answers.budget.is_used_up());
        drop(found);
        assert!(!answers.budget.is_used_up());
        for version in 2..40 {
            answers.keep((version, false), 8, vec![3; 100]).unwrap();
        }
        assert_eq!(answers.kept.lock().len(), KEPT);
        assert!(answers.find((39, false), 8).is_some());
        // What nobody takes does not grow without end.
        let unread: Vec<_> =
            (9..).map_while(|state| answers.keep((1, false), state, vec![4; 100]).ok()).collect();
        assert!((LIVING_MAX - KEPT..=LIVING_MAX).contains(&unread.len()), "{}", unread.len());
        drop(unread);
        assert!(answers.keep((1, false), 8, vec![4; 100]).is_ok());
    }
}
