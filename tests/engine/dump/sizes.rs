//! Extremes of size: many tables, many columns, a huge row, a full lock table.

use std::fmt::Write;

use dbkeeper::base::class::Class;

use super::{dump, dump_with, options};
use crate::support::postgres::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_tables_are_dumped() {
    // A server of its own: its locks would crowd out the tests beside it.
    let cluster = Cluster::start(&["max_locks_per_transaction=1024", "max_connections=30"]);
    let db = cluster.create_database("many");
    for hundred in 0..100 {
        let create = format!(
            "do $$ begin for i in 0..99 loop execute format('create table t_%s (i int, s serial)', {hundred} * 100 + i);
               execute format('insert into t_%s values (%s)', {hundred} * 100 + i, i); end loop; end $$"
        );
        cluster.psql(&db, &create);
    }
    let dumped = dump(&cluster.server(), &db).await;
    assert_eq!(dumped.details.relations.len(), 10_000);
    assert_eq!(dumped.details.sequences.len(), 10_000);
    assert!(dumped.details.sequences.iter().all(|sequence| sequence.last_value == 1 && sequence.is_called));
    for number in 0..10_000 {
        assert_eq!(dumped.rows(&format!("t_{number}")), [format!("{}\t1", number % 100)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_hundred_columns_and_a_row_of_a_hundred_megabytes_are_read() {
    let cluster = Cluster::shared();
    let db = cluster.create_database("wide");
    let mut columns = String::new();
    for number in 0..1600 {
        write!(
            columns,
            "{}\"a rather long name of a column with number {number}\" bool",
            if number == 0 { "" } else { "," }
        )
        .expect("a string takes all");
    }
    cluster.psql(&db, &format!("create table wide ({columns})"));
    cluster.psql(&db, &format!("insert into wide values (true{})", ", false".repeat(1599)));
    cluster.psql(&db, "create table long as select 1 as i, repeat('0123456789', 10000000) as x");
    let dumped = dump(&cluster.server(), &db).await;
    assert_eq!(dumped.relation("wide").columns.len(), 1600);
    assert_eq!(dumped.rows("wide"), [format!("t{}", "\tf".repeat(1599))]);
    let long = dumped.raw_rows("long");
    assert_eq!((long.len(), long[0].len()), (1, 100_000_003));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_lock_table_is_an_error_that_says_what_to_set() {
    let cluster =
        Cluster::start(&["max_locks_per_transaction=10", "max_connections=15", "max_prepared_transactions=0"]);
    let db = cluster.create_database("crowded");
    for thousand in 0..20 {
        let create = format!(
            "do $$ begin for i in 0..49 loop execute format('create table t_%s (i int)', {thousand} * 50 + i); end loop; end $$"
        );
        cluster.psql(&db, &create);
    }
    let error = dump_with(&cluster.server(), &db, &options()).await.expect_err("too many locks");
    assert_eq!(error.class(), Class::Transient);
    assert!(error.to_string().contains("needs 1000 locks"), "{error}");
    assert!(error.to_string().contains("max_locks_per_transaction = 10"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("set max_locks_per_transaction = ")), "{:?}", error.hint());
}
