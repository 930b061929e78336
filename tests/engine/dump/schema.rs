//! The schema part: an archive of the server's own `pg_dump`, whole or not at all, and without a secret in sight.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dbkeeper::base::secret::Secret;
use dbkeeper::engine::postgres::dump::open_dump;
use dbkeeper::engine::{DumpSession, Error, PartKind, SCHEMA_PART};
use dbkeeper::sql::Server;

use super::recording::Recording;
use super::{DumpOptions, dump, options};
use crate::support::postgres::Cluster;

/// The statements of an archive, as `pg_restore` prints them.
fn script(cluster: &Cluster, archive: &[u8]) -> String {
    let mut child = Command::new(cluster.bin.join("pg_restore"))
        .arg("-f-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("run pg_restore");
    let mut stdin = child.stdin.take().expect("its standard input");
    let archive = archive.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&archive));
    let output = child.wait_with_output().expect("wait");
    writer.join().expect("no panic").expect("all was read");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_holds_what_a_schema_only_dump_leaves_out_and_no_rows() {
    let cluster = Cluster::shared();
    let db = cluster.create_database("archive");
    cluster.psql(
        &db,
        "create table t (i int primary key); insert into t values (4711);
         create materialized view full_one as select * from t; create materialized view empty_one as select * from t with no data;
         select lo_from_bytea(6001, 'content'); comment on large object 6001 is 'noted';",
    );
    let dumped = dump(&cluster.server(), &db).await;
    let script = script(cluster, &dumped.parts.bytes(SCHEMA_PART));
    for expected in
        ["CREATE TABLE public.t", "ADD CONSTRAINT t_pkey", "REFRESH MATERIALIZED VIEW public.full_one", "6001", "noted"]
    {
        assert!(script.contains(expected), "{expected}: {script}");
    }
    assert!(!script.contains("4711") && !script.contains("REFRESH MATERIALIZED VIEW public.empty_one"), "{script}");
    assert_eq!(
        dumped.details.pg_dump_version.split('.').next(),
        Some((dumped.details.server_version_num / 10000).to_string().as_str())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_is_of_the_moment_of_the_rows() {
    let cluster = Cluster::shared();
    let db = cluster.create_database("moment");
    cluster.psql(&db, "create table t (i int)");
    let open = open_dump(&cluster.server(), &db, &options()).await.expect("open");
    cluster.psql(&db, "create table later (i int); create view late as select 1");
    assert_eq!((open.parts()[0].name.as_str(), open.parts()[0].kind), (SCHEMA_PART, PartKind::Bytes));
    let mut sink = Recording::of(open.parts());
    open.read(2, &[0], &mut sink).await.expect("read");
    let script = script(cluster, &sink.bytes(SCHEMA_PART));
    assert!(script.contains("public.t ") && !script.contains("late"), "{script}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pg_dump_that_fails_gives_no_schema() {
    let cluster = Cluster::shared();
    let db = cluster.create_database("failing");
    cluster.psql(&db, "create table t (i int)");
    let open = open_dump(&cluster.server(), &db, &options()).await.expect("open");
    // Nobody else may log in: the sessions that are open stay.
    cluster.psql("postgres", &format!("alter database {db} allow_connections false"));
    let mut sink = Recording::of(open.parts());
    let error = open.read(1, &[0], &mut sink).await.expect_err("pg_dump cannot log in");
    assert!(!sink.has(SCHEMA_PART));
    assert!(matches!(&error, Error::Client { program, .. } if program == "pg_dump"), "{error}");
    assert!(error.to_string().contains("not currently accepting connections"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_client_program_is_an_error_before_anything_is_locked() {
    let cluster = Cluster::shared();
    let db = cluster.create_database("clientless");
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server { client_bin: Some(folder.path().to_owned()), ..cluster.server() };
    let error = open_dump(&server, &db, &options()).await.expect_err("no pg_dump");
    assert_eq!(error.class(), dbkeeper::base::class::Class::Client);
}

/// Everything that other users could see of a process: its arguments and its environment.
fn visible(pid: u32) -> String {
    let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    String::from_utf8_lossy(&[read("cmdline"), read("environ")].concat()).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_password_is_visible_while_pg_dump_runs() {
    let cluster = Cluster::start(&["log_connections=on"]);
    let db = cluster.create_database("secretive");
    for hundred in 0..20 {
        let create = "do $$ begin for i in 0..49 loop execute format('create table t_%s_%s (i int primary key)', HUNDRED, i); end loop; end $$";
        cluster.psql(&db, &create.replace("HUNDRED", &hundred.to_string()));
    }
    cluster.psql("postgres", "create role guarded superuser login password 'pass:word\\with it'");
    let file = cluster.folder.join("data/pg_hba.conf");
    let rules = format!("host all guarded all scram-sha-256\n{}", std::fs::read_to_string(&file).expect("its rules"));
    std::fs::write(&file, rules).expect("new rules");
    cluster.psql("postgres", "select pg_reload_conf()");
    let password = Some(Secret::new("pass:word\\with it".to_owned()));
    let server = Server { user: "guarded".to_owned(), password, ..cluster.server() };
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let watcher = std::thread::spawn(move || {
        let mut samples = Vec::new();
        while !stopped.load(Ordering::Relaxed) {
            for entry in std::fs::read_dir("/proc").expect("processes").filter_map(Result::ok) {
                let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
                let seen = visible(pid);
                if seen.contains("--snapshot=") && seen.contains("PGUSER=guarded") {
                    samples.push(seen);
                }
            }
        }
        samples
    });
    let dumped = dump(&server, &db).await;
    stop.store(true, Ordering::Relaxed);
    let samples = watcher.join().expect("no panic");
    assert!(!samples.is_empty(), "pg_dump was never seen");
    assert!(samples.iter().all(|seen| !seen.contains("pass:word") && !seen.contains("word\\with")), "{samples:?}");
    assert!(dumped.parts.bytes(SCHEMA_PART).starts_with(b"PGDMP"));
    let wrong = Server { password: Some(Secret::new("wrong".to_owned())), ..server };
    let error = open_dump(&wrong, &db, &DumpOptions { ..options() }).await.expect_err("the password counts");
    assert!(!error.to_string().contains("word\\with"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_schema_keeps_its_stamp_and_is_dumped_once_in_a_run() {
    let cluster = Cluster::shared();
    let options = options();
    let mut stamps = Vec::new();
    let mut archives = Vec::new();
    for tenant in ["twin_a", "twin_b"] {
        let db = cluster.create_database(tenant);
        cluster.psql(&db, "create table t (i int); create function f() returns int language sql as 'select 1'");
        let open = open_dump(&cluster.server(), &db, &options).await.expect("open");
        if !archives.is_empty() {
            cluster.psql("postgres", &format!("alter database {db} allow_connections false"));
        }
        let mut sink = Recording::of(open.parts());
        open.read(1, &[0], &mut sink).await.expect("the second tenant's archive is the first one's");
        assert!(open.stamp_holds(0));
        stamps.push(open.parts()[0].stamp.expect("a stamp"));
        archives.push(sink.bytes(SCHEMA_PART));
    }
    assert_eq!(stamps[0], stamps[1]);
    assert_eq!(archives[0], archives[1]);
    let db = cluster.create_database("twin_c");
    cluster.psql(&db, "create table t (i int); create function f() returns int language sql as 'select 2'");
    let other = open_dump(&cluster.server(), &db, &options).await.expect("open");
    assert_ne!(other.parts()[0].stamp, Some(stamps[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_changes_while_it_is_dumped_does_not_keep_its_stamp() {
    let cluster = Cluster::shared();
    let db = cluster.create_database("moving");
    cluster.psql(&db, "create function f() returns int language sql as 'select 1'");
    let open = open_dump(&cluster.server(), &db, &options()).await.expect("open");
    cluster.psql(&db, "create or replace function f() returns int language sql as 'select 2'");
    let mut sink = Recording::of(open.parts());
    open.read(1, &[0], &mut sink).await.expect("read");
    assert!(!open.stamp_holds(0));
    Box::new(open).finish().await.expect("the dump itself is good");
}
