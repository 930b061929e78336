//! The jobs on keys: to whom every vault is sealed, sealing them to others, and beginning new epochs.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::base::ids::{EpochId, TargetId};
use crate::codec::seal::{Identity, Recipient};
use crate::job::{Context, Error, chain};
use crate::repository;
use crate::repository::reseal::{Resealed, VaultKeysFacts};
use crate::repository::vault::Vault;
use crate::run::fan_out::fan_out;

/// Vaults that are worked on at once, three to six small requests each.
pub(super) const VAULTS_AT_ONCE: usize = 16;

/// To whom the vaults are sealed.
#[derive(Clone, Debug, Serialize)]
pub struct Keys {
    /// The configured recovery recipients.
    pub configured: Vec<String>,
    /// For each recipient, how many vaults it opens completely: all their epochs.
    pub opens: BTreeMap<String, usize>,
    /// Each vault.
    pub vaults: Vec<VaultKeysFacts>,
    /// Vaults of which an epoch is not sealed to exactly those whom the configuration names.
    pub differ: Vec<TargetId>,
    /// What could not be read: one sentence each.
    pub problems: Vec<String>,
}

/// What sealing anew did.
#[derive(Clone, Debug, Serialize)]
pub struct ResealReport {
    /// `ok` or `partial`.
    pub result: &'static str,
    /// The recipients that all epochs are sealed to now, apart from tenants' own.
    pub recipients: Vec<String>,
    /// Each vault.
    pub vaults: Vec<Resealed>,
    /// What failed: one sentence each.
    pub failures: Vec<String>,
}

/// What beginning new epochs did.
#[derive(Clone, Debug, Serialize)]
pub struct RotateReport {
    /// `ok` or `partial`.
    pub result: &'static str,
    /// The new epoch of each vault.
    pub vaults: Vec<Rotated>,
    /// What failed: one sentence each.
    pub failures: Vec<String>,
}

/// A vault with a new epoch.
#[derive(Clone, Debug, Serialize)]
pub struct Rotated {
    /// Whose vault.
    pub target: TargetId,
    /// The epoch that its next backup is sealed to.
    pub epoch: EpochId,
    /// To whom its secret is sealed.
    pub sealed_to: Vec<String>,
}

/// Reads to whom the vault of `target`, or every vault, is sealed; needs no identity.
pub async fn list(context: &Context, target: Option<&TargetId>) -> Result<Keys, Error> {
    let vaults = selected(context, target).await?;
    let (facts, problems) = on_each(context, vaults, |vault| async move { vault.key_facts().await }).await?;
    let recovery = &context.config.encryption.recipients;
    let mut keys = Keys {
        configured: recovery.iter().map(ToString::to_string).collect(),
        opens: recovery.iter().map(|recipient| (recipient.to_string(), 0)).collect(),
        vaults: facts,
        differ: Vec::new(),
        problems,
    };
    for vault in &keys.vaults {
        let own = context.config.own_recipient(&vault.target).map(ToString::to_string);
        let mut wanted: Vec<&String> = keys.configured.iter().chain(&own).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let is_wanted = |sealed_to: &Vec<String>| {
            let mut sealed_to: Vec<&String> = sealed_to.iter().collect();
            sealed_to.sort_unstable();
            sealed_to == wanted
        };
        if !vault.epochs.iter().all(|epoch| is_wanted(&epoch.sealed_to)) {
            keys.differ.push(vault.target.clone());
        }
        let Some(newest) = vault.epochs.last() else { continue };
        for recipient in newest.sealed_to.iter() {
            let all = vault.epochs.iter().all(|epoch| epoch.sealed_to.contains(recipient));
            *keys.opens.entry(recipient.clone()).or_insert(0) += usize::from(all);
        }
        keys.problems.extend(vault.problems.iter().cloned());
    }
    Ok(keys)
}

/// Seals every epoch of the selected vaults to the configured recipients, and to nobody else.
///
/// What is sealed to them already is left alone, so an interrupted job goes on where it stopped.
pub async fn reseal(context: &Context, target: Option<&TargetId>) -> Result<ResealReport, Error> {
    let vaults = selected(context, target).await?;
    let identities: Arc<[Identity]> = context.identities().await?.into();
    let recovery: Arc<[Recipient]> = context.config.encryption.recipients.clone().into();
    let recipients = recovery.iter().map(ToString::to_string).collect();
    let work = |vault: Vault| {
        let (identities, recovery) = (Arc::clone(&identities), Arc::clone(&recovery));
        async move { vault.reseal(&recovery, &identities).await }
    };
    let (vaults, mut failures) = on_each(context, vaults, work).await?;
    let told = vaults.iter().flat_map(|vault| vault.problems.iter().map(|what| format!("{}: {what}", vault.target)));
    failures.extend(told);
    Ok(ResealReport { result: result(&failures), recipients, vaults, failures })
}

/// Begins a new epoch in each selected vault; needs no identity.
pub async fn rotate(context: &Context, target: Option<&TargetId>) -> Result<RotateReport, Error> {
    let vaults = selected(context, target).await?;
    let work = |vault: Vault| {
        let context = context.clone();
        async move {
            let (now, recovery) = (context.clock.now(), &context.config.encryption.recipients);
            let epoch = vault.rotate(recovery, now, context.entropy.as_ref()).await?;
            let target = vault.target().clone();
            Ok::<_, repository::Error>(epoch.map(|epoch| Rotated {
                target,
                epoch: epoch.id,
                sealed_to: epoch.sealed_to,
            }))
        }
    };
    let (vaults, failures) = on_each(context, vaults, work).await?;
    Ok(RotateReport { result: result(&failures), vaults: vaults.into_iter().flatten().collect(), failures })
}

fn result(failures: &[String]) -> &'static str {
    if failures.is_empty() { "ok" } else { "partial" }
}

/// The vault of `target`, or all of them, each with its tenant's own recipient.
async fn selected(context: &Context, target: Option<&TargetId>) -> Result<Vec<Vault>, Error> {
    let repository = context.open_repository().await?;
    let (mut targets, _) = repository.vaults().await?;
    targets.retain(|known| target.is_none_or(|target| target == known));
    if targets.is_empty() {
        let what = target.map_or("the repository holds no vault".to_owned(), |target| format!("{target} has no vault"));
        return Err(Error::NothingSelected { what });
    }
    let own = |target: &TargetId| context.config.own_recipient(target).cloned();
    Ok(targets.iter().map(|target| repository.vault(target).with_own_recipient(own(target))).collect())
}

/// Does `work` on each vault; what fails for one is told and stops no other. If all fail, the first failure is the error.
async fn on_each<T, F, W>(context: &Context, vaults: Vec<Vault>, work: W) -> Result<(Vec<T>, Vec<String>), Error>
where
    T: Send + 'static,
    F: Future<Output = Result<T, repository::Error>> + Send + 'static,
    W: Fn(Vault) -> F,
{
    let monitor = &context.monitor;
    monitor.run_begins(vaults.len());
    let names: Vec<TargetId> = vaults.iter().map(|vault| vault.target().clone()).collect();
    let results = fan_out(vaults, VAULTS_AT_ONCE, &context.stop, work).await;
    let (mut done, mut failures, mut first) = (Vec::new(), Vec::new(), None);
    for (result, target) in results.into_iter().zip(names) {
        match result {
            None => return Err(Error::Stopped),
            Some(Ok(good)) => done.push(good),
            Some(Err(error)) => {
                failures.push(format!("{target}: {}", chain(&error)));
                first = first.or(Some(error));
            }
        }
    }
    match first {
        Some(error) if done.is_empty() => Err(error.into()),
        _ => Ok((done, failures)),
    }
}
