//! Discovery over real registries.

#![allow(clippy::unwrap_used, reason = "a test fails by it, wherever it stands")]

mod query;
mod registry;
mod scale;
mod selection;
mod servers;
mod spatie;
mod stancl;
