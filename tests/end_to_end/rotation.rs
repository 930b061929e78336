//! A new repository key, with the real program: leaked, lost, forgotten in a job, and killed in the middle.

use super::world::{CONFIG, World, wait_until};

/// Makes a repository key in the sandbox.
fn keygen(world: &World, file: &str) {
    let made = world.sandbox.run(&["keygen", "--repository-key", file]).expect(0);
    assert_eq!(made.stdout, "", "no identity, so no recipient");
}

/// Gives the configuration another repository key.
fn with_key(world: &World, file: &str) {
    let config = world.sandbox.read(CONFIG);
    let (before, rest) = config.split_once("key = { file = \"").expect("a key");
    let rest = rest.split_once('"').expect("an end").1;
    world.sandbox.write(CONFIG, &format!("{before}key = {{ file = \"{file}\"{rest}"));
}

fn key_file(world: &World) -> String {
    let config = world.sandbox.read(CONFIG);
    let rest = config.split_once("key = { file = \"").expect("a key").1;
    rest.split_once('"').expect("an end").0.to_owned()
}

/// Restores a backup of acme beside it and compares it with what it was.
#[track_caller]
fn check_restores(world: &World, arguments: &[&str], content: &str, name: &str) {
    let name = format!("{}{name}", world.prefix);
    let restore = ["restore", "--tenant", "acme", "--as", name.as_str(), "--yes"];
    world.run(&[&restore[..], arguments].concat()).expect(0);
    assert_eq!(world.print(&name).content, content);
}

#[test]
fn a_new_repository_key_leaves_every_old_backup_whole_and_refuses_every_job_with_the_former_one() {
    let world = World::with_shops();
    world.backup();
    let (old, old_content) = (world.newest("acme"), world.print(&world.db("acme")).content);
    let config = world.sandbox.read(CONFIG);
    let former = key_file(&world);
    keygen(&world, "new.key");
    let report = world.json(&["keys", "rotate", "--repository-key", "new.key", "--json"], 0);
    assert_eq!((&report["result"], &report["vaults"]), (&"ok".into(), &3.into()), "{report:#}");
    // A job that nobody told of it.
    for arguments in [
        &["backup", "--all"][..],
        &["list"],
        &["prune"],
        &["verify"],
        &["hold", &old, "--until", "2099-01-01", "--reason", "x"],
    ] {
        let said = world.run(arguments).expect(12).stderr;
        assert!(said.contains("was replaced on") && said.contains("set [repository] key to the new key"), "{said}");
    }
    check_restores(&world, &["--without-repository-key"], &old_content, "blind");
    let again = world.run(&["keys", "rotate", "--repository-key", "new.key"]).expect(0).stderr;
    assert!(again.contains("the repository's already"), "{again}");
    // All others go on with the new one alone.
    std::fs::remove_file(world.sandbox.path(&former)).expect("throw the former key away");
    with_key(&world, "new.key");
    assert_ne!(world.sandbox.read(CONFIG), config);
    let verified = world.json(&["verify", "--read-data", "--json"], 0);
    assert_eq!((&verified["result"], &verified["findings"]), (&"ok".into(), &serde_json::json!([])), "{verified:#}");
    world.run(&["doctor"]).expect(0);
    world.cluster().psql(&world.db("acme"), "insert into customers (name) values ('after the key was replaced')");
    world.backup();
    let new = world.newest("acme");
    check_restores(&world, &["--backup", &new], &world.print(&world.db("acme")).content, "new");
    check_restores(&world, &["--backup", &old], &old_content, "old");
    world.run(&["hold", &old, "--until", "2099-01-01", "--reason", "the auditors"]).expect(0);
    world.sandbox.write("checkpoint", &world.run(&["checkpoint"]).expect(0).stdout);
    world.run(&["verify", "--checkpoint", "checkpoint"]).expect(0);
    world.run(&["prune"]).expect(0);
    assert_eq!(world.json(&["verify", "--read-packs", "--json"], 0)["result"], "ok");
}

#[test]
fn a_lost_repository_key_is_replaced_and_says_that_nothing_was_proven() {
    let world = World::with_shops();
    world.backup();
    let (old, content) = (world.newest("acme"), world.print(&world.db("acme")).content);
    std::fs::remove_file(world.sandbox.path(&key_file(&world))).expect("lose it");
    keygen(&world, "new.key");
    world.run(&["keys", "rotate", "--repository-key", "new.key"]).expect(12);
    let said = world.run(&["keys", "rotate", "--repository-key", "new.key", "--former-key-lost"]).expect(0).stderr;
    assert!(said.contains("nothing of them could be proven"), "{said}");
    with_key(&world, "new.key");
    check_restores(&world, &["--backup", &old], &content, "old");
    world.backup();
    world.run(&["verify", "--read-data"]).expect(0);
}

#[test]
fn a_change_of_the_repository_key_that_is_killed_says_so_to_both_keys_and_is_finished_by_the_same_line() {
    let world = World::with_shops();
    for _ in 0..3 {
        world.backup();
    }
    let content = world.print(&world.db("acme")).content;
    keygen(&world, "new.key");
    let rotations = world.sandbox.path(super::world::REPOSITORY).join("rotations");
    let arguments = ["keys", "rotate", "--repository-key", "new.key"];
    let mut child = world.start(&arguments);
    wait_until("it has begun", || rotations.exists());
    child.kill().expect("kill it");
    let killed = world.finish(child).code == -1;
    let former = key_file(&world);
    let list = world.run(&["list"]);
    if killed && list.code == 12 && list.stderr.contains("is not finished") {
        assert!(list.stderr.contains("keys rotate --repository-key"), "{}", list.stderr);
        with_key(&world, "new.key");
        let said = world.run(&["backup", "--all"]).expect(12).stderr;
        assert!(said.contains("is not finished") && said.contains("keys rotate --repository-key"), "{said}");
        check_restores(&world, &["--without-repository-key"], &content, "meanwhile");
    }
    with_key(&world, "new.key");
    world.run(&["keys", "rotate", "--repository-key", "new.key", "--former-key", &former]).expect(0);
    world.run(&["verify", "--read-data"]).expect(0);
    check_restores(&world, &[], &content, "afterwards");
    world.backup();
}
