//! The manifest: the full description of a backup, sealed to the vault's epoch.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::ids::{BackupId, EpochId, Hash32, RunId, TargetId};
use crate::codec::digest::RowSum;

/// A manifest decodes to at most this many bytes: about 300 bytes a table, 30 a run.
pub const MAX_MANIFEST_BYTES: usize = 256 << 20;

/// A range of a pack's plaintext: `[pack, offset, length]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run(pub u32, pub u32, pub u64);

/// A pack that the backup needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackReference {
    /// SHA-256 of its bytes: its name, apart from the expiry.
    pub sha256: Hash32,
    /// The epoch that it is sealed to.
    pub epoch: EpochId,
}

/// One part and where its bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its name within the backup.
    pub name: String,
    /// `rows` or `bytes`.
    pub kind: String,
    /// Number of rows.
    pub rows: u64,
    /// Bytes of plaintext.
    pub bytes: u64,
    /// The order-independent checksum.
    pub sum: RowSum,
    /// The mean chunk size that it was cut with.
    pub mean_bytes: u32,
    /// Its chunks, in order.
    pub runs: Vec<Run>,
}

/// `manifest.age`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// 1.
    pub format: u32,
    /// Whose backup it is.
    pub vault: TargetId,
    /// Its id.
    pub id: BackupId,
    /// The run that made it.
    pub run_id: RunId,
    /// The version of the program that made it.
    pub dbkeeper: String,
    /// The secret of the row hash, so that sums can be checked without the repository key.
    pub row_secret: String,
    /// The packs that the runs count in.
    pub packs: Vec<PackReference>,
    /// Its parts.
    pub parts: Vec<Part>,
    /// The engine's own half.
    pub description: Value,
}

impl Manifest {
    /// Why the manifest contradicts itself, if it does: every run must name a pack, and runs must add up to their part.
    pub fn contradiction(&self) -> Option<String> {
        for part in &self.parts {
            let known = part.runs.iter().all(|run| (run.0 as usize) < self.packs.len());
            let total = part.runs.iter().try_fold(0_u64, |sum, run| sum.checked_add(run.2));
            if !known || total != Some(part.bytes) {
                return Some(format!("the runs of part {:?} do not make it up", part.name));
            }
        }
        let mut names: Vec<&str> = self.parts.iter().map(|part| part.name.as_str()).collect();
        names.sort_unstable();
        names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| format!("part {:?} is there twice", pair[0]))
    }
}
