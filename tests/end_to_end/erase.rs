//! `erase` by the real program: the sealed secrets go first, nothing of the tenant is left, and nothing of the others is touched.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dbkeeper::base::class::Class;
use dbkeeper::base::clock::Clock;
use dbkeeper::base::ids::RunId;
use dbkeeper::repository::{Repository, erase};

use super::aged::{Aged, EXPIRED};
use crate::repository::fleet::keys;
use crate::repository::support::{KEY, Table, World, expected, rows};
use crate::support::faults::{Fault, Faulty};
use crate::support::seaweed::Seaweed;

#[tokio::test]
async fn an_erased_tenant_is_gone_from_a_folder_and_nobody_misses_it() {
    check_erase(Aged::in_folder().await).await;
}

#[tokio::test]
async fn an_erased_tenant_is_gone_from_a_bucket_and_nobody_misses_it() {
    check_erase(Aged::in_s3(Seaweed::shared().options()).await).await;
}

async fn check_erase(aged: Aged) {
    aged.run(&["prune"]).expect(0);
    let before = keys(aged.world.store.as_ref()).await;
    aged.run(&["erase", "--tenant", "initech", "--yes-erase", "initech"]).expect(4);
    for refused in [&["erase", "--tenant", "acme"][..], &["erase", "--tenant", "acme", "--yes-erase", "globex"]] {
        aged.run(refused).expect(2);
    }
    aged.run(&["erase", "--tenant", "acme", "--dry-run"]).expect(0);
    let newest = aged.backups["acme"].last().expect("a backup").to_string();
    aged.run(&["hold", &newest, "--until", "2090-12-31", "--reason", "a lawsuit"]).expect(0);
    let said = aged.run(&["erase", "--tenant", "acme", "--yes-erase", "acme"]).expect(2).stderr;
    assert!(said.contains("a lawsuit") && said.contains("dbkeeper release"), "{said}");
    aged.run(&["release", &newest]).expect(0);
    aged.run(&["checkpoint", "--output", "seen"]).expect(0);
    let new: Vec<_> = keys(aged.world.store.as_ref()).await.into_iter().filter(|key| !before.contains(key)).collect();
    assert_eq!(new.len(), 2, "a hold and its release, and nothing else: {new:?}");
    let record = aged.json(&["erase", "--tenant", "acme", "--yes-erase", "acme", "--json"], 0);
    assert_eq!((record["backups"].as_u64(), record["left"].as_array().map(Vec::len)), (Some(8), Some(0)));
    let after = keys(aged.world.store.as_ref()).await;
    assert!(!after.iter().any(|key| key.as_str().contains("vaults/tenant/acme/")), "{after:?}");
    let run = record["run_id"].as_str().expect("a run");
    assert!(after.iter().any(|key| key.as_str() == format!("runs/{run}/erase-done.json")));
    let others = |keys: &[dbkeeper::store::ObjectKey]| {
        keys.iter().filter(|key| key.as_str().contains("/globex/")).cloned().collect::<Vec<_>>()
    };
    assert_eq!(others(&after), others(&before), "the other tenant's vault is as it was");
    aged.sandbox.write("identity.txt", aged.world.officer.to_secret().reveal());
    aged.reconfigure("recipients = [", "identity = { file = \"identity.txt\" }\nrecipients = [");
    // A checkpoint of before misses nothing that was destroyed on purpose, and says so.
    let restore = ["restore", "--tenant", "acme", "--yes", "--checkpoint", "seen"];
    let said = aged.run(&restore).expect(4).stderr;
    assert!(said.contains("was erased on") && said.contains(&format!("runs/{run}/erase")), "{said}");
    let plan = aged.run(&["restore", "--all", "--dry-run", "--checkpoint", "seen"]);
    assert!((plan.stdout + &plan.stderr).contains("tenant acme was erased on"), "told, and no failure");
    let verified = aged.run(&["verify", "--checkpoint", "seen"]).expect(0).stdout;
    assert!(verified.contains("tenant acme was erased since the checkpoint"), "{verified}");
    aged.run(&["prune"]).expect(0);
    aged.run(&["verify", "--read-packs"]).expect(0);
    assert_eq!(aged.listed("globex"), aged.ids("globex", EXPIRED));
}

#[tokio::test]
async fn an_erasure_that_fails_anywhere_destroyed_the_secrets_first_and_goes_on_when_run_again() {
    for failing in 1..=3 {
        let world = World::new().await;
        let (vault, tables): (_, [Table; 1]) = (world.acme(), [("table:1", rows(100, 1))]);
        let id = world.back_up_for(&vault, 24, &tables).await.expect("back up").marker.id;
        let now = world.clock.now();
        let store = Faulty::new(Arc::clone(&world.store));
        let seen = AtomicU64::new(0);
        store.when(1, Fault::Fail(Class::Store), move |call| {
            call.operation == "delete" && 1 + seen.fetch_add(1, Ordering::Relaxed) == failing
        });
        let opened = Repository::open(store.clone(), &KEY).await.expect("open").vault(vault.target());
        let found = erase::inventory(&opened, now).await.expect("look");
        assert!(erase::erase(&opened, &found, RunId::new(now, [1; 4])).await.is_err(), "deletion {failing} fails");
        let restored = world.restore(&vault, id).await;
        match failing {
            1 => assert_eq!(restored.expect("nothing has happened"), expected(b"S", &tables)),
            _ => assert!(restored.is_err(), "without its secret nothing is readable"),
        }
        let found = erase::inventory(&opened, now).await.expect("look");
        let done = erase::erase(&opened, &found, RunId::new(now, [2; 4])).await.expect("erase");
        assert_eq!(done.left, Vec::<String>::new());
        assert!(vault.list_objects().await.expect("list").1.is_empty());
    }
}
