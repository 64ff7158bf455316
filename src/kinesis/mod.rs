//! The Kinesis door: the Kinesis Data Streams HTTP API over the same log as the Kafka door.
//!
//! Owns: HTTP/1.1 and HTTP/2 with prior knowledge on one port, JSON 1.1 and CBOR, signatures, one file per
//! action, iterators, subscriptions, and this dialect of every error.
//! Invariant: bytes from outside are bounded before they are parsed and parsed before they are believed; nothing is
//! kept for a reader but a running subscription.
//! Deliberately absent: limits, order, durability, resharding (the core's); queues, channels, TLS.

#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]

mod account;
mod action;
mod cbor;
mod date;
mod document;
mod door;
mod error;
mod event;
mod exchange;
mod json;
mod records;
mod reply;
mod sequence;
mod shape;
mod signature;
mod stream;
mod subscription;
mod token;
mod writer;

pub use action::supported_actions;
pub use door::{OpenError, open};
