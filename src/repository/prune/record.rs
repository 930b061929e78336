//! What a prune writes down: signed, below `runs/`, before it deletes anything.
//!
//! The record says how many backups each vault is left with. So the next prune can tell a listing from which backups have
//! vanished from one that was pruned, even if this one is killed half-way: more than that may be there, never less.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};

use crate::base::ids::{BackupId, RunId, TargetId};
use crate::repository::marker::FORMAT;
use crate::repository::prune::execute::Deleted;
use crate::repository::prune::{Guard, REPORT_LIFE, VaultPlan, is_of_the_future};
use crate::repository::{Error, Repository, erase, layout, signed};
use crate::store::{self, ObjectKey};

/// The worker's name of the record that is written before.
const BEFORE: &str = "prune";

/// The worker's name of the record that is written after.
const AFTER: &str = "prune-done";

/// What the name of a record that is never removed begins with: what was destroyed for good.
pub const KEPT_FOR_EVER: &str = "erase";

/// So many records that do not verify are passed over.
const RECORDS_TRIED: usize = 50;

/// What is known of a vault from the last prune.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// When that was.
    pub at: DateTime<Utc>,
    /// How many backups it left.
    pub backups_left: usize,
    /// The newest of them.
    pub newest: BackupId,
}

/// `runs/<run id>/prune.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    format: u32,
    run_id: RunId,
    planned_at: DateTime<Utc>,
    forced: Vec<Guard>,
    vaults: Vec<VaultRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct VaultRecord {
    target: TargetId,
    backups_left: usize,
    newest: BackupId,
    /// Objects that go, and their bytes.
    removes: u64,
    bytes: u64,
}

/// What lies below `runs/`, as a pruner sees it.
#[derive(Clone, Debug, Default)]
pub struct Reports {
    /// Reports that are older than they are kept, with their sizes.
    pub old: Vec<(ObjectKey, u64)>,
    /// What the last prune left of each vault.
    pub remembered: BTreeMap<TargetId, Remembered>,
    /// What is wrong with records.
    pub problems: Vec<String>,
}

/// Lists the reports of runs and reads the newest record of a prune.
pub async fn read_reports(repository: &Repository, now: DateTime<Utc>) -> Result<Reports, Error> {
    repository.mac().ok_or(Error::NoKey { action: "pruning" })?;
    let failed = |source| Error::Store { action: "list the run reports", source };
    let mut reports = Reports::default();
    let mut records: BTreeMap<RunId, ObjectKey> = BTreeMap::new();
    let mut erased: BTreeMap<RunId, ObjectKey> = BTreeMap::new();
    let mut listed = repository.store().list(layout::RUNS_PREFIX);
    while let Some(store::ObjectMeta { key, bytes, .. }) = listed.try_next().await.map_err(failed)? {
        let Some((run, worker)) = layout::parse_run_report(&key) else { continue };
        if is_of_the_future(run.started_at(), now) && (worker == BEFORE || worker == erase::BEFORE) {
            reports.problems.push(format!("object {key}: it is dated later than now; it was passed over"));
            continue;
        }
        match worker {
            BEFORE => drop(records.insert(run, key.clone())),
            erase::BEFORE => drop(erased.insert(run, key.clone())),
            _ => {}
        }
        if run.started_at() + REPORT_LIFE < now && !worker.starts_with(KEPT_FOR_EVER) {
            reports.old.push((key, bytes));
        }
    }
    let mut newest: Option<(RunId, Record)> = None;
    for (run, key) in records.iter().rev().take(RECORDS_TRIED) {
        // Runs of one second are told apart by what they say.
        if newest.as_ref().is_some_and(|(known, _)| run.started_at() < known.started_at()) {
            break;
        }
        let bytes = match repository.store().get(key).await {
            Err(error) if error.is_not_found() => continue,
            got => got.map_err(|source| Error::Store { action: "read the record of a prune", source })?,
        };
        match repository.read_record::<Record>(&bytes, key) {
            Ok(record) if is_of_the_future(record.planned_at, now) => {
                reports
                    .problems
                    .push(format!("object {key}: it says that it was written later than now; it was passed over"));
            }
            Ok(record) if newest.as_ref().is_some_and(|(_, known)| record.planned_at < known.planned_at) => {}
            Ok(record) => newest = Some((*run, record)),
            Err(error) => reports.problems.push(format!("object {key}: {error}; it was passed over")),
        }
    }
    if let Some((run, record)) = newest {
        // The last word on what must be there stays, however old.
        reports.old.retain(|(old, _)| Some(old) != records.get(&run));
        reports.remembered = record.remembered();
        let since = RunId::new(run.started_at(), [0; 4]);
        forget_erased(repository, &mut reports, erased.range(since..).map(|(_, key)| key), now).await?;
    }
    Ok(reports)
}

/// A vault that was erased since is not missed.
async fn forget_erased(
    repository: &Repository,
    reports: &mut Reports,
    erased: impl Iterator<Item = &ObjectKey>,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    for key in erased {
        let got = repository.store().get(key).await;
        let bytes = got.map_err(|source| Error::Store { action: "read the record of an erasure", source })?;
        match repository.read_record::<erase::Record>(&bytes, key) {
            Ok(record) if is_of_the_future(record.at, now) => {
                reports
                    .problems
                    .push(format!("object {key}: it says that it was written later than now; it was passed over"));
            }
            Ok(record) => drop(reports.remembered.remove(&record.target)),
            Err(error) => reports.problems.push(format!("object {key}: {error}; it was passed over")),
        }
    }
    Ok(())
}

impl Record {
    fn remembered(self) -> BTreeMap<TargetId, Remembered> {
        let at = self.planned_at;
        let vaults = self.vaults.into_iter();
        vaults
            .map(|VaultRecord { target, backups_left, newest, .. }| (target, Remembered { at, backups_left, newest }))
            .collect()
    }
}

/// Writes down what is about to go. `before` is what was remembered: it stays so for vaults that are not pruned.
pub async fn write_plan(
    repository: &Repository,
    (run, now): (RunId, DateTime<Utc>),
    plans: &[VaultPlan],
    before: &BTreeMap<TargetId, Remembered>,
    forced: &std::collections::BTreeSet<Guard>,
) -> Result<(), Error> {
    let vault = |plan: &VaultPlan| {
        let (at, backups_left) = (now, plan.backups_left);
        let remembered = match plan.is_refused() {
            true => before.get(&plan.target).copied(),
            false => plan.newest.map(|newest| Remembered { at, backups_left, newest }),
        }?;
        let Remembered { backups_left, newest, .. } = remembered;
        let removes = plan.granted().len() as u64;
        Some(VaultRecord { target: plan.target.clone(), backups_left, newest, removes, bytes: plan.bytes() })
    };
    let record = Record {
        format: FORMAT,
        run_id: run,
        planned_at: now,
        forced: forced.iter().copied().collect(),
        vaults: plans.iter().filter_map(vault).collect(),
    };
    put(repository, run, BEFORE, &record).await
}

/// Writes down what was deleted.
pub async fn write_done(repository: &Repository, run: RunId, deleted: &Deleted) -> Result<(), Error> {
    put(repository, run, AFTER, deleted).await
}

async fn put<T: Serialize>(repository: &Repository, run: RunId, worker: &str, record: &T) -> Result<(), Error> {
    let mac = repository.mac().ok_or(Error::NoKey { action: "pruning" })?;
    let key = layout::run_report(&run, worker);
    let body = Bytes::from(signed::write(record, &key, &mac));
    let put = repository.store().put(&key, body).await;
    put.map_err(|source| Error::Store { action: "write down what is about to be deleted", source })
}
