//! The in-memory engine: for tests of the rooms above and as the second subject of the conformance suite.
