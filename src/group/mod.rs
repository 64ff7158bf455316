//! Consumer groups as pure state machines: who reads what, and how far they have come.
//!
//! Shape (after Apache Kafka's `GroupCoordinatorShard`): `handle` turns an event into records, replies and a
//! deadline and changes only what may be lost in a crash; `replay` applies one record and is the same
//! for a live broker and for one that starts. The caller journals the records in between.
//! Deliberately absent: I/O, clocks (time is passed in), randomness (ids are passed in), wire formats of requests.
