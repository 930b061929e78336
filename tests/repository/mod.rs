//! The stored format over a store in memory: round trips, deduplication, expiry, damage, crashes.

mod checkpoint;
mod copy;
mod counted;
mod crash;
mod damage;
pub(crate) mod fleet;
mod garbage;
mod hostile;
mod interleavings;
mod life;
mod matrix;
mod planted;
mod promises;
mod proof;
mod prune;
mod renewal;
mod reseal;
mod rotation;
mod rotation_thief;
mod round_trip;
mod scale;
pub(crate) mod support;
mod years;
