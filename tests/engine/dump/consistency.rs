//! The view is of one moment, and of the tables that it says it is of, whatever others do meanwhile.

use std::io::Write;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dbkeeper::base::class::Class;
use dbkeeper::engine::postgres::dump::open_dump;
use dbkeeper::engine::{DumpSession, SCHEMA_PART};

use super::recording::Recording;
use super::{dump, dump_with, options, read_all};
use crate::support::postgres::Cluster;

/// A session that repeats a script until it is dropped.
struct Storm {
    stop: Arc<AtomicBool>,
    psql: Child,
    writer: Option<std::thread::JoinHandle<()>>,
}

impl Storm {
    fn start(cluster: &Cluster, database: &str, script: &str) -> Self {
        let mut command = std::process::Command::new(cluster.bin.join("psql"));
        command.args(["-XAtq", "-U", "postgres", "-h"]).arg(&cluster.folder);
        command.args(["-p", &cluster.port.to_string(), "-d", database, "-f", "-"]);
        let mut psql =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("run psql");
        let mut stdin = psql.stdin.take().expect("its standard input");
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, script) = (Arc::clone(&stop), format!("{script}\n"));
        let writer =
            std::thread::spawn(
                move || {
                    while !stopped.load(Ordering::Relaxed) && stdin.write_all(script.as_bytes()).is_ok() {}
                },
            );
        Self { stop, psql, writer: Some(writer) }
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.psql.kill();
        let _ = self.psql.wait();
        let _ = self.writer.take().map(std::thread::JoinHandle::join);
    }
}

/// Waits until a query answers `t`.
fn wait_until(cluster: &Cluster, database: &str, query: &str) {
    for _ in 0..600 {
        if cluster.psql(database, query).trim() == "t" {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("never true: {query}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sum_that_writers_keep_is_kept_across_tables_pieces_and_lanes() {
    let cluster = Cluster::shared();
    let db = cluster.create_database("sum");
    cluster.psql(
        &db,
        "create table a as select i, 100 as money, repeat('x', 200) as fill from generate_series(1, 4000) i;
         create table b as select i, 100 as money, repeat('x', 200) as fill from generate_series(1, 4000) i;",
    );
    cluster.psql(&db, "create index on a (i); create index on b (i)");
    let transfer = "do $$ declare r tid := (select ctid from a where i = 1 + floor(random() * 4000) limit 1);
          s tid := (select ctid from b where i = 1 + floor(random() * 4000) limit 1);
        begin
          update a set money = money - 7 where ctid = r;
          if found then
            update b set money = money + 7 where ctid = s;
            if not found then raise exception 'nobody to give to'; end if;
          end if;
          with gone as (delete from b where ctid = (select ctid from b where i = 1 + floor(random() * 4000) limit 1) returning *)
          insert into a select * from gone;
        end $$;";
    let storms: Vec<Storm> = (0..2).map(|_| Storm::start(cluster, &db, transfer)).collect();
    let mut states = std::collections::HashSet::new();
    for _ in 0..5 {
        let dumped = dump(&cluster.server(), &db).await;
        assert!(dumped.relation("a").pieces > 3, "the table is cut");
        let mut rows = dumped.rows("a");
        rows.extend(dumped.rows("b"));
        assert_eq!(rows.len(), 8000);
        let money = rows.iter().map(|row| row.split('\t').nth(1).expect("money").parse::<i64>().expect("a number"));
        assert_eq!(money.sum::<i64>(), 800_000);
        states.insert(rows.join("\n"));
    }
    drop(storms);
    assert!(states.len() > 1, "nobody wrote meanwhile");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_truncated_and_filled_again_all_the_time_is_never_empty() {
    let cluster = Cluster::shared();
    let db = cluster.create_database("truncated");
    cluster.psql(
        &db,
        "create sequence g; create table t as select nextval('g') * 0 as g, i from generate_series(1, 100) i",
    );
    let script =
        "begin; truncate t; insert into t select (select nextval('g')), i from generate_series(1, 100) i; commit;";
    let _storm = Storm::start(cluster, &db, script);
    let mut generations = std::collections::HashSet::new();
    for _ in 0..25 {
        let dumped = dump_without_schema(cluster, &db).await;
        let rows = dumped.rows("t");
        assert_eq!(rows.len(), 100);
        let seen: std::collections::HashSet<&str> = rows.iter().map(|row| row.split('\t').next().expect("g")).collect();
        assert_eq!(seen.len(), 1, "rows of two generations");
        generations.extend(seen.into_iter().map(str::to_owned));
    }
    assert!(generations.len() > 1, "nobody truncated meanwhile");
}

/// Only the rows: quick, so that many dumps meet the storm.
async fn dump_without_schema(cluster: &Cluster, db: &str) -> super::Dumped {
    let dump = open_dump(&cluster.server(), db, &options()).await;
    let dump = dump.unwrap_or_else(|error| panic!("{error}; {:?}", error.hint()));
    let rows: Vec<usize> = (0..dump.parts().len()).filter(|part| dump.parts()[*part].name != SCHEMA_PART).collect();
    let mut sink = Recording::of(dump.parts());
    dump.read(1, &rows, &mut sink).await.expect("read");
    let description = Box::new(dump).finish().await.expect("finish");
    let details = serde_json::from_value(description.details).expect("details");
    super::Dumped { parts: Recording::together(vec![sink]), details, notes: description.notes }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_rewritten_all_the_time_is_read_whole() {
    let cluster = Cluster::shared();
    let db = cluster.create_database("rewritten");
    cluster.psql(&db, "create table t as select i, i as j from generate_series(1, 500) i");
    let _storm =
        Storm::start(cluster, &db, "alter table t alter j type bigint; alter table t alter j type int; vacuum full t;");
    for _ in 0..15 {
        let rows = dump_without_schema(cluster, &db).await.rows("t");
        assert_eq!(rows.len(), 500);
        assert_eq!(rows[499], "500\t500");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_swap_their_names_all_the_time_are_not_taken_for_each_other() {
    let cluster = Cluster::shared();
    let db = cluster.create_database("swapped");
    let oids = cluster.psql(
        &db,
        "create table x as select 'first' as who; create table y as select 'second' as who;
         select 'x'::regclass::oid; select 'y'::regclass::oid",
    );
    let oids: Vec<u32> = oids.lines().map(|line| line.parse().expect("an OID")).collect();
    let script = "begin; alter table x rename to z; alter table y rename to x; alter table z rename to y; commit;";
    let _storm = Storm::start(cluster, &db, script);
    let mut names = std::collections::HashSet::new();
    for _ in 0..25 {
        let dumped = dump_without_schema(cluster, &db).await;
        for (name, other) in [("x", "y"), ("y", "x")] {
            let relation = dumped.relation(name);
            let expected = if relation.id == oids[0] { "first" } else { "second" };
            assert_eq!(dumped.rows(name), [expected]);
            assert_ne!(relation.id, dumped.relation(other).id);
        }
        names.insert(dumped.relation("x").id);
    }
    assert_eq!(names.len(), 2, "nobody swapped meanwhile");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_definitions_does_not_stop_a_dump_nor_tear_it() {
    let cluster = Cluster::shared();
    let db = cluster.create_database("storm");
    cluster.psql(&db, "create table kept as select i from generate_series(1, 300) i");
    let script = |name: &str| {
        format!(
            "create table {name} (a serial, b int); insert into {name} (b) values (1); alter table {name} rename to {name}_2;
             alter table {name}_2 add c text default 'c'; alter table {name}_2 drop b; drop table {name}_2;"
        )
    };
    let _storms = [Storm::start(cluster, &db, &script("s")), Storm::start(cluster, &db, &script("t"))];
    for _ in 0..10 {
        let dumped = dump_without_schema(cluster, &db).await;
        assert_eq!(dumped.rows("kept").len(), 300);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_waits_behind_the_dump_does_not_stop_its_lanes() {
    let cluster = Cluster::shared();
    let db = cluster.create_database("queued");
    cluster.psql(&db, "create table t as select i from generate_series(1, 100) i; create table u as select 1 as i");
    let open = open_dump(&cluster.server(), &db, &options()).await.expect("open");
    let (name, port, socket) = (db.clone(), cluster.port, cluster.folder.clone());
    let psql = cluster.bin.join("psql");
    let waiting = std::thread::spawn(move || {
        let mut command = std::process::Command::new(psql);
        command.args(["-Xq", "-U", "postgres", "-h"]).arg(socket).args(["-p", &port.to_string(), "-d", &name]);
        command.args(["-c", "alter table t add late int"]).status().expect("run psql").success()
    });
    wait_until(cluster, &db, "select exists (select from pg_locks where relation = 't'::regclass and not granted)");
    let rows: Vec<usize> = (0..open.parts().len()).filter(|part| open.parts()[*part].name != SCHEMA_PART).collect();
    let mut sink = Recording::of(open.parts());
    open.read(1, &rows, &mut sink).await.expect("the coordinator holds the lock and reads it");
    let table = open.parts()[rows[0]].name.clone();
    assert_eq!(sink.pieces(&table).len(), 100);
    Box::new(open).finish().await.expect("finish");
    assert!(waiting.join().expect("no panic"), "the change goes on afterwards");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_held_for_long_is_an_error_that_names_its_holder() {
    let cluster = Cluster::shared();
    let db = cluster.create_database("blocked");
    cluster.psql(&db, "create table t (i int)");
    let holder = dbkeeper::sql::postgres::connect(&cluster.server(), &db).await.expect("log in");
    holder.batch_execute("begin; lock table t in access exclusive mode").await.expect("lock");
    let pid: i32 = holder.query_one("select pg_backend_pid()", &[]).await.expect("ask").get(0);
    let hasty = super::DumpOptions { lock_timeout: Duration::from_millis(300), ..options() };
    let error = dump_with(&cluster.server(), &db, &hasty).await.expect_err("locked");
    assert_eq!(error.class(), Class::Transient);
    let text = error.to_string();
    assert!(text.contains(&format!("\"public\".\"t\" is locked by process {pid} (role \"postgres\"")), "{text}");
    assert!(error.hint().is_some_and(|hint| hint.contains(&format!("pg_terminate_backend({pid})"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_whose_session_was_ended_is_an_error_and_no_description() {
    let cluster = Cluster::shared();
    let db = cluster.create_database("ended");
    cluster.psql(&db, "create table t as select 1 as i");
    let end = format!(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{db}' and application_name = 'dbkeeper'"
    );
    let open = open_dump(&cluster.server(), &db, &options()).await.expect("open");
    cluster.psql("postgres", &end);
    let error = Box::new(open).finish().await.expect_err("the view has not lasted");
    assert_eq!(error.class(), Class::Transient, "{error}");

    let open = open_dump(&cluster.server(), &db, &options()).await.expect("open");
    cluster.psql("postgres", &end);
    wait_until(cluster, "postgres", &format!("select not exists ({end})"));
    let mut sink = Recording::of(open.parts());
    let error = open.read(1, &[1], &mut sink).await.expect_err("the snapshot has gone");
    assert_eq!(error.class(), Class::Transient, "{error}");
    assert!(read_all(open).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_the_server_ends_in_the_middle_is_an_error_and_may_be_tried_again() {
    let cluster = Cluster::shared();
    let db = cluster.create_database("killed");
    cluster.psql(&db, "create table t as select i, repeat('x', 1000) as x from generate_series(1, 40000) i");
    let whole = super::DumpOptions { split_bytes: u64::MAX, ..options() };
    let open = open_dump(&cluster.server(), &db, &whole).await.expect("open");
    let mut sink = Killing { cluster, db: db.clone(), pushed: 0 };
    let error = open.read(1, &[1], &mut sink).await.expect_err("killed");
    assert_eq!(error.class(), Class::Transient);
    // A server whose output is not being read cannot say why it goes.
    let words =
        ["terminating connection due to administrator command", "connection closed", "communicating with the server"];
    assert!(words.iter().any(|word| error.to_string().contains(word)), "{error}");
}

/// Ends the reading session after some rows.
struct Killing {
    cluster: &'static Cluster,
    db: String,
    pushed: u64,
}

#[async_trait::async_trait]
impl dbkeeper::engine::PartSink for Killing {
    async fn begin(&mut self, _part: usize) -> Result<(), dbkeeper::engine::Downstream> {
        Ok(())
    }

    fn push(&mut self, _piece: &[u8]) -> bool {
        self.pushed += 1;
        self.pushed == 10
    }

    async fn drain(&mut self) -> Result<(), dbkeeper::engine::Downstream> {
        let end = "select pg_terminate_backend(pid) from pg_stat_activity where query like 'COPY%' and datname = ";
        self.cluster.psql("postgres", &format!("{end}'{}'", self.db));
        Ok(())
    }

    async fn end(&mut self, _rows: Option<u64>) -> Result<(), dbkeeper::engine::Downstream> {
        panic!("a part that was cut off has no end");
    }
}
