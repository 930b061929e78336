//! Proving what is stored, rung by rung: markers and presence; the bytes of every pack; every chunk in it.
//!
//! The first two rungs need no identity. Damage never ends a verification: it is found, named and counted, and the rest is
//! looked at all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::base::class::Class;
use crate::base::cpu;
use crate::base::ids::{BackupId, EpochId, Hash32, TargetId};
use crate::base::monitor::{Monitor, Progress, Silent};
use crate::base::units::Share;
use crate::codec::digest::sha256;
use crate::codec::seal::Identity;
use crate::repository::Error;
use crate::repository::checkpoint::Present;
use crate::repository::decoded::{Sums, Table, Tables, decode};
use crate::repository::layout::VaultObject;
use crate::repository::manifest::Manifest;
use crate::repository::marker::{Marker, ObjectFacts};
use crate::repository::pack_cache::{self, PackCache};
use crate::repository::presence::lacks;
use crate::repository::proof::{self, Coverage, Keep};
use crate::repository::reader::{BackupReader, Checks};
use crate::repository::vault::{Listing, Vault};

/// How much is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rung {
    /// Markers verify; what they name is there, whole by its size, and lasts.
    Presence,
    /// And the bytes of every pack and document are those that its name or marker says.
    Packs,
    /// And every pack opens, every chunk has its content, and the chunks of every part add up to its rows and checksum, as a
    /// restore compares them. Needs an identity.
    Data,
    /// And a backup was restored into a scratch database: no verification does that, a drill does.
    Drill,
}

impl Rung {
    /// All rungs, the lowest first.
    pub const ALL: [Self; 4] = [Self::Presence, Self::Packs, Self::Data, Self::Drill];

    /// The word in names, messages and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Presence => "presence",
            Self::Packs => "packs",
            Self::Data => "data",
            Self::Drill => "drill",
        }
    }
}

/// How a vault is verified.
pub struct Task<'a> {
    /// How much is read.
    pub rung: Rung,
    /// What opens packs and manifests.
    pub identities: &'a [Identity],
    /// Which share of the packs is read, those first that were not for the longest time.
    pub share: Share,
    /// Packs that were read since then are not read again.
    pub older_than: Option<DateTime<Utc>>,
    /// The time for records.
    pub now: DateTime<Utc>,
    /// Whom progress is told.
    pub monitor: &'a dyn Monitor,
    /// Once cancelled, no further pack is read.
    pub enough: &'a CancellationToken,
    /// After so many packs what was proven is kept, so that a kill does not cost all of it.
    pub keep: Option<(usize, &'a dyn Keep)>,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The object's key.
    pub key: String,
    /// What is wrong with it.
    pub what: String,
    /// True where it looks like tampering rather than damage.
    pub tampering: bool,
    /// The backups that it affects.
    pub backups: Vec<BackupId>,
}

/// What was found in one vault.
#[derive(Clone, Debug, Serialize)]
pub struct VaultReport {
    /// Whose vault.
    pub target: TargetId,
    /// Committed backups.
    pub backups: usize,
    /// Of them, those without a finding.
    pub whole: usize,
    /// The newest whole backup.
    pub newest_whole: Option<BackupId>,
    /// Objects that were read.
    pub objects_read: u64,
    /// Their bytes.
    pub bytes_read: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Packs that no committed backup names: left by unfinished runs, or waiting to be reused. They expire by themselves.
    pub unreferenced_packs: usize,
    /// Backups without a marker: unfinished.
    pub unfinished: usize,
    /// Objects that this version does not know.
    pub unknown_objects: Vec<String>,
    /// How much of it was read, now and before.
    #[serde(flatten)]
    pub coverage: Coverage,
    /// The backups whose markers verify.
    #[serde(skip)]
    pub genuine: Vec<Present>,
}

struct Verification<'a> {
    vault: &'a Vault,
    task: &'a Task<'a>,
    listing: Listing,
    report: VaultReport,
    /// For each pack or segment, the backups that need it.
    needed: BTreeMap<Hash32, Vec<BackupId>>,
    segments: BTreeSet<Hash32>,
    /// The packs that are read, in order.
    order: Vec<Hash32>,
    /// Those of them that were not read yet.
    chosen: BTreeSet<Hash32>,
    epochs: BTreeMap<EpochId, Option<Identity>>,
    /// The contents of the packs that were decoded.
    tables: Tables,
}

/// Verifies all of a vault. Only a store that fails is an error; damage is in the report.
pub async fn verify(vault: &Vault, rung: Rung, identities: &[Identity]) -> Result<VaultReport, Error> {
    let (enough, now) = (&CancellationToken::new(), DateTime::UNIX_EPOCH);
    let (share, older_than, monitor) = (Share::ALL, None, &Silent);
    verify_some(vault, &Task { rung, identities, share, older_than, now, monitor, enough, keep: None }).await
}

/// Verifies a vault as far as the task goes. Only a store that fails is an error; damage is in the report.
pub async fn verify_some(vault: &Vault, task: &Task<'_>) -> Result<VaultReport, Error> {
    let listing = vault.list().await?;
    let report = VaultReport {
        target: vault.target().clone(),
        backups: listing.committed.len(),
        whole: 0,
        newest_whole: None,
        objects_read: 0,
        bytes_read: 0,
        findings: Vec::new(),
        unreferenced_packs: 0,
        unfinished: listing.uncommitted.len(),
        unknown_objects: listing.strangers.iter().map(ToString::to_string).collect(),
        coverage: Coverage::before(&listing.proofs),
        genuine: Vec::new(),
    };
    let (needed, segments, order, chosen, epochs, tables) = Default::default();
    let mut verification =
        Verification { vault, task, listing, report, needed, segments, order, chosen, epochs, tables };
    let markers = verification.presence(task.rung).await?;
    if task.rung >= Rung::Packs {
        verification.choose().await?;
    }
    if task.rung >= Rung::Data && (task.older_than.is_none() || !verification.chosen.is_empty()) {
        verification.manifests(&markers).await?;
    }
    if task.rung >= Rung::Packs {
        verification.packs().await?;
    }
    if !verification.report.findings.is_empty() {
        verification.forget_removed().await?;
    }
    Ok(verification.finish())
}

impl Verification<'_> {
    fn find(&mut self, key: String, what: String, backups: Vec<BackupId>) {
        self.report.findings.push(Finding { key, what, tampering: false, backups });
    }

    /// Records damage; every other error ends the verification.
    fn found(&mut self, error: Error, backups: Vec<BackupId>) -> Result<(), Error> {
        let tampering = error.class() == Class::Tampered;
        let (key, what) = match error {
            Error::Damaged { key, what } | Error::Tampered { key, what } => (key.to_string(), what),
            Error::Store { source: crate::store::Error::NotFound { key }, .. } => {
                (key.to_string(), "it is missing".to_owned())
            }
            other => return Err(other),
        };
        self.report.findings.push(Finding { key, what, tampering, backups });
        Ok(())
    }

    async fn presence(&mut self, rung: Rung) -> Result<Vec<Marker>, Error> {
        let mut markers = Vec::new();
        for id in self.listing.committed.clone() {
            self.report.objects_read += 1;
            match self.vault.marker(id).await {
                Ok(read) => {
                    let (sha256, parent) = (Some(read.sha256), read.marker.parent);
                    self.report.genuine.push(Present { id, sha256, parent });
                    self.check_marker(&read.marker);
                    if rung >= Rung::Packs {
                        self.check_documents(&read.marker).await?;
                    }
                    markers.push(read.marker);
                }
                // Removed since the listing.
                Err(Error::NoBackup { .. }) => self.report.backups -= 1,
                Err(error) => self.found(error, vec![id])?,
            }
        }
        for (epoch, revision) in self.listing.epochs.clone() {
            let affected: Vec<BackupId> = markers.iter().filter(|m| m.epoch == epoch).map(|m| m.id).collect();
            self.report.objects_read += 1;
            match self.vault.check_epoch(epoch, revision).await {
                // Removed since the listing.
                Err(Error::Store { source, .. }) if source.is_not_found() => {}
                Err(error) => self.found(error, affected)?,
                Ok(()) => {}
            }
        }
        for error in self.vault.bad_vouches(&self.listing).await? {
            self.found(error, Vec::new())?;
        }
        let needed = &self.needed;
        self.report.unreferenced_packs = self.listing.packs.keys().filter(|hash| !needed.contains_key(hash)).count();
        Ok(markers)
    }

    fn check_marker(&mut self, marker: &Marker) {
        for facts in marker.packs.iter().chain(&marker.segments) {
            self.needed.entry(facts.sha256).or_default().push(marker.id);
        }
        self.segments.extend(marker.segments.iter().map(|facts| facts.sha256));
        for lack in lacks(self.vault.target(), &self.listing, marker) {
            // Without a segment the next backup stores chunks again; restoring does not need it.
            let affected = if lack.restores { vec![marker.id] } else { Vec::new() };
            self.find(lack.key, lack.what, affected);
        }
    }

    async fn check_documents(&mut self, marker: &Marker) -> Result<(), Error> {
        let documents: [(VaultObject, ObjectFacts, bool); 2] = [
            (VaultObject::Manifest(marker.id), marker.manifest, true),
            (VaultObject::Index(marker.id), marker.index, false),
        ];
        for (object, facts, restores) in documents {
            let key = object.key(self.vault.target());
            let affected = if restores { vec![marker.id] } else { Vec::new() };
            match self.vault.get(&key).await {
                Ok(bytes) => {
                    self.report.objects_read += 1;
                    self.report.bytes_read += bytes.len() as u64;
                    if sha256(&bytes) != facts.sha256 {
                        self.find(
                            key.to_string(),
                            "its bytes are not those that the marker names".to_owned(),
                            affected,
                        );
                    }
                }
                Err(Error::Store { source, .. }) if source.is_not_found() => {} // Found by its absence from the listing.
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Decides which packs are read, by when they were read before. A whole pass looks at every record of that, too.
    async fn choose(&mut self) -> Result<(), Error> {
        let ids = self.listing.proofs.clone();
        if self.task.share == Share::ALL && self.task.older_than.is_none() {
            for id in &ids {
                self.report.objects_read += 1;
                match self.vault.proof(*id).await {
                    Err(Error::Store { source, .. }) if source.is_not_found() => {} // Pruned since the listing.
                    Err(error) => self.found(error, Vec::new())?,
                    Ok(_) => {}
                }
            }
        }
        // What does not verify was found above, or is passed over: its packs are read again.
        let mut passed_over = Vec::new();
        self.report.coverage.read_at = self.vault.read_times(&ids, self.task.rung, &mut passed_over).await?;
        let there = || self.needed.keys().copied().filter(|hash| self.listing.packs.contains_key(hash));
        self.report.coverage.packs = there().count();
        self.order = proof::choose(there(), &self.report.coverage.read_at, self.task.share, self.task.older_than);
        self.chosen = self.order.iter().copied().collect();
        self.report.coverage.read_at.retain(&self.needed.keys().copied().collect());
        Ok(())
    }

    /// True if a pack is to be read, and the time for it is not over.
    fn is_due(&mut self, hash: Hash32) -> bool {
        if !self.task.enough.is_cancelled() {
            return self.chosen.remove(&hash);
        }
        self.report.coverage.complete = self.report.coverage.complete && !self.chosen.contains(&hash);
        false
    }

    /// Proves the bytes of every chosen pack that was not opened already.
    async fn packs(&mut self) -> Result<(), Error> {
        for hash in self.order.clone() {
            let before = self.report.coverage.packs_read;
            if self.is_due(hash) {
                let fetched = pack_cache::fetch(self.vault, &self.listing, hash).await.map(drop);
                self.was_read(hash, fetched)?;
                self.keep(before).await;
            }
        }
        Ok(())
    }

    async fn keep(&mut self, before: usize) {
        let Some((every, keep)) = self.task.keep else { return };
        let read = self.report.coverage.packs_read;
        if before < read && read.is_multiple_of(every) {
            self.report.coverage.recorded_at = keep.keep(&self.report).await.or(self.report.coverage.recorded_at);
        }
    }

    /// Notes that a pack was read, or what is wrong with it.
    fn was_read(&mut self, hash: Hash32, read: Result<(), Error>) -> Result<(), Error> {
        let bytes = self.listing.packs.get(&hash).map_or(0, |pack| pack.bytes);
        self.report.objects_read += 1;
        self.report.coverage.packs_read += 1;
        self.report.bytes_read += bytes;
        let delta = Progress { bytes, store_bytes: bytes, ..Progress::default() };
        self.task.monitor.target_advances(self.vault.target(), delta);
        let Err(error) = read else {
            self.report.coverage.read_at.set(&hash, self.task.now);
            return Ok(());
        };
        self.report.coverage.read_at.forget(&hash);
        self.found(error, self.affected_by(hash))
    }

    /// The backups that cannot be restored without this object: none need a segment.
    fn affected_by(&self, hash: Hash32) -> Vec<BackupId> {
        if self.segments.contains(&hash) { Vec::new() } else { self.needed.get(&hash).cloned().unwrap_or_default() }
    }

    /// Opens every manifest, then every chunk of every chosen pack that one names, and adds up what the parts come to.
    async fn manifests(&mut self, markers: &[Marker]) -> Result<(), Error> {
        let (mut epochs, mut opened) = (BTreeMap::<Hash32, (EpochId, Arc<Checks>)>::new(), Vec::new());
        for marker in markers {
            match self.open(marker.id).await {
                Ok(reader) => {
                    for pack in &reader.manifest().packs {
                        epochs.entry(pack.sha256).or_insert_with(|| (pack.epoch, Arc::clone(reader.checks())));
                    }
                    opened.push(marker.id);
                }
                Err(Error::PackMissing { .. }) => {} // Found by the first rung.
                Err(error) => self.found(error, vec![marker.id])?,
            }
        }
        for hash in self.order.clone() {
            let before = self.report.coverage.packs_read;
            if let Some((epoch, checks)) = epochs.get(&hash) {
                self.open_pack(hash, *epoch, checks).await?;
                self.keep(before).await;
            }
        }
        opened.retain(|_| self.report.coverage.complete);
        for id in opened {
            match self.open(id).await {
                Ok(reader) => self.check_runs(reader.manifest()),
                Err(Error::PackMissing { .. }) => {}
                Err(error) => self.found(error, vec![id])?,
            }
        }
        Ok(())
    }

    /// Opens a backup. Manifests are opened twice, so that not all of them are in memory at once.
    async fn open(&self, id: BackupId) -> Result<BackupReader, Error> {
        let budget = cpu::ByteBudget::new(1);
        BackupReader::open(self.vault, self.listing.clone(), id, self.task.identities, budget).await
    }

    fn check_runs(&mut self, manifest: &Manifest) {
        let (mut lost, mut wrong) = (Vec::new(), Vec::new());
        for part in &manifest.parts {
            match self.tables.sums_of(manifest, part) {
                Sums::NoChunks => lost.push(part.name.as_str()),
                Sums::Added(rows, sum) if (rows, sum) != (part.rows, part.sum) => wrong.push(part.name.as_str()),
                Sums::Added(..) | Sums::Unknown => {}
            }
        }
        let key = VaultObject::Manifest(manifest.id).key(self.vault.target()).to_string();
        if !lost.is_empty() {
            self.find(key.clone(), format!("parts {} point at no chunks", lost.join(", ")), vec![manifest.id]);
        }
        if !wrong.is_empty() {
            let what = format!("the chunks of parts {} do not add up to their checksums", wrong.join(", "));
            self.find(key, what, vec![manifest.id]);
        }
    }

    /// Decodes a pack, unless it was decoded before. An empty table stands for one that could not be opened.
    async fn open_pack(&mut self, hash: Hash32, epoch: EpochId, checks: &Arc<Checks>) -> Result<(), Error> {
        if self.tables.0.contains_key(&hash) {
            return Ok(());
        }
        self.tables.0.insert(hash, Table::default());
        let Some(identity) = self.epoch(epoch).await? else {
            self.chosen.remove(&hash);
            return Ok(());
        };
        if !self.is_due(hash) {
            return Ok(());
        }
        let open = match PackCache::new(1).open(self.vault, &self.listing, hash, &identity).await {
            Ok(open) => open,
            Err(error) => return self.was_read(hash, Err(error)),
        };
        let (before, affected) = (self.report.findings.len(), self.affected_by(hash));
        let (proven, damage) = decode(&open, checks).await;
        for error in damage {
            self.found(error, affected.clone())?;
        }
        self.tables.0.insert(hash, Table { entries: open.entries.clone(), proven });
        self.was_read(hash, Ok(()))?;
        if before < self.report.findings.len() {
            self.report.coverage.read_at.forget(&hash);
        }
        Ok(())
    }

    async fn epoch(&mut self, epoch: EpochId) -> Result<Option<Identity>, Error> {
        if let Some(known) = self.epochs.get(&epoch) {
            return Ok(known.clone());
        }
        let opened = match self.vault.open_epoch(&self.listing, epoch, self.task.identities).await {
            Ok(identity) => Some(identity),
            Err(error) => {
                self.found(error, Vec::new())?;
                None
            }
        };
        self.epochs.insert(epoch, opened.clone());
        Ok(opened)
    }

    /// Takes back what was found of backups that a pruner has removed since the listing: markers go first, packs last, so what
    /// is missing of them is no damage.
    async fn forget_removed(&mut self) -> Result<(), Error> {
        let now = self.vault.list().await?.committed;
        self.report.findings.retain_mut(|finding| {
            let general = finding.backups.is_empty();
            finding.backups.retain(|id| now.contains(id));
            general || !finding.backups.is_empty()
        });
        self.listing.committed.retain(|id| now.contains(id));
        self.report.backups = self.listing.committed.len();
        Ok(())
    }

    fn finish(mut self) -> VaultReport {
        let broken: BTreeSet<BackupId> =
            self.report.findings.iter().flat_map(|finding| finding.backups.iter().copied()).collect();
        let whole: BTreeSet<BackupId> = &self.listing.committed - &broken;
        self.report.whole = whole.len();
        self.report.newest_whole = whole.last().copied();
        self.report.coverage.sum_up();
        self.report
    }
}
