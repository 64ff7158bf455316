//! Tests of whole rooms, in one binary.

mod crash;
mod store;
