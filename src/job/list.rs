//! Listing what is stored: backups of one vault or of all, and one backup in full.

use chrono::{DateTime, Utc};
use futures::StreamExt;
use serde::Serialize;

use crate::base::ids::{BackupId, RetentionClass, RunId, TargetId};
use crate::job::{Context, Error};
use crate::repository::hold::{self, Held};
use crate::repository::marker::Marker;
use crate::repository::presence::whole_of;
use crate::repository::proof::LastProofs;
use crate::repository::vault::Vault;
use crate::repository::{self, Repository};

/// Markers that are read at once.
const READS_AT_ONCE: usize = 16;

/// One backup, as scripts see it.
#[derive(Clone, Debug, Serialize)]
pub struct Listed {
    /// Its id.
    pub id: BackupId,
    /// Whose it is.
    pub target: TargetId,
    /// When it began.
    pub created_at: DateTime<Utc>,
    /// When it expires.
    pub expires_at: DateTime<Utc>,
    /// Its retention class.
    pub class: RetentionClass,
    /// Rows in all its tables.
    pub rows: u64,
    /// Plaintext of all its parts.
    pub read_bytes: u64,
    /// What it added to the store.
    pub stored_bytes: u64,
    /// The run that made it.
    pub run_id: RunId,
    /// When its target was last proven, by which rung.
    pub proven: LastProofs,
    /// Until when it is held, whatever its expiry; the latest of its holds.
    pub held_until: Option<DateTime<Utc>>,
    /// Why, in the words of who held it.
    pub hold_reason: Option<String>,
}

/// Vaults that are looked at at once.
const VAULTS_AT_ONCE: usize = 8;

/// Lists the backups of `target`, or of every vault: those whose marker verifies and of which the store has all, by target and
/// time, handed to `each` vault by vault, so that memory does not grow with their number.
///
/// Returns what is wrong, one sentence each: markers that are damaged or do not verify, backups that are not whole, folders that
/// are no vaults.
pub async fn list<E: From<Error>>(
    context: &Context,
    target: Option<&TargetId>,
    mut each: impl FnMut(Listed) -> Result<(), E>,
) -> Result<Vec<String>, E> {
    let repository = context.open_repository().await?;
    let mut problems = Vec::new();
    let targets = match target {
        Some(target) => vec![target.clone()],
        None => {
            let (targets, strangers) = repository.vaults().await.map_err(Error::from)?;
            problems.extend(strangers.into_iter().map(|folder| format!("{folder} is no vault of ours")));
            targets
        }
    };
    let vaults = targets.into_iter().map(|target| one_vault(context, repository.vault(&target)));
    let mut vaults = futures::stream::iter(vaults).buffered(VAULTS_AT_ONCE);
    while let Some(listed) = vaults.next().await {
        let (backups, unsure) = listed?;
        backups.into_iter().try_for_each(&mut each)?;
        problems.extend(unsure);
    }
    Ok(problems)
}

async fn one_vault(context: &Context, vault: Vault) -> Result<(Vec<Listed>, Vec<String>), Error> {
    let listing = vault.list().await?;
    let (whole, mut problems) = whole_of(&vault, &listing).await?;
    let (held, unsure) = hold::in_force(&vault, &listing, context.clock.now()).await?;
    problems.extend(unsure);
    let proven = vault.last_proofs(&listing.proofs, &mut problems).await?;
    let with_hold = |marker: Marker| {
        let hold = held.get(&marker.id).and_then(|holds| latest(holds));
        Listed::from_marker(marker, hold, proven)
    };
    Ok((whole.into_iter().map(with_hold).collect(), problems))
}

/// The hold that lasts longest; one whose end is not known lasts longer than any.
fn latest(holds: &[Held]) -> Option<&Held> {
    holds.iter().max_by_key(|hold| hold.until.unwrap_or(DateTime::<Utc>::MAX_UTC))
}

impl Listed {
    fn from_marker(marker: Marker, hold: Option<&Held>, proven: LastProofs) -> Self {
        Self {
            id: marker.id,
            target: marker.vault,
            created_at: marker.created_at,
            expires_at: marker.expires_at,
            class: marker.class,
            rows: marker.rows,
            read_bytes: marker.read_bytes,
            stored_bytes: marker.stored_bytes,
            run_id: marker.run_id,
            proven,
            held_until: hold.and_then(|hold| hold.until),
            hold_reason: hold.map(|hold| hold.reason.clone()),
        }
    }
}

/// One backup in full.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// What the marker says.
    pub marker: Marker,
    /// False where there was no repository key to check it with.
    pub verified: bool,
    /// When its target was last proven, by which rung.
    pub proven: LastProofs,
    /// Holds in force: they keep it whatever its expiry.
    pub holds: Vec<Held>,
    /// Tables and other parts, where an identity is configured that opens the manifest.
    pub contents: Option<Contents>,
}

/// The inside of a manifest, without rows.
#[derive(Clone, Debug, Serialize)]
pub struct Contents {
    /// Engine and version of the source.
    pub engine: String,
    /// The server and the database that were read.
    pub source: String,
    /// Name, rows and bytes of each part.
    pub parts: Vec<(String, u64, u64)>,
    /// What the operator should know.
    pub notes: Vec<String>,
}

/// Shows the backup `id`, in whichever vault it is.
pub async fn show(context: &Context, id: BackupId) -> Result<Shown, Error> {
    let repository = context.open_repository().await?;
    let (vault, read) = find(&repository, id).await?;
    let contents = match context.config.encryption.identity {
        Some(_) => Some(contents(context, &vault, id).await?),
        None => None,
    };
    // A record that does not verify proves nothing; `list` and `verify --read-packs` tell it.
    let proven = vault.last_proofs(&vault.proofs().await?, &mut Vec::new()).await?;
    let listing = vault.list().await?;
    let (mut held, _) = hold::in_force(&vault, &listing, context.clock.now()).await?;
    let holds = held.remove(&id).unwrap_or_default();
    Ok(Shown { marker: read.marker, verified: read.verified, proven, holds, contents })
}

/// The vault that the backup `id` is in, and its marker.
pub(crate) async fn find(
    repository: &Repository,
    id: BackupId,
) -> Result<(Vault, repository::vault::ReadMarker), Error> {
    let (targets, _) = repository.vaults().await?;
    let mut last = None;
    let vaults: Vec<Vault> = targets.iter().map(|target| repository.vault(target)).collect();
    let reads = vaults.iter().map(|vault| async move { (vault, vault.marker(id).await) });
    let mut reads = futures::stream::iter(reads).buffered(READS_AT_ONCE);
    while let Some((vault, read)) = reads.next().await {
        match read {
            Ok(read) => return Ok((vault.clone(), read)),
            Err(error @ repository::Error::NoBackup { .. }) => last = last.or(Some(error)),
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::NothingSelected { what: format!("no vault has a backup {id}") })
}

async fn contents(context: &Context, vault: &Vault, id: BackupId) -> Result<Contents, Error> {
    let identities = context.identities().await?;
    let listing = vault.list().await?;
    let budget = crate::base::cpu::ByteBudget::new(1);
    let reader = repository::reader::BackupReader::open(vault, listing, id, &identities, budget).await?;
    let manifest = reader.manifest();
    let description: crate::engine::Description =
        serde_json::from_value(manifest.description.clone()).map_err(|error| Error::Other {
            what: format!("the description in the manifest of {id} cannot be read: {error}"),
            class: crate::base::class::Class::Corrupt,
        })?;
    Ok(Contents {
        engine: format!("{} {}", description.engine, description.version),
        source: format!("{}/{}", description.server, description.source),
        parts: manifest.parts.iter().map(|part| (part.name.clone(), part.rows, part.bytes)).collect(),
        notes: description.notes,
    })
}
