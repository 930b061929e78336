//! The share of a server's lock table that dumps may take, all together.
//!
//! Every locked table is an entry in one table that all sessions of the server share, `max_locks_per_transaction` times
//! (`max_connections` + `max_prepared_transactions`) large (PostgreSQL manual, 20.12). A dump that fills it fails not only
//! itself but whoever else locks a table, so dumps wait for each other instead.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A budget of lock entries on one server.
#[derive(Clone, Debug)]
pub struct LockBudget {
    permits: Arc<Semaphore>,
    total: u32,
}

/// Entries that a dump holds; given back when dropped.
#[derive(Debug)]
pub struct LockRoom(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl LockBudget {
    /// A budget of `entries`, at least 1.
    pub fn new(entries: u32) -> Self {
        let total = entries.clamp(1, u32::try_from(Semaphore::MAX_PERMITS >> 1).unwrap_or(u32::MAX));
        Self { permits: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// Waits until `entries` are free and takes them. Who wants more than there are gets all: the server may have room
    /// all the same, and says so if it has not.
    pub async fn reserve(&self, entries: usize) -> LockRoom {
        let wanted = u32::try_from(entries).unwrap_or(u32::MAX).clamp(1, self.total);
        let permit = Arc::clone(&self.permits).acquire_many_owned(wanted).await;
        LockRoom(permit.expect("the semaphore is never closed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn dumps_wait_for_each_other_and_the_largest_goes_alone() {
        let budget = LockBudget::new(100);
        let first = budget.reserve(60).await;
        assert!(tokio::time::timeout(std::time::Duration::ZERO, budget.reserve(60)).await.is_err(), "no room");
        drop(first);
        let all = budget.reserve(1_000_000).await;
        assert!(tokio::time::timeout(std::time::Duration::ZERO, budget.reserve(1)).await.is_err(), "it has all");
        drop(all);
        budget.reserve(60).await;
    }
}
