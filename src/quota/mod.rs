//! Token buckets with debt: the arithmetic of limits. Time is passed in; a verdict comes out; nothing sleeps.
//!
//! Deliberately absent until shards carry limits: everything but this contract.
