//! The arithmetic of trying again. Who retries what is decided where the error is known.

use std::time::Duration;

/// How often and how long to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all, the first included; at least 1.
    pub attempts: u32,
    /// The ceiling of the first wait.
    pub base: Duration,
    /// The ceiling that no wait exceeds.
    pub cap: Duration,
    /// How long the other side may ask for patience; it is borne that long whatever the number of tries.
    pub patience: Duration,
}

/// Time to wait before retry number `attempt` (counted from 1).
///
/// The ceiling doubles from `base` and never exceeds `cap`; `unit` in `[0, 1)` picks a point below that ceiling, so that
/// a fleet which failed together does not come back together.
/// Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 (full jitter).
pub fn retry_delay(policy: &RetryPolicy, attempt: u32, unit: f64) -> Duration {
    assert!(1 <= attempt, "attempts count from 1");
    assert!((0.0..1.0).contains(&unit), "a unit is in [0, 1)");
    policy.base.saturating_mul(2_u32.saturating_pow(attempt - 1)).min(policy.cap).mul_f64(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap_and_stay_below_their_ceiling() {
        let policy = RetryPolicy {
            attempts: 9,
            base: Duration::from_millis(100),
            cap: Duration::from_secs(1),
            patience: Duration::ZERO,
        };
        for (attempt, ceiling_ms) in [(1, 100), (2, 200), (4, 800), (5, 1000), (60, 1000)] {
            let delay = retry_delay(&policy, attempt, 0.5);
            assert_eq!(delay, Duration::from_millis(ceiling_ms / 2), "attempt {attempt}");
        }
    }
}
