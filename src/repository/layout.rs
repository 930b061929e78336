//! Where things are: the keys of version 1, printed and parsed as inverses.

use chrono::{DateTime, Utc};

use crate::base::ids::{BackupId, EpochId, Hash32, RunId, TargetId, TargetKind, TargetName, key_time, parse_key_time};
use crate::repository::keys::KeyId;
use crate::repository::proof::ProofId;
use crate::store::ObjectKey;

/// The key of the repository's own document.
pub fn repository_document() -> ObjectKey {
    key("dbkeeper.json".to_owned())
}

/// The prefix of everything that belongs to a target.
pub fn vault_prefix(target: &TargetId) -> String {
    format!("vaults/{}/", target.key_form())
}

/// The prefix below which the vaults of one kind are.
pub fn kind_prefix(kind: TargetKind) -> String {
    format!("vaults/{kind}/")
}

/// The target whose vault is the folder `segment` below [`kind_prefix`].
pub fn parse_vault_folder(kind: TargetKind, segment: &str) -> Option<TargetId> {
    TargetName::from_key_form(segment).ok().map(|name| TargetId { kind, name })
}

/// The prefix of all run reports.
pub const RUNS_PREFIX: &str = "runs/";

/// Where the run report of one worker is.
pub fn run_report(run: &RunId, worker: &str) -> ObjectKey {
    key(format!("{RUNS_PREFIX}{run}/{worker}.json"))
}

/// The run and the worker of a key below [`RUNS_PREFIX`]; `None` for what is no report of ours.
pub fn parse_run_report(key: &ObjectKey) -> Option<(RunId, &str)> {
    let (run, file) = key.as_str().strip_prefix(RUNS_PREFIX)?.split_once('/')?;
    Some((run.parse().ok()?, file.strip_suffix(".json")?))
}

/// The prefix of what is written down when the repository key is replaced.
pub const ROTATIONS_PREFIX: &str = "rotations/";

/// A document on one replacement of the repository key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotationDocument {
    /// The former key says that it has a successor.
    Retired(KeyId, KeyId),
    /// The new key says that it is the one from now on.
    Done(KeyId),
}

/// Where a document of the rotation `id` is.
pub fn rotation(id: &RunId, document: RotationDocument) -> ObjectKey {
    key(match document {
        RotationDocument::Retired(former, successor) => {
            format!("{ROTATIONS_PREFIX}{id}/retired.{former}.{successor}.json")
        }
        RotationDocument::Done(new) => format!("{ROTATIONS_PREFIX}{id}/done.{new}.json"),
    })
}

/// What lies under a key below [`ROTATIONS_PREFIX`]; `None` for what is not ours.
pub fn parse_rotation(key: &ObjectKey) -> Option<(RunId, RotationDocument)> {
    let (id, file) = key.as_str().strip_prefix(ROTATIONS_PREFIX)?.split_once('/')?;
    let words: Vec<&str> = file.strip_suffix(".json")?.split('.').collect();
    let document = match words[..] {
        ["retired", former, successor] => RotationDocument::Retired(KeyId::parse(former)?, KeyId::parse(successor)?),
        ["done", new] => RotationDocument::Done(KeyId::parse(new)?),
        _ => return None,
    };
    Some((id.parse().ok()?, document))
}

/// The name of a vouch: by which key, and an id that begins with its time.
///
/// No [`VaultObject`]: nothing that plans what goes ever sees one, so a vouch stays as long as its vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VouchId {
    /// Which key vouches.
    pub by: KeyId,
    /// Its own id.
    pub id: RunId,
}

/// The folder of a vault's vouches.
pub fn vouches_prefix(target: &TargetId) -> String {
    format!("{}vouches/", vault_prefix(target))
}

impl VouchId {
    /// Its key.
    pub fn key(&self, target: &TargetId) -> ObjectKey {
        key(format!("{}{}.{}.json", vouches_prefix(target), self.by, self.id))
    }

    /// What lies at `path`, relative to the vault's prefix.
    pub fn parse(path: &str) -> Option<Self> {
        let (by, id) = path.strip_prefix("vouches/")?.strip_suffix(".json")?.split_once('.')?;
        Some(Self { by: KeyId::parse(by)?, id: id.parse().ok()? })
    }
}

/// Where `doctor` tries out the store. One place with one content, so that a store that refuses to delete keeps one object.
pub fn probe() -> ObjectKey {
    key("probe/doctor".to_owned())
}

/// One object of a vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VaultObject {
    /// An epoch's recipient and sealed secret; revision 1 is the first.
    Epoch(EpochId, u32),
    /// A pack or index segment with its expiry.
    Pack(DateTime<Utc>, Hash32),
    /// A backup's index.
    Index(BackupId),
    /// A backup's manifest.
    Manifest(BackupId),
    /// A backup's commit marker.
    Marker(BackupId),
    /// A hold of a backup; its id has the form of a run's.
    Hold(BackupId, RunId),
    /// The end of that hold.
    Release(BackupId, RunId),
    /// A proof record.
    Proof(ProofId),
}

impl VaultObject {
    /// Its key.
    pub fn key(&self, target: &TargetId) -> ObjectKey {
        let prefix = vault_prefix(target);
        key(match self {
            Self::Epoch(epoch, 1) => format!("{prefix}keys/{epoch}.json"),
            Self::Epoch(epoch, revision) => format!("{prefix}keys/{epoch}.{revision}.json"),
            Self::Pack(expiry, hash) => format!("{prefix}packs/{}.{hash}", key_time(*expiry)),
            Self::Index(id) => format!("{prefix}backups/{id}/index.age"),
            Self::Manifest(id) => format!("{prefix}backups/{id}/manifest.age"),
            Self::Marker(id) => format!("{prefix}backups/{id}/backup.json"),
            Self::Hold(id, hold) => format!("{prefix}backups/{id}/hold.{hold}.json"),
            Self::Release(id, hold) => format!("{prefix}backups/{id}/release.{hold}.json"),
            Self::Proof(id) => format!("{prefix}proofs/{}.json", id.stem()),
        })
    }

    /// What lies at `path`, relative to the vault's prefix; `None` for what this version does not know.
    pub fn parse(path: &str) -> Option<Self> {
        let (folder, rest) = path.split_once('/')?;
        let found = match folder {
            "keys" => parse_epoch(rest.strip_suffix(".json")?)?,
            "proofs" => Self::Proof(ProofId::parse(rest.strip_suffix(".json")?)?),
            "packs" => {
                let (expiry, hash) = rest.split_once('.')?;
                Self::Pack(parse_key_time(expiry)?, hash.parse().ok()?)
            }
            "backups" => {
                let (id, file) = rest.split_once('/')?;
                let id = id.parse().ok()?;
                match file {
                    "index.age" => Self::Index(id),
                    "manifest.age" => Self::Manifest(id),
                    "backup.json" => Self::Marker(id),
                    other => parse_hold(id, other)?,
                }
            }
            _ => return None,
        };
        Some(found)
    }
}

/// Until when the object under a key of the repository is needed by its name; `None` where the name does not say.
pub fn expires_at(key: &ObjectKey) -> Option<DateTime<Utc>> {
    let (_kind, rest) = key.as_str().strip_prefix("vaults/")?.split_once('/')?;
    let (_name, path) = rest.split_once('/')?;
    match VaultObject::parse(path)? {
        VaultObject::Pack(expiry, _) => Some(expiry),
        VaultObject::Marker(id) | VaultObject::Manifest(id) | VaultObject::Index(id) => Some(id.expires_at()),
        VaultObject::Epoch(..) | VaultObject::Hold(..) | VaultObject::Release(..) | VaultObject::Proof(_) => None,
    }
}

fn parse_hold(backup: BackupId, file: &str) -> Option<VaultObject> {
    let (kind, hold) = file.strip_suffix(".json")?.split_once('.')?;
    let hold = hold.parse().ok()?;
    match kind {
        "hold" => Some(VaultObject::Hold(backup, hold)),
        "release" => Some(VaultObject::Release(backup, hold)),
        _ => None,
    }
}

fn parse_epoch(stem: &str) -> Option<VaultObject> {
    match stem.split_once('.') {
        None => Some(VaultObject::Epoch(stem.parse().ok()?, 1)),
        Some((epoch, revision)) => {
            let number: u32 = revision.parse().ok().filter(|number| *number >= 2)?;
            (number.to_string() == revision).then_some(VaultObject::Epoch(epoch.parse().ok()?, number))
        }
    }
}

fn key(text: String) -> ObjectKey {
    ObjectKey::new(text).expect("every piece of a key is validated before it gets here")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_print_and_parse_as_inverses() {
        let target = TargetId::tenant("Acme & Co").expect("a name");
        let id: BackupId = "20261121T091500Z-d336h-3fa9c2d1".parse().expect("an id");
        let epoch: EpochId = "20261121T091500Z-00000001".parse().expect("an epoch");
        let hold: RunId = "20261121T101500Z-00000002".parse().expect("an id");
        let objects = [
            VaultObject::Epoch(epoch, 1),
            VaultObject::Epoch(epoch, 2),
            VaultObject::Pack(id.expires_at(), Hash32([7; 32])),
            VaultObject::Index(id),
            VaultObject::Manifest(id),
            VaultObject::Marker(id),
            VaultObject::Hold(id, hold),
            VaultObject::Release(id, hold),
            VaultObject::Proof(ProofId::new(id.created_at(), crate::repository::verify::Rung::Packs, [1; 4])),
        ];
        for object in objects {
            let key = object.key(&target);
            let path = key.as_str().strip_prefix(&vault_prefix(&target)).expect("below the vault");
            assert_eq!(VaultObject::parse(path), Some(object), "{key}");
        }
    }

    #[test]
    fn the_documents_of_a_rotation_print_and_parse_as_inverses() {
        let id: RunId = "20261121T101500Z-00000002".parse().expect("an id");
        let [former, new] = ["0123456789abcdef", "fedcba9876543210"].map(|text| KeyId::parse(text).expect("an id"));
        for document in [RotationDocument::Retired(former, new), RotationDocument::Done(new)] {
            assert_eq!(parse_rotation(&rotation(&id, document)), Some((id, document)));
        }
        let (target, vouch) = (TargetId::tenant("Acme & Co").expect("a name"), VouchId { by: new, id });
        let key = vouch.key(&target);
        assert_eq!(VouchId::parse(key.as_str().strip_prefix(&vault_prefix(&target)).expect("below")), Some(vouch));
        for strange in ["rotations/x/done.0123456789abcdef.json", "rotations/20261121T101500Z-00000002/done.json"] {
            assert_eq!(parse_rotation(&ObjectKey::new(strange).expect("a key")), None, "{strange}");
        }
        for strange in ["vouches/x", "vouches/0123456789ABCDEF.20261121T101500Z-00000002.json", "keys/x.y.json"] {
            assert_eq!(VouchId::parse(strange), None, "{strange}");
        }
    }

    #[test]
    fn what_we_did_not_name_is_not_ours() {
        for path in [
            "packs/x",
            "keys/20261121T091500Z-00000001.1.json",
            "keys/20261121T091500Z-00000001.02.json",
            "backups/x/backup.json",
            "backups/20261121T091500Z-d336h-3fa9c2d1/other",
            "backups/20261121T091500Z-d336h-3fa9c2d1/hold.json",
            "backups/20261121T091500Z-d336h-3fa9c2d1/hold.x.json",
            "backups/20261121T091500Z-d336h-3fa9c2d1/keep.20261121T101500Z-00000002.json",
            "x",
            "",
            "packs/20261121T091500Z.00",
        ] {
            assert_eq!(VaultObject::parse(path), None, "{path}");
        }
    }
}
