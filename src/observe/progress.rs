//! Progress for people: bars on a terminal, log lines elsewhere. Both keep one ledger of what is under way.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing::info;

use crate::base::ids::TargetId;
use crate::base::monitor::{Monitor, Progress};
use crate::base::units::ByteSize;

/// Between two log lines about the whole run.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// How often bars are drawn anew.
const TICK: Duration = Duration::from_millis(200);

/// Progress as log lines: one per finished target, one for the run every ten seconds.
#[derive(Debug, Default)]
pub struct Lines {
    ledger: Mutex<Ledger>,
}

#[derive(Debug, Default)]
struct Ledger {
    targets: usize,
    ended: usize,
    under_way: BTreeMap<TargetId, Progress>,
    bytes: u64,
    told_at: Option<Instant>,
}

impl Lines {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Monitor for Lines {
    fn run_begins(&self, targets: usize) {
        *self.ledger() = Ledger { targets, told_at: Some(Instant::now()), ..Ledger::default() };
        info!(targets, "run begins");
    }

    fn target_begins(&self, target: &TargetId, expected_bytes: u64) {
        self.ledger().under_way.insert(target.clone(), Progress::default());
        info!(target_id = %target, expected_bytes, "target begins");
    }

    fn target_advances(&self, target: &TargetId, delta: Progress) {
        let mut ledger = self.ledger();
        ledger.bytes += delta.bytes;
        if let Some(progress) = ledger.under_way.get_mut(target) {
            progress.bytes += delta.bytes;
            progress.rows += delta.rows;
        }
        if ledger.told_at.is_some_and(|told| told.elapsed() >= LINE_INTERVAL) {
            ledger.told_at = Some(Instant::now());
            let (ended, targets, bytes, under_way) =
                (ledger.ended, ledger.targets, ledger.bytes, ledger.under_way.len());
            drop(ledger);
            info!(ended, targets, under_way, bytes, "run goes on");
        }
    }

    fn target_ends(&self, target: &TargetId, outcome: &'static str) {
        let mut ledger = self.ledger();
        ledger.ended += 1;
        let progress = ledger.under_way.remove(target).unwrap_or_default();
        drop(ledger);
        info!(target_id = %target, outcome, rows = progress.rows, bytes = progress.bytes, "target ends");
    }
}

/// Progress as bars: one for the run, one for each target under way.
#[derive(Debug)]
pub struct Bars {
    all: MultiProgress,
    run: ProgressBar,
    targets: Mutex<BTreeMap<TargetId, ProgressBar>>,
}

impl Default for Bars {
    fn default() -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let run = all.add(ProgressBar::new(0));
        run.set_style(style("{bar:30} {pos}/{len} targets  {elapsed}"));
        Self { all, run, targets: Mutex::default() }
    }
}

impl Bars {
    fn targets(&self) -> MutexGuard<'_, BTreeMap<TargetId, ProgressBar>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the bars away before the summary is printed.
    pub fn finish(&self) {
        self.run.finish_and_clear();
    }
}

impl Monitor for Bars {
    fn run_begins(&self, targets: usize) {
        self.run.set_length(targets as u64);
        self.run.enable_steady_tick(TICK);
    }

    fn target_begins(&self, target: &TargetId, expected_bytes: u64) {
        let bar = self.all.add(ProgressBar::new(expected_bytes));
        bar.set_style(style("  {spinner} {prefix:20} {decimal_bytes:>10}  {decimal_bytes_per_sec}"));
        bar.set_prefix(target.to_string());
        bar.enable_steady_tick(TICK);
        self.targets().insert(target.clone(), bar);
    }

    fn target_advances(&self, target: &TargetId, delta: Progress) {
        if let Some(bar) = self.targets().get(target) {
            bar.inc(delta.bytes);
        }
    }

    fn target_ends(&self, target: &TargetId, outcome: &'static str) {
        let bar = self.targets().remove(target);
        if let Some(bar) = bar {
            let bytes = ByteSize(bar.position()).approximate();
            bar.finish_and_clear();
            if outcome != "ok" {
                self.run.println(format!("  {outcome:7} {target}  {bytes}"));
            }
        }
        self.run.inc(1);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates are constants, and the tests draw them")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ledger_forgets_nobody_and_bars_can_be_drawn() {
        let target = TargetId::tenant("acme").expect("a name");
        let (lines, bars) = (Lines::default(), Bars::default());
        for monitor in [&lines as &dyn Monitor, &bars] {
            monitor.run_begins(1);
            monitor.target_begins(&target, 100);
            monitor.target_advances(&target, Progress { bytes: 50, ..Progress::default() });
            monitor.target_ends(&target, "failed");
        }
        bars.finish();
        let ledger = lines.ledger();
        assert_eq!((ledger.ended, ledger.bytes, ledger.under_way.len()), (1, 50, 0));
    }
}
