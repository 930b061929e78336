//! Promise: a drill proves whole restores on a scratch server, asks what the operator wants to know, and leaves nothing behind.

use std::process::Child;
use std::sync::OnceLock;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::world::{SHOP, World, target, wait_until};
use crate::support::postgres::Cluster;

/// The scratch server of all tests here; each fleet has scratch databases of its own, since its tenants have names of their own.
fn scratch() -> &'static Cluster {
    static SCRATCH: OnceLock<Cluster> = OnceLock::new();
    SCRATCH.get_or_init(|| Cluster::start(&[]))
}

/// A fleet of one tenant with this name, backed up, and a configuration that knows the scratch server.
fn fleet(tenant: &str, sql: &str) -> World {
    let world = World::shared();
    world.tenant(tenant, sql);
    world.run(&["init"]).expect(0);
    world.backup();
    let server = format!(
        "[[servers]]\nname = \"scratch\"\nurl = \"postgres://postgres@127.0.0.1:{}\"\nsslmode = \"disable\"\nclient_bin = \"{}\"\n\n[central]",
        scratch().port,
        scratch().bin.display()
    );
    world.reconfigure("[central]", &server);
    world
}

fn add_check(world: &World, name: &str, query: &str, expectation: &str) {
    let config = world.sandbox.read(super::world::CONFIG);
    let check =
        format!("\n[[drill.checks]]\nname = \"{name}\"\nquery = \"{query}\"\n{expectation}\non = \"tenants\"\n");
    world.sandbox.write(super::world::CONFIG, &(config + &check));
}

/// The scratch databases whose name holds `tenant`.
fn left(cluster: &Cluster, tenant: &str) -> Vec<String> {
    let query = format!("select datname from pg_database where datname like 'dbkeeper\\_drill\\_%{tenant}%'");
    cluster.psql("postgres", &query).lines().map(str::to_owned).collect()
}

fn proofs(world: &World, tenant: &str) -> Value {
    world.json(&["list", "--tenant", tenant, "--json"], 0)[0]["proven"].clone()
}

#[test]
fn a_drill_proves_restores_measures_them_and_leaves_evidence_and_nothing_else() {
    let world = fleet("drill-good", SHOP);
    add_check(
        &world,
        "orphans",
        "select count(*) from orders o left join customers c on c.id = o.customer where c.id is null",
        "expect = \"0\"",
    );
    add_check(&world, "enough", "select count(*) from orders", "at_least = 1500\nat_most = 1500");
    let (live, databases) = (world.print(&world.db("drill-good")), world.databases());
    std::fs::create_dir(world.sandbox.path("evidence")).expect("make a folder");
    let report = world.json(&["drill", "--all", "--server", "scratch", "--evidence", "evidence", "--json"], 0);
    let proven = target(&report, "drill-good");
    assert_eq!((&proven["result"], &proven["rows"]), (&"ok".into(), &2000.into()), "{report:#}");
    assert!(proven["recovery_time_seconds"].as_f64().is_some_and(|took| 0.0 < took), "{report:#}");
    assert!(proven["recovery_point_seconds"].is_u64() && proven["previous_proof_at"].is_null(), "{report:#}");
    assert_eq!(proven["checks"].as_array().map(Vec::len), Some(2));
    assert_eq!(target(&report, "central")["checks"], serde_json::json!([]), "the checks are for tenants");
    assert_eq!((left(scratch(), "drill-good"), world.databases()), (Vec::new(), databases), "nothing is left");
    assert_eq!(world.print(&world.db("drill-good")), live);

    let run = report["run_id"].as_str().expect("an id");
    let written: Value =
        serde_json::from_str(&world.sandbox.read(&format!("evidence/drill-{run}.json"))).expect("JSON");
    assert_eq!(written, report, "the evidence is the report");
    let page = world.sandbox.read(&format!("evidence/drill-{run}.md"));
    let row =
        page.lines().find(|line| line.starts_with("| tenant drill-good | ok |")).unwrap_or_else(|| panic!("{page}"));
    assert!(row.contains("| 2000 |") && row.contains("2 of 2 passed | never |"), "{row}");

    let told = proofs(&world, "drill-good")["drill"].clone();
    assert!(
        told["result"] == "ok" && told["recovery_time_seconds"].is_u64() && told["recovery_point_seconds"].is_u64(),
        "{told:#}"
    );
    assert!(world.run(&["list"]).expect(0).stderr.contains("proven: tenant drill-good: drill 20"));
    // Who was not drilled for the longest time comes first: after a drill of the tenant, the central database.
    std::thread::sleep(std::time::Duration::from_millis(1100)); // Records tell seconds apart.
    let again = world.json(&["drill", "--tenant", "drill-good", "--server", "scratch", "--json"], 0);
    assert!(target(&again, "drill-good")["previous_proof_at"].is_string(), "{again:#}");
    let oldest = world.json(&["drill", "--oldest-proof", "1", "--server", "scratch", "--json"], 0);
    assert_eq!(target(&oldest, "central")["result"], "ok", "{oldest:#}");
    let sample = world.json(&["drill", "--sample", "1", "--server", "scratch", "--no-record", "--json"], 0);
    assert_eq!(sample["targets"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_failed_check_or_a_damaged_backup_ends_with_5_and_proves_nothing() {
    let world = fleet("drill-bad", SHOP);
    let bare = world.sandbox.read(super::world::CONFIG);
    for (query, expectation, told) in [
        ("select 3", "expect = \"0\"", "gave 3, and \\\"0\\\" was expected"),
        ("select name from customers", "expect = \"nobody\"", "another text of"),
        ("select 1 where false", "at_least = 1", "gave no row"),
        ("select * from nowhere", "expect = \"0\"", "does not exist"),
        ("delete from orders returning 1", "expect = \"1\"", "read-only transaction"),
        ("select 1; select 2", "expect = \"1\"", "multiple commands"),
        ("select pg_sleep(600)", "expect = \"\\\"\\\"\"\ntime_limit = \"1s\"", "statement timeout"),
    ] {
        world.sandbox.write(super::world::CONFIG, &bare);
        add_check(&world, "a question", query, expectation);
        let report = world.json(&["drill", "--tenant", "drill-bad", "--server", "scratch", "--json"], 5);
        let reason = target(&report, "drill-bad")["reason"].to_string();
        assert!(reason.contains("a question") && reason.contains(told), "{query}: {reason}");
        assert!(!report.to_string().contains("customer 1"), "no row is told");
        assert_eq!(left(scratch(), "drill-bad"), Vec::<String>::new(), "{query}");
    }
    assert!(proofs(&world, "drill-bad")["drill"].is_null());

    world.sandbox.write(super::world::CONFIG, &bare);
    let pack = world.stored().into_keys().find(|path| path.to_string_lossy().contains("/tenant/drill-bad/packs/"));
    let pack = pack.expect("a pack");
    let mut bytes = std::fs::read(&pack).expect("read it");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::remove_file(&pack).expect("remove it");
    std::fs::write(&pack, bytes).expect("write it");
    let ended = world.run(&["drill", "--all", "--server", "scratch"]).expect(5);
    assert!(
        ended.stdout.contains("failed   tenant drill-bad") && ended.stdout.contains("proven   central"),
        "{ended:?}"
    );
    assert_eq!(left(scratch(), "drill-bad"), Vec::<String>::new());
}

#[test]
fn a_server_of_the_fleet_is_refused_unless_it_is_meant() {
    let world = fleet("drill-live", SHOP);
    let (live, databases) = (world.print(&world.db("drill-live")), world.databases());
    let said = world.run(&["drill", "--all", "--server", "pg"]).expect(2).stderr;
    assert!(said.contains("holds databases of the fleet") && said.contains("--on-live-server"), "{said}");
    let port = format!("127.0.0.1:{}\"", scratch().port);
    world.reconfigure(&port, &format!("127.0.0.1:{}\"", world.cluster().port));
    world.run(&["drill", "--all", "--server", "scratch"]).expect(2); // The same server by another name.
    world.run(&["drill", "--all", "--server", "nowhere"]).expect(2);
    world.run(&["drill", "--tenant", "nobody", "--server", "pg", "--on-live-server"]).expect(4);
    world
        .run(&["drill", "--tenant", "drill-live", "--server", "pg", "--on-live-server", "--evidence", "none"])
        .expect(2);
    world.run(&["drill", "--tenant", "drill-live", "--server", "pg", "--on-live-server"]).expect(0);
    assert_eq!((world.print(&world.db("drill-live")), world.databases()), (live, databases));
    assert_eq!(left(world.cluster(), "drill-live"), Vec::<String>::new());
}

/// A tenant whose restore takes long enough to be stopped in the middle.
const MANY_ROWS: &str =
    "create table rows as select n, md5(n::text) as s from generate_series(1, 300000) n; create index on rows (s)";

/// Starts a drill, waits until rows are being loaded, and sends a signal.
fn stop_while_loading(world: &World, tenant: &str, signal: Signal) -> Child {
    let child = world.start(&["drill", "--tenant", tenant, "--server", "scratch"]);
    wait_until("rows are being loaded", || {
        let query = "select d.datname from pg_stat_progress_copy p join pg_database d on d.oid = p.datid";
        let loading = scratch().psql("postgres", query);
        left(scratch(), tenant).iter().any(|name| loading.lines().any(|line| line == name))
    });
    kill_process(Pid::from_child(&child), signal).expect("signal it");
    child
}

#[test]
fn what_a_stopped_drill_made_is_dropped_by_itself_and_what_a_killed_one_left_by_the_next() {
    let world = fleet("drill-stop", &format!("{SHOP} {MANY_ROWS}"));
    let child = stop_while_loading(&world, "drill-stop", Signal::TERM);
    let ended = world.finish(child).expect(143);
    assert_eq!(left(scratch(), "drill-stop"), Vec::<String>::new(), "{ended:?}");

    std::thread::sleep(std::time::Duration::from_millis(1100)); // Names tell seconds apart.
    let child = stop_while_loading(&world, "drill-stop", Signal::KILL);
    world.finish(child).expect(-1);
    let leftover = left(scratch(), "drill-stop");
    assert_eq!(leftover.len(), 1, "{leftover:?}");
    // Somebody's own database of such a name, without our mark, is nobody's leftover.
    let foreign = "dbkeeper_drill_drill-stop-own__restore_20200101T000000Z";
    scratch().psql("postgres", &format!("create database \"{foreign}\" template template0"));
    wait_until("the killed drill's sessions are gone", || {
        let query = format!("select count(*) from pg_stat_activity where datname = '{}'", leftover[0]);
        scratch().psql("postgres", &query).trim() == "0"
    });
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let report = world.json(&["drill", "--tenant", "drill-stop", "--server", "scratch", "--json"], 0);
    assert!(report["leftovers"].to_string().contains(&leftover[0]), "{report:#}");
    assert_eq!(left(scratch(), "drill-stop"), [foreign]);
}
