//! The local engine: segment files, indexes, recovery, one sync thread, read-only maps.
