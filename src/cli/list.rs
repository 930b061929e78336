//! `list` and `show`.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::base::class::Class;
use crate::base::units::ByteSize;
use crate::cli::arguments::{List, Show};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::{Context, job_context};
use crate::job;
use crate::job::list::{Listed, Shown};
use crate::repository::proof::LastProofs;

/// Runs `list`. What cannot be listed is told, and makes the exit code 5.
pub(super) async fn run(arguments: &List, context: &Context) -> Result<Exit, Failure> {
    let job = job_context(context, context.config()?);
    let target = arguments.of.id();
    let listing = context.signals.stop().run_until_cancelled(job::list::list(&job, target.as_ref())).await;
    let listing = listing.ok_or_else(Failure::stopped)??;
    if arguments.json {
        context.output.json(&listing.backups)?;
    } else {
        context.output.data(table(&listing.backups))?;
        context.output.say(&proofs(&listing.backups));
    }
    if !listing.problems.is_empty() {
        let failure = Failure::said(Class::Corrupt, listing.problems.join("\n"));
        return Err(failure.with_hint("run `dbkeeper verify` to see what is affected"));
    }
    if listing.backups.is_empty() {
        context.output.say("no backups yet\nnext: dbkeeper backup --all");
    }
    Ok(Exit::GOOD)
}

fn table(backups: &[Listed]) -> String {
    let mut text = String::new();
    if !backups.is_empty() {
        let _ = writeln!(
            text,
            "{:<24} {:<36} {:<8} {:<17} {:>12} {:>10} {:>10}",
            "TARGET", "BACKUP", "CLASS", "EXPIRES", "ROWS", "READ", "STORED"
        );
    }
    for backup in backups {
        let _ = writeln!(
            text,
            "{:<24} {:<36} {:<8} {:<17} {:>12} {:>10} {:>10}",
            backup.target.to_string(),
            backup.id.to_string(),
            backup.class.word(),
            backup.expires_at.format("%Y-%m-%d %H:%MZ").to_string(),
            backup.rows,
            ByteSize(backup.read_bytes).approximate(),
            ByteSize(backup.stored_bytes).approximate(),
        );
    }
    text
}

/// When each target was last proven, one line each; nothing where none ever was.
fn proofs(backups: &[Listed]) -> String {
    let mut text = String::new();
    let mut told = None;
    for backup in backups.iter().filter(|backup| backup.proven != LastProofs::default()) {
        if told != Some(&backup.target) {
            let _ = writeln!(text, "proven: {}: {}", backup.target, proven(&backup.proven));
        }
        told = Some(&backup.target);
    }
    let unproven: BTreeSet<_> =
        backups.iter().filter(|one| one.proven == LastProofs::default()).map(|b| &b.target).collect();
    if !unproven.is_empty() {
        let _ = writeln!(text, "never proven: {} targets\nnext: dbkeeper verify --read-packs", unproven.len());
    }
    text
}

fn proven(last: &LastProofs) -> String {
    let rungs = [("drill", last.drill), ("data", last.data), ("packs", last.packs), ("presence", last.presence)];
    let words = rungs.map(|(rung, proof)| match proof {
        None => format!("{rung} never"),
        Some(proof) => {
            let result = if proof.result == "ok" { String::new() } else { format!(" ({})", proof.result) };
            format!("{rung} {}{result}", proof.at.format("%Y-%m-%d %H:%MZ"))
        }
    });
    words.join(", ")
}

/// Runs `show`.
pub(super) async fn show(arguments: &Show, context: &Context) -> Result<Exit, Failure> {
    let job = job_context(context, context.config()?);
    let shown = context.signals.stop().run_until_cancelled(job::list::show(&job, arguments.backup)).await;
    let shown = shown.ok_or_else(Failure::stopped)??;
    if arguments.json {
        context.output.json(&shown)?;
    } else {
        context.output.data(page(&shown))?;
    }
    Ok(Exit::GOOD)
}

fn page(shown: &Shown) -> String {
    let marker = &shown.marker;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<10} {value}");
    };
    line("backup", marker.id.to_string());
    line("target", marker.vault.to_string());
    line("created", marker.created_at.to_rfc3339());
    line("expires", format!("{} ({})", marker.expires_at.to_rfc3339(), marker.class.word()));
    line("source", marker.engine.clone());
    line("rows", marker.rows.to_string());
    line("read", ByteSize(marker.read_bytes).approximate());
    line("stored", ByteSize(marker.stored_bytes).approximate());
    line("packs", marker.packs.len().to_string());
    line("parent", marker.parent.map_or("none".to_owned(), |parent| parent.id.to_string()));
    line("run", marker.run_id.to_string());
    line("authentic", if shown.verified { "yes, its signature verifies" } else { "not checked" }.to_owned());
    line("proven", proven(&shown.proven));
    match &shown.contents {
        None => line("contents", "sealed: configure [encryption] identity to see tables".to_owned()),
        Some(contents) => {
            line("from", contents.source.clone());
            for (name, rows, bytes) in &contents.parts {
                line("part", format!("{name:<40} {rows:>12} rows {:>10}", ByteSize(*bytes).approximate()));
            }
            contents.notes.iter().for_each(|note| line("note", note.clone()));
        }
    }
    text
}
