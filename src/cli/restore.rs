//! `restore`: shows the plan, asks, and carries it out.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};

use crate::base::class::Class;
use crate::base::units::ByteSize;
use crate::cli::arguments::Restore;
use crate::cli::backup::seconds;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::report::{exit_of, summary};
use crate::cli::{Context, job_context};
use crate::job::restore::{Impossible, Plan, Request, Step, plan};
use crate::job::restore_run::execute;
use crate::repository::reader::Wanted;
use crate::run::report::RunReport;

/// Runs the verb.
pub(super) async fn run(arguments: &Restore, context: &Context) -> Result<Exit, Failure> {
    if arguments.of.volume.is_some() {
        return Err(Failure::said(Class::Usage, "volumes cannot be restored yet"));
    }
    let config = context.config()?;
    let zone = config.retention.timezone;
    let wanted = match (&arguments.backup, arguments.at) {
        (Some(id), _) => Wanted::Id(id.to_string()),
        (None, Some(moment)) => Wanted::At(moment.in_zone(zone).ok_or_else(|| {
            Failure::said(Class::Usage, format!("there is no such local time in {zone}"))
                .with_hint("give it in UTC: 2026-11-21T09:15:00Z")
        })?),
        (None, None) => Wanted::Newest,
    };
    let request = Request {
        target: arguments.of.id(),
        wanted,
        as_name: arguments.as_name.clone(),
        server: arguments.server.clone(),
        tables: arguments.table.clone(),
        schema_only: arguments.schema_only,
        no_swap: arguments.no_swap,
        no_owner: arguments.no_owner,
        without_repository_key: arguments.without_repository_key,
        checkpoint: crate::cli::checkpoint::read(arguments.checkpoint.as_deref())?,
    };
    let job = job_context(context, config);
    let planned = context.signals.stop().run_until_cancelled(plan(&job, &request)).await;
    let planned = planned.ok_or_else(Failure::stopped)??;
    context.output.say(&page(&planned));
    if arguments.dry_run {
        if arguments.json {
            context.output.json(&planned)?;
        }
        context.output.say("dry run: nothing was changed");
        let all = planned.impossible.is_empty() && planned.without_backup.is_empty();
        return Ok(if all { Exit::GOOD } else { Exit::SOME_FAILED });
    }
    if !arguments.yes {
        confirm(&planned)?;
    }
    let report = execute(&job, planned).await;
    job.progress.finish();
    if arguments.json {
        context.output.json(&report)?;
    }
    context.output.say(&summary("restored", &report, &figures(&report), &next(&report)));
    Ok(exit_of(&report, context.signals.first()))
}

fn page(plan: &Plan) -> String {
    let mut text = String::new();
    for step in &plan.steps {
        let Step { target, backup_id, server, database, rows, .. } = step;
        let what = if step.swaps { "becomes database" } else { "goes beside database" };
        let _ = writeln!(text, "{target}: backup {backup_id} of {}", step.created_at.format("%Y-%m-%d %H:%M UTC"));
        let _ = writeln!(
            text,
            "    {rows} rows, {}; {what} {database:?} on server {server:?}",
            ByteSize(step.bytes).approximate()
        );
        if step.swaps {
            let _ = writeln!(text, "    a live database of that name is kept beside it as {database}__before_…");
        }
        let _ = writeln!(text, "    {}", step.freshness.told());
        for warning in &step.warnings {
            let _ = writeln!(text, "    warning: {warning}");
        }
    }
    for Impossible { target, reason, .. } in plan.impossible.iter().chain(&plan.without_backup) {
        let _ = writeln!(text, "{target}: cannot be restored: {reason}");
    }
    text
}

/// Asks on a terminal; elsewhere only `--yes` is a yes.
fn confirm(plan: &Plan) -> Result<(), Failure> {
    let refused = |message: &str| Failure::said(Class::Usage, message.to_owned());
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(refused("nobody can be asked here, and nothing was changed").with_hint("add --yes if you mean it"));
    }
    // With one target its name is asked for: a yes is typed too fast.
    let expected = match plan.steps.as_slice() {
        [step] => step.target.name.to_string(),
        _ => "all".to_owned(),
    };
    let mut stderr = std::io::stderr().lock();
    let asked = write!(stderr, "type {expected} to go on: ").and_then(|()| stderr.flush());
    asked.map_err(|error| refused(&format!("the question could not be asked: {error}")))?;
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    read.map_err(|error| refused(&format!("the answer could not be read: {error}")))?;
    if answer.trim() == expected { Ok(()) } else { Err(refused("not confirmed; nothing was changed")) }
}

fn figures(report: &RunReport) -> String {
    let totals = &report.totals;
    format!("{} rows, {}, {}", totals.rows, ByteSize(totals.read_bytes).approximate(), seconds(report.seconds))
}

fn next(report: &RunReport) -> String {
    match report.totals.failed {
        0 => "look at the application; then drop the database that was kept beside, when you are sure".to_owned(),
        _ => "mend the cause above and run the same command again: a live database was not touched by what failed"
            .to_owned(),
    }
}
