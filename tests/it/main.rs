//! Tests of whole rooms, in one binary.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test stops where it fails, prints its seed, and measures real time"
)]

mod admin;
mod cli;
mod crash;
mod kafka;
mod kinesis;
mod store;
