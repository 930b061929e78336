//! `list` and `show`.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};

use crate::base::class::Class;
use crate::base::ids::TargetId;
use crate::base::units::ByteSize;
use crate::cli::arguments::{List, Show};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::cli::{Context, job_context};
use crate::job;
use crate::job::list::{Listed, Shown};
use crate::repository::proof::LastProofs;

/// Runs `list`. What cannot be listed is told, and makes the exit code 5.
pub(super) async fn run(arguments: &List, context: &Context) -> Result<Exit, Failure> {
    let job = job_context(context, context.config()?);
    let target = arguments.of.id();
    let mut printed = Printed {
        output: context.output,
        json: arguments.json,
        backups: 0,
        last: None,
        proofs: String::new(),
        unproven: 0,
    };
    let listed = job::list::list(&job, target.as_ref(), |backup| printed.one(&backup));
    let listed = context.signals.stop().run_until_cancelled(listed).await;
    let problems = listed.ok_or_else(Failure::stopped)??;
    printed.end()?;
    job.say_requests(context.output);
    if !problems.is_empty() {
        let failure = Failure::said(Class::Corrupt, problems.join("\n"));
        return Err(failure.with_hint("run `dbkeeper verify` to see what is affected"));
    }
    if printed.backups == 0 {
        context.output.say("no backups yet\nnext: dbkeeper backup --all");
    }
    Ok(Exit::GOOD)
}

/// Prints backups one by one: an array in JSON, a table for people.
struct Printed {
    output: Output,
    json: bool,
    backups: usize,
    /// Of which target the last one was.
    last: Option<TargetId>,
    /// When each target was last proven, one line each.
    proofs: String,
    unproven: usize,
}

impl Printed {
    fn one(&mut self, backup: &Listed) -> Result<(), Failure> {
        let first = self.backups == 0;
        self.backups += 1;
        self.note_proof(backup);
        if self.json {
            let text = serde_json::to_string_pretty(backup);
            let text = text.map_err(|error| Failure::new(&error, Class::Unexpected, None))?;
            let before = if first { "[\n  " } else { ",\n  " };
            return self.output.data(format!("{before}{}", text.replace('\n', "\n  ")));
        }
        let mut text = String::new();
        if first {
            let _ = writeln!(
                text,
                "{:<24} {:<36} {:<8} {:<17} {:>12} {:>10} {:>10}",
                "TARGET", "BACKUP", "CLASS", "EXPIRES", "ROWS", "READ", "STORED"
            );
        }
        text.push_str(&line(backup));
        self.output.data(text)
    }

    fn note_proof(&mut self, backup: &Listed) {
        if self.last.as_ref() == Some(&backup.target) {
            return;
        }
        self.last = Some(backup.target.clone());
        if backup.proven.is_empty() {
            self.unproven += 1;
        } else {
            let _ = writeln!(self.proofs, "proven: {}: {}", backup.target, proven(&backup.proven));
        }
    }

    fn end(&mut self) -> Result<(), Failure> {
        match (self.json, self.backups) {
            (true, 0) => self.output.data("[]\n")?,
            (true, _) => self.output.data("\n]\n")?,
            (false, _) => {}
        }
        if self.unproven > 0 {
            let unproven = self.unproven;
            let _ = writeln!(self.proofs, "never proven: {unproven} targets\nnext: dbkeeper verify --read-packs");
        }
        if !self.json && !self.proofs.is_empty() {
            self.output.say(&self.proofs);
        }
        Ok(())
    }
}

fn line(backup: &Listed) -> String {
    format!(
        "{:<24} {:<36} {:<8} {:<17} {:>12} {:>10} {:>10}{}\n",
        backup.target.to_string(),
        backup.id.to_string(),
        backup.class.word(),
        backup.expires_at.format("%Y-%m-%d %H:%MZ").to_string(),
        backup.rows,
        ByteSize(backup.read_bytes).approximate(),
        ByteSize(backup.stored_bytes).approximate(),
        backup.hold_reason.as_ref().map_or(String::new(), |reason| held(backup.held_until, reason)),
    )
}

/// What stands behind a held backup.
fn held(until: Option<DateTime<Utc>>, reason: &str) -> String {
    until.map_or(format!("  held: {reason}"), |until| {
        format!("  held until {}: {reason}", until.format("%Y-%m-%d %H:%MZ"))
    })
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
    let shown = context.signals.stop().run_until_cancelled(Box::pin(job::list::show(&job, arguments.backup))).await;
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
    shown.holds.iter().for_each(|hold| line("kept", held(hold.until, &hold.reason).trim_start().to_owned()));
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
