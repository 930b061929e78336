//! Tenants on several servers, some of which do not answer.

use dbkeeper::base::class::Class;
use dbkeeper::fleet::Discover;
use dbkeeper::fleet::FindingKind::{DatabaseWithoutRow, RowWithoutDatabase, UnreachableServer, UnreadableRow};
use dbkeeper::sql::Server;

use super::registry::Registry;
use crate::support::postgres::Cluster;

fn closed_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_tenant_is_looked_for_on_the_server_that_its_row_names() {
    let second = Cluster::start(&[]);
    let third = Cluster::start(&[]);
    let registry = Registry::new(&format!(
        "create table tenants (id text primary key, data jsonb);
         insert into tenants values ('first', '{{}}'), ('second', '{{\"tenancy_db_connection\": \"pg2\"}}'),
         ('third', '{{\"tenancy_db_host\": \"127.0.0.1\", \"tenancy_db_port\": {}}}'),
         ('lost', '{{\"tenancy_db_connection\": \"pg2\"}}'), ('unknown', '{{\"tenancy_db_connection\": \"pg9\"}}')",
        third.port
    ));
    registry.create("first");
    registry.create("lost");
    for (cluster, name) in [(&second, "second"), (&third, "third"), (&third, "stray")] {
        cluster.psql("postgres", &format!("create database \"{}{name}\" template template0", registry.prefix));
    }
    let servers = [registry.cluster.server(), Server { name: "pg2".to_owned(), ..second.server() }];
    let discovery = registry.discover_with(registry.stancl(), &servers).await.unwrap();
    registry.check_databases(&discovery, &[("first", "first"), ("second", "second"), ("third", "third")]);
    let places: Vec<_> =
        discovery.databases.iter().map(|found| (found.server.name.as_str(), found.server.port)).collect();
    let third_name = format!("pg@127.0.0.1:{}", third.port);
    let pg = ("pg", registry.cluster.port);
    assert_eq!(places, [pg, pg, ("pg2", second.port), (third_name.as_str(), third.port)]);
    registry.check_findings(
        &discovery,
        &[
            (RowWithoutDatabase, "lost", "lost", "server pg2 has no database"),
            (UnreadableRow, "unknown", "", "\"pg9\""),
            // The database of that name on the wrong server is a stray there; which server comes first is by port.
            (DatabaseWithoutRow, "", strays(&registry, &third)[0], "no row"),
            (DatabaseWithoutRow, "", strays(&registry, &third)[1], "no row"),
        ],
    );
}

fn strays(registry: &Registry, third: &Cluster) -> [&'static str; 2] {
    let (here, there) = (format!("127.0.0.1:{}", registry.cluster.port), format!("127.0.0.1:{}", third.port));
    if here < there { ["lost", "stray"] } else { ["stray", "lost"] }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_reported_and_its_tenants_are_tried_all_the_same() {
    let registry = Registry::new("");
    registry.create("up");
    let port = closed_port();
    let query = format!(
        "select * from (values ('up', '{0}up', null), ('down', '{0}down', {port})) v (tenant, database, port)",
        registry.prefix
    );
    let discovery = registry.discover(Discover::Query(query)).await;
    registry.check_databases(&discovery, &[("down", "down"), ("up", "up")]);
    registry.check_findings(&discovery, &[(UnreachableServer, "", "", "refused")]);
    assert!(discovery.findings[0].kind.is_failure());
}

#[tokio::test]
async fn no_server_that_answers_is_an_error() {
    let closed = Server { port: closed_port(), ..Cluster::shared().server() };
    for way in [Discover::Pattern("x%".to_owned()), Discover::List(vec!["x".to_owned()])] {
        let sources = dbkeeper::fleet::Sources { central: None, tenants: Some((&closed, &way)), servers: &[] };
        let error = dbkeeper::fleet::discover(&sources).await.unwrap_err();
        assert_eq!(error.class(), Class::Database, "{error}");
    }
    let way = Discover::Spatie;
    let sources = dbkeeper::fleet::Sources { central: None, tenants: Some((&closed, &way)), servers: &[] };
    let error = dbkeeper::fleet::discover(&sources).await.unwrap_err();
    assert_eq!(error.class(), Class::Usage, "{error}");
}

#[tokio::test]
async fn a_tenants_own_role_is_asked_in_its_own_database_where_it_may_enter_no_other() {
    let other = Cluster::start(&[]);
    other.psql(
        "postgres",
        "create role owner login; create database owned template template0 owner owner; revoke connect on database postgres from public",
    );
    let registry = Registry::new("");
    let query = format!("select 'a' as id, 'owned' as database, {} as port, 'owner' as user", other.port);
    let discovery = registry.discover(Discover::Query(query)).await;
    registry.check_databases(&discovery, &[("a", "owned")]);
    registry.check_findings(&discovery, &[]);
}
