//! The keys of a vault: sealed to others without touching data, resumable at every call, and new epochs.

use std::sync::Arc;

use dbkeeper::base::class::Class;
use dbkeeper::base::clock::{Clock, HeldClock};
use dbkeeper::codec::seal::{Identity, Recipient};
use dbkeeper::repository::Error;
use dbkeeper::repository::reader::BackupReader;
use dbkeeper::repository::vault::Vault;
use dbkeeper::store::memory::MemoryStore;

use crate::repository::support::{Table, World, rows};
use crate::support::faults::{Fault, Faulty};

fn officer(number: u8) -> Identity {
    Identity::from_bytes(&[number; 32])
}

fn recipients(officers: &[&Identity]) -> Vec<Recipient> {
    officers.iter().map(|officer| officer.recipient().clone()).collect()
}

async fn over_faults() -> (World, Arc<Faulty>) {
    let clock = Arc::new(HeldClock::new("2026-11-21T09:15:00Z".parse().expect("a time")));
    let held: Arc<dyn Clock> = Arc::<HeldClock>::clone(&clock);
    let store = Faulty::new(Arc::new(MemoryStore::new(held)));
    (World::over(Arc::<Faulty>::clone(&store), clock).await, store)
}

async fn opens(vault: &Vault, identity: &Identity) -> bool {
    let listing = vault.list().await.expect("list");
    let id = listing.newest().expect("a backup");
    let budget = dbkeeper::base::cpu::ByteBudget::new(1 << 20);
    match BackupReader::open(vault, listing, id, std::slice::from_ref(identity), budget).await {
        Ok(_) => true,
        Err(Error::WrongIdentity { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

const TABLES: fn() -> [Table; 1] = || [("table:1", rows(500, 1))];

#[tokio::test]
async fn an_officer_is_added_to_every_epoch_with_six_requests_a_vault_and_no_data_is_touched() {
    let (world, store) = over_faults().await;
    let (vault, second) = (world.acme(), officer(77));
    world.back_up(&vault, b"S", &TABLES()).await.expect("back up");
    let before = vault.list().await.expect("list");
    assert!(!opens(&vault, &second).await);
    let calls = store.calls().len();
    let both = recipients(&[&world.officer, &second]);
    let done = vault.reseal(&both, std::slice::from_ref(&world.officer)).await.expect("reseal");
    assert_eq!((done.resealed, done.unchanged, done.problems.len()), (1, 0, 0));
    assert!(store.calls().len() - calls <= 6, "{:?}", &store.calls()[calls..]);
    let after = vault.list().await.expect("list");
    assert_eq!((before.packs, before.documents), (after.packs, after.documents));
    for identity in [&world.officer, &second] {
        assert!(opens(&vault, identity).await, "either of the two");
    }
    let again = vault.reseal(&both, &[second]).await.expect("reseal");
    assert_eq!((again.resealed, again.unchanged), (0, 1));
    // A writer goes on with the same epoch.
    world.advance(24);
    let marker = world.back_up(&vault, b"S", &TABLES()).await.expect("back up").marker;
    assert_eq!(vault.key_facts().await.expect("facts").epochs.len(), 1);
    assert_eq!(marker.epoch, vault.key_facts().await.expect("facts").epochs[0].epoch);
}

#[tokio::test]
async fn one_who_is_removed_is_shut_out_of_what_a_new_epoch_stores_and_of_nothing_else() {
    let world = World::new().await;
    let (vault, leaver) = (world.acme(), officer(77));
    let both = recipients(&[&world.officer, &leaver]);
    world.back_up(&vault, b"S", &TABLES()).await.expect("back up");
    vault.reseal(&both, std::slice::from_ref(&world.officer)).await.expect("reseal");
    let only = recipients(&[&world.officer]);
    let done = vault.reseal(&only, std::slice::from_ref(&world.officer)).await.expect("reseal");
    assert_eq!(done.still_open_to, [leaver.recipient().to_string()], "it is said, since it cannot be undone");
    assert!(opens(&vault, &leaver).await, "an earlier revision still opens");
    let epoch = vault.rotate(&only, world.clock.now(), &world.entropy).await.expect("rotate").expect("an epoch");
    world.advance(24);
    let fresh: [Table; 1] = [("table:1", rows(500, 9))];
    let marker = world.back_up(&vault, b"T", &fresh).await.expect("back up").marker;
    assert_eq!(marker.epoch, epoch.id);
    assert!(!opens(&vault, &leaver).await);
    assert!(opens(&vault, &world.officer).await);
    let facts = vault.key_facts().await.expect("facts");
    assert_eq!(facts.epochs.len(), 2);
    assert_eq!(facts.epochs[0].formerly_sealed_to, [leaver.recipient().to_string()]);
    assert!(facts.epochs[1].formerly_sealed_to.is_empty());
    assert_eq!(world.verify(&vault).await.findings, []);
}

#[tokio::test]
async fn resealing_that_fails_at_any_call_loses_nothing_and_the_next_one_finishes() {
    let officers = [officer(9), officer(77)];
    let both = recipients(&[&officers[0], &officers[1]]);
    // Two epochs, so that a failure can come between them.
    let prepared = || async {
        let (world, store) = over_faults().await;
        let vault = world.acme();
        world.back_up(&vault, b"S", &TABLES()).await.expect("back up");
        vault.rotate(&recipients(&[&world.officer]), world.clock.now(), &world.entropy).await.expect("rotate");
        (world, store, vault)
    };
    let calls = {
        let (world, store, vault) = prepared().await;
        let before = store.calls().len();
        vault.reseal(&both, std::slice::from_ref(&world.officer)).await.expect("reseal");
        store.calls()[before..].to_vec()
    };
    for (number, call) in calls.iter().enumerate() {
        for fault in [Fault::Fail(Class::Store), Fault::LoseReply, Fault::Tear(20)] {
            let tears = matches!(fault, Fault::Tear(_));
            if tears && call.operation != "put_new" {
                continue;
            }
            let (world, store, vault) = prepared().await;
            store.at_call(store.calls().len() + 1 + number, fault.clone());
            let first = vault.reseal(&both, std::slice::from_ref(&world.officer)).await;
            assert!(first.is_err() || !tears, "a torn revision was taken for whole");
            assert!(opens(&vault, &world.officer).await, "call {number}: nobody is locked out");
            vault.reseal(&both, std::slice::from_ref(&world.officer)).await.expect("the next one");
            for one in &officers {
                assert!(opens(&vault, one).await, "call {number}, {fault:?}");
            }
        }
    }
}

#[tokio::test]
async fn the_epochs_of_a_target_open_for_its_own_recipient_and_never_for_it_alone() {
    let world = World::new().await;
    let own = officer(55);
    let vault = world.acme().with_own_recipient(Some(own.recipient().clone()));
    world.back_up(&vault, b"S", &TABLES()).await.expect("back up");
    assert!(opens(&vault, &own).await && opens(&vault, &world.officer).await);
    // The officers are replaced and nobody has resealed: what only the target could open is not used.
    world.advance(24);
    let mut options = world.options();
    options.recovery = recipients(&[&officer(88)]);
    let writer = dbkeeper::repository::writer::BackupWriter::begin(&vault, options, world.clock.now(), &world.entropy);
    drop(writer.await.expect("begin"));
    let facts = vault.key_facts().await.expect("facts");
    assert_eq!(facts.epochs.len(), 2, "a new epoch was begun");
    let sealed_to: Vec<String> = recipients(&[&officer(88), &own]).iter().map(ToString::to_string).collect();
    assert_eq!(facts.epochs[1].sealed_to, sealed_to);
}

#[tokio::test]
async fn resealing_a_fleet_costs_five_requests_a_vault_and_an_interrupted_one_pays_only_for_what_is_left() {
    const VAULTS: usize = 48;
    let (world, store) = over_faults().await;
    let first = recipients(&[&world.officer]);
    let name = |number: usize| dbkeeper::base::ids::TargetId::tenant(&format!("t{number:03}")).expect("a name");
    let vaults: Vec<Vault> = (0..VAULTS).map(|number| world.repository.vault(&name(number))).collect();
    for vault in &vaults {
        vault.begin_epoch(&first, world.clock.now(), &world.entropy).await.expect("begin");
    }
    let both = recipients(&[&world.officer, &officer(77)]);
    let identities = std::slice::from_ref(&world.officer);
    let before = store.calls().len();
    // Killed after a third of them.
    for vault in &vaults[..VAULTS / 3] {
        vault.reseal(&both, identities).await.expect("reseal");
    }
    let third = store.calls().len() - before;
    assert_eq!(third, 5 * VAULTS / 3, "a listing, its object twice, and the new one put and read");
    let mut resealed = 0;
    for vault in &vaults {
        resealed += vault.reseal(&both, identities).await.expect("reseal").resealed;
    }
    assert_eq!(resealed, VAULTS - VAULTS / 3);
    // What is done costs its listing and a look at both revisions.
    assert_eq!(store.calls().len() - before - third, 5 * (VAULTS - VAULTS / 3) + 3 * VAULTS / 3);
}
