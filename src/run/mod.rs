//! Layer 1: many fallible units, bounded.
//!
//! Fans a list of units out over a bounded number of tasks, and holds the shape of what a run reports. Must not know what a unit
//! does: it is handed futures and facts.

pub mod fan_out;
pub mod report;
pub mod shard;
