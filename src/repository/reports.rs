//! Run reports as stored: signed documents outside of any vault. No restore needs them.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use crate::base::ids::{Hash32, RunId};
use crate::codec::digest::sha256;
use crate::repository::prune::is_of_the_future;
use crate::repository::prune::record::KEPT_FOR_EVER;
use crate::repository::verify::Finding;
use crate::repository::{Error, Repository, layout, signed};
use crate::store::{self, ObjectKey};

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

/// When a record says that it was written.
#[derive(Deserialize)]
struct Dated {
    at: Option<DateTime<Utc>>,
    planned_at: Option<DateTime<Utc>>,
}

/// The records that still decide something, with the hashes of their bytes: every erasure, and the last prunes. What does not
/// verify, and what is dated later than `now`, is left out; without the key of the repository nothing can be told of any, and
/// none decides.
pub(crate) async fn that_decide(
    repository: &Repository,
    now: DateTime<Utc>,
) -> Result<BTreeMap<String, Hash32>, Error> {
    let (store, mut wanted, mut prunes) = (repository.store(), Vec::new(), BTreeMap::new());
    if !repository.has_key() {
        return Ok(BTreeMap::new());
    }
    let failed = |source| Error::Store { action: "read the run reports", source };
    let mut objects = store.list(layout::RUNS_PREFIX);
    while let Some(object) = objects.try_next().await.map_err(failed)? {
        let Some((run, worker)) = layout::parse_run_report(&object.key) else { continue };
        match worker {
            _ if is_of_the_future(run.started_at(), now) => {}
            "prune" => drop(prunes.insert(run, object.key.clone())),
            worker if worker.starts_with(KEPT_FOR_EVER) => wanted.push(object.key.clone()),
            _ => {}
        }
    }
    drop(objects);
    let mut decide = BTreeMap::new();
    for key in wanted {
        decide.extend(believed(repository, &key, now).await?.map(|hash| (key.to_string(), hash)));
    }
    let mut last = 0;
    for key in prunes.into_values().rev() {
        let hash = believed(repository, &key, now).await?;
        last += usize::from(hash.is_some());
        decide.extend(hash.map(|hash| (key.to_string(), hash)));
        if last == PRUNES_THAT_COUNT {
            break;
        }
    }
    Ok(decide)
}

/// The hash of a record that verifies and is not of the future.
async fn believed(repository: &Repository, key: &ObjectKey, now: DateTime<Utc>) -> Result<Option<Hash32>, Error> {
    let bytes = match repository.store().get(key).await {
        Err(error) if error.is_not_found() || matches!(error, store::Error::TooLarge { .. }) => return Ok(None),
        got => got.map_err(|source| Error::Store { action: "read the run reports", source })?,
    };
    let Ok(Dated { at, planned_at }) = repository.read_record(&bytes, key) else { return Ok(None) };
    let honest = at.into_iter().chain(planned_at).all(|at| !is_of_the_future(at, now));
    Ok(honest.then(|| sha256(&bytes)))
}

/// Reads every run report and tells those that are damaged or forged.
pub async fn verify_reports(repository: &Repository) -> Result<Vec<Finding>, Error> {
    repository.mac().ok_or(Error::NoKey { action: "verifying run reports" })?;
    let store = repository.store();
    let failed = |source| Error::Store { action: "read the run reports", source };
    let keys: Vec<ObjectKey> =
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
