//! The writer-side keys: everything that follows from the repository key.

use serde::{Deserialize, Serialize};

use crate::base::ids::{Hash32, TargetId};
use crate::codec::digest::{MacKey, RowHasher, derive};
use crate::codec::seal::Identity;

/// Sixteen random bytes that name a repository; they salt every key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepositoryId(pub [u8; 16]);

impl std::fmt::Display for RepositoryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl RepositoryId {
    /// Reads the 32 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let id = Self(hex::decode(text).ok()?.try_into().ok()?);
        (id.to_string() == text).then_some(id)
    }
}

/// The key that signs the repository's own document.
pub fn repository_mac(repository_key: &[u8; 32], id: RepositoryId) -> MacKey {
    MacKey::new(&derive(repository_key, &id.0, "dbkeeper/1/mac/"))
}

/// The key that signs checkpoints: documents that lie outside of the repository.
pub fn checkpoint_mac(repository_key: &[u8; 32], id: RepositoryId) -> MacKey {
    MacKey::new(&derive(repository_key, &id.0, "dbkeeper/1/checkpoint/"))
}

/// The identity to which the former repository keys of a repository are sealed.
pub(crate) fn former_keys(repository_key: &[u8; 32], id: RepositoryId) -> Identity {
    Identity::from_bytes(&derive(repository_key, &id.0, "dbkeeper/1/former-keys/"))
}

/// Names a repository key and tells nothing of it: 8 bytes that follow from it, 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId([u8; 8]);

impl KeyId {
    /// The name of a key in this repository; in another one it has another.
    pub fn of(repository_key: &[u8; 32], id: RepositoryId) -> Self {
        Self(*derive(repository_key, &id.0, "dbkeeper/1/key-id/"))
    }

    /// Inverse of printing.
    pub fn parse(text: &str) -> Option<Self> {
        let id = Self(hex::decode(text).ok()?.try_into().ok()?);
        (id.to_string() == text).then_some(id)
    }
}

impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for KeyId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("no 16 hexadecimal digits")
    }
}

/// The keys of one vault.
#[derive(Clone, Debug)]
pub struct VaultKeys {
    /// Signs documents.
    pub mac: MacKey,
    /// Makes chunk ids.
    pub chunk_id: MacKey,
    /// Hashes rows.
    pub rows: RowHasher,
    /// Seals and opens indexes.
    pub index: Identity,
}

impl VaultKeys {
    /// Derives the keys of `target`'s vault.
    pub fn derive(repository_key: &[u8; 32], id: RepositoryId, target: &TargetId) -> Self {
        let info = |purpose: &str| format!("dbkeeper/1/{purpose}/{}", target.key_form());
        Self {
            mac: MacKey::new(&derive(repository_key, &id.0, &info("mac"))),
            chunk_id: MacKey::new(&derive(repository_key, &id.0, &info("chunk-id"))),
            rows: RowHasher::new(*derive(repository_key, &id.0, &info("rows"))),
            index: Identity::from_bytes(&derive(repository_key, &id.0, &info("index"))),
        }
    }

    /// The name of a part as an index may hold it: keyed, so that it tells no table's name.
    pub fn part_tag(&self, name: &str) -> Hash32 {
        self.chunk_id.mac(&[b"part\0", name.as_bytes()])
    }
}
