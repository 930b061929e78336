//! Every kind of stored object with the parser that reads it: one door for those who feed the parsers with garbage.
//!
//! It promises that whatever bytes come, the answer is an error or a document, never a panic, and that memory stays within
//! [`most_memory`]. Seals and signatures are left out: behind them a thief gets nowhere, and without the repository key, or
//! with a writer who turned, the bytes come through. Must not know a store.

use crate::base::ids::TargetId;
use crate::codec::digest::RowHasher;
use crate::codec::{compress, pack};
use crate::repository::hold::{Hold, Release};
use crate::repository::index::Index;
use crate::repository::layout::{self, VaultObject};
use crate::repository::manifest::Manifest;
use crate::repository::marker::Marker;
use crate::repository::proof::Proof;
use crate::repository::{RepositoryDocument, checkpoint, json, signed, standing, vault, vouch};

/// A kind of stored object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `dbkeeper.json`.
    Repository,
    /// An epoch's document.
    Epoch,
    /// What is inside of a pack.
    Pack,
    /// What is inside of an index or a segment.
    Index,
    /// What is inside of a manifest.
    Manifest,
    /// A commit marker.
    Marker,
    /// A hold.
    Hold,
    /// The end of a hold.
    Release,
    /// A proof record.
    Proof,
    /// What the repository key vouches for.
    Vouch,
    /// That the repository key was replaced.
    Rotation,
    /// A run report.
    Report,
    /// What `doctor` leaves, and keys as such: only their names are read.
    Name,
    /// The line of a checkpoint, which is kept elsewhere and comes back by hand.
    Checkpoint,
}

impl Kind {
    /// All kinds; new ones at the end, since the seeds of the fuzzers count them.
    pub const ALL: [Self; 14] = [
        Self::Repository,
        Self::Epoch,
        Self::Pack,
        Self::Index,
        Self::Manifest,
        Self::Marker,
        Self::Hold,
        Self::Release,
        Self::Proof,
        Self::Report,
        Self::Name,
        Self::Vouch,
        Self::Rotation,
        Self::Checkpoint,
    ];

    /// The last words of the key under which `FORMAT.md` lists it.
    pub fn place(self) -> &'static str {
        match self {
            Self::Repository => "dbkeeper.json",
            Self::Epoch => "keys/<epoch>.json",
            Self::Pack => "packs/<expiry>.<sha256>",
            Self::Index => "index.age",
            Self::Manifest => "manifest.age",
            Self::Marker => "backup.json",
            Self::Hold => "hold.<hold>.json",
            Self::Release => "release.<hold>.json",
            Self::Proof => "<8 hex digits>.json",
            Self::Vouch => "vouches/<key>.<id>.json",
            Self::Rotation => "<new key>.json",
            Self::Report => "<worker>.json",
            Self::Name => "probe/…",
            Self::Checkpoint => "(outside)",
        }
    }
}

/// The most memory that reading an object of `bytes` bytes takes: for its values, and for chunks one after the other.
pub fn most_memory(bytes: usize) -> usize {
    const FIXED: usize = 1 << 20;
    FIXED + bytes.min(json::MAX_VALUES).saturating_mul(json::MAX_BYTES_PER_VALUE)
}

/// Reads `bytes` as an object of this kind, past seals and signatures. The error says what is wrong with them.
pub fn read(kind: Kind, bytes: &[u8]) -> Result<(), String> {
    fn document<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<(), String> {
        signed::read_unverified::<T>(bytes).map(drop).map_err(|error| error.to_string())
    }
    match kind {
        Kind::Repository => document::<RepositoryDocument>(bytes),
        Kind::Epoch => vault::read_epoch(bytes),
        Kind::Marker => document::<Marker>(bytes),
        Kind::Hold => document::<Hold>(bytes),
        Kind::Release => document::<Release>(bytes),
        Kind::Proof => document::<Proof>(bytes),
        Kind::Vouch => vouch::read_shape(bytes),
        Kind::Rotation => standing::read_shape(bytes),
        Kind::Report => document::<serde_json::Value>(bytes),
        Kind::Index => {
            let own = TargetId::tenant("acme").expect("a name");
            Index::parse(bytes, &own).map(drop).map_err(|error| error.to_string())
        }
        Kind::Manifest => read_manifest(bytes),
        Kind::Pack => read_pack(bytes),
        Kind::Name => read_name(bytes),
        Kind::Checkpoint => read_checkpoint(bytes),
    }
}

fn read_manifest(text: &[u8]) -> Result<(), String> {
    let manifest: Manifest = json::read(text)?;
    RowHasher::from_secret_hex(&manifest.row_secret).ok_or("no row secret")?;
    manifest.contradiction().map_or(Ok(()), Err)
}

fn read_pack(content: &[u8]) -> Result<(), String> {
    for entry in pack::parse(content).map_err(|error| error.to_string())? {
        let frame = pack::frame(content, &entry);
        // What it needs is its own size; a row may have a gigabyte, and a fuzzer need not see it.
        if entry.length as usize <= content.len() * 64 {
            compress::decompress(frame, entry.length as usize).map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

fn read_checkpoint(bytes: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    checkpoint::read_unverified(text).map(drop).map_err(|error| error.to_string())
}

fn read_name(bytes: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let own = TargetId::tenant("acme").expect("a name");
    let folder = layout::parse_vault_folder(own.kind, text);
    if let Some(found) = &folder {
        assert_eq!(found.name.key_form(), text, "a folder is read as what it prints");
    }
    match VaultObject::parse(text) {
        Some(object) => {
            let key = object.key(&own);
            let printed = key.as_str().strip_prefix(&layout::vault_prefix(&own));
            assert_eq!(printed, Some(text), "a key is read as what it prints");
            Ok(())
        }
        None => folder.map(drop).ok_or_else(|| "not ours".to_owned()),
    }
}
