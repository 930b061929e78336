//! A new repository key: what was stored stays genuine, and whoever has the former key achieves nothing more.

use std::sync::Arc;

use chrono::TimeDelta;
use dbkeeper::base::class::Class;
use dbkeeper::base::clock::{Clock, HeldClock};
use dbkeeper::base::cpu::ByteBudget;
use dbkeeper::base::ids::{BackupId, TargetId};
use dbkeeper::base::monitor::Silent;
use dbkeeper::codec::seal::Identity;
use dbkeeper::repository::checkpoint::{BadCheckpoint, Checkpoint};
use dbkeeper::repository::copy::{CopyOptions, copy_vault, open_destination};
use dbkeeper::repository::pace::Pace;
use dbkeeper::repository::proof::Proof;
use dbkeeper::repository::reader::Wanted;
use dbkeeper::repository::rotation::{Begun, Former, begin};
use dbkeeper::repository::vault::Vault;
use dbkeeper::repository::verify::Rung;
use dbkeeper::repository::{Error, Repository, hold};
use dbkeeper::store::ObjectStore;
use dbkeeper::store::memory::MemoryStore;

use crate::repository::support::{KEY, Table, World, expected, rows};
use crate::support::faults::{Fault, Faulty};

pub(super) const SECOND: [u8; 32] = [43; 32];
pub(super) const THIRD: [u8; 32] = [44; 32];

pub(super) async fn over_faults() -> (World, Arc<Faulty>) {
    let clock = Arc::new(HeldClock::new("2026-11-21T09:15:00Z".parse().expect("a time")));
    let held: Arc<dyn Clock> = Arc::<HeldClock>::clone(&clock);
    let store = Faulty::new(Arc::new(MemoryStore::new(held)));
    (World::over(Arc::<Faulty>::clone(&store), clock).await, store)
}

/// What the job does, vault after vault. Returns the repository under the new key, and the documents that were refused.
pub(super) async fn rotate(
    world: &World,
    former: Former<'_>,
    new: &[u8; 32],
) -> Result<(Repository, Vec<String>), Error> {
    let time = (world.clock.now(), &world.entropy as _);
    let rotation = match begin(Arc::clone(&world.store), former, new, time).await? {
        Begun::Done(repository) => return Ok((repository, Vec::new())),
        Begun::Rotation(rotation) => rotation,
    };
    loop {
        let (mut added, mut refused) = (0, Vec::new());
        for target in rotation.renewed.vaults().await?.0 {
            let former = rotation.former.vault(&target);
            let done = rotation.renewed.vault(&target).vouch_for(&former, rotation.id(), time).await?;
            added += done.added;
            refused.extend(done.refused);
        }
        if added == 0 {
            return Ok((rotation.finish(time, None).await?, refused));
        }
    }
}

/// The same world under another key.
pub(super) fn under(world: &World, repository: Repository) -> World {
    let entropy = dbkeeper::base::clock::SeededEntropy::new(70);
    World {
        clock: Arc::clone(&world.clock),
        entropy,
        store: Arc::clone(&world.store),
        repository,
        officer: world.officer.clone(),
    }
}

pub(super) async fn rotated(world: &World) -> World {
    let (repository, refused) = rotate(world, Former::Known(&KEY), &SECOND).await.expect("rotate");
    assert_eq!(refused, [""; 0]);
    under(world, repository)
}

pub(super) const TABLES: fn(u32) -> [Table; 1] = |salt| [("table:1", rows(500, salt))];

/// Two backups, the first one held, and a proof.
pub(super) async fn old_backups(world: &World) -> [BackupId; 2] {
    let vault = world.acme();
    let first = world.back_up(&vault, b"S", &TABLES(1)).await.expect("back up").marker.id;
    world.advance(24);
    let second = world.back_up(&vault, b"S", &TABLES(2)).await.expect("back up").marker.id;
    let (now, until) = (world.clock.now(), world.clock.now() + TimeDelta::days(900));
    hold::place(&vault, first, until, "the auditors", (now, &world.entropy)).await.expect("hold");
    let proof = Proof {
        format: 1,
        vault: vault.target().clone(),
        run_id: world.options().run_id,
        rung: Rung::Packs,
        proven_at: now,
        whole: true,
        backups: 2,
        newest_whole: Some(second),
        packs: 0,
        read_at: dbkeeper::repository::proof::ReadTimes::default(),
        drill: None,
    };
    vault.put_proof(&proof, [1; 4]).await.expect("record");
    [first, second]
}

/// Everything that was stored before is whole, with every check, under this key alone.
pub(super) async fn check_old(world: &World, [first, second]: [BackupId; 2]) {
    let vault = world.acme();
    assert_eq!(world.restore(&vault, first).await.expect("restore"), expected(b"S", &TABLES(1)));
    assert_eq!(world.restore(&vault, second).await.expect("restore"), expected(b"S", &TABLES(2)));
    let report = world.verify(&vault).await;
    assert_eq!((report.findings, report.unknown_objects), (Vec::new(), Vec::new()));
    assert_eq!(report.whole, report.backups);
    let listing = vault.list().await.expect("list");
    let (held, problems) = hold::in_force(&vault, &listing, world.clock.now()).await.expect("holds");
    assert_eq!((held.keys().copied().collect::<Vec<_>>(), problems), (vec![first], Vec::new()));
}

/// The record of a proof counts still. Copies have none.
async fn check_proof(world: &World) {
    let vault = world.acme();
    let listing = vault.list().await.expect("list");
    let mut problems = Vec::new();
    let proofs = vault.last_proofs(&listing.proofs, &mut problems).await.expect("proofs");
    assert!(proofs.packs.is_some() && problems.is_empty(), "{problems:?}");
}

#[tokio::test]
async fn what_was_stored_before_restores_and_verifies_with_the_new_key_alone_and_backups_go_on() {
    let world = World::new().await;
    let old = old_backups(&world).await;
    let new = rotated(&world).await;
    check_old(&new, old).await;
    check_proof(&new).await;
    let reopened = Repository::open(Arc::clone(&new.store), &SECOND).await.expect("open");
    check_old(&under(&new, reopened), old).await;
    // The next backup follows the old ones and shares nothing with them; the one after shares all with it.
    new.advance(24);
    let vault = new.acme();
    let third = new.back_up(&vault, b"S", &TABLES(2)).await.expect("back up");
    assert_eq!(third.problems, [""; 0]);
    assert_eq!(third.marker.parent.map(|parent| parent.id), Some(old[1]));
    let before = new.acme().marker(old[1]).await.expect("read").marker;
    assert_ne!(third.marker.epoch, before.epoch);
    assert!(third.marker.packs.iter().all(|pack| !before.packs.contains(pack)));
    new.advance(24);
    let fourth = new.back_up(&vault, b"S", &TABLES(2)).await.expect("back up");
    assert_eq!((fourth.marker.packs, fourth.marker.epoch), (third.marker.packs, third.marker.epoch));
    assert_eq!(new.restore_newest(&vault).await.expect("restore"), expected(b"S", &TABLES(2)));
    check_old(&new, old).await;
    // Doing it again changes nothing.
    let keys = world.store.list_page("rotations/", None).await.expect("list").objects.len();
    assert!(rotate(&world, Former::Known(&KEY), &SECOND).await.is_ok());
    assert_eq!(world.store.list_page("rotations/", None).await.expect("list").objects.len(), keys);
    // Without a key nothing is checked, and all of it restores.
    let blind = Repository::open_without_key(Arc::clone(&new.store)).await.expect("open");
    assert_eq!(under(&new, blind).restore(&vault, old[0]).await.expect("restore"), expected(b"S", &TABLES(1)));
}

#[tokio::test]
async fn whoever_has_the_former_key_is_refused_and_forges_nothing() {
    let world = World::new().await;
    let old = old_backups(&world).await;
    let vault = world.acme();
    // A backup under way, as of a job that nobody stopped, or of a thief of the key.
    let under_way = world.begin(&vault).await.expect("begin");
    let new = rotated(&world).await;
    let error = Repository::open(Arc::clone(&world.store), &KEY).await.expect_err("refused");
    assert!(matches!(error, Error::KeyReplaced { .. }) && error.class() == Class::Key, "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("[repository] key")));
    let error = world.repository.check_still_current().await.expect_err("refused");
    assert!(matches!(error, Error::KeyReplaced { .. }), "{error}");
    let error = world.begin(&vault).await.expect_err("a job that opened the repository before");
    assert!(matches!(error, Error::KeyReplaced { .. }), "{error}");
    world.advance(1);
    let forged = world.fill(under_way, b"F", &TABLES(3)).await.expect("the thief may put").marker.id;
    let thief = Identity::from_bytes(&[66; 32]);
    vault.rotate(&[thief.recipient().clone()], world.clock.now(), &world.entropy).await.expect("plant an epoch");
    hold::release(&vault, old[0], world.clock.now()).await.expect("plant a release");
    // Nothing of it counts.
    let renewed = new.acme();
    let listing = renewed.list().await.expect("list");
    let found = Wanted::Newest.find(&renewed, &listing).await.expect("find");
    assert_eq!(found.id, old[1]);
    assert!(found.passed_over[0].contains(&forged.to_string()), "{:?}", found.passed_over);
    assert!(found.passed_over[0].contains("former repository key"), "{:?}", found.passed_over);
    assert!(matches!(new.restore(&renewed, forged).await, Err(Error::Tampered { .. })));
    let (held, _) = hold::in_force(&renewed, &listing, world.clock.now()).await.expect("holds");
    assert!(held.contains_key(&old[0]), "the hold stays in force");
    let findings = new.verify(&renewed).await.findings;
    assert_eq!(findings.iter().filter(|finding| finding.tampering).count(), 2, "marker and epoch: {findings:#?}");
    new.advance(24);
    let next = new.back_up(&renewed, b"S", &TABLES(2)).await.expect("back up");
    assert_eq!(next.marker.parent.map(|parent| parent.id), Some(old[1]));
    assert_ne!(next.marker.recipient, thief.recipient().to_string());
    assert_eq!(new.restore(&renewed, next.marker.id).await.expect("restore"), expected(b"S", &TABLES(2)));
}

#[tokio::test]
async fn an_epoch_that_a_thief_planted_before_is_never_written_to_even_when_it_was_sealed_anew() {
    let world = World::new().await;
    let old = old_backups(&world).await;
    // Sealed to the officer, so that nothing is odd about it; and of the future, so that it is the newest.
    let later = world.clock.now() + TimeDelta::days(3000);
    let planted = world.acme().rotate(&[world.officer.recipient().clone()], later, &world.entropy).await;
    let planted = planted.expect("rotate").expect("an epoch").id;
    let new = rotated(&world).await;
    let vault = new.acme();
    let both = [new.officer.recipient().clone(), Identity::from_bytes(&[5; 32]).recipient().clone()];
    let done = vault.reseal(&both, std::slice::from_ref(&new.officer)).await.expect("reseal");
    assert_eq!((done.resealed, done.problems.len()), (2, 0));
    assert!(vault.key_facts().await.expect("facts").epochs.iter().all(|epoch| epoch.retired));
    let marker = new.back_up(&vault, b"S", &TABLES(1)).await.expect("back up").marker;
    assert_ne!(marker.epoch, planted);
    check_old(&new, old).await;
}

#[tokio::test]
async fn a_rotation_that_fails_at_any_call_loses_nothing_and_the_next_one_finishes() {
    let prepared = || async {
        let (world, store) = over_faults().await;
        let old = old_backups(&world).await;
        let other = world.repository.vault(&TargetId::central());
        world.back_up(&other, b"S", &TABLES(5)).await.expect("back up");
        (world, store, old)
    };
    let calls = {
        let (world, store, _) = prepared().await;
        let before = store.calls().len();
        rotated(&world).await;
        store.calls()[before..].to_vec()
    };
    // Twelve documents of two vaults; each pass lists twice, and all but the first then reads its vouch.
    assert!(calls.len() <= 45, "{calls:#?}");
    for (number, call) in calls.iter().enumerate() {
        let puts = call.operation.starts_with("put");
        for fault in [Fault::Fail(Class::Store), Fault::LoseReply, Fault::Tear(20)] {
            if matches!(fault, Fault::Tear(_)) && !puts {
                continue;
            }
            let (world, store, old) = prepared().await;
            store.at_call(store.calls().len() + 1 + number, fault.clone());
            let first = rotate(&world, Former::Known(&KEY), &SECOND).await;
            if first.is_err() {
                check_half_way(&world).await;
            }
            let (repository, refused) = rotate(&world, Former::Known(&KEY), &SECOND).await.expect("the next one");
            assert_eq!(refused, [""; 0], "call {number}, {call:?}, {fault:?}");
            let new = under(&world, repository);
            if !matches!(fault, Fault::Tear(_)) {
                check_old(&new, old).await;
            }
            // A vouch that the store tore lies beside a whole one, and is told for ever.
            let findings = new.verify(&new.acme()).await.findings;
            assert!(
                findings.iter().all(|found| found.key.contains("/vouches/")),
                "call {number}, {call:?}: {findings:#?}"
            );
            assert_eq!(new.restore(&new.acme(), old[0]).await.expect("restore"), expected(b"S", &TABLES(1)));
            assert!(new.back_up(&new.acme(), b"S", &TABLES(2)).await.is_ok(), "call {number}, {call:?}, {fault:?}");
        }
    }
}

/// Before a rotation is finished one key opens the repository, or none does and what to do is said.
async fn check_half_way(world: &World) {
    let opened = [
        Repository::open(Arc::clone(&world.store), &KEY).await,
        Repository::open(Arc::clone(&world.store), &SECOND).await,
    ];
    match &opened {
        // The second where the store tore the first document: its name is there.
        [Ok(_), Err(Error::WrongKey { .. } | Error::RotationUnfinished { .. })]
        | [Err(Error::KeyReplaced { .. }), Ok(_)] => {}
        [Err(former @ Error::RotationUnfinished { .. }), Err(new @ Error::RotationUnfinished { .. })] => {
            for error in [former, new] {
                assert_eq!(error.class(), Class::Key);
                assert!(error.hint().is_some_and(|hint| hint.contains("keys rotate --repository-key")));
            }
            let other = rotate(world, Former::Known(&KEY), &THIRD).await;
            assert!(matches!(other, Err(Error::RotationUnfinished { .. })), "a third key meanwhile");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn keys_are_replaced_again_and_again_and_a_former_one_never_comes_back() {
    let world = World::new().await;
    let old = old_backups(&world).await;
    let new = rotated(&world).await;
    new.advance(24);
    let third = new.back_up(&new.acme(), b"T", &TABLES(3)).await.expect("back up").marker.id;
    let (repository, refused) = rotate(&new, Former::Known(&SECOND), &THIRD).await.expect("rotate");
    assert_eq!(refused, [""; 0]);
    let newest = under(&new, repository);
    check_old(&newest, old).await;
    assert_eq!(newest.restore(&newest.acme(), third).await.expect("restore"), expected(b"T", &TABLES(3)));
    for former in [KEY, SECOND] {
        let opened = Repository::open(Arc::clone(&world.store), &former).await;
        assert!(matches!(opened, Err(Error::KeyReplaced { .. })));
        let back = rotate(&newest, Former::Known(&THIRD), &former).await;
        assert!(matches!(back, Err(Error::KeyReplaced { .. })), "a key that was replaced");
    }
    let wrong = rotate(&newest, Former::Known(&[9; 32]), &[8; 32]).await;
    assert!(matches!(wrong, Err(Error::WrongKey { .. })));
}

#[tokio::test]
async fn a_lost_key_is_replaced_and_what_is_there_is_believed() {
    let world = World::new().await;
    let old = old_backups(&world).await;
    let (repository, refused) = rotate(&world, Former::Lost, &SECOND).await.expect("rotate");
    assert_eq!(refused, [""; 0]);
    let new = under(&world, repository);
    check_old(&new, old).await;
    let marker = new.back_up(&new.acme(), b"S", &TABLES(2)).await.expect("back up").marker;
    assert_eq!(marker.parent.map(|parent| parent.id), Some(old[1]));
    // Who finds the lost key later can add nothing that counts.
    let found = Repository::open(Arc::clone(&world.store), &KEY).await.expect("nobody could tell that key");
    let found = under(&world, found);
    found.advance(24);
    let late = found.back_up(&found.acme(), b"S", &TABLES(7)).await.expect("back up").marker.id;
    assert!(matches!(new.restore(&new.acme(), late).await, Err(Error::Tampered { .. })));
}

#[tokio::test]
async fn what_anybody_plants_among_the_rotations_stops_no_writer_and_hides_nothing() {
    let world = World::new().await;
    let old = old_backups(&world).await;
    let (own, id) = (world.repository.key_id().expect("a key"), "20261121T091500Z-00000001");
    let put = async |key: String| {
        let key = dbkeeper::store::ObjectKey::new(&key).expect("a key");
        world.store.put(&key, "{}\n{}\n".into()).await.expect("put");
    };
    put(format!("rotations/{id}/retired.{own}.0123456789abcdef.json")).await;
    put(format!("rotations/{id}/done.{own}.json")).await;
    put(format!("vaults/tenant/acme/vouches/0123456789abcdef.{id}.json")).await;
    let opened = under(&world, Repository::open(Arc::clone(&world.store), &KEY).await.expect("open"));
    check_old(&opened, old).await;
    opened.back_up(&opened.acme(), b"S", &TABLES(1)).await.expect("back up");
    let new = rotated(&world).await;
    let own = new.repository.key_id().expect("a key");
    put(format!("vaults/tenant/acme/vouches/{own}.{id}.json")).await;
    let vault = new.acme();
    assert_eq!(new.restore(&vault, old[0]).await.expect("restore"), expected(b"S", &TABLES(1)));
    let findings = new.verify(&vault).await.findings;
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert!(findings[0].key.contains("/vouches/"));
}

#[tokio::test]
async fn a_checkpoint_of_the_former_key_is_refused_and_a_new_one_knows_all_backups() {
    let world = World::new().await;
    let old = old_backups(&world).await;
    let take = async |world: &World| {
        let mut checkpoint = Checkpoint::new(&world.repository, world.clock.now(), true);
        for id in old {
            let read = world.acme().marker(id).await.expect("read");
            checkpoint.add(world.acme().target(), id, &read.sha256);
        }
        checkpoint.print(&world.repository.checkpoint_mac().expect("a key"))
    };
    let before = take(&world).await;
    let new = rotated(&world).await;
    assert!(matches!(Checkpoint::parse(&before, &new.repository), Err(BadCheckpoint::FormerKey)));
    let after = Checkpoint::parse(&take(&new).await, &new.repository).expect("its own");
    let present = new.verify(&new.acme()).await.genuine;
    assert_eq!(after.compare(new.acme().target(), &present, new.clock.now()), []);
}

async fn copy(from: &World, to: &Arc<dyn ObjectStore>, key: &[u8; 32]) -> Result<Repository, Error> {
    let destination = open_destination(&from.repository, Arc::clone(to), key).await?;
    let (budget, pace) = (ByteBudget::new(8 << 20), Pace::new(None));
    let options = CopyOptions { now: from.clock.now(), keep_last: 3, budget: &budget, pace: &pace, monitor: &Silent };
    let copied = copy_vault(&from.acme(), &destination, options).await?;
    assert_eq!(copied.findings, []);
    Ok(destination)
}

fn memory(world: &World) -> Arc<dyn ObjectStore> {
    let held: Arc<dyn Clock> = Arc::<HeldClock>::clone(&world.clock);
    Arc::new(MemoryStore::new(held))
}

#[tokio::test]
async fn a_copy_is_made_with_the_new_key_and_one_of_before_is_kept_in_step_once_its_key_is_replaced_too() {
    let world = World::new().await;
    let (fresh, older) = (memory(&world), memory(&world));
    let old = old_backups(&world).await;
    copy(&world, &older, &KEY).await.expect("copy before");
    let new = rotated(&world).await;
    copy(&new, &fresh, &SECOND).await.expect("copy");
    let reopened = Repository::open(Arc::clone(&fresh), &SECOND).await.expect("open the copy");
    check_old(&under(&new, reopened), old).await;
    let behind = copy(&new, &older, &SECOND).await.expect_err("the copy has the former key");
    assert!(matches!(behind, Error::CopyBehind { .. }) && behind.class() == Class::Key, "{behind}");
    let copied = World { store: Arc::clone(&older), ..under(&world, world.repository.clone()) };
    rotate(&copied, Former::Known(&KEY), &SECOND).await.expect("rotate the copy");
    new.back_up(&new.acme(), b"S", &TABLES(4)).await.expect("back up");
    let second = copy(&new, &older, &SECOND).await.expect("copy");
    let second = under(&new, second);
    check_old(&second, old).await;
    assert_eq!(second.restore_newest(&second.acme()).await.expect("restore"), expected(b"S", &TABLES(4)));
}

#[tokio::test]
async fn vouches_cost_a_vault_two_requests_and_one_without_old_documents_none() {
    let (world, store) = over_faults().await;
    let [first, second] = old_backups(&world).await;
    let new = rotated(&world).await;
    let vault: Vault = new.acme();
    let before = store.calls().len();
    vault.marker(first).await.expect("read");
    vault.marker(second).await.expect("read");
    let calls = store.calls()[before..].to_vec();
    assert_eq!(calls.len(), 4, "two markers, a listing and a vouch: {calls:#?}");
    new.advance(24);
    let fresh = new.repository.vault(&TargetId::central());
    new.back_up(&fresh, b"S", &TABLES(1)).await.expect("back up");
    let before = store.calls().len();
    new.back_up(&fresh, b"S", &TABLES(1)).await.expect("back up");
    assert!(store.calls()[before..].iter().all(|call| !call.key.contains("vouches")), "nothing of it is old");
}
