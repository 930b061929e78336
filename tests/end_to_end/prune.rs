//! `prune` by the real program, in a folder and in a bucket: the plan, what goes, what stays, what holds it back.

use dbkeeper::base::ids::TargetId;
use dbkeeper::repository::layout::VaultObject;

use super::aged::{Aged, DAYS, EXPIRED};
use crate::repository::fleet::keys;
use crate::support::seaweed::Seaweed;

#[tokio::test]
async fn what_has_expired_goes_from_a_folder_and_the_plan_came_first() {
    check_prune(Aged::in_folder().await).await;
}

#[tokio::test]
async fn what_has_expired_goes_from_a_bucket_and_the_plan_came_first() {
    check_prune(Aged::in_s3(Seaweed::shared().options()).await).await;
}

async fn check_prune(aged: Aged) {
    let before = keys(aged.world.store.as_ref()).await;
    let dry = aged.json(&["prune", "--dry-run", "--json"], 0);
    assert_eq!((dry["result"].as_str(), dry["dry_run"].as_bool()), (Some("planned"), Some(true)));
    assert_eq!(keys(aged.world.store.as_ref()).await, before, "a dry run changes nothing");
    let planned: Vec<&str> = dry["vaults"]
        .as_array()
        .expect("an array")
        .iter()
        .flat_map(|vault| vault["removals"].as_array().expect("an array"))
        .map(|removal| removal["key"].as_str().expect("a key"))
        .collect();
    let said = aged.run(&["prune"]).expect(0);
    let oldest = aged.backups["acme"][0].to_string();
    assert!(said.stdout.contains(&format!("backup {oldest}: kept backup, expired")), "{}", said.stdout);
    assert!(said.stderr.contains(&format!("pruned: {} objects", planned.len())), "{}", said.stderr);
    let after = keys(aged.world.store.as_ref()).await;
    let gone: Vec<&str> = before.iter().filter(|key| !after.contains(key)).map(|key| key.as_str()).collect();
    let mut planned_sorted = planned.clone();
    planned_sorted.sort_unstable();
    let mut gone_sorted = gone;
    gone_sorted.sort_unstable();
    assert_eq!(gone_sorted, planned_sorted, "exactly what the dry run said");
    let new: Vec<&str> = after.iter().filter(|key| !before.contains(key)).map(|key| key.as_str()).collect();
    assert!(new.iter().all(|key| key.starts_with("runs/")) && new.len() == 2, "its own records: {new:?}");
    for tenant in ["acme", "globex"] {
        assert_eq!(aged.listed(tenant), aged.ids(tenant, EXPIRED));
    }
    aged.check_restores().await;
    aged.run(&["verify", "--read-packs"]).expect(0);
    let again = aged.json(&["prune", "--json"], 0);
    assert_eq!((again["result"].as_str(), again["objects"].as_u64()), (Some("done"), Some(0)));
}

#[tokio::test]
async fn a_guard_holds_one_vault_back_and_the_others_are_pruned() {
    let aged = Aged::in_folder().await;
    let newest = *aged.backups["globex"].last().expect("a backup");
    let globex = TargetId::tenant("globex").expect("a name");
    aged.world.store.delete(&[VaultObject::Manifest(newest).key(&globex)]).await.expect("delete");
    let report = aged.json(&["prune", "--json"], 5);
    assert_eq!(report["result"], "partial");
    assert_eq!(report["vaults"][1]["refusals"][0]["guard"], "damaged");
    let listing = aged.world.repository.vault(&globex).list().await.expect("list");
    assert_eq!(listing.committed.len(), DAYS.count(), "nothing of it went");
    assert_eq!(aged.listed("acme"), aged.ids("acme", EXPIRED));
    let said = aged.run(&["prune"]).expect(5);
    assert!(said.stdout.contains("refused (damaged): backup"), "{}", said.stdout);
    assert!(said.stderr.contains("add --force=damaged"), "{}", said.stderr);
    aged.run(&["prune", "--force=damaged"]).expect(0);
    let listing = aged.world.repository.vault(&globex).list().await.expect("list");
    assert_eq!(listing.committed.len(), DAYS.count() - EXPIRED);
}

#[tokio::test]
async fn too_much_at_once_is_refused_and_so_is_a_vault_that_is_gone() {
    let aged = Aged::in_folder().await;
    let said = aged.run(&["prune", "--max-share", "10"]).expect(3);
    assert!(said.stdout.contains("refused (share): 5 of 13 backups would go (38 %)"), "{}", said.stdout);
    assert_eq!(aged.listed("acme").len(), DAYS.count());
    aged.run(&["prune"]).expect(0);
    std::fs::remove_dir_all(aged.sandbox.path("repository/vaults/tenant/globex")).expect("remove a vault");
    let said = aged.run(&["prune"]).expect(5);
    assert!(said.stdout.contains("tenant globex") && said.stdout.contains("refused (shrunken)"), "{}", said.stdout);
    aged.run(&["prune"]).expect(5);
    aged.run(&["prune", "--force=shrunken"]).expect(0);
    aged.run(&["prune"]).expect(0);
}

#[tokio::test]
async fn the_pruner_needs_the_repository_key_and_the_right_to_delete() {
    let aged = Aged::in_folder().await;
    let key = aged.sandbox.read("repository.key");
    std::fs::remove_file(aged.sandbox.path("repository.key")).expect("remove the key");
    aged.run(&["prune"]).expect(12);
    aged.sandbox.write("repository.key", &key);
    std::fs::remove_dir_all(aged.sandbox.path("repository")).expect("remove the repository");
    aged.run(&["prune"]).expect(10);
}

#[tokio::test]
async fn a_held_backup_outlives_its_expiry_is_listed_so_and_goes_after_its_release() {
    let aged = Aged::in_folder().await;
    let oldest = aged.backups["acme"][0].to_string();
    let next = aged.backups["acme"][EXPIRED].to_string();
    for (until, reason) in [("2020-01-01", "past"), ("2999-01-01", "far"), ("2090-12-31", " ")] {
        aged.run(&["hold", &oldest, "--until", until, "--reason", reason]).expect(2);
    }
    let unknown = "20200101T000000Z-d336h-3fa9c2d1";
    aged.run(&["hold", unknown, "--until", "2090-12-31", "--reason", "x"]).expect(4);
    aged.run(&["release", &oldest]).expect(4);
    let held = aged.json(&["hold", &oldest, "--until", "2090-12-31", "--reason", "audit 2026", "--json"], 0);
    assert_eq!(held["until"], "2091-01-01T00:00:00Z", "to the end of the day");
    let said = aged.run(&["list", "--tenant", "acme"]).expect(0).stdout;
    let line = said.lines().find(|line| line.contains(&oldest)).expect("its line");
    assert!(line.ends_with("held until 2091-01-01 00:00Z: audit 2026"), "{line}");
    let listed = aged.json(&["list", "--tenant", "acme", "--json"], 0);
    assert_eq!(
        (&listed[0]["hold_reason"], &listed[1]["hold_reason"]),
        (&"audit 2026".into(), &serde_json::Value::Null)
    );
    let shown = aged.run(&["show", &oldest]).expect(0).stdout;
    assert!(shown.contains("held until 2091-01-01 00:00Z: audit 2026"), "{shown}");
    let said = aged.run(&["prune"]).expect(0).stdout;
    assert!(
        said.contains(&format!("backup {oldest} stays: held until 2091-01-01T00:00:00+00:00: audit 2026")),
        "{said}"
    );
    let left = aged.listed("acme");
    assert_eq!((&left[0], &left[1]), (&oldest, &next));
    aged.check_restores().await;
    aged.run(&["verify"]).expect(0);
    aged.run(&["release", &oldest]).expect(0);
    aged.run(&["prune"]).expect(0);
    assert_eq!(aged.listed("acme"), aged.ids("acme", EXPIRED));
}
