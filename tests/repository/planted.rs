//! What somebody without the key puts into a vault takes nobody's place, and what a writer takes over from older backups is what
//! their markers name.

use std::sync::Arc;

use bytes::Bytes;
use dbkeeper::base::clock::Clock;
use dbkeeper::base::ids::{BackupId, RetentionClass};
use dbkeeper::codec::digest::sha256;
use dbkeeper::repository::layout::VaultObject;
use dbkeeper::repository::presence::whole_backups;
use dbkeeper::repository::reader::Wanted;
use dbkeeper::repository::vault::Vault;

use crate::repository::support::{Table, World, expected, rows};
use crate::support::faults::Faulty;

fn tables() -> [Table; 1] {
    [("table:1", rows(2_000, 1))]
}

/// Puts the marker of `id` under the name of another backup: a document that nobody signed for that place.
async fn plant(world: &World, vault: &Vault, id: BackupId, as_id: BackupId) {
    let marker = world.store.get(&VaultObject::Marker(id).key(vault.target())).await.expect("get");
    world.store.put(&VaultObject::Marker(as_id).key(vault.target()), marker).await.expect("put");
}

async fn overwrite(world: &World, object: VaultObject, body: Bytes) {
    let key = object.key(world.acme().target());
    world.store.delete(std::slice::from_ref(&key)).await.expect("delete");
    world.store.put(&key, body).await.expect("put");
}

#[tokio::test]
async fn a_planted_marker_takes_no_period_and_is_neither_parent_nor_newest() {
    let world = World::new().await;
    let vault = world.acme();
    let genuine = world.back_up(&vault, b"S", &tables()).await.expect("back up").marker.id;
    world.advance(24);
    // Later than now, and of a class that would serve every period.
    let later = world.clock.now() + chrono::TimeDelta::minutes(40);
    let planted = BackupId::new(later, RetentionClass::Yearly, 8_784, [7; 4]);
    plant(&world, &vault, genuine, planted).await;
    let found = Wanted::Newest.find(&vault, &vault.list().await.expect("list")).await.expect("a backup");
    assert_eq!(found.id, genuine);
    assert!(found.passed_over.iter().any(|told| told.contains(&planted.to_string())), "{found:?}");
    let next = world.back_up(&vault, b"S", &tables()).await.expect("back up");
    assert_eq!(next.marker.class, RetentionClass::Daily, "the planted one serves no day");
    assert_eq!(next.marker.parent.map(|parent| parent.id), Some(genuine));
    assert!(next.marker.stored_bytes < 10_000, "what is known is not stored again");
    assert!(next.problems.iter().any(|told| told.contains("looks like tampering")), "{:?}", next.problems);
    assert!(!next.problems.iter().any(|told| told.contains("clock")), "{:?}", next.problems);
    let (whole, problems) = whole_backups(&vault).await.expect("list");
    assert_eq!(whole.iter().map(|marker| marker.id).collect::<Vec<_>>(), [genuine, next.marker.id]);
    assert_eq!(problems.len(), 1, "{problems:?}");
}

#[tokio::test]
async fn a_vault_full_of_planted_markers_costs_a_bounded_number_of_requests_and_nothing_else() {
    let world = World::new().await;
    let genuine = world.back_up(&world.acme(), b"S", &tables()).await.expect("back up").marker.id;
    world.advance(1);
    for number in 0..200_u8 {
        let time = world.clock.now() - chrono::TimeDelta::minutes(30 - i64::from(number % 20));
        plant(&world, &world.acme(), genuine, BackupId::new(time, RetentionClass::Monthly, 8_928, [number; 4])).await;
    }
    let counting = Faulty::new(Arc::clone(&world.store));
    let seen = crate::repository::fleet::world_in(Arc::<Faulty>::clone(&counting), Arc::clone(&world.clock)).await;
    let done = seen.back_up(&seen.acme(), b"S", &tables()).await.expect("back up");
    assert!(counting.count("get") < 30, "{} objects were read", counting.count("get"));
    assert_eq!(seen.restore(&seen.acme(), done.marker.id).await.expect("restore"), expected(b"S", &tables()));
    // A period that cannot be proven to be served counts as free: a longer life loses nothing.
    assert_eq!(done.marker.class, RetentionClass::Monthly);
}

#[tokio::test]
async fn a_run_in_which_nothing_changed_asks_the_store_five_times_however_many_backups_there_are() {
    let world = World::new().await;
    for _ in 0..5 {
        world.back_up(&world.acme(), b"S", &tables()).await.expect("back up");
        world.advance(26);
    }
    world.back_up(&world.acme(), b"S", &tables()).await.expect("back up");
    world.advance(1);
    let counting = Faulty::new(Arc::clone(&world.store));
    let seen = crate::repository::fleet::world_in(Arc::<Faulty>::clone(&counting), Arc::clone(&world.clock)).await;
    let opened = counting.calls().len();
    let done = seen.back_up(&seen.acme(), b"S", &tables()).await.expect("back up");
    assert_eq!(done.marker.class, RetentionClass::Hourly, "week, month and day are served by others");
    let calls: Vec<String> = counting
        .calls()
        .split_off(opened)
        .into_iter()
        .map(|call| {
            let file = call.key.rsplit('/').next().unwrap_or_default().to_owned();
            let folder = if call.key.contains("/keys/") { "epoch".to_owned() } else { file };
            format!("{} {folder}", call.operation)
        })
        .collect();
    assert_eq!(calls, ["list_page ", "get epoch", "get backup.json", "put manifest.age", "put backup.json"]);
}

/// So many tables that their index is an object of its own.
fn wide(salt: u32) -> Vec<Table> {
    (0..300_u32).map(|number| -> Table { (format!("table:{number}").leak(), rows(1, salt * 1000 + number)) }).collect()
}

#[tokio::test]
async fn an_older_index_in_the_place_of_a_newer_one_is_not_used_and_told() {
    let world = World::new().await;
    let (vault, tables, other) = (world.acme(), wide(1), wide(2));
    let first = world.back_up(&vault, b"S", &tables).await.expect("back up").marker;
    world.advance(1);
    let second = world.back_up(&vault, b"S", &other).await.expect("back up").marker;
    world.advance(1);
    let old = world.store.get(&VaultObject::Index(first.id).key(vault.target())).await.expect("get");
    overwrite(&world, VaultObject::Index(second.id), old).await;
    let third = world.back_up(&vault, b"S", &tables).await.expect("back up");
    assert!(third.problems.iter().any(|told| told.contains("not those that the marker names")), "{:?}", third.problems);
    assert_eq!(third.marker.parent.map(|parent| parent.id), Some(second.id), "the newest whose marker verifies");
    assert_eq!(third.marker.packs, first.packs, "the older index knows these chunks");
    assert_eq!(world.restore(&vault, third.marker.id).await.expect("restore"), expected(b"S", &tables));
}

#[tokio::test]
async fn what_lies_under_the_name_of_an_index_segment_must_have_its_hash() {
    let world = World::new().await;
    let vault = world.acme();
    let tables: Vec<Table> = (0..1_040)
        .map(|number| -> Table { (format!("table:{number}").leak(), vec![format!("{number}\n").into_bytes()]) })
        .collect();
    let first = world.back_up(&vault, b"S", &tables).await.expect("back up").marker;
    let [segment] = first.segments.as_slice() else { panic!("one segment") };
    world.advance(1);
    let listing = vault.list().await.expect("list");
    let key = listing.pack_key(vault.target(), segment.sha256).expect("it is listed");
    let mut body = world.store.get(&key).await.expect("get").to_vec();
    body[300] ^= 1;
    world.store.delete(std::slice::from_ref(&key)).await.expect("delete");
    world.store.put(&key, Bytes::from(body)).await.expect("put");
    let second = world.back_up(&vault, b"S", &tables).await.expect("back up");
    assert!(second.problems.iter().any(|told| told.contains("not those of its name")), "{:?}", second.problems);
    assert_ne!(second.marker.segments, first.segments);
    assert_eq!(world.restore(&vault, second.marker.id).await.expect("restore"), expected(b"S", &tables));
}

#[tokio::test]
async fn a_pack_of_another_size_is_not_taken_over_and_the_next_backup_is_whole_again() {
    let world = World::new().await;
    let vault = world.acme();
    let first = world.back_up(&vault, b"S", &tables()).await.expect("back up").marker;
    let listing = vault.list().await.expect("list");
    for pack in &first.packs {
        let key = listing.pack_key(vault.target(), pack.sha256).expect("it is listed");
        let body = world.store.get(&key).await.expect("get");
        world.store.delete(std::slice::from_ref(&key)).await.expect("delete");
        world.store.put(&key, body.slice(..body.len() / 2)).await.expect("put");
    }
    world.advance(1);
    assert!(whole_backups(&vault).await.expect("list").0.is_empty(), "nothing whole is listed");
    let second = world.back_up(&vault, b"S", &tables()).await.expect("back up");
    assert!(second.problems.iter().any(|told| told.contains("cannot be restored in full")), "{:?}", second.problems);
    assert_eq!(world.restore(&vault, second.marker.id).await.expect("restore"), expected(b"S", &tables()));
}

#[tokio::test]
async fn a_marker_names_the_bytes_of_its_parents_marker() {
    let world = World::new().await;
    let vault = world.acme();
    let first = world.back_up(&vault, b"S", &wide(1)).await.expect("back up").marker;
    overwrite(&world, VaultObject::Index(first.id), Bytes::new()).await;
    world.advance(1);
    let second = world.back_up(&vault, b"S", &wide(1)).await.expect("back up");
    let bytes = world.store.get(&VaultObject::Marker(first.id).key(vault.target())).await.expect("get");
    let parent = second.marker.parent.expect("a parent, though its index is damaged");
    assert_eq!((parent.id, parent.sha256), (first.id, sha256(&bytes)));
}
