//! Keeps a second repository in step with this one, vault by vault, without opening anything.
//!
//! What is stored never changes, so a copy is the objects that the other side lacks: first the epochs of the vault, then the
//! packs, then for each backup its index and manifest, and last its marker. An interrupted copy leaves whole backups and
//! objects that nobody names yet; the next one goes on where it stopped. Every object is proven before it leaves: a signature,
//! or the hash by which a name or a marker knows it. So damage and forgeries stay where they are, and the backups that they
//! touch are reported and not copied. Needs the repository key and no identity.
//!
//! Backups that have expired are left alone, unless they are held or among the newest; so are packs that expired.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use serde::Serialize;

use crate::base::class::Class;
use crate::base::cpu::{self, ByteBudget};
use crate::base::ids::{BackupId, Hash32, TargetId};
use crate::base::monitor::{Monitor, Progress};
use crate::codec::digest::sha256;
use crate::repository::layout::{self, VaultObject, VouchId, vault_prefix};
use crate::repository::marker::{Marker, ObjectFacts};
use crate::repository::pace::Pace;
use crate::repository::vault::Vault;
use crate::repository::verify::Finding;
use crate::repository::{Error, Repository, signed, standing};
use crate::store::{self, ObjectKey, ObjectStore};

/// Objects of one vault that are under way at once.
const OBJECTS_AT_ONCE: usize = 4;

/// How a vault is copied.
#[derive(Clone, Copy)]
pub struct CopyOptions<'a> {
    /// The time: what has expired by now is left alone.
    pub now: DateTime<Utc>,
    /// The newest backups that are copied whatever their expiry.
    pub keep_last: usize,
    /// Room for objects in flight, shared by all vaults.
    pub budget: &'a ByteBudget,
    /// How fast.
    pub pace: &'a Pace,
    /// Whom progress is told.
    pub monitor: &'a dyn Monitor,
}

/// What became of one vault.
#[derive(Clone, Debug, Serialize)]
pub struct CopiedVault {
    /// Whose vault.
    pub target: TargetId,
    /// Backups that the other repository has now and had not before.
    pub backups_copied: usize,
    /// Backups that it had already.
    pub backups_present: usize,
    /// Objects that were put there.
    pub objects_copied: u64,
    /// Their bytes.
    pub bytes_copied: u64,
    /// Packs that got a later expiry there, copied inside of the other store.
    pub packs_renewed: u64,
    /// What was not copied, since it is damaged or forged here.
    pub findings: Vec<Finding>,
}

/// Opens the repository that is to be the copy of `source`; makes it where there is nothing yet.
///
/// Refuses where another repository is, or vaults without their document.
pub async fn open_destination(
    source: &Repository,
    destination: Arc<dyn ObjectStore>,
    repository_key: &[u8; 32],
) -> Result<Repository, Error> {
    let place = layout::repository_document();
    match destination.head(&place).await {
        Ok(_) => {}
        Err(error) if error.is_not_found() => {
            let folders = destination.list_folders("").await.unwrap_or_default();
            if folders.iter().any(|name| name == "vaults") {
                return Err(Error::Orphaned { location: destination.location() });
            }
            // First what tells which key is the repository's: without that nobody could open it.
            for (place, body) in standing::proven_documents(source).await? {
                put(destination.as_ref(), &place, body).await?;
            }
            let got = source.store().get(&place).await;
            let body = got.map_err(|source| Error::Store { action: "read the repository's document", source })?;
            match destination.put_new(&place, body).await {
                Ok(()) | Err(store::Error::Exists { .. }) => {}
                Err(source) => return Err(Error::Store { action: "begin the copy", source }),
            }
        }
        Err(source) => return Err(Error::Store { action: "look for the copy", source }),
    }
    let repository = match Repository::open(Arc::clone(&destination), repository_key).await {
        Err(error @ Error::WrongKey { .. }) => return Err(behind(source, destination, error).await),
        opened => opened?,
    };
    if repository.id() != source.id() {
        return Err(Error::AnotherRepository { location: repository.store().location() });
    }
    Ok(repository)
}

/// Why the repository's key does not open its copy: perhaps a former one does.
async fn behind(source: &Repository, destination: Arc<dyn ObjectStore>, error: Error) -> Error {
    let location = destination.location();
    for key in source.replaced().into_iter().flat_map(|replaced| replaced.former.iter()) {
        if Repository::open(Arc::clone(&destination), key).await.is_ok() {
            return Error::CopyBehind { location };
        }
    }
    error
}

/// Copies the run reports that the other side lacks; returns how many, and those that do not verify.
pub async fn copy_reports(source: &Repository, destination: &Repository) -> Result<(u64, Vec<Finding>), Error> {
    source.mac().ok_or(Error::NoKey { action: "copying" })?;
    let here = keys_below(source.store().as_ref(), layout::RUNS_PREFIX).await?;
    let there = keys_below(destination.store().as_ref(), layout::RUNS_PREFIX).await?;
    let (mut copied, mut findings) = (0, Vec::new());
    // What a prune left of one repository says nothing of the other.
    let of_a_prune =
        |key: &ObjectKey| layout::parse_run_report(key).is_some_and(|(_, worker)| worker.starts_with("prune"));
    for key in here.into_keys().filter(|key| !there.contains_key(key) && !of_a_prune(key)) {
        let Some(body) = get(source.store().as_ref(), &key).await? else { continue };
        match source.check_report(&body, &key) {
            Ok(()) => {
                put(destination.store().as_ref(), &key, body).await?;
                copied += 1;
            }
            Err(error) => findings.push(finding(&key, error.to_string(), matches!(error, signed::BadDocument::Mac))),
        }
    }
    Ok((copied, findings))
}

/// Copies what the vault of the same target in `destination` lacks.
///
/// Damage is in the report; an error is a store that fails, after which the same call goes on where this one stopped.
pub async fn copy_vault(
    source: &Vault,
    destination: &Repository,
    options: CopyOptions<'_>,
) -> Result<CopiedVault, Error> {
    source.writer_keys("copying")?;
    let target = source.target().clone();
    let prefix = vault_prefix(&target);
    let here = keys_below(source.repository().store().as_ref(), &prefix).await?;
    let mut there = keys_below(destination.store().as_ref(), &prefix).await?;
    // What a store tore is not there: it is put again.
    there.retain(|key, bytes| here.get(key).is_none_or(|whole| whole == bytes));
    let report = CopiedVault {
        target,
        backups_copied: 0,
        backups_present: 0,
        objects_copied: 0,
        bytes_copied: 0,
        packs_renewed: 0,
        findings: Vec::new(),
    };
    let objects = Objects { here: parsed(&prefix, &here), there: parsed(&prefix, &there), sizes: here, stored: there };
    let mut copying = Copying { source, store: destination.store().as_ref(), options, objects, report };
    copying.epochs().await?;
    let markers = copying.markers_to_copy().await?;
    let packs = copying.packs(&markers).await?;
    let mut there = Objects::markers(&copying.objects.there);
    for marker in markers {
        if copying.backup(&marker, &packs).await? {
            there.insert(marker.id);
        }
    }
    copying.holds(&there).await?;
    Ok(copying.report)
}

/// What both sides list.
struct Objects {
    here: Vec<(VaultObject, ObjectKey)>,
    there: Vec<(VaultObject, ObjectKey)>,
    sizes: BTreeMap<ObjectKey, u64>,
    stored: BTreeMap<ObjectKey, u64>,
}

impl Objects {
    /// Each pack of one side under its latest expiry.
    fn packs(side: &[(VaultObject, ObjectKey)]) -> HashMap<Hash32, (DateTime<Utc>, &ObjectKey)> {
        let mut packs: HashMap<Hash32, (DateTime<Utc>, &ObjectKey)> = HashMap::new();
        for (object, key) in side {
            if let VaultObject::Pack(expiry, hash) = object {
                let known = packs.entry(*hash).or_insert((*expiry, key));
                if known.0 < *expiry {
                    *known = (*expiry, key);
                }
            }
        }
        packs
    }

    /// What is of interest of this side and is not on the other.
    fn lacking(&self, is_wanted: impl Fn(&VaultObject) -> bool) -> Vec<ObjectKey> {
        let wanted = self.here.iter().filter(|(object, key)| is_wanted(object) && !self.stored.contains_key(key));
        wanted.map(|(_, key)| key.clone()).collect()
    }

    fn markers(side: &[(VaultObject, ObjectKey)]) -> BTreeSet<BackupId> {
        let markers = side.iter().filter_map(|(object, _)| match object {
            VaultObject::Marker(id) => Some(*id),
            _ => None,
        });
        markers.collect()
    }
}

/// One pack to be put on the other side.
struct Wanted {
    hash: Hash32,
    key: ObjectKey,
    bytes: u64,
    /// The key under which the other side has it with an earlier expiry.
    older: Option<ObjectKey>,
}

enum Sent {
    Put(Hash32, u64),
    Renewed(Hash32),
    /// Removed since the listing.
    Gone,
    Bad(Finding),
}

struct Copying<'a> {
    source: &'a Vault,
    store: &'a dyn ObjectStore,
    options: CopyOptions<'a>,
    objects: Objects,
    report: CopiedVault,
}

impl Copying<'_> {
    /// Reads a signed document and proves its signature; `None` where it is gone, or bad, which is then in the report.
    async fn document(&mut self, key: &ObjectKey) -> Result<Option<Bytes>, Error> {
        let Some(body) = get(self.source.repository().store().as_ref(), key).await? else { return Ok(None) };
        match self.source.read_signed::<serde::de::IgnoredAny>(&body, key).await {
            Ok(_) => Ok(Some(body)),
            Err(Error::Tampered { what, .. }) => {
                self.report.findings.push(finding(key, what, true));
                Ok(None)
            }
            Err(Error::Damaged { what, .. }) => {
                self.report.findings.push(finding(key, what, false));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn send(&mut self, key: &ObjectKey, body: Bytes) -> Result<(), Error> {
        let bytes = body.len() as u64;
        self.options.pace.wait(bytes).await;
        put(self.store, key, body).await?;
        self.sent(bytes);
        Ok(())
    }

    fn sent(&mut self, bytes: u64) {
        self.report.objects_copied += 1;
        self.report.bytes_copied += bytes;
        let delta = Progress { store_bytes: bytes, ..Progress::default() };
        self.options.monitor.target_advances(&self.report.target, delta);
    }

    /// All epochs in all revisions: without them nothing can be read. And the vouches, without which old ones are not believed.
    async fn epochs(&mut self) -> Result<(), Error> {
        let (own, prefix) = (self.source.repository().key_id(), vault_prefix(self.source.target()));
        let vouch = |key: &ObjectKey| VouchId::parse(key.as_str().strip_prefix(&prefix)?);
        let is_wanted = |key: &&ObjectKey| {
            vouch(key).is_some_and(|it| Some(it.by) == own) && !self.objects.stored.contains_key(key)
        };
        let vouches: Vec<ObjectKey> = self.objects.sizes.keys().filter(is_wanted).cloned().collect();
        let epochs = self.objects.lacking(|object| matches!(object, VaultObject::Epoch(..)));
        for key in vouches.into_iter().chain(epochs) {
            if let Some(body) = self.document(&key).await? {
                self.send(&key, body).await?;
            }
        }
        Ok(())
    }

    /// The markers that the other side lacks and should have, the newest first.
    async fn markers_to_copy(&mut self) -> Result<Vec<Marker>, Error> {
        let (here, there) = (Objects::markers(&self.objects.here), Objects::markers(&self.objects.there));
        let held: BTreeSet<BackupId> = self
            .objects
            .here
            .iter()
            .filter_map(|(object, _)| if let VaultObject::Hold(id, _) = object { Some(*id) } else { None })
            .collect();
        let mut markers = Vec::new();
        for (place, id) in here.into_iter().rev().enumerate() {
            if there.contains(&id) {
                self.report.backups_present += 1;
                continue;
            }
            if id.expires_at() <= self.options.now && self.options.keep_last <= place && !held.contains(&id) {
                continue;
            }
            match self.source.marker(id).await {
                Ok(read) => markers.push(read.marker),
                Err(Error::NoBackup { .. }) => {} // Removed since the listing.
                Err(error @ (Error::Damaged { .. } | Error::Tampered { .. })) => self.found(error, id),
                Err(error) => return Err(error),
            }
        }
        Ok(markers)
    }

    fn found(&mut self, error: Error, id: BackupId) {
        let tampering = error.class() == Class::Tampered;
        let key = VaultObject::Marker(id).key(self.source.target()).to_string();
        self.report.findings.push(Finding { key, what: error.to_string(), tampering, backups: vec![id] });
    }

    /// Puts every pack that has not expired, and those that `markers` name; returns what the other side has then.
    async fn packs(&mut self, markers: &[Marker]) -> Result<HashMap<Hash32, DateTime<Utc>>, Error> {
        let (here, there) = (Objects::packs(&self.objects.here), Objects::packs(&self.objects.there));
        let named: BTreeSet<Hash32> =
            markers.iter().flat_map(|m| m.packs.iter().chain(&m.segments)).map(|facts| facts.sha256).collect();
        let mut present: HashMap<Hash32, DateTime<Utc>> = there.iter().map(|(hash, known)| (*hash, known.0)).collect();
        let mut wanted = Vec::new();
        for (hash, (expiry, key)) in &here {
            let lasts = self.options.now < *expiry || named.contains(hash);
            let bytes = self.objects.sizes.get(*key).copied().unwrap_or(0);
            let older = there.get(hash).filter(|older| self.objects.stored.get(older.1) == Some(&bytes));
            if lasts && older.is_none_or(|older| older.0 < *expiry) {
                let older = older.map(|older| older.1.clone());
                wanted.push((*expiry, Wanted { hash: *hash, key: (*key).clone(), bytes, older }));
            }
        }
        let expiries: HashMap<Hash32, DateTime<Utc>> = wanted.iter().map(|(at, wanted)| (wanted.hash, *at)).collect();
        let (source, store, options) = (self.source, self.store, self.options);
        let mut sends =
            futures::stream::iter(wanted.into_iter().map(|(_, wanted)| send_pack(source, store, options, wanted)))
                .buffer_unordered(OBJECTS_AT_ONCE);
        while let Some(sent) = sends.next().await {
            match sent? {
                Sent::Put(hash, bytes) => {
                    present.insert(hash, expiries[&hash]);
                    self.sent(bytes);
                }
                Sent::Renewed(hash) => {
                    present.insert(hash, expiries[&hash]);
                    self.report.packs_renewed += 1;
                }
                Sent::Gone => {}
                Sent::Bad(finding) => self.report.findings.push(finding),
            }
        }
        Ok(present)
    }

    /// The holds of backups that are there.
    async fn holds(&mut self, backups: &BTreeSet<BackupId>) -> Result<(), Error> {
        let of_them = |object: &VaultObject| match object {
            VaultObject::Hold(id, _) | VaultObject::Release(id, _) => backups.contains(id),
            _ => false,
        };
        for key in self.objects.lacking(of_them) {
            if let Some(body) = self.document(&key).await? {
                self.send(&key, body).await?;
            }
        }
        Ok(())
    }

    /// Index and manifest, then the marker; nothing of a backup whose packs are not all there. True if it is there now.
    async fn backup(&mut self, marker: &Marker, packs: &HashMap<Hash32, DateTime<Utc>>) -> Result<bool, Error> {
        let (id, target) = (marker.id, self.source.target().clone());
        let key = VaultObject::Marker(id).key(&target);
        let lacking =
            marker.packs.iter().find(|facts| packs.get(&facts.sha256).is_none_or(|at| *at < marker.expires_at));
        if let Some(facts) = lacking {
            let what = format!("it needs pack {}, which could not be copied: this backup was left out", facts.sha256);
            self.report.findings.push(Finding { key: key.to_string(), what, tampering: false, backups: vec![id] });
            return Ok(false);
        }
        let index = marker.index_inline.is_none().then_some((VaultObject::Index(id), marker.index));
        for (object, facts) in index.into_iter().chain([(VaultObject::Manifest(id), marker.manifest)]) {
            let document = object.key(&target);
            if !self.objects.stored.contains_key(&document) && !self.sealed_document(&document, facts, id).await? {
                return Ok(false);
            }
        }
        let Some(body) = self.document(&key).await? else { return Ok(false) };
        self.send(&key, body).await?;
        self.report.backups_copied += 1;
        Ok(true)
    }

    /// Copies an index or manifest; false where it is not what the marker names.
    async fn sealed_document(&mut self, key: &ObjectKey, facts: ObjectFacts, id: BackupId) -> Result<bool, Error> {
        let what = match get(self.source.repository().store().as_ref(), key).await? {
            None => "it is missing",
            Some(body) if sha256(&body) != facts.sha256 => "its bytes are not those that the marker names",
            Some(body) => {
                self.send(key, body).await?;
                return Ok(true);
            }
        };
        let what = format!("{what}: this backup was left out");
        self.report.findings.push(Finding { key: key.to_string(), what, tampering: false, backups: vec![id] });
        Ok(false)
    }
}

/// Brings one pack to the other side, proven against its name.
async fn send_pack(
    source: &Vault,
    store: &dyn ObjectStore,
    options: CopyOptions<'_>,
    wanted: Wanted,
) -> Result<Sent, Error> {
    if let Some(older) = &wanted.older
        && store.copy(older, &wanted.key).await.is_ok()
    {
        prove_size(store, &wanted.key, wanted.bytes).await?;
        return Ok(Sent::Renewed(wanted.hash));
    }
    let _room = options.budget.reserve(usize::try_from(wanted.bytes).unwrap_or(usize::MAX)).await;
    let Some(body) = get(source.repository().store().as_ref(), &wanted.key).await? else { return Ok(Sent::Gone) };
    let hashed = body.clone();
    if cpu::run(move || sha256(&hashed)).await != wanted.hash {
        return Ok(Sent::Bad(finding(
            &wanted.key,
            "its bytes are not those of its name: it was not copied".to_owned(),
            false,
        )));
    }
    let bytes = body.len() as u64;
    options.pace.wait(bytes).await;
    put(store, &wanted.key, body).await?;
    Ok(Sent::Put(wanted.hash, bytes))
}

/// The one way into the other store: stores an object and asks whether it is kept whole.
async fn put(store: &dyn ObjectStore, key: &ObjectKey, body: Bytes) -> Result<(), Error> {
    let bytes = body.len() as u64;
    store.put(key, body).await.map_err(|source| Error::Store { action: "write to the copy", source })?;
    prove_size(store, key, bytes).await
}

async fn prove_size(store: &dyn ObjectStore, key: &ObjectKey, sent: u64) -> Result<(), Error> {
    let found = store.head(key).await;
    let kept = found.map_err(|source| Error::Store { action: "look at what was copied", source })?.bytes;
    if kept == sent { Ok(()) } else { Err(Error::Torn { key: key.clone(), sent, kept }) }
}

/// An object's bytes; `None` where it was removed since it was listed.
async fn get(store: &dyn ObjectStore, key: &ObjectKey) -> Result<Option<Bytes>, Error> {
    match store.get(key).await {
        Ok(body) => Ok(Some(body)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(source) => Err(Error::Store { action: "read what is to be copied", source }),
    }
}

async fn keys_below(store: &dyn ObjectStore, prefix: &str) -> Result<BTreeMap<ObjectKey, u64>, Error> {
    let listed = store.list(prefix).map_ok(|object| (object.key, object.bytes)).try_collect().await;
    listed.map_err(|source| Error::Store { action: "list what is to be copied", source })
}

fn parsed(prefix: &str, keys: &BTreeMap<ObjectKey, u64>) -> Vec<(VaultObject, ObjectKey)> {
    let parse = |key: &ObjectKey| Some((VaultObject::parse(key.as_str().strip_prefix(prefix)?)?, key.clone()));
    keys.keys().filter_map(parse).collect()
}

fn finding(key: &ObjectKey, what: String, tampering: bool) -> Finding {
    Finding { key: key.to_string(), what, tampering, backups: Vec::new() }
}
