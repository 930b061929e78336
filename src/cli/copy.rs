//! `copy`: what went to the second repository, and what did not.

use std::fmt::Write as _;

use crate::base::units::ByteSize;
use crate::cli::arguments::Copy;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::{Context, job_context};
use crate::job::copy::{Report, run as copy};

/// Runs the verb. Damage in the source is exit code 5, a vault that could not be copied 3.
pub(super) async fn run(arguments: &Copy, context: &Context) -> Result<Exit, Failure> {
    let job = job_context(context, context.config()?);
    let target = arguments.of.id();
    let report = context.signals.stop().run_until_cancelled(copy(&job, &arguments.to, target.as_ref())).await;
    let report = report.ok_or_else(Failure::stopped)??;
    job.progress.finish();
    match arguments.json {
        true => context.output.json(&report)?,
        false => context.output.data(page(&report))?,
    }
    context.output.say(&summary(&report, &arguments.to));
    Ok(match report.result {
        "ok" => Exit::GOOD,
        "partial" => Exit::SOME_FAILED,
        _ => Exit::DAMAGED,
    })
}

fn page(report: &Report) -> String {
    let mut text = String::new();
    for vault in &report.vaults {
        let state = if vault.findings.is_empty() { "ok" } else { "damaged" };
        let (bytes, name) = (ByteSize(vault.bytes_copied).approximate(), vault.target.to_string());
        let _ = writeln!(
            text,
            "{state:<8} {name:<24} {} backups copied, {} there already; {} objects, {bytes}",
            vault.backups_copied, vault.backups_present, vault.objects_copied
        );
    }
    for failure in &report.failures {
        let _ = writeln!(text, "failed   {}: {}", failure.target, failure.reason);
    }
    for finding in report.vaults.iter().flat_map(|vault| &vault.findings).chain(&report.findings) {
        let tampering = if finding.tampering { "; this looks like tampering" } else { "" };
        let _ = writeln!(text, "    {}: {}{tampering}", finding.key, finding.what);
    }
    text
}

fn summary(report: &Report, to: &str) -> String {
    let backups: usize = report.vaults.iter().map(|vault| vault.backups_copied).sum();
    let bytes: u64 = report.vaults.iter().map(|vault| vault.bytes_copied).sum();
    let next = match report.result {
        "ok" => format!("dbkeeper --repository {to} verify --read-packs compares every byte of the copy"),
        "partial" => format!("dbkeeper copy --to {to} goes on where it stopped"),
        _ => "dbkeeper verify --read-packs shows what is damaged here; the copy may have it whole".to_owned(),
    };
    format!(
        "copied {} vaults from {} to {}: {backups} backups, {}\nnext: {next}",
        report.vaults.len(),
        report.from,
        report.to,
        ByteSize(bytes).approximate()
    )
}
