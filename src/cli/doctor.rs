//! `doctor`: a line for each check, and what to type where one is not ok.

use crate::base::class::Class;
use crate::cli::arguments::Doctor;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::{Context, job_context};
use crate::job::doctor::{Check, Report, Status, examine, examine_store};

/// Lines of a fix that are printed; the JSON has them all.
const MAX_FIX_LINES: usize = 12;
/// Where the fix of a line begins.
const INDENT: &str = "                 ";

/// Runs the verb.
pub(super) async fn run(arguments: &Doctor, context: &Context) -> Result<Exit, Failure> {
    let report = match context.config() {
        Ok(config) => {
            let job = job_context(context, config);
            let stop = context.signals.stop();
            let examined = match arguments.store {
                true => stop.run_until_cancelled(Box::pin(examine_store(&job))).await,
                false => stop.run_until_cancelled(Box::pin(examine(&job))).await,
            };
            examined.ok_or_else(Failure::stopped)?
        }
        Err(failure) => Report::without_configuration(failure.class(), failure.message(), failure.hint()),
    };
    match arguments.json {
        true => context.output.json(&report)?,
        false => context.output.data(report.checks.iter().map(line).collect::<String>())?,
    }
    context.output.say(&summary(&report));
    Ok(match report.class() {
        None => Exit::GOOD,
        Some(Class::Refused) => Exit::SOME_FAILED,
        Some(class) => Exit::of(class, None),
    })
}

fn line(check: &Check) -> String {
    let (status, group) = (check.status.word(), check.group.word());
    let message = check.message.replace('\n', &format!("\n{INDENT}"));
    let mut text = format!("{status:<4}  {group:<9}  {}: {message}\n", check.name);
    let fix = check.fix.as_deref().unwrap_or_default();
    for (number, line) in fix.lines().take(MAX_FIX_LINES).enumerate() {
        let label = if number == 0 { "fix: " } else { "     " };
        text.push_str(&format!("{INDENT}{label}{line}\n"));
    }
    let more = fix.lines().count().saturating_sub(MAX_FIX_LINES);
    if 0 < more {
        text.push_str(&format!("{INDENT}     … {more} more lines: dbkeeper doctor --json\n"));
    }
    text
}

fn summary(report: &Report) -> String {
    let count = |status, one: &str, many: &str| match report.count(status) {
        1 => format!("1 {one}"),
        count => format!("{count} {many}"),
    };
    let next = match report.result {
        Status::Ok | Status::Warn => "next: dbkeeper backup --all",
        Status::Fail => "next: mend what failed, then dbkeeper doctor",
    };
    let (ok, warnings) = (count(Status::Ok, "ok", "ok"), count(Status::Warn, "warning", "warnings"));
    format!("{ok}, {warnings}, {}\n{next}", count(Status::Fail, "failure", "failures"))
}
