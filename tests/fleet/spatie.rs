//! The registries that spatie/laravel-multitenancy makes, and fleets that are known by their names only.

use dbkeeper::fleet::Discover;
use dbkeeper::fleet::FindingKind::{
    DatabaseWithoutRow, DeletedTenant, RowWithoutDatabase, Unprovisioned, UnreadableRow,
};

use super::registry::Registry;

const TABLE: &str = "create table tenants (id bigserial primary key, name varchar(255), domain varchar(255) unique,
    database varchar(255) unique, deleted_at timestamp);";

#[tokio::test]
async fn each_row_names_its_database() {
    let registry = Registry::new(&format!(
        "{TABLE} insert into tenants (name, domain, database, deleted_at) values ('A', 'a.test', '{{prefix}}a', null),
         ('B', 'b.test', '{{prefix}}b', null), ('C', 'c.test', '{{prefix}}lost', null), ('D', 'd.test', null, null),
         ('E', 'e.test', '', null), ('F', 'f.test', '{{prefix}}left', '2026-01-02')"
    ));
    for name in ["a", "b", "left", "stray"] {
        registry.create(name);
    }
    let discovery = registry.discover(Discover::Spatie).await;
    registry.check_databases(&discovery, &[("1", "a"), ("2", "b"), ("6", "left")]);
    registry.check_findings(
        &discovery,
        &[
            (RowWithoutDatabase, "3", "lost", "nothing to back up"),
            (UnreadableRow, "5", "", "database is empty"),
            (DatabaseWithoutRow, "", "stray", "looks like a tenant's"),
            (Unprovisioned, "4", "", "database is NULL"),
            (DeletedTenant, "6", "left", "2026-01-02"),
        ],
    );
}

#[tokio::test]
async fn a_registry_of_stancl_is_not_taken_for_one_of_spatie() {
    let registry = Registry::new("create table tenants (id text, data json)");
    let error = registry.discover_with(Discover::Spatie, &[]).await.unwrap_err();
    assert!(error.to_string().contains("found: id, data"), "{error}");
}

#[tokio::test]
async fn a_pattern_finds_databases_in_the_words_of_like() {
    let registry = Registry::new("");
    for name in ["a", "b%", "c__before_20261121T091500Z"] {
        registry.create(name);
    }
    let pattern = format!("{}%", registry.prefix.replace('_', "\\_"));
    let discovery = registry.discover(Discover::Pattern(pattern)).await;
    let (a, b) = (format!("{}a", registry.prefix), format!("{}b%", registry.prefix));
    registry.check_databases(&discovery, &[(&a, "a"), (&b, "b%")]);
    registry.check_findings(&discovery, &[]);
}

#[tokio::test]
async fn a_pattern_that_matches_everything_leaves_out_what_is_no_tenant() {
    let registry = Registry::new("");
    let discovery = registry.discover(Discover::Pattern("%".to_owned())).await;
    let names: Vec<_> = discovery.databases[1..].iter().map(|database| database.name.as_str()).collect();
    for other in [registry.central.as_str(), "postgres", "template0", "template1"] {
        assert!(!names.contains(&other), "{other}");
    }
}

#[tokio::test]
async fn a_list_is_taken_at_its_word() {
    let registry = Registry::new("");
    let (here, lost) = (registry.create("here"), format!("{}lost", registry.prefix));
    registry.create("unlisted");
    let discovery = registry.discover(Discover::List(vec![lost.clone(), here.clone(), here.clone()])).await;
    registry.check_databases(&discovery, &[(&here, "here")]);
    registry.check_findings(&discovery, &[(RowWithoutDatabase, &lost, "lost", "nothing to back up")]);
}
