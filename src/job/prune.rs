//! The prune job: surveys every vault, plans, and deletes. It shows the plan before it deletes anything, and asks no database.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use serde::Serialize;

use crate::base::ids::{RunId, TargetId};
use crate::job::{Context, Error};
use crate::repository::Repository;
use crate::repository::prune::execute::{self, Deleted};
use crate::repository::prune::plan::plan as plan_vault;
use crate::repository::prune::record::{Remembered, read_reports, write_done, write_plan};
use crate::repository::prune::survey::survey;
use crate::repository::prune::{Guard, Policy, Refusal, VaultPlan, clock_refusal, cutoff};
use crate::store::LockState;

/// Vaults that are looked at at once.
const VAULTS_AT_ONCE: usize = 16;

/// What is said of a bucket with versions and without locks.
const KEPT_VERSIONS: &str = "the bucket keeps older versions: what goes still takes room until a lifecycle rule for noncurrent \
                             versions takes it, or at once with --all-versions";

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// Guards that are overruled.
    pub forced: BTreeSet<Guard>,
    /// The most of a vault's backups that go at once, in percent.
    pub max_share_percent: u32,
    /// True if older versions of what goes are deleted too, where the bucket keeps them. In one that locks objects they always are.
    pub all_versions: bool,
}

/// What would go, and why.
#[derive(Debug, Serialize)]
pub struct Plan {
    /// The run that it belongs to.
    pub run_id: RunId,
    /// What expired at this time or before goes.
    pub cutoff: DateTime<Utc>,
    /// What holds everything back.
    pub refusals: Vec<Refusal>,
    /// What becomes of each vault.
    pub vaults: Vec<VaultPlan>,
    /// Run reports that go.
    pub reports: Vec<String>,
    /// What an operator should know.
    pub notes: Vec<String>,
    #[serde(skip)]
    old_reports: Vec<(crate::store::ObjectKey, u64)>,
    #[serde(skip)]
    remembered: BTreeMap<TargetId, Remembered>,
    #[serde(skip)]
    forced: BTreeSet<Guard>,
    #[serde(skip)]
    all_versions: bool,
    #[serde(skip)]
    repository: Repository,
}

impl Plan {
    /// True if nothing at all may go.
    pub fn is_refused(&self) -> bool {
        self.refusals.iter().any(|refusal| !refusal.forced)
    }

    /// The guards that hold something back.
    pub fn guards(&self) -> BTreeSet<Guard> {
        let vaults = self.vaults.iter().flat_map(|vault| &vault.refusals);
        self.refusals.iter().chain(vaults).filter(|refusal| !refusal.forced).map(|refusal| refusal.guard).collect()
    }

    /// Objects that go, and their bytes.
    pub fn totals(&self) -> (u64, u64) {
        let vaults = self.vaults.iter().map(|vault| (vault.granted().len() as u64, vault.bytes()));
        let reports = self.old_reports.iter().map(|(_, bytes)| (1, *bytes));
        vaults.chain(reports).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }
}

/// Looks at everything and decides. Changes nothing.
pub async fn plan(context: &Context, request: &Request) -> Result<Plan, Error> {
    let repository = context.open_repository().await?;
    let (ours, stores) = (context.clock.now(), repository.store().now().await?);
    let policy = Policy {
        keep_last: context.config.retention.keep_last as usize,
        max_share_percent: request.max_share_percent,
        forced: request.forced.clone(),
        versions: request.all_versions || repository.store().lock_state().await? != LockState::NotAsked,
    };
    let keeps_versions = !policy.versions && repository.store().keeps_versions().await?;
    let times = (ours, cutoff(ours, stores));
    let reports = read_reports(&repository, times.1).await?;
    let (mut targets, strangers) = repository.vaults().await?;
    // A vault that was there and is not listed any more is told, not forgotten.
    targets.extend(reports.remembered.keys().cloned());
    targets.sort();
    targets.dedup();
    if targets.is_empty() {
        return Err(Error::NothingSelected { what: "the repository holds no vault".to_owned() });
    }
    context.monitor.run_begins(targets.len());
    let mut remembered = reports.remembered;
    let mut vaults = survey_all(context, &repository, targets, &policy, (times, &remembered)).await?;
    let suspects: Vec<TargetId> =
        vaults.iter().filter(|vault| lacks_backups(vault)).map(|v| v.target.clone()).collect();
    if !suspects.is_empty() {
        // Another pruner may have been at work since its record was looked for.
        remembered = read_reports(&repository, times.1).await?.remembered;
        let again = survey_all(context, &repository, suspects, &policy, (times, &remembered)).await?;
        vaults.retain(|vault| !again.iter().any(|new| new.target == vault.target));
        vaults.extend(again);
        vaults.sort_by(|a, b| a.target.cmp(&b.target));
    }
    let strangers =
        strangers.into_iter().map(|folder| format!("{folder} is no vault of ours: nothing in it is touched"));
    Ok(Plan {
        run_id: context.new_run(),
        cutoff: times.1,
        refusals: clock_refusal(ours, stores, &policy).into_iter().collect(),
        vaults,
        reports: reports.old.iter().map(|(key, _)| key.to_string()).collect(),
        notes: reports
            .problems
            .into_iter()
            .chain(strangers)
            .chain(keeps_versions.then(|| KEPT_VERSIONS.to_owned()))
            .collect(),
        old_reports: reports.old,
        remembered,
        forced: request.forced.clone(),
        all_versions: policy.versions,
        repository,
    })
}

fn lacks_backups(vault: &VaultPlan) -> bool {
    vault.refusals.iter().any(|refusal| refusal.guard == Guard::Shrunken)
}

/// When it is, and what has expired before it is deleted.
type Times = (DateTime<Utc>, DateTime<Utc>);

async fn survey_all(
    context: &Context,
    repository: &Repository,
    targets: Vec<TargetId>,
    policy: &Policy,
    (times, remembered): (Times, &BTreeMap<TargetId, Remembered>),
) -> Result<Vec<VaultPlan>, Error> {
    let surveys = targets.into_iter().map(|target| async move {
        if context.stop.is_cancelled() {
            return Err(Error::Stopped);
        }
        let (vault, last) = (repository.vault(&target), remembered.get(&target).copied());
        let seen = survey(&vault, policy.keep_last, times, last).await?;
        Ok(plan_vault(&seen, policy, times.1))
    });
    futures::stream::iter(surveys).buffered(VAULTS_AT_ONCE).try_collect().await
}

/// Writes down what is about to go, deletes it, and writes down what went.
pub async fn execute(context: &Context, plan: &Plan) -> Result<Deleted, Error> {
    if plan.is_refused() {
        return Ok(Deleted::default());
    }
    let Plan { repository, run_id, vaults, remembered, forced, old_reports, all_versions, .. } = plan;
    write_plan(repository, (*run_id, context.clock.now()), vaults, remembered, forced).await?;
    let deleted = execute::execute(repository, vaults, old_reports, *all_versions, &context.stop).await?;
    write_done(repository, *run_id, &deleted).await?;
    Ok(deleted)
}
