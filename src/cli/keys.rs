//! `keys`: to whom the vaults are sealed, sealing them to others, and new epochs.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::base::class::Class;
use crate::base::repository_key::{BadRepositoryKey, RepositoryKey};
use crate::cli::arguments::{KeysRotation, KeysSelection, KeysVerb};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::{Context, job_context};
use crate::job::keys::{Keys, ResealReport, RotateReport, list, reseal, rotate};
use crate::job::rotate::{FormerKey, Report as KeyReport, replace_key};

/// Vaults that are named one by one for people; the others are counted.
const NAMED: usize = 20;

/// Why a file gives no repository key.
#[derive(Debug, thiserror::Error)]
enum BadFile {
    #[error("read {}", .file.display())]
    Read {
        file: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} holds {source}", .file.display())]
    Key { file: PathBuf, source: BadRepositoryKey },
}

impl From<BadFile> for Failure {
    fn from(error: BadFile) -> Self {
        let hint = "`dbkeeper keygen --repository-key FILE` makes a key in a new file";
        Self::new(&error, Class::Key, Some(hint.to_owned()))
    }
}

/// Runs the verb.
pub(super) async fn run(verb: &KeysVerb, context: &Context) -> Result<Exit, Failure> {
    match verb {
        KeysVerb::List(selection) => list_keys(selection, context).await,
        KeysVerb::Reseal(selection) => reseal_keys(selection, context).await,
        KeysVerb::Rotate(arguments) => match &arguments.repository_key {
            Some(file) => rotate_repository_key(arguments, file, context).await,
            None => rotate_keys(&arguments.selection, context).await,
        },
    }
}

async fn list_keys(selection: &KeysSelection, context: &Context) -> Result<Exit, Failure> {
    let (job, target) = (job_context(context, context.config()?), selection.of.id());
    let keys = context.signals.stop().run_until_cancelled(list(&job, target.as_ref())).await;
    let keys = keys.ok_or_else(Failure::stopped)??;
    job.progress.finish();
    match selection.json {
        true => context.output.json(&keys)?,
        false => context.output.data(keys_page(&keys))?,
    }
    let next = match keys.differ.len() {
        0 => "every vault is sealed to the configured recipients, and to nobody else".to_owned(),
        count => format!("{count} vaults are sealed to others than the configuration says\nnext: dbkeeper keys reseal"),
    };
    context.output.say(&format!("{} vaults; {next}", keys.vaults.len()));
    Ok(if keys.problems.is_empty() { Exit::GOOD } else { Exit::DAMAGED })
}

fn keys_page(keys: &Keys) -> String {
    let mut text = String::new();
    for (recipient, vaults) in &keys.opens {
        let configured = if keys.configured.contains(recipient) { "configured" } else { "not configured" };
        let _ = writeln!(text, "{recipient}  opens {vaults} of {} vaults, {configured}", keys.vaults.len());
    }
    let named: BTreeSet<_> = keys.differ.iter().take(NAMED).collect();
    // One vault was asked for, or it is not as it should be: epoch by epoch.
    let told = keys.vaults.iter().filter(|vault| keys.vaults.len() == 1 || named.contains(&vault.target));
    for vault in told {
        let _ = writeln!(text, "{}", vault.target);
        for epoch in &vault.epochs {
            let _ = writeln!(text, "    {} revision {}: {}", epoch.epoch, epoch.revision, epoch.sealed_to.join(", "));
            if !epoch.formerly_sealed_to.is_empty() {
                let _ = writeln!(text, "        earlier revisions: {}", epoch.formerly_sealed_to.join(", "));
            }
        }
    }
    if keys.differ.len() > NAMED {
        let _ = writeln!(text, "and {} more; --json names them all", keys.differ.len() - NAMED);
    }
    for problem in &keys.problems {
        let _ = writeln!(text, "problem: {problem}");
    }
    text
}

async fn reseal_keys(selection: &KeysSelection, context: &Context) -> Result<Exit, Failure> {
    let (job, target) = (job_context(context, context.config()?), selection.of.id());
    let report = context.signals.stop().run_until_cancelled(reseal(&job, target.as_ref())).await;
    let report = report.ok_or_else(Failure::stopped)??;
    job.progress.finish();
    if selection.json {
        context.output.json(&report)?;
    } else {
        let lines: String = report.failures.iter().map(|failure| format!("failed: {failure}\n")).collect();
        context.output.data(lines)?;
    }
    context.output.say(&reseal_summary(&report));
    Ok(if report.result == "ok" { Exit::GOOD } else { Exit::SOME_FAILED })
}

fn reseal_summary(report: &ResealReport) -> String {
    let resealed: usize = report.vaults.iter().map(|vault| vault.resealed).sum();
    let unchanged: usize = report.vaults.iter().map(|vault| vault.unchanged).sum();
    let open: BTreeSet<&String> = report.vaults.iter().flat_map(|vault| &vault.still_open_to).collect();
    let mut text = format!(
        "sealed anew: {resealed} epochs of {} vaults, {unchanged} were so already; no data was rewritten",
        report.vaults.len()
    );
    if !open.is_empty() {
        let names: Vec<&str> = open.iter().map(|name| name.as_str()).collect();
        let _ = write!(
            text,
            "\nwhoever has the identity of {} and can read the bucket still opens the earlier revisions: nothing stored is \
             overwritten, and a secret that was read once cannot be taken back\nnext: dbkeeper keys rotate, so that \
             what is stored from now on is closed to them",
            names.join(", ")
        );
    } else if report.failures.is_empty() {
        text.push_str("\nnext: dbkeeper keys list");
    }
    text
}

async fn rotate_keys(selection: &KeysSelection, context: &Context) -> Result<Exit, Failure> {
    let (job, target) = (job_context(context, context.config()?), selection.of.id());
    let report = context.signals.stop().run_until_cancelled(rotate(&job, target.as_ref())).await;
    let report: RotateReport = report.ok_or_else(Failure::stopped)??;
    job.progress.finish();
    if selection.json {
        context.output.json(&report)?;
    } else {
        let lines: String = report.failures.iter().map(|failure| format!("failed: {failure}\n")).collect();
        context.output.data(lines)?;
    }
    context.output.say(&format!(
        "{} vaults have a new epoch: what their next backups store anew is sealed to it, and older packs that they still \
         use stay as they are\nnext: dbkeeper backup --all",
        report.vaults.len()
    ));
    Ok(if report.result == "ok" { Exit::GOOD } else { Exit::SOME_FAILED })
}

fn read_key(file: &Path) -> Result<RepositoryKey, BadFile> {
    let text = std::fs::read_to_string(file).map_err(|source| BadFile::Read { file: file.to_owned(), source })?;
    let text = zeroize::Zeroizing::new(text);
    RepositoryKey::parse(&text).map_err(|source| BadFile::Key { file: file.to_owned(), source })
}

async fn rotate_repository_key(arguments: &KeysRotation, file: &Path, context: &Context) -> Result<Exit, Failure> {
    let new = read_key(file)?;
    let former = match &arguments.former_key {
        Some(file) => FormerKey::Given(read_key(file)?),
        None if arguments.former_key_lost => FormerKey::Lost,
        None => FormerKey::Configured,
    };
    let job = job_context(context, context.config()?);
    let report = context.signals.stop().run_until_cancelled(Box::pin(replace_key(&job, &new, former))).await;
    let report = report.ok_or_else(Failure::stopped)??;
    job.progress.finish();
    if arguments.selection.json {
        context.output.json(&report)?;
    } else {
        let refused = report.refused.iter().map(|what| format!("not vouched for: {what}\n"));
        let failed = report.failures.iter().map(|what| format!("failed: {what}\n"));
        context.output.data(refused.chain(failed).collect::<String>())?;
    }
    context.output.say(&key_summary(&report, file));
    Ok(match report.result {
        "partial" => Exit::SOME_FAILED,
        _ if report.refused.is_empty() => Exit::GOOD,
        _ => Exit::DAMAGED,
    })
}

fn key_summary(report: &KeyReport, file: &Path) -> String {
    let (key, vaults, documents, file) = (&report.key, report.vaults, report.documents, file.display());
    let mut text = match report.result {
        "unchanged" => return format!("key {key} is the repository's already\nnext: set [repository] key to {file}"),
        "partial" => {
            return "the repository key is not replaced yet: until it is, neither the former key nor the new one stores anything\n\
                    next: run the same command again; it goes on where it stopped"
                .to_owned();
        }
        _ => format!("key {key} is the repository's; it vouches for {documents} documents of {vaults} vaults"),
    };
    if report.former_lost {
        text.push_str("\nnothing of them could be proven without the former key: what is there was believed");
    }
    if !report.refused.is_empty() {
        let count = report.refused.len();
        let _ = write!(text, "\n{count} documents do not verify, and count for nothing from now on");
    }
    let _ = write!(
        text,
        "\nnext: set [repository] key to {file} wherever dbkeeper runs, then `dbkeeper checkpoint` and \
         `dbkeeper backup --all`: the first backup with a new key stores everything once more"
    );
    text
}
