//! Hostile storage: what somebody with write access to the bucket tries, without the keys and with the writer's. It is
//! refused, in words that say what it looks like, and takes a bounded amount of memory.

use std::fs::File;
use std::sync::Arc;

use dbkeeper::base::class::Class;
use dbkeeper::base::clock::{Clock, HeldClock};
use dbkeeper::base::ids::{BackupId, EpochId, TargetId, parse_key_time};
use dbkeeper::codec::compress::compress_document;
use dbkeeper::codec::digest::sha256;
use dbkeeper::codec::seal::{self, Identity};
use dbkeeper::repository::index::Index;
use dbkeeper::repository::json::{MAX_BYTES_PER_VALUE, MAX_VALUES};
use dbkeeper::repository::layout::{VaultObject, vault_prefix};
use dbkeeper::repository::manifest::MAX_MANIFEST_BYTES;
use dbkeeper::repository::marker::{Marker, ObjectFacts};
use dbkeeper::repository::reader::Wanted;
use dbkeeper::repository::vault::Vault;
use dbkeeper::repository::{Error, Repository, signed};
use dbkeeper::store::ObjectKey;
use dbkeeper::store::local::LocalStore;
use futures::TryStreamExt;
use serde_json::json;

use super::support::{Table, World, expected, rows};
use crate::support::forge::Forger;

fn tables() -> [Table; 1] {
    [("table:1", rows(500, 1))]
}

async fn backed_up() -> (World, Vault, BackupId) {
    let world = World::new().await;
    let vault = world.acme();
    let id = world.back_up(&vault, b"S", &tables()).await.expect("back up").marker.id;
    (world, vault, id)
}

/// The same vault for somebody who lost the repository key.
async fn without_key(world: &World) -> Vault {
    let repository = Repository::open_without_key(Arc::clone(&world.store)).await.expect("open");
    repository.vault(&TargetId::tenant("acme").expect("a name"))
}

/// Requires that a backup is refused as tampered with.
#[track_caller]
fn check_tampering<T>(found: Result<T, Error>, words: &str) {
    let Err(error) = found else { panic!("it was taken") };
    assert_eq!(error.class(), Class::Tampered, "{error}");
    let told = error.to_string();
    assert!(told.contains("this looks like tampering") && told.contains(words), "{told}");
    assert!(error.hint().is_some(), "{told}");
}

#[tokio::test]
async fn a_forged_marker_is_refused_and_hides_no_genuine_backup() {
    let (world, vault, genuine) = backed_up().await;
    world.advance(26);
    let second = world.back_up(&vault, b"T", &tables()).await.expect("back up").marker.id;
    let forged = "{\"format\":1}";
    Forger::thief(&vault).rewrite_marker(second, |marker| marker.engine = forged.to_owned()).await;
    check_tampering(world.open(&vault, second).await, "its signature does not verify");
    let found = Wanted::Newest.find(&vault, &vault.list().await.expect("list")).await.expect("a genuine one");
    assert_eq!(found.id, genuine);
    assert!(found.passed_over[0].contains("this looks like tampering"), "{found:?}");
    let report = world.verify(&vault).await;
    assert!(report.findings.iter().any(|finding| finding.tampering), "{report:?}");
}

#[tokio::test]
async fn the_vault_of_another_tenant_is_refused_in_this_ones_place_with_and_without_the_key() {
    let world = World::new().await;
    let (acme, globex) = (world.acme(), world.repository.vault(&TargetId::tenant("globex").expect("a name")));
    let id = world.back_up(&globex, b"G", &tables()).await.expect("back up").marker.id;
    let (from, to) = (vault_prefix(globex.target()), vault_prefix(acme.target()));
    let objects: Vec<_> = world.store.list(&from).try_collect().await.expect("list");
    for object in &objects {
        let path = object.key.as_str().strip_prefix(&from).expect("listed below it");
        let copy = ObjectKey::new(format!("{to}{path}")).expect("a key");
        world.store.copy(&object.key, &copy).await.expect("copy");
    }
    check_tampering(world.open(&acme, id).await, "its signature does not verify");
    let blind = without_key(&world).await;
    check_tampering(world.open(&blind, id).await, "it describes another backup");
    // A thief who knows the format changes that too; then the manifest, which he cannot read, tells.
    let acme_id = acme.target().clone();
    Forger::thief(&blind).rewrite_marker(id, |marker| marker.vault = acme_id).await;
    let refused = world.open(&blind, id).await.map(drop);
    check_tampering(refused, "it describes another epoch");
}

#[tokio::test]
async fn a_thiefs_recipient_is_never_written_to() {
    let (world, vault, first) = backed_up().await;
    let thief = Identity::from_bytes(&[99; 32]);
    let forger = Forger::thief(&vault);
    let genuine = forger.marker(first).await;
    // His recipient in a later revision of the epoch, in an epoch that looks newer, and sealed to the officers besides.
    let later = EpochId::new(world.clock.now(), [255; 4]);
    for (epoch, revision) in [(genuine.epoch, 2), (later, 1)] {
        let key = VaultObject::Epoch(epoch, revision).key(vault.target());
        let recipients = [thief.recipient().clone(), world.officer.recipient().clone()];
        let document = json!({
            "format": 1, "vault": vault.target(), "epoch": epoch, "recipient": thief.recipient().to_string(),
            "sealed_to": recipients.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "sealed": seal::seal_text(&thief.to_secret(), &recipients).expect("seal"),
        });
        forger.put(&key, signed::write(&document, &key, &forger.mac)).await;
    }
    world.advance(26);
    let other: [Table; 1] = [("table:1", rows(700, 9))];
    let next = world.back_up(&vault, b"T", &other).await.expect("back up");
    let told = next.problems.iter().filter(|told| told.contains("this looks like tampering")).count();
    assert_eq!(told, 2, "{:?}", next.problems);
    let listing = vault.list().await.expect("list");
    for hash in next.marker.packs.iter().map(|pack| pack.sha256) {
        let sealed = world.store.get(&listing.pack_key(vault.target(), hash).expect("listed")).await.expect("get");
        let opened = seal::open(&sealed, std::slice::from_ref(&thief), 64 << 20);
        assert!(matches!(opened, Err(seal::Error::WrongIdentity)), "the thief reads a pack");
    }
    for (id, content) in [(first, expected(b"S", &tables())), (next.marker.id, expected(b"T", &other))] {
        assert_eq!(world.restore(&vault, id).await.expect("restore"), content, "and nothing was lost");
    }
}

#[tokio::test]
async fn a_manifest_whose_numbers_lead_elsewhere_is_refused() {
    let (world, vault, id) = backed_up().await;
    let writer = Forger::writer(&vault);
    let good = writer.manifest(id, &world.officer).await;
    let huge = u64::MAX;
    let changes: [(&str, serde_json::Value); 9] = [
        ("/parts/1/runs", json!([[4_000_000_000_u32, 0, 10]])),
        ("/parts/1/runs", json!([[0, 0, huge], [0, 0, huge]])),
        ("/parts/1/runs", json!([[0, 4_294_967_295_u32, 1]])),
        ("/parts/1/bytes", json!(huge)),
        ("/parts/1/name", json!("schema")),
        ("/packs", json!([])),
        ("/packs/0/sha256", json!("0".repeat(64))),
        ("/vault", json!({"kind": "tenant", "name": "globex"})),
        ("/row_secret", json!("00")),
    ];
    for (place, value) in changes {
        let mut changed = good.clone();
        *changed.pointer_mut(place).expect("it is there") = value.clone();
        writer.replace_manifest(id, &serde_json::to_vec(&changed).expect("JSON")).await;
        let found = world.restore(&vault, id).await.expect_err("refused");
        assert!(matches!(found.class(), Class::Tampered | Class::Corrupt), "{place} = {value}: {found}");
        let report = world.verify(&vault).await;
        assert!(!report.findings.is_empty(), "{place} = {value} was not found");
    }
}

/// Opens a backup on this thread, and requires that it is refused within so much memory.
fn check_bounded(runtime: &tokio::runtime::Runtime, world: &World, vault: &Vault, id: BackupId, most: usize) -> String {
    let mut refused = None;
    let used = allocation_counter::measure(|| refused = Some(runtime.block_on(world.open(vault, id))));
    let error = refused.expect("it ended").expect_err("refused");
    assert!(matches!(error.class(), Class::Corrupt | Class::Tampered), "{error}");
    assert!(used.bytes_max <= most as u64, "{} bytes were taken, and {most} are stated: {error}", used.bytes_max);
    error.to_string()
}

#[test]
fn a_bomb_in_the_place_of_a_manifest_stops_at_the_limit() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (world, vault, id) = runtime.block_on(backed_up());
    let frame = compress_document(&vec![b' '; MAX_MANIFEST_BYTES + (1 << 20)]).expect("compress");
    assert!(frame.len() < 64 << 10, "a bomb is small: {}", frame.len());
    runtime.block_on(Forger::writer(&vault).replace_manifest_frame(id, &frame));
    // What it decodes to grows by doubling, so the last step holds two buffers.
    let told = check_bounded(&runtime, &world, &vault, id, 3 * MAX_MANIFEST_BYTES + (16 << 20));
    assert!(told.contains("is damaged: a frame holds 268435457 bytes instead of 268435456"), "{told}");
}

#[test]
fn a_manifest_with_a_million_parts_is_refused_before_they_are_made() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (world, vault, id) = runtime.block_on(backed_up());
    let writer = Forger::writer(&vault);
    let mut manifest = runtime.block_on(writer.manifest(id, &world.officer));
    manifest["parts"] = json!("PARTS");
    let part = r#"{"name":"x","kind":"rows","rows":0,"bytes":0,"sum":"00000000000000000000000000000000","mean_bytes":1,"runs":[[0,0,0]]}"#;
    let parts = format!("[{}{part}]", format!("{part},").repeat(1_000_000));
    let text = manifest.to_string().replace("\"PARTS\"", &parts);
    assert!(text.len() < MAX_MANIFEST_BYTES, "not refused for its size");
    runtime.block_on(writer.replace_manifest(id, text.as_bytes()));
    let most = 3 * text.len() + (16 << 20);
    assert!(most < MAX_VALUES * MAX_BYTES_PER_VALUE, "less than what its values would take");
    let told = check_bounded(&runtime, &world, &vault, id, most);
    assert!(told.contains("and no document of ours has more than 8388608"), "{told}");
}

#[tokio::test]
async fn an_index_that_points_outside_its_vault_is_not_followed() {
    let world = World::new().await;
    let (acme, globex) = (world.acme(), world.repository.vault(&TargetId::tenant("globex").expect("a name")));
    let victim = world.back_up(&globex, b"S", &tables()).await.expect("back up").marker;
    let own = world.back_up(&acme, b"S", &tables()).await.expect("back up").marker;
    let writer = Forger::writer(&acme);
    let identity = acme.keys().expect("the key").index.clone();
    let mut index = Index::open(&writer.index(own.id).await, &identity, acme.target()).expect("open");
    for pack in &mut index.packs {
        pack.sha256 = victim.packs[0].sha256;
        pack.bytes = victim.packs[0].bytes;
    }
    index.packs.truncate(1);
    index.chunks.iter_mut().for_each(|(_, place)| place.pack = 0);
    index.memos.clear();
    index.segments = vec![victim.packs[0].sha256];
    let sealed = Index::seal(&index.text(), identity.recipient()).expect("seal");
    let facts = ObjectFacts { sha256: sha256(&sealed), bytes: sealed.len() as u64 };
    writer.put(&VaultObject::Index(own.id).key(acme.target()), sealed).await;
    let place = |marker: &mut Marker| {
        marker.index = facts;
        marker.index_inline = None;
    };
    writer.rewrite_marker(own.id, place).await;
    world.advance(1);
    let next = world.back_up(&acme, b"S", &tables()).await.expect("back up");
    let listing = acme.list().await.expect("list");
    assert!(next.marker.packs.iter().all(|pack| listing.packs.contains_key(&pack.sha256)), "a pack of another vault");
    assert!(next.problems.iter().any(|told| told.contains("index segment")), "{:?}", next.problems);
    assert_eq!(world.restore(&acme, next.marker.id).await.expect("restore"), expected(b"S", &tables()));
}

/// A repository in a folder, for objects too large for memory.
async fn in_a_folder(folder: &std::path::Path) -> World {
    let clock = Arc::new(HeldClock::new(parse_key_time("20261121T091500Z").expect("a time")));
    World::over(Arc::new(LocalStore::new(folder.to_owned())), clock).await
}

#[test]
fn a_giant_in_the_place_of_any_object_fills_no_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let world = runtime.block_on(in_a_folder(folder.path()));
    let vault = world.acme();
    let id = runtime.block_on(world.back_up(&vault, b"S", &tables())).expect("back up").marker.id;
    let path = folder.path().join(VaultObject::Marker(id).key(vault.target()).as_str());
    std::fs::remove_file(&path).expect("remove");
    // A hole of 10 TiB costs a thief nothing.
    File::create(&path).and_then(|file| file.set_len(10 << 40)).expect("a sparse file");
    check_tampering(runtime.block_on(world.open(&vault, id)), "and none of its kind has more than 67108864");
    let next = runtime.block_on(world.back_up(&vault, b"S", &tables())).expect("back up");
    assert!(next.problems.iter().any(|told| told.contains("this looks like tampering")), "{:?}", next.problems);
    let report = runtime.block_on(world.verify(&vault));
    assert!(report.findings.iter().any(|finding| finding.tampering && finding.what.contains("bytes")), "{report:?}");
    assert_eq!(report.newest_whole, Some(next.marker.id));
}
