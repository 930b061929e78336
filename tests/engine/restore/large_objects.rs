//! Large objects come back whole from archives that do not create them, as those of `pg_dump` since PostgreSQL 17.

use bytes::Bytes;
use dbkeeper::engine::SCHEMA_PART;
use dbkeeper::engine::postgres::restore::{Mode, Owner};

use super::backup::{Backup, assert_same_text, options, restore, text_of};
use crate::support::postgres::Cluster;

const OBJECTS: &str = "select oid, lomowner::regrole, lomacl, obj_description(oid, 'pg_largeobject'),
    (select array_agg((pageno, md5(data)) order by pageno) from pg_largeobject where loid = m.oid)
    from pg_largeobject_metadata m order by oid";

/// A backup of large objects of each kind, in a schema without them.
async fn backup_without_objects(stem: &str) -> (String, Backup) {
    let cluster = Cluster::shared();
    let source = cluster.create_database(stem);
    let role = |name: &str| format!("{stem}_\"{name}");
    let quoted = |name: &str| format!("\"{}\"", role(name).replace('"', "\"\""));
    let (owner, reader, third) = (quoted("owner"), quoted("reader"), quoted("third"));
    cluster.psql("postgres", &format!("create role {owner}; create role {reader}; create role {third}"));
    cluster.psql(
        &source,
        &format!(
            "create table t (a integer); insert into t values (1);
             select lo_from_bytea(6001, decode(repeat('00ff10', 3000), 'hex')), lo_create(6002), lo_create(6003), lo_create(6004);
             select lo_put(6002, 100000, 'far behind'), lo_create(generate_series(6101, 6350));
             alter large object 6001 owner to {owner}; grant select on large object 6001 to {reader};
             comment on large object 6002 is E'it''s a \\\\ hole'; comment on large object 6003 is 'empty';
             alter large object 6003 owner to {owner}; revoke all on large object 6003 from {owner};
             grant update on large object 6003 to {reader} with grant option;
             set role {reader}; grant update on large object 6003 to {third}; reset role;
             revoke all on large object 6004 from current_user"
        ),
    );
    let mut backup = Backup::take(cluster, &source).await;
    assert_eq!(backup.details().large_objects, 254);
    let arguments = ["-Fc", "--section=pre-data", "--section=post-data", "--no-blobs", "-d", &source];
    backup.parts.insert(SCHEMA_PART.to_owned(), vec![Bytes::from(cluster.client("pg_dump", &arguments))]);
    (source, backup)
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_the_schema_lacks_come_back_with_owner_privileges_and_comment() {
    let cluster = Cluster::shared();
    let (source, backup) = backup_without_objects("absent_objects").await;
    let copy = format!("{source}_copy");
    restore(&cluster.server(), &backup, options(&copy, Mode::AsNew)).await.expect("restore");
    assert_eq!(cluster.psql(&copy, OBJECTS), cluster.psql(&source, OBJECTS));
    assert_same_text(&text_of(cluster, &copy, &[]), &text_of(cluster, &source, &[]));
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_the_schema_lacks_belong_to_whom_the_operator_said() {
    let cluster = Cluster::shared();
    let (source, backup) = backup_without_objects("given_objects").await;
    cluster.psql("postgres", "create role given_to login");
    let copy = format!("{source}_copy");
    let mut given = options(&copy, Mode::AsNew);
    given.owner = Owner::Role("given_to".to_owned());
    given.keep_privileges = false;
    restore(&cluster.server(), &backup, given).await.expect("restore");
    let facts = "select count(*), count(lomacl), min(lomowner::regrole::text), max(lomowner::regrole::text)
        from pg_largeobject_metadata";
    assert_eq!(cluster.psql(&copy, facts), "254|0|given_to|given_to\n");
    let mut connecting = options(&format!("{source}_other"), Mode::AsNew);
    connecting.owner = Owner::Connecting;
    let other = restore(&cluster.server(), &backup, connecting).await.expect("restore").name;
    assert_eq!(cluster.psql(&other, facts), "254|3|postgres|postgres\n");
    let contents = "select loid, pageno, md5(data) from pg_largeobject order by 1, 2";
    assert_eq!(cluster.psql(&other, contents), cluster.psql(&source, contents));
}
