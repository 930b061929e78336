//! The verification job: every selected vault, on one rung.

use serde::Serialize;

use crate::base::ids::TargetId;
use crate::job::{Context, Error};
use crate::repository::reports::verify_reports;
use crate::repository::verify::{Finding, Rung, VaultReport, verify};

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
}

/// Verifies the vault of `target`, or all. Damage is in the report; only a store that fails is an error.
pub async fn run(context: &Context, target: Option<&TargetId>, rung: Rung) -> Result<Report, Error> {
    let repository = context.open_repository().await?;
    let identities = if rung == Rung::Data { context.identities().await? } else { Vec::new() };
    let (mut targets, unknown_folders) = repository.vaults().await?;
    if let Some(target) = target {
        targets.retain(|known| known == target);
    }
    if targets.is_empty() {
        let what = target.map_or("the repository holds no vault".to_owned(), |target| format!("{target} has no vault"));
        return Err(Error::NothingSelected { what });
    }
    let mut vaults = Vec::new();
    for target in targets {
        if context.stop.is_cancelled() {
            return Err(Error::Stopped);
        }
        context.monitor.target_begins(&target, 0);
        let report = verify(&repository.vault(&target), rung, &identities).await?;
        context.monitor.target_ends(&target, if report.findings.is_empty() { "ok" } else { "failed" });
        vaults.push(report);
    }
    let findings = match (rung, target) {
        (Rung::Presence, _) | (_, Some(_)) => Vec::new(),
        (_, None) => verify_reports(&repository).await?,
    };
    let all = vaults.iter().flat_map(|vault| &vault.findings).chain(&findings).count();
    let whole = all == 0 && unknown_folders.is_empty();
    let rung = match rung {
        Rung::Presence => "presence",
        Rung::Packs => "packs",
        Rung::Data => "data",
    };
    Ok(Report { result: if whole { "ok" } else { "damaged" }, rung, vaults, findings, unknown_folders })
}
