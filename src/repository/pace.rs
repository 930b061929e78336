//! The speed of a copy: objects spread over time, so that a line is not filled.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Spreads bytes over time: so many a second on the average, objects as a whole.
#[derive(Debug)]
pub struct Pace {
    bytes_per_second: Option<u64>,
    free_at: Mutex<Option<tokio::time::Instant>>,
}

impl Pace {
    /// At most this many bytes a second; without a number as fast as it goes.
    pub fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second: bytes_per_second.map(|rate| rate.max(1)), free_at: Mutex::new(None) }
    }

    /// When an object of this size may begin: after those before it have had their time.
    fn begin_at(&self, now: tokio::time::Instant, bytes: u64) -> Option<tokio::time::Instant> {
        let takes = Duration::from_micros(bytes.saturating_mul(1_000_000) / self.bytes_per_second?);
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = free_at.map_or(now, |at| at.max(now));
        *free_at = Some(begin + takes);
        Some(begin)
    }

    pub(crate) async fn wait(&self, bytes: u64) {
        if let Some(begin) = self.begin_at(tokio::time::Instant::now(), bytes) {
            tokio::time::sleep_until(begin).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bandwidth_spreads_objects_over_time_and_none_waits_without_one() {
        let now = tokio::time::Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        let pace = Pace::new(Some(1000));
        assert_eq!(pace.begin_at(now, 3000), Some(now));
        assert_eq!(pace.begin_at(now, 2000), Some(after(3)));
        assert_eq!(pace.begin_at(after(1), 0), Some(after(5)));
        assert_eq!(pace.begin_at(after(60), 1000), Some(after(60)), "an idle time is not saved up");
        assert_eq!(Pace::new(None).begin_at(now, u64::MAX), None);
    }
}
