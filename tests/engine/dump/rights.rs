//! A role that may not read everything is told so before a byte is read, with the statement that would help.

use dbkeeper::base::class::Class;
use dbkeeper::engine::Error;
use dbkeeper::sql::Server;

use super::{Dumped, dump_with, options};
use crate::support::postgres::Cluster;

fn login_as(cluster: &Cluster, role: &str) -> Server {
    cluster.psql("postgres", &format!("create role {role} login"));
    Server { user: role.to_owned(), ..cluster.server() }
}

async fn dump_as(server: &Server, db: &str) -> Result<Dumped, Error> {
    dump_with(server, db, &options()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_rights_is_given_the_grants_to_type_and_they_help() {
    let cluster = Cluster::shared();
    let db = cluster.create_database("granted");
    cluster.psql(
        &db,
        "create schema \"S\"; create table \"S\".t as select 1 as i; create table u as select 2 as i; create sequence q",
    );
    let server = login_as(cluster, "\"poor reader\"");
    let server = Server { user: "poor reader".to_owned(), ..server };
    let mut rounds = 0;
    let dumped = loop {
        let error = match dump_as(&server, &db).await {
            Ok(dumped) => break dumped,
            Err(error) => error,
        };
        assert_eq!(error.class(), Class::Refused);
        let hint = error.hint().unwrap_or_else(|| panic!("no hint: {error}"));
        assert!(hint.contains("GRANT pg_read_all_data TO \"poor reader\";"), "{hint}");
        let (grants, _) = hint.split_once(" or, from").expect("the single grants come first");
        assert!(grants.contains("TO \"poor reader\";"), "{grants}");
        cluster.psql(&db, grants);
        rounds += 1;
        assert!(rounds < 4, "the grants do not help: {error}");
    };
    assert_eq!((dumped.rows("t"), dumped.rows("u")), (vec!["1".to_owned()], vec!["2".to_owned()]));
    assert_eq!(dumped.details.sequences.len(), 1);
    assert!(dumped.notes.iter().any(|note| note.contains("verifiers of passwords")), "{:?}", dumped.notes);
    assert!(dumped.details.roles.iter().all(|role| role.password_verifier.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_hidden_by_row_security_are_an_error_even_for_an_owner_and_never_a_loss() {
    let cluster = Cluster::shared();
    let db = cluster.create_database("hidden");
    let server = login_as(cluster, "half_blind");
    cluster.psql(
        &db,
        "create table t (i int); insert into t values (1), (2); alter table t enable row level security;
         create policy p on t using (i = 1); grant select on t to half_blind;",
    );
    let check_refused = async |why: &str| {
        let error = dump_as(&server, &db).await.expect_err(why);
        assert_eq!(error.class(), Class::Refused);
        assert!(error.to_string().contains("row-level security hides rows"), "{why}: {error}");
        assert!(error.to_string().contains("\"public\".\"t\""), "{error}");
        assert_eq!(error.hint(), Some("ALTER ROLE \"half_blind\" BYPASSRLS; (by a superuser)"));
    };
    check_refused("a policy").await;
    cluster.psql(&db, "grant pg_read_all_data to half_blind");
    check_refused("the right to read all is not the right to see all").await;
    cluster.psql(&db, "alter table t owner to half_blind; alter table t force row level security");
    check_refused("a forced policy on an owner").await;
    cluster.psql(&db, "alter table t no force row level security");
    assert_eq!(dump_as(&server, &db).await.expect("the owner sees all").rows("t").len(), 2);
    cluster.psql(&db, "alter table t owner to postgres; alter role half_blind bypassrls");
    assert_eq!(dump_as(&server, &db).await.expect("sees all").rows("t").len(), 2);
}
