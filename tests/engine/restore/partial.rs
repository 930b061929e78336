//! Some tables, or no rows at all.

use dbkeeper::engine::postgres::restore::Mode;

use super::backup::{Backup, options, restore, text_of};
use crate::support::postgres::Cluster;

const CONTENT: &str = "
    create schema shop; create extension hstore;
    create type shop.state as enum ('new', 'paid');
    create function shop.check_it() returns trigger language plpgsql as 'begin return new; end';
    create table shop.customers (id serial primary key, name text);
    create table shop.orders (id bigint generated always as identity primary key, customer integer references shop.customers,
        state shop.state default 'new', more hstore);
    create index by_state on shop.orders (state) where state <> 'paid';
    create trigger checks before insert on shop.orders for each row execute function shop.check_it();
    create table unrelated (a text);
    create view shop.open_orders as select * from shop.orders where state = 'new';
    create table log (at date, line text) partition by range (at);
    create table log_1 partition of log for values from ('2026-01-01') to ('2026-02-01');
    create table log_2 partition of log for values from ('2026-02-01') to ('2026-03-01') partition by list (line);
    create table log_2_rest partition of log_2 default;
    comment on table shop.orders is 'what they want'; grant select on shop.orders to public;
    insert into shop.customers (name) values ('a'), ('b'); insert into shop.orders (customer, more) values (1, 'k=>v'), (2, null);
    insert into unrelated values ('x'); insert into log values ('2026-01-05', 'one'), ('2026-02-05', 'two');
    select lo_create(0)";

async fn source(stem: &str) -> (String, Backup) {
    let source = Cluster::shared().create_database(stem);
    Cluster::shared().psql(&source, CONTENT);
    let backup = Backup::take(Cluster::shared(), &source).await;
    (source, backup)
}

fn tables_of(database: &str) -> String {
    let query = "select string_agg(c.oid::regclass::text, ' ' order by c.oid::regclass::text) from pg_class c
        where relkind in ('r', 'v', 'p') and relnamespace in ('public'::regnamespace, coalesce(to_regnamespace('shop'), 0))";
    Cluster::shared().psql(database, query).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chosen_table_comes_with_what_it_needs_and_what_belongs_to_it() {
    let cluster = Cluster::shared();
    let (source, backup) = source("chosen").await;
    let copy = format!("{source}_copy");
    let mut chosen = options(&copy, Mode::AsNew);
    chosen.tables = vec!["shop.orders".to_owned()];
    let published = restore(&cluster.server(), &backup, chosen).await.expect("restore");
    assert_eq!(tables_of(&copy), "shop.orders");
    assert_eq!(
        cluster.psql(&copy, "select id, customer, state, more from shop.orders order by id"),
        "1|1|new|\"k\"=>\"v\"\n2|2|new|\n"
    );
    let one_table = ["-t", "shop.orders"];
    let without_key = |text: String| {
        let at = text.find("-- Name: orders orders_customer_fkey").unwrap_or(text.len());
        text[..at].to_owned()
    };
    let (ours, theirs) = (text_of(cluster, &copy, &one_table), without_key(text_of(cluster, &source, &one_table)));
    assert!(ours.starts_with(theirs.trim_end_matches("--\n").trim_end()), "{ours}\n---\n{theirs}");
    assert!(published.notes.iter().any(|note| note.contains("orders_customer_fkey")), "{:?}", published.notes);
    assert_eq!(
        cluster.psql(&copy, "insert into shop.orders default values returning id"),
        "3\n",
        "the sequence came along"
    );
    assert_eq!(cluster.psql(&copy, "select count(*) from pg_trigger where tgname = 'checks'"), "1\n");
    assert_eq!(cluster.psql(&copy, "select count(*) from pg_largeobject_metadata"), "0\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_are_chosen_together_keep_their_foreign_key_and_a_root_brings_its_partitions() {
    let cluster = Cluster::shared();
    let (source, backup) = source("together").await;
    let copy = format!("{source}_copy");
    let mut chosen = options(&copy, Mode::AsNew);
    chosen.tables = vec!["orders".to_owned(), "customers".to_owned(), "log".to_owned()];
    restore(&cluster.server(), &backup, chosen).await.expect("restore");
    assert_eq!(tables_of(&copy), "log log_1 log_2 log_2_rest shop.customers shop.orders");
    assert_eq!(cluster.psql(&copy, "select conname from pg_constraint where contype = 'f'"), "orders_customer_fkey\n");
    assert_eq!(cluster.psql(&copy, "select count(*) from log"), "2\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_not_there_is_an_error_with_the_nearest_name_and_a_part_never_replaces_the_whole() {
    let cluster = Cluster::shared();
    let (source, backup) = source("wrong").await;
    let mut wrong = options(&format!("{source}_copy"), Mode::AsNew);
    wrong.tables = vec!["shop.order".to_owned()];
    let error = restore(&cluster.server(), &backup, wrong).await.expect_err("no such table");
    assert!(error.hint().is_some_and(|hint| hint.contains("shop.orders")), "{error}: {:?}", error.hint());
    let mut swap = options(&source, Mode::Swap);
    swap.tables = vec!["unrelated".to_owned()];
    let error = restore(&cluster.server(), &backup, swap).await.expect_err("it would lose the rest");
    assert!(error.to_string().contains("does not replace the whole"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_comes_alone() {
    let cluster = Cluster::shared();
    let (source, backup) = source("bare").await;
    let copy = format!("{source}_copy");
    let mut bare = options(&copy, Mode::AsNew);
    bare.schema_only = true;
    restore(&cluster.server(), &backup, bare).await.expect("restore");
    assert_eq!(text_of(cluster, &copy, &["-s"]), text_of(cluster, &source, &["-s"]));
    assert_eq!(cluster.psql(&copy, "select count(*) from shop.orders"), "0\n");
    assert_eq!(cluster.psql(&copy, "select last_value, is_called from shop.customers_id_seq"), "1|f\n");
}
