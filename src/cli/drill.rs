//! `drill`: restores into scratch databases, and says what was proven.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::base::class::Class;
use crate::base::ids::{TargetId, TargetKind};
use crate::base::units::{ByteSize, print_duration};
use crate::cli::arguments::Drill;
use crate::cli::backup::seconds;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::{Context, evidence, job_context};
use crate::job::drill::{Drilled, Report, Request, Selected, run as drill};
use crate::run::report::TargetResult;

/// Runs the verb. A target that is not proven makes the exit code 5.
pub(super) async fn run(arguments: &Drill, context: &Context) -> Result<Exit, Failure> {
    let request = Request {
        selected: selected(arguments),
        server: arguments.server.clone(),
        on_live_server: arguments.on_live_server,
        record: !arguments.no_record,
    };
    if let Some(folder) = &arguments.evidence {
        check_folder(folder)?;
    }
    let job = job_context(context, context.config()?);
    // The job watches the stop itself: what was made is dropped before it returns.
    let report = drill(&job, &request).await?;
    job.progress.finish();
    let written = arguments.evidence.as_deref().map(|folder| evidence::write(folder, &report)).transpose()?;
    if arguments.json {
        context.output.json(&report)?;
    } else {
        context.output.data(page(&report))?;
    }
    context.output.say(&summary(&report, written.as_deref()));
    let unrecorded = report.targets.iter().any(|target| target.unrecorded.is_some());
    Ok(match (report.result, context.signals.first()) {
        ("failed", signal) => only_cause(&report).map_or(Exit::DAMAGED, |class| Exit::of(class, signal)),
        ("stopped", Some(signal)) => signal.exit(),
        _ if unrecorded => Exit::SOME_FAILED,
        _ => Exit::GOOD,
    })
}

/// What kept every target from being drilled at all, where it is one thing and none of the backups'.
fn only_cause(report: &Report) -> Option<Class> {
    let mut classes = report.targets.iter().map(|target| target.class);
    let first = classes.next()??;
    let is_outside = matches!(first, Class::Client | Class::Key | Class::Store | Class::Database);
    (is_outside && classes.all(|class| class == Some(first))).then_some(first)
}

fn selected(arguments: &Drill) -> Selected {
    let tenants = arguments.tenant.iter().map(|name| TargetId { kind: TargetKind::Tenant, name: name.clone() });
    match (arguments.sample, arguments.oldest_proof) {
        (Some(count), _) => Selected::Sample(count as usize),
        (_, Some(count)) => Selected::OldestProof(count as usize),
        _ if arguments.all => Selected::All,
        _ => Selected::These(tenants.chain(arguments.central.then(TargetId::central)).collect()),
    }
}

/// A drill of hours must not end with a folder that was misspelled.
fn check_folder(folder: &Path) -> Result<(), Failure> {
    if folder.is_dir() {
        return Ok(());
    }
    let failure = Failure::said(Class::Usage, format!("{} is no folder", folder.display()));
    Err(failure.with_hint("make it first: evidence is written into a folder that exists"))
}

/// An age in words.
pub(super) fn age(seconds: u64) -> String {
    let rounded = if seconds < 3600 { seconds } else { seconds / 60 * 60 };
    print_duration(Duration::from_secs(rounded))
}

fn page(report: &Report) -> String {
    let mut text = String::new();
    for target in &report.targets {
        let _ = writeln!(text, "{}", line(target));
        for check in &target.checks {
            let state = if check.passed { "passed" } else { "failed" };
            let reason = check.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            let _ = writeln!(text, "    check {:?} {state}{reason}", check.name);
        }
        for note in &target.notes {
            let _ = writeln!(text, "    note: {note}");
        }
    }
    text
}

fn line(target: &Drilled) -> String {
    let name = target.target.to_string();
    match (target.result, target.backup_id) {
        (TargetResult::Ok, Some(id)) => format!(
            "proven   {name:<24} backup {id}: {} rows, {}; recovery time {}, recovery point {}",
            target.rows,
            ByteSize(target.bytes).approximate(),
            seconds(target.recovery_time_seconds),
            age(target.recovery_point_seconds)
        ),
        (result, _) => {
            let word = if result == TargetResult::Skipped { "skipped" } else { "failed" };
            format!("{word:<8} {name:<24} {}", target.reason.as_deref().unwrap_or("not begun"))
        }
    }
}

fn summary(report: &Report, written: Option<&str>) -> String {
    let mut text = String::new();
    for leftover in &report.leftovers {
        let _ = writeln!(text, "note    {leftover}");
    }
    for target in &report.targets {
        if let Some(problem) = &target.unrecorded {
            let _ = writeln!(text, "note    {}: {problem}", target.target);
        }
        if let Some(hint) = target.hint.as_ref().filter(|_| target.result == TargetResult::Failed) {
            let _ = writeln!(text, "hint    {}: {hint}", target.target);
        }
    }
    if let Some(files) = written {
        let _ = writeln!(text, "evidence: {files}");
    }
    let count = |result| report.targets.iter().filter(|target| target.result == result).count();
    let (ok, failed, skipped) = (count(TargetResult::Ok), count(TargetResult::Failed), count(TargetResult::Skipped));
    let next = match failed {
        0 => "dbkeeper drill --oldest-proof N goes on with those that were not drilled for the longest time",
        _ => "dbkeeper verify --read-data for the failed targets, and a new backup of them",
    };
    let took = seconds(report.seconds);
    let run = report.run_id;
    let _ = write!(text, "drilled: proven {ok}, failed {failed}, skipped {skipped}; {took}   run {run}\nnext: {next}");
    text
}
