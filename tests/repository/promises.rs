//! What a success promises: whoever is configured can restore it, and the top rung of verification fails where a restore would.

use bytes::Bytes;
use dbkeeper::base::cpu::ByteBudget;
use dbkeeper::base::ids::BackupId;
use dbkeeper::codec::digest::sha256;
use dbkeeper::codec::seal::{self, Identity};
use dbkeeper::codec::{compress, seal::Recipient};
use dbkeeper::repository::layout::VaultObject;
use dbkeeper::repository::manifest::Manifest;
use dbkeeper::repository::marker::ObjectFacts;
use dbkeeper::repository::reader::BackupReader;
use dbkeeper::repository::vault::Vault;
use dbkeeper::repository::writer::{BackupWriter, Content};
use dbkeeper::repository::{Error, signed};

use crate::repository::support::{Table, World, expected, rows};

/// Replaces the manifest of a backup by another one, with all seals and signatures right: a defect of a writer, not an attack.
async fn rewrite_manifest(world: &World, vault: &Vault, id: BackupId, change: impl FnOnce(&mut Manifest)) {
    let reader = world.open(vault, id).await.expect("open");
    let mut manifest = reader.manifest().clone();
    change(&mut manifest);
    let text = serde_json::to_vec(&manifest).expect("JSON");
    let mut marker = reader.marker().marker.clone();
    let recipient: Recipient = marker.recipient.parse().expect("a recipient");
    let sealed = seal::seal(&compress::compress_document(&text).expect("compress"), &[recipient]);
    marker.manifest = ObjectFacts { sha256: sha256(&sealed), bytes: sealed.len() as u64 };
    let key = VaultObject::Marker(id).key(vault.target());
    let signed = signed::write(&marker, &key, &vault.keys().expect("with its key").mac);
    world.store.put(&VaultObject::Manifest(id).key(vault.target()), Bytes::from(sealed)).await.expect("put");
    world.store.put(&key, Bytes::from(signed)).await.expect("put");
}

#[tokio::test]
async fn reading_all_data_finds_a_part_that_no_restore_would_accept() {
    let world = World::new().await;
    let (vault, tables): (_, [Table; 2]) = (world.acme(), [("table:1", rows(500, 1)), ("table:2", rows(500, 2))]);
    let id = world.back_up(&vault, b"S", &tables).await.expect("back up").marker.id;
    assert_eq!(world.verify(&vault).await.findings, []);
    rewrite_manifest(&world, &vault, id, |manifest| {
        // Whole chunks of the right length, of the wrong table.
        let (one, two) = manifest.parts[1..].split_at_mut(1);
        assert_eq!(one[0].bytes, two[0].bytes);
        std::mem::swap(&mut one[0].runs, &mut two[0].runs);
    })
    .await;
    assert!(world.restore(&vault, id).await.is_err(), "a restore compares checksums");
    let report = world.verify(&vault).await;
    assert_eq!(report.whole, 0, "{report:?}");
    assert!(report.findings[0].what.contains("table:1, table:2"), "{report:?}");
}

#[tokio::test]
async fn after_all_recipients_were_replaced_the_new_ones_can_restore_the_next_backup() {
    let world = World::new().await;
    let (vault, tables): (_, [Table; 1]) = (world.acme(), [("table:1", rows(5_000, 1))]);
    world.back_up(&vault, b"S", &tables).await.expect("back up");
    world.advance(1);
    let successor = Identity::from_bytes(&[10; 32]);
    let world = World { officer: successor, ..world };
    let next = world.back_up(&vault, b"S", &tables).await.expect("back up");
    assert!(next.problems.iter().any(|told| told.contains("no configured recipient")), "{:?}", next.problems);
    assert_eq!(world.restore(&vault, next.marker.id).await.expect("restore"), expected(b"S", &tables));
    world.advance(1);
    let third = world.back_up(&vault, b"S", &tables).await.expect("back up");
    assert_eq!(third.marker.packs, next.marker.packs, "what the new epoch holds is reused");
}

#[tokio::test]
async fn a_backup_whose_documents_no_reader_takes_is_not_committed() {
    let world = World::new().await;
    let vault = world.acme();
    let writer = BackupWriter::begin(
        &vault,
        world.options(),
        dbkeeper::base::clock::Clock::now(world.clock.as_ref()),
        &world.entropy,
    )
    .await
    .expect("begin");
    let (description, engine) = (serde_json::Value::Null, "x".repeat(signed::MAX_DOCUMENT_BYTES));
    let refused = writer.commit(Content { parts: Vec::new(), description, engine }).await;
    assert!(matches!(refused, Err(Error::DocumentTooLarge { .. })), "{refused:?}");
    assert!(vault.list().await.expect("list").committed.is_empty());
}

#[tokio::test]
async fn a_marker_of_an_impossible_life_is_a_stranger_and_stops_nobody() {
    let world = World::new().await;
    let (vault, tables): (_, [Table; 1]) = (world.acme(), [("table:1", rows(100, 1))]);
    let folder = "vaults/tenant/acme/backups/20261121T091500Z-d4294967295h-3fa9c2d1/backup.json";
    let key = dbkeeper::store::ObjectKey::new(folder).expect("a key");
    world.store.put(&key, Bytes::from_static(b"{}\n{}\n")).await.expect("put");
    world.back_up(&vault, b"S", &tables).await.expect("back up");
    assert_eq!(world.restore_newest(&vault).await.expect("restore"), expected(b"S", &tables));
    let listing = vault.list().await.expect("list");
    assert_eq!(listing.strangers, [key]);
    let id = *listing.committed.first().expect("one");
    let identities = [world.officer.clone()];
    let blind = dbkeeper::repository::Repository::open_without_key(world.store.clone()).await.expect("open");
    let opened = BackupReader::open(&blind.vault(vault.target()), listing, id, &identities, ByteBudget::new(1)).await;
    assert!(opened.is_ok());
}
