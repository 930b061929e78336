//! Layer 2: what is told while the program works: log lines and progress.
//!
//! Observers are told facts and change nothing: no error ends here (invariant 4). They do not know who listens.

pub mod log;
pub mod progress;
