//! Roles: missing ones are created as they were, existing ones stay as they are.

use dbkeeper::engine::postgres::restore::{Mode, Owner, RoleHandling};

use super::backup::{Backup, databases, options, restore};
use crate::support::postgres::Cluster;

/// A database of role `owner`, with a grant to `reader`, whose group is `readers`.
async fn backup_with_roles(here: &Cluster) -> Backup {
    here.psql(
        "postgres",
        "create role readers; create role reader login in role readers; create role owner login password 'geheim' createdb;
         alter role owner set work_mem = '9MB'; comment on role owner is 'owns'; create role powerful superuser replication;
         create database owned template template0 owner owner",
    );
    here.psql(
        "owned",
        "create table t (a integer); alter table t owner to owner; grant select on t to reader; \
        create table u (); alter table u owner to powerful",
    );
    Backup::take(here, "owned").await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_role_is_not_altered_and_gets_no_membership() {
    let (here, there) = (Cluster::start(&[]), Cluster::start(&[]));
    let backup = backup_with_roles(&here).await;
    there.psql("postgres", "create role reader nologin connection limit 3; create role owner nologin password 'other'");
    let query = "select rolname, rolcanlogin, rolconnlimit, rolpassword, rolcreatedb from pg_authid where rolname in ('reader', 'owner') order by 1";
    let before = there.psql("postgres", query);
    restore(&there.server(), &backup, options("owned", Mode::Swap)).await.expect("restore");
    assert_eq!(there.psql("postgres", query), before);
    assert_eq!(there.psql("postgres", "select count(*) from pg_auth_members where member = 'reader'::regrole"), "0\n");
    assert_eq!(there.psql("postgres", "select setconfig from pg_db_role_setting where setrole = 'owner'::regrole"), "");
    assert_eq!(
        there.psql("postgres", "select rolsuper and rolreplication from pg_roles where rolname = 'powerful'"),
        "t\n"
    );
    assert_eq!(there.psql("owned", "select relowner::regrole from pg_class where relname = 't'"), "owner\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_roles_are_created_with_their_password_and_what_it_lacks_is_said() {
    let (here, there) = (Cluster::start(&[]), Cluster::start(&[]));
    let mut backup = backup_with_roles(&here).await;
    let published = restore(&there.server(), &backup, options("owned", Mode::Swap)).await.expect("restore");
    assert!(published.notes.iter().any(|note| note.contains("\"reader\"") && note.contains("without a password")));
    assert!(!published.notes.iter().any(|note| note.contains("\"owner\"")), "{:?}", published.notes);
    let query =
        "select rolname, rolcanlogin, rolpassword, rolcreatedb, shobj_description(oid, 'pg_authid') from pg_authid
        where rolname in ('reader', 'owner', 'readers', 'powerful') order by 1";
    assert_eq!(there.psql("postgres", query), here.psql("postgres", query));

    // A restorer that is no superuser: it gives what it may.
    let third = Cluster::start(&[]);
    third.psql("postgres", "create role restorer login createdb createrole");
    let mut server = third.server();
    server.user = "restorer".to_owned();
    let mut options = options("owned", Mode::Swap);
    options.owner = Owner::Connecting;
    backup.change(|details| details.database.settings.clear());
    let published = restore(&server, &backup, options).await.expect("restore");
    let said = |word: &str| published.notes.iter().any(|note| note.contains("\"powerful\"") && note.contains(word));
    assert!(said("SUPERUSER") && said("REPLICATION"), "{:?}", published.notes);
    assert_eq!(third.psql("postgres", "select rolsuper from pg_roles where rolname = 'powerful'"), "f\n");
    assert_eq!(third.psql("owned", "select relowner::regrole from pg_class where relname = 't'"), "restorer\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_that_must_exist_are_named_and_ignored_ones_are_not_needed() {
    let (here, there) = (Cluster::start(&[]), Cluster::start(&[]));
    let backup = backup_with_roles(&here).await;
    let mut strict = options("owned", Mode::Swap);
    strict.roles = RoleHandling::MustExist;
    let error = restore(&there.server(), &backup, strict).await.expect_err("no such roles");
    assert!(["owner", "reader", "powerful"].iter().all(|role| error.to_string().contains(role)), "{error}");
    assert_eq!(databases(&there, "owned"), [""; 0]);
    let mut plain = options("owned", Mode::Swap);
    (plain.roles, plain.owner, plain.keep_privileges) = (RoleHandling::Ignore, Owner::Connecting, false);
    restore(&there.server(), &backup, plain).await.expect("restore");
    assert_eq!(
        there.psql("postgres", "select count(*) from pg_roles where rolname in ('owner', 'reader', 'readers')"),
        "0\n"
    );
    assert_eq!(
        there.psql("owned", "select relowner::regrole, relacl from pg_class where relname = 't'"),
        "postgres|\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_role_can_own_everything() {
    let (here, there) = (Cluster::start(&[]), Cluster::start(&[]));
    let backup = backup_with_roles(&here).await;
    there.psql("postgres", "create role heir; create role reader; create role owner");
    let mut options = options("inherited", Mode::AsNew);
    (options.owner, options.roles) = (Owner::Role("heir".to_owned()), RoleHandling::Ignore);
    restore(&there.server(), &backup, options).await.expect("restore");
    let query = "select distinct relowner::regrole from pg_class where relname in ('t', 'u')";
    assert_eq!(there.psql("inherited", query), "heir\n");
    assert_eq!(
        there.psql("inherited", "select datdba::regrole from pg_database where datname = 'inherited'"),
        "heir\n"
    );
}
