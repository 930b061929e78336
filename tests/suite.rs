//! The one test binary: a `mod` per file below `tests/` (`architecture` fails if one is not listed).

#![allow(unreachable_pub, reason = "a test binary has no outside")]

mod architecture;
mod cli;
mod config;
mod documentation;
mod end_to_end;
mod engine;
mod fleet;
mod repository;
mod sql;
mod store;
mod support;
