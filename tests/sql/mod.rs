//! Logging in to real servers, through everything that may stand in the way.

#![allow(clippy::unwrap_used, reason = "a test fails by it, wherever it stands")]

mod authority;
mod login;
mod middle;
mod pgbouncer;
mod tls;
