//! Topics and their partitions: registry, the one writer, readers, producer sequences, retention.

pub mod config;
