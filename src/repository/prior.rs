//! What a new backup knows of the vault's past: the parent, the chunks that need not be stored again, and the memos.
//!
//! Only packs count that this run's listing shows, that expire no earlier than the new backup (invariant 3) and that somebody
//! can open. Whatever cannot be read costs storing chunks again, and is told; it never stops a backup.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt;

use crate::base::ids::{BackupId, EpochId, Hash32};
use crate::codec::digest::sha256;
use crate::codec::row_cutter::BASE_MEAN;
use crate::repository::Error;
use crate::repository::ancestors::Ancestors;
use crate::repository::expiry::pack_expiry;
use crate::repository::index::{ChunkPlace, Index, KnownPack, Memo, PackTable};
use crate::repository::keys::VaultKeys;
use crate::repository::layout::VaultObject;
use crate::repository::marker::Parent;
use crate::repository::vault::{Listing, Vault};

/// A pack that expires too early is renewed where at least this share of it was in use, in percent: by
/// simulation (`examples/retention.rs`) a higher share stores more and sends more.
const RENEWAL_PERCENT: u64 = 70;

/// No pack is renewed beyond this age, so that no damage lives for ever.
const MAX_PACK_AGE_DAYS: i64 = 400;

/// Copies inside the store at once.
const RENEWALS_AT_ONCE: usize = 8;

/// A chunk of an earlier backup.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OldChunk {
    /// Where it is; its pack counts in [`Prior`].
    pub place: ChunkPlace,
    /// The segment that lists it, by number, if it lasts.
    pub segment: Option<u32>,
}

/// A segment that lasts, and how many chunks it lists.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OldSegment {
    pub sha256: Hash32,
    pub bytes: u64,
    pub chunks: usize,
}

/// The vault's past, as far as it helps.
#[derive(Debug, Default)]
pub struct Prior {
    parent: Option<Parent>,
    packs: Vec<KnownPack>,
    lasting: HashSet<u32>,
    chunks: HashMap<Hash32, OldChunk>,
    /// Chunks of the newest backup whose packs do not last: they are stored again.
    outlived: HashSet<Hash32>,
    segments: Vec<OldSegment>,
    memos: HashMap<Hash32, Memo>,
    base_mean: Option<u32>,
    problems: Vec<String>,
}

impl Prior {
    /// Takes what the newest usable index knows, and renews what is worth it; `epochs` are those that can be restored.
    pub(crate) async fn load(
        vault: &Vault,
        listing: &Listing,
        ancestors: &mut Ancestors,
        id: BackupId,
        epochs: &HashSet<EpochId>,
    ) -> Result<Self, Error> {
        let keys = vault.writer_keys("taking a backup")?;
        let parent = ancestors.parent;
        let mut prior = Self { parent, problems: ancestors.take_problems(), ..Self::default() };
        let Some(index) = ancestors.index.take() else { return Ok(prior) };
        let segments = prior.load_segments(vault, keys, listing, &index).await?;
        // A pack of another size is damaged: its chunks are stored again.
        let whole = |pack: &KnownPack| listing.packs.get(&pack.sha256).is_some_and(|listed| listed.bytes == pack.bytes);
        let opens = |pack: &KnownPack| epochs.contains(&pack.epoch) && whole(pack);
        let worth: Vec<KnownPack> = index.packs.iter().copied().filter(opens).collect();
        let renewed = renew(vault, listing, &worth, id).await;
        let lasts = |hash: &Hash32, listed: &Listing| {
            renewed.contains(hash) || listed.packs.get(hash).is_some_and(|pack| pack.expires_at >= id.expires_at())
        };
        let mut table = PackTable::default();
        // The index first: its figures on the use of packs are the current ones.
        let numbers: Vec<u32> = index.packs.iter().map(|pack| table.number(*pack)).collect();
        prior.add_chunks(&index, &numbers, None);
        for (sha256, segment) in segments {
            let numbers: Vec<u32> = segment.packs.iter().map(|pack| table.number(*pack)).collect();
            let mut number = None;
            if lasts(&sha256, listing) {
                number = u32::try_from(prior.segments.len()).ok();
                let bytes = listing.packs.get(&sha256).map_or(0, |listed| listed.bytes);
                prior.segments.push(OldSegment { sha256, bytes, chunks: segment.chunks.len() });
            }
            prior.add_chunks(&segment, &numbers, number);
        }
        prior.packs = table.into_packs();
        let numbered = prior.packs.iter().enumerate();
        let numbered = numbered.filter(|(_, pack)| opens(pack) && lasts(&pack.sha256, listing));
        prior.lasting = numbered.map(|(number, _)| u32::try_from(number).expect("numbered by u32")).collect();
        let lasting = &prior.lasting;
        let fading = prior.chunks.iter().filter(|(_, chunk)| !lasting.contains(&chunk.place.pack));
        prior.outlived = fading.map(|(id, _)| *id).collect();
        prior.chunks.retain(|_, chunk| lasting.contains(&chunk.place.pack));
        prior.base_mean = Some(index.base_mean);
        prior.memos = index.memos.into_iter().map(|memo| (memo.part, memo)).collect();
        Ok(prior)
    }

    async fn load_segments(
        &mut self,
        vault: &Vault,
        keys: &VaultKeys,
        listing: &Listing,
        index: &Index,
    ) -> Result<Vec<(Hash32, Index)>, Error> {
        let mut segments = Vec::new();
        for hash in &index.segments {
            let Some(key) = listing.pack_key(vault.target(), *hash) else {
                self.problems.push(format!("index segment {hash} is missing; its chunks are stored again"));
                continue;
            };
            let sealed = match vault.get(&key).await {
                // Deleted since the listing, by a pruner: nothing is wrong.
                Err(Error::Store { source, .. }) if source.is_not_found() => continue,
                sealed => sealed?,
            };
            let opened = match sha256(&sealed) == *hash {
                true => Index::open(&sealed, &keys.index, vault.target()).map_err(|error| error.to_string()),
                false => Err("its bytes are not those of its name".to_owned()),
            };
            match opened {
                Ok(segment) => segments.push((*hash, segment)),
                Err(what) => {
                    self.problems.push(format!("object {key} is damaged: {what}; its chunks are stored again"))
                }
            }
        }
        Ok(segments)
    }

    fn add_chunks(&mut self, index: &Index, numbers: &[u32], segment: Option<u32>) {
        for (id, place) in &index.chunks {
            let place = ChunkPlace { pack: numbers[place.pack as usize], ..*place };
            self.chunks.entry(*id).or_insert(OldChunk { place, segment });
        }
    }

    /// The newest backup before this one.
    pub fn parent(&self) -> Option<Parent> {
        self.parent
    }

    /// True if the pack with this number may be referenced.
    pub(crate) fn lasts(&self, pack: u32) -> bool {
        self.lasting.contains(&pack)
    }

    pub(crate) fn pack(&self, number: u32) -> KnownPack {
        self.packs[number as usize]
    }

    /// A chunk that need not be stored again.
    pub(crate) fn chunk(&self, id: &Hash32) -> Option<OldChunk> {
        self.chunks.get(id).copied()
    }

    /// All of them.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = (&Hash32, ChunkPlace)> {
        self.chunks.iter().map(|(id, chunk)| (id, chunk.place))
    }

    /// True for a chunk that is not new, and must be stored again all the same.
    pub(crate) fn has_outlived(&self, id: &Hash32) -> bool {
        self.outlived.contains(id)
    }

    pub(crate) fn segments(&self) -> &[OldSegment] {
        &self.segments
    }

    pub(crate) fn memo(&self, part: &Hash32) -> Option<&Memo> {
        self.memos.get(part)
    }

    /// The mean chunk size that a part was cut with last time, where it was not the vault's smallest.
    pub(crate) fn mean_before(&self, part: &Hash32) -> Option<u32> {
        self.memo(part).map(|memo| memo.mean_bytes).filter(|mean| *mean > self.base_mean())
    }

    /// The smallest mean of the vault: it began with it.
    pub(crate) fn base_mean(&self) -> u32 {
        self.base_mean.unwrap_or(BASE_MEAN)
    }

    /// What an operator should know.
    pub fn into_problems(self) -> Vec<String> {
        self.problems
    }
}

/// Copies packs that would expire too early, but are mostly in use, to a later expiry; returns those that now last.
///
/// A store that cannot copy costs storing their chunks again, nothing else; so a failed copy is no error.
async fn renew(vault: &Vault, listing: &Listing, packs: &[KnownPack], id: BackupId) -> HashSet<Hash32> {
    let due: BTreeMap<Hash32, DateTime<Utc>> = packs
        .iter()
        .filter_map(|pack| Some((pack.sha256, listing.packs.get(&pack.sha256)?.expires_at, pack)))
        .filter(|(_, expires_at, pack)| *expires_at < id.expires_at() && worth_renewing(pack, id.created_at()))
        .map(|(hash, expires_at, _)| (hash, expires_at))
        .collect();
    let copies = due.into_iter().map(|(hash, expires_at)| async move {
        let from = VaultObject::Pack(expires_at, hash).key(vault.target());
        let to = VaultObject::Pack(pack_expiry(&id), hash).key(vault.target());
        vault.repository().store().copy(&from, &to).await.ok().map(|()| hash)
    });
    futures::stream::iter(copies)
        .buffer_unordered(RENEWALS_AT_ONCE)
        .filter_map(|done| async move { done })
        .collect()
        .await
}

fn worth_renewing(pack: &KnownPack, now: DateTime<Utc>) -> bool {
    let in_use = pack.used_bytes.saturating_mul(100) >= pack.plain_bytes.saturating_mul(RENEWAL_PERCENT);
    in_use && now - pack.born_at <= TimeDelta::days(MAX_PACK_AGE_DAYS)
}
