//! Promise: what nothing stored can tell, a checkpoint can: which backups were hidden, removed or rolled back.

use super::world::{REPOSITORY, World};

/// The fleet with two backups of everything.
fn twice() -> World {
    let world = World::with_shops();
    world.backup();
    std::thread::sleep(std::time::Duration::from_millis(1100)); // Ids tell seconds apart.
    world.backup();
    world
}

fn ids(world: &World, tenant: &str) -> Vec<String> {
    let listed = world.json(&["list", "--tenant", tenant, "--json"], 0);
    listed.as_array().expect("an array").iter().map(|one| one["id"].as_str().expect("an id").to_owned()).collect()
}

/// Takes a marker away, as somebody with the right to delete would; gives what brings it back.
fn hide(world: &World, tenant: &str, id: &str) -> impl FnOnce() + use<> {
    let marker = world.sandbox.path(REPOSITORY).join(format!("vaults/tenant/{tenant}/backups/{id}/backup.json"));
    let bytes = std::fs::read(&marker).expect("read the marker");
    std::fs::remove_file(&marker).expect("remove it");
    move || std::fs::write(&marker, bytes).expect("bring it back")
}

#[test]
fn a_hidden_backup_is_named_and_no_older_one_is_restored_in_its_place_unawares() {
    let world = twice();
    let line = world.run(&["checkpoint"]).expect(0);
    assert_eq!(line.stdout.lines().count(), 1);
    assert!(
        line.stdout.starts_with("dbkeeper-checkpoint-1:") && line.stderr.contains("3 vaults, 3 backups"),
        "{line:?}"
    );
    // Where somebody appends one a day, the last one counts.
    world.sandbox.write("seen", &format!("an older line\n{}", line.stdout));
    let good = world.json(&["verify", "--checkpoint", "seen", "--json"], 0);
    assert_eq!((good["result"].as_str(), &good["checkpoint"]["backups"]), (Some("ok"), &3.into()), "{good:#}");
    let ids = ids(&world, "acme");
    let plan = world.run(&["restore", "--tenant", "acme", "--dry-run", "--checkpoint", "seen"]).expect(0).stderr;
    assert!(plan.contains("the newest backup is") && plan.contains("nothing is missing"), "{plan}");
    let plan = world.run(&["restore", "--tenant", "acme", "--dry-run"]).expect(0).stderr;
    assert!(plan.contains("not compared with a checkpoint"), "{plan}");

    let bring_back = hide(&world, "acme", &ids[1]);
    world.run(&["verify"]).expect(0);
    let found = world.run(&["verify", "--checkpoint", "seen"]).expect(5);
    assert!(found.stdout.contains(&format!("missing  tenant acme {}: ", ids[1])), "{found:?}");
    assert!(found.stdout.contains("rolled back") && found.stderr.contains("1 backups missing"), "{found:?}");
    let report = world.json(&["verify", "--tenant", "globex", "--checkpoint", "seen", "--json"], 0);
    assert_eq!(report["checkpoint"]["alarms"], serde_json::json!([]), "another's loss is not globex's");
    let said = world.run(&["restore", "--tenant", "acme", "--yes", "--checkpoint", "seen"]).expect(5).stderr;
    assert!(said.contains(&ids[1]) && said.contains("--backup"), "{said}");
    let by_name = ["restore", "--tenant", "acme", "--dry-run", "--checkpoint", "seen", "--backup", &ids[0]];
    let plan = world.run(&by_name).expect(0).stderr;
    assert!(plan.contains("warning: backup") && plan.contains(&ids[1]), "{plan}");
    bring_back();
    world.run(&["verify", "--checkpoint", "seen"]).expect(0);

    let folder = world.sandbox.path(REPOSITORY).join("vaults/tenant/acme");
    std::fs::rename(&folder, world.sandbox.path("hidden")).expect("hide the vault");
    let found = world.run(&["verify", "--checkpoint", "seen"]).expect(5).stdout;
    assert!(found.contains(&format!("missing  tenant acme {}: ", ids[1])), "{found}");
    world.run(&["verify", "--tenant", "acme", "--checkpoint", "seen"]).expect(5);
    let plan = world.run(&["restore", "--all", "--dry-run", "--checkpoint", "seen"]).expect(3).stderr;
    assert!(plan.contains("tenant acme: cannot be restored") && plan.contains(&ids[1]), "{plan}");
    let said = world.run(&["restore", "--tenant", "acme", "--yes", "--checkpoint", "seen"]).expect(5).stderr;
    assert!(said.contains(&ids[1]), "{said}");
}

#[test]
fn a_checkpoint_of_every_backup_misses_old_ones_too_and_no_changed_one_is_believed() {
    let world = twice();
    world.run(&["checkpoint", "--output", "seen"]).expect(0);
    let said = world.run(&["checkpoint", "--output", "seen"]).expect(2).stderr;
    assert!(said.contains("exists"), "nothing is overwritten: {said}");
    assert_eq!(world.json(&["verify", "--checkpoint", "seen", "--json"], 0)["checkpoint"]["backups"], 6);
    let oldest = ids(&world, "globex").remove(0);
    let bring_back = hide(&world, "globex", &oldest);
    let report = world.json(&["verify", "--checkpoint", "seen", "--json"], 5);
    assert_eq!(report["checkpoint"]["alarms"][0]["backup"], oldest.as_str(), "{report:#}");
    bring_back();
    world.run(&["verify", "--checkpoint", "seen"]).expect(0);

    let line = world.sandbox.read("seen");
    world.sandbox.write("cut", &line[..line.len() / 2]);
    world.run(&["verify", "--checkpoint", "cut"]).expect(2);
    world.run(&["verify", "--checkpoint", "none"]).expect(2);
    let at = line.rfind(':').expect("a signature") + 1;
    let other = if &line[at..=at] == "0" { "1" } else { "0" };
    world.sandbox.write("forged", &format!("{}{other}{}", &line[..at], &line[at + 1..]));
    let said = world.run(&["verify", "--checkpoint", "forged"]).expect(5).stderr;
    assert!(said.contains("signature does not verify"), "{said}");
}
