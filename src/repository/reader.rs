//! Reading one backup: marker, manifest, parts. Nothing is handed out that does not fit what the manifest says.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::task::JoinHandle;

use crate::base::cpu::{self, ByteBudget, Room};
use crate::base::ids::{BackupId, EpochId, Hash32};
use crate::codec::compress;
use crate::codec::digest::{MacKey, RowHasher, RowSum, sha256};
use crate::codec::pack;
use crate::codec::seal::{self, Identity};
use crate::repository::json;
use crate::repository::layout::VaultObject;
use crate::repository::manifest::{MAX_MANIFEST_BYTES, Manifest, Part, Run};
use crate::repository::marker::FORMAT;
use crate::repository::pack_cache::{OpenPack, PackCache, chunks_of};
use crate::repository::vault::{Listing, ReadMarker, Vault};
use crate::repository::{Error, seal_error};

/// Chunks of one part that are on the processor pool at once.
const CHUNKS_IN_FLIGHT: usize = 4;

/// Which backup of a vault is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The newest.
    Newest,
    /// The newest that began at this time or before.
    At(DateTime<Utc>),
    /// The one whose id begins, or ends, with this.
    Id(String),
}

impl Wanted {
    /// The id of the backup that is meant.
    pub fn choose(&self, vault: &Vault, listing: &Listing) -> Result<BackupId, Error> {
        let none = |wanted: String| Error::NoBackup { target: vault.target().clone(), wanted };
        match self {
            Self::Newest => listing.newest().ok_or_else(|| none("at all".to_owned())),
            Self::At(time) => {
                let before = listing.committed.iter().rev().find(|id| id.created_at() <= *time);
                before.copied().ok_or_else(|| none(format!("from {} or before", time.to_rfc3339())))
            }
            Self::Id(text) => {
                let fits = |id: &&BackupId| id.to_string().starts_with(text) || id.to_string().ends_with(text);
                let mut found = listing.committed.iter().filter(fits);
                match (found.next(), found.next()) {
                    (Some(id), None) => Ok(*id),
                    (Some(_), Some(_)) => Err(none(format!("that only {text:?} would name; several match"))),
                    (None, _) => Err(none(text.clone())),
                }
            }
        }
    }
}

/// A backup that was found, and what was passed over for it.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its id.
    pub id: BackupId,
    /// Why newer ones are not taken: their markers do not verify. One sentence each.
    pub passed_over: Vec<String>,
}

impl Wanted {
    /// The backup that is meant, among those whose markers verify: a planted or damaged marker never hides a genuine one.
    ///
    /// One that is named by its id is taken as it is. Without the repository key only the shape of a marker is checked.
    pub async fn find(&self, vault: &Vault, listing: &Listing) -> Result<Found, Error> {
        let mut left = listing.clone();
        let (mut passed_over, mut failure) = (Vec::new(), None);
        loop {
            let id = match self.choose(vault, &left) {
                Ok(id) => id,
                Err(none) => return Err(failure.unwrap_or(none)),
            };
            match vault.marker(id).await {
                Err(error @ (Error::Damaged { .. } | Error::Tampered { .. })) if !matches!(self, Self::Id(_)) => {
                    passed_over.push(format!("backup {id} is newer and was passed over: {error}"));
                    failure = failure.or(Some(error));
                }
                // Removed by a pruner since the listing.
                Err(Error::NoBackup { .. }) => {}
                // Whatever else is wrong shows when it is opened.
                _ => return Ok(Found { id, passed_over }),
            }
            left.committed.remove(&id);
        }
    }
}

/// What the chunks of a backup are held against.
#[derive(Debug)]
pub(crate) struct Checks {
    /// Hashes rows as its writer did.
    pub(crate) rows: RowHasher,
    /// The keys of which one makes the ids of its chunks; none where that cannot be known.
    pub(crate) chunk_ids: Vec<MacKey>,
}

/// An open backup.
#[derive(Debug)]
pub struct BackupReader {
    vault: Vault,
    listing: Listing,
    marker: ReadMarker,
    manifest: Manifest,
    checks: Arc<Checks>,
    epochs: HashMap<EpochId, Identity>,
    packs: PackCache,
    budget: ByteBudget,
}

impl BackupReader {
    /// Opens a backup: its marker and manifest verify, every pack that it needs is there, and its keys open.
    pub async fn open(
        vault: &Vault,
        listing: Listing,
        id: BackupId,
        identities: &[Identity],
        budget: ByteBudget,
    ) -> Result<Self, Error> {
        let reader = Self::open_incomplete(vault, listing, id, identities, budget).await?;
        let missing = reader.missing_packs().next();
        match missing {
            Some(pack) => Err(Error::PackMissing { target: vault.target().clone(), backup: id, pack }),
            None => Ok(reader),
        }
    }

    /// Opens a backup of which packs may be missing: reading a part that needs one of them fails.
    pub async fn open_incomplete(
        vault: &Vault,
        listing: Listing,
        id: BackupId,
        identities: &[Identity],
        budget: ByteBudget,
    ) -> Result<Self, Error> {
        let marker = vault.marker(id).await?;
        let identity = vault.open_epoch(&listing, marker.marker.epoch, identities).await?;
        let manifest = read_manifest(vault, &marker, &identity).await?;
        let mut epochs = HashMap::from([(marker.marker.epoch, identity)]);
        for pack in &manifest.packs {
            if let Entry::Vacant(unknown) = epochs.entry(pack.epoch) {
                unknown.insert(vault.open_epoch(&listing, pack.epoch, identities).await?);
            }
        }
        let key = VaultObject::Manifest(id).key(vault.target());
        let damaged = || Error::Damaged { key, what: "its row secret has no 192 bytes".to_owned() };
        let rows = RowHasher::from_secret_hex(&manifest.row_secret).ok_or_else(damaged)?;
        let checks = Arc::new(Checks { rows, chunk_ids: vault.chunk_ids(marker.signed_by) });
        let packs = PackCache::new(budget.total_bytes() / 2);
        Ok(Self { vault: vault.clone(), listing, marker, manifest, checks, epochs, packs, budget })
    }

    /// The marker.
    pub fn marker(&self) -> &ReadMarker {
        &self.marker
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What its chunks are held against.
    pub(crate) fn checks(&self) -> &Arc<Checks> {
        &self.checks
    }

    /// The part called `name`.
    pub fn part(&self, name: &str) -> Option<&Part> {
        self.manifest.parts.iter().find(|part| part.name == name)
    }

    /// The packs that it needs and that its listing does not show.
    pub fn missing_packs(&self) -> impl Iterator<Item = Hash32> {
        let needed = self.manifest.packs.iter().map(|pack| pack.sha256);
        needed.filter(|hash| !self.listing.packs.contains_key(hash))
    }

    /// The names of the parts that need any of these packs.
    pub fn parts_in(&self, packs: &HashSet<Hash32>) -> Vec<&str> {
        let needs = |run: &Run| packs.contains(&self.manifest.packs[run.0 as usize].sha256);
        let touched = self.manifest.parts.iter().filter(|part| part.runs.iter().any(needs));
        touched.map(|part| part.name.as_str()).collect()
    }

    /// Begins to read a part of [`manifest`](Self::manifest).
    pub fn read(self: &Arc<Self>, part: &Part) -> PartReader {
        let runs = part.runs.iter().copied().collect();
        let (seen, blocks) = (Seen::default(), part.kind != "rows");
        let (reader, part) = (Arc::clone(self), part.clone());
        PartReader { reader, part, runs, chunks: VecDeque::new(), in_flight: VecDeque::new(), seen, blocks, sent: 0 }
    }

    async fn open_pack(&self, number: u32) -> Result<Arc<OpenPack>, Error> {
        let pack = &self.manifest.packs[number as usize];
        let identity = self.epochs.get(&pack.epoch).expect("every epoch was opened with the backup");
        self.packs.open(&self.vault, &self.listing, pack.sha256, identity).await
    }
}

async fn read_manifest(vault: &Vault, marker: &ReadMarker, identity: &Identity) -> Result<Manifest, Error> {
    let id = marker.marker.id;
    let key = VaultObject::Manifest(id).key(vault.target());
    let sealed = vault.get(&key).await?;
    let damaged = |what: String| Error::Damaged { key: key.clone(), what };
    if sha256(&sealed) != marker.marker.manifest.sha256 {
        return Err(damaged("its bytes are not those that the marker names".to_owned()));
    }
    let opened = seal::open(&sealed, std::slice::from_ref(identity), MAX_MANIFEST_BYTES);
    let frame = opened.map_err(|error| seal_error(error, key.clone(), vault.target(), Vec::new()))?;
    let text = compress::decompress_document(&frame, MAX_MANIFEST_BYTES).map_err(|error| damaged(error.to_string()))?;
    let manifest: Manifest = json::read(&text).map_err(damaged)?;
    let packs: HashSet<Hash32> = manifest.packs.iter().map(|pack| pack.sha256).collect();
    let named: HashSet<Hash32> = marker.marker.packs.iter().map(|pack| pack.sha256).collect();
    if manifest.format != FORMAT || manifest.id != id || manifest.vault != *vault.target() || packs != named {
        return Err(Error::Tampered { key, what: "it describes another backup than its marker".to_owned() });
    }
    match manifest.contradiction() {
        Some(what) => Err(Error::Tampered { key, what }),
        None => Ok(manifest),
    }
}

#[derive(Debug, Default)]
struct Seen {
    rows: u64,
    bytes: u64,
    sum: RowSum,
}

struct Decoded {
    plain: Vec<u8>,
    rows: u64,
    sum: RowSum,
    room: Room,
}

/// Reads one part, chunk by chunk, a few of them decoded ahead.
///
/// The end is an error unless rows, bytes and checksum are those of the manifest.
pub struct PartReader {
    reader: Arc<BackupReader>,
    part: Part,
    runs: VecDeque<Run>,
    chunks: VecDeque<(Arc<OpenPack>, pack::Entry)>,
    in_flight: VecDeque<JoinHandle<Result<Decoded, Error>>>,
    seen: Seen,
    blocks: bool,
    sent: u64,
}

impl PartReader {
    /// The plaintext of the next chunk: whole rows, or a block.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        self.fill().await?;
        let Some(first) = self.in_flight.pop_front() else {
            self.check()?;
            return Ok(None);
        };
        let Decoded { plain, rows, sum, room } = first.await.expect("the task neither panics nor is cancelled")?;
        self.seen.rows += rows;
        self.seen.bytes += plain.len() as u64;
        self.seen.sum.merge(sum);
        drop(room);
        Ok(Some(Bytes::from(plain)))
    }

    /// Keeps a few chunks on the processor pool. Waits for room only when nothing of this part is under way.
    async fn fill(&mut self) -> Result<(), Error> {
        while self.in_flight.len() < CHUNKS_IN_FLIGHT {
            if self.chunks.is_empty() && !self.open_next_run().await? {
                return Ok(());
            }
            let Some((_, entry)) = self.chunks.front() else { continue };
            let bytes = entry.length as usize;
            if !self.in_flight.is_empty() && self.reader.budget.free_bytes() < bytes {
                return Ok(());
            }
            let room = self.reader.budget.reserve(bytes).await;
            let (pack, entry) = self.chunks.pop_front().expect("looked at above");
            let (reader, number, blocks) = (Arc::clone(&self.reader), self.sent, self.blocks);
            self.sent += 1;
            let decoded = cpu::run(move || decode(&reader, &pack, &entry, blocks.then_some(number), room));
            self.in_flight.push_back(tokio::spawn(decoded));
        }
        Ok(())
    }

    async fn open_next_run(&mut self) -> Result<bool, Error> {
        let Some(Run(number, offset, length)) = self.runs.pop_front() else { return Ok(false) };
        let pack = self.reader.open_pack(number).await?;
        let chunks = chunks_of(&pack.entries, offset, length).ok_or_else(|| Error::Damaged {
            key: pack.key.clone(),
            what: format!("bytes {offset} to {} of it are no chunks", u64::from(offset) + length),
        })?;
        self.chunks.extend(chunks.iter().map(|entry| (Arc::clone(&pack), *entry)));
        Ok(true)
    }

    fn check(&self) -> Result<(), Error> {
        let (part, seen) = (&self.part, &self.seen);
        if part.bytes == seen.bytes && part.sum == seen.sum && (self.blocks || part.rows == seen.rows) {
            return Ok(());
        }
        let key = VaultObject::Manifest(self.reader.marker.marker.id).key(self.reader.vault.target());
        let what = format!(
            "part {:?} has {} rows, {} bytes and checksum {}, and should have {}, {} and {}",
            part.name, seen.rows, seen.bytes, seen.sum, part.rows, part.bytes, part.sum
        );
        Err(Error::Damaged { key, what })
    }
}

impl Drop for PartReader {
    fn drop(&mut self) {
        self.in_flight.iter().for_each(JoinHandle::abort);
    }
}

fn decode(
    reader: &BackupReader,
    pack: &OpenPack,
    entry: &pack::Entry,
    block: Option<u64>,
    room: Room,
) -> Result<Decoded, Error> {
    let plain = decode_chunk(pack, entry, &reader.checks)?;
    let (rows, sum) = match block {
        Some(number) => (0, RowSum(reader.checks.rows.block(number, &plain))),
        None => reader.checks.rows.rows_of(&plain),
    };
    Ok(Decoded { plain, rows, sum, room })
}

/// Decompresses one chunk and, with the key, proves that it is what its id says.
pub(crate) fn decode_chunk(pack: &OpenPack, entry: &pack::Entry, checks: &Checks) -> Result<Vec<u8>, Error> {
    let damaged = |what: String| Error::Damaged { key: pack.key.clone(), what };
    let frame = pack::frame(&pack.content, entry);
    let plain = compress::decompress(frame, entry.length as usize)
        .map_err(|error| damaged(format!("chunk {}: {error}", entry.id)))?;
    let fits = |key: &MacKey| key.mac(&[&plain]) == entry.id;
    if checks.chunk_ids.is_empty() || checks.chunk_ids.iter().any(fits) {
        return Ok(plain);
    }
    Err(damaged(format!("chunk {} has other content", entry.id)))
}
