//! What a run reports: one document with a result for every target. Scripts depend on its field names.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::base::class::Class;
use crate::base::ids::{BackupId, RunId, TargetId};
use crate::base::requests::Requests;

/// How one target ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetResult {
    /// Done, and proven as far as the job proves.
    Ok,
    /// Not done: it is not protected by this run.
    Failed,
    /// Not begun: the run was stopped.
    Skipped,
}

impl TargetResult {
    /// The word in JSON and messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// How the whole run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunResult {
    /// Every target is done.
    Ok,
    /// Some are not.
    Partial,
    /// None is.
    Failed,
    /// The run was stopped from outside.
    Stopped,
}

/// What came of one target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetReport {
    /// Which target.
    pub target: TargetId,
    /// How it ended.
    pub result: TargetResult,
    /// Why it did not end well: the whole chain of causes, in the server's own words.
    pub reason: Option<String>,
    /// What to type next.
    pub hint: Option<String>,
    /// The backup that was made or used.
    pub backup_id: Option<BackupId>,
    /// Plaintext read.
    pub read_bytes: u64,
    /// Bytes added to the store.
    pub stored_bytes: u64,
    /// Rows in the backup.
    pub rows: u64,
    /// How long it took.
    pub seconds: f64,
    /// What an operator should know although it ended well.
    pub notes: Vec<String>,
    /// What the failure means, for the exit code.
    #[serde(skip)]
    pub class: Option<Class>,
}

impl TargetReport {
    /// A report with nothing in it yet but how it ended.
    pub fn new(target: TargetId, result: TargetResult, reason: Option<String>) -> Self {
        Self {
            target,
            result,
            reason,
            hint: None,
            backup_id: None,
            read_bytes: 0,
            stored_bytes: 0,
            rows: 0,
            seconds: 0.0,
            notes: Vec::new(),
            class: None,
        }
    }
}

/// What stands in a stored report instead of a reason.
const WORDS_ELSEWHERE: &str = "the output of the run says why";

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// Its id.
    pub run_id: RunId,
    /// How it ended.
    pub result: RunResult,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// How long it took.
    pub seconds: f64,
    /// Number of targets by result.
    pub totals: Totals,
    /// What came of each target, in order of targets.
    pub targets: Vec<TargetReport>,
    /// Tenants that could not even be named: each is unprotected, and counts as failed.
    pub unprotected: Vec<String>,
    /// What discovery found that an operator must know, one sentence each.
    pub findings: Vec<String>,
    /// What a finding means for the exit code although every target is done.
    #[serde(skip)]
    pub doubt: Option<Class>,
    /// How often the store was asked, where that costs something.
    #[serde(default)]
    pub requests: Option<Requests>,
}

/// Sums over a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Targets that are done.
    pub ok: usize,
    /// Targets that failed, those without a name included.
    pub failed: usize,
    /// Targets that were not begun.
    pub skipped: usize,
    /// Plaintext read.
    pub read_bytes: u64,
    /// Bytes added to the store.
    pub stored_bytes: u64,
    /// Rows in the backups.
    pub rows: u64,
}

impl RunReport {
    /// Sums up; `stopped` says that the run was stopped from outside.
    pub fn new(
        run_id: RunId,
        seconds: f64,
        mut targets: Vec<TargetReport>,
        unprotected: Vec<String>,
        stopped: bool,
    ) -> Self {
        targets.sort_by(|a, b| a.target.cmp(&b.target));
        let mut totals = Totals::default();
        for target in &targets {
            match target.result {
                TargetResult::Ok => totals.ok += 1,
                TargetResult::Failed => totals.failed += 1,
                TargetResult::Skipped => totals.skipped += 1,
            }
            totals.read_bytes += target.read_bytes;
            totals.stored_bytes += target.stored_bytes;
            totals.rows += target.rows;
        }
        totals.failed += unprotected.len();
        let result = match (stopped, totals.ok, totals.failed + totals.skipped) {
            (true, ..) => RunResult::Stopped,
            (false, _, 0) => RunResult::Ok,
            (false, 0, _) => RunResult::Failed,
            (false, ..) => RunResult::Partial,
        };
        let (started_at, findings, doubt, requests) = (run_id.started_at(), Vec::new(), None, None);
        Self { run_id, result, started_at, seconds, totals, targets, unprotected, findings, doubt, requests }
    }

    /// Tells that the store left open whether this run counts. One that was stopped had no time to ask: that is said already.
    pub fn cannot_tell(&mut self, finding: String) {
        if self.result != RunResult::Stopped {
            self.findings.push(finding);
            self.doubt = Some(Class::Store);
        }
    }

    /// The one class of all failures, where nothing at all succeeded.
    pub fn only_class(&self) -> Option<Class> {
        let mut classes = self.targets.iter().map(|target| target.class);
        let first = classes.next()?.filter(|_| self.totals.ok == 0 && self.unprotected.is_empty())?;
        classes.all(|class| class == Some(first)).then_some(first)
    }

    /// The report as it may lie in the store in plain text: names, times and sizes, but no words of a server, which may quote
    /// tables or rows (invariant 5).
    #[must_use]
    pub fn without_words(&self) -> Self {
        let mut bare = self.clone();
        for target in &mut bare.targets {
            target.reason = target.reason.take().map(|_| WORDS_ELSEWHERE.to_owned());
            target.hint = None;
            target.notes.clear();
        }
        bare.unprotected.fill(WORDS_ELSEWHERE.to_owned());
        bare.findings.clear();
        bare
    }

    /// Failed targets, grouped by equal reason, the commonest first: 412 tenants with one cause are one line.
    pub fn causes(&self) -> Vec<(String, Vec<&TargetReport>)> {
        let mut groups: BTreeMap<String, Vec<&TargetReport>> = BTreeMap::new();
        for target in self.targets.iter().filter(|target| target.result == TargetResult::Failed) {
            groups.entry(target.reason.clone().unwrap_or_default()).or_default().push(target);
        }
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_by_key(|(_, targets)| std::cmp::Reverse(targets.len()));
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str, result: TargetResult, reason: Option<&str>) -> TargetReport {
        let report = TargetReport::new(TargetId::tenant(name).expect("a name"), result, reason.map(str::to_owned));
        TargetReport { rows: 2, ..report }
    }

    #[test]
    fn one_failed_target_makes_the_run_partial_and_equal_causes_are_one() {
        use TargetResult::{Failed, Ok, Skipped};
        let run: RunId = "20261121T091500Z-3fa9c2d1".parse().expect("an id");
        let report = |targets, stopped| RunReport::new(run, 1.0, targets, Vec::new(), stopped);
        assert_eq!(report(vec![target("a", Ok, None)], false).result, RunResult::Ok);
        assert_eq!(report(vec![target("a", Failed, Some("x"))], false).result, RunResult::Failed);
        assert_eq!(report(vec![target("a", Ok, None), target("b", Skipped, None)], true).result, RunResult::Stopped);
        let partial = report(
            vec![target("c", Failed, Some("no")), target("a", Ok, None), target("b", Failed, Some("no"))],
            false,
        );
        assert_eq!(partial.result, RunResult::Partial);
        assert_eq!((partial.totals.ok, partial.totals.failed, partial.totals.rows), (1, 2, 6));
        let unnamed =
            RunReport::new(run, 1.0, vec![target("a", Ok, None)], vec!["a row without a key".to_owned()], false);
        assert_eq!((unnamed.result, unnamed.totals.failed), (RunResult::Partial, 1));
        let causes = partial.causes();
        assert_eq!(causes.len(), 1);
        assert_eq!(causes[0].1.len(), 2);
    }

    #[test]
    fn who_has_no_name_is_a_failure_all_the_same() {
        let run: RunId = "20261121T091500Z-3fa9c2d1".parse().expect("an id");
        let nameless = vec!["a row without a key".to_owned()];
        let report = RunReport::new(run, 1.0, vec![target("a", TargetResult::Ok, None)], nameless.clone(), false);
        assert_eq!((report.result, report.totals.failed), (RunResult::Partial, 1));
        let none = RunReport::new(run, 1.0, Vec::new(), nameless, false);
        assert_eq!(none.result, RunResult::Failed);
        assert_eq!(none.only_class(), None);
    }

    #[test]
    fn a_stored_report_holds_no_words_of_a_server() {
        let run: RunId = "20261121T091500Z-3fa9c2d1".parse().expect("an id");
        let words = "permission denied for table salaries";
        let mut failed = target("a", TargetResult::Failed, Some(words));
        failed.hint = Some("GRANT SELECT ON salaries".to_owned());
        failed.notes.push("unlogged: salaries".to_owned());
        let mut report = RunReport::new(run, 1.0, vec![failed], vec!["salaries".to_owned()], false);
        report.findings.push("salaries".to_owned());
        let stored = serde_json::to_string(&report.without_words()).expect("JSON");
        assert!(!stored.contains("salaries"), "{stored}");
        assert!(stored.contains("failed"));
    }
}
