//! Runs one future per item, a bounded number at a time; one that fails never stops the others.

use std::future::Future;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Works on every item in order of the list, at most `width` at once, each in a task of its own.
///
/// Returns what came of each item, in the order of the list: `None` for those that were not begun when `stop` was
/// cancelled. What was begun is always waited for: it is up to `work` to watch `stop` too. A panic in `work` is carried on.
pub async fn fan_out<T, R, F, W>(items: Vec<T>, width: usize, stop: &CancellationToken, work: W) -> Vec<Option<R>>
where
    T: Send + 'static,
    R: Send + 'static,
    F: Future<Output = R> + Send + 'static,
    W: Fn(T) -> F,
{
    assert!(1 <= width, "at least one item is worked on at a time");
    let mut results: Vec<Option<R>> = items.iter().map(|_| None).collect();
    let mut waiting = items.into_iter().enumerate();
    let mut running = JoinSet::new();
    loop {
        while running.len() < width && !stop.is_cancelled() {
            let Some((number, item)) = waiting.next() else { break };
            let future = work(item);
            running.spawn(async move { (number, future.await) });
        }
        match running.join_next().await {
            None => return results,
            Some(Ok((number, result))) => results[number] = Some(result),
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn no_more_than_the_width_run_at_once_and_all_results_come_in_order() {
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let stop = CancellationToken::new();
        let results = fan_out((0..50).collect(), 4, &stop, |n: usize| {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                now.fetch_sub(1, Ordering::SeqCst);
                if n.is_multiple_of(7) { Err(n) } else { Ok(n) }
            }
        });
        let results = results.await;
        assert!(most.load(Ordering::SeqCst) <= 4);
        let numbers: Vec<usize> = results.into_iter().map(|r| r.expect("begun").unwrap_or_else(|n| n)).collect();
        assert_eq!(numbers, (0..50).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn after_a_stop_nothing_new_begins_and_what_was_begun_is_waited_for() {
        let stop = CancellationToken::new();
        let results = fan_out((0..10).collect(), 1, &stop, |n: i32| {
            let stop = stop.clone();
            async move {
                if n == 3 {
                    stop.cancel();
                }
                n
            }
        });
        let results = results.await;
        assert_eq!(results.iter().flatten().copied().collect::<Vec<_>>(), [0, 1, 2, 3]);
    }
}
