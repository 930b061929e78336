//! What a listing lacks of what a marker names. It costs no request, so everybody who has both may ask.

use futures::StreamExt;

use crate::base::ids::TargetId;
use crate::repository::Error;
use crate::repository::layout::VaultObject;
use crate::repository::marker::Marker;
use crate::repository::vault::{Listing, Vault, VaultDocument};

/// Markers that are read at once.
const READS_AT_ONCE: usize = 16;

/// An object of a backup that is not there as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// Its key; of a pack that is missing, with a star for the expiry.
    pub key: String,
    /// What is wrong with it.
    pub what: String,
    /// True if the backup cannot be restored in full; without an index the next backup only stores chunks again.
    pub restores: bool,
}

/// What `listing` lacks of what `marker` names: absent, of another size, or expiring too early.
pub fn lacks(target: &TargetId, listing: &Listing, marker: &Marker) -> Vec<Lack> {
    let mut found = Vec::new();
    let segments = marker.segments.iter().map(|facts| (facts, false));
    for (facts, restores) in marker.packs.iter().map(|facts| (facts, true)).chain(segments) {
        let listed = listing.packs.get(&facts.sha256);
        let what = match listed {
            None => "it is missing".to_owned(),
            Some(pack) if pack.expires_at < marker.expires_at => "it expires before a backup that needs it".to_owned(),
            Some(pack) if pack.bytes != facts.bytes => {
                format!("it has {} bytes instead of {}", pack.bytes, facts.bytes)
            }
            Some(_) => continue,
        };
        let missing = || format!("vaults/{}/packs/*.{}", target.key_form(), facts.sha256);
        let key = listing.pack_key(target, facts.sha256).map_or_else(missing, |key| key.to_string());
        found.push(Lack { key, what, restores });
    }
    let manifest = (VaultDocument::Manifest(marker.id), VaultObject::Manifest(marker.id), marker.manifest, true);
    let index = (VaultDocument::Index(marker.id), VaultObject::Index(marker.id), marker.index, false);
    let index = Some(index).filter(|_| marker.index_inline.is_none());
    for (document, object, facts, restores) in std::iter::once(manifest).chain(index) {
        let what = match listing.documents.get(&document) {
            None => "it is missing".to_owned(),
            Some(bytes) if *bytes != facts.bytes => format!("it has {bytes} bytes instead of {}", facts.bytes),
            Some(_) => continue,
        };
        found.push(Lack { key: object.key(target).to_string(), what, restores });
    }
    if !listing.epochs.contains_key(&marker.epoch) {
        let key = VaultObject::Epoch(marker.epoch, 1).key(target).to_string();
        let what = "it is missing: nothing that is sealed to it can be read".to_owned();
        found.push(Lack { key, what, restores: true });
    }
    found
}

/// The markers of a vault's backups that verify and of which the store has all, oldest first; and what is wrong with the
/// others, one sentence each.
pub async fn whole_backups(vault: &Vault) -> Result<(Vec<Marker>, Vec<String>), Error> {
    whole_of(vault, &vault.list().await?).await
}

/// The same, of a listing that is there.
pub async fn whole_of(vault: &Vault, listing: &Listing) -> Result<(Vec<Marker>, Vec<String>), Error> {
    let target = vault.target();
    let (mut whole, mut problems) = (Vec::new(), Vec::new());
    let reads = listing.committed.iter().map(|id| vault.marker(*id));
    let mut markers = futures::stream::iter(reads).buffered(READS_AT_ONCE);
    while let Some(read) = markers.next().await {
        let marker = match read {
            Ok(read) => read.marker,
            Err(error @ (Error::Damaged { .. } | Error::Tampered { .. })) => {
                problems.push(error.to_string());
                continue;
            }
            // Removed by a pruner since the listing.
            Err(Error::NoBackup { .. }) => continue,
            Err(error) => return Err(error),
        };
        match lacks(target, listing, &marker).into_iter().find(|lack| lack.restores) {
            None => whole.push(marker),
            // Removed by a pruner since the listing: markers go first.
            Some(_) if matches!(vault.marker(marker.id).await, Err(Error::NoBackup { .. })) => {}
            Some(Lack { key, what, .. }) => {
                problems.push(format!("backup {} of {target} is not whole: object {key}: {what}", marker.id));
            }
        }
    }
    Ok((whole, problems))
}
