//! Notices that nothing moves: a monitor that remembers when each target last advanced, and asks the server before it gives up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::ids::TargetId;
use crate::base::monitor::{Monitor, Progress};
use crate::engine::postgres::witness::Sight;

/// How long one look at the server may take.
const LOOK_LIMIT: Duration = Duration::from_secs(30);

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

    /// Returns when `target` has not advanced for `limit`; never while it has not begun.
    pub async fn still_for(&self, target: &TargetId, limit: Duration) {
        loop {
            let moved_at = self.moved_at().get(target).copied().unwrap_or_else(Instant::now);
            let left = time_left(moved_at, Instant::now(), limit);
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }

    /// Returns when `target` has not advanced for `limit`, and says what it waited for. A server that works for it all the
    /// while (it builds an index) is a sign of life: `look` asks it from half of the time on, for no longer than it is told.
    pub async fn stalled<F: Future<Output = Sight>>(
        &self,
        target: &TargetId,
        limit: Duration,
        look: impl Fn(Duration) -> F,
    ) -> String {
        loop {
            self.still_for(target, limit / 2).await;
            match look(LOOK_LIMIT.min(limit / 2)).await {
                Sight::Works => self.lives(target),
                Sight::Waits(what) if self.stillness(target) >= limit => return what,
                Sight::Waits(_) => tokio::time::sleep(limit / 8).await,
            }
        }
    }

    /// Notes a sign of life of a target that is under way.
    pub fn lives(&self, target: &TargetId) {
        if let Some(moved_at) = self.moved_at().get_mut(target) {
            *moved_at = Instant::now();
        }
    }

    fn stillness(&self, target: &TargetId) -> Duration {
        self.moved_at().get(target).map(Instant::elapsed).unwrap_or_default()
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
        watchdog.still_for(&target, Duration::ZERO).await;
        watchdog.target_ends(&target, "ok");
        assert!(watchdog.moved_at().is_empty());
    }

    #[tokio::test]
    async fn a_server_that_works_is_waited_for_and_one_that_waits_is_given_up_with_its_words() {
        let watchdog = Watchdog::new(Arc::new(Silent));
        let target = TargetId::tenant("acme").expect("a name");
        watchdog.target_begins(&target, 0);
        let looks = std::sync::atomic::AtomicU32::new(0);
        let look = |_| {
            let works = looks.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 5;
            async move { if works { Sight::Works } else { Sight::Waits("a lock".to_owned()) } }
        };
        assert_eq!(watchdog.stalled(&target, Duration::from_millis(20), look).await, "a lock");
        assert!(5 < looks.into_inner());
    }
}
