//! The job that replaces the repository key: begins, has every vault vouched for, and finishes.
//!
//! It needs the new key and, unless that is lost, the former one; no identity. An interrupted job goes on where it stopped: what
//! is vouched for already is not read again.

use std::sync::Arc;

use serde::Serialize;

use crate::base::ids::TargetId;
use crate::base::repository_key::RepositoryKey;
use crate::job::keys::VAULTS_AT_ONCE;
use crate::job::{Context, Error, chain};
use crate::repository;
use crate::repository::rotation::{Begun, Former, Rotation, begin};
use crate::repository::vouch::VouchedVault;
use crate::run::fan_out::fan_out;

/// A writer that was under way when the key was retired ends within so many passes, or it is told.
const MAX_PASSES: usize = 3;

/// So many documents that do not verify are told one by one.
const MAX_TOLD: usize = 1000;

/// Where the former key is.
pub enum FormerKey {
    /// In the configuration.
    Configured,
    /// Here.
    Given(RepositoryKey),
    /// Nowhere: what is there is believed.
    Lost,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `ok`; `unchanged` if the key was the repository's already; `partial` if it must be run again.
    pub result: &'static str,
    /// The name of the new key.
    pub key: String,
    /// True if nothing could be proven, since the former key is lost.
    pub former_lost: bool,
    /// Vaults of the repository.
    pub vaults: usize,
    /// Documents that the new key vouches for.
    pub documents: usize,
    /// Of them, those that it vouches for since this run.
    pub added: usize,
    /// Documents that do not verify, and that nobody vouches for: one sentence each, of at most 1,000.
    pub refused: Vec<String>,
    /// What failed: one sentence each.
    pub failures: Vec<String>,
}

/// Makes `new` the key of the repository.
pub async fn replace_key(context: &Context, new: &RepositoryKey, former: FormerKey) -> Result<Report, Error> {
    let store = context.open_store().await?;
    let configured = match &former {
        FormerKey::Configured => Some(context.config.repository_key(&context.environment).await?),
        FormerKey::Given(_) | FormerKey::Lost => None,
    };
    let old = match (&former, &configured) {
        (FormerKey::Given(key), _) | (_, Some(key)) => Former::Known(key.bytes()),
        _ => Former::Lost,
    };
    let begun = begin(store, old, new.bytes(), (context.clock.now(), context.entropy.as_ref())).await?;
    let mut report = Report {
        result: "unchanged",
        key: String::new(),
        former_lost: matches!(old, Former::Lost),
        vaults: 0,
        documents: 0,
        added: 0,
        refused: Vec::new(),
        failures: Vec::new(),
    };
    let name = |repository: &repository::Repository| repository.key_id().map(|id| id.to_string()).unwrap_or_default();
    let rotation = match begun {
        Begun::Done(repository) => {
            report.key = name(&repository);
            return Ok(report);
        }
        Begun::Rotation(rotation) => Arc::new(rotation),
    };
    (report.result, report.key) = ("partial", name(&rotation.renewed));
    for pass in 1..=MAX_PASSES {
        let (added, needed_until) = vouch_for_all(context, &rotation, &mut report).await?;
        if !report.failures.is_empty() {
            return Ok(report);
        }
        if added == 0 {
            let rotation = Arc::unwrap_or_clone(rotation);
            rotation.finish((context.clock.now(), context.entropy.as_ref()), needed_until).await?;
            report.result = "ok";
            return Ok(report);
        }
        if pass == MAX_PASSES {
            let what = "a job with the former key goes on storing backups: stop it first";
            report.failures.push(what.to_owned());
        }
    }
    Ok(report)
}

/// One pass over all vaults: how many documents it added, and until when the last backup needs what vouches for it.
async fn vouch_for_all(
    context: &Context,
    rotation: &Arc<Rotation>,
    report: &mut Report,
) -> Result<(usize, Option<chrono::DateTime<chrono::Utc>>), Error> {
    let (targets, _) = rotation.renewed.vaults().await?;
    context.monitor.run_begins(targets.len());
    let work = |target: TargetId| {
        let (context, rotation) = (context.clone(), Arc::clone(rotation));
        async move {
            let time = (context.clock.now(), context.entropy.as_ref());
            let (former, renewed) = (rotation.former.vault(&target), rotation.renewed.vault(&target));
            (renewed.vouch_for(&former, rotation.id(), time).await, target)
        }
    };
    (report.vaults, report.documents, report.refused) = (targets.len(), 0, Vec::new());
    let (mut sum, mut needed_until) = (0, None);
    for result in fan_out(targets, VAULTS_AT_ONCE, &context.stop, work).await {
        let Some((done, target)) = result else { return Err(Error::Stopped) };
        match done {
            Ok(VouchedVault { added, before, refused, needed_until: until, .. }) => {
                sum += added;
                report.documents += before + added;
                needed_until = needed_until.max(until);
                let room = MAX_TOLD.saturating_sub(report.refused.len());
                report.refused.extend(refused.into_iter().take(room));
            }
            Err(error) => report.failures.push(format!("{target}: {}", chain(&error))),
        }
    }
    report.added += sum;
    Ok((sum, needed_until))
}
