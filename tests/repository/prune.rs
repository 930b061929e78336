//! Prune over a store in memory: what survives, what holds it back, and what a crash half-way leaves.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use dbkeeper::base::class::Class;
use dbkeeper::base::clock::Clock;
use dbkeeper::base::ids::{BackupId, RunId};
use dbkeeper::repository::layout::VaultObject;
use dbkeeper::repository::prune::execute::{Deleted, execute};
use dbkeeper::repository::prune::plan::plan;
use dbkeeper::repository::prune::record::{read_reports, write_plan};
use dbkeeper::repository::prune::survey::survey;
use dbkeeper::repository::prune::{Guard, Policy, Rule, VaultPlan, clock_refusal, cutoff};
use dbkeeper::repository::vault::Vault;
use dbkeeper::repository::{Error, hold};
use dbkeeper::store::ObjectStore;
use dbkeeper::store::memory::MemoryStore;
use tokio_util::sync::CancellationToken;

use crate::repository::support::{KEY, Table, World, expected, rows};
use crate::support::faults::{Fault, Faulty};

/// The usual policy of these tests.
pub(super) fn policy(keep_last: usize) -> Policy {
    Policy { keep_last, max_share_percent: 100, forced: BTreeSet::new(), versions: false }
}

/// Plans as the job does.
pub(super) async fn planned(world: &World, vault: &Vault, policy: &Policy) -> Result<VaultPlan, Error> {
    let repository = vault.repository();
    let now = world.clock.now();
    let times = (now, cutoff(now, None));
    let reports = read_reports(repository, times.1).await?;
    let last = reports.remembered.get(vault.target()).copied();
    Ok(plan(&survey(vault, policy.keep_last, times, last).await?, policy, times.1))
}

/// Plans, writes down and deletes as the job does.
pub(super) async fn prune(world: &World, vault: &Vault, policy: &Policy) -> Result<(VaultPlan, Deleted), Error> {
    let plan = planned(world, vault, policy).await?;
    let run = RunId::new(world.clock.now(), [7; 4]);
    let remembered = read_reports(vault.repository(), world.clock.now()).await?.remembered;
    let plans = [plan];
    write_plan(vault.repository(), (run, world.clock.now()), &plans, &remembered, &policy.forced).await?;
    let deleted = execute(vault.repository(), &plans, &[], false, &CancellationToken::new()).await?;
    let [plan] = plans;
    Ok((plan, deleted))
}

async fn committed(vault: &Vault) -> Vec<BackupId> {
    vault.list().await.expect("list").committed.into_iter().collect()
}

fn guards(plan: &VaultPlan) -> Vec<Guard> {
    plan.refusals.iter().map(|refusal| refusal.guard).collect()
}

/// One table whose middle changes from step to step.
fn table(step: u32) -> [Table; 1] {
    let mut all = rows(3000, 1);
    for (number, row) in rows(200, 50 + step).into_iter().enumerate() {
        all[1000 + number] = row;
    }
    [("table:1", all)]
}

/// Backups of 30 hours each, taken every 10 hours.
async fn six_backups(world: &World, vault: &Vault) -> Vec<BackupId> {
    let mut ids = Vec::new();
    for step in 0..6 {
        ids.push(world.back_up_for(vault, 30, &table(step)).await.expect("back up").marker.id);
        world.advance(10);
    }
    ids
}

#[tokio::test]
async fn what_has_expired_goes_and_the_newest_stay_with_all_that_they_name() {
    let world = World::new().await;
    let vault = world.acme();
    let ids = six_backups(&world, &vault).await;
    let (plan, deleted) = prune(&world, &vault, &policy(2)).await.expect("prune");
    assert!(plan.kept.is_empty() && plan.refusals.is_empty(), "{plan:?}");
    assert_eq!(committed(&vault).await, ids[3..], "expired more than an hour ago");
    assert_eq!(deleted.objects, plan.removals.len() as u64);
    // Years later only the newest two are left, and they restore.
    world.advance(20_000);
    let (plan, _) = prune(&world, &vault, &policy(2)).await.expect("prune");
    assert_eq!(plan.kept.iter().map(|kept| kept.backup).collect::<Vec<_>>(), ids[4..]);
    assert_eq!(committed(&vault).await, ids[4..]);
    for step in [4, 5] {
        let restored = world.restore(&vault, ids[step]).await.expect("restore");
        assert_eq!(restored, expected(b"S", &table(u32::try_from(step).expect("small"))));
    }
    assert_eq!(world.verify(&vault).await.findings, []);
    assert_eq!(world.verify(&vault).await.unreferenced_packs, 0, "orphans are gone");
    let (plan, deleted) = prune(&world, &vault, &policy(2)).await.expect("prune");
    assert_eq!((plan.removals, deleted.objects), (vec![], 0), "nothing is left to do");
}

#[tokio::test]
async fn the_rule_of_each_removal_is_told_and_markers_go_first() {
    let world = World::new().await;
    let vault = world.acme();
    six_backups(&world, &vault).await;
    let plan = planned(&world, &vault, &policy(1)).await.expect("plan");
    let first_other = plan.removals.iter().position(|r| !matches!(r.object, VaultObject::Marker(_))).expect("one");
    assert!(plan.removals[first_other..].iter().all(|r| !matches!(r.object, VaultObject::Marker(_))));
    let first_pack = plan.removals.iter().position(|r| matches!(r.object, VaultObject::Pack(..))).expect("a pack");
    assert!(plan.removals[first_pack..].iter().all(|r| matches!(r.object, VaultObject::Pack(..))));
    assert!(plan.removals.iter().all(|removal| matches!(removal.rule, Rule::Expired | Rule::Superseded)));
}

#[tokio::test]
async fn a_crashed_run_leaves_orphans_that_expire_by_name() {
    let world = World::new().await;
    let vault = world.acme();
    let keep = world.back_up_for(&vault, 9000, &table(0)).await.expect("back up").marker.id;
    world.advance(1);
    let store = Faulty::new(world.store.clone());
    store.when(1, Fault::Fail(Class::Store), |call| call.operation == "put" && call.key.ends_with("backup.json"));
    let broken = dbkeeper::repository::Repository::open(store.clone(), &KEY).await.expect("open");
    let crashed = world.back_up_for(&broken.vault(vault.target()), 20, &table(1)).await;
    assert!(crashed.is_err());
    assert_eq!(vault.list().await.expect("list").uncommitted.len(), 1);
    let (plan, _) = prune(&world, &vault, &policy(1)).await.expect("prune");
    assert_eq!(plan.removals, [], "it may still be running");
    world.advance(40);
    let (plan, _) = prune(&world, &vault, &policy(1)).await.expect("prune");
    assert!(plan.removals.iter().any(|removal| removal.rule == Rule::Unfinished));
    let listing = vault.list().await.expect("list");
    assert_eq!((listing.committed.len(), listing.uncommitted.len()), (1, 0));
    assert_eq!(world.verify(&vault).await.unreferenced_packs, 0);
    assert_eq!(world.restore(&vault, keep).await.expect("restore"), expected(b"S", &table(0)));
}

#[tokio::test]
async fn the_older_key_of_a_renewed_pack_goes_at_once_unless_one_of_the_two_is_torn() {
    let world = World::new().await;
    let vault = world.acme();
    let id = world.back_up_for(&vault, 100, &table(0)).await.expect("back up").marker.id;
    let packs: Vec<_> = vault.list().await.expect("list").packs.into_iter().collect();
    let later = |expiry| expiry + chrono::TimeDelta::days(9);
    for (number, (hash, pack)) in packs.iter().enumerate() {
        let from = VaultObject::Pack(pack.expires_at, *hash).key(vault.target());
        let to = VaultObject::Pack(later(pack.expires_at), *hash).key(vault.target());
        if number == 0 {
            world.store.put(&to, Bytes::from_static(b"torn")).await.expect("put");
        } else {
            world.store.copy(&from, &to).await.expect("copy");
        }
    }
    let (plan, _) = prune(&world, &vault, &policy(1)).await.expect("prune");
    assert_eq!(plan.removals.len(), packs.len() - 1);
    assert!(plan.removals.iter().all(|removal| removal.rule == Rule::Superseded));
    let torn = VaultObject::Pack(later(packs[0].1.expires_at), packs[0].0).key(vault.target());
    world.store.delete(&[torn]).await.expect("delete");
    assert_eq!(world.restore(&vault, id).await.expect("restore"), expected(b"S", &table(0)));
}

#[tokio::test]
async fn a_planted_later_key_never_costs_the_good_one_that_a_backup_needs() {
    let world = World::new().await;
    let vault = world.acme();
    let id = world.back_up_for(&vault, 100, &table(0)).await.expect("back up").marker.id;
    // By somebody who can put objects and not delete them: other bytes of the same size.
    let mut planted = Vec::new();
    for (hash, pack) in vault.list().await.expect("list").packs {
        let to = VaultObject::Pack(pack.expires_at + chrono::TimeDelta::days(900), hash).key(vault.target());
        let size = usize::try_from(pack.bytes).expect("small");
        world.store.put(&to, Bytes::from(vec![7; size])).await.expect("put");
        planted.push(to);
    }
    for hours in [0, 2400] {
        world.advance(hours);
        let (plan, _) = prune(&world, &vault, &policy(1)).await.expect("prune");
        assert_eq!(plan.removals, [], "after {hours} hours");
    }
    // Another backup takes its place as the newest: then the good ones go, by their own time.
    world.back_up_for(&vault, 100, &[("table:1", rows(2000, 77))]).await.expect("back up");
    let plan = planned(&world, &vault, &policy(1)).await.expect("plan");
    let packs = plan.removals.iter().filter(|removal| matches!(removal.object, VaultObject::Pack(..)));
    assert_eq!(packs.map(|removal| removal.rule).collect::<Vec<_>>(), vec![Rule::Expired; planted.len()]);
    world.store.delete(&planted).await.expect("delete");
    assert_eq!(world.restore(&vault, id).await.expect("restore"), expected(b"S", &table(0)));
}

#[tokio::test]
async fn where_every_version_goes_no_key_of_a_pack_goes_early() {
    let world = World::new().await;
    let vault = world.acme();
    let id = world.back_up_for(&vault, 100, &table(0)).await.expect("back up").marker.id;
    // Both keys overwritten with the same garbage: in a bucket that keeps versions the good bytes are an older one.
    let mut good = Vec::new();
    for (hash, pack) in vault.list().await.expect("list").packs {
        let key = |expiry| VaultObject::Pack(expiry, hash).key(vault.target());
        let (own, later) = (key(pack.expires_at), key(pack.expires_at + chrono::TimeDelta::days(900)));
        let garbage = Bytes::from(vec![7; usize::try_from(pack.bytes).expect("small")]);
        good.push((own.clone(), world.store.get(&own).await.expect("get")));
        world.store.put(&own, garbage).await.expect("put");
        world.store.copy(&own, &later).await.expect("copy");
    }
    let policy = Policy { versions: true, ..policy(1) };
    for hours in [0, 2400] {
        world.advance(hours);
        let plan = planned(&world, &vault, &policy).await.expect("plan");
        assert_eq!(plan.removals, [], "after {hours} hours");
    }
    for (key, body) in good {
        world.store.put(&key, body).await.expect("put");
        let later: Vec<_> =
            vault.list_objects().await.expect("list").1.into_iter().map(|listed| listed.object).collect();
        let same_pack = later.into_iter().map(|object| object.key(vault.target()));
        let hash = key.as_str().rsplit_once('.').expect("a pack").1.to_owned();
        let planted: Vec<_> = same_pack.filter(|other| other.as_str().ends_with(&hash) && *other != key).collect();
        world.store.delete(&planted).await.expect("delete");
    }
    assert_eq!(world.restore(&vault, id).await.expect("restore"), expected(b"S", &table(0)));
}

#[tokio::test]
async fn a_hold_keeps_a_backup_and_all_that_it_names_until_its_date_or_its_release() {
    let world = World::new().await;
    let vault = world.acme();
    let ids = six_backups(&world, &vault).await;
    let now = world.clock.now();
    let until = now + chrono::TimeDelta::days(400);
    let chance = (now, &world.entropy as &dyn dbkeeper::base::clock::Entropy);
    hold::place(&vault, ids[0], until, "audit 2026", chance).await.expect("hold");
    hold::place(&vault, ids[1], now + chrono::TimeDelta::hours(2), "short", chance).await.expect("hold");
    world.advance(100 * 24);
    let (plan, _) = prune(&world, &vault, &policy(1)).await.expect("prune");
    assert!(plan.kept.iter().any(|kept| kept.backup == ids[0] && kept.why.contains("audit 2026")), "{plan:?}");
    assert_eq!(committed(&vault).await, [ids[0], ids[5]]);
    assert_eq!(world.restore(&vault, ids[0]).await.expect("restore"), expected(b"S", &table(0)));
    assert_eq!(world.restore(&vault, ids[5]).await.expect("restore"), expected(b"S", &table(5)));
    assert_eq!(hold::release(&vault, ids[0], world.clock.now()).await.expect("release"), 1);
    prune(&world, &vault, &policy(1)).await.expect("prune");
    assert_eq!(committed(&vault).await, [ids[5]]);
    let listing = vault.list().await.expect("list");
    assert!(listing.holds.is_empty() && listing.releases.is_empty(), "they go with their backup");
}

#[tokio::test]
async fn a_planted_release_frees_nothing_and_a_planted_hold_keeps_and_is_told() {
    let world = World::new().await;
    let vault = world.acme();
    let ids = six_backups(&world, &vault).await;
    let now = world.clock.now();
    let chance = (now, &world.entropy as &dyn dbkeeper::base::clock::Entropy);
    let held = hold::place(&vault, ids[0], now + chrono::TimeDelta::days(400), "audit", chance).await.expect("hold");
    let planted = b"{\"format\":1}\n{\"mac\":\"0000000000000000000000000000000000000000000000000000000000000000\"}\n";
    for object in [VaultObject::Release(ids[0], held.id), VaultObject::Hold(ids[1], held.id)] {
        world.store.put(&object.key(vault.target()), Bytes::from_static(planted)).await.expect("put");
    }
    world.advance(1000);
    let (plan, _) = prune(&world, &vault, &policy(1)).await.expect("prune");
    assert_eq!(plan.notes.len(), 2, "{:?}", plan.notes);
    assert_eq!(committed(&vault).await, [ids[0], ids[1], ids[5]]);
}

#[tokio::test]
async fn a_damaged_newest_or_held_backup_stops_the_prune_of_its_vault() {
    let world = World::new().await;
    let vault = world.acme();
    let ids = six_backups(&world, &vault).await;
    let key = VaultObject::Manifest(ids[5]).key(vault.target());
    let manifest = world.store.get(&key).await.expect("get");
    world.store.delete(std::slice::from_ref(&key)).await.expect("delete");
    let (plan, deleted) = prune(&world, &vault, &policy(2)).await.expect("prune");
    assert_eq!((guards(&plan), deleted.objects), (vec![Guard::Damaged], 0));
    assert!(plan.refusals[0].reason.contains("manifest.age"), "{plan:?}");
    // Forced, two whole ones stay beside the damaged one.
    let forced = Policy { forced: BTreeSet::from([Guard::Damaged]), ..policy(2) };
    world.advance(1000);
    prune(&world, &vault, &forced).await.expect("prune");
    assert_eq!(committed(&vault).await, ids[3..]);
    world.store.put(&key, manifest).await.expect("put");
    let marker = VaultObject::Marker(ids[5]).key(vault.target());
    world.store.put(&marker, Bytes::from_static(b"{}\n{}\n")).await.expect("put");
    let (plan, deleted) = prune(&world, &vault, &policy(1)).await.expect("prune");
    assert_eq!((guards(&plan), deleted.objects), (vec![Guard::Damaged], 0));
}

#[tokio::test]
async fn a_listing_that_lost_backups_is_told_from_one_that_was_pruned() {
    let world = World::new().await;
    let vault = world.acme();
    let ids = six_backups(&world, &vault).await;
    let (plan, _) = prune(&world, &vault, &policy(2)).await.expect("prune");
    assert_eq!(plan.refusals, []);
    world.advance(1);
    let (plan, _) = prune(&world, &vault, &policy(2)).await.expect("prune");
    assert_eq!(plan.refusals, [], "what was pruned is not missed");
    let marker = VaultObject::Marker(ids[4]).key(vault.target());
    let body = world.store.get(&marker).await.expect("get");
    world.store.delete(std::slice::from_ref(&marker)).await.expect("delete");
    world.advance(12);
    let (plan, deleted) = prune(&world, &vault, &policy(2)).await.expect("prune");
    assert_eq!((guards(&plan), deleted.objects), (vec![Guard::Shrunken], 0), "{plan:?}");
    let (plan, _) = prune(&world, &vault, &policy(2)).await.expect("prune");
    assert_eq!(guards(&plan), [Guard::Shrunken], "a refusal does not make it normal");
    world.store.put(&marker, body).await.expect("put");
    let (plan, _) = prune(&world, &vault, &policy(2)).await.expect("prune");
    assert_eq!(plan.refusals, []);
    // An empty listing is the extreme of it.
    let all: Vec<_> = vault.list_objects().await.expect("list").1;
    let all: Vec<_> = all.into_iter().map(|listed| listed.object.key(vault.target())).collect();
    world.store.delete(&all).await.expect("delete");
    assert_eq!(guards(&planned(&world, &vault, &policy(2)).await.expect("plan")), [Guard::Shrunken]);
}

#[tokio::test]
async fn an_unexpired_parent_that_is_not_listed_stops_the_first_prune_too() {
    let world = World::new().await;
    let vault = world.acme();
    let ids = six_backups(&world, &vault).await;
    let marker = VaultObject::Marker(ids[4]).key(vault.target());
    world.store.delete(&[marker]).await.expect("delete");
    assert_eq!(guards(&planned(&world, &vault, &policy(1)).await.expect("plan")), [Guard::Shrunken]);
}

#[tokio::test]
async fn more_than_the_bounded_share_of_a_vault_goes_only_by_force() {
    let world = World::new().await;
    let vault = world.acme();
    six_backups(&world, &vault).await;
    world.advance(1000);
    let bounded = Policy { max_share_percent: 50, ..policy(1) };
    let (plan, deleted) = prune(&world, &vault, &bounded).await.expect("prune");
    assert_eq!((guards(&plan), deleted.objects), (vec![Guard::Share], 0));
    let forced = Policy { forced: BTreeSet::from([Guard::Share]), ..bounded };
    let (plan, _) = prune(&world, &vault, &forced).await.expect("prune");
    assert!(plan.refusals[0].forced);
    assert_eq!(committed(&vault).await.len(), 1);
}

#[test]
fn a_clock_that_is_not_the_stores_stops_everything_and_the_earlier_one_decides() {
    let now = dbkeeper::base::ids::parse_key_time("20261121T091500Z").expect("a time");
    let other = |minutes| Some(now + chrono::TimeDelta::minutes(minutes));
    for minutes in [-5, 0, 5] {
        assert_eq!(clock_refusal(now, other(minutes), &policy(1)), None, "{minutes}");
    }
    for minutes in [-6, 6, 60 * 24 * 365] {
        let refusal = clock_refusal(now, other(minutes), &policy(1)).expect("refused");
        assert_eq!((refusal.guard, refusal.forced), (Guard::Clock, false), "{minutes}");
    }
    assert_eq!(clock_refusal(now, None, &policy(1)), None);
    assert_eq!(cutoff(now, other(-3)), cutoff(now, None) - chrono::TimeDelta::minutes(3));
    assert_eq!(cutoff(now, other(3)), cutoff(now, None));
}

#[tokio::test]
async fn a_prune_that_fails_at_any_call_leaves_whole_backups_and_the_next_one_ends_it() {
    let world = World::new().await;
    let vault = world.acme();
    let ids = six_backups(&world, &vault).await;
    let mut objects = Vec::new();
    for key in super::fleet::keys(world.store.as_ref()).await {
        let body = world.store.get(&key).await.expect("get");
        objects.push((key, body));
    }
    for call in 1.. {
        let memory: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new(Arc::clone(&world.clock) as Arc<dyn Clock>));
        for (key, body) in &objects {
            memory.put(key, body.clone()).await.expect("put");
        }
        let faulty = Faulty::new(Arc::clone(&memory));
        let opened = dbkeeper::repository::Repository::open(faulty.clone(), &KEY).await.expect("open");
        let before = faulty.calls().len();
        faulty.at_call(before + call, Fault::LoseReply);
        let faulty_vault = opened.vault(vault.target());
        // Small batches, so that there are many places to fail.
        let first = prune_in_small_batches(&world, &faulty_vault).await;
        let whole = super::fleet::world_in(memory, Arc::clone(&world.clock)).await;
        let whole_vault = whole.acme();
        for (step, id) in ids.iter().enumerate().skip(3) {
            let restored = whole.restore(&whole_vault, *id).await.expect("restore");
            assert_eq!(restored, expected(b"S", &table(u32::try_from(step).expect("small"))), "call {call}");
        }
        prune(&world, &whole_vault, &policy(2)).await.expect("prune");
        assert_eq!(committed(&whole_vault).await, ids[3..], "call {call}");
        assert_eq!(whole.verify(&whole_vault).await.findings, [], "call {call}");
        if first.is_ok() {
            // The fault would have struck later: it was the last one.
            let _ = faulty.get(&VaultObject::Marker(ids[5]).key(vault.target())).await;
            break;
        }
    }
}

async fn prune_in_small_batches(world: &World, vault: &Vault) -> Result<(), Error> {
    let plan = planned(world, vault, &policy(2)).await?;
    let stop = CancellationToken::new();
    for some in plan.removals.chunks(2) {
        let part = VaultPlan { removals: some.to_vec(), ..plan.clone() };
        execute(vault.repository(), &[part], &[], false, &stop).await?;
    }
    Ok(())
}
