//! The admin door: whether the broker lives and serves, and its metrics, over HTTP/1.1.
//!
//! Owns: the life of a connection, who may ask under which host name, the metrics' names and text.
//! Invariant: whoever asks changes nothing, and no append waits for an answer made here. The registry is the table of
//! `families.rs` over one copy of the broker's numbers: nothing is registered, nothing is global.
//! Deliberately absent: counting (each room counts what is its own), TLS, anything that changes the broker.

#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]

mod answer;
mod door;
mod exposition;
mod families;

pub use door::Door;
