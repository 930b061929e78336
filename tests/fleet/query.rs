//! Registries that are the result of an operator's query.

use dbkeeper::base::class::Class;
use dbkeeper::fleet::Discover;
use dbkeeper::fleet::FindingKind::{DatabaseWithoutRow, Unprovisioned, UnreadableRow};

use super::registry::Registry;

fn registry() -> Registry {
    let registry = Registry::new(
        "create table shops (key uuid primary key, db text); create table domains (shop uuid, domain text);
         insert into shops values ('00000000-0000-0000-0000-00000000000a', '{prefix}a'),
         ('00000000-0000-0000-0000-00000000000b', '{prefix}b');
         insert into domains select key, d from shops, unnest(array['one', 'two']) d",
    );
    for name in ["a", "b", "stray"] {
        registry.create(name);
    }
    registry
}

#[tokio::test]
async fn a_query_that_joins_may_repeat_its_rows() {
    let registry = registry();
    let query = "select right(key::text, 1) as tenant, db as database from shops join domains on shop = key -- all\n;";
    let discovery = registry.discover(Discover::Query(query.to_owned())).await;
    registry.check_databases(&discovery, &[("a", "a"), ("b", "b")]);
    registry.check_findings(&discovery, &[(DatabaseWithoutRow, "", "stray", "no row")]);
}

#[tokio::test]
async fn two_different_rows_of_one_tenant_are_reported() {
    let registry = registry();
    let discovery = registry.discover(Discover::Query("select 1 as id, db as database from shops".to_owned())).await;
    registry.check_databases(&discovery, &[("1", "a")]);
    let both = (UnreadableRow, "1", "b", "only the first is backed up");
    registry.check_findings(&discovery, &[both, (DatabaseWithoutRow, "", "stray", "no row")]);
}

#[tokio::test]
async fn null_and_nonsense_are_reported() {
    let registry = registry();
    let query = "values ('a', null, '1'), (null, 'x', '1'), ('c', 'x', '0'), ('d', 'x', '65536'), ('e', repeat('x', 5000), '1')";
    let query = format!("select tenant, database, port from ({query}) v (tenant, database, port)");
    let discovery = registry.discover(Discover::Query(query)).await;
    registry.check_databases(&discovery, &[]);
    let kinds: Vec<_> = discovery
        .findings
        .iter()
        .map(|finding| (finding.kind, finding.tenant.as_str()))
        .filter(|(kind, _)| *kind != dbkeeper::fleet::FindingKind::UnreachableServer)
        .collect();
    let unreadable = |tenant| (UnreadableRow, tenant);
    assert_eq!(kinds, [unreadable(""), unreadable("c"), unreadable("d"), unreadable("e"), (Unprovisioned, "a")]);
}

#[tokio::test]
async fn a_query_of_another_shape_is_an_error_that_names_its_columns() {
    for (query, class, words) in [
        ("select key, db from shops", Class::Usage, "found: key, db"),
        ("select key as id, db as database, 1 as hst from shops", Class::Usage, "\"hst\" is not understood"),
        ("select key as id, key as id, db as database from shops", Class::Usage, "say the same"),
        ("select nonsense", Class::Refused, "column \"nonsense\" does not exist"),
        ("delete from shops returning key as id, db as database", Class::Refused, "syntax error"),
        (
            "with d as (delete from shops returning *) select key as id, db as database from d",
            Class::Refused,
            "top level",
        ),
        ("select 1 as id, pg_create_logical_replication_slot('x', 'y')::text as database", Class::Refused, ""),
        ("select 1 as id, 'x' as database; drop table shops", Class::Refused, "syntax error"),
    ] {
        let registry = registry();
        let error = registry.discover_with(Discover::Query(query.to_owned()), &[]).await.unwrap_err();
        assert!(error.to_string().contains(words), "{query}: {error}");
        assert_eq!(error.class(), class, "{query}: {error}");
    }
}

#[tokio::test]
async fn a_query_cannot_write() {
    let registry = registry();
    registry
        .run("create function sly() returns text language plpgsql as $$ begin delete from shops; return 'x'; end $$");
    let query = Discover::Query("select sly() as id, 'x' as database".to_owned());
    let error = registry.discover_with(query, &[]).await.unwrap_err();
    assert!(error.to_string().contains("read-only transaction"), "{error}");
    assert_eq!(registry.cluster.psql(&registry.central, "select count(*) from shops").trim(), "2");
}
