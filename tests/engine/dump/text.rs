//! Values leave the server as text that loses nothing, whatever the server, the database or the role is set to.

use super::dump;
use crate::support::postgres::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn values_print_exactly_whatever_the_database_is_set_to() {
    let cluster = Cluster::shared();
    let db = cluster.create_database("settings");
    cluster.psql(
        &db,
        "create schema hostile;
         create table t (f4 float4, f8 float8, d date, ts timestamptz, iv interval, b bytea, r regclass, x xml, n numeric, s text);
         insert into t values (1.1, 0.1::float8 + 0.2, '2024-02-03', '2024-02-03 04:05:06.789+00', '1 year -2 days 03:04',
           '\\x00ff5c', 't', '<a/>', 1e-20, E'tab\\there\\nback\\\\slash\\r');",
    );
    for setting in [
        "datestyle = 'SQL, DMY'",
        "intervalstyle = 'sql_standard'",
        "extra_float_digits = 0",
        "bytea_output = 'escape'",
        "timezone = 'Asia/Tokyo'",
        "search_path = hostile, public",
        // Long enough for the one statement that lifts them, on a machine that is busy with other tests.
        "statement_timeout = '5s'",
        "idle_in_transaction_session_timeout = '5s'",
        "quote_all_identifiers = on",
        "standard_conforming_strings = off",
        "default_transaction_isolation = 'serializable'",
        "row_security = on",
        "client_encoding = 'LATIN1'",
    ] {
        cluster.psql("postgres", &format!("alter database {db} set {setting}"));
    }
    let dumped = dump(&cluster.server(), &db).await;
    let expected = "1.1\t0.30000000000000004\t2024-02-03\t2024-02-03 04:05:06.789+00\t1 year -2 days +03:04:00\t\\\\x00ff5c\t\
                    public.t\t<a/>\t0.00000000000000000001\ttab\\there\\nback\\\\slash\\r";
    assert_eq!(dumped.rows("t"), [expected]);
    assert_eq!(dumped.details.database.settings.len(), 13);
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_that_lie_in_wait_in_a_schema_of_the_user_are_not_called() {
    let cluster = Cluster::shared();
    let db = cluster.create_database("hostile");
    cluster.psql(
        &db,
        "create table called (who text); create table t as select 1 as i;
         create function public.format(text, name, name) returns text language plpgsql as
           $$ begin raise exception 'called'; end $$;
         create function public.trap(name, text) returns bool language plpgsql as $$ begin raise exception 'called'; end $$;
         create operator public.!~ (leftarg = name, rightarg = text, function = public.trap);
         create view public.pg_class as select 1/0 as oops;",
    );
    cluster.psql("postgres", &format!("alter database {db} set search_path = public, pg_catalog"));
    assert_eq!(dump(&cluster.server(), &db).await.rows("t"), ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_text_in_no_encoding_leave_a_database_as_they_are() {
    let cluster = Cluster::shared();
    for (encoding, name) in [("SQL_ASCII", "raw_bytes"), ("LATIN1", "latin_bytes")] {
        cluster
            .psql("postgres", &format!("create database {name} template template0 encoding '{encoding}' locale 'C'"));
        cluster.psql(
            name,
            "create table t (x text); insert into t values (chr(65) || convert_from('\\xe9', getdatabaseencoding()));",
        );
        cluster
            .psql(name, "set client_encoding = 'UTF8'; create table \"named\u{e9}\" as select 1 as \"column\u{e9}\";");
        let dumped = dump(&cluster.server(), name).await;
        assert_eq!(dumped.raw_rows("t"), [b"A\xe9\n"], "{encoding}");
        assert_eq!(dumped.details.database.encoding, encoding);
        assert_eq!(dumped.rows("named\u{e9}"), ["1"], "{encoding}");
        assert_eq!(dumped.relation("named\u{e9}").columns, ["column\u{e9}"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_no_text_is_an_error_that_says_so() {
    let cluster = Cluster::shared();
    cluster.psql("postgres", "create database bad_name template template0 encoding 'SQL_ASCII' locale 'C'");
    // The statement holds a byte that no psql could send: `create table <e9> (i int)`.
    let statement = "637265617465207461626c6520e920286920696e7429";
    cluster.psql("bad_name", &format!("do $$ begin execute convert_from('\\x{statement}', 'SQL_ASCII'); end $$"));
    let error = super::dump_with(&cluster.server(), "bad_name", &super::options()).await.expect_err("a raw name");
    assert!(error.hint().is_some_and(|hint| hint.contains("UTF-8")), "{error}");
}
