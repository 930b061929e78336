//! The stored format over a store in memory: round trips, deduplication, expiry, damage, crashes.

mod checkpoint;
mod copy;
mod crash;
mod damage;
mod fleet;
mod garbage;
mod hostile;
mod life;
mod matrix;
mod planted;
mod promises;
mod proof;
mod reseal;
mod round_trip;
mod support;
