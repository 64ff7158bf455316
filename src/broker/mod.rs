//! The façade that the doors hold: opens everything, journals group records, runs upkeep.
