//! The moment of the swap: for those who are connected, those who connect, and those who kill.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use dbkeeper::engine::RestoreSession;
use dbkeeper::engine::postgres::restore::Mode;
use dbkeeper::sql::postgres::connect;
use tokio_postgres::error::SqlState;

use super::backup::{Backup, databases, fill, open, options, restore};
use crate::support::postgres::Cluster;

const CONTENT: &str = "create table t (a integer primary key); insert into t select generate_series(1, 100)";

async fn live_with_backup(cluster: &Cluster, stem: &str) -> (String, Backup) {
    let live = cluster.create_database(stem);
    cluster.psql(&live, CONTENT);
    let backup = Backup::take(cluster, &live).await;
    cluster.psql(&live, "delete from t; create table newer ()");
    (live, backup)
}

/// True where there was no database of this name. Those who stood in line while the name changed hands are told to come
/// again, with another detail.
fn is_missing(error: &tokio_postgres::Error) -> bool {
    let detail = error.as_db_error().and_then(|db| db.detail()).unwrap_or("");
    error.code() == Some(&SqlState::UNDEFINED_DATABASE) && !detail.contains("just been dropped or renamed")
}

#[tokio::test(flavor = "multi_thread")]
async fn reconnecting_clients_always_find_the_database_and_an_open_transaction_is_ended() {
    let cluster = Cluster::shared();
    let (live, backup) = live_with_backup(cluster, "busy").await;
    let server = cluster.server();
    let idler = connect(&server, &live).await.expect("connect");
    idler.batch_execute("begin; insert into t values (7)").await.expect("an open transaction");
    let stop = Arc::new(AtomicBool::new(false));
    let (logins, missing) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let address = format!("host=127.0.0.1 port={} user=postgres dbname={live}", server.port);
            let (stop, logins, missing) = (Arc::clone(&stop), Arc::clone(&logins), Arc::clone(&missing));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    match tokio_postgres::connect(&address, tokio_postgres::NoTls).await {
                        Ok((client, driver)) => {
                            let driver = tokio::spawn(driver);
                            logins.fetch_add(1, Ordering::Relaxed);
                            let _ = client.simple_query("select count(*) from t").await;
                            driver.abort();
                        }
                        Err(error) if is_missing(&error) => {
                            missing.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(_) => {}
                    }
                }
            })
        })
        .collect();
    let mut session = open(&server, &backup, options(&live, Mode::Swap)).await.expect("open");
    fill(&mut session, &backup).await.expect("fill");
    session.complete().await.expect("complete");
    assert_eq!(cluster.psql(&live, "select count(*) from t"), "0\n", "the live database is untouched so far");
    let published = session.publish().await.expect("publish");
    let before = logins.load(Ordering::Relaxed);
    while logins.load(Ordering::Relaxed) < before + 20 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("a client");
    }
    assert_eq!(missing.load(Ordering::Relaxed), 0);
    assert!(idler.simple_query("commit").await.is_err(), "the open transaction was ended");
    assert_eq!(published.name, live);
    assert_eq!(cluster.psql(&live, "select count(*) from t"), "100\n");
    let former = published.former.expect("a former database");
    assert!(former.starts_with(&format!("{live}__before_20260301T12")), "{former}");
    assert_eq!(cluster.psql(&former, "select count(*) from newer"), "0\n");
    let comment =
        "select shobj_description(oid, 'pg_database') is null from pg_database where datname = current_database()";
    assert_eq!(cluster.psql(&live, comment), "t\n", "the mark is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_before_the_publication_leaves_the_live_database_whole() {
    let cluster = Cluster::shared();
    let (live, backup) = live_with_backup(cluster, "killed").await;
    for stage in 0..3 {
        let mut session = open(&cluster.server(), &backup, options(&live, Mode::Swap)).await.expect("open");
        if stage > 0 {
            fill(&mut session, &backup).await.expect("fill");
        }
        if stage > 1 {
            session.complete().await.expect("complete");
        }
        drop(session);
        assert_eq!(cluster.psql(&live, "select (select count(*) from t), (select count(*) from newer)"), "0|0\n");
    }
    wait_for_sessions_to_end(cluster, &live).await;
    let published = restore(&cluster.server(), &backup, options(&live, Mode::Swap)).await.expect("restore");
    let dropped = published.notes.iter().filter(|note| note.contains("left by an earlier restore, was dropped"));
    assert!(dropped.count() >= 1, "{:?}", published.notes);
    assert_eq!(databases(cluster, &live), [live.clone(), published.former.expect("a former one")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn restores_within_one_second_keep_every_former_database() {
    let cluster = Cluster::shared();
    let (live, backup) = live_with_backup(cluster, "quick").await;
    let first = options(&live, Mode::Swap);
    let mut kept = vec![live.clone()];
    for _ in 0..3 {
        let mut again = options(&live, Mode::Swap);
        again.time = first.time;
        let published = restore(&cluster.server(), &backup, again).await.expect("restore");
        kept.push(published.former.expect("a former one"));
    }
    assert_eq!(databases(cluster, &live), kept);
}

async fn wait_for_sessions_to_end(cluster: &Cluster, stem: &str) {
    let query = format!("select count(*) from pg_stat_activity where starts_with(datname, '{stem}__restore')");
    while cluster.psql("postgres", &query) != "0\n" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_swap_the_restored_database_stays_beside_and_is_nobodys_leftover() {
    let cluster = Cluster::shared();
    let (live, backup) = live_with_backup(cluster, "beside").await;
    cluster.psql("postgres", &format!("comment on database {live} is 'mine'"));
    let backup_with_comment = Backup::take(cluster, &live).await;
    let published =
        restore(&cluster.server(), &backup_with_comment, options(&live, Mode::NoSwap)).await.expect("restore");
    assert!(published.name.starts_with(&format!("{live}__restore_")), "{}", published.name);
    assert_eq!(published.former, None);
    let comment = "select shobj_description(oid, 'pg_database') from pg_database where datname = current_database()";
    assert_eq!(cluster.psql(&published.name, comment), "mine\n");
    restore(&cluster.server(), &backup, options(&live, Mode::Swap)).await.expect("the next restore");
    assert!(databases(cluster, &live).contains(&published.name), "it was not removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_on_to_the_live_database_is_named_and_nothing_is_made() {
    let cluster = Cluster::start(&["wal_level=logical", "max_prepared_transactions=4"]);
    cluster.psql("postgres", "create database live template template0");
    cluster.psql("live", CONTENT);
    let backup = Backup::take(&cluster, "live").await;
    let refused = async |expected: &str| {
        let error = restore(&cluster.server(), &backup, options("live", Mode::Swap)).await.expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.hint().is_some());
        assert_eq!(databases(&cluster, "live"), ["live"]);
    };
    cluster.psql("live", "begin; insert into t values (0); prepare transaction 'waits'");
    refused("prepared transactions").await;
    cluster.psql("live", "rollback prepared 'waits'");
    cluster.psql("live", "select pg_create_logical_replication_slot('follows', 'test_decoding')");
    refused("replication slots").await;
    cluster.psql("live", "select pg_drop_replication_slot('follows')");
    cluster.psql("postgres", "alter database live allow_connections false");
    refused("does not accept connections").await;
    cluster.psql("postgres", "alter database live allow_connections true");
    restore(&cluster.server(), &backup, options("live", Mode::Swap)).await.expect("nothing is in the way now");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_into_the_way_during_the_restore_leaves_both_databases_as_they_were() {
    let cluster = Cluster::start(&["max_prepared_transactions=4"]);
    cluster.psql("postgres", "create database live template template0");
    cluster.psql("live", CONTENT);
    let backup = Backup::take(&cluster, "live").await;
    let mut session = open(&cluster.server(), &backup, options("live", Mode::Swap)).await.expect("open");
    fill(&mut session, &backup).await.expect("fill");
    session.complete().await.expect("complete");
    let work = session.work_name().to_owned();
    cluster.psql("live", "begin; insert into t values (0); prepare transaction 'waits'");
    let error = session.publish().await.expect_err("a prepared transaction");
    assert!(error.to_string().contains("prepared transactions"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains(&work)), "{:?}", error.hint());
    assert_eq!(databases(&cluster, "live"), ["live".to_owned(), work]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_database_never_replaces_one() {
    let cluster = Cluster::shared();
    let (live, backup) = live_with_backup(cluster, "taken").await;
    let error = restore(&cluster.server(), &backup, options(&live, Mode::AsNew)).await.expect_err("the name is taken");
    assert!(error.to_string().contains("there is a database of this name"), "{error}");
    let late = format!("{live}_late");
    let mut session = open(&cluster.server(), &backup, options(&late, Mode::AsNew)).await.expect("open");
    fill(&mut session, &backup).await.expect("fill");
    session.complete().await.expect("complete");
    cluster.psql("postgres", &format!("create database {late} template template0"));
    session.publish().await.expect_err("the name was taken meanwhile");
    assert_eq!(cluster.psql(&late, "select to_regclass('t') is null"), "t\n", "it is the other one's");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_restores_of_one_destination_do_not_run_at_the_same_time() {
    let cluster = Cluster::shared();
    let (live, backup) = live_with_backup(cluster, "twice").await;
    let first = open(&cluster.server(), &backup, options(&live, Mode::Swap)).await.expect("open");
    let error = open(&cluster.server(), &backup, options(&live, Mode::Swap)).await.expect_err("one is enough");
    assert!(error.to_string().contains("another restore of it is running"), "{error}");
    first.abandon().await.expect("abandon");
    assert_eq!(databases(cluster, &live), [live]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_the_restorer_may_not_end_is_an_error_and_the_live_database_stays() {
    let cluster = Cluster::start(&[]);
    cluster.psql("postgres", "create role restorer login createdb");
    cluster.psql("postgres", "create database live template template0 owner restorer");
    cluster.psql(
        "live",
        "set role restorer; create schema own; create table own.t (a integer); insert into own.t values (1)",
    );
    let backup = Backup::take(&cluster, "live").await;
    let mut server = cluster.server();
    let superuser = connect(&server, "live").await.expect("connect");
    server.user = "restorer".to_owned();
    let mut session = open(&server, &backup, options("live", Mode::Swap)).await.expect("open");
    fill(&mut session, &backup).await.expect("fill");
    session.complete().await.expect("complete");
    let error = session.publish().await.expect_err("a superuser is connected");
    assert!(error.to_string().contains("end the sessions of database \"live\""), "{error}");
    assert!(superuser.simple_query("table own.t").await.is_ok(), "the session goes on");
    drop(superuser);
    let published = restore(&server, &backup, options("live", Mode::Swap)).await.expect("nobody is in the way");
    assert!(published.notes.iter().any(|note| note.contains("was dropped")), "{:?}", published.notes);
}
