//! Keys in the hands of people: two identities of which one is enough, officers who come and go, a tenant's own recipient, and a
//! passphrase.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use super::world::{CONFIG, World};

/// A second identity in the sandbox; gives its recipient.
fn another_identity(world: &World, name: &str) -> String {
    let key = format!("{name}.key");
    let made = world.sandbox.run(&["keygen", "--identity", name, "--repository-key", &key]).expect(0);
    made.stdout.trim().to_owned()
}

fn recipient_of(world: &World) -> String {
    let config = world.sandbox.read(CONFIG);
    let rest = config.split_once("recipients = [\"").expect("recipients").1;
    rest.split_once('"').expect("an end").0.to_owned()
}

/// Restores a tenant with the identity in this file and compares it with the live one.
#[track_caller]
fn check_restores(world: &World, identity: &str, tenant: &str, name: &str) {
    with_identity(world, identity);
    let name = format!("{}{name}", world.prefix);
    world.run(&["restore", "--tenant", tenant, "--as", &name, "--yes"]).expect(0);
    assert_eq!(world.print(&name).content, world.print(&world.db(tenant)).content);
}

fn with_identity(world: &World, identity: &str) {
    let config = world.sandbox.read(CONFIG);
    let (before, rest) = config.split_once("identity = { file = \"").expect("an identity");
    let rest = rest.split_once('"').expect("an end").1;
    world.sandbox.write(CONFIG, &format!("{before}identity = {{ file = \"{identity}\"{rest}"));
}

/// What is stored, without the keys of the vaults.
fn data(world: &World) -> BTreeMap<PathBuf, u64> {
    let is_key = |path: &PathBuf| path.parent().is_some_and(|folder| folder.ends_with("keys"));
    world.stored().into_iter().filter(|(path, _)| !is_key(path)).collect()
}

#[test]
fn losing_one_of_two_identities_loses_nothing() {
    let world = World::with_shops();
    let second = another_identity(&world, "second.txt");
    let first = recipient_of(&world);
    world.reconfigure(&format!("[\"{first}\"]"), &format!("[\"{first}\", \"{second}\"]"));
    world.backup();
    for (number, identity) in ["identity.txt", "second.txt"].into_iter().enumerate() {
        check_restores(&world, identity, "acme", &format!("by_{number}"));
        let report = world.json(&["verify", "--read-data", "--json"], 0);
        assert_eq!(report["result"], "ok", "every row opens with {identity}: {report:#}");
    }
}

#[test]
fn an_officer_comes_and_another_leaves_and_no_data_is_rewritten() {
    let world = World::with_shops();
    world.backup();
    let (first, second) = (recipient_of(&world), another_identity(&world, "second.txt"));
    let before = data(&world);
    // The second officer comes.
    world.reconfigure(&format!("[\"{first}\"]"), &format!("[\"{first}\", \"{second}\"]"));
    let listed = world.json(&["keys", "list", "--json"], 0);
    assert_eq!(listed["differ"].as_array().map(Vec::len), Some(3), "{listed:#}");
    assert_eq!((&listed["opens"][&first], &listed["opens"][&second]), (&3.into(), &0.into()));
    let done = world.json(&["keys", "reseal", "--json"], 0);
    let resealed = |report: &serde_json::Value| -> u64 {
        report["vaults"].as_array().expect("vaults").iter().filter_map(|vault| vault["resealed"].as_u64()).sum()
    };
    assert_eq!(resealed(&done), 3);
    assert_eq!(resealed(&world.json(&["keys", "reseal", "--json"], 0)), 0, "what is done is not done again");
    assert_eq!(data(&world), before);
    check_restores(&world, "second.txt", "acme", "by_second");
    assert_eq!(world.json(&["keys", "list", "--json"], 0)["differ"], serde_json::json!([]));
    // The first one leaves.
    world.reconfigure(&format!("[\"{first}\", \"{second}\"]"), &format!("[\"{second}\"]"));
    let said = world.run(&["keys", "reseal"]).expect(0).stderr;
    assert!(said.contains(&first) && said.contains("cannot be taken back") && said.contains("keys rotate"), "{said}");
    world.run(&["keys", "rotate"]).expect(0);
    assert_eq!(data(&world), before);
    world.cluster().psql(&world.db("acme"), "insert into customers (name) values ('after he left')");
    world.backup();
    check_restores(&world, "second.txt", "acme", "without_first");
    with_identity(&world, "identity.txt");
    let said = world.run(&["restore", "--tenant", "acme", "--as", "never", "--yes"]).expect(12).stderr;
    assert!(said.contains("none of the given identities") && said.contains(&second), "{said}");
}

#[test]
fn a_tenant_opens_its_own_backups_and_no_others() {
    let world = World::with_shops();
    let own = another_identity(&world, "acme.txt");
    let config = world.sandbox.read(CONFIG);
    world.sandbox.write(CONFIG, &format!("{config}\n[tenants.recipients]\nacme = \"{own}\"\n"));
    world.backup();
    assert_eq!(world.json(&["keys", "list", "--json"], 0)["differ"], serde_json::json!([]));
    check_restores(&world, "identity.txt", "acme", "by_officer");
    check_restores(&world, "acme.txt", "acme", "by_itself");
    world.run(&["restore", "--tenant", "globex", "--as", "never", "--yes"]).expect(12);
    world.run(&["restore", "--central", "--as", "never", "--yes"]).expect(12);
}

#[test]
fn an_identity_may_be_protected_by_a_passphrase() {
    let world = World::with_shops();
    world.backup();
    let mut recipient = age::scrypt::Recipient::new("correct horse".to_owned().into());
    recipient.set_work_factor(10);
    let sealed = age::encrypt(&recipient, world.sandbox.read("identity.txt").as_bytes()).expect("seal");
    let mut file = std::fs::File::create(world.sandbox.path("protected.age")).expect("create");
    file.write_all(&sealed).expect("write");
    with_identity(&world, "protected.age");
    let said = world.run(&["restore", "--tenant", "acme", "--as", "never", "--yes"]).expect(12).stderr;
    assert!(said.contains("protected by a passphrase") && said.contains("identity_passphrase"), "{said}");
    let line = "identity = { file = \"protected.age\" }\n";
    world.sandbox.write("passphrase", "wrong horse\n");
    world.reconfigure(line, &format!("{line}identity_passphrase = {{ file = \"passphrase\" }}\n"));
    let said = world.run(&["restore", "--tenant", "acme", "--as", "never", "--yes"]).expect(12).stderr;
    assert!(said.contains("the passphrase does not fit") && !said.contains("horse"), "{said}");
    world.sandbox.write("passphrase", "correct horse\n");
    let name = world.db("by_passphrase");
    world.run(&["restore", "--tenant", "acme", "--as", &name, "--yes"]).expect(0);
    assert_eq!(world.print(&name).content, world.print(&world.db("acme")).content);
    world.reconfigure("identity_passphrase = { file = \"passphrase\" }\n", "");
    let name = world.db("by_terminal");
    let (said, code) = on_terminal(&world, &["restore", "--tenant", "acme", "--as", &name, "--yes"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("horse"), "what is typed is not shown: {said}");
    assert_eq!(world.print(&name).content, world.print(&world.db("acme")).content);
}

/// Runs a program on a terminal of its own and types the passphrase when it is asked for.
const TERMINAL: &str = r#"
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execve(sys.argv[1], sys.argv[1:], os.environ)
said, asked = b"", False
while True:
    try:
        piece = os.read(terminal, 1024)
    except OSError:
        break
    if not piece:
        break
    said += piece
    if not asked and b"passphrase of the identity: " in said:
        asked = True
        os.write(terminal, b"correct horse\n")
sys.stdout.buffer.write(said)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

fn on_terminal(world: &World, arguments: &[&str]) -> (String, Option<i32>) {
    let inner = world.sandbox.command(arguments);
    let mut command = std::process::Command::new("/usr/bin/python3");
    command.arg("-c").arg(TERMINAL).arg(inner.get_program()).args(inner.get_args());
    command.current_dir(world.sandbox.folder()).env_clear();
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.output().expect("run python3");
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code())
}

/// A plugin of age that keeps its key in itself, as no real one does: it speaks the protocol of plugins (age-plugin.md of the
/// age specification) and wraps file keys by a constant.
const PLUGIN: &str = include_str!("age-plugin-dbktest.py");
const PLUGIN_RECIPIENT: &str = "age1dbktest1qqqsyqcyq5rqwzqfpg9scrgwpugpzysnzs23v9ccrydpk8qarc0s094ura";
const PLUGIN_IDENTITY: &str = "AGE-PLUGIN-DBKTEST-1QQQSYQCYQ5RQWZQFPG9SCRGWPUGPZYSNZS23V9CCRYDPK8QARC0S4MG3R5";

#[test]
fn a_plugins_key_opens_what_was_sealed_to_its_recipient() {
    let world = World::with_shops();
    let first = recipient_of(&world);
    world.reconfigure(&format!("[\"{first}\"]"), &format!("[\"{first}\", \"{PLUGIN_RECIPIENT}\"]"));
    let said = world.run(&["backup", "--tenant", "acme"]);
    assert_ne!(said.code, 0, "no keys were made");
    let words = format!("{}{}", said.stdout, said.stderr);
    assert!(words.contains("age-plugin-dbktest"), "a missing plugin is named: {words}");
    let bin = world.sandbox.path("plugins");
    std::fs::create_dir(&bin).expect("a folder");
    let program = bin.join("age-plugin-dbktest");
    std::fs::write(&program, PLUGIN).expect("write");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, executable).expect("chmod");
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display());
    let with_plugin = |arguments: &[&str]| {
        let mut command = world.sandbox.command(arguments);
        command.env("PATH", &path);
        world.sandbox.finish(command.output().expect("run dbkeeper"))
    };
    with_plugin(&["backup", "--all"]).expect(0);
    // Only making a vault's keys needs the plugin.
    world.run(&["backup", "--tenant", "acme"]).expect(0);
    world.sandbox.write("plugin.txt", &format!("{PLUGIN_IDENTITY}\n"));
    with_identity(&world, "plugin.txt");
    let name = world.db("by_plugin");
    let said = world.run(&["restore", "--tenant", "acme", "--as", &name, "--yes"]).expect(12).stderr;
    assert!(said.contains("age-plugin-dbktest") && said.contains("install the plugin"), "{said}");
    with_plugin(&["restore", "--tenant", "acme", "--as", &name, "--yes"]).expect(0);
    assert_eq!(world.print(&name).content, world.print(&world.db("acme")).content);
    // The other officer is as good as before, without any plugin.
    check_restores(&world, "identity.txt", "acme", "by_officer_alone");
}

#[test]
fn sealing_anew_that_is_killed_locks_nobody_out_and_the_next_one_finishes() {
    let world = World::with_shops();
    world.backup();
    let (first, second) = (recipient_of(&world), another_identity(&world, "second.txt"));
    world.reconfigure(&format!("[\"{first}\"]"), &format!("[\"{first}\", \"{second}\"]"));
    let revisions =
        |world: &World| world.stored().keys().filter(|path| path.to_string_lossy().ends_with(".2.json")).count();
    let mut child = world.start(&["keys", "reseal"]);
    super::world::wait_until("one vault is sealed anew", || 0 < revisions(&world));
    child.kill().expect("kill it");
    world.finish(child);
    check_restores(&world, "identity.txt", "acme", "by_first");
    world.run(&["keys", "reseal"]).expect(0);
    assert_eq!(revisions(&world), 3, "each vault once");
    assert_eq!(world.json(&["keys", "list", "--json"], 0)["differ"], serde_json::json!([]));
    check_restores(&world, "second.txt", "globex", "by_second");
    world.run(&["verify", "--read-data"]).expect(0);
}
