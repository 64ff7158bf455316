//! The Kafka door: frames, connections, the API table, one file per API, the error dialect.

mod schema;
