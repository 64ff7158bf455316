//! Topics made for one scenario and removed behind it.
//!
//! Invariant: a name is never used twice against one broker, so that offsets count from 0. Deliberately
//! absent: any other broker than the one that is driven.

use std::net::SocketAddr;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::apis;
use super::conn::Conn;
use super::{Error, payload};

/// Kafka's TOPIC_ALREADY_EXISTS: a run with this process id was here before.
const ALREADY_EXISTS: i16 = 36;
/// How long a broker may take to lead what it has created.
const READY_WITHIN: Duration = Duration::from_secs(180);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Topics that exist until this value is dropped, unless [`Topics::keep`] lets go of them.
#[derive(Debug)]
pub(super) struct Topics {
    addr: SocketAddr,
    /// Their names.
    pub(super) names: Vec<String>,
}

impl Topics {
    /// Creates `count` topics of `partitions` and waits until every partition has a leader that answers.
    pub(super) fn create(
        addr: SocketAddr,
        purpose: &str,
        count: usize,
        partitions: i32,
    ) -> Result<Self, Error> {
        let mut conn = Conn::open(addr)?;
        let topics = Self::ask(&mut conn, addr, purpose, count, partitions)?;
        topics.await_leaders(&mut conn, partitions)?;
        Ok(topics)
    }

    /// One topic, as [`Topics::create`].
    pub(super) fn one(addr: SocketAddr, purpose: &str, partitions: i32) -> Result<(Self, String), Error> {
        let topics = Self::create(addr, purpose, 1, partitions)?;
        let name = topics.names.first().cloned().unwrap_or_default();
        Ok((topics, name))
    }

    /// One request per topic: Apache Kafka refuses 10,000 partitions in one (POLICY_VIOLATION).
    fn ask(conn: &mut Conn, addr: SocketAddr, purpose: &str, count: usize, each: i32) -> Result<Self, Error> {
        let version = conn.version(apis::CREATE_TOPICS)?;
        let mut topics = Self { addr, names: Vec::new() };
        while topics.names.len() < count {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("bench-{purpose}-{}-{number}", process::id());
            let answer = conn.call(&mut apis::create_topic(version, &name, each))?;
            match apis::create_topic_answer(version, answer)? {
                ALREADY_EXISTS => {}
                code => {
                    apis::CREATE_TOPICS.ok(code)?;
                    topics.names.push(name);
                }
            }
        }
        Ok(topics)
    }

    /// Apache Kafka names leaders that still answer error 6, so the last partition is asked as well.
    fn await_leaders(&self, conn: &mut Conn, partitions: i32) -> Result<(), Error> {
        let began = Instant::now();
        let all = self.names.len() * usize::try_from(partitions).unwrap_or(0);
        let metadata = conn.version(apis::METADATA)?;
        while apis::metadata_answer(metadata, conn.call(&mut apis::metadata(metadata, Some(&self.names)))?)?
            < all
        {
            pause(began)?;
        }
        for name in &self.names {
            while end(conn, name, partitions).is_err() {
                pause(began)?;
            }
        }
        Ok(())
    }
}

impl Topics {
    /// Leaves the topics behind.
    pub(super) fn keep(mut self) {
        self.names.clear();
    }
}

impl Drop for Topics {
    fn drop(&mut self) {
        if !self.names.is_empty()
            && let Ok(mut conn) = Conn::open(self.addr)
            && let Ok(version) = conn.version(apis::DELETE_TOPICS)
        {
            let _ = conn.call(&mut apis::delete_topics(version, &self.names));
        }
    }
}

/// The sum of the end offsets of partitions `0..partitions`.
pub(super) fn end(conn: &mut Conn, topic: &str, partitions: i32) -> Result<i64, Error> {
    let version = conn.version(apis::LIST_OFFSETS)?;
    apis::list_offsets_answer(
        version,
        conn.call(&mut apis::list_offsets(version, topic, partitions, apis::LATEST))?,
    )
}

/// Produces one 100-byte record with acks 1.
pub(super) fn put_one(conn: &mut Conn, topic: &str, partition: i32) -> Result<(), Error> {
    let version = conn.version(apis::PRODUCE)?;
    let batch = payload::batch(100, 1, super::Codec::None, None)?;
    let (mut frame, _) = apis::produce(version, topic, partition, 1, &batch.bytes);
    apis::produce_answer(version, conn.call(&mut frame)?).map(|_| ())
}

/// Waits a twentieth of the time since `began`, so that asking is not the load.
pub(super) fn pause(began: Instant) -> Result<(), Error> {
    let waited = began.elapsed();
    if waited > READY_WITHIN {
        return Err(Error::Protocol("partitions did not find a leader in time".into()));
    }
    thread::sleep((waited / 20).clamp(Duration::from_millis(1), Duration::from_millis(100)));
    Ok(())
}
