//! Restores into a real PostgreSQL: what comes back, what is refused, and what is left after a failure.

mod backup;
mod extension;
mod failures;
mod large_objects;
mod leftovers;
mod partial;
mod properties;
mod roles;
mod round_trip;
mod swap;
