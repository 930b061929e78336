//! What a thief, or a writer who turned, can put into a repository.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use dbkeeper::base::ids::BackupId;
use dbkeeper::codec::compress::{compress_document, decompress_document};
use dbkeeper::codec::digest::{MacKey, sha256};
use dbkeeper::codec::seal::{self, Identity};
use dbkeeper::repository::layout::VaultObject;
use dbkeeper::repository::manifest::MAX_MANIFEST_BYTES;
use dbkeeper::repository::marker::{Marker, ObjectFacts};
use dbkeeper::repository::signed;
use dbkeeper::repository::vault::Vault;
use dbkeeper::store::ObjectKey;
use serde_json::Value;

/// Somebody who can write to the bucket, and what he signs with: the genuine key, or one of his own.
pub struct Forger<'a> {
    pub vault: &'a Vault,
    pub mac: MacKey,
}

impl Forger<'_> {
    /// A thief: he has no key.
    pub fn thief(vault: &Vault) -> Forger<'_> {
        Forger { vault, mac: MacKey::new(&[66; 32]) }
    }

    /// A writer who turned: he signs like any other.
    pub fn writer(vault: &Vault) -> Forger<'_> {
        Forger { vault, mac: vault.keys().expect("the key").mac.clone() }
    }

    pub async fn put(&self, key: &ObjectKey, body: Vec<u8>) {
        let store = self.vault.repository().store();
        store.delete(std::slice::from_ref(key)).await.expect("delete");
        store.put(key, Bytes::from(body)).await.expect("put");
    }

    pub async fn get(&self, object: VaultObject) -> Vec<u8> {
        self.vault.repository().store().get(&object.key(self.vault.target())).await.expect("get").to_vec()
    }

    /// The sealed index: a small one lies in the marker.
    pub async fn index(&self, id: BackupId) -> Vec<u8> {
        match self.marker(id).await.index_inline {
            Some(text) => BASE64_STANDARD.decode(text).expect("base64"),
            None => self.get(VaultObject::Index(id)).await,
        }
    }

    pub async fn marker(&self, id: BackupId) -> Marker {
        signed::read_unverified(&self.get(VaultObject::Marker(id)).await).expect("a marker")
    }

    /// Signs a marker anew, after a change.
    pub async fn rewrite_marker(&self, id: BackupId, change: impl FnOnce(&mut Marker)) {
        let mut marker = self.marker(id).await;
        change(&mut marker);
        let key = VaultObject::Marker(id).key(self.vault.target());
        self.put(&key, signed::write(&marker, &key, &self.mac)).await;
    }

    /// The text of a manifest.
    pub async fn manifest(&self, id: BackupId, officer: &Identity) -> Value {
        let marker = self.marker(id).await;
        let listing = self.vault.list().await.expect("list");
        let identity =
            self.vault.open_epoch(&listing, marker.epoch, std::slice::from_ref(officer)).await.expect("open");
        let sealed = self.get(VaultObject::Manifest(id)).await;
        let frame = seal::open(&sealed, &[identity], MAX_MANIFEST_BYTES).expect("open");
        let text = decompress_document(&frame, MAX_MANIFEST_BYTES).expect("decompress");
        serde_json::from_slice(&text).expect("JSON")
    }

    /// Puts this text in the place of a manifest, sealed to the recipient that the marker names to everybody.
    pub async fn replace_manifest(&self, id: BackupId, text: &[u8]) {
        self.replace_manifest_frame(id, &compress_document(text).expect("compress")).await;
    }

    /// The same, already compressed.
    pub async fn replace_manifest_frame(&self, id: BackupId, frame: &[u8]) {
        let recipient = self.marker(id).await.recipient.parse().expect("a recipient");
        let sealed = seal::seal(frame, &[recipient]);
        let facts = ObjectFacts { sha256: sha256(&sealed), bytes: sealed.len() as u64 };
        self.put(&VaultObject::Manifest(id).key(self.vault.target()), sealed).await;
        self.rewrite_marker(id, |marker| marker.manifest = facts).await;
    }

    /// Changes a manifest.
    pub async fn rewrite_manifest(&self, id: BackupId, officer: &Identity, change: impl FnOnce(&mut Value)) {
        let mut manifest = self.manifest(id, officer).await;
        change(&mut manifest);
        self.replace_manifest(id, &serde_json::to_vec(&manifest).expect("JSON")).await;
    }
}
