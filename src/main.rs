//! Command line, runtime, signals: builds the house and opens the doors.

fn main() {}
