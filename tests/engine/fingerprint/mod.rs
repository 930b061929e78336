//! The fingerprint of a schema: it changes whenever `pg_dump` would print something else, and not for what a dump does not
//! say.

use std::sync::OnceLock;

use dbkeeper::engine::postgres::fingerprint::fingerprint;
use dbkeeper::sql::postgres::{Connection, connect, reason};

use crate::support::postgres::Cluster;

mod changes;
mod schema;

/// A database with the whole schema of [`schema`].
fn database(stem: &str) -> String {
    let cluster = Cluster::shared();
    let database = cluster.create_database(stem);
    roles(cluster);
    for piece in schema::BASE {
        cluster.psql(&database, piece);
    }
    database
}

fn roles(cluster: &Cluster) {
    static ROLES: OnceLock<()> = OnceLock::new();
    ROLES.get_or_init(|| drop(cluster.psql("postgres", schema::ROLES)));
}

async fn open(database: &str) -> Connection {
    connect(&Cluster::shared().server(), database).await.expect("a connection")
}

/// Within the transaction that is open, whatever it is.
async fn take(client: &Connection) -> [u8; 32] {
    let version: String = client.query_one("SHOW server_version_num", &[]).await.expect("a version").get(0);
    let found = fingerprint(client, version.parse().expect("a number")).await.expect("a fingerprint");
    found.expect("a database like any other")
}

async fn take_alone(client: &Connection) -> [u8; 32] {
    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.expect("begin");
    let found = take(client).await;
    client.batch_execute("COMMIT").await.expect("commit");
    found
}

/// What `pg_dump` says of the schema, without the random token of each run.
fn dump(database: &str) -> String {
    let text = Cluster::shared().client("pg_dump", &["--section=pre-data", "--section=post-data", database]);
    let text = String::from_utf8(text).expect("text");
    text.lines().filter(|line| !line.contains("restrict ")).map(|line| format!("{line}\n")).collect()
}

/// What each change does to the fingerprint is seen in a transaction that is then rolled back.
async fn check_each_changes(database: &str, changes: &[&str]) {
    let client = open(database).await;
    client.batch_execute("BEGIN").await.expect("begin");
    let base = take(&client).await;
    let mut problems = Vec::new();
    for change in changes {
        client.batch_execute("SAVEPOINT base").await.expect("a savepoint");
        match client.batch_execute(change).await {
            Err(error) => problems.push(format!("{change}: {}", reason(&error))),
            Ok(()) if take(&client).await == base => problems.push(format!("{change}: the fingerprint stays")),
            Ok(()) => {}
        }
        client.batch_execute("ROLLBACK TO base; RELEASE base").await.expect("a rollback");
    }
    assert!(problems.is_empty(), "{problems:#?}");
    assert_eq!(take(&client).await, base, "all changes are rolled back");
}

#[tokio::test]
async fn the_first_object_of_each_kind_changes_the_fingerprint() {
    roles(Cluster::shared());
    check_each_changes(&Cluster::shared().create_database("fingerprint_first"), changes::FIRST).await;
}

#[tokio::test]
async fn each_change_of_a_table_changes_the_fingerprint() {
    check_each_changes(&database("fingerprint_tables"), changes::TABLES).await;
}

#[tokio::test]
async fn each_other_change_changes_the_fingerprint() {
    check_each_changes(&database("fingerprint_others"), changes::OTHERS).await;
}

/// Where the fingerprint stays, so must the dump: what is said here is said by `pg_dump` itself.
#[tokio::test]
async fn what_no_dump_says_changes_neither_the_fingerprint_nor_the_dump() {
    let cluster = Cluster::shared();
    let database = database("fingerprint_harmless");
    let client = open(&database).await;
    let base = take_alone(&client).await;
    let printed = dump(&database);
    for change in changes::HARMLESS {
        client.batch_execute(change).await.unwrap_or_else(|error| panic!("{change}: {}", reason(&error)));
        assert_eq!(take_alone(&client).await, base, "the fingerprint must stay: {change}");
    }
    let elsewhere = cluster.create_database("fingerprint_elsewhere");
    cluster.psql(&elsewhere, schema::BASE[0]);
    cluster.psql(
        &elsewhere,
        "CREATE SUBSCRIPTION s CONNECTION 'host=nowhere' PUBLICATION p WITH (connect = false, slot_name = NONE)",
    );
    let other_session = open(&database).await;
    other_session.batch_execute("CREATE TEMP TABLE t (a int); COMMENT ON TABLE t IS 't'").await.expect("temporary");
    assert_eq!(take_alone(&client).await, base, "other sessions and databases");
    assert_eq!(dump(&database), printed);
}

#[tokio::test]
async fn databases_made_in_another_order_have_the_same_fingerprint_where_they_have_the_same_dump() {
    let cluster = Cluster::shared();
    let one = database("fingerprint_order");
    let two = cluster.create_database("fingerprint_order");
    let offset: String = (0..40).map(|n| format!("CREATE TABLE filler_{n} (a int); DROP TABLE filler_{n};")).collect();
    cluster.psql(&two, &offset);
    let [types, functions, tables, related, operators, outside] = schema::BASE;
    let tables = tables.replace("gone int, ", "").replace("ALTER TABLE parent DROP COLUMN gone;", "");
    assert!(!tables.contains("gone"));
    for piece in [types, operators, functions, &tables, outside, related] {
        cluster.psql(&two, piece);
    }
    cluster.psql(&two, "ALTER TABLE loose ADD COLUMN gone int, ADD c int; ALTER TABLE loose DROP COLUMN gone");
    cluster.psql(&one, "ALTER TABLE loose ADD c int");
    assert_eq!(take_alone(&open(&one).await).await, take_alone(&open(&two).await).await);
    let lines = |database: &str| {
        let mut lines: Vec<String> = dump(database).lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    assert_eq!(lines(&one), lines(&two));
}

#[tokio::test]
async fn a_role_that_may_only_read_has_a_fingerprint_too() {
    let database = database("fingerprint_reader");
    let mut server = Cluster::shared().server();
    server.user = "fingerprint_reader".to_owned();
    let reader = connect(&server, &database).await.expect("a connection");
    let base = take_alone(&reader).await;
    assert_eq!(take_alone(&reader).await, base);
    open(&database).await.batch_execute("COMMENT ON TABLE child IS 'read me'").await.expect("a change");
    assert_ne!(take_alone(&reader).await, base);
}

#[tokio::test]
async fn the_settings_of_the_session_neither_count_nor_change() {
    let client = open(&database("fingerprint_settings")).await;
    let base = take_alone(&client).await;
    let settings =
        "SET search_path TO other, public; SET extra_float_digits TO 0; SET datestyle TO 'German'; SET jit TO on";
    client.batch_execute(settings).await.expect("settings");
    assert_eq!(take_alone(&client).await, base);
    let shown = "SELECT concat_ws(' ', current_setting('search_path'), current_setting('extra_float_digits'), \
        current_setting('datestyle'), current_setting('jit'))";
    let shown: String = client.query_one(shown, &[]).await.expect("settings").get(0);
    assert_eq!(shown, "other, public 0 German, DMY on");
}

#[tokio::test]
async fn an_own_object_of_the_server_in_a_dumped_schema_gives_no_fingerprint() {
    let client = open(&Cluster::shared().create_database("fingerprint_moved")).await;
    for change in
        ["ALTER FUNCTION pg_sleep(float8) SET SCHEMA public", "ALTER SCHEMA information_schema RENAME TO mine"]
    {
        client.batch_execute("BEGIN").await.expect("begin");
        client.batch_execute(change).await.expect("a change");
        assert_eq!(fingerprint(&client, 150_000).await.expect("an answer"), None, "{change}");
        client.batch_execute("ROLLBACK").await.expect("rollback");
    }
    assert_eq!(fingerprint(&client, 120_022).await.expect("an answer"), None, "too old");
    assert_eq!(fingerprint(&client, 190_000).await.expect("an answer"), None, "not known yet");
}

#[tokio::test]
async fn a_refused_fingerprint_leaves_the_transaction_usable() {
    let database = Cluster::shared().create_database("fingerprint_refused");
    roles(Cluster::shared());
    let client = open(&database).await;
    client
        .batch_execute("REVOKE SELECT ON pg_depend FROM PUBLIC; SET ROLE fingerprint_one; BEGIN")
        .await
        .expect("begin");
    let error = fingerprint(&client, 150_000).await.expect_err("a refusal");
    assert!(error.to_string().contains("permission denied for table pg_depend"), "{error}");
    assert_eq!(client.query_one("SELECT 1", &[]).await.expect("a usable transaction").get::<_, i32>(0), 1);
    client.batch_execute("ROLLBACK").await.expect("rollback");
    assert!(fingerprint(&client, 150_000).await.is_err(), "not without a transaction");
}
