//! Real servers and helpers for the tests.

#![allow(dead_code, unreachable_pub, reason = "not every test file uses every helper")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

pub mod cli;
pub mod faults;
pub mod forge;
pub mod postgres;
pub mod proxy;
pub mod rounds;
pub mod s3_proxy;
pub mod s3_stub;
pub mod seaweed;
