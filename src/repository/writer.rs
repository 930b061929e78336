//! One backup on its way into a vault: begin, lanes, commit.
//!
//! Everything before [`BackupWriter::commit`] leaves at most unreferenced packs behind, which expire by themselves. The marker
//! is the last put.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};

use crate::base::clock::Entropy;
use crate::base::cpu::{ByteBudget, Place};
use crate::base::ids::{BackupId, EpochId, Hash32, RunId, TargetId};
use crate::codec::compress;
use crate::codec::digest::{RowHasher, sha256};
use crate::codec::row_cutter::CutSizes;
use crate::codec::seal::{self, Recipient};
use crate::repository::ancestors::Ancestors;
use crate::repository::expiry::{Life, RetentionPolicy, pack_expiry};
use crate::repository::index::{
    self, ChunkPlace, Index, KnownPack, MAX_INDEX_BYTES, MAX_INLINE_BYTES, MAX_LOOSE_CHUNKS, Memo,
};
use crate::repository::json::check_readable;
use crate::repository::keys::VaultKeys;
use crate::repository::lane::Lane;
use crate::repository::layout::VaultObject;
use crate::repository::manifest::{MAX_MANIFEST_BYTES, Manifest, PackReference, Part};
use crate::repository::marker::{FORMAT, Marker, ObjectFacts};
use crate::repository::prior::Prior;
use crate::repository::slots::State;
use crate::repository::vault::{Epoch, Vault};
use crate::repository::{Error, signed};

/// Ids count whole seconds.
const ONE_SECOND: TimeDelta = TimeDelta::seconds(1);

/// A backup is dated after the newest one of its vault, if that is dated no later than this after now.
const MOST_CROWDED: TimeDelta = TimeDelta::seconds(60);

/// How backups are written. There is no default: a wrong one loses data.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// To whom new epochs are sealed.
    pub recovery: Vec<Recipient>,
    /// Which class a backup gets.
    pub retention: RetentionPolicy,
    /// A life chosen by hand, instead of a class.
    pub keep: Option<Life>,
    /// zstd level.
    pub level: i32,
    /// Size at which a lane closes its pack: [`PACK_BYTES`](crate::codec::pack::PACK_BYTES) unless there are many lanes.
    pub pack_bytes: usize,
    /// Where lanes digest and compress their chunks.
    pub digest_at: Place,
    /// Room for chunks in flight, shared by all targets.
    pub budget: ByteBudget,
    /// Room for packs that are sealed and sent, shared by all targets: at least twice `pack_bytes`.
    pub uploads: ByteBudget,
    /// The run that this backup belongs to.
    pub run_id: RunId,
}

/// Whether a chunk needs to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It is in a pack that lasts.
    Yes,
    /// It is not.
    No,
}

/// What the lanes of one backup share.
#[derive(Debug)]
pub struct Shared {
    vault: Vault,
    keys: VaultKeys,
    epoch: Epoch,
    /// The highest revision of each epoch that was listed.
    revisions: BTreeMap<EpochId, u32>,
    id: BackupId,
    options: WriterOptions,
    prior: Prior,
    /// Older backups whose markers verified.
    elders: Vec<BackupId>,
    state: Mutex<State>,
}

/// One backup that is being written.
#[derive(Debug)]
pub struct BackupWriter {
    shared: Arc<Shared>,
}

/// A backup that exists.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Its marker.
    pub marker: Marker,
    /// What an operator should know about older objects of the vault.
    pub problems: Vec<String>,
}

/// The engine's half of the manifest, and what the marker says of it.
#[derive(Clone, Debug)]
pub struct Content {
    /// Every part, with the stamp under which a later backup may reuse it unread.
    pub parts: Vec<(Part, Option<[u8; 32]>)>,
    /// What the engine needs to restore.
    pub description: serde_json::Value,
    /// Engine and version, for the marker.
    pub engine: String,
}

impl BackupWriter {
    /// Lists the vault, decides the backup's life, and learns what need not be stored again.
    pub async fn begin(
        vault: &Vault,
        options: WriterOptions,
        now: DateTime<Utc>,
        entropy: &dyn Entropy,
    ) -> Result<Self, Error> {
        let keys = vault.writer_keys("taking a backup")?.clone();
        if options.recovery.is_empty() {
            return Err(Error::NoRecipient);
        }
        let listing = vault.list().await?;
        vault.check_key_is_current(&listing).await?;
        let mut problems = Vec::new();
        let restorable = vault.restorable_epochs(&listing, &options.recovery, &mut problems).await?;
        let epochs = restorable.iter().map(|epoch| epoch.id).collect();
        let epoch = match restorable.into_iter().next() {
            Some(epoch) => epoch,
            None => vault.begin_epoch(&options.recovery, now, entropy).await?,
        };
        let mut ancestors = Ancestors::find(vault, &keys, &listing).await?;
        problems.into_iter().for_each(|problem| ancestors.tell(problem));
        let newest = ancestors.parent.map(|parent| parent.id);
        if let Some(later) = newest.filter(|newest| now + ONE_SECOND < newest.created_at()) {
            ancestors.tell(format!("backup {later} is dated later than now: one of two clocks is wrong"));
        }
        let life = match options.keep {
            Some(life) => life,
            None => ancestors.life_at(vault, &listing, &options.retention, now).await?,
        };
        // Ids count whole seconds: a backup right after another one must still be the newer.
        let next = newest.map(|newest| newest.created_at() + ONE_SECOND).filter(|next| *next <= now + MOST_CROWDED);
        let begins = next.map_or(now, |next| next.max(now));
        let id = BackupId::new(begins, life.class, life.keep_hours, entropy.tail());
        let elders = ancestors.elders(&options.retention, now);
        let prior = Prior::load(vault, &listing, &mut ancestors, id, &epochs).await?;
        let state = Mutex::new(State::default());
        let vault = vault.clone();
        Ok(Self {
            shared: Arc::new(Shared {
                vault,
                keys,
                epoch,
                revisions: listing.epochs,
                id,
                options,
                prior,
                elders,
                state,
            }),
        })
    }

    /// The backup's id.
    pub fn id(&self) -> BackupId {
        self.shared.id
    }

    /// Opens a lane. Every lane must be finished before the commit.
    pub fn lane(&self) -> Lane {
        Lane::new(Arc::clone(&self.shared))
    }

    /// The part `name` of the vault's newest backup, if it has the same stamp and all its packs last long enough.
    pub fn reuse(&self, name: &str, stamp: &[u8; 32]) -> Option<Part> {
        let (shared, memo) = (&self.shared, self.shared.prior.memo(&self.shared.keys.part_tag(name))?);
        let content = memo.content.as_ref().filter(|_| memo.stamp == Some(Hash32(*stamp)))?;
        if !content.runs.iter().all(|run| shared.prior.lasts(run.0)) {
            return None;
        }
        let mut state = shared.state();
        let runs = content.runs.iter().map(|run| state.reuse(&shared.prior, run)).collect();
        Some(Part { name: name.to_owned(), runs, ..content.clone() })
    }

    /// Writes index and manifest, then the marker: from here on the backup exists.
    ///
    /// A failure leaves no backup, or a whole one where the store took the marker and its answer was lost; calling again is
    /// not possible, since the writer is consumed.
    pub async fn commit(self, content: Content) -> Result<Committed, Error> {
        let shared = Arc::try_unwrap(self.shared).expect("every lane is finished before the commit");
        let mut state = std::mem::take(&mut *shared.state());
        state.touch_reused(&shared.prior);
        let packs = state.finished_packs(&shared.prior);
        let target = shared.vault.target();
        let mut stored_bytes = state.stored_bytes;
        let mut index = shared.index(&state, &packs, &content.parts);
        let kept = shared.prior.segments().iter().filter(|segment| index.segments.contains(&segment.sha256));
        let mut segments: Vec<ObjectFacts> =
            kept.map(|segment| ObjectFacts { sha256: segment.sha256, bytes: segment.bytes }).collect();
        if index.chunks.len() > MAX_LOOSE_CHUNKS {
            for segment in index.segments(index::MAX_SEGMENT_CHUNKS) {
                let stored = shared.store_segment(&segment).await?;
                stored_bytes += stored.bytes;
                index.segments.push(stored.sha256);
                segments.push(stored);
            }
            index.chunks.clear();
        }
        // Where nothing but documents is new, an older backup has the same content.
        let new_content = stored_bytes > 0;
        let index_sealed = shared.seal_index(&index)?;
        let manifest_sealed = shared.seal_manifest(&packs, &content)?;
        stored_bytes += (index_sealed.len() + manifest_sealed.len()) as u64;
        let mut marker = shared.marker(&packs, &content, segments);
        marker.stored_bytes = stored_bytes;
        marker.index = facts(&index_sealed);
        marker.manifest = facts(&manifest_sealed);
        let inline = index.segments.is_empty() && index_sealed.len() <= MAX_INLINE_BYTES;
        marker.index_inline = inline.then(|| BASE64_STANDARD.encode(&index_sealed));
        let key = VaultObject::Marker(shared.id).key(target);
        let marker_signed = signed::write(&marker, &key, &shared.keys.mac);
        check_readable("marker", &marker_signed, signed::MAX_DOCUMENT_BYTES)?;
        let (manifest_key, manifest_bytes) = (VaultObject::Manifest(shared.id).key(target), marker.manifest.bytes);
        let marker_bytes = marker_signed.len() as u64;
        if !inline {
            shared.vault.put(&VaultObject::Index(shared.id).key(target), Bytes::from(index_sealed)).await?;
        }
        shared.vault.put(&manifest_key, Bytes::from(manifest_sealed)).await?;
        if new_content {
            shared.vault.prove_size(&manifest_key, manifest_bytes).await?;
        }
        shared.retain_epochs(&packs).await?;
        shared.vault.put(&key, Bytes::from(marker_signed)).await?;
        if new_content {
            shared.vault.prove_size(&key, marker_bytes).await?;
        }
        Ok(Committed { marker, problems: shared.prior.into_problems() })
    }
}

fn facts(bytes: &[u8]) -> ObjectFacts {
    ObjectFacts { sha256: sha256(bytes), bytes: bytes.len() as u64 }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn target(&self) -> &TargetId {
        self.vault.target()
    }

    pub(crate) fn rows(&self) -> &RowHasher {
        &self.keys.rows
    }

    pub(crate) fn recipient(&self) -> &Recipient {
        &self.epoch.recipient
    }

    pub(crate) fn level(&self) -> i32 {
        self.options.level
    }

    pub(crate) fn digest_at(&self) -> Place {
        self.options.digest_at
    }

    pub(crate) fn pack_bytes(&self) -> usize {
        self.options.pack_bytes
    }

    pub(crate) fn budget(&self) -> &ByteBudget {
        &self.options.budget
    }

    pub(crate) fn uploads(&self) -> &ByteBudget {
        &self.options.uploads
    }

    /// How a part of a table of about `bytes` is cut.
    pub(crate) fn cut_sizes(&self, part: &str, bytes: u64) -> CutSizes {
        let before = self.prior.mean_before(&self.keys.part_tag(part));
        CutSizes::for_table(bytes, self.prior.base_mean(), before)
    }

    pub(crate) fn chunk_id(&self, plain: &[u8]) -> Hash32 {
        self.keys.chunk_id.mac(&[plain])
    }

    pub(crate) fn knows(&self, id: &Hash32) -> Known {
        let known = self.prior.chunk(id).is_some() || self.state().fresh.contains_key(id);
        if known { Known::Yes } else { Known::No }
    }

    /// True for a chunk that the newest backup has too, in a pack that does not last.
    pub(crate) fn is_stored_again(&self, id: &Hash32) -> bool {
        self.prior.has_outlived(id)
    }

    /// Where a known chunk is, in this backup's numbers; its pack is referenced from now on.
    pub(crate) fn place(&self, id: &Hash32) -> Option<ChunkPlace> {
        let mut state = self.state();
        if let Some(place) = state.fresh.get(id).or_else(|| state.touched.get(id)) {
            return Some(*place);
        }
        let old = self.prior.chunk(id)?.place;
        let place = ChunkPlace { pack: state.adopt(&self.prior, old.pack), ..old };
        state.touched.insert(*id, place);
        state.slots[place.pack as usize].used_bytes += u64::from(place.length);
        Some(place)
    }

    /// A chunk has been appended to an open pack.
    pub(crate) fn learn(&self, id: Hash32, place: ChunkPlace) {
        let mut state = self.state();
        state.slots[place.pack as usize].used_bytes += u64::from(place.length);
        state.fresh.insert(id, place);
    }

    /// A lane opens a pack.
    pub(crate) fn begin_pack(&self) -> u32 {
        self.state().new_slot(None)
    }

    /// A lane has sealed its pack: puts it.
    pub(crate) async fn store_pack(
        &self,
        slot: u32,
        sha256: Hash32,
        plain_bytes: u64,
        sealed: Bytes,
    ) -> Result<(), Error> {
        let bytes = sealed.len() as u64;
        let key = VaultObject::Pack(pack_expiry(&self.id), sha256).key(self.target());
        self.vault.put(&key, sealed).await?;
        self.vault.prove_size(&key, bytes).await?;
        let (epoch, born_at) = (self.epoch.id, self.id.created_at());
        let pack = KnownPack { sha256, epoch, born_at, bytes, plain_bytes, used_bytes: 0 };
        let mut state = self.state();
        state.slots[slot as usize].pack = Some(pack);
        state.stored_bytes += bytes;
        Ok(())
    }

    /// Stores a new segment among the packs.
    async fn store_segment(&self, segment: &Index) -> Result<ObjectFacts, Error> {
        let sealed = self.seal_index(segment)?;
        let facts = facts(&sealed);
        let key = VaultObject::Pack(pack_expiry(&self.id), facts.sha256).key(self.target());
        self.vault.put(&key, Bytes::from(sealed)).await?;
        self.vault.prove_size(&key, facts.bytes).await?;
        Ok(facts)
    }

    /// The index of this backup, with every chunk that no kept segment lists.
    fn index(&self, state: &State, packs: &[KnownPack], parts: &[(Part, Option<[u8; 32]>)]) -> Index {
        let kept = self.kept_segments(state);
        let listed =
            |id: &Hash32| self.prior.chunk(id).and_then(|chunk| chunk.segment).is_some_and(|n| kept.contains(&n));
        let fresh = state.fresh.iter().chain(state.touched.iter().filter(|(id, _)| !listed(id)));
        let mut chunks: Vec<(Hash32, ChunkPlace)> = fresh.map(|(id, place)| (*id, *place)).collect();
        chunks.sort_unstable_by_key(|(_, place)| (place.pack, place.offset));
        let segments = kept.iter().map(|number| self.prior.segments()[*number as usize].sha256).collect();
        let memos = parts.iter().filter_map(|(part, stamp)| self.memo(part, *stamp)).collect();
        let (vault, id, packs, elders) = (self.target().clone(), self.id, packs.to_vec(), self.elders.clone());
        let base_mean = self.prior.base_mean();
        Index { vault, id, packs, chunks, segments, memos, elders, base_mean }
    }

    /// The segments of earlier backups of which at least half is in use.
    fn kept_segments(&self, state: &State) -> std::collections::BTreeSet<u32> {
        let mut used: HashMap<u32, usize> = HashMap::new();
        for id in state.touched.keys() {
            if let Some(segment) = self.prior.chunk(id).and_then(|chunk| chunk.segment) {
                *used.entry(segment).or_default() += 1;
            }
        }
        let half_used = |(segment, count): &(u32, usize)| self.prior.segments()[*segment as usize].chunks <= 2 * count;
        used.into_iter().filter(half_used).map(|(segment, _)| segment).collect()
    }

    fn memo(&self, part: &Part, stamp: Option<[u8; 32]>) -> Option<Memo> {
        let sticky = part.mean_bytes > self.prior.base_mean();
        if stamp.is_none() && !sticky {
            return None;
        }
        let content = stamp.map(|_| Part { name: String::new(), ..part.clone() });
        let stamp = stamp.map(Hash32);
        Some(Memo { part: self.keys.part_tag(&part.name), mean_bytes: part.mean_bytes, stamp, content })
    }

    /// Where objects are locked, the secrets that open this backup are locked as long as its packs: their names tell no time.
    async fn retain_epochs(&self, packs: &[KnownPack]) -> Result<(), Error> {
        let until = pack_expiry(&self.id);
        let epochs: std::collections::BTreeSet<_> =
            packs.iter().map(|pack| pack.epoch).chain([self.epoch.id]).collect();
        for epoch in epochs {
            // All revisions: each opens to whom it was sealed, and the newest to those of now.
            for revision in 1..=self.revisions.get(&epoch).copied().unwrap_or(1) {
                self.vault.retain(&VaultObject::Epoch(epoch, revision).key(self.target()), until).await?;
            }
        }
        Ok(())
    }

    fn seal_index(&self, index: &Index) -> Result<Vec<u8>, Error> {
        let text = index.text();
        check_readable("index", &text, MAX_INDEX_BYTES)?;
        let sealed = Index::seal(&text, self.keys.index.recipient());
        sealed.map_err(|source| Error::Compress { target: self.target().clone(), source })
    }

    fn seal_manifest(&self, packs: &[KnownPack], content: &Content) -> Result<Vec<u8>, Error> {
        let references = packs.iter().map(|pack| PackReference { sha256: pack.sha256, epoch: pack.epoch });
        let manifest = Manifest {
            format: FORMAT,
            vault: self.target().clone(),
            id: self.id,
            run_id: self.options.run_id,
            dbkeeper: env!("CARGO_PKG_VERSION").to_owned(),
            row_secret: self.keys.rows.secret_hex(),
            packs: references.collect(),
            parts: content.parts.iter().map(|(part, _)| part.clone()).collect(),
            description: content.description.clone(),
        };
        assert_eq!(manifest.contradiction(), None, "a manifest that contradicts itself is never written");
        let text = serde_json::to_vec(&manifest).expect("our documents have only string keys");
        check_readable("manifest", &text, MAX_MANIFEST_BYTES)?;
        let frame = compress::compress_document(&text);
        let frame = frame.map_err(|source| Error::Compress { target: self.target().clone(), source })?;
        Ok(seal::seal(&frame, std::slice::from_ref(&self.epoch.recipient)))
    }

    /// The marker, but for what the caller still has to count.
    fn marker(&self, packs: &[KnownPack], content: &Content, segments: Vec<ObjectFacts>) -> Marker {
        let unknown = ObjectFacts { sha256: Hash32([0; 32]), bytes: 0 };
        Marker {
            format: FORMAT,
            repository: self.vault.repository().id().to_string(),
            vault: self.target().clone(),
            id: self.id,
            run_id: self.options.run_id,
            created_at: self.id.created_at(),
            expires_at: self.id.expires_at(),
            class: self.id.class(),
            epoch: self.epoch.id,
            recipient: self.epoch.recipient.to_string(),
            parent: self.prior.parent(),
            packs: packs.iter().map(|pack| ObjectFacts { sha256: pack.sha256, bytes: pack.bytes }).collect(),
            segments,
            manifest: unknown,
            index: unknown,
            index_inline: None,
            rows: content.parts.iter().map(|(part, _)| part.rows).sum(),
            parts: content.parts.len() as u64,
            read_bytes: content.parts.iter().map(|(part, _)| part.bytes).sum(),
            stored_bytes: 0,
            engine: content.engine.clone(),
        }
    }
}
