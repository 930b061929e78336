//! A restore that fails on the way: what is said, and that nothing is left.

use bytes::Bytes;
use dbkeeper::base::class::Class;
use dbkeeper::engine::postgres::restore::Mode;
use dbkeeper::engine::{RestoreSession, SCHEMA_PART};

use super::backup::{Backup, databases, open, options, restore};
use crate::support::postgres::Cluster;

async fn backup_of(cluster: &Cluster, stem: &str, content: &str) -> (String, Backup) {
    let live = cluster.create_database(stem);
    cluster.psql(&live, content);
    let backup = Backup::take(cluster, &live).await;
    (live, backup)
}

/// Restores a changed backup, which must fail with these words and leave only the live database.
async fn check_failure(stem: &str, content: &str, change: impl FnOnce(&mut Backup), expected: &str) {
    let cluster = Cluster::shared();
    let (live, mut backup) = backup_of(cluster, stem, content).await;
    change(&mut backup);
    let error = restore(&cluster.server(), &backup, options(&live, Mode::Swap)).await.expect_err(expected);
    assert!(error.to_string().contains(expected), "{error}");
    assert_eq!(databases(cluster, &live), [live], "{expected}");
}

fn replace_rows(backup: &mut Backup, row: &str) {
    let rows = backup.parts.iter_mut().find(|(name, _)| name.starts_with("table:")).expect("a table");
    *rows.1 = row.split_inclusive('\n').map(|line| Bytes::copy_from_slice(line.as_bytes())).collect();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_the_table_refuses_names_the_table_and_not_the_row() {
    let content =
        "create table people (name text check (name <> 'x'), age integer); insert into people values ('a', 1)";
    check_failure("row", content, |backup| replace_rows(backup, "secret\n"), "load table public.people").await;
    check_failure("violates", content, |backup| replace_rows(backup, "x\t1\n"), "people_name_check").await;
    let cluster = Cluster::shared();
    let (live, mut backup) = backup_of(cluster, "silent", content).await;
    replace_rows(&mut backup, "secret value\n");
    let error = restore(&cluster.server(), &backup, options(&live, Mode::Swap)).await.expect_err("a short row");
    assert!(!error.to_string().contains("secret value"), "{error}");
    assert!(error.to_string().contains("line 1"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_constraint_that_the_rows_break_is_named_and_the_live_database_untouched() {
    let content = "create table numbers (n integer constraint no_twice unique); insert into numbers values (1)";
    check_failure("unique", content, |backup| replace_rows(backup, "5\n5\n"), "no_twice").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_schema_is_refused_before_anything_is_made() {
    let damage = |backup: &mut Backup| *backup.parts.get_mut(SCHEMA_PART).expect("a schema") = vec![Bytes::from("PG")];
    check_failure("damaged", "create table t ()", damage, "archive").await;
    let cut = |backup: &mut Backup| {
        let whole: Vec<u8> = backup.parts[SCHEMA_PART].concat();
        backup.parts.insert(SCHEMA_PART.to_owned(), vec![Bytes::copy_from_slice(&whole[..whole.len() / 2])]);
    };
    check_failure("cut", "create table t ()", cut, "pg_restore").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_breaks_off_takes_the_rows_before_it_with_it() {
    let cluster = Cluster::shared();
    let (live, backup) = backup_of(cluster, "broken", "create table t (a integer); insert into t values (1)").await;
    let mut session = open(&cluster.server(), &backup, options(&live, Mode::Swap)).await.expect("open");
    session.prepare(&mut backup.source(SCHEMA_PART)).await.expect("prepare");
    let part = backup.parts.keys().find(|name| name.starts_with("table:")).expect("a table").clone();
    let mut source = backup.source(&part);
    source.then_fail = true;
    let error = session.load(0, &part, &mut source).await.expect_err("a damaged chunk");
    assert_eq!(error.class(), Class::Corrupt);
    assert_eq!(cluster.psql(session.work_name(), "select count(*) from t"), "0\n");
    assert_eq!(session.load(0, &part, &mut backup.source(&part)).await.expect("the lane still works"), 1);
    session.load(1, "table:1", &mut backup.source(&part)).await.expect_err("no such part");
    session.abandon().await.expect("abandon");
    assert_eq!(databases(cluster, &live), [live]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_newer_server_or_of_a_newer_pg_dump_is_refused() {
    let newer = |backup: &mut Backup| backup.change(|details| details.server_version_num += 10_000 * 20);
    check_failure("newer", "", newer, "the destination server is").await;
    let newer = |backup: &mut Backup| backup.change(|details| details.pg_dump_version = "99.1".to_owned());
    check_failure("newer_dump", "", newer, "pg_dump 99").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locale_that_the_server_lacks_is_refused_and_a_tablespace_is_replaced() {
    let unknown = |backup: &mut Backup| backup.change(|details| details.database.collate = "tlh_QO.UTF-8".to_owned());
    check_failure("locale", "", unknown, "tlh_QO.UTF-8").await;
    let unknown = |backup: &mut Backup| backup.change(|details| details.database.encoding = "EBCDIC".to_owned());
    check_failure("encoding", "", unknown, "EBCDIC").await;
    let unknown = |backup: &mut Backup| backup.change(|details| details.lc_monetary = "tlh_QO.UTF-8".to_owned());
    check_failure("money", "create table prices (p money); insert into prices values (1)", unknown, "lc_monetary")
        .await;
    let cluster = Cluster::shared();
    let (live, mut backup) = backup_of(cluster, "tablespace", "create table t ()").await;
    backup.change(|details| {
        details.database.tablespace = "far_away".to_owned();
        details.lc_monetary = "tlh_QO.UTF-8".to_owned();
    });
    let published = restore(&cluster.server(), &backup, options(&live, Mode::Swap)).await.expect("restore");
    assert!(published.notes.iter().any(|note| note.contains("far_away")), "{:?}", published.notes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_after_the_load_leaves_nothing_and_the_lanes_are_free_again() {
    let cluster = Cluster::shared();
    let (live, mut backup) =
        backup_of(cluster, "late", "create table t (a integer unique); insert into t values (1)").await;
    replace_rows(&mut backup, "1\n1\n");
    let mut session = open(&cluster.server(), &backup, options(&live, Mode::Swap)).await.expect("open");
    let part = backup.parts.keys().find(|name| name.starts_with("table:")).expect("a table").clone();
    session.prepare(&mut backup.source(SCHEMA_PART)).await.expect("prepare");
    assert_eq!(session.load(0, &part, &mut backup.source(&part)).await.expect("load"), 2);
    let error = session.complete().await.expect_err("not unique");
    assert!(error.to_string().contains("t_a_key"), "{error}");
    assert!(!error.to_string().contains("(1)"), "no value of a row: {error}");
    session.abandon().await.expect("abandon");
    assert_eq!(databases(cluster, &live), [live]);
}
