//! The evidence of a drill, for auditors: a JSON document and a page in Markdown, each in a new file.

use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;

use crate::base::class::Class;
use crate::base::units::ByteSize;
use crate::cli::backup::seconds;
use crate::cli::drill::age;
use crate::cli::failure::Failure;
use crate::job::drill::{Drilled, Report};

/// Writes both files and gives their names.
pub(super) fn write(folder: &Path, report: &Report) -> Result<String, Failure> {
    let json = serde_json::to_string_pretty(report);
    let json = json.map_err(|error| Failure::new(&error, Class::Unexpected, None))?;
    let mut names = Vec::new();
    for (ending, text) in [("json", json + "\n"), ("md", page(report))] {
        let file = folder.join(format!("drill-{}.{ending}", report.run_id));
        let opened = std::fs::OpenOptions::new().write(true).create_new(true).open(&file);
        let written = opened.and_then(|mut open| open.write_all(text.as_bytes()).and_then(|()| open.sync_all()));
        written.map_err(|error| {
            let failure = Failure::said(Class::Unexpected, format!("write the evidence {}: {error}", file.display()));
            failure.with_hint("the drill itself ended; its records are in the repository")
        })?;
        names.push(file.display().to_string());
    }
    Ok(names.join(", "))
}

/// The page for people.
fn page(report: &Report) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "# Restore drill {}\n", report.run_id);
    let _ = writeln!(text, "| | |\n| --- | --- |");
    let began = report.started_at.format("%Y-%m-%d %H:%M:%S UTC");
    for (name, value) in [
        ("result", report.result.to_owned()),
        ("began", began.to_string()),
        ("took", seconds(report.seconds)),
        ("repository", report.repository.clone()),
        ("restored to server", cell(&report.server)),
        ("program", format!("dbkeeper {}", report.program)),
    ] {
        let _ = writeln!(text, "| {name} | {value} |");
    }
    let _ = writeln!(
        text,
        "\nEach target's newest backup was read from the repository, decrypted, and restored into a scratch database. The server's count \
         of rows and the checksum of every part were compared with the backup's. Then the scratch database was dropped.\n"
    );
    let _ = writeln!(
        text,
        "| target | result | backup | rows | bytes | recovery time | recovery point | checks | last proven before |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    );
    report.targets.iter().for_each(|target| row(target, &mut text));
    for target in report.targets.iter().filter(|target| target.reason.is_some() || !target.checks.is_empty()) {
        let _ = writeln!(text, "\n## {}\n", cell(&target.target.to_string()));
        if let Some(reason) = &target.reason {
            let _ = writeln!(text, "- {}: {}", target.result.word(), cell(reason));
        }
        for check in &target.checks {
            let reason = check.reason.as_ref().map(|reason| format!(": {}", cell(reason))).unwrap_or_default();
            let state = if check.passed { "passed" } else { "failed" };
            let _ = writeln!(text, "- check {} {state}{reason}", cell(&check.name));
        }
    }
    text
}

fn row(target: &Drilled, text: &mut String) {
    let passed = target.checks.iter().filter(|check| check.passed).count();
    let before = target.previous_proof_at.map_or("never".to_owned(), |at| at.format("%Y-%m-%d %H:%M UTC").to_string());
    let _ = writeln!(
        text,
        "| {} | {} | {} | {} | {} | {} | {} | {passed} of {} passed | {before} |",
        cell(&target.target.to_string()),
        target.result.word(),
        target.backup_id.map_or("none".to_owned(), |id| id.to_string()),
        target.rows,
        ByteSize(target.bytes).approximate(),
        seconds(target.recovery_time_seconds),
        age(target.recovery_point_seconds),
        target.checks.len(),
    );
}

/// A text as it can stand in a table: names come from registries, and words from servers.
fn cell(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).collect::<String>().replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;")
}
