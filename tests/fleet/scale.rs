//! A registry far larger than most.

use std::sync::Arc;

use dbkeeper::fleet::FindingKind;

use super::registry::Registry;

#[tokio::test]
async fn a_hundred_thousand_tenants_are_discovered() {
    let registry = Registry::new(
        "create table tenants (id text primary key, data jsonb);
         insert into tenants select n, case when n <= 50000 then jsonb_build_object('tenancy_db_name', '{prefix}one') end
         from generate_series(1, 100000) n",
    );
    registry.create("one");
    let discovery = registry.discover(registry.stancl()).await;
    assert_eq!(discovery.databases.len(), 50_001);
    let count = |kind| discovery.findings.iter().filter(|finding| finding.kind == kind).count();
    assert_eq!(count(FindingKind::RowWithoutDatabase), 50_000);
    assert_eq!(count(FindingKind::SharedDatabase), 50_000);
    let first = &discovery.databases[1].server;
    assert!(
        discovery.databases[1..].iter().all(|database| Arc::ptr_eq(&database.server, first)),
        "one server in memory"
    );
}
