//! The admin door: whether the broker lives and serves, its metrics, and what operators do, over HTTP/1.1.
//!
//! Owns: connections and their limits, who may ask under which host name, the metrics' names and text, the shards' JSON.
//! Invariant: nothing but a POST of JSON changes anything, and no append waits for an answer made here. The registry is
//! the table of `families.rs` over one copy of the broker's numbers: nothing is registered, nothing is global.
//! Deliberately absent: counting (each room counts what is its own), TLS, who may change what.

#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]

mod answer;
mod door;
mod exposition;
mod families;
mod shards;

pub use door::Door;
