//! A second repository: folder to S3 and back, killed in the middle, and what it is worth when the first one is gone.

use rustix::process::{Pid, Signal, kill_process};

use super::world::{CONFIG, REPOSITORY, World, wait_until};
use crate::support::seaweed::Seaweed;

/// A section for a copy on a prefix of the S3 server.
fn on_s3(world: &World) -> String {
    let seaweed = Seaweed::shared();
    let options = seaweed.options();
    let secret = |secret: Option<dbkeeper::base::secret::Secret>| secret.expect("a login").reveal().to_owned();
    world.sandbox.write("copy_id", &secret(options.access_key_id));
    world.sandbox.write("copy_secret", &secret(options.secret_access_key));
    format!(
        "url = \"s3://{}/{}\"\nendpoint = \"{}\"\nregion = \"us-east-1\"\npath_style = true\n\
         access_key_id = {{ file = \"copy_id\" }}\nsecret_access_key = {{ file = \"copy_secret\" }}\n",
        options.bucket, options.prefix, seaweed.endpoint
    )
}

fn add_copy(world: &World, place: &str) {
    let config = world.sandbox.read(CONFIG);
    world.sandbox.write(CONFIG, &format!("{config}\n[[copies]]\nname = \"second\"\n{place}"));
}

/// The ids that a listing prints.
#[track_caller]
fn ids(world: &World, arguments: &[&str]) -> Vec<String> {
    let listed = world.json(arguments, 0);
    let id = |backup: &serde_json::Value| backup["id"].as_str().expect("an id").to_owned();
    listed.as_array().expect("backups").iter().map(id).collect()
}

#[test]
fn a_fleet_is_restored_from_its_copy_on_s3_when_the_first_repository_is_gone() {
    let world = World::with_shops();
    add_copy(&world, &on_s3(&world));
    world.backup();
    let identity = world.sandbox.read("identity.txt");
    std::fs::remove_file(world.sandbox.path("identity.txt")).expect("a copying machine has no identity");
    let report = world.json(&["copy", "--to", "second", "--json"], 0);
    assert_eq!(report["result"], "ok", "{report:#}");
    world.cluster().psql(&world.db("acme"), "insert into customers (name) values ('later')");
    world.backup();
    let again = world.json(&["copy", "--to", "second", "--json"], 0);
    let copied = |report: &serde_json::Value, what: &str| -> u64 {
        report["vaults"].as_array().expect("vaults").iter().filter_map(|vault| vault[what].as_u64()).sum()
    };
    assert_eq!((copied(&again, "backups_copied"), copied(&again, "backups_present")), (3, 3));
    assert!(copied(&again, "bytes_copied") < copied(&report, "bytes_copied"), "only what is missing");
    assert_eq!(ids(&world, &["list", "--json"]), ids(&world, &["list", "--json", "--repository", "second"]));
    world.sandbox.write("identity.txt", &identity);
    let good = world.print(&world.db("acme"));
    std::fs::remove_dir_all(world.sandbox.path(REPOSITORY)).expect("the first repository is lost");
    world.cluster().psql("postgres", &format!("drop database {}", world.db("acme")));
    world.run(&["list"]).expect(10);
    let verified = world.json(&["verify", "--read-data", "--json", "--repository", "second"], 0);
    assert_eq!(verified["result"], "ok", "{verified:#}");
    world.run(&["--repository", "second", "restore", "--tenant", "acme", "--yes"]).expect(0);
    assert_eq!(world.print(&world.db("acme")).content, good.content);
    let export = world.run(&["export", "--tenant", "globex", "--output", "-", "--repository", "second"]).expect(0);
    assert!(export.stdout.ends_with("-- The export is complete.\n"), "the export from the copy");
}

#[test]
fn a_copy_that_is_killed_leaves_whole_backups_and_the_next_one_goes_on() {
    let world = World::shared();
    world.use_s3(&Seaweed::shared().endpoint);
    let folder = world.sandbox.path("second");
    let noise = "create table noise (id int, t text); \
        insert into noise select n, md5(n::text) || md5((n + 1)::text) from generate_series(1, 6000) n";
    for name in ["acme", "globex"] {
        world.tenant(name, noise);
    }
    world.run(&["init"]).expect(0);
    world.backup();
    let place = format!("url = \"file://{}\"\n", folder.display());
    // So slow that it cannot end before it is killed: the second pack waits for minutes.
    add_copy(&world, &format!("{place}bandwidth = \"4 KiB\"\n"));
    let child = world.start(&["copy", "--to", "second"]);
    let packs = || {
        let listed =
            std::process::Command::new("find").arg(&folder).args(["-path", "*/packs/*", "-type", "f"]).output();
        listed.expect("run find").stdout.iter().filter(|byte| **byte == b'\n').count()
    };
    wait_until("the first pack of the copy", || packs() > 0);
    kill_process(Pid::from_child(&child), Signal::KILL).expect("kill it");
    assert_eq!(world.finish(child).code, -1);
    let listed = world.json(&["list", "--json", "--repository", "second"], 0);
    let whole = listed.as_array().expect("backups").len();
    assert!(whole < 3, "it was killed before its end");
    world.reconfigure("bandwidth = \"4 KiB\"\n", "");
    let report = world.json(&["copy", "--to", "second", "--json"], 0);
    assert_eq!(report["result"], "ok", "{report:#}");
    let verified = world.json(&["verify", "--read-data", "--json", "--repository", "second"], 0);
    assert_eq!(verified["result"], "ok", "{verified:#}");
    assert_eq!(ids(&world, &["list", "--json"]), ids(&world, &["list", "--json", "--repository", "second"]));
}

#[test]
fn a_copy_that_cannot_be_meant_is_refused() {
    let world = World::shared();
    let said = world.run(&["copy", "--to", "second"]).expect(2).stderr;
    assert!(said.contains("no copy called \"second\"") && said.contains("[[copies]]"), "{said}");
    add_copy(&world, &format!("url = \"file://{}\"\n", world.sandbox.path("second").display()));
    let said = world.run(&["list", "--repository", "thrid"]).expect(2).stderr;
    assert!(said.contains("no copy called \"thrid\"") && said.contains("second"), "{said}");
    for verb in [&["backup", "--all", "--repository", "second"][..], &["--repository", "second", "init"]] {
        let said = world.run(verb).expect(2).stderr;
        assert!(said.contains("nothing but `dbkeeper copy` writes"), "{said}");
    }
    world.run(&["init"]).expect(0);
    let said = world.run(&["copy", "--to", "second"]).expect(4).stderr;
    assert!(said.contains("no vault"), "{said}");
}
