//! The index: which chunks a vault's newest backup knows, for the next writer. It holds no names and no rows.
//!
//! Entries that do not change from backup to backup move to *segments*, stored once among the packs with an expiry of their
//! own, so that what an unchanged backup adds does not grow with the database.

use std::collections::{HashMap, HashSet};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::base::ids::{BackupId, EpochId, Hash32, TargetId};
use crate::codec::compress;
use crate::codec::row_cutter::FIRST_BASE_MEAN;
use crate::codec::seal::{self, Identity, Recipient};
use crate::repository::json;
use crate::repository::manifest::Part;

/// An index decodes to at most this many bytes: some four million chunks.
pub const MAX_INDEX_BYTES: usize = 256 << 20;

/// More loose entries than this become segments.
pub const MAX_LOOSE_CHUNKS: usize = 1_024;

/// A segment lists at most so many chunks, 60 bytes each: it stays far below [`MAX_INDEX_BYTES`].
pub const MAX_SEGMENT_CHUNKS: usize = 1 << 20;

/// A sealed index of at most so many bytes lies in the marker, which every writer reads anyway: a small target costs one request
/// less for reading it, and one less for writing it.
pub const MAX_INLINE_BYTES: usize = 8 << 10;

const RECORD_BYTES: usize = 44;

/// Where a chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkPlace {
    /// A number in the table of packs that goes with it.
    pub pack: u32,
    /// Where its plaintext begins in the pack's plaintext.
    pub offset: u32,
    /// The length of its plaintext.
    pub length: u32,
}

/// A pack as writers know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownPack {
    /// SHA-256 of its bytes.
    pub sha256: Hash32,
    /// The epoch that it is sealed to.
    pub epoch: EpochId,
    /// When it was made: no pack is renewed for ever.
    pub born_at: DateTime<Utc>,
    /// Its size.
    pub bytes: u64,
    /// The size of its plaintext.
    pub plain_bytes: u64,
    /// How much of its plaintext the backup with this index uses.
    pub used_bytes: u64,
}

/// What a later writer may reuse without reading the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memo {
    /// Keyed hash of the part's name.
    pub part: Hash32,
    /// The mean chunk size that it was cut with.
    pub mean_bytes: u32,
    /// What the part's content was stamped with.
    pub stamp: Option<Hash32>,
    /// The whole part but its name, where there is a stamp; runs count in the index's packs.
    pub content: Option<Part>,
}

/// The document inside `index.age` and inside a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Document {
    format: u32,
    vault: TargetId,
    id: BackupId,
    packs: Vec<KnownPack>,
    chunks: String,
    #[serde(default)]
    segments: Vec<Hash32>,
    #[serde(default)]
    memos: Vec<Memo>,
    #[serde(default)]
    elders: Vec<BackupId>,
    #[serde(default = "first_base_mean")]
    base_mean: u32,
}

/// Of documents that do not say it.
fn first_base_mean() -> u32 {
    FIRST_BASE_MEAN
}

/// An index, or a segment of one (which has only packs and chunks).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// Whose it is.
    pub vault: TargetId,
    /// The backup that wrote it.
    pub id: BackupId,
    /// The packs that the chunks count in.
    pub packs: Vec<KnownPack>,
    /// The chunks, each once.
    pub chunks: Vec<(Hash32, ChunkPlace)>,
    /// The segments that hold the other chunks.
    pub segments: Vec<Hash32>,
    /// What may be reused unread.
    pub memos: Vec<Memo>,
    /// Older backups whose markers verified: they serve the periods of retention, and need not be read again.
    pub elders: Vec<BackupId>,
    /// The mean chunk size of the vault's smaller tables.
    pub base_mean: u32,
}

/// Why an index cannot be used. It only costs storing chunks again.
#[derive(Debug, thiserror::Error)]
pub enum BadIndex {
    /// It cannot be opened.
    #[error(transparent)]
    Seal(#[from] seal::Error),
    /// It cannot be decompressed.
    #[error(transparent)]
    Compress(#[from] compress::Error),
    /// It is no index, or another vault's.
    #[error("not an index of this vault: {0}")]
    Shape(String),
}

impl Index {
    /// The text of the document, which must not be longer than [`MAX_INDEX_BYTES`].
    pub fn text(&self) -> Vec<u8> {
        let mut records = Vec::with_capacity(self.chunks.len() * RECORD_BYTES);
        for (id, place) in &self.chunks {
            records.extend_from_slice(&id.0);
            for number in [place.pack, place.offset, place.length] {
                records.extend_from_slice(&number.to_le_bytes());
            }
        }
        let document = Document {
            format: crate::repository::marker::FORMAT,
            vault: self.vault.clone(),
            id: self.id,
            packs: self.packs.clone(),
            chunks: BASE64_STANDARD.encode(&records),
            segments: self.segments.clone(),
            memos: self.memos.clone(),
            elders: self.elders.clone(),
            base_mean: self.base_mean,
        };
        serde_json::to_vec(&document).expect("our documents have only string keys")
    }

    /// The sealed bytes of such a text.
    pub fn seal(text: &[u8], recipient: &Recipient) -> Result<Vec<u8>, compress::Error> {
        Ok(seal::seal(&compress::compress_document(text)?, std::slice::from_ref(recipient)))
    }

    /// Cuts this document's chunks into segments of at most `most` each; every segment names only the packs that it needs.
    pub fn segments(&self, most: usize) -> Vec<Index> {
        let segment = |chunks: &[(Hash32, ChunkPlace)]| {
            let mut table = PackTable::default();
            let place = |place: &ChunkPlace, table: &mut PackTable| ChunkPlace {
                pack: table.number(self.packs[place.pack as usize]),
                ..*place
            };
            let chunks = chunks.iter().map(|(id, at)| (*id, place(at, &mut table))).collect();
            let (packs, none) = (table.into_packs(), (Vec::new(), Vec::new(), Vec::new()));
            let (segments, memos, elders) = none;
            let (vault, id, base_mean) = (self.vault.clone(), self.id, self.base_mean);
            Index { vault, id, packs, chunks, segments, memos, elders, base_mean }
        };
        self.chunks.chunks(most).map(segment).collect()
    }

    /// Reads sealed bytes that must be an index of `vault`. Every chunk's pack is in its table, and no pack is there twice.
    pub fn open(sealed: &[u8], identity: &Identity, vault: &TargetId) -> Result<Self, BadIndex> {
        let frame = seal::open(sealed, std::slice::from_ref(identity), MAX_INDEX_BYTES)?;
        let text = compress::decompress_document(&frame, MAX_INDEX_BYTES)?;
        Self::parse(&text, vault)
    }

    /// Reads the text of a document, as [`text`](Self::text) writes it.
    pub fn parse(text: &[u8], vault: &TargetId) -> Result<Self, BadIndex> {
        let document: Document = json::read(text).map_err(BadIndex::Shape)?;
        let shape = |what: &str| BadIndex::Shape(what.to_owned());
        if document.format != crate::repository::marker::FORMAT || document.vault != *vault {
            return Err(shape("another format or vault"));
        }
        // Numbers would no longer tell which pack is meant.
        let distinct: HashSet<Hash32> = document.packs.iter().map(|pack| pack.sha256).collect();
        if distinct.len() != document.packs.len() {
            return Err(shape("a pack is there twice"));
        }
        let records = BASE64_STANDARD.decode(&document.chunks).map_err(|_| shape("chunks"))?;
        if records.len() % RECORD_BYTES != 0 {
            return Err(shape("chunks"));
        }
        let mut chunks = Vec::with_capacity(records.len() / RECORD_BYTES);
        for record in records.chunks_exact(RECORD_BYTES) {
            let number = |at: usize| u32::from_le_bytes(record[at..at + 4].try_into().expect("four bytes"));
            let place = ChunkPlace { pack: number(32), offset: number(36), length: number(40) };
            if place.pack as usize >= document.packs.len() {
                return Err(shape("a chunk in no pack"));
            }
            chunks.push((Hash32(record[..32].try_into().expect("32 bytes")), place));
        }
        let runs = document.memos.iter().filter_map(|memo| memo.content.as_ref()).flat_map(|part| &part.runs);
        if runs.into_iter().any(|run| run.0 as usize >= document.packs.len()) {
            return Err(shape("a memo in no pack"));
        }
        let Document { vault, id, packs, segments, memos, elders, base_mean, .. } = document;
        Ok(Self { vault, id, packs, chunks, segments, memos, elders, base_mean })
    }
}

/// A table of packs without duplicates, numbered in order of arrival.
#[derive(Debug, Default)]
pub struct PackTable {
    packs: Vec<KnownPack>,
    numbers: HashMap<Hash32, u32>,
}

impl PackTable {
    /// The number of a pack, which is added if it is new.
    pub fn number(&mut self, pack: KnownPack) -> u32 {
        let next = u32::try_from(self.packs.len()).expect("fewer than 2^32 packs");
        let number = *self.numbers.entry(pack.sha256).or_insert(next);
        if number == next {
            self.packs.push(pack);
        }
        number
    }

    /// All packs, in order of their numbers.
    pub fn into_packs(self) -> Vec<KnownPack> {
        self.packs
    }

    /// The pack with this number.
    pub fn get(&self, number: u32) -> Option<&KnownPack> {
        self.packs.get(number as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::row_cutter::BASE_MEAN;

    fn acme() -> TargetId {
        TargetId::tenant("acme").expect("a name")
    }

    fn sealed(index: &Index) -> Vec<u8> {
        Index::seal(&index.text(), Identity::from_bytes(&[5; 32]).recipient()).expect("seal")
    }

    fn open(sealed: &[u8]) -> Result<Index, BadIndex> {
        Index::open(sealed, &Identity::from_bytes(&[5; 32]), &acme())
    }

    /// An index of these chunks, one pack for each number that they name.
    fn index(packs: u8, chunks: &[(u8, u32)]) -> Index {
        let id: BackupId = "20261121T091500Z-d336h-3fa9c2d1".parse().expect("an id");
        let pack = |number: u8| KnownPack {
            sha256: Hash32([number; 32]),
            epoch: "20261121T091500Z-00000001".parse().expect("an epoch"),
            born_at: id.created_at(),
            bytes: 10,
            plain_bytes: 100,
            used_bytes: 50,
        };
        let chunk = |(chunk, pack): &(u8, u32)| {
            (Hash32([*chunk; 32]), ChunkPlace { pack: *pack, offset: u32::from(*chunk), length: 50 })
        };
        let (packs, chunks) = ((0..packs).map(pack).collect(), chunks.iter().map(chunk).collect());
        let (segments, memos, elders) = (vec![], vec![], vec![id]);
        Index { vault: acme(), id, packs, chunks, segments, memos, elders, base_mean: BASE_MEAN }
    }

    #[test]
    fn an_index_opens_only_for_its_vault_and_its_key() {
        let (other, identity) = (TargetId::tenant("other").expect("a name"), Identity::from_bytes(&[5; 32]));
        let mut index = index(1, &[(2, 0)]);
        let good = sealed(&index);
        assert_eq!(open(&good).expect("open"), index);
        assert!(matches!(Index::open(&good, &identity, &other), Err(BadIndex::Shape(_))));
        assert!(matches!(Index::open(&good, &Identity::from_bytes(&[6; 32]), &acme()), Err(BadIndex::Seal(_))));
        index.chunks[0].1.pack = 1;
        assert!(matches!(open(&sealed(&index)), Err(BadIndex::Shape(_))), "a pack outside the table");
    }

    #[test]
    fn an_index_that_does_not_say_its_mean_is_of_the_first_vaults() {
        let text = String::from_utf8(index(1, &[(2, 0)]).text()).expect("JSON");
        let before = text.replace(&format!(",\"base_mean\":{BASE_MEAN}"), "");
        assert_ne!(text, before);
        assert_eq!(Index::parse(text.as_bytes(), &acme()).expect("parse").base_mean, BASE_MEAN);
        assert_eq!(Index::parse(before.as_bytes(), &acme()).expect("parse").base_mean, FIRST_BASE_MEAN);
    }

    #[test]
    fn an_index_that_names_a_pack_twice_is_refused() {
        let mut index = index(2, &[(2, 0), (3, 1)]);
        assert!(open(&sealed(&index)).is_ok());
        index.packs[1].sha256 = index.packs[0].sha256;
        assert!(matches!(open(&sealed(&index)), Err(BadIndex::Shape(what)) if what.contains("twice")));
    }

    #[test]
    fn chunks_are_cut_into_segments_that_every_reader_takes_and_none_is_lost() {
        let whole = index(4, &[(1, 3), (2, 3), (3, 0), (4, 1), (5, 1)]);
        let segments = whole.segments(2);
        let counts: Vec<(usize, usize)> = segments.iter().map(|one| (one.chunks.len(), one.packs.len())).collect();
        assert_eq!(counts, [(2, 1), (2, 2), (1, 1)], "chunks and packs of each");
        let mut found = Vec::new();
        for segment in &segments {
            let opened = open(&sealed(segment)).expect("open");
            found.extend(opened.chunks.iter().map(|(id, at)| (*id, opened.packs[at.pack as usize].sha256, at.offset)));
        }
        let all = whole.chunks.iter().map(|(id, at)| (*id, whole.packs[at.pack as usize].sha256, at.offset));
        assert_eq!(found, all.collect::<Vec<_>>());
    }
}
