//! The verification job: every selected vault, on one rung.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::base::ids::TargetId;
use crate::job::{Context, Error, checkpoint};
use crate::repository::checkpoint::{Alarm, Checkpoint};
use crate::repository::reports::verify_reports;
use crate::repository::verify::{Finding, Rung, VaultReport, verify};

/// What is verified.
#[derive(Clone, Debug)]
pub struct Request {
    /// One target, or `None` for all that the repository has.
    pub target: Option<TargetId>,
    /// How much is read.
    pub rung: Rung,
    /// The text of a checkpoint, to compare with.
    pub checkpoint: Option<String>,
}

/// What was found in the repository.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `ok` or `damaged`.
    pub result: &'static str,
    /// How much was read.
    pub rung: &'static str,
    /// What was found in each vault.
    pub vaults: Vec<VaultReport>,
    /// What is wrong outside of the vaults: run reports, which no restore needs.
    pub findings: Vec<Finding>,
    /// Folders that are no vaults of ours.
    pub unknown_folders: Vec<String>,
    /// What came of comparing with a checkpoint.
    pub checkpoint: Option<Compared>,
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
}

/// Verifies the vault of a target, or all. Damage is in the report; only a store that fails is an error.
pub async fn run(context: &Context, request: &Request) -> Result<Report, Error> {
    let (rung, target) = (request.rung, request.target.as_ref());
    let repository = context.open_repository().await?;
    let identities = if rung == Rung::Data { context.identities().await? } else { Vec::new() };
    let seen = request.checkpoint.as_deref().map(|text| checkpoint::read(text, &repository)).transpose()?;
    let (mut targets, unknown_folders) = repository.vaults().await?;
    let wanted = |known: &TargetId| target.is_none_or(|target| known == target);
    targets.retain(wanted);
    let now = context.clock.now();
    let mut compared = seen.as_ref().map(|seen| {
        let lost = checkpoint::without_vault(seen, &targets).into_iter().filter(wanted);
        let alarms = lost.flat_map(|target| seen.compare(&target, &[], now)).collect();
        Compared { taken_at: seen.taken_at, backups: named(seen, target), alarms }
    });
    if targets.is_empty() && compared.as_ref().is_none_or(|compared| compared.alarms.is_empty()) {
        let what = target.map_or("the repository holds no vault".to_owned(), |target| format!("{target} has no vault"));
        return Err(Error::NothingSelected { what });
    }
    let mut vaults = Vec::new();
    for target in targets {
        if context.stop.is_cancelled() {
            return Err(Error::Stopped);
        }
        context.monitor.target_begins(&target, 0);
        let mut report = verify(&repository.vault(&target), rung, &identities).await?;
        let genuine = std::mem::take(&mut report.genuine);
        if let (Some(seen), Some(compared)) = (&seen, &mut compared) {
            compared.alarms.extend(seen.compare(&target, &genuine, now));
        }
        context.monitor.target_ends(&target, if report.findings.is_empty() { "ok" } else { "failed" });
        vaults.push(report);
    }
    let findings = match (rung, target) {
        (Rung::Presence, _) | (_, Some(_)) => Vec::new(),
        (_, None) => verify_reports(&repository).await?,
    };
    let all = vaults.iter().flat_map(|vault| &vault.findings).chain(&findings).count();
    let alarms = compared.as_ref().map_or(0, |compared| compared.alarms.len());
    let whole = all + alarms == 0 && unknown_folders.is_empty();
    let rung = match rung {
        Rung::Presence => "presence",
        Rung::Packs => "packs",
        Rung::Data => "data",
    };
    let result = if whole { "ok" } else { "damaged" };
    Ok(Report { result, rung, vaults, findings, unknown_folders, checkpoint: compared })
}

/// How many backups a checkpoint names, of a target or of all.
fn named(seen: &Checkpoint, target: Option<&TargetId>) -> usize {
    target.map_or_else(|| seen.count(), |target| seen.backups(target).count())
}
