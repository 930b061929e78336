//! The one bridge between the asynchronous world and the processor pool, with the byte budget that bounds memory.
//!
//! A piece of work reserves room for its bytes first, runs on the pool, and keeps its room until its result has left the
//! process. So a slow bucket stalls the reader of the database, and no queue grows (invariant 6).
//!
//! The pool is rayon's. Its threads look around for more work before they sleep, and on a machine with few processors take time from
//! the database server there: hence [`Place::Here`], for callers of which every processor has one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// The granule of the budget: permits are counted in KiB, since a semaphore counts at most 2^29 of them.
const GRANULE_BYTES: usize = 1024;

/// A bound on bytes in flight, shared by all targets of a process.
#[derive(Clone, Debug)]
pub struct ByteBudget {
    permits: Arc<Semaphore>,
    granules: u32,
    /// The most granules that were taken at once.
    peak: Arc<AtomicUsize>,
}

/// Room in a [`ByteBudget`]; given back when dropped.
#[derive(Debug)]
pub struct Room {
    permit: OwnedSemaphorePermit,
}

impl Room {
    /// Gives back what is beyond `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let beyond = self.permit.num_permits().saturating_sub(bytes.div_ceil(GRANULE_BYTES));
        drop(self.permit.split(beyond));
    }
}

impl ByteBudget {
    /// A budget of `bytes`, at least one granule and at most 2 TiB.
    pub fn new(bytes: usize) -> Self {
        let granules = u32::try_from((bytes / GRANULE_BYTES).max(1)).unwrap_or(u32::MAX);
        let granules = granules.min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Self { permits: Arc::new(Semaphore::new(granules as usize)), granules, peak: Arc::default() }
    }

    /// Waits until `bytes` are free and takes them.
    ///
    /// A piece larger than the whole budget takes all of it: it goes through alone rather than never.
    pub async fn reserve(&self, bytes: usize) -> Room {
        let wanted = u32::try_from(bytes.div_ceil(GRANULE_BYTES)).unwrap_or(u32::MAX).clamp(1, self.granules);
        let permit = Arc::clone(&self.permits).acquire_many_owned(wanted).await;
        let taken = (self.granules as usize).saturating_sub(self.permits.available_permits());
        self.peak.fetch_max(taken, Ordering::Relaxed);
        Room { permit: permit.expect("the semaphore is never closed") }
    }

    /// Bytes that are free now, for tests and metrics.
    pub fn free_bytes(&self) -> usize {
        self.permits.available_permits() * GRANULE_BYTES
    }

    /// The most bytes that were taken at once so far.
    pub fn peak_bytes(&self) -> usize {
        self.peak.load(Ordering::Relaxed) * GRANULE_BYTES
    }

    /// The size of the whole budget.
    pub fn total_bytes(&self) -> usize {
        self.granules as usize * GRANULE_BYTES
    }
}

/// Runs `work` on the processor pool and waits for its result.
///
/// A panic in `work` is carried to the caller. If the caller is dropped, the work still runs to its end and its result
/// is dropped.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    start(work).finish().await
}

/// Where a piece of work is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On the processor pool, beside the caller.
    Pool,
    /// By the caller: where every processor has such a caller, to wake another thread costs and wins nothing.
    Here,
}

/// Work that was started.
#[derive(Debug)]
pub struct Started<T>(oneshot::Receiver<thread::Result<T>>);

/// Puts `work` on the processor pool; it runs whether or not somebody waits for it.
pub fn start<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Started<T> {
    start_at(Place::Pool, work)
}

/// Starts `work` at this place; what is done [here](Place::Here) is done when this returns.
pub fn start_at<T: Send + 'static>(place: Place, work: impl FnOnce() -> T + Send + 'static) -> Started<T> {
    let (sender, receiver) = oneshot::channel();
    let job = move || {
        let result = catch_unwind(AssertUnwindSafe(work));
        // The receiver is gone only if the caller was cancelled: nobody waits for the result.
        let _ = sender.send(result);
    };
    match place {
        Place::Pool => rayon::spawn(job),
        Place::Here => job(),
    }
    Started(receiver)
}

impl<T> Started<T> {
    /// Waits for the result; a panic of the work is carried to the caller.
    pub async fn finish(self) -> T {
        match self.0.await.expect("the work sends exactly once") {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn room_is_taken_and_given_back_and_a_giant_goes_through_alone() {
        let budget = ByteBudget::new(64 * 1024);
        let room = budget.reserve(10 * 1024).await;
        assert_eq!((budget.free_bytes(), budget.peak_bytes()), (54 * 1024, 10 * 1024));
        drop(room);
        let mut room = budget.reserve(10 * 1024).await;
        room.shrink_to(4 * 1024);
        assert_eq!(budget.free_bytes(), 60 * 1024);
        room.shrink_to(5 * 1024);
        drop(room);
        let giant = budget.reserve(usize::MAX).await;
        assert_eq!(budget.free_bytes(), 0);
        drop(giant);
        assert_eq!(budget.free_bytes(), budget.total_bytes());
    }

    #[tokio::test]
    async fn work_of_the_pool_is_done_side_by_side_and_work_here_at_once() {
        let caller = thread::current().id();
        let here = start_at(Place::Here, || thread::current().id());
        assert_eq!(here.finish().await, caller);
        let started: Vec<Started<usize>> = (0..1_000).map(|number| start(move || number)).collect();
        for (number, work) in started.into_iter().enumerate() {
            assert_eq!(work.finish().await, number);
        }
        assert_ne!(run(|| thread::current().id()).await, caller);
    }

    #[tokio::test]
    #[should_panic(expected = "told you")]
    async fn a_panic_in_the_pool_reaches_the_caller() {
        run(|| panic!("told you")).await
    }

    #[tokio::test]
    async fn a_panic_takes_no_thread_from_the_pool() {
        for _ in 0..100 {
            let panicking = tokio::spawn(run::<()>(|| panic!("one of many")));
            assert!(panicking.await.is_err());
        }
        assert_eq!(run(|| 7).await, 7);
    }
}
