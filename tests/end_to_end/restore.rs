//! Promise 3: every flag of `restore` does what it says, and nothing that was not named is touched.

use std::process::Child;
use std::time::Duration;

use super::world::{Print, SHOP, World, print_of, target, wait_until};
use crate::support::postgres::Cluster;

/// Everything of this fleet but acme's databases: OIDs and content.
fn others(world: &World) -> Vec<(String, Print)> {
    let acme = world.db("acme");
    let names = world.databases().into_keys().filter(|name| !name.starts_with(&acme));
    names.map(|name| (name.clone(), world.print(&name))).collect()
}

/// What acme lost after its backup.
fn lose(world: &World) {
    world.cluster().psql(&world.db("acme"), "delete from orders; drop view totals; update customers set name = 'lost'");
}

#[test]
fn the_live_database_is_replaced_and_kept_and_no_other_is_touched() {
    let world = World::with_shops();
    world.backup();
    let acme = world.db("acme");
    let (good, around) = (world.print(&acme), others(&world));
    lose(&world);
    let lost = world.print(&acme);
    let report = world.json(&["restore", "--tenant", "acme", "--yes", "--json"], 0);
    assert_eq!(world.print(&acme).content, good.content);
    assert_ne!(world.print(&acme).oid, lost.oid, "another database has the name now");
    let kept: Vec<String> = world.databases().into_keys().filter(|name| name.contains("__before_")).collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(world.print(&kept[0]), lost, "the former database is kept as it was");
    assert_eq!(others(&world), around, "nothing else was touched");
    assert!(target(&report, "acme")["notes"].to_string().contains(&kept[0]), "{report:#}");
    // A second restore keeps a second one, and the first stays.
    std::thread::sleep(Duration::from_millis(1100));
    world.run(&["restore", "--tenant", "acme", "--yes"]).expect(0);
    assert_eq!(world.databases().keys().filter(|name| name.contains("__before_")).count(), 2);
    // What restores keep is no tenant: the next backup passes it over.
    assert_eq!(world.backup()["targets"].as_array().map(Vec::len), Some(3));
}

#[test]
fn where_nobody_can_be_asked_only_yes_is_a_yes_and_a_dry_run_changes_nothing() {
    let world = World::with_shops();
    world.backup();
    lose(&world);
    let (before, files, lost) = (world.databases(), world.stored(), world.print(&world.db("acme")));
    let said = world.run(&["restore", "--tenant", "acme"]).expect(2).stderr;
    assert!(said.contains("--yes") && said.contains("nothing was changed"), "{said}");
    let plan = world.json(&["restore", "--tenant", "acme", "--dry-run", "--json"], 0);
    let step = &plan["steps"][0];
    assert_eq!((step["swaps"].as_bool(), step["database"].as_str()), (Some(true), Some(world.db("acme").as_str())));
    assert_eq!(step["rows"], 2000);
    let said = world.run(&["restore", "--all", "--dry-run"]).expect(0).stderr;
    assert!(said.contains("globex") && said.contains("dry run: nothing was changed"), "{said}");
    assert_eq!((world.databases(), world.stored(), world.print(&world.db("acme"))), (before, files, lost));
}

#[test]
fn a_restore_under_another_name_or_beside_leaves_the_live_database_alone() {
    let world = World::with_shops();
    world.backup();
    let (acme, good) = (world.db("acme"), world.print(&world.db("acme")));
    lose(&world);
    let lost = world.print(&acme);
    let copy = format!("{acme} copy");
    world.run(&["restore", "--tenant", "acme", "--as", &copy, "--yes"]).expect(0);
    assert_eq!(world.print(&copy).content, good.content);
    // That name is taken now: nothing is replaced under a name of the operator's choice.
    let (databases, said) =
        (world.databases(), world.run(&["restore", "--tenant", "acme", "--as", &copy, "--yes"]).expect(2));
    assert!(said.stderr.contains("there is a database of this name"), "{}", said.stderr);
    assert_eq!(world.databases(), databases);
    world.run(&["restore", "--tenant", "acme", "--no-swap", "--yes"]).expect(0);
    let beside: Vec<String> = world.databases().into_keys().filter(|name| name.contains("__restore_")).collect();
    assert_eq!(beside.len(), 1);
    assert_eq!(world.print(&beside[0]).content, good.content);
    assert_eq!(world.print(&acme), lost);
    // What was left beside on purpose is the operator's: the next restore does not take it for a leftover.
    std::thread::sleep(Duration::from_millis(1100));
    world.run(&["restore", "--tenant", "acme", "--yes"]).expect(0);
    assert!(world.databases().contains_key(&beside[0]));
    assert_eq!(world.print(&acme).content, good.content);
}

/// A dump of definitions is shared by tenants with equal ones, and reused after a restore: in it the tables have other OIDs.
#[test]
fn a_single_table_comes_back_from_a_backup_whose_definitions_were_dumped_elsewhere() {
    let world = World::with_shops();
    world.backup();
    world.run(&["restore", "--tenant", "acme", "--yes"]).expect(0);
    world.backup();
    let rows = "select md5(string_agg(c::text, ',' order by id)) from customers c";
    for tenant in ["acme", "globex"] {
        let (live, copy) = (world.db(tenant), format!("{}_part", world.db(tenant)));
        world.run(&["restore", "--tenant", tenant, "--table", "customers", "--as", &copy, "--yes"]).expect(0);
        assert_eq!(world.cluster().psql(&copy, rows), world.cluster().psql(&live, rows), "{tenant}");
    }
}

#[test]
fn a_part_of_a_database_never_replaces_the_whole() {
    let world = World::with_shops();
    world.backup();
    let (acme, copy) = (world.db("acme"), format!("{}_part", world.db("acme")));
    let live = world.print(&acme);
    let tables = "select string_agg(relname, ' ' order by relname) from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace";
    world.run(&["restore", "--tenant", "acme", "--table", "customers", "--as", &copy, "--yes"]).expect(0);
    assert_eq!(world.cluster().psql(&copy, tables).trim(), "customers");
    let (rows, next) = (
        "select md5(string_agg(c::text, ',' order by id)) from customers c",
        "select last_value from customers_id_seq",
    );
    for sql in [rows, next] {
        assert_eq!(world.cluster().psql(&copy, sql), world.cluster().psql(&acme, sql), "{sql}");
    }
    world.run(&["restore", "--tenant", "acme", "--table", "public.orders", "--table", "customers", "--yes"]).expect(0);
    let beside = world.databases().into_keys().find(|name| name.contains("__restore_")).expect("a database beside");
    assert_eq!(world.cluster().psql(&beside, tables).trim(), "customers orders");
    let databases = world.databases();
    let said = world.run(&["restore", "--tenant", "acme", "--table", "order", "--yes"]).expect(2).stderr;
    assert!(said.contains("no such table") && said.contains("did you mean public.orders?"), "{said}");
    assert_eq!(world.databases(), databases, "nothing was left");
    let schema = format!("{acme}_schema");
    world.run(&["restore", "--tenant", "acme", "--schema-only", "--as", &schema, "--yes"]).expect(0);
    assert_eq!(world.cluster().psql(&schema, "select count(*) from orders").trim(), "0");
    assert_eq!(world.cluster().psql(&schema, tables).trim(), "customers orders");
    std::thread::sleep(Duration::from_millis(1100));
    let plan = world.json(&["restore", "--tenant", "acme", "--schema-only", "--dry-run", "--json"], 0);
    assert_eq!(plan["steps"][0]["swaps"], false, "the plan says that nothing is replaced");
    world.run(&["restore", "--tenant", "acme", "--schema-only", "--yes"]).expect(0);
    assert_eq!(world.print(&acme), live, "the live database is as it was");
}

#[test]
fn an_older_backup_is_restored_by_its_id_or_by_a_time() {
    let world = World::with_shops();
    let first = world.backup();
    let (acme, old) = (world.db("acme"), world.print(&world.db("acme")));
    let id = target(&first, "acme")["backup_id"].as_str().expect("an id").to_owned();
    // Ids and moments are of whole seconds.
    std::thread::sleep(Duration::from_millis(1100));
    lose(&world);
    world.backup();
    let listed = world.json(&["list", "--tenant", "acme", "--json"], 0);
    let began = listed[0]["created_at"].as_str().expect("a time").to_owned();
    assert_eq!(listed[0]["id"].as_str(), Some(id.as_str()));
    for (number, flags) in [["--backup", &id], ["--at", &began]].iter().enumerate() {
        let copy = format!("{acme}_{number}");
        let said =
            world.run(&["restore", "--tenant", "acme", flags[0], flags[1], "--as", &copy, "--yes"]).expect(0).stderr;
        assert!(said.contains("not the newest backup"), "{said}");
        assert_eq!(world.print(&copy).content, old.content, "{flags:?}");
    }
    let newest = format!("{acme}_newest");
    world.run(&["restore", "--tenant", "acme", "--as", &newest, "--yes"]).expect(0);
    assert_eq!(world.print(&newest).content, world.print(&acme).content);
    let databases = world.databases();
    let said = world.run(&["restore", "--tenant", "acme", "--at", "2020-01-01T00:00:00Z", "--yes"]).expect(4).stderr;
    assert!(said.contains("no backup from 2020") && said.contains("dbkeeper list"), "{said}");
    world.run(&["restore", "--tenant", "globex", "--backup", &id, "--yes"]).expect(4);
    assert_eq!(world.databases(), databases);
}

#[test]
fn without_the_repository_key_a_restore_works_and_says_what_is_unchecked() {
    let world = World::with_shops();
    world.backup();
    let (acme, good) = (world.db("acme"), world.print(&world.db("acme")));
    std::fs::remove_file(world.sandbox.path("repository.key")).expect("lose the key");
    lose(&world);
    let lost = world.print(&acme);
    world.run(&["restore", "--tenant", "acme", "--yes"]).expect(12);
    assert_eq!(world.print(&acme), lost);
    world.reconfigure("key = { file = \"repository.key\" }\n", "");
    let said = world.run(&["restore", "--tenant", "acme", "--without-repository-key", "--yes"]).expect(0).stderr;
    assert!(said.contains("authentic or was forged"), "{said}");
    assert_eq!(world.print(&acme).content, good.content);
}

#[test]
fn a_restore_goes_to_another_configured_server_with_the_roles_it_needs() {
    let (world, other) = (World::with_shops(), Cluster::start(&[]));
    let role = world.prefix.replace("t_", "app");
    let acme = world.db("acme");
    world.cluster().psql("postgres", &format!("create role {role} login password 'of the app'"));
    world
        .cluster()
        .psql(&acme, &format!("alter database {acme} owner to {role}; alter table customers owner to {role}"));
    world.backup();
    let (good, databases) = (world.print(&acme), world.databases());
    let server = format!(
        "[[servers]]\nname = \"other\"\nurl = \"postgres://postgres@127.0.0.1:{}\"\nsslmode = \"disable\"\n\n[central]",
        other.port
    );
    world.reconfigure("[central]", &server);
    let said = world.run(&["restore", "--tenant", "acme", "--server", "others", "--yes"]).expect(2).stderr;
    assert!(said.contains("\"others\" is not configured") && said.contains("other, pg"), "{said}");
    world.run(&["restore", "--tenant", "acme", "--server", "other", "--yes"]).expect(0);
    assert_eq!(print_of(&other, &acme).content, good.content);
    let owner = "select datdba::regrole || ' ' || (select relowner::regrole from pg_class where relname = 'customers')
        || (select rolpassword like 'SCRAM%' from pg_authid where oid = datdba) from pg_database where datname = current_database()";
    assert_eq!(other.psql(&acme, owner).trim(), format!("{role} {role}true"));
    assert_eq!((world.databases(), world.print(&acme)), (databases, good), "the first server is as it was");
}

/// A tenant whose restore takes long enough to be stopped in the middle.
const MANY_ROWS: &str =
    "create table rows as select n, md5(n::text) as s from generate_series(1, 300000) n; create index on rows (s)";

/// Starts a restore of `tenant`, waits until its rows are being loaded, and sends a signal.
fn stop_while_loading(world: &World, tenant: &str, signal: rustix::process::Signal) -> Child {
    let child = world.start(&["restore", "--tenant", tenant, "--yes"]);
    let is_loading = |name: &String| {
        let query =
            "select count(*) from pg_stat_progress_copy p join pg_database d on d.oid = p.datid where d.datname = ";
        world.cluster().psql("postgres", &format!("{query}'{name}'")).trim() != "0"
    };
    wait_until("rows are being loaded", || unfinished(world).is_some_and(|name| is_loading(&name)));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, signal).expect("signal it");
    child
}

/// The database of an unfinished restore.
fn unfinished(world: &World) -> Option<String> {
    world.databases().into_keys().find(|name| name.contains("__restore_"))
}

#[test]
fn a_restore_that_is_told_to_stop_removes_what_it_made_and_leaves_the_live_database() {
    let world = World::with_shops();
    let big = world.tenant("big", &format!("{SHOP} {MANY_ROWS}"));
    world.backup();
    let live = world.print(&big);
    let child = stop_while_loading(&world, "big", rustix::process::Signal::TERM);
    let said = world.finish(child).expect(143).stderr;
    assert!(said.contains("stopped by a signal"), "{said}");
    assert_eq!(world.print(&big), live);
    assert_eq!(unfinished(&world), None, "{said}");
}

#[test]
fn a_killed_restore_leaves_the_live_database_whole_and_the_next_one_finishes_and_removes_what_it_left() {
    let world = World::with_shops();
    let big = world.tenant("big", &format!("{SHOP} {MANY_ROWS}"));
    world.backup();
    let live = world.print(&big);
    let child = stop_while_loading(&world, "big", rustix::process::Signal::KILL);
    world.finish(child).expect(-1);
    let left = unfinished(&world).expect("the killed restore left its database");
    assert_eq!(world.print(&big), live);
    std::thread::sleep(Duration::from_millis(1100));
    let said = world.run(&["restore", "--tenant", "big", "--yes"]).expect(0).stderr;
    assert!(said.contains("left by an earlier restore, was dropped"), "{said}");
    assert!(!world.databases().contains_key(&left) && unfinished(&world).is_none(), "{:?}", world.databases());
    assert_eq!(world.print(&big).content, live.content);
    assert_ne!(world.print(&big).oid, live.oid);
}
