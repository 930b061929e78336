//! Bad input from the registry: names that are paths, that no key can hold, that look alike; far too many rows; rows of the
//! wrong shape. Each is told by its name, and the others go on.

use std::collections::BTreeSet;
use std::process::Stdio;

use super::world::{REPOSITORY, SHOP, World, target};

/// Names that are kept, however they look.
const KEPT: [&str; 10] = ["../../../etc/passwd", "..", ".", "a/b", "Acme", "acme", "ACME", "acme ", "аcme", "CON"];

/// Names that no object key can hold.
fn refused() -> [String; 4] {
    ["new\nline".to_owned(), "bell\u{7}".to_owned(), "x".repeat(255), "É".repeat(120)]
}

#[test]
fn names_that_are_paths_or_look_alike_have_vaults_of_their_own_and_others_are_told() {
    let world = World::shared();
    let (kept, refused) = (KEPT.map(str::to_owned), refused());
    for (number, name) in kept.iter().chain(&refused).enumerate() {
        let database = world.db(&format!("n{number}"));
        world.create(&database);
        world.cluster().psql(&database, &format!("create table t as select {number} as n"));
        world.register(name, &format!("{{\"tenancy_db_name\": \"{database}\"}}"));
    }
    world.run(&["init"]).expect(0);
    let report = world.json(&["backup", "--all", "--json"], 3);
    for name in &kept {
        assert_eq!(target(&report, name)["result"], "ok", "{name:?}");
    }
    let told = report.to_string();
    for name in &refused {
        let shown = serde_json::to_string(&format!("{name:?}")).expect("JSON");
        let shown = shown.trim_matches('"').trim_matches(['\\', '"']);
        assert!(told.contains(&shown[..shown.len().min(20)]), "{name:?} is not told in {report:#}");
    }
    // Nothing lies outside of the repository, and every vault has a folder of its own.
    let folders = std::fs::read_dir(world.sandbox.path(REPOSITORY).join("vaults/tenant")).expect("the vaults");
    let folders: BTreeSet<String> =
        folders.map(|entry| entry.expect("an entry").file_name().to_string_lossy().to_lowercase()).collect();
    assert_eq!(folders.len(), kept.len(), "{folders:?}");
    for (number, name) in kept.iter().enumerate() {
        let database = world.db(&format!("back{number}"));
        world.run(&["restore", "--tenant", name, "--as", &database, "--yes"]).expect(0);
        assert_eq!(world.cluster().psql(&database, "select n from t").trim(), number.to_string(), "{name:?}");
    }
}

#[test]
fn rows_of_the_wrong_shape_are_told_and_the_others_are_backed_up() {
    let world = World::with_shops();
    let shared = format!("{{\"tenancy_db_name\": \"{}\"}}", world.db("acme"));
    let rows = [
        ("broken", "{\"tenancy_db_name\": "),
        ("list", "[1, 2]"),
        ("text", "\"x\""),
        ("number", "{\"tenancy_db_name\": 7}"),
        ("nested", "{\"tenancy_db_name\": {\"a\": 1}}"),
        ("empty", "{\"tenancy_db_name\": \"\"}"),
        ("giant", &format!("{{\"tenancy_db_name\": \"{}\"}}", "x".repeat(1 << 20))),
        ("deep", &"[".repeat(10_000)),
        ("twin", &shared),
    ];
    for (name, json) in &rows {
        world.register(name, json);
    }
    let ended = world.run(&["backup", "--all", "--json"]).expect(3);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
    for name in ["globex", "central"] {
        assert_eq!(target(&report, name)["result"], "ok", "{name}");
    }
    let told = format!("{report}{}", ended.stderr);
    for (name, _) in &rows {
        assert!(told.contains(name), "{name} is not told:\n{told}");
    }
    assert!(ended.stderr.len() < 256 << 10, "what is said stays readable: {} bytes", ended.stderr.len());
    let doctor = world.run(&["doctor"]);
    assert!(doctor.code != 0 && !doctor.stderr.contains("panicked"), "{doctor:?}");
}

/// The most memory that a process has had so far, in KiB, while it runs.
fn most_memory_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
}

#[test]
fn a_hundred_thousand_tenants_do_not_fill_the_memory_of_the_program() {
    let world = World::shared();
    world.tenant("one", SHOP);
    world
        .cluster()
        .psql(&world.central, "insert into tenants select 'lost' || n, '{}' from generate_series(1, 100000) n");
    world.run(&["init"]).expect(0);
    let mut command = world.sandbox.command(&["backup", "--tenant", "one", "--json"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("run dbkeeper");
    let pid = child.id();
    let watcher = std::thread::spawn(move || {
        let mut most = 0;
        while let Some(now) = most_memory_kib(pid) {
            most = now.max(most);
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        most
    });
    world.finish(child).expect(0);
    let most = watcher.join().expect("no panic");
    assert!(0 < most && most < 256 << 10, "{most} KiB were taken, and [limits] memory is 256 MiB");
    let doctor = world.run(&["doctor", "--json"]);
    assert!(doctor.code != 0, "99,999 databases are missing");
    assert!(doctor.stdout.len() + doctor.stderr.len() < 64 << 20, "{}", doctor.stdout.len());
}
