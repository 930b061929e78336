//! The commit marker: public facts about one backup. A backup exists exactly when its marker does.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::base::ids::{BackupId, EpochId, Hash32, RetentionClass, RunId, TargetId};

/// The format version that this program writes.
pub const FORMAT: u32 = 1;

/// Size and digest of a stored object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectFacts {
    /// SHA-256 of its bytes.
    pub sha256: Hash32,
    /// Its size.
    pub bytes: u64,
}

/// The backup before this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Its id.
    pub id: BackupId,
    /// SHA-256 of its marker's bytes.
    pub sha256: Hash32,
}

/// `backup.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Marker {
    /// 1.
    pub format: u32,
    /// The repository's id.
    pub repository: String,
    /// Whose backup it is.
    pub vault: TargetId,
    /// Its id.
    pub id: BackupId,
    /// The run that made it.
    pub run_id: RunId,
    /// When it began.
    pub created_at: DateTime<Utc>,
    /// When it expires.
    pub expires_at: DateTime<Utc>,
    /// Its retention class.
    pub class: RetentionClass,
    /// The epoch that its manifest is sealed to.
    pub epoch: EpochId,
    /// The epoch's recipient.
    pub recipient: String,
    /// The newest backup of the vault when this one began.
    pub parent: Option<Parent>,
    /// Every pack that it needs.
    pub packs: Vec<ObjectFacts>,
    /// Every index segment that its index names.
    pub segments: Vec<ObjectFacts>,
    /// The manifest.
    pub manifest: ObjectFacts,
    /// The index.
    pub index: ObjectFacts,
    /// The sealed index itself, base64, where it is small: then it is no object of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index_inline: Option<String>,
    /// Rows in all its tables.
    pub rows: u64,
    /// Number of its parts.
    pub parts: u64,
    /// Plaintext of all its parts.
    pub read_bytes: u64,
    /// What it added to the store, this marker left out.
    pub stored_bytes: u64,
    /// Engine and version of the source.
    pub engine: String,
}
