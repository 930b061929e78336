//! The copy job: a second repository brought in step with the configured one.

use std::sync::Arc;

use serde::Serialize;

use crate::base::class::Class;
use crate::base::cpu::ByteBudget;
use crate::base::ids::TargetId;
use crate::job::{Context, Error, chain};
use crate::repository::Repository;
use crate::repository::copy::{CopiedVault, CopyOptions, copy_reports, copy_vault, open_destination};
use crate::repository::pace::Pace;
use crate::repository::verify::Finding;
use crate::run::fan_out::fan_out;

/// What was copied.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `ok`, `partial` (a vault could not be copied) or `damaged` (what is damaged here was left out).
    pub result: &'static str,
    /// The repository that was read.
    pub from: String,
    /// The copy.
    pub to: String,
    /// What became of each vault.
    pub vaults: Vec<CopiedVault>,
    /// Vaults that a failing store stopped; the next copy goes on with them.
    pub failures: Vec<Failure>,
    /// Run reports that were copied.
    pub reports_copied: u64,
    /// What is wrong outside of the vaults.
    pub findings: Vec<Finding>,
}

/// A vault that could not be copied to its end.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// Whose vault.
    pub target: TargetId,
    /// Why.
    pub reason: String,
}

/// Copies the vault of `target`, or all, to the copy called `to`.
///
/// An interrupted or failed copy leaves whole backups; the same call goes on where it stopped.
pub async fn run(context: &Context, to: &str, target: Option<&TargetId>) -> Result<Report, Error> {
    let config = &context.config;
    let known: Vec<&str> = config.copies.iter().map(|copy| copy.name.as_str()).collect();
    let refused = || Error::Refused {
        what: format!("the configuration has no copy called {to:?}"),
        hint: match known.is_empty() {
            true => "add a section [[copies]] with a name and a url".to_owned(),
            false => format!("it has {}", known.join(", ")),
        },
    };
    let copy = config.copy(to).ok_or_else(refused)?;
    if copy.repository.url == config.repository.url {
        let what = format!("the copy {to:?} is at the same url as the repository that is to be copied");
        return Err(Error::Refused { what, hint: "give the copy a url of its own".to_owned() });
    }
    let key = config.repository_key(&context.environment).await?;
    let source = context.open_repository().await?;
    let destination = open_destination(&source, context.open_store_of(&copy.repository).await?, key.bytes()).await?;
    let (targets, _) = source.vaults().await?;
    let targets: Vec<TargetId> = targets.into_iter().filter(|known| target.is_none_or(|one| one == known)).collect();
    if targets.is_empty() {
        let what = target.map_or("the repository holds no vault".to_owned(), |target| format!("{target} has no vault"));
        return Err(Error::NothingSelected { what });
    }
    let bandwidth = copy.bandwidth.map(|bandwidth| bandwidth.0);
    let (vaults, failures, first) = copy_all(context, (&source, &destination), targets, bandwidth).await?;
    if vaults.is_empty()
        && let Some(error) = first
    {
        return Err(error);
    }
    let (reports_copied, findings) = match target {
        None => copy_reports(&source, &destination).await?,
        Some(_) => (0, Vec::new()),
    };
    let damaged = !findings.is_empty() || vaults.iter().any(|vault| !vault.findings.is_empty());
    let result = match (damaged, failures.is_empty()) {
        (true, _) => "damaged",
        (false, false) => "partial",
        (false, true) => "ok",
    };
    let (from, to) = (source.store().location(), destination.store().location());
    Ok(Report { result, from, to, vaults, failures, reports_copied, findings })
}

type Copied = (Vec<CopiedVault>, Vec<Failure>, Option<Error>);

async fn copy_all(
    context: &Context,
    (source, destination): (&Repository, &Repository),
    targets: Vec<TargetId>,
    bandwidth: Option<u64>,
) -> Result<Copied, Error> {
    let pace = Arc::new(Pace::new(bandwidth));
    let budget = ByteBudget::new(context.config.limits.pipeline_bytes());
    let (now, keep_last) = (context.clock.now(), context.config.retention.keep_last as usize);
    context.monitor.run_begins(targets.len());
    let work = |target: TargetId| {
        let (vault, destination) = (source.vault(&target), destination.clone());
        let (pace, budget, monitor) = (Arc::clone(&pace), budget.clone(), Arc::clone(&context.monitor));
        async move {
            monitor.target_begins(&target, 0);
            let options = CopyOptions { now, keep_last, budget: &budget, pace: &pace, monitor: monitor.as_ref() };
            let done = copy_vault(&vault, &destination, options).await;
            monitor.target_ends(&target, if done.is_ok() { "ok" } else { "failed" });
            (target, done)
        }
    };
    let results = fan_out(targets, context.config.limits.targets_at_once, &context.stop, work).await;
    let (mut vaults, mut failures, mut first) = (Vec::new(), Vec::new(), None);
    for result in results {
        match result {
            None => return Err(Error::Stopped),
            Some((_, Ok(vault))) => vaults.push(vault),
            Some((target, Err(error))) => {
                let class = error.class();
                failures.push(Failure { target, reason: chain(&error) });
                if first.is_none() && class != Class::Cancelled {
                    first = Some(error.into());
                }
            }
        }
    }
    Ok((vaults, failures, first))
}
