//! Promise: every rung leaves a signed record, takes samples, and goes on where the last run stopped.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;

use super::world::{SHOP, World};
use crate::support::seaweed::Seaweed;

fn records(world: &World, tenant: &str) -> Vec<PathBuf> {
    let folder = format!("vaults/tenant/{tenant}/proofs/");
    world.stored().into_keys().filter(|path| path.to_string_lossy().contains(&folder)).collect()
}

fn vault<'a>(report: &'a Value, tenant: &str) -> &'a Value {
    let vaults = report["vaults"].as_array().expect("an array");
    vaults.iter().find(|vault| vault["target"]["name"] == tenant).unwrap_or_else(|| panic!("{report:#}"))
}

fn proven(world: &World, tenant: &str) -> Value {
    world.json(&["list", "--tenant", tenant, "--json"], 0)[0]["proven"].clone()
}

#[test]
fn each_rung_leaves_a_record_that_list_and_show_tell_and_a_forged_one_proves_nothing() {
    let world = World::with_shops();
    world.backup();
    assert!(world.run(&["list"]).expect(0).stderr.contains("never proven: 3 targets"));
    world.run(&["verify", "--no-record"]).expect(0);
    assert!(records(&world, "acme").is_empty());
    for (flags, rung) in
        [(&["verify"][..], "presence"), (&["verify", "--read-packs"], "packs"), (&["verify", "--read-data"], "data")]
    {
        world.run(flags).expect(0);
        let told = proven(&world, "acme");
        assert_eq!(told[rung]["result"], "ok", "{told:#}");
    }
    let told = proven(&world, "acme");
    assert!(told["drill"].is_null() && told["packs"]["oldest_at"].is_string(), "{told:#}");
    assert!(world.run(&["list"]).expect(0).stderr.contains("proven: tenant acme: drill never, data 20"));
    assert!(world.run(&["show", &world.newest("acme")]).expect(0).stdout.contains("proven     drill never, data 20"));

    // Copied into another vault, or changed: it proves nothing, and it is told.
    let record =
        records(&world, "acme").into_iter().find(|path| path.to_string_lossy().contains("-data-")).expect("one");
    let text = std::fs::read_to_string(&record).expect("read it");
    std::fs::remove_file(&record).expect("remove it");
    std::fs::write(&record, text.replacen("\"whole\":true", "\"whole\":false", 1)).expect("write it");
    let said = world.run(&["list", "--tenant", "acme"]).expect(5).stderr;
    assert!(said.contains("-data-") && said.contains("tampering"), "{said}");
    let said = world.run(&["verify", "--read-packs", "--tenant", "acme"]).expect(5).stdout;
    assert!(said.contains("-data-") && said.contains("tampering"), "{said}");
    std::fs::remove_file(&record).expect("remove it");
    world.run(&["verify", "--read-packs"]).expect(0);
}

#[test]
fn samples_go_round_until_every_pack_was_read_and_a_run_without_time_reads_nothing() {
    let world = World::shared();
    world.tenant("acme", SHOP);
    let big = world.tenant("big", SHOP);
    world.run(&["init"]).expect(0);
    for name in ["first", "second", "third"] {
        // What is new in each backup is a pack of its own.
        world.cluster().psql(
            &big,
            &format!("create table {name} as select n, md5('{name}' || n) from generate_series(1, 2000) n"),
        );
        world.backup();
        std::thread::sleep(std::time::Duration::from_millis(1100)); // Ids tell seconds apart.
    }
    let none = world.json(&["verify", "--read-packs", "--max-duration", "0s", "--json"], 0);
    assert_eq!((&none["complete"], &none["left"]), (&false.into(), &3.into()), "{none:#}");
    assert!(records(&world, "big").is_empty(), "nothing was read, so nothing is proven");

    let packs = vault(&world.json(&["verify", "--read-packs", "--no-record", "--json"], 0), "big")["packs"].as_u64();
    let packs = packs.expect("a number");
    assert!(3 <= packs, "{packs} packs");
    for run in 1..=packs {
        let report = world.json(&["verify", "--read-packs", "--sample", "1%", "--json"], 0);
        let big = vault(&report, "big");
        assert_eq!((&big["packs_read"], &big["packs_proven"]), (&1.into(), &run.into()), "one more each time: {big:#}");
        let result = proven(&world, "big")["packs"]["result"].clone();
        assert_eq!(result, if run < packs { "partial" } else { "ok" });
    }
    // Everything is proven: within a day there is nothing to do, and a run of an hour does all of it again.
    let fresh = world.json(&["verify", "--read-packs", "--older-than", "1d", "--json"], 0);
    assert_eq!(vault(&fresh, "big")["packs_read"], 0, "{fresh:#}");
    let all = world.json(&["verify", "--read-data", "--max-duration", "1h", "--json"], 0);
    assert_eq!((&all["complete"], &vault(&all, "big")["packs_read"]), (&true.into(), &packs.into()), "{all:#}");
}

#[test]
fn where_only_some_vaults_are_looked_at_it_is_those_that_were_not_for_the_longest_time() {
    let world = World::with_shops();
    world.backup();
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        let report = world.json(&["verify", "--sample", "1%", "--json"], 0);
        let [vault] = report["vaults"].as_array().expect("an array").as_slice() else { panic!("{report:#}") };
        seen.insert(vault["target"]["name"].to_string());
        std::thread::sleep(std::time::Duration::from_millis(1100)); // Records tell seconds apart.
    }
    assert_eq!(seen.len(), 3, "each had its turn: {seen:?}");
    let fresh = world.json(&["verify", "--older-than", "1d", "--json"], 0);
    assert_eq!(fresh["vaults"], serde_json::json!([]), "all were proven within the day");
}

#[test]
fn checkpoints_samples_and_drills_work_over_s3() {
    let world = World::shared();
    world.use_s3(&Seaweed::shared().endpoint);
    world.tenant("proof-s3", SHOP);
    world.run(&["init"]).expect(0);
    world.backup();
    let line = world.run(&["checkpoint"]).expect(0).stdout;
    world.sandbox.write("seen", &line);
    let report = world.json(&["verify", "--checkpoint", "seen", "--json"], 0);
    assert_eq!(report["checkpoint"]["backups"], 2, "{report:#}");
    let report = world.json(&["verify", "--read-data", "--sample", "50%", "--json"], 0);
    assert!(vault(&report, "proof-s3")["packs_read"].as_u64().is_some_and(|packs| 1 <= packs), "{report:#}");
    let drill = ["drill", "--tenant", "proof-s3", "--server", "pg", "--on-live-server", "--json"];
    assert_eq!(world.json(&drill, 0)["result"], "ok");
    let told = proven(&world, "proof-s3");
    assert!(told["presence"]["result"] == "ok" && told["drill"]["result"] == "ok", "{told:#}");
}
