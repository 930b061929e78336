//! How often a store was asked, and what that costs.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// US dollars for 1,000 requests that write or list: S3 Standard in us-east-1 (aws.amazon.com/s3/pricing, 2026).
const WRITE_USD: f64 = 0.005;

/// The same for requests that read. Deletions cost nothing.
const READ_USD: f64 = 0.0004;

/// Counts requests as they are sent, tries that failed too.
#[derive(Debug, Default)]
pub struct RequestCount {
    puts: AtomicU64,
    copies: AtomicU64,
    lists: AtomicU64,
    gets: AtomicU64,
    heads: AtomicU64,
    deletes: AtomicU64,
}

/// Requests by kind.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Requests {
    /// Objects, or parts of them, that were put.
    pub puts: u64,
    /// Copies inside the store.
    pub copies: u64,
    /// Pages of listings.
    pub lists: u64,
    /// Objects that were read.
    pub gets: u64,
    /// Objects, and the bucket, that were looked at.
    pub heads: u64,
    /// Deletions, of up to 1,000 objects each.
    pub deletes: u64,
    /// What they cost on S3 Standard, without traffic and storage.
    pub cost_usd: f64,
}

impl RequestCount {
    /// Counts one request by the store's word for it.
    pub fn add(&self, operation: &str) {
        let counter = match operation {
            "put" => &self.puts,
            "copy" => &self.copies,
            "list" => &self.lists,
            "get" => &self.gets,
            "delete" => &self.deletes,
            _ => &self.heads,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// All so far; `None` where nothing was asked that could cost anything.
    pub fn total(&self) -> Option<Requests> {
        let now = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (puts, copies, lists) = (now(&self.puts), now(&self.copies), now(&self.lists));
        let (gets, heads, deletes) = (now(&self.gets), now(&self.heads), now(&self.deletes));
        let cost_usd = thousands(puts + copies + lists) * WRITE_USD + thousands(gets + heads) * READ_USD;
        (0 < puts + copies + lists + gets + heads + deletes).then_some(Requests {
            puts,
            copies,
            lists,
            gets,
            heads,
            deletes,
            cost_usd,
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "a price")]
fn thousands(requests: u64) -> f64 {
    requests as f64 / 1000.0
}

impl Requests {
    /// How many in all.
    pub fn sum(&self) -> u64 {
        self.puts + self.copies + self.lists + self.gets + self.heads + self.deletes
    }
}

impl fmt::Display for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { puts, copies, lists, gets, heads, deletes, cost_usd } = self;
        write!(
            f,
            "{} requests: {puts} put, {copies} copy, {lists} list, {gets} get, {heads} head, {deletes} delete",
            self.sum()
        )?;
        match cost_usd {
            cost if *cost < 0.01 => f.write_str("; under $0.01 on S3"),
            cost => write!(f, "; about ${cost:.2} on S3"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_kind_and_have_their_price() {
        let count = RequestCount::default();
        assert_eq!(count.total(), None);
        for _ in 0..5_000 {
            count.add("list");
            count.add("get");
        }
        count.add("delete");
        let total = count.total().expect("some");
        assert_eq!((total.lists, total.gets, total.deletes, total.sum()), (5_000, 5_000, 1, 10_001));
        assert!((total.cost_usd - 0.027).abs() < 1e-9, "{}", total.cost_usd);
        let words = "10001 requests: 0 put, 0 copy, 5000 list, 5000 get, 0 head, 1 delete; about $0.03 on S3";
        assert_eq!(total.to_string(), words);
    }
}
