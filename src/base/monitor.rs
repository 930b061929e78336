//! What a run tells while it works: four calls, implemented by progress bars, log lines and recorders.
//!
//! The monitor is told facts, never errors: an error is returned or is in the report (invariant 4).

use crate::base::ids::TargetId;

/// Amounts that grow while one target is worked on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Plaintext read from the source (backup) or loaded into the destination (restore).
    pub bytes: u64,
    /// Bytes put into the store or fetched from it.
    pub store_bytes: u64,
    /// Rows seen.
    pub rows: u64,
    /// Parts finished.
    pub parts: u64,
}

/// Follows a run. Calls come from many tasks at once and must return at once.
pub trait Monitor: Send + Sync {
    /// A run over `targets` targets begins.
    fn run_begins(&self, targets: usize);
    /// Work on a target begins; `expected_bytes` is an estimate of its plaintext, 0 where unknown.
    fn target_begins(&self, target: &TargetId, expected_bytes: u64);
    /// Some more of a target is done.
    fn target_advances(&self, target: &TargetId, delta: Progress);
    /// A target is finished; `outcome` is one word for people: `ok`, `failed`, `skipped`.
    fn target_ends(&self, target: &TargetId, outcome: &'static str);
}

/// A monitor that hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Monitor for Silent {
    fn run_begins(&self, _targets: usize) {}
    fn target_begins(&self, _target: &TargetId, _expected_bytes: u64) {}
    fn target_advances(&self, _target: &TargetId, _delta: Progress) {}
    fn target_ends(&self, _target: &TargetId, _outcome: &'static str) {}
}
