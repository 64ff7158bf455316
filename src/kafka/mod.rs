//! The Kafka door: frames, connections, the API table, one file per API, the error dialect.
//!
//! Only this room knows `kafka_protocol`. Every request is walked against its schema before that crate sees
//! it (law 1); Produce, Fetch and ApiVersions are read by hand.
//! Deliberately absent: what a topic, a group or a log is; the Kinesis dialect; HTTP.

mod answers;
mod api;
mod connection;
mod door;
mod error;
mod out;
mod schema;
mod wire;

pub use api::supported_apis;
pub use door::{Listener, open};
