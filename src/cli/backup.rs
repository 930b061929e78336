//! `backup`: the report as JSON on standard output, or as a summary on standard error.

use std::time::Duration;

use crate::base::class::Class;
use crate::base::units::ByteSize;
use crate::cli::arguments::Backup;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::report::{exit_of, summary};
use crate::cli::{Context, job_context};
use crate::fleet::Selection;
use crate::job::backup::{Request, backup};
use crate::run::report::RunReport;

/// Runs the verb.
pub(super) async fn run(arguments: &Backup, context: &Context) -> Result<Exit, Failure> {
    if let Some(volume) = arguments.volume.first() {
        let failure = Failure::said(Class::Usage, format!("volume {volume}: volumes cannot be backed up yet"));
        return Err(failure.with_hint("select databases with --all, --central or --tenant"));
    }
    let config = context.config()?;
    let volumes: Vec<String> = config.volumes.iter().map(|volume| volume.target.name.to_string()).collect();
    let job = job_context(context, config);
    let request = Request {
        selection: Selection {
            all: arguments.all,
            central: arguments.central,
            tenants: arguments.tenant.iter().map(ToString::to_string).collect(),
        },
        keep: arguments.keep,
        shard: arguments.shard.map(|shard| (shard.index, shard.count)),
    };
    // The job watches the stop itself: it finishes or gives up what is under way, and reports.
    let mut report = backup(&job.context, &request).await?;
    job.progress.finish();
    if arguments.all && !volumes.is_empty() {
        // Configured and not protected: never a success.
        let message = |name: &String| format!("volume {name} is configured, and volumes cannot be backed up yet");
        report = with_unprotected(report, volumes.iter().map(message).collect());
    }
    if arguments.json {
        context.output.json(&report)?;
    }
    job.say_requests(context.output);
    context.output.say(&summary("backed up", &report, &figures(&report), &next(&report)));
    Ok(exit_of(&report, context.signals.first()))
}

fn with_unprotected(report: RunReport, more: Vec<String>) -> RunReport {
    let RunReport { run_id, seconds, targets, mut unprotected, findings, doubt, result, requests, .. } = report;
    unprotected.extend(more);
    let stopped = result == crate::run::report::RunResult::Stopped;
    RunReport { findings, doubt, requests, ..RunReport::new(run_id, seconds, targets, unprotected, stopped) }
}

fn figures(report: &RunReport) -> String {
    let totals = &report.totals;
    format!(
        "{} rows, {} read, {} stored, {}",
        totals.rows,
        ByteSize(totals.read_bytes).approximate(),
        ByteSize(totals.stored_bytes).approximate(),
        seconds(report.seconds)
    )
}

fn next(report: &RunReport) -> String {
    match report.totals.failed + report.totals.skipped {
        0 => "dbkeeper list, or dbkeeper verify --read-packs".to_owned(),
        _ => "dbkeeper doctor, then run the backup again: what succeeded costs little".to_owned(),
    }
}

/// A time for people.
pub(super) fn seconds(seconds: f64) -> String {
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if duration.as_secs() >= 60 => crate::base::units::print_duration(duration),
        _ => format!("{seconds:.1}s"),
    }
}
