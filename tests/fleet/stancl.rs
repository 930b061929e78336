//! The registries that stancl/tenancy makes, whole and broken.

use dbkeeper::base::class::Class;
use dbkeeper::fleet::Discover;
use dbkeeper::fleet::FindingKind::{
    DatabaseWithoutRow, DeletedTenant, EncryptedLogin, RowWithoutDatabase, SharedDatabase, Unprovisioned, UnreadableRow,
};

use super::registry::Registry;

const TABLE: &str =
    "create table tenants (id varchar(255) primary key, created_at timestamp, updated_at timestamp, data json);";

fn registry(rows: &str) -> Registry {
    Registry::new(&format!("{TABLE} {rows}"))
}

#[tokio::test]
async fn a_database_is_named_by_its_row_or_by_prefix_and_key() {
    for kind in ["json", "jsonb", "text"] {
        let registry = registry(&format!(
            "alter table tenants alter data type {kind};
             insert into tenants (id, data) values ('a', null), ('b', '{{}}'), ('c', '[]'),
             ('d', '{{\"tenancy_db_name\": \"{{prefix}}own\", \"plan\": {{\"x\": [1, null]}}}}'),
             ('e', '{{\"_tenancy_db_name\": \"{{prefix}}v2\"}}'), ('f', '{{\"tenancy_db_name\": null}}')"
        ));
        for name in ["a", "b", "c", "own", "v2", "f"] {
            registry.create(name);
        }
        let discovery = registry.discover(registry.stancl()).await;
        let expected = [("a", "a"), ("b", "b"), ("c", "c"), ("d", "own"), ("e", "v2"), ("f", "f")];
        registry.check_databases(&discovery, &expected);
        registry.check_findings(&discovery, &[]);
    }
}

#[tokio::test]
async fn prefix_and_suffix_make_the_name_and_a_key_may_be_a_number() {
    let registry =
        Registry::new("create table tenants (id bigint primary key, data jsonb); insert into tenants values (7)");
    let name = registry.create("7_db");
    let way = Discover::Stancl { prefix: registry.prefix.clone(), suffix: "_db".to_owned() };
    let discovery = registry.discover(way).await;
    assert_eq!(discovery.databases[1].name, name);
    assert_eq!(discovery.databases[1].target.name.as_str(), "7");
    registry.check_findings(&discovery, &[]);
}

#[tokio::test]
async fn keys_that_were_promoted_to_columns_count() {
    let registry = registry(
        "alter table tenants add tenancy_db_name text, add tenancy_create_database boolean;
         insert into tenants (id, data, tenancy_db_name, tenancy_create_database) values
         ('a', '{\"tenancy_db_name\": \"old\"}', '{prefix}column', null), ('b', '{}', null, true), ('c', '{}', null, false)",
    );
    registry.create("column");
    registry.create("b");
    let discovery = registry.discover(registry.stancl()).await;
    registry.check_databases(&discovery, &[("a", "column"), ("b", "b")]);
    registry.check_findings(&discovery, &[(Unprovisioned, "c", "c", "tenancy_create_database is false")]);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_reported_and_hurts_no_other() {
    let registry = registry(
        "alter table tenants alter data type text;
         insert into tenants (id, data) values ('array', '[1]'), ('broken', '{\"tenancy_db_name\": \"x'), ('empty', ''),
         ('encrypted', '{\"tenancy_db_name\": \"eyJpdiI6IjEiLCJ2YWx1ZSI6IjIiLCJtYWMiOiIzIiwidGFnIjoiIn0=\"}'),
         ('good', '{}'), ('huge', '{\"x\": \"' || repeat('x', 1100000) || '\"}'), ('list', '{\"tenancy_db_name\": [\"x\"]}'),
         ('nameless', '{\"tenancy_db_name\": \"\"}'), ('port', '{\"tenancy_db_port\": \"54x\"}'), ('string', '\"{}\"'),
         ('whole', 'eyJpdiI6IjEiLCJ2YWx1ZSI6IjIiLCJtYWMiOiIzIiwidGFnIjoiIn0='), ('zero', '{\"tenancy_db_name\": \"a\\u0000b\"}')",
    );
    registry.create("good");
    let discovery = registry.discover(registry.stancl()).await;
    registry.check_databases(&discovery, &[("good", "good")]);
    let unreadable = |tenant, words| (UnreadableRow, tenant, "", words);
    registry.check_findings(
        &discovery,
        &[
            unreadable("array", "no object"),
            unreadable("broken", "no JSON (line 1"),
            unreadable("empty", "no JSON"),
            unreadable("encrypted", "tenancy_db_name is encrypted"),
            unreadable("huge", "data is too long"),
            unreadable("list", "tenancy_db_name is no text"),
            unreadable("nameless", "tenancy_db_name is empty"),
            unreadable("port", "\"54x\" is no port"),
            unreadable("string", "no object"),
            unreadable("whole", "data is encrypted"),
            unreadable("zero", "zero byte"),
        ],
    );
    assert!(discovery.findings.iter().all(|finding| finding.kind.is_failure()));
}

#[tokio::test]
async fn hostile_keys_are_kept_as_they_are_or_reported() {
    let long = "x".repeat(241);
    let registry = registry(&format!(
        "insert into tenants values ('../x'), ('Acme'), ('acme'), ('a\"b'), ('☃'), (''), (e'new\\nline'), ('{long}'),
         ('{}'), (repeat('é', 80))",
        "y".repeat(240)
    ));
    for name in ["../x", "Acme", "acme", "a\"b", "☃"] {
        registry.create(name);
    }
    // Created, and connected to, under the first 63 bytes of its name.
    let cut = registry.create(&"y".repeat(240));
    let discovery = registry.discover(registry.stancl()).await;
    let (name, cut) = ("y".repeat(240), cut[registry.prefix.len()..63].to_owned());
    let expected = [("../x", "../x"), ("Acme", "Acme"), ("a\"b", "a\"b"), ("acme", "acme"), (&name, &cut), ("☃", "☃")];
    registry.check_databases(&discovery, &expected);
    registry.check_findings(
        &discovery,
        &[
            (UnreadableRow, "", "", "key is empty"),
            (UnreadableRow, "new\nline", "", "no control characters"),
            (UnreadableRow, &long, "", "too long"),
            (UnreadableRow, &"é".repeat(80), "", "too long"),
        ],
    );
}

#[tokio::test]
async fn rows_without_a_database_and_databases_without_a_row_are_reported() {
    let registry = registry("insert into tenants values ('here'), ('lost')");
    for name in ["here", "stray", "here__before_20261121T091500Z", "here__restore_20261121T091500Z"] {
        registry.create(name);
    }
    let discovery = registry.discover(registry.stancl()).await;
    registry.check_databases(&discovery, &[("here", "here")]);
    let lost = (RowWithoutDatabase, "lost", "lost", "nothing to back up");
    registry.check_findings(&discovery, &[lost, (DatabaseWithoutRow, "", "stray", "no row in the registry")]);
}

#[tokio::test]
async fn an_empty_registry_is_an_empty_fleet_and_its_databases_are_strays() {
    let registry = registry("");
    registry.create("stray");
    let discovery = registry.discover(registry.stancl()).await;
    registry.check_databases(&discovery, &[]);
    registry.check_findings(&discovery, &[(DatabaseWithoutRow, "", "stray", "not backed up")]);
}

#[tokio::test]
async fn rows_that_share_a_database_are_all_backed_up_and_told_of_each_other() {
    let registry = registry(
        "insert into tenants select id, null, null, '{\"tenancy_db_name\": \"{prefix}one\"}' from unnest(array['a', 'b']) id;
         insert into tenants (id, data) select 'c', json_build_object('tenancy_db_name', current_database())",
    );
    registry.create("one");
    let discovery = registry.discover(registry.stancl()).await;
    let central = registry.central.clone();
    registry.check_databases(&discovery, &[("a", "one"), ("b", "one"), ("c", &central)]);
    registry.check_findings(
        &discovery,
        &[
            (SharedDatabase, "a", "one", "also that of tenant b:"),
            (SharedDatabase, "b", "one", "also that of tenant a:"),
            (SharedDatabase, "c", &central, "also that of central:"),
        ],
    );
    assert!(discovery.findings.iter().all(|finding| !finding.kind.is_failure()));
}

#[tokio::test]
async fn pending_and_deleted_tenants_are_reported_and_a_deleted_one_is_backed_up_while_its_database_stands() {
    let registry = registry(
        "alter table tenants add deleted_at timestamp;
         insert into tenants (id, data, deleted_at) values ('gone', '{}', '2026-01-02'), ('left', '{}', '2026-01-02'),
         ('live', '{}', null), ('none', '{\"tenancy_create_database\": false}', null),
         ('pending', '{\"pending_since\": 1767312000}', null)",
    );
    for name in ["left", "live", "pending"] {
        registry.create(name);
    }
    let discovery = registry.discover(registry.stancl()).await;
    registry.check_databases(&discovery, &[("left", "left"), ("live", "live")]);
    registry.check_findings(
        &discovery,
        &[
            (Unprovisioned, "gone", "gone", "deleted at 2026-01-02"),
            (Unprovisioned, "none", "none", "has no database"),
            (Unprovisioned, "pending", "pending", "pending_since"),
            (DeletedTenant, "left", "left", "is backed up"),
        ],
    );
}

#[tokio::test]
async fn a_login_of_the_row_is_used_and_never_printed_and_an_encrypted_one_is_not() {
    let registry = registry(
        "insert into tenants (id, data) values
         ('own', '{\"tenancy_db_username\": \"owner\", \"tenancy_db_password\": \"very secret\"}'),
         ('sealed', '{\"tenancy_db_username\": \"owner\",
           \"tenancy_db_password\": \"eyJpdiI6IjEiLCJ2YWx1ZSI6IjIiLCJtYWMiOiIzIiwidGFnIjoiIn0=\"}')",
    );
    registry.create("own");
    registry.create("sealed");
    let discovery = registry.discover(registry.stancl()).await;
    registry.check_databases(&discovery, &[("own", "own"), ("sealed", "sealed")]);
    let role = |at: usize| {
        let server = &discovery.databases[at].server;
        (server.user.as_str(), server.password.as_ref().map(|password| password.reveal()))
    };
    assert_eq!((role(1), role(2)), (("owner", Some("very secret")), ("postgres", None)));
    registry.check_findings(&discovery, &[(EncryptedLogin, "sealed", "sealed", "\"postgres\" of the server is used")]);
    assert!(!format!("{discovery:?}").contains("very secret"));
}

#[tokio::test]
async fn a_table_of_another_shape_is_an_error_that_names_its_columns() {
    for (sql, class, words, hint) in [
        ("create table tenants (uuid text, data json)", Class::Usage, "found: uuid, data", "id and data"),
        ("create table tenants (id text, name text)", Class::Usage, "found: id, name", "id and data"),
        ("select 1", Class::Refused, "relation \"tenants\" does not exist", "search_path"),
    ] {
        let registry = Registry::new(sql);
        let error = registry.discover_with(registry.stancl(), &[]).await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.hint().unwrap().contains(hint), "{:?}", error.hint());
        assert_eq!(error.class(), class);
    }
}
