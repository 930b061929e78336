//! Run reports as stored: signed documents outside of any vault. No restore needs them.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde::Serialize;

use crate::base::ids::{Hash32, RunId};
use crate::codec::digest::sha256;
use crate::repository::prune::record::KEPT_FOR_EVER;
use crate::repository::verify::Finding;
use crate::repository::{Error, Repository, layout, signed};
use crate::store;

/// Reports that are read at once.
const READS_AT_ONCE: usize = 16;

/// Stores the report of one worker.
pub async fn store_report<T: Serialize>(
    repository: &Repository,
    run: &RunId,
    worker: &str,
    report: &T,
) -> Result<(), Error> {
    let mac = repository.mac().ok_or(Error::NoKey { action: "storing a run report" })?;
    let key = layout::run_report(run, worker);
    let body = Bytes::from(signed::write(report, &key, &mac));
    let put = repository.store().put(&key, body).await;
    put.map_err(|source| Error::Store { action: "store the run report", source })
}

/// So many of the newest records of prunes count for the next prune.
const PRUNES_THAT_COUNT: usize = 5;

/// The records that still decide something, with the hashes of their bytes: every erasure, and the last prunes. What does not
/// verify is left out; without the key of the repository nothing can be told of any.
pub(crate) async fn that_decide(repository: &Repository) -> Result<BTreeMap<String, Hash32>, Error> {
    let (store, mut wanted, mut prunes) = (repository.store(), Vec::new(), BTreeMap::new());
    let failed = |source| Error::Store { action: "read the run reports", source };
    let mut objects = store.list(layout::RUNS_PREFIX);
    while let Some(object) = objects.try_next().await.map_err(failed)? {
        let Some((run, worker)) = layout::parse_run_report(&object.key) else { continue };
        match worker {
            "prune" => drop(prunes.insert(run, object.key.clone())),
            worker if worker.starts_with(KEPT_FOR_EVER) => wanted.push(object.key.clone()),
            _ => {}
        }
    }
    drop(objects);
    wanted.extend(prunes.into_values().rev().take(PRUNES_THAT_COUNT));
    let mut decide = BTreeMap::new();
    for key in wanted {
        let bytes = match store.get(&key).await {
            Err(error) if error.is_not_found() => continue,
            got => got.map_err(failed)?,
        };
        if repository.read_record::<serde_json::Value>(&bytes, &key).is_ok() {
            decide.insert(key.to_string(), sha256(&bytes));
        }
    }
    Ok(decide)
}

/// Reads every run report and tells those that are damaged or forged.
pub async fn verify_reports(repository: &Repository) -> Result<Vec<Finding>, Error> {
    repository.mac().ok_or(Error::NoKey { action: "verifying run reports" })?;
    let store = repository.store();
    let failed = |source| Error::Store { action: "read the run reports", source };
    let keys: Vec<store::ObjectKey> =
        store.list(layout::RUNS_PREFIX).map_ok(|object| object.key).try_collect().await.map_err(failed)?;
    let reads = keys.into_iter().map(|key| async move { (store.get(&key).await, key) });
    let mut reads = futures::stream::iter(reads).buffered(READS_AT_ONCE);
    let mut findings = Vec::new();
    while let Some((read, key)) = reads.next().await {
        let bytes = match read {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => continue, // Removed since the listing.
            Err(store::Error::TooLarge { key, bytes, .. }) => {
                let what = format!("it has {bytes} bytes, which no report has");
                findings.push(Finding { key: key.to_string(), what, tampering: true, backups: Vec::new() });
                continue;
            }
            Err(source) => return Err(failed(source)),
        };
        if let Err(error) = repository.check_report(&bytes, &key) {
            let tampering = matches!(error, signed::BadDocument::Mac);
            let (key, what) = (key.to_string(), error.to_string());
            findings.push(Finding { key, what, tampering, backups: Vec::new() });
        }
    }
    Ok(findings)
}
