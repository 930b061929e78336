//! Carries the plan of a restore out: every step, and the report of what came of it.
//!
//! One failed target never stops the others. A step in which nothing moves is given up; a server that works is no stillness.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::ids::{TargetId, TargetKind};
use crate::base::monitor::Monitor;
use crate::engine::Published;
use crate::engine::postgres::restore::open_restore;
use crate::engine::postgres::witness::Witness;
use crate::job::damage::explain;
use crate::job::restore::{Impossible, Plan, Step, description};
use crate::job::watchdog::Watchdog;
use crate::job::{Context, Error, chain, settled};
use crate::restore::{self, Watch};
use crate::run::fan_out::fan_out;
use crate::run::report::{RunReport, TargetReport, TargetResult};

/// How long the renames may take at least: they wait for sessions to end, a few times five seconds.
const PUBLISH_LIMIT: Duration = Duration::from_secs(120);

/// Carries a plan out. One failed target never stops the others, but the central database is not touched unless all
/// tenants of the plan were restored.
pub async fn execute(context: &Context, plan: Plan) -> RunReport {
    let began = Instant::now();
    let run_id = plan.run_id;
    let failed = |one: Impossible| TargetReport {
        hint: one.hint,
        class: Some(one.class),
        ..TargetReport::new(one.target, TargetResult::Failed, Some(one.reason))
    };
    let mut reports: Vec<TargetReport> = plan.impossible.into_iter().map(failed).collect();
    context.monitor.run_begins(plan.steps.len());
    let (central, tenants): (Vec<Step>, Vec<Step>) =
        plan.steps.into_iter().partition(|step| step.target.kind == TargetKind::Central);
    let watchdog = Arc::new(Watchdog::new(Arc::clone(&context.monitor)));
    reports.extend(carry_out(context, &watchdog, tenants).await);
    let complete = reports.iter().all(|report| report.result == TargetResult::Ok);
    let absent = |nothing: Impossible| TargetReport::new(nothing.target, TargetResult::Skipped, Some(nothing.reason));
    reports.extend(plan.without_backup.into_iter().map(absent));
    if complete {
        reports.extend(carry_out(context, &watchdog, central).await);
    } else {
        let reason =
            "not every tenant was restored, so the central database was left as it is: restore it with --central";
        let skip = |step: Step| TargetReport::new(step.target, TargetResult::Skipped, Some(reason.to_owned()));
        reports.extend(central.into_iter().map(skip));
    }
    let stopped = context.stop.is_cancelled();
    RunReport::new(run_id, began.elapsed().as_secs_f64(), reports, Vec::new(), stopped)
}

async fn carry_out(context: &Context, watchdog: &Arc<Watchdog>, steps: Vec<Step>) -> Vec<TargetReport> {
    let targets: Vec<TargetId> = steps.iter().map(|step| step.target.clone()).collect();
    // Each restore has lanes of its own, and builds indexes: two at once keep the server busy while one waits.
    let width = context.config.limits.targets_at_once.clamp(1, 2);
    let results = fan_out(steps, width, &context.stop, |step| {
        let (context, watchdog) = (context.clone(), Arc::clone(watchdog));
        async move { Box::pin(one(&context, &watchdog, step)).await }
    });
    let skipped = |target| TargetReport::new(target, TargetResult::Skipped, Some("the run was stopped".to_owned()));
    let results = results.await.into_iter().zip(targets);
    results.map(|(result, target)| result.unwrap_or_else(|| skipped(target))).collect()
}

async fn one(context: &Context, watchdog: &Watchdog, step: Step) -> TargetReport {
    let began = Instant::now();
    let (target, backup_id) = (step.target.clone(), step.backup_id);
    let (rows, bytes) = (step.rows, step.bytes);
    watchdog.target_begins(&target, bytes);
    let (vault, identities) = (step.vault.clone(), Arc::clone(&step.identities));
    let (passed_over, fresh) = (step.passed_over.clone(), step.freshness.told());
    let done = Box::pin(work(context, watchdog, step)).await;
    let mut report = match done {
        Ok(published) => {
            let mut notes = vec![format!("restored as database {:?}", published.name)];
            notes.extend(published.former.map(|former| format!("the former database is kept as {former:?}")));
            notes.extend(published.notes.into_iter().chain(passed_over).chain([fresh]));
            TargetReport { rows, read_bytes: bytes, notes, ..TargetReport::new(target.clone(), TargetResult::Ok, None) }
        }
        Err(error) => {
            let error = explain(&vault, backup_id, &identities, ("restore", error)).await;
            let (hint, class) = (error.hint(), Some(settled(error.class())));
            TargetReport { hint, class, ..TargetReport::new(target.clone(), TargetResult::Failed, Some(chain(&error))) }
        }
    };
    report.backup_id = Some(backup_id);
    report.seconds = began.elapsed().as_secs_f64();
    watchdog.target_ends(&target, report.result.word());
    report
}

async fn work(context: &Context, watchdog: &Watchdog, step: Step) -> Result<Published, Error> {
    let (target, stop) = (&step.target, &context.stop);
    let (description, programs) = (description(&step.reader)?, context.programs());
    let limit = context.config.limits.no_progress;
    let opening = open_restore(&step.destination, &programs, &description, step.options);
    let session = tokio::select! {
        opened = opening => opened?,
        () = stop.cancelled() => return Err(Error::Stopped),
        () = watchdog.still_for(target, limit) => {
            let waited_for = format!("an answer of server {:?}", step.destination.name);
            return Err(restore::Error::Stalled { limit, waited_for }.into());
        }
    };
    let witness = Witness::new(&step.destination, session.work_name());
    let give_up = async {
        tokio::select! {
            () = stop.cancelled() => restore::Error::Stopped,
            waited_for = watchdog.stalled(target, limit, |limit| witness.look(limit)) => restore::Error::Stalled { limit, waited_for },
        }
    };
    let watch = Watch { monitor: watchdog, give_up, publish_limit: limit.max(PUBLISH_LIMIT) };
    Ok(restore::restore_watched(target, &step.reader, Box::new(session), watch).await?)
}
