//! The export job: one backup as a file that stock clients load. It asks no database server for anything.

use std::path::PathBuf;
use std::sync::Arc;

use crate::base::cpu::ByteBudget;
use crate::base::ids::{BackupId, TargetId, TargetKind};
use crate::engine::ExportOutput;
use crate::engine::postgres::export::open_export;
use crate::job::damage::explain;
use crate::job::{Context, Error, restore as restore_job};
use crate::repository::reader::{BackupReader, Found, Wanted};
use crate::restore;

/// What is exported.
#[derive(Clone, Debug)]
pub struct Request {
    /// Whose backup.
    pub target: TargetId,
    /// Which of its backups.
    pub wanted: Wanted,
    /// The repository key is lost.
    pub without_repository_key: bool,
}

/// What was exported.
#[derive(Clone, Debug)]
pub struct Exported {
    /// Which backup.
    pub backup_id: BackupId,
    /// Its rows.
    pub rows: u64,
    /// Its plaintext.
    pub bytes: u64,
    /// What the operator should know.
    pub notes: Vec<String>,
}

/// Writes the backup that `request` names into `output`, and flushes it.
///
/// After a failure what was written is worth nothing. Nothing is written before the backup and its keys are open.
pub async fn export(context: &Context, request: &Request, output: &mut ExportOutput<'_>) -> Result<Exported, Error> {
    let target = &request.target;
    if target.kind == TargetKind::Volume {
        let what = format!("{target}: volumes cannot be exported yet");
        return Err(Error::Refused { what, hint: "name a tenant, or --central".to_owned() });
    }
    let repository = match request.without_repository_key {
        true => context.open_repository_without_key().await?,
        false => context.open_repository().await?,
    };
    let identities = context.identities().await?;
    let vault = repository.vault(target);
    let listing = vault.list().await?;
    let Found { id: backup_id, passed_over } = request.wanted.find(&vault, &listing).await?;
    let budget = ByteBudget::new(context.config.limits.pipeline_bytes() / 2);
    let reader = match BackupReader::open(&vault, listing, backup_id, &identities, budget).await {
        Ok(reader) => Arc::new(reader),
        Err(error) => return Err(explain(&vault, backup_id, &identities, ("export", error.into())).await),
    };
    let description = restore_job::description(&reader)?;
    let folders: Vec<PathBuf> = context.config.servers.iter().filter_map(|server| server.client_bin.clone()).collect();
    let session = open_export(&context.programs(), &folders, &description).await?;
    let (marker, verified) = (&reader.marker().marker, reader.marker().verified);
    let heading = heading(target, backup_id, verified);
    context.monitor.run_begins(1);
    context.monitor.target_begins(target, marker.read_bytes);
    let monitor = Arc::clone(&context.monitor);
    let done = restore::export::export(target, &reader, Box::new(session), (&heading, output), monitor.as_ref()).await;
    context.monitor.target_ends(target, if done.is_ok() { "ok" } else { "failed" });
    if let Err(error) = done {
        return Err(explain(&vault, backup_id, &identities, ("export", error.into())).await);
    }
    let mut notes = description.notes;
    notes.extend(passed_over);
    if !verified {
        notes.push(UNVERIFIED.to_owned());
    }
    Ok(Exported { backup_id, rows: marker.rows, bytes: marker.read_bytes, notes })
}

const UNVERIFIED: &str = "without the repository key nobody can tell whether this backup is authentic or was forged";

fn heading(target: &TargetId, id: BackupId, verified: bool) -> Vec<String> {
    let taken = id.created_at().format("%Y-%m-%d %H:%M:%S UTC");
    let mut heading = vec![format!("Export of {target} by dbkeeper: backup {id}, begun {taken}.")];
    if !verified {
        heading.push(format!("Careful: {UNVERIFIED}."));
    }
    heading
}
