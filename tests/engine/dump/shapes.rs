//! Tables of every shape: what is read of them, and what is not.

use super::dump;
use crate::support::postgres::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_gives_its_own_rows_and_not_those_of_its_children() {
    let cluster = Cluster::shared();
    let db = cluster.create_database("inherited");
    cluster.psql(
        &db,
        "create table parent (i int, fill text); create table child (j int) inherits (parent);
         insert into parent select i, repeat('x', 500) from generate_series(1, 400) i; insert into child values (2, 'b', 3);
         alter table parent add late int",
    );
    let dumped = dump(&cluster.server(), &db).await;
    assert!(dumped.relation("parent").pieces > 1);
    assert_eq!(dumped.rows("parent").len(), 400);
    assert_eq!(dumped.rows("child"), ["2\tb\t3\t\\N"]);
    assert_eq!(dumped.relation("child").columns, ["i", "fill", "j", "late"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_and_dropped_columns_are_left_out_and_identity_columns_are_kept() {
    let cluster = Cluster::shared();
    let db = cluster.create_database("columns");
    cluster.psql(
        &db,
        "create table g (a int, gone int, twice int generated always as (a * 2) stored, id int generated always as identity);
         alter table g drop column gone; insert into g (a) values (5), (6);",
    );
    let dumped = dump(&cluster.server(), &db).await;
    assert_eq!(dumped.relation("g").columns, ["a", "id"]);
    assert_eq!(dumped.rows("g"), ["5\t1", "6\t2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_without_a_stored_column_are_counted_as_empty_lines() {
    let cluster = Cluster::shared();
    let db = cluster.create_database("zero");
    cluster.psql(
        &db,
        "create table zero (); insert into zero default values; insert into zero default values;
         create table derived (d int generated always as (1 + 1) stored); insert into derived default values;
         create table many (); insert into many select from generate_series(1, 20000);",
    );
    let dumped = dump(&cluster.server(), &db).await;
    assert_eq!(dumped.raw_rows("zero"), [b"\n", b"\n"]);
    assert_eq!(dumped.raw_rows("derived"), [b"\n"]);
    assert!(dumped.relation("zero").columns.is_empty() && dumped.relation("derived").columns.is_empty());
    assert!(dumped.relation("many").pieces > 1);
    assert_eq!(dumped.raw_rows("many").len(), 20000);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_tables_with_rows_of_their_own_are_read() {
    let cluster = Cluster::shared();
    let db = cluster.create_database("kinds");
    cluster.psql(
        &db,
        "create table parted (i int) partition by range (i);
         create table sub partition of parted for values from (0) to (10) partition by list (i);
         create table leaf partition of sub for values in (1, 2); insert into parted values (1), (2);
         create view v as select 1 as i; create materialized view m as select 1 as i;
         create table empty (i int); create unlogged table unlogged as select 7 as i;
         create extension if not exists postgres_fdw; create server s foreign data wrapper postgres_fdw;
         create foreign table f (i int) server s; insert into empty select 1 where false;",
    );
    let session = dbkeeper::sql::postgres::connect(&cluster.server(), &db).await.expect("log in");
    session.batch_execute("create temp table fleeting as select 1 as i").await.expect("a temporary table");
    let dumped = dump(&cluster.server(), &db).await;
    let mut names: Vec<&str> = dumped.details.relations.iter().map(|relation| relation.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["empty", "leaf", "unlogged"]);
    assert_eq!(dumped.rows("leaf"), ["1", "2"]);
    assert_eq!(dumped.rows("unlogged"), ["7"]);
    assert_eq!(dumped.relation("unlogged").persistence, "u");
    assert_eq!(dumped.relation("empty").pieces, 0, "an empty table has no part");
    assert_eq!(dumped.relation("leaf").load_through, None);
    assert!(dumped.notes.iter().any(|note| note.contains("1 foreign tables")), "{:?}", dumped.notes);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_are_hashed_by_an_enum_load_through_their_root() {
    let cluster = Cluster::shared();
    let db = cluster.create_database("hashed");
    cluster.psql(
        &db,
        "create type colour as enum ('red', 'green', 'blue');
         create table root (c colour, i int) partition by list (i);
         create table middle partition of root for values in (1) partition by hash (c);
         create table l0 partition of middle for values with (modulus 2, remainder 0);
         create table l1 partition of middle for values with (modulus 2, remainder 1);
         create table direct partition of root for values in (2);
         insert into root select c, 1 from unnest(enum_range(null::colour)) c;",
    );
    let dumped = dump(&cluster.server(), &db).await;
    let root = Some(("public".to_owned(), "root".to_owned()));
    assert_eq!(dumped.relation("l0").load_through, root);
    assert_eq!(dumped.relation("l1").load_through, root);
    assert_eq!(dumped.relation("direct").load_through, None);
    assert_eq!(dumped.rows("l0").len() + dumped.rows("l1").len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extensions_tables_are_read_only_as_far_as_it_declares_rows_of_the_user() {
    let cluster = Cluster::shared();
    let db = cluster.create_database("extended");
    // Any extension will do: its member tables and their conditions are catalog rows.
    cluster.psql(
        &db,
        "create table internal as select 1 as i;
         create table kinds (id int primary key, builtin bool); insert into kinds values (1, true), (2, false);
         create table rules (id int primary key, kind int references kinds); insert into rules values (9, 2);
         create sequence numbers; create sequence private;
         alter extension plpgsql add table internal; alter extension plpgsql add table kinds;
         alter extension plpgsql add table rules; alter extension plpgsql add sequence numbers;
         alter extension plpgsql add sequence private; set allow_system_table_mods = on;
         update pg_extension set extconfig = array['rules'::regclass, 'kinds'::regclass, 'numbers'::regclass]::oid[],
           extcondition = array['', 'WHERE NOT builtin', ''] where extname = 'plpgsql';",
    );
    let dumped = dump(&cluster.server(), &db).await;
    assert!(!dumped.has("internal"));
    assert_eq!(dumped.rows("kinds"), ["2\tf"]);
    assert_eq!(dumped.rows("rules"), ["9\t2"]);
    assert!(dumped.relation("kinds").extension_config);
    assert_eq!((dumped.relation("kinds").load_stage, dumped.relation("rules").load_stage), (1, 2));
    let sequences: Vec<&str> = dumped.details.sequences.iter().map(|sequence| sequence.name.as_str()).collect();
    assert_eq!(sequences, ["numbers"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_names_are_read_like_any_other() {
    let cluster = Cluster::shared();
    let db = cluster.create_database("odd");
    let names = [
        "quo\"te",
        "new\nline",
        "tab\there",
        "\u{e9}\u{4e2d}\u{1f600}",
        "select",
        "a.b",
        "back\\slash",
        " ",
        "'; drop",
    ];
    let long = "l".repeat(63);
    for name in names.iter().copied().chain([long.as_str()]) {
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        cluster.psql(
            &db,
            &format!(
                "create schema {quoted}; create table {quoted}.{quoted} ({quoted} int, x text);
                 insert into {quoted}.{quoted} select i, repeat('x', 900) from generate_series(1, 100) i;
                 create sequence {quoted}.s;"
            ),
        );
    }
    let dumped = dump(&cluster.server(), &db).await;
    for name in names.iter().copied().chain([long.as_str()]) {
        let relation = dumped.relation(name);
        assert_eq!((relation.schema.as_str(), relation.columns[0].as_str()), (name, name));
        assert!(relation.pieces > 1);
        assert_eq!(dumped.rows(name).len(), 100, "{name:?}");
        assert!(dumped.details.sequences.iter().any(|sequence| sequence.schema == name));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_with_an_odd_name_is_dumped_with_its_schema() {
    let cluster = Cluster::shared();
    for name in ["odd = 'na\"me\\", "postgres://x", "\u{e9}t\u{e9}"] {
        cluster.psql("postgres", &format!("create database \"{}\" template template0", name.replace('"', "\"\"")));
        let dumped = dump(&cluster.server(), name).await;
        assert_eq!(dumped.details.database.name, name);
        assert!(dumped.parts.bytes("schema").starts_with(b"PGDMP"));
    }
}
