//! Notices that nothing moves: a monitor that remembers when each target last advanced.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::ids::TargetId;
use crate::base::monitor::{Monitor, Progress};

/// Passes everything on to another monitor, and can wait until a target has stood still for too long.
pub struct Watchdog {
    inner: Arc<dyn Monitor>,
    moved_at: Mutex<HashMap<TargetId, Instant>>,
}

impl std::fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watchdog").finish_non_exhaustive()
    }
}

impl Watchdog {
    /// A watchdog before `inner`.
    pub fn new(inner: Arc<dyn Monitor>) -> Self {
        Self { inner, moved_at: Mutex::default() }
    }

    fn moved_at(&self) -> MutexGuard<'_, HashMap<TargetId, Instant>> {
        self.moved_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when `target` has not advanced for `limit`.
    pub async fn stalled(&self, target: &TargetId, limit: Duration) {
        loop {
            let moved_at = self.moved_at().get(target).copied().unwrap_or_else(Instant::now);
            let left = time_left(moved_at, Instant::now(), limit);
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }
}

impl Monitor for Watchdog {
    fn run_begins(&self, targets: usize) {
        self.inner.run_begins(targets);
    }

    fn target_begins(&self, target: &TargetId, expected_bytes: u64) {
        self.moved_at().insert(target.clone(), Instant::now());
        self.inner.target_begins(target, expected_bytes);
    }

    fn target_advances(&self, target: &TargetId, delta: Progress) {
        self.moved_at().insert(target.clone(), Instant::now());
        self.inner.target_advances(target, delta);
    }

    fn target_ends(&self, target: &TargetId, outcome: &'static str) {
        self.moved_at().remove(target);
        self.inner.target_ends(target, outcome);
    }
}

/// How long a target may still stand still; zero once it has for `limit`. Pure.
fn time_left(moved_at: Instant, now: Instant, limit: Duration) -> Duration {
    limit.saturating_sub(now.saturating_duration_since(moved_at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::monitor::Silent;

    #[test]
    fn a_target_may_stand_still_for_the_limit_and_no_longer() {
        let moved_at = Instant::now();
        let left = |seconds| time_left(moved_at, moved_at + Duration::from_secs(seconds), Duration::from_secs(10));
        assert_eq!(left(0), Duration::from_secs(10));
        assert_eq!(left(7), Duration::from_secs(3));
        assert_eq!(left(10), Duration::ZERO);
        assert_eq!(left(11), Duration::ZERO);
    }

    #[tokio::test]
    async fn every_sign_of_life_counts_from_anew() {
        let watchdog = Watchdog::new(Arc::new(Silent));
        let target = TargetId::tenant("acme").expect("a name");
        watchdog.target_begins(&target, 0);
        let began = watchdog.moved_at()[&target];
        watchdog.target_advances(&target, Progress::default());
        assert!(began <= watchdog.moved_at()[&target]);
        watchdog.stalled(&target, Duration::ZERO).await;
        watchdog.target_ends(&target, "ok");
        assert!(watchdog.moved_at().is_empty());
    }
}
