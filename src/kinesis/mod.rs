//! The Kinesis door. Deliberately empty until shards exist; the room is here so that its imports are held.
