//! A vault over weeks: the one rule of the format holds at every step.

use std::collections::BTreeMap;

use dbkeeper::base::clock::Clock;
use dbkeeper::base::ids::BackupId;
use dbkeeper::repository::vault::Vault;

use crate::repository::support::{Table, World, expected, rows};

/// Deletes what has expired by the listing, as a pruner would.
async fn delete_expired(world: &World, vault: &Vault) {
    use dbkeeper::repository::layout::VaultObject;

    let (listing, now) = (vault.list().await.expect("list"), world.clock.now());
    let mut dead = Vec::new();
    for id in listing.committed.iter().chain(&listing.uncommitted).filter(|id| id.expires_at() < now) {
        let objects = [VaultObject::Marker(*id), VaultObject::Index(*id), VaultObject::Manifest(*id)];
        dead.extend(objects.map(|object| object.key(vault.target())));
    }
    for (hash, pack) in listing.packs.iter().filter(|(_, pack)| pack.expires_at < now) {
        dead.push(VaultObject::Pack(pack.expires_at, *hash).key(vault.target()));
    }
    world.store.delete(&dead).await.expect("delete");
}

#[tokio::test]
async fn over_forty_days_every_unexpired_backup_restores_and_old_packs_are_renewed_not_rewritten() {
    let world = World::new().await;
    let vault = world.acme();
    let mut tables: [Table; 1] = [("table:1", rows(12_000, 1))];
    let mut taken: BTreeMap<BackupId, Vec<Vec<u8>>> = BTreeMap::new();
    let mut uploaded = Vec::new();
    for step in 0_usize..80 {
        tables[0].1[step * 140] = format!("{step}\tchanged at step {step}\n").into_bytes();
        let marker = world.back_up(&vault, b"S", &tables).await.expect("back up").marker;
        uploaded.push(marker.stored_bytes);
        taken.insert(marker.id, expected(b"S", &tables));
        let listing = vault.list().await.expect("list");
        for facts in marker.packs.iter().chain(&marker.segments) {
            let pack = listing.packs.get(&facts.sha256).expect("every pack is there");
            assert!(marker.expires_at <= pack.expires_at, "a pack expires before its backup");
        }
        world.advance(12);
        delete_expired(&world, &vault).await;
        let now = world.clock.now();
        taken.retain(|id, _| now <= id.expires_at());
        if step % 10 == 9 {
            for (id, content) in &taken {
                assert_eq!(&world.restore(&vault, *id).await.expect("restore"), content, "{id}");
            }
        }
    }
    assert!(taken.len() < 80, "some have expired");
    assert_eq!(world.verify(&vault).await.findings, []);
    let full = uploaded[0];
    let rewritten = uploaded[1..].iter().filter(|bytes| **bytes > full / 2).count();
    assert!(rewritten <= 4, "{rewritten} of 79 backups stored most of the table again: {uploaded:?}");
}

#[tokio::test]
async fn a_pack_that_was_renewed_and_pruned_under_its_older_key_is_found_under_the_later_one() {
    use dbkeeper::repository::layout::VaultObject;

    let world = World::new().await;
    let (vault, tables): (_, [Table; 1]) = (world.acme(), [("table:1", rows(500, 1))]);
    let marker = world.back_up(&vault, b"S", &tables).await.expect("back up").marker;
    let reader = world.open(&vault, marker.id).await.expect("open");
    for (hash, pack) in vault.list().await.expect("list").packs {
        let older = VaultObject::Pack(pack.expires_at, hash).key(vault.target());
        let later = VaultObject::Pack(pack.expires_at + chrono::TimeDelta::days(1), hash).key(vault.target());
        world.store.copy(&older, &later).await.expect("copy");
        world.store.delete(&[older]).await.expect("delete");
    }
    let mut source = reader.read(reader.part("table:1").expect("the part"));
    let mut bytes = Vec::new();
    while let Some(piece) = source.next().await.expect("read") {
        bytes.extend_from_slice(&piece);
    }
    assert_eq!(bytes, tables[0].1.concat());
}
