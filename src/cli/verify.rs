//! `verify`: what is wrong, where, and what to do about it.

use std::fmt::Write as _;
use std::time::Duration;

use crate::base::ids::{TargetId, TargetKind};
use crate::base::units::{ByteSize, Share};
use crate::cli::arguments::Verify;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::{Context, job_context};
use crate::job::verify::{Compared, Report, Request, run as verify};
use crate::repository::verify::{Rung, VaultReport};

/// How long a pack that is being read may take after a signal.
const GRACE: Duration = Duration::from_secs(20);

/// Runs the verb. Damage is exit code 5.
pub(super) async fn run(arguments: &Verify, context: &Context) -> Result<Exit, Failure> {
    let rung = match (arguments.read_packs, arguments.read_data) {
        (_, true) => Rung::Data,
        (true, false) => Rung::Packs,
        (false, false) => Rung::Presence,
    };
    let target = arguments.tenant.clone().map(|name| TargetId { kind: TargetKind::Tenant, name });
    let checkpoint = crate::cli::checkpoint::read(arguments.checkpoint.as_deref())?;
    let request = Request {
        target,
        rung,
        share: arguments.sample.unwrap_or(Share::ALL),
        max_duration: arguments.max_duration,
        older_than: arguments.older_than,
        record: !arguments.no_record,
        checkpoint,
    };
    let job = job_context(context, context.config()?);
    // After a signal the job reads to the end of a pack, and records what it has proven.
    let out_of_patience = async {
        context.signals.stop().cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    let report = tokio::select! {
        report = verify(&job, &request) => report?,
        () = out_of_patience => return Err(Failure::stopped()),
    };
    job.progress.finish();
    if arguments.json {
        context.output.json(&report)?;
    } else {
        context.output.data(page(&report))?;
    }
    job.say_requests(context.output);
    context.output.say(&summary(&report));
    Ok(match (report.result, context.signals.first()) {
        ("ok", Some(signal)) if !report.complete => signal.exit(),
        ("ok", _) if report.unrecorded.is_empty() => Exit::GOOD,
        ("ok", _) => Exit::SOME_FAILED,
        _ => Exit::DAMAGED,
    })
}

fn page(report: &Report) -> String {
    let mut text = String::new();
    for vault in &report.vaults {
        let state = if vault.findings.is_empty() { "ok" } else { "damaged" };
        let _ = writeln!(
            text,
            "{state:<8} {:<24} {} of {} backups whole",
            vault.target.to_string(),
            vault.whole,
            vault.backups
        );
        if vault.coverage.packs_read < vault.coverage.packs {
            let oldest = vault
                .coverage
                .oldest_proof_at
                .map_or("never".to_owned(), |at| at.format("%Y-%m-%d %H:%MZ").to_string());
            let _ = writeln!(
                text,
                "    {} packs read now; {} of {} proven in all, the first of them {oldest}",
                vault.coverage.packs_read, vault.coverage.packs_proven, vault.coverage.packs
            );
        }
        findings(vault, &mut text);
    }
    for finding in &report.findings {
        let tampering = if finding.tampering { "; this looks like tampering" } else { "" };
        let _ = writeln!(text, "damaged  {}: {}{tampering}", finding.key, finding.what);
        let _ = writeln!(text, "        no backup needs it: look at who could write there, and remove it");
    }
    if let Some(compared) = &report.checkpoint {
        alarms(compared, report.complete, &mut text);
    }
    for folder in &report.unknown_folders {
        let _ = writeln!(text, "unknown  {folder} is no vault of ours");
    }
    text
}

fn alarms(compared: &Compared, complete: bool, text: &mut String) {
    let taken = compared.taken_at.format("%Y-%m-%d %H:%M UTC");
    for alarm in &compared.alarms {
        let _ = writeln!(text, "missing  {} {}: {}", alarm.target, alarm.backup, alarm.what);
    }
    let _ = match compared.alarms.len() {
        0 if !complete => writeln!(text, "stopped  not every vault was compared with the checkpoint"),
        0 => writeln!(
            text,
            "ok       nothing is missing that the checkpoint of {taken} saw ({} backups)",
            compared.backups
        ),
        _ => writeln!(
            text,
            "        the checkpoint of {taken} saw them: look who could delete in the store, and at a copy of the repository; \
             after an erasure take a new checkpoint"
        ),
    };
}

fn findings(vault: &VaultReport, text: &mut String) {
    for finding in &vault.findings {
        let tampering = if finding.tampering { "; this looks like tampering" } else { "" };
        let _ = writeln!(text, "    {}: {}{tampering}", finding.key, finding.what);
        if finding.backups.is_empty() {
            let _ = writeln!(
                text,
                "        no backup needs it to be restored; the next backup stores what is missing again"
            );
        } else {
            let ids: Vec<String> = finding.backups.iter().map(ToString::to_string).collect();
            let _ = writeln!(text, "        cannot be restored in full: {}", ids.join(", "));
        }
    }
    if !vault.findings.is_empty() {
        let advice = match vault.newest_whole {
            Some(id) => format!("the newest whole backup is {id}: name it to restore with --backup"),
            None => "no whole backup is left: take one now".to_owned(),
        };
        let _ = writeln!(text, "        {advice}");
    }
    if vault.unfinished > 0 {
        let _ = writeln!(
            text,
            "    {} unfinished backups: crashed or running; they expire by themselves",
            vault.unfinished
        );
    }
    for key in &vault.unknown_objects {
        let _ = writeln!(text, "    {key}: not an object of this version");
    }
}

fn summary(report: &Report) -> String {
    let vaults = report.vaults.len();
    let damaged = report.vaults.iter().filter(|vault| !vault.findings.is_empty()).count();
    let objects: u64 = report.vaults.iter().map(|vault| vault.objects_read).sum();
    let bytes: u64 = report.vaults.iter().map(|vault| vault.bytes_read).sum();
    let missing = report.checkpoint.as_ref().map_or(0, |compared| compared.alarms.len());
    let next = match (damaged + missing, report.rung) {
        (0, _) if !report.complete => "the same command again: it goes on where this run stopped",
        (0, Rung::Presence) => "dbkeeper verify --read-packs reads and compares every byte that is stored",
        (0, Rung::Packs) => "dbkeeper verify --read-data decrypts and compares every chunk; it needs the identity",
        (0, _) => "dbkeeper drill --oldest-proof N --server SCRATCH proves whole restores",
        _ => "dbkeeper backup --all now: what is damaged is stored again, and old backups stay as they are",
    };
    let read = ByteSize(bytes).approximate();
    let missing = if missing == 0 { String::new() } else { format!(", {missing} backups missing") };
    let left = match (report.complete, report.left) {
        (true, _) => String::new(),
        (false, 0) => "; the time was over within a vault".to_owned(),
        (false, left) => format!("; the time was over with {left} vaults left"),
    };
    let unrecorded: String = report.unrecorded.iter().map(|problem| format!("note    {problem}\n")).collect();
    format!(
        "{unrecorded}verified: {vaults} vaults, {damaged} damaged{missing}; {objects} objects read, {read}{left}\nnext: {next}"
    )
}
