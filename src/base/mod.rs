//! Layer 0: the words that every other layer uses.
//!
//! Ids, units, secrets, error classes, retry arithmetic, the clock, the monitor and the one bridge to the CPU pool.
//! Nothing here does input or output, and nothing here knows what a backup is.

pub mod class;
pub mod clock;
pub mod cpu;
pub mod ids;
pub mod monitor;
pub mod repository_key;
pub mod requests;
pub mod retry;
pub mod secret;
pub mod units;
