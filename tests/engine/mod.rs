//! Dump and restore sessions against real servers.

mod dump;
mod fingerprint;
mod restore;
mod witness;
