//! The database server fails, is full, is locked or is another one than before: the right code, the cause in its own words,
//! what to type next, and every other target goes on.

use std::io::Write;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use super::kill::LEDGER;
use super::stop::sessions;
use super::world::{SHOP, World, target, wait_until};
use crate::support::proxy::{Proxy, Way};

/// A server of its own with a large and a small tenant, reached through a proxy.
fn own_world() -> (World, Proxy) {
    let world = World::own(&[]);
    world.tenant("ledger", LEDGER);
    world.tenant("acme", SHOP);
    world.run(&["init"]).expect(0);
    let proxy = Proxy::before(world.cluster().port);
    world.through(&proxy);
    (world, proxy)
}

/// Starts the program and waits until it stands still in the middle, after so many bytes.
fn start_and_hold(world: &World, proxy: &Proxy, arguments: &[&str], (way, bytes): (Way, u64)) -> Child {
    proxy.stall_after(way, bytes);
    let mut child = world.start(arguments);
    wait_until("it is in the middle", || {
        assert!(child.try_wait().expect("ask for its end").is_none(), "it ended before it was held");
        proxy.is_stalled()
    });
    child
}

#[test]
fn a_server_that_is_restarted_in_the_middle_of_a_backup_costs_one_more_try_and_no_target() {
    let (world, proxy) = own_world();
    world.backup();
    // In good order, and as after a crash.
    for (round, signal) in [Signal::INT, Signal::QUIT].into_iter().enumerate() {
        world.cluster().psql(&world.db("ledger"), "update ledger set text = md5(text) || md5(text || 'x')");
        let child = start_and_hold(&world, &proxy, &["backup", "--all", "--json"], (Way::Down, 600_000));
        world.cluster().restart(signal);
        proxy.behave();
        let ended = world.finish(child).expect(0);
        let report: Value = serde_json::from_str(&ended.stdout).expect("a report");
        let notes = target(&report, "ledger")["notes"].to_string();
        assert!(notes.contains("a second one made"), "round {round}: {report:#}");
        assert_eq!(report["totals"]["ok"], 3, "{report:#}");
    }
    world.run(&["verify", "--read-data"]).expect(0);
}

#[test]
fn a_server_that_is_restarted_in_the_middle_of_a_restore_ends_it_with_13_and_the_next_one_finishes() {
    let (world, proxy) = own_world();
    world.backup();
    let (ledger, live) = (world.db("ledger"), world.print(&world.db("ledger")));
    let arguments = ["restore", "--tenant", "ledger", "--yes"];
    let child = start_and_hold(&world, &proxy, &arguments, (Way::Up, 600_000));
    world.cluster().restart(Signal::INT);
    proxy.behave();
    let said = world.finish(child).expect(13).stderr;
    assert!(said.contains("run the same command again"), "{said}");
    assert_eq!(world.print(&ledger), live);
    world.run(&arguments).expect(0);
    assert_eq!(world.print(&ledger).content, live.content);
    let left: Vec<String> = world.databases().into_keys().filter(|name| name.contains("__restore_")).collect();
    assert_eq!(left, Vec::<String>::new());
}

/// A session that does nothing and stays; `None` where the server has no room for it.
fn idle_session(world: &World) -> Option<Child> {
    let cluster = world.cluster();
    let mut command = Command::new(cluster.bin.join("psql"));
    command.args(["-XAtq", "-U", "postgres", "-h"]).arg(&cluster.folder);
    command.args(["-p", &cluster.port.to_string(), "-d", "postgres", "-f", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("run psql");
    let written = writeln!(child.stdin.as_mut().expect("its standard input"), "select 'here';");
    let mut said = [0; 4];
    let stdout = child.stdout.as_mut().expect("its standard output");
    let is_in = written.is_ok() && std::io::Read::read_exact(stdout, &mut said).is_ok();
    if is_in {
        return Some(child);
    }
    child.wait().expect("its end");
    None
}

#[test]
fn a_server_without_a_free_connection_ends_with_13_and_says_how_to_get_one() {
    let world = World::own(&["max_connections=10"]);
    world.tenant("acme", SHOP);
    world.run(&["init"]).expect(0);
    let mut held: Vec<Child> = std::iter::from_fn(|| idle_session(&world)).collect();
    assert!(5 < held.len());
    let said = world.run(&["backup", "--all"]).expect(13).stderr;
    for words in ["too many clients already", "53300", "max_connections"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    for session in &mut held {
        drop(session.stdin.take());
        session.wait().expect("its end");
    }
    world.backup();
}

#[test]
fn a_standby_is_backed_up_and_takes_no_restore() {
    let world = World::own(&[]);
    world.tenant("acme", SHOP);
    world.run(&["init"]).expect(0);
    let good = world.print(&world.db("acme"));
    std::fs::write(world.cluster().folder.join("data/standby.signal"), "").expect("make it a standby");
    world.cluster().restart(Signal::INT);
    world.backup();
    let ended = world.run(&["restore", "--tenant", "acme", "--yes"]);
    assert!(ended.code != 0 && ended.stderr.contains("standby") && ended.stderr.contains("primary"), "{ended:?}");
    std::fs::remove_file(world.cluster().folder.join("data/standby.signal")).expect("make it a primary");
    world.cluster().restart(Signal::INT);
    world.run(&["restore", "--tenant", "acme", "--yes"]).expect(0);
    assert_eq!(world.print(&world.db("acme")).content, good.content);
}

#[test]
fn a_table_that_stays_locked_fails_its_tenant_alone_and_the_message_names_who_holds_it() {
    let world = World::with_shops();
    world.limit("lock_timeout = \"1s\"");
    let mut holder = world.hold_lock(&world.db("acme"), "orders");
    let report = world.json(&["backup", "--all", "--json"], 3);
    let acme = target(&report, "acme");
    let (reason, hint) = (acme["reason"].as_str().expect("a reason"), acme["hint"].as_str().expect("a hint"));
    for words in ["lock timeout", "\"public\".\"orders\" is locked by process", "role \"postgres\""] {
        assert!(reason.contains(words), "{words}: {reason}");
    }
    assert!(hint.contains("SELECT pg_terminate_backend("), "{hint}");
    for name in ["globex", "central"] {
        assert_eq!(target(&report, name)["result"], "ok", "{report:#}");
    }
    holder.release();
    world.backup();
}

#[test]
fn a_tenant_that_is_dropped_while_it_is_dumped_is_named_and_the_others_are_protected() {
    let world = World::with_shops();
    world.limit("lock_timeout = \"5m\"");
    let acme = world.db("acme");
    let holder = world.hold_lock(&acme, "orders");
    let child = world.start(&["backup", "--all", "--json"]);
    wait_until("the dump waits for its lock", || sessions(&world).contains(&format!("{acme}|active|relation")));
    world.cluster().psql("postgres", &format!("drop database {acme} with (force)"));
    let report: Value = serde_json::from_str(&world.finish(child).expect(3).stdout).expect("a report");
    drop(holder);
    let told = target(&report, "acme");
    assert!(told["reason"].as_str().expect("a reason").contains(&format!("has no database {acme:?}")), "{report:#}");
    assert!(told["hint"].as_str().expect("a hint").contains("doctor"), "{report:#}");
    assert_eq!(report["totals"]["ok"], 2, "{report:#}");
}

#[test]
fn a_tenant_that_is_renamed_during_a_run_is_named_and_the_others_are_protected() {
    let world = World::with_shops();
    world.tenant("ledger", LEDGER);
    world.limit("lock_timeout = \"5m\"\ntargets_at_once = 1");
    // The largest is dumped first; while it waits, another one gets a new name.
    let (ledger, globex) = (world.db("ledger"), world.db("globex"));
    let mut holder = world.hold_lock(&ledger, "ledger");
    let child = world.start(&["backup", "--all", "--json"]);
    wait_until("the dump waits for its lock", || sessions(&world).contains(&format!("{ledger}|active|relation")));
    world.cluster().psql("postgres", &format!("alter database {globex} rename to {globex}_new"));
    holder.release();
    let report: Value = serde_json::from_str(&world.finish(child).expect(3).stdout).expect("a report");
    let told = target(&report, "globex");
    assert!(told["reason"].as_str().expect("a reason").contains(&format!("has no database {globex:?}")), "{report:#}");
    assert!(told["hint"].as_str().expect("a hint").contains("renamed"), "{report:#}");
    assert_eq!(report["totals"]["ok"], 3, "{report:#}");
}
