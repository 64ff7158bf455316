//! weir: one broker, two front doors (Kafka protocol, Kinesis Data Streams API), one log.
//!
//! This file shows the public API on one screen. Start a broker inside any process:
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let broker = weir_broker::Broker::builder().ephemeral().start().await?;
//! println!("bootstrap.servers={}", broker.kafka_addrs()[0]);
//! broker.shutdown().await?;
//! # Ok(()) }
//! ```
//!
//! Deliberately absent: globals. No subscriber, recorder, allocator or `exit` is installed here, so
//! twenty brokers run in one process.

#![cfg_attr(
    test,
    allow(
        clippy::cast_possible_truncation,
        clippy::float_cmp,
        reason = "tests compare small, exact numbers"
    )
)]

pub mod batch;
pub mod bench;
pub mod config;
pub mod group;
pub mod quota;
pub mod store;
pub mod topic;

mod admin;
mod broker;
mod kafka;
mod kinesis;
mod listen;
mod lock;
mod server;

pub use broker::Clock;
pub use kafka::supported_apis;
pub use kinesis::supported_actions;
pub use server::{Broker, Builder, StartError};
