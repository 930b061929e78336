//! `export`: what psql loads from it is what was backed up, and a file of the final name is whole or not there.

use std::fs::Permissions;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::cli::{Ended, Sandbox};
use crate::support::postgres::{Cluster, newest_bin};

/// Everything whose text in a file is easy to get wrong.
const RICH: &str = r#"
    create schema app; create schema "Odd ""Schema""
name";
    create type app.mood as enum ('sad', 'ok', 'happy');
    create table app.people (id bigint generated always as identity (start 100 increment 5) primary key, name text,
        mood app.mood, wage money, secret bytea, at timestamptz, x xml, shouted text generated always as (upper(name)) stored);
    alter table app.people add gone int, add kept float8; alter table app.people drop gone;
    alter table app.people owner to export_owner;
    insert into app.people (name, mood, wage, secret, at, kept)
        select 'person ' || n, 'ok', n * 1.25, decode(md5(n::text), 'hex'), '2026-01-01 12:00:00.123456+05:30', 1e-310
        from generate_series(1, 4000) n;
    insert into app.people (name) values ('\.'), (E'\\.\n\\.\n\\! touch here'), (E'tab\tcr\rback\\slash\b\f\v'), ('\N'), (null), (''), ('żółć 😀 :name :''quoted''');
    create table "Odd ""Schema""
name"."select ""é""" ("from" int, "Ünï""code :x" text default '\');
    insert into "Odd ""Schema""
name"."select ""é""" values (1, '$$'), (2, E'\u2028');
    create table app.no_columns (); insert into app.no_columns select from generate_series(1, 3);
    create table app.all_generated (g int generated always as (1 + 1) stored); insert into app.all_generated default values;
    create table app.empty (i int);
    create table app.log (at date, what text) partition by range (at);
    create table app.log_old partition of app.log for values from (minvalue) to ('2026-01-01') partition by list (what);
    create table app.log_old_a partition of app.log_old for values in ('a');
    create table app.log_rest partition of app.log default;
    insert into app.log values ('2025-01-01', 'a'), ('2026-02-02', 'b'), ('2026-02-03', E'c\n');
    create table app.moods (m app.mood, n int) partition by hash (m);
    create table app.moods_0 partition of app.moods for values with (modulus 2, remainder 0);
    create table app.moods_1 partition of app.moods for values with (modulus 2, remainder 1);
    insert into app.moods select m, n from unnest(enum_range(null::app.mood)) m, generate_series(1, 3) n;
    create table app.child (extra int) inherits (app.empty); insert into app.child values (1, 2);
    create materialized view app.totals as select mood, count(*) from app.people group by mood order by mood;
    create materialized view app.top as select * from app.totals limit 2; create unique index on app.top (mood);
    create materialized view app.unfilled as select 1 as one with no data;
    create function app.trap() returns trigger language plpgsql as $body$ begin /*
\unrestrict key
\.
SET transaction_timeout = 0;
-- Name: trap
      */ raise exception 'a trigger ran'; end $body$;
    create table app.guarded (i int primary key); insert into app.guarded values (1), (2);
    create table app.pointing (i int references app.guarded); insert into app.pointing values (2);
    create trigger t before insert on app.guarded for each row execute function app.trap();
    create table app.rls (i int); insert into app.rls values (1);
    alter table app.rls enable row level security, force row level security; create policy p on app.rls using (false);
    create rule r as on insert to app.rls do instead nothing;
    create sequence "seq""é" start 7; create sequence app.down increment -5 minvalue -100; select nextval('app.down');
    comment on table app.people is E'it''s\n\\! echo'; grant select on app.people to public;
    select lo_from_bytea(16001, decode(repeat('00ff5c', 3000), 'hex')), lo_from_bytea(16002, ''), lo_create(16003);
    select lo_put(16003, 5000000, 'after a hole'); comment on large object 16001 is 'large';
    create view app.people_view as select * from app.people; create extension pg_trgm;
    create statistics app.st on name, mood from app.people;"#;

/// A repository with one backup of each database.
struct World {
    sandbox: Sandbox,
}

impl World {
    fn new(central: &str, tenants: &[&str]) -> Self {
        let sandbox = Sandbox::new();
        let keys = ["keygen", "-q", "--identity", "identity", "--repository-key", "key"];
        let recipient = sandbox.run(&keys).expect(0).stdout;
        let config = format!(
            "[repository]\nurl = \"file://{}\"\nkey = {{ file = \"key\" }}\n[encryption]\nrecipients = [\"{}\"]\n\
             identity = {{ file = \"identity\" }}\n[[servers]]\nname = \"pg\"\nurl = \"postgres://postgres@127.0.0.1:{}\"\n\
             sslmode = \"disable\"\n[central]\nserver = \"pg\"\ndatabase = \"{central}\"\n\
             [tenants]\nserver = \"pg\"\ndiscover = {{ list = {tenants:?} }}\n",
            sandbox.path("repository").display(),
            recipient.trim(),
            Cluster::shared().port,
        );
        sandbox.write("dbkeeper.toml", &config);
        let world = Self { sandbox };
        std::fs::create_dir(world.sandbox.path("repository")).expect("the repository's folder");
        world.run("init").expect(0);
        world.run("backup --all").expect(0);
        world
    }

    fn run(&self, line: &str) -> Ended {
        self.sandbox.run(&line.split(' ').collect::<Vec<_>>())
    }

    fn export(&self, tenant: &str) -> PathBuf {
        let ended = self.run(&format!("export --tenant {tenant} --output {tenant}.sql")).expect(0);
        assert_eq!(ended.stdout, "");
        self.sandbox.path(&format!("{tenant}.sql"))
    }

    /// The id of the one backup of a tenant beside these.
    fn only_backup(&self, tenant: &str, but: &[&str]) -> String {
        let listed = self.run(&format!("list --tenant {tenant} --json")).expect(0).stdout;
        let listed: Vec<serde_json::Value> = serde_json::from_str(&listed).expect("JSON");
        let mut ids = listed.iter().map(|backup| backup["id"].as_str().expect("an id"));
        ids.find(|id| !but.contains(id)).expect("a backup").to_owned()
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.sandbox.folder()).expect("the folder");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }
}

/// A world of one small tenant.
fn small(stem: &str) -> (World, String) {
    let cluster = Cluster::shared();
    let db = cluster.create_database(stem);
    cluster.psql(&db, "create table t as select n, md5(n::text) from generate_series(1, 50000) n");
    (World::new("postgres", &[&db]), db)
}

fn load(database: &str, file: &Path) {
    let file = file.to_str().expect("UTF-8");
    Cluster::shared().client("psql", &["-Xq", "-v", "ON_ERROR_STOP=1", "-d", database, "-o", "/dev/null", "-f", file]);
}

fn create(name: &str, encoding: &str) -> String {
    let sql = format!("create database {name} template template0 encoding '{encoding}' locale 'C'");
    Cluster::shared().psql("postgres", &sql);
    name.to_owned()
}

/// Schema, rows, large objects and sequences, in the words of `pg_dump`.
fn dumped(database: &str) -> String {
    // A value of an enum may hash to another leaf in a copy.
    let arguments = ["--restrict-key=same", "--exclude-table-data=app.moods_*", "-d", database];
    let dump = Cluster::shared().client("pg_dump", &arguments);
    String::from_utf8_lossy(&dump).into_owned()
}

#[track_caller]
fn check_same(source: &str, copy: &str) {
    let (source, copy) = (dumped(source), dumped(copy));
    let different = source.lines().zip(copy.lines()).find(|(source, copy)| source != copy);
    assert_eq!(different, None);
    assert_eq!(source.len(), copy.len());
}

#[test]
fn psql_makes_from_an_export_what_was_backed_up() {
    let cluster = Cluster::shared();
    cluster.psql("postgres", "create role export_owner");
    let (source, copy) = (cluster.create_database("exported"), cluster.create_database("export_loaded"));
    cluster.psql(&source, RICH);
    let world = World::new("postgres", &[&source]);
    let file = world.export(&source);
    let text = std::fs::read(&file).expect("the export");
    let text = String::from_utf8(text).expect("UTF-8");
    assert!(text.starts_with(&format!("-- Export of tenant {source} by dbkeeper: backup ")), "{:.200}", text);
    assert!(text.contains("\n-- These roles must exist: ") && text.contains("\"export_owner\""));
    assert!(!text.lines().any(|line| line.starts_with("\\restrict")), "an older psql has no such command");
    assert!(text.ends_with("\n-- The export is complete.\n"));
    load(&copy, &file);
    check_same(&source, &copy);
    for query in ["select sequencename, last_value from pg_sequences order by 1", "table app.moods order by 1, 2"] {
        assert_eq!(cluster.psql(&copy, query), cluster.psql(&source, query));
    }
    assert_eq!(cluster.psql(&copy, "select count(*) from app.no_columns"), "3\n");
    assert_eq!(
        cluster.psql(&copy, "select count(*) from pg_largeobject where loid = 16003"),
        "1\n",
        "a hole stays one"
    );
    // In one transaction, as an operator may want it.
    let (again, file) = (cluster.create_database("export_again"), file.to_str().expect("UTF-8"));
    let whole = ["-Xq1", "-v", "ON_ERROR_STOP=1", "-d", &again, "-o", "/dev/null", "-f", file];
    cluster.client("psql", &whole);
    check_same(&source, &again);
}

/// As those of `pg_dump` since PostgreSQL 17.
#[test]
fn large_objects_that_the_schema_lacks_are_created_by_the_export() {
    let cluster = Cluster::shared();
    let (source, copy) = (cluster.create_database("export_objects"), cluster.create_database("export_objects_loaded"));
    let world = World::new("postgres", &[&source]);
    cluster.psql(
        &source,
        "create role \"object's ö\"; select lo_from_bytea(16001, 'content'), lo_create(16002), lo_create(16003);
         comment on large object 16002 is E'it''s\\n\\\\ö'; alter large object 16003 owner to \"object's ö\";
         grant select on large object 16003 to public",
    );
    std::fs::create_dir(world.sandbox.path("programs")).expect("a folder of programs");
    for (program, arguments) in [("pg_restore", ""), ("pg_dump", "--no-blobs")] {
        let real = newest_bin().join(program);
        let script = format!("#!/bin/sh\nexec '{}' \"$@\" {arguments}\n", real.display());
        let path = world.sandbox.write(&format!("programs/{program}"), &script);
        std::fs::set_permissions(path, Permissions::from_mode(0o755)).expect("make it executable");
    }
    let config = world.sandbox.read("dbkeeper.toml");
    let programs = format!("sslmode = \"disable\"\nclient_bin = \"{}\"\n", world.sandbox.path("programs").display());
    world.sandbox.write("dbkeeper.toml", &config.replace("sslmode = \"disable\"\n", &programs));
    let before = world.only_backup(&source, &[]);
    world.run(&format!("backup --tenant {source}")).expect(0);
    let backup = world.only_backup(&source, &[&before]);
    world.run(&format!("export --tenant {source} --backup {backup} --output objects.sql")).expect(0);
    let file = world.sandbox.path("objects.sql");
    let text = std::fs::read_to_string(&file).expect("the export");
    assert!(!text.contains("lo_create('16001')"), "the schema has them after all");
    load(&copy, &file);
    check_same(&source, &copy);
}

#[test]
fn an_export_is_in_the_encoding_of_its_database() {
    let cluster = Cluster::shared();
    for encoding in ["LATIN1", "SQL_ASCII", "EUC_JP"] {
        let name = encoding.to_lowercase();
        let source = create(&format!("export_{name}"), encoding);
        let letter = if encoding == "EUC_JP" { "日" } else { "é" };
        cluster.psql(
            &source,
            &format!(
                "set client_encoding = utf8; create schema \"s{letter}\";
                 create table \"s{letter}\".\"t'{letter}\\\" (\"c{letter}\" int generated by default as identity, x text default '{letter}');
                 insert into \"s{letter}\".\"t'{letter}\\\" (x) values ('{letter}'), (E'\\\\.\\n{letter}');
                 comment on schema \"s{letter}\" is '{letter}';"
            ),
        );
        if encoding != "EUC_JP" {
            cluster.psql(&source, "create table raw as select convert_from('\\x41e9ff', getdatabaseencoding()) as x");
        }
        let world = World::new("postgres", &[&source]);
        let copy = create(&format!("export_{name}_loaded"), encoding);
        load(&copy, &world.export(&source));
        check_same(&source, &copy);
        let bytes =
            "set client_encoding = sql_ascii; select encode(convert_to(x, getdatabaseencoding()), 'hex') from raw";
        if encoding != "EUC_JP" {
            assert_eq!(cluster.psql(&copy, bytes), "41e9ff\n");
        }
    }
}

#[test]
fn rows_of_configuration_tables_replace_those_that_the_extension_brought() {
    let cluster = Cluster::shared();
    let extension = "
        create table kinds (id int primary key, builtin bool); create table a_rules (id int primary key, kind int references kinds);
        alter extension plpgsql add table kinds; alter extension plpgsql add table a_rules; set allow_system_table_mods = on;
        update pg_extension set extconfig = array['a_rules'::regclass, 'kinds'::regclass]::oid[],
          extcondition = array['', 'WHERE NOT builtin'] where extname = 'plpgsql';
        insert into kinds values (1, true), (2, false), (3, false); insert into a_rules values (1, 3);";
    let (source, copy) = (cluster.create_database("export_kinds"), cluster.create_database("export_kinds_loaded"));
    cluster.psql(&source, extension);
    cluster.psql(&source, "delete from a_rules; delete from kinds where id = 3; insert into kinds values (7, false)");
    cluster.psql(&source, "insert into a_rules values (1, 7), (2, 2)");
    cluster.psql(&copy, extension);
    let world = World::new("postgres", &[&source]);
    load(&copy, &world.export(&source));
    for table in ["kinds", "a_rules"] {
        let rows = format!("table {table} order by id");
        assert_eq!(cluster.psql(&copy, &rows), cluster.psql(&source, &rows), "{table}");
    }
}

#[test]
fn an_export_needs_no_server_and_is_the_same_in_a_file_and_on_standard_output() {
    let (world, db) = small("export_offline");
    let config = world.sandbox.read("dbkeeper.toml");
    let port = format!("127.0.0.1:{}", Cluster::shared().port);
    world.sandbox.write("dbkeeper.toml", &config.replace(&port, "127.0.0.1:1"));
    let file = world.export(&db);
    let printed = world.run(&format!("export --tenant {db} --output -")).expect(0);
    assert_eq!(printed.stdout, std::fs::read_to_string(&file).expect("the export"));
    assert!(printed.stderr.contains(&format!("exported tenant {db}, backup ")), "{}", printed.stderr);
    let mode = std::fs::metadata(&file).expect("the export").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "its rows are nobody else's business");
    let quiet = world.run(&format!("export -q --tenant {db} --output quiet.sql")).expect(0);
    assert_eq!(quiet.stderr, "");
}

#[test]
fn the_central_database_and_an_older_backup_can_be_exported() {
    let cluster = Cluster::shared();
    let (central, tenant) = (cluster.create_database("export_central"), cluster.create_database("export_older"));
    cluster.psql(&central, "create table who as select 'central'::text as name");
    cluster.psql(&tenant, "create table who as select 'older'::text as name");
    let world = World::new(&central, &[&tenant]);
    let older = world.only_backup(&tenant, &[]);
    cluster.psql(&tenant, "update who set name = 'newer'");
    world.run(&format!("backup --tenant {tenant}")).expect(0);
    let newer = world.only_backup(&tenant, &[&older]);
    for (arguments, row) in [
        ("--central".to_owned(), "central"),
        (format!("--tenant {tenant} --backup {older}"), "older"),
        (format!("--tenant {tenant} --backup {newer}"), "newer"),
        (format!("--tenant {tenant} --backup {newer} --without-repository-key"), "newer"),
    ] {
        let ended = world.run(&format!("export {arguments} --output -")).expect(0);
        assert!(ended.stdout.contains(&format!("FROM stdin;\n{row}\n\\.\n")), "{arguments}");
        let unverified = arguments.contains("without");
        assert_eq!(ended.stdout.contains("forged") && ended.stderr.contains("forged"), unverified, "{arguments}");
    }
}

#[test]
fn what_exists_is_not_overwritten_and_a_backup_that_is_not_there_leaves_no_file() {
    let (world, db) = small("export_refused");
    world.sandbox.write("mine.sql", "mine");
    let before = world.files();
    let ended = world.run(&format!("export --tenant {db} --output mine.sql")).expect(2);
    assert_eq!(ended.stderr, "error: mine.sql exists already\n\nhint: name a new file, or - for standard output\n");
    assert_eq!(world.sandbox.read("mine.sql"), "mine");
    world.run(&format!("export --tenant {db} --output missing/a.sql")).expect(2);
    world.run(&format!("export --tenant {db} --output /dev/full")).expect(2);
    world.run("export --tenant nobody --output a.sql").expect(4);
    world.run(&format!("export --tenant {db} --backup 20200101T000000Z-d336h-00000000 --output a.sql")).expect(4);
    world.run("export --volume media --output a.sql").expect(2);
    world.run("export --output a.sql").expect(2);
    assert_eq!(world.files(), before);
}

#[test]
fn a_damaged_part_fails_the_export_and_leaves_no_file() {
    let (world, db) = small("export_damaged");
    let packs = world.sandbox.path(&format!("repository/vaults/tenant/{db}/packs"));
    let pack = std::fs::read_dir(&packs).expect("the packs").next().expect("a pack").expect("a pack").path();
    let mut bytes = std::fs::read(&pack).expect("the pack");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::set_permissions(&pack, PermissionsExt::from_mode(0o600)).expect("chmod");
    std::fs::write(&pack, bytes).expect("damage the pack");
    let before = world.files();
    let ended = world.run(&format!("export --tenant {db} --output a.sql")).expect(5);
    assert!(ended.stderr.contains("packs/"), "it names the object: {}", ended.stderr);
    assert_eq!(world.files(), before);
    let ended = world.run(&format!("export --tenant {db} --output -")).expect(5);
    assert!(!ended.stdout.contains("The export is complete."));
}

#[test]
fn a_reader_that_goes_away_or_a_full_disk_makes_the_export_a_failure() {
    let (world, db) = small("export_pipe");
    let arguments = ["export", "-q", "--tenant", &db, "--output", "-"];
    let mut command = world.sandbox.command(&arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("run dbkeeper");
    child.stdout.take().expect("its output").read_exact(&mut [0; 9]).expect("the beginning");
    let ended = world.sandbox.finish(child.wait_with_output().expect("its end")).expect(1);
    assert!(
        ended.stderr.starts_with("error: the reader went away before the export was complete\n"),
        "{}",
        ended.stderr
    );
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("a full device");
    let child = world.sandbox.command(&arguments).stdout(full).stderr(Stdio::piped()).spawn();
    let ended = world.sandbox.finish(child.expect("run dbkeeper").wait_with_output().expect("its end")).expect(1);
    assert_eq!(ended.stderr, "error: write the export: No space left on device (os error 28)\n");
}

/// Exports to a file with a `pg_restore` of our own, which says that it is new enough.
fn export_with(world: &World, db: &str, script: &str) -> std::process::Child {
    let says = "if [ \"$1\" = --version ]; then echo 'pg_restore (PostgreSQL) 99.0'; exit; fi";
    let text = world.sandbox.write("script", &format!("#!/bin/sh\n{says}\n{script}\n"));
    let program = world.sandbox.path("bin/pg_restore");
    // By another process: a child that is forked here meanwhile would hold the file open, and it could not be run.
    let installed = std::process::Command::new("install").args(["-D", "-m", "755"]).arg(text).arg(&program).status();
    assert!(installed.expect("run install").success());
    let config = world.sandbox.read("dbkeeper.toml");
    let bin = format!("client_bin = \"{}\"\n", world.sandbox.path("bin").display());
    let with_bin = config.replace(&bin, "").replace("[[servers]]\n", &format!("[[servers]]\n{bin}"));
    world.sandbox.write("dbkeeper.toml", &with_bin);
    let mut command = world.sandbox.command(&["export", "-q", "--tenant", db, "--output", "a.sql"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("run dbkeeper")
}

#[test]
fn a_signal_or_a_failing_pg_restore_leaves_no_file() {
    let (world, db) = small("export_stopped");
    let child = export_with(&world, &db, "echo > running; exec sleep 3600");
    let running = world.sandbox.path("running");
    for _ in 0..3000 {
        if running.exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(world.files().iter().any(|name| name.starts_with(".a.sql.")), "it is being written under another name");
    kill_process(Pid::from_child(&child), Signal::TERM).expect("send a signal");
    let ended = world.sandbox.finish(child.wait_with_output().expect("its end")).expect(143);
    assert_eq!(ended.stderr, "error: stopped by a signal\n");
    assert!(!world.files().iter().any(|name| name.contains("a.sql")));
    let script = "echo 'SET a = 0;'; echo 'pg_restore: error: no memory' >&2; exit 1";
    let child = export_with(&world, &db, script);
    let ended = world.sandbox.finish(child.wait_with_output().expect("its end")).expect(1);
    assert_eq!(ended.stderr, "error: pg_restore: no memory\n");
    assert!(!world.files().iter().any(|name| name.contains("a.sql")));
}
