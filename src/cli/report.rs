//! A run's report as people read it, and the exit code that it means.

use std::fmt::Write as _;

use crate::cli::exit::Exit;
use crate::cli::signals::Signal;
use crate::run::report::{RunReport, RunResult, TargetReport, TargetResult};

/// More names than this are not listed one by one.
const NAMES_SHOWN: usize = 5;

/// The summary: failures grouped by cause, notes, findings, then the figures and the next command to type.
pub(super) fn summary(verb: &str, report: &RunReport, figures: &str, next: &str) -> String {
    let mut text = String::new();
    for (reason, targets) in report.causes() {
        let _ = writeln!(text, "failed  {}: {reason}", names(&targets));
        if let Some(hint) = targets.iter().find_map(|target| target.hint.as_ref()) {
            let _ = writeln!(text, "        hint: {hint}");
        }
    }
    for message in &report.unprotected {
        let _ = writeln!(text, "failed  {message}");
    }
    let skipped: Vec<&TargetReport> =
        report.targets.iter().filter(|target| target.result == TargetResult::Skipped).collect();
    if let Some(first) = skipped.first() {
        let _ = writeln!(text, "skipped {}: {}", names(&skipped), first.reason.as_deref().unwrap_or("not begun"));
    }
    for target in &report.targets {
        for note in &target.notes {
            let _ = writeln!(text, "note    {}: {note}", target.target);
        }
    }
    for finding in &report.findings {
        let _ = writeln!(text, "found   {finding}");
    }
    let totals = &report.totals;
    let _ = writeln!(
        text,
        "{verb}: ok {}, failed {}, skipped {}; {figures}   run {}",
        totals.ok, totals.failed, totals.skipped, report.run_id
    );
    let _ = write!(text, "next: {next}");
    text
}

fn names(targets: &[&TargetReport]) -> String {
    let mut names: Vec<String> = targets.iter().take(NAMES_SHOWN).map(|target| target.target.to_string()).collect();
    if targets.len() > NAMES_SHOWN {
        names.push(format!("{} more", targets.len() - NAMES_SHOWN));
    }
    names.join(", ")
}

/// The exit code: a signal first; then the one cause of a run in which nothing succeeded; else that some targets failed.
pub(super) fn exit_of(report: &RunReport, signal: Option<Signal>) -> Exit {
    match (signal, report.result) {
        (Some(signal), RunResult::Stopped) => signal.exit(),
        (_, RunResult::Ok) => report.doubt.map_or(Exit::GOOD, |class| Exit::of(class, signal)),
        _ => match report.only_class().map(|class| Exit::of(class, signal)) {
            Some(exit) if exit != Exit::UNEXPECTED && exit != Exit::EMPTY => exit,
            _ => Exit::SOME_FAILED,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::TargetId;

    #[test]
    fn a_run_of_which_the_store_does_not_tell_whether_it_counts_is_not_good() {
        for (stopped, found, exit) in [(false, 1, Exit::STORE), (true, 0, Exit::SOME_FAILED)] {
            let target = TargetReport::new(TargetId::tenant("a").expect("a name"), TargetResult::Ok, None);
            let run = "20261121T091500Z-3fa9c2d1".parse().expect("an id");
            let mut report = RunReport::new(run, 1.0, vec![target], Vec::new(), stopped);
            report.cannot_tell("the store did not answer in time".to_owned());
            assert_eq!((report.findings.len(), exit_of(&report, None)), (found, exit));
        }
    }
}
