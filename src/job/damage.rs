//! What an operator needs to know of a backup that turns out to be damaged: which tables cannot be restored from it, and which
//! backup to take instead.

use std::collections::HashSet;

use crate::base::class::Class;
use crate::base::cpu::ByteBudget;
use crate::base::ids::{BackupId, Hash32, TargetId, TargetKind};
use crate::codec::seal::Identity;
use crate::engine::Description;
use crate::engine::postgres::description::contents_of;
use crate::job::Error;
use crate::repository::layout::{VaultObject, vault_prefix};
use crate::repository::presence::lacks;
use crate::repository::reader::BackupReader;
use crate::repository::vault::{Listing, Vault};
use crate::{repository, restore};

/// More names than this are not told one by one.
const NAMES_TOLD: usize = 12;

/// Adds to `error`, which ended the reading of the backup `id`, what it costs and what to do. `verb` is what the operator typed.
///
/// What cannot be found out is left out: the first error is what counts.
pub(super) async fn explain(
    vault: &Vault,
    id: BackupId,
    identities: &[Identity],
    (verb, error): (&str, Error),
) -> Error {
    let damage = matches!(error.class(), Class::Corrupt | Class::Tampered);
    let (Some(cause), Ok(listing)) = (repository_error(&error).filter(|_| damage), vault.list().await) else {
        return error;
    };
    let mut lost: HashSet<Hash32> = pack_of(vault.target(), cause).into_iter().collect();
    let opened = BackupReader::open_incomplete(vault, listing.clone(), id, identities, ByteBudget::new(1)).await;
    let touched = match &opened {
        Ok(reader) => {
            let marker = &reader.marker().marker;
            let whole = |hash: &Hash32| {
                let named = marker.packs.iter().find(|facts| facts.sha256 == *hash);
                let listed = listing.packs.get(hash).map(|pack| pack.bytes);
                listed.is_some() && listed == named.map(|facts| facts.bytes)
            };
            lost.extend(marker.packs.iter().map(|facts| facts.sha256).filter(|hash| !whole(hash)));
            touched(reader, &lost)
        }
        Err(_) => "nothing of it can be restored".to_owned(),
    };
    let target = vault.target();
    let instead = newest_without(vault, &listing, id, identities, &lost).await;
    let advice = match instead {
        Some(other) => format!(
            "the newest backup without this damage is of {}: dbkeeper {verb} {} --backup {other}",
            other.created_at().format("%Y-%m-%d %H:%M UTC"),
            flags(target)
        ),
        None => {
            format!("no other backup of {target} is without this damage: take a new one now, while the source lives")
        }
    };
    let hint = format!("{advice}; `dbkeeper verify --read-packs` shows all that is damaged");
    Error::BadBackup { target: target.clone(), backup: id, touched, hint, source: Box::new(error) }
}

/// What is missing of a backup of which only a part is wanted; `None` if nothing is.
pub(super) fn missing(reader: &BackupReader) -> Option<String> {
    let lost: HashSet<Hash32> = reader.missing_packs().collect();
    let told = || format!("{} packs of this backup are missing: {}", lost.len(), touched(reader, &lost));
    (!lost.is_empty()).then(told)
}

fn repository_error(error: &Error) -> Option<&repository::Error> {
    match error {
        Error::Repository(error) | Error::Restore(restore::Error::Repository(error)) => Some(error),
        Error::Restore(restore::Error::Leftover { failure, .. }) => match failure.as_ref() {
            restore::Error::Repository(error) => Some(error),
            _ => None,
        },
        _ => None,
    }
}

/// The pack that an error is about.
fn pack_of(target: &TargetId, error: &repository::Error) -> Option<Hash32> {
    let key = match error {
        repository::Error::PackMissing { pack, .. } => return Some(*pack),
        repository::Error::Damaged { key, .. } | repository::Error::Tampered { key, .. } => key,
        _ => return None,
    };
    match VaultObject::parse(key.as_str().strip_prefix(&vault_prefix(target))?)? {
        VaultObject::Pack(_, hash) => Some(hash),
        _ => None,
    }
}

/// What cannot be restored without these packs, in words.
fn touched(reader: &BackupReader, lost: &HashSet<Hash32>) -> String {
    let parts = reader.parts_in(lost);
    if parts.is_empty() {
        return "rows of it cannot be restored".to_owned();
    }
    let description = serde_json::from_value::<Description>(reader.manifest().description.clone());
    let details = description.map(|description| description.details).unwrap_or_default();
    let mut names = contents_of(&details, &parts);
    let more = names.len().saturating_sub(NAMES_TOLD);
    names.truncate(NAMES_TOLD);
    if more > 0 {
        names.push(format!("{more} more"));
    }
    format!("it cannot give back {}", names.join(", "))
}

/// The newest other backup that is whole by its listing, opens, and needs none of the packs that are lost.
async fn newest_without(
    vault: &Vault,
    listing: &Listing,
    id: BackupId,
    identities: &[Identity],
    lost: &HashSet<Hash32>,
) -> Option<BackupId> {
    for other in listing.committed.iter().rev().filter(|other| **other != id) {
        let Ok(read) = vault.marker(*other).await else { continue };
        let spared = read.marker.packs.iter().all(|pack| !lost.contains(&pack.sha256));
        let lacking = lacks(vault.target(), listing, &read.marker).iter().any(|lack| lack.restores);
        if !spared || lacking {
            continue;
        }
        if BackupReader::open(vault, listing.clone(), *other, identities, ByteBudget::new(1)).await.is_ok() {
            return Some(*other);
        }
    }
    None
}

/// How a target is named on the command line.
fn flags(target: &TargetId) -> String {
    let name = target.name.as_str();
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    let name = if plain { name.to_owned() } else { format!("'{}'", name.replace('\'', r"'\''")) };
    match target.kind {
        TargetKind::Central => "--central".to_owned(),
        TargetKind::Tenant => format!("--tenant {name}"),
        TargetKind::Volume => format!("--volume {name}"),
    }
}
