//! What every store promises, and how each fails.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod conformance;
mod failures;
mod local;
mod retries;

use std::time::Duration;

use bytes::Bytes;
use dbkeeper::base::retry::RetryPolicy;
use dbkeeper::store::ObjectKey;

fn key(text: &str) -> ObjectKey {
    ObjectKey::new(text).expect("a key")
}

/// Bytes that no two offsets share for long.
fn bytes(length: usize) -> Bytes {
    let mut body = Vec::with_capacity(length + 8);
    let mut number = 1_u64;
    while body.len() < length {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        body.extend_from_slice(&number.to_le_bytes());
    }
    body.truncate(length);
    body.into()
}

/// A policy whose waits do not slow a test down.
pub(crate) fn quick(attempts: u32) -> RetryPolicy {
    RetryPolicy { attempts, base: Duration::from_millis(1), cap: Duration::from_millis(2), patience: Duration::ZERO }
}
