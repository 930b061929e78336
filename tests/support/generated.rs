//! A store that holds a large fleet without holding it: every object is made when it is asked for.
//!
//! Vaults `t00000` and on, a backup every twelve hours, each with one pack of its own; the oldest have expired.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use dbkeeper::base::class::Class;
use dbkeeper::base::clock::{HeldClock, SeededEntropy};
use dbkeeper::base::ids::{BackupId, EpochId, Hash32, RetentionClass, RunId, TargetId};
use dbkeeper::codec::digest::sha256;
use dbkeeper::repository::keys::VaultKeys;
use dbkeeper::repository::layout::{VaultObject, parse_vault_folder, repository_document};
use dbkeeper::repository::marker::{FORMAT, Marker, ObjectFacts, Parent};
use dbkeeper::repository::{Repository, signed};
use dbkeeper::store::memory::MemoryStore;
use dbkeeper::store::{Error, ObjectKey, ObjectMeta, ObjectStore, Page, PageToken};

const KEY: [u8; 32] = [42; 32];
const HOURS_APART: i64 = 12;
const KEEP_HOURS: u32 = 28 * 24;

/// The fleet.
#[derive(Debug)]
pub struct Generated {
    vaults: usize,
    backups: usize,
    now: DateTime<Utc>,
    document: Bytes,
    repository: Repository,
    /// Calls by operation.
    lists: AtomicU64,
    gets: AtomicU64,
}

impl Generated {
    /// So many vaults of so many backups, the newest taken at `now`.
    pub async fn new(vaults: usize, backups: usize, now: DateTime<Utc>) -> Arc<Self> {
        let inner: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new(Arc::new(HeldClock::new(now))));
        let created = Repository::create(Arc::clone(&inner), &KEY, now, &SeededEntropy::new(7)).await;
        let repository = created.expect("create the repository");
        let document = inner.get(&repository_document()).await.expect("get");
        let (lists, gets) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { vaults, backups, now, document, repository, lists, gets })
    }

    /// The repository in it.
    pub async fn open(self: &Arc<Self>) -> Repository {
        Repository::open(Arc::<Self>::clone(self), &KEY).await.expect("open the repository")
    }

    /// Pages of listings and objects that were asked for, since the last question.
    pub fn counts(&self) -> (u64, u64) {
        (self.lists.swap(0, Ordering::Relaxed), self.gets.swap(0, Ordering::Relaxed))
    }

    fn epoch(&self) -> EpochId {
        EpochId::new(self.now - TimeDelta::days(400), [1; 4])
    }

    /// The backup with this number, the newest first.
    fn backup(&self, number: usize) -> BackupId {
        let age = TimeDelta::hours(HOURS_APART * i64::try_from(number).expect("a small number"));
        BackupId::new(self.now - age, RetentionClass::Daily, KEEP_HOURS, [2; 4])
    }

    fn number(&self, id: BackupId) -> usize {
        usize::try_from((self.now - id.created_at()).num_hours() / HOURS_APART).expect("in the past")
    }

    fn pack(id: BackupId) -> ObjectFacts {
        ObjectFacts { sha256: sha256(id.to_string().as_bytes()), bytes: 30_000 }
    }

    fn objects(&self, target: &TargetId) -> Vec<(VaultObject, u64)> {
        let mut objects = vec![(VaultObject::Epoch(self.epoch(), 1), 1_000)];
        for id in (0..self.backups).map(|number| self.backup(number)) {
            let (pack, expiry) = (Self::pack(id), id.expires_at() + TimeDelta::hours(i64::from(KEEP_HOURS) / 4));
            objects.push((VaultObject::Marker(id), 2_000));
            objects.push((VaultObject::Manifest(id), 9_000));
            objects.push((VaultObject::Pack(expiry, pack.sha256), pack.bytes));
        }
        let _ = target;
        objects
    }

    fn marker(&self, target: &TargetId, id: BackupId) -> Marker {
        let number = self.number(id);
        let unknown = ObjectFacts { sha256: Hash32([0; 32]), bytes: 9_000 };
        let parent = (number + 1 < self.backups).then(|| self.backup(number + 1));
        Marker {
            format: FORMAT,
            repository: self.repository.id().to_string(),
            vault: target.clone(),
            id,
            run_id: RunId::new(id.created_at(), [3; 4]),
            created_at: id.created_at(),
            expires_at: id.expires_at(),
            class: id.class(),
            epoch: self.epoch(),
            recipient: "age1…".to_owned(),
            parent: parent.map(|id| Parent { id, sha256: Hash32([0; 32]) }),
            packs: vec![Self::pack(id)],
            segments: Vec::new(),
            manifest: unknown,
            index: unknown,
            index_inline: Some("x".repeat(1_500)),
            rows: 40_000,
            parts: 41,
            read_bytes: 2_000_000,
            stored_bytes: 40_000,
            engine: "PostgreSQL 15".to_owned(),
        }
    }

    fn body(&self, key: &ObjectKey) -> Option<Vec<u8>> {
        let rest = key.as_str().strip_prefix("vaults/tenant/")?;
        let (folder, path) = rest.split_once('/')?;
        let target = parse_vault_folder(dbkeeper::base::ids::TargetKind::Tenant, folder)?;
        let keys: VaultKeys = self.repository.vault_keys(&target)?;
        match VaultObject::parse(path)? {
            VaultObject::Marker(id) => Some(signed::write(&self.marker(&target, id), key, &keys.mac)),
            VaultObject::Epoch(epoch, 1) => {
                let document = serde_json::json!({"format": FORMAT, "vault": target, "epoch": epoch, "recipient": "age1…",
                    "sealed_to": [], "sealed": ""});
                Some(signed::write(&document, key, &keys.mac))
            }
            _ => None,
        }
    }

    fn refuse(operation: &'static str) -> Error {
        let reason = "nothing here can be changed".to_owned();
        Error::Failed { operation, key: None, class: Class::Refused, reason, hint: None, source: None }
    }
}

#[async_trait]
impl ObjectStore for Generated {
    fn location(&self) -> String {
        "generated".to_owned()
    }

    async fn put(&self, _key: &ObjectKey, _body: Bytes) -> Result<(), Error> {
        Err(Self::refuse("put"))
    }

    async fn put_new(&self, _key: &ObjectKey, _body: Bytes) -> Result<(), Error> {
        Err(Self::refuse("put"))
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes, Error> {
        self.gets.fetch_add(1, Ordering::Relaxed);
        if *key == repository_document() {
            return Ok(self.document.clone());
        }
        self.body(key).map(Bytes::from).ok_or_else(|| Error::NotFound { key: key.clone() })
    }

    async fn get_range(&self, key: &ObjectKey, _offset: u64, _length: u64) -> Result<Bytes, Error> {
        self.get(key).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta, Error> {
        Err(Error::NotFound { key: key.clone() })
    }

    async fn list_page(&self, prefix: &str, _from: Option<&PageToken>) -> Result<Page, Error> {
        self.lists.fetch_add(1, Ordering::Relaxed);
        let folder = prefix.strip_prefix("vaults/tenant/").and_then(|rest| rest.strip_suffix('/'));
        let target = folder.and_then(|name| parse_vault_folder(dbkeeper::base::ids::TargetKind::Tenant, name));
        let Some(target) = target else { return Ok(Page::default()) };
        let found: BTreeMap<ObjectKey, u64> =
            self.objects(&target).into_iter().map(|(object, bytes)| (object.key(&target), bytes)).collect();
        let meta = |(key, bytes)| ObjectMeta { key, bytes, modified_at: self.now, content: None };
        Ok(Page { objects: found.into_iter().map(meta).collect(), next: None })
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, Error> {
        self.lists.fetch_add(1, Ordering::Relaxed);
        let names = (0..self.vaults).map(|number| format!("t{number:05}"));
        Ok(if prefix == "vaults/tenant/" { names.collect() } else { Vec::new() })
    }

    async fn copy(&self, _from: &ObjectKey, _to: &ObjectKey) -> Result<(), Error> {
        Err(Self::refuse("copy"))
    }

    async fn delete(&self, _keys: &[ObjectKey]) -> Result<(), Error> {
        Err(Self::refuse("delete"))
    }

    async fn now(&self) -> Result<Option<DateTime<Utc>>, Error> {
        Ok(Some(self.now))
    }
}
