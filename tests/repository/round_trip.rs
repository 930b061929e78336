//! What goes in comes out, and what is known is not stored again.

use dbkeeper::base::class::Class;
use dbkeeper::base::ids::{BackupId, TargetId};
use dbkeeper::codec::digest::sha256;
use dbkeeper::codec::row_cutter::{BASE_MEAN, FIRST_BASE_MEAN};
use dbkeeper::codec::seal::Identity;
use dbkeeper::repository::index::Index;
use dbkeeper::repository::layout::VaultObject;
use dbkeeper::repository::marker::{Marker, ObjectFacts};
use dbkeeper::repository::reader::Wanted;
use dbkeeper::repository::vault::Vault;
use dbkeeper::repository::{Error, Repository};

use crate::repository::support::{KEY, Table, World, expected, rows};
use crate::support::forge::Forger;

#[tokio::test]
async fn every_part_comes_back_byte_for_byte() {
    let world = World::new().await;
    let giant = vec![[vec![b'x'; 3 << 20], b"\n".to_vec()].concat()];
    let blank: Vec<Vec<u8>> = vec![b"\n".to_vec(); 1000];
    let tables: [Table; 5] = [
        ("table:1", rows(20_000, 1)),
        ("table:2", Vec::new()),
        ("table:3", rows(1, 3)),
        ("table:4", giant),
        ("table:5", blank),
    ];
    let schema = vec![b'S'; (2 << 20) + 17];
    let committed = world.back_up(&world.acme(), &schema, &tables).await.expect("back up");
    assert_eq!(committed.marker.rows, 21_002);
    assert_eq!(world.restore_newest(&world.acme()).await.expect("restore"), expected(&schema, &tables));
    let report = world.verify(&world.acme()).await;
    assert_eq!((report.findings, report.whole, report.unreferenced_packs), (Vec::new(), 1, 0));
}

#[tokio::test]
async fn an_unchanged_backup_stores_only_its_documents() {
    let world = World::new().await;
    let tables: [Table; 1] = [("table:1", rows(100_000, 1))];
    let first = world.back_up(&world.acme(), b"S", &tables).await.expect("back up");
    world.advance(1);
    let second = world.back_up(&world.acme(), b"S", &tables).await.expect("back up");
    assert!(second.marker.stored_bytes < 16 << 10, "{} bytes", second.marker.stored_bytes);
    assert_eq!(second.marker.packs, first.marker.packs);
    assert_eq!(second.marker.parent.map(|parent| parent.id), Some(first.marker.id));
    assert_eq!(world.restore_newest(&world.acme()).await.expect("restore"), expected(b"S", &tables));
}

#[tokio::test]
async fn one_changed_row_stores_one_or_two_chunks() {
    let world = World::new().await;
    let mut tables: [Table; 1] = [("table:1", rows(40_000, 1))];
    world.back_up(&world.acme(), b"S", &tables).await.expect("back up");
    world.advance(1);
    tables[0].1[22_222] = b"55555\tchanged\n".to_vec();
    let second = world.back_up(&world.acme(), b"S", &tables).await.expect("back up");
    assert!(second.marker.stored_bytes < 150 << 10, "{} bytes", second.marker.stored_bytes);
    assert_eq!(world.restore_newest(&world.acme()).await.expect("restore"), expected(b"S", &tables));
}

#[tokio::test]
async fn a_stamped_part_is_reused_unread_and_only_under_the_same_stamp() {
    let world = World::new().await;
    world.back_up(&world.acme(), b"Schema one", &[]).await.expect("back up");
    world.advance(1);
    // The same stamp (first byte): the writer takes the old content without looking at the new.
    world.back_up(&world.acme(), b"Schema two", &[]).await.expect("back up");
    assert_eq!(world.restore_newest(&world.acme()).await.expect("restore"), [b"Schema one".to_vec()]);
    world.advance(1);
    world.back_up(&world.acme(), b"A new stamp", &[]).await.expect("back up");
    assert_eq!(world.restore_newest(&world.acme()).await.expect("restore"), [b"A new stamp".to_vec()]);
}

/// Says in the index of a backup with which mean the vault began.
async fn begin_with(vault: &Vault, id: BackupId, mean: u32) {
    let (writer, identity) = (Forger::writer(vault), vault.keys().expect("the key").index.clone());
    let mut index = Index::open(&writer.index(id).await, &identity, vault.target()).expect("open");
    index.base_mean = mean;
    let sealed = Index::seal(&index.text(), identity.recipient()).expect("seal");
    let facts = ObjectFacts { sha256: sha256(&sealed), bytes: sealed.len() as u64 };
    writer.put(&VaultObject::Index(id).key(vault.target()), sealed).await;
    let place = |marker: &mut Marker| {
        marker.index = facts;
        marker.index_inline = None;
    };
    writer.rewrite_marker(id, place).await;
}

#[tokio::test]
async fn a_vault_keeps_the_mean_that_it_began_with() {
    let world = World::new().await;
    let vault = world.acme();
    let tables: [Table; 1] = [("table:1", rows(100_000, 1))];
    let mean = async |id| world.open(&vault, id).await.expect("open").part("table:1").expect("a part").mean_bytes;
    let first = world.back_up(&vault, b"S", &tables).await.expect("back up").marker;
    assert_eq!(mean(first.id).await, BASE_MEAN);
    begin_with(&vault, first.id, FIRST_BASE_MEAN).await;
    world.advance(1);
    let second = world.back_up(&vault, b"S", &tables).await.expect("back up").marker;
    assert_eq!(mean(second.id).await, FIRST_BASE_MEAN);
    world.advance(1);
    let third = world.back_up(&vault, b"S", &tables).await.expect("back up").marker;
    assert_eq!(mean(third.id).await, FIRST_BASE_MEAN);
    assert!(third.packs.iter().all(|pack| second.packs.contains(pack)), "nothing is stored again");
    assert_eq!(world.restore_newest(&vault).await.expect("restore"), expected(b"S", &tables));
}

#[tokio::test]
async fn a_long_index_moves_to_a_segment_that_is_not_repeated() {
    let world = World::new().await;
    // Rows of 40 KiB that do not compress: each is nearly a chunk of its own.
    let wide = |i: u32| -> Vec<u8> {
        let noise = dbkeeper::codec::digest::derive::<8160>(&i.to_le_bytes(), b"", "rows");
        hex::encode(noise.repeat(5)).into_bytes().into_iter().chain(*b"\n").collect()
    };
    let tables: [Table; 1] = [("table:1", (0..2_200).map(wide).collect())];
    let first = world.back_up(&world.acme(), b"S", &tables).await.expect("back up");
    assert_eq!(first.marker.segments.len(), 1);
    world.advance(1);
    let second = world.back_up(&world.acme(), b"S", &tables).await.expect("back up");
    assert_eq!(second.marker.segments, first.marker.segments);
    assert!(second.marker.index.bytes < 8 << 10, "{} bytes", second.marker.index.bytes);
    assert_eq!(world.restore_newest(&world.acme()).await.expect("restore"), expected(b"S", &tables));
    assert_eq!(world.verify(&world.acme()).await.findings, []);
}

#[tokio::test]
async fn keys_open_what_they_should_and_nothing_else() {
    let world = World::new().await;
    let vault = world.acme();
    world.back_up(&vault, b"S", &[("table:1", rows(10, 1))]).await.expect("back up");
    let again = Repository::create(world.store.clone(), &KEY, chrono::DateTime::UNIX_EPOCH, &world.entropy).await;
    assert!(matches!(again, Err(Error::Exists { .. })));
    let wrong = Repository::open(world.store.clone(), &[1; 32]).await;
    assert!(matches!(wrong, Err(Error::WrongKey { .. })));
    // Without the repository key everything restores, and nothing is claimed to be authentic.
    let blind = Repository::open_without_key(world.store.clone()).await.expect("open");
    let blind_vault = blind.vault(vault.target());
    assert_eq!(
        world.restore_newest(&blind_vault).await.expect("restore"),
        world.restore_newest(&vault).await.expect("restore")
    );
    let id = Wanted::Newest.choose(&vault, &vault.list().await.expect("list")).expect("there is one");
    assert!(!blind_vault.marker(id).await.expect("read").verified);
    assert!(matches!(world.begin(&blind_vault).await, Err(Error::NoKey { .. })));
    // Another officer's identity is told whose it is not.
    let listing = vault.list().await.expect("list");
    let stranger = [Identity::from_bytes(&[8; 32])];
    let opened = vault.open_epoch(&listing, *listing.epochs.keys().next().expect("an epoch"), &stranger).await;
    assert_eq!(opened.expect_err("a stranger").class(), Class::Key);
}

#[tokio::test]
async fn two_writers_of_one_new_vault_both_succeed() {
    let world = World::new().await;
    let (vault, one, two): (_, [Table; 1], [Table; 1]) =
        (world.acme(), [("table:1", rows(5_000, 1))], [("table:1", rows(5_000, 2))]);
    let (a, b) = futures::join!(world.back_up(&vault, b"S", &one), world.back_up(&vault, b"S", &two));
    let (a, b) = (a.expect("one").marker, b.expect("two").marker);
    assert_eq!(world.restore(&vault, a.id).await.expect("restore"), expected(b"S", &one));
    assert_eq!(world.restore(&vault, b.id).await.expect("restore"), expected(b"S", &two));
    assert_eq!(world.verify(&vault).await.findings, []);
}

#[tokio::test]
async fn backups_are_found_by_time_and_by_a_piece_of_their_id() {
    let world = World::new().await;
    let vault = world.acme();
    let first = world.back_up(&vault, b"1", &[]).await.expect("back up").marker;
    world.advance(2);
    let second = world.back_up(&vault, b"2", &[]).await.expect("back up").marker;
    let listing = vault.list().await.expect("list");
    let choose = |wanted: Wanted| wanted.choose(&vault, &listing).ok();
    assert_eq!(choose(Wanted::Newest), Some(second.id));
    assert_eq!(choose(Wanted::At(second.created_at - chrono::TimeDelta::seconds(1))), Some(first.id));
    assert_eq!(choose(Wanted::At(first.created_at - chrono::TimeDelta::seconds(1))), None);
    assert_eq!(choose(Wanted::Id(first.id.to_string())), Some(first.id));
    assert_eq!(choose(Wanted::Id(second.id.to_string()[..13].to_owned())), Some(second.id));
    assert_eq!(choose(Wanted::Id("2026".to_owned())), None, "several match");
    assert_eq!(world.repository.vaults().await.expect("list").0, [TargetId::tenant("acme").expect("a name")]);
}

#[tokio::test]
async fn of_two_backups_in_one_second_the_later_is_the_newest() {
    let world = World::new().await;
    let vault = world.acme();
    for schema in [b"1", b"2"] {
        world.back_up(&vault, schema, &[]).await.expect("back up");
        assert_eq!(world.restore_newest(&vault).await.expect("restore"), [schema.to_vec()]);
    }
}
