//! Broker configuration: plain data, read once, handed down in slices.
