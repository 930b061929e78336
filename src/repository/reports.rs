//! Run reports as stored: signed documents outside of any vault. No restore needs them.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde::Serialize;
use serde_json::Value;

use crate::base::ids::RunId;
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

/// Reads every run report and tells those that are damaged or forged.
pub async fn verify_reports(repository: &Repository) -> Result<Vec<Finding>, Error> {
    let mac = repository.mac().ok_or(Error::NoKey { action: "verifying run reports" })?;
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
        if let Err(error) = signed::read::<Value>(&bytes, &key, &mac) {
            let tampering = matches!(error, signed::BadDocument::Mac);
            let (key, what) = (key.to_string(), error.to_string());
            findings.push(Finding { key, what, tampering, backups: Vec::new() });
        }
    }
    Ok(findings)
}
