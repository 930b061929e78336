//! The verification job: every selected vault, or as many as the time allows, on one rung; each leaves a signed proof record.
//!
//! Where not everything is read, what was proven longest ago comes first, so that the next run goes on where this one stopped.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::base::ids::{RunId, TargetId};
use crate::base::units::Share;
use crate::codec::seal::Identity;
use crate::job::{Context, Error, chain, checkpoint};
use crate::repository::Repository;
use crate::repository::checkpoint::{Alarm, Checkpoint, erased_since};
use crate::repository::marker::FORMAT;
use crate::repository::proof::{Keep, Proof, next_time};
use crate::repository::reports::verify_reports;
use crate::repository::verify::{Finding, Rung, Task, VaultReport, verify_some};

/// Vaults whose records are read at once, to put them in order.
const RECORDS_AT_ONCE: usize = 16;

/// Vaults of which markers are read at once. Packs are large: the higher rungs take one vault after the other.
const VAULTS_AT_ONCE: usize = 8;

/// After so many packs (16 GiB) of one vault what was proven is recorded, so that a kill costs no more than that.
const PACKS_BETWEEN_RECORDS: usize = 1024;

/// What is verified.
#[derive(Clone, Debug)]
pub struct Request {
    /// One target, or `None` for all that the repository has.
    pub target: Option<TargetId>,
    /// How much is read.
    pub rung: Rung,
    /// Which share of each vault's packs; on the lowest rung, which share of the vaults.
    pub share: Share,
    /// No vault or pack is begun after this time.
    pub max_duration: Option<Duration>,
    /// What was proven within this time is left out.
    pub older_than: Option<Duration>,
    /// Whether proof records are stored.
    pub record: bool,
    /// The text of a checkpoint, to compare with.
    pub checkpoint: Option<String>,
}

impl Request {
    fn is_whole(&self) -> bool {
        self.share == Share::ALL && self.max_duration.is_none() && self.older_than.is_none()
    }
}

/// What was found in the repository.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The run.
    pub run_id: RunId,
    /// `ok` or `damaged`.
    pub result: &'static str,
    /// How much was read.
    pub rung: Rung,
    /// False where the time was over, or a signal came, before all that was asked for was read.
    pub complete: bool,
    /// Vaults that were not begun.
    pub left: usize,
    /// What was found in each vault.
    pub vaults: Vec<VaultReport>,
    /// What is wrong outside of the vaults: run reports, which no restore needs.
    pub findings: Vec<Finding>,
    /// Folders that are no vaults of ours.
    pub unknown_folders: Vec<String>,
    /// What came of comparing with a checkpoint.
    pub checkpoint: Option<Compared>,
    /// Proofs that could not be recorded, and records that do not verify.
    pub unrecorded: Vec<String>,
}

/// The repository compared with a checkpoint.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// When the checkpoint was taken.
    pub taken_at: DateTime<Utc>,
    /// Backups that it names.
    pub backups: usize,
    /// What was hidden, removed or rolled back.
    pub alarms: Vec<Alarm>,
    /// Targets that were erased since, by a signed record: what is missing of them is no alarm.
    pub erased: BTreeSet<TargetId>,
}

impl Compared {
    /// Takes back the alarms of targets that were erased on purpose.
    async fn excuse_erased(&mut self, repository: &Repository, now: DateTime<Utc>) -> Result<(), Error> {
        if self.alarms.is_empty() {
            return Ok(());
        }
        let missed: BTreeSet<TargetId> = self.alarms.iter().map(|alarm| alarm.target.clone()).collect();
        let erasures = erased_since(repository, (self.taken_at, now)).await?;
        self.erased = missed.into_iter().filter(|target| erasures.contains_key(target)).collect();
        let excused = |alarm: &Alarm| erasures.get(&alarm.target).is_some_and(|it| alarm.backup.created_at() <= it.at);
        self.alarms.retain(|alarm| !excused(alarm));
        Ok(())
    }
}

/// One run over many vaults.
struct Run<'a> {
    context: &'a Context,
    request: &'a Request,
    repository: Repository,
    identities: Vec<Identity>,
    id: RunId,
    enough: CancellationToken,
}

/// Verifies the vault of a target, or all. Damage is in the report; only a store that fails is an error.
///
/// After a signal no further pack is read, and what was proven until then is recorded.
pub async fn run(context: &Context, request: &Request) -> Result<Report, Error> {
    let target = request.target.as_ref();
    let repository = context.open_repository().await?;
    let identities = if request.rung == Rung::Data { context.identities().await? } else { Vec::new() };
    let seen = request.checkpoint.as_deref().map(|text| checkpoint::read(text, &repository)).transpose()?;
    let (mut targets, unknown_folders) = repository.vaults().await?;
    let wanted = |known: &TargetId| target.is_none_or(|target| known == target);
    targets.retain(wanted);
    let now = context.clock.now();
    let mut compared = seen.as_ref().map(|seen| {
        let lost = checkpoint::without_vault(seen, &targets).into_iter().filter(wanted);
        let alarms = lost.flat_map(|target| seen.compare(&target, &[], now)).collect();
        Compared { taken_at: seen.taken_at, backups: named(seen, target), alarms, erased: BTreeSet::new() }
    });
    if targets.is_empty() && compared.as_ref().is_none_or(|compared| compared.alarms.is_empty()) {
        let what = target.map_or("the repository holds no vault".to_owned(), |target| format!("{target} has no vault"));
        return Err(Error::NothingSelected { what });
    }
    let enough = context.stop.child_token();
    let timer = request.max_duration.map(|limit| tokio::spawn(end_after(limit, enough.clone())));
    if request.max_duration.is_some_and(|limit| limit.is_zero()) {
        enough.cancel(); // The timer would come second to the first vault.
    }
    let run = Run { context, request, repository, identities, id: context.new_run(), enough };
    let verified = run.vaults(targets).await;
    if let Some(timer) = timer {
        timer.abort();
    }
    let Verified { mut vaults, left, unrecorded } = verified?;
    if let (Some(seen), Some(compared)) = (&seen, &mut compared) {
        let alarms = vaults.iter().flat_map(|vault| seen.compare(&vault.target, &vault.genuine, now));
        compared.alarms.extend(alarms.collect::<Vec<_>>());
        compared.excuse_erased(&run.repository, now).await?;
    }
    vaults.sort_by(|a, b| a.target.cmp(&b.target));
    let findings = match request.rung > Rung::Presence && target.is_none() && request.is_whole() {
        true => verify_reports(&run.repository).await?,
        false => Vec::new(),
    };
    let all = vaults.iter().flat_map(|vault| &vault.findings).chain(&findings).count();
    let alarms = compared.as_ref().map_or(0, |compared| compared.alarms.len());
    let result = if all + alarms == 0 && unknown_folders.is_empty() { "ok" } else { "damaged" };
    let complete = left == 0 && vaults.iter().all(|vault| vault.coverage.complete);
    let (run_id, rung) = (run.id, request.rung);
    let checkpoint = compared;
    Ok(Report { run_id, result, rung, complete, left, vaults, findings, unknown_folders, checkpoint, unrecorded })
}

async fn end_after(limit: Duration, enough: CancellationToken) {
    tokio::time::sleep(limit).await;
    enough.cancel();
}

struct Verified {
    vaults: Vec<VaultReport>,
    left: usize,
    unrecorded: Vec<String>,
}

impl Run<'_> {
    async fn vaults(&self, targets: Vec<TargetId>) -> Result<Verified, Error> {
        let mut unrecorded = Vec::new();
        let targets = self.in_order(targets, &mut unrecorded).await?;
        self.context.monitor.run_begins(targets.len());
        let width = if self.request.rung == Rung::Presence { VAULTS_AT_ONCE } else { 1 };
        let count = targets.len();
        let mut done = futures::stream::iter(targets).map(|target| self.vault(target)).buffered(width);
        let mut vaults = Vec::new();
        while let Some(one) = done.next().await {
            if let Some((report, problem)) = one? {
                vaults.push(report);
                unrecorded.extend(problem);
            }
        }
        Ok(Verified { left: count - vaults.len(), vaults, unrecorded })
    }

    /// One vault, and why its proof could not be recorded; `None` if the time was over.
    async fn vault(&self, target: TargetId) -> Result<Option<(VaultReport, Option<String>)>, Error> {
        if self.enough.is_cancelled() {
            return Ok(None);
        }
        let (context, request) = (self.context, self.request);
        context.monitor.target_begins(&target, 0);
        let (vault, now) = (self.repository.vault(&target), context.clock.now());
        let age = request.older_than.and_then(|age| TimeDelta::from_std(age).ok());
        let task = Task {
            rung: request.rung,
            identities: &self.identities,
            share: if request.rung == Rung::Presence { Share::ALL } else { request.share },
            older_than: age.map(|age| now - age),
            now,
            monitor: context.monitor.as_ref(),
            enough: &self.enough,
            keep: request.record.then_some((PACKS_BETWEEN_RECORDS, self as &dyn Keep)),
        };
        let report = verify_some(&vault, &task).await?;
        let is_new = 0 < report.backups
            && (request.rung == Rung::Presence || report.coverage.packs_read > 0 || report.coverage.packs == 0);
        let mut problem = None;
        if request.record && is_new {
            problem = self.record(&report).await.err().map(|error| unrecorded(&target, &error));
        }
        context.monitor.target_ends(&target, if report.findings.is_empty() { "ok" } else { "failed" });
        Ok(Some((report, problem)))
    }

    async fn record(&self, report: &VaultReport) -> Result<DateTime<Utc>, Error> {
        let proof = Proof {
            format: FORMAT,
            vault: report.target.clone(),
            run_id: self.id,
            rung: self.request.rung,
            proven_at: next_time(self.context.clock.now(), report.coverage.recorded_at),
            whole: report.findings.is_empty(),
            backups: report.backups,
            newest_whole: report.newest_whole,
            packs: report.coverage.packs,
            read_at: report.coverage.read_at.clone(),
            drill: None,
        };
        self.repository.vault(&report.target).put_proof(&proof, self.context.entropy.tail()).await?;
        Ok(proof.proven_at)
    }

    /// What was proven longest ago first, and only the share that is wanted; only where that matters are records read.
    async fn in_order(&self, targets: Vec<TargetId>, problems: &mut Vec<String>) -> Result<Vec<TargetId>, Error> {
        let request = self.request;
        let sampled = request.rung == Rung::Presence && request.share != Share::ALL;
        let skips = request.rung == Rung::Presence && request.older_than.is_some();
        if request.max_duration.is_none() && !sampled && !skips {
            return Ok(targets);
        }
        let reads = futures::stream::iter(targets).map(|target| async move {
            let (vault, mut problems) = (self.repository.vault(&target), Vec::new());
            let rungs: Vec<Rung> =
                [Rung::Presence, Rung::Packs, Rung::Data].into_iter().filter(|r| *r >= request.rung).collect();
            let last = vault.last_proof(&vault.proofs().await?, &rungs, &mut problems).await?;
            Ok::<_, Error>((last.map(|proof| proof.last()), target, problems))
        });
        let mut reads = reads.buffered(RECORDS_AT_ONCE);
        let mut order = Vec::new();
        while let Some(read) = reads.next().await {
            let (last, target, bad) = read?;
            problems.extend(bad.into_iter().map(|problem| format!("{target}: {problem}; its proof counts as none")));
            let at = match last {
                // What a run could not finish is finished first; samples go round.
                Some(last) if request.share == Share::ALL && last.result == "partial" => None,
                Some(last) if request.share == Share::ALL => Some(last.oldest_at.unwrap_or(last.at)),
                Some(last) => Some(last.at),
                None => None,
            };
            order.push((at, target));
        }
        order.sort();
        if skips && let Some(age) = request.older_than.and_then(|age| TimeDelta::from_std(age).ok()) {
            let limit = self.context.clock.now() - age;
            order.retain(|(at, _)| at.is_none_or(|at| at < limit));
        }
        let count = if sampled { request.share.of(order.len()) } else { order.len() };
        Ok(order.into_iter().take(count).map(|(_, target)| target).collect())
    }
}

#[async_trait]
impl Keep for Run<'_> {
    /// What cannot be recorded now is told when the last record of the vault cannot be either.
    async fn keep(&self, report: &VaultReport) -> Option<DateTime<Utc>> {
        self.record(report).await.ok()
    }
}

fn unrecorded(target: &TargetId, error: &Error) -> String {
    format!("{target}: the proof was not recorded: {}", chain(error))
}

/// How many backups a checkpoint names, of a target or of all.
fn named(seen: &Checkpoint, target: Option<&TargetId>) -> usize {
    target.map_or_else(|| seen.count(), |target| seen.backups(target).count())
}
