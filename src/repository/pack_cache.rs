//! Packs that are open for reading: fetched once, checked against their name, decrypted, and kept while they are in use.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::OnceCell;

use crate::base::cpu;
use crate::base::ids::Hash32;
use crate::codec::digest::sha256;
use crate::codec::pack::{self, Entry};
use crate::codec::seal::{self, Identity};
use crate::repository::vault::{Listing, Vault};
use crate::repository::{Error, seal_error};
use crate::store::ObjectKey;

/// A larger object is no pack of ours: the largest row is below 1 GiB, and stands alone.
const MAX_PACK_OBJECT_BYTES: u64 = 1200 << 20;

/// A pack that is decrypted, but not decompressed.
#[derive(Debug)]
pub(crate) struct OpenPack {
    pub key: ObjectKey,
    pub content: Vec<u8>,
    pub entries: Vec<Entry>,
}

type Cell = Arc<OnceCell<Arc<OpenPack>>>;

/// The packs that were opened last.
///
/// Bounded in bytes and not in packs: a table of which a little changes every day lies in a few large packs and in many small
/// ones, and is read from all of them in turns.
#[derive(Debug)]
pub(crate) struct PackCache {
    kept_bytes: u64,
    cells: Mutex<VecDeque<Kept>>,
}

#[derive(Debug)]
struct Kept {
    hash: Hash32,
    bytes: u64,
    cell: Cell,
}

impl PackCache {
    /// A cache that keeps the packs that were used last, up to `kept_bytes` and at least one; packs in use are kept by their
    /// users.
    pub(crate) fn new(kept_bytes: usize) -> Self {
        Self { kept_bytes: kept_bytes as u64, cells: Mutex::new(VecDeque::new()) }
    }

    /// The cell of a pack of this size, moved to the front.
    fn cell(&self, hash: Hash32, bytes: u64) -> Cell {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        let found = cells.iter().position(|kept| kept.hash == hash).and_then(|at| cells.remove(at));
        let newest = found.unwrap_or_else(|| Kept { hash, bytes, cell: Cell::default() });
        let cell = Arc::clone(&newest.cell);
        cells.push_front(newest);
        let mut all = 0_u64;
        let fits = |kept: &&Kept| {
            all = all.saturating_add(kept.bytes);
            all <= self.kept_bytes
        };
        let fitting = cells.iter().take_while(fits).count();
        cells.truncate(fitting.max(1));
        cell
    }

    /// Opens a pack, or gives the one that is open. Several callers wait for one fetch.
    pub(crate) async fn open(
        &self,
        vault: &Vault,
        listing: &Listing,
        hash: Hash32,
        identity: &Identity,
    ) -> Result<Arc<OpenPack>, Error> {
        let bytes = listing.packs.get(&hash).map_or(0, |pack| pack.bytes);
        let cell = self.cell(hash, bytes);
        let opened = cell.get_or_try_init(|| async {
            let (key, sealed) = fetch(vault, listing, hash).await?;
            let (identity, target) = (identity.clone(), vault.target().clone());
            cpu::run(move || decrypt(key, &sealed, &identity, &target)).await.map(Arc::new)
        });
        opened.await.map(Arc::clone)
    }
}

/// Fetches a pack and proves that its bytes are those of its name.
pub(crate) async fn fetch(vault: &Vault, listing: &Listing, hash: Hash32) -> Result<(ObjectKey, Bytes), Error> {
    let missing = || Error::Damaged {
        key: crate::repository::layout::VaultObject::Pack(chrono::DateTime::UNIX_EPOCH, hash).key(vault.target()),
        what: "it is not in the store".to_owned(),
    };
    let key = listing.pack_key(vault.target(), hash).ok_or_else(missing)?;
    if listing.packs.get(&hash).is_some_and(|pack| pack.bytes > MAX_PACK_OBJECT_BYTES) {
        return Err(Error::Damaged { key, what: "it is larger than a pack can be".to_owned() });
    }
    let (key, sealed) = match vault.get(&key).await {
        // Renewed since the listing, and the older of its two keys pruned.
        Err(Error::Store { source, .. }) if source.is_not_found() => {
            let key = vault.list().await?.pack_key(vault.target(), hash).ok_or_else(missing)?;
            let sealed = vault.get(&key).await?;
            (key, sealed)
        }
        sealed => (key, sealed?),
    };
    let (digested, sealed) = cpu::run(move || (sha256(&sealed), sealed)).await;
    if digested == hash {
        return Ok((key, sealed));
    }
    Err(Error::Damaged { key, what: format!("its bytes have the SHA-256 {digested}") })
}

fn decrypt(
    key: ObjectKey,
    sealed: &[u8],
    identity: &Identity,
    target: &crate::base::ids::TargetId,
) -> Result<OpenPack, Error> {
    let opened = seal::open(sealed, std::slice::from_ref(identity), sealed.len());
    let content = opened.map_err(|error| seal_error(error, key.clone(), target, Vec::new()))?;
    let entries =
        pack::parse(&content).map_err(|error| Error::Damaged { key: key.clone(), what: error.to_string() })?;
    Ok(OpenPack { key, content, entries })
}

/// The chunks that make up a range of a pack's plaintext; `None` if the range does not begin and end at chunk borders.
pub(crate) fn chunks_of(entries: &[Entry], offset: u32, length: u64) -> Option<&[Entry]> {
    let first = entries.partition_point(|entry| entry.offset < offset);
    // Empty chunks do not exist: a cutter never closes one.
    let end = u64::from(offset).checked_add(length)?;
    let after = entries.partition_point(|entry| u64::from(entry.offset) < end);
    let chunks = entries.get(first..after)?;
    let begins = chunks.first().is_none_or(|entry| entry.offset == offset);
    let ends = chunks.last().is_none_or(|entry| u64::from(entry.offset) + u64::from(entry.length) == end);
    (begins && ends && (chunks.is_empty() == (length == 0))).then_some(chunks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_must_begin_and_end_at_chunk_borders() {
        let lengths = [10_u32, 5, 20];
        let mut entries = Vec::new();
        let mut offset = 0;
        for length in lengths {
            entries.push(Entry { id: Hash32([0; 32]), offset, length, frame_offset: 0, frame_length: 0 });
            offset += length;
        }
        let count = |offset, length| chunks_of(&entries, offset, length).map(<[Entry]>::len);
        assert_eq!(count(0, 35), Some(3));
        assert_eq!(count(10, 5), Some(1));
        assert_eq!(count(10, 25), Some(2));
        for (offset, length) in [(1, 9), (0, 9), (0, 36), (10, 6), (35, 1), (40, 1), (0, u64::MAX)] {
            assert_eq!(count(offset, length), None, "{offset}+{length}");
        }
    }
}
