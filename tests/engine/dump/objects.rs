//! What stands beside the rows: sequences, large objects, roles, the properties of the database.

use dbkeeper::engine::DumpSession;
use dbkeeper::engine::postgres::description::{AclEntry, DatabaseSetting, LARGE_OBJECTS_PART, Membership};
use dbkeeper::engine::postgres::dump::open_dump;
use dbkeeper::sql::Server;

use super::recording::Recording;
use super::{dump, dump_with, options};
use crate::support::postgres::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_a_sequence_is_kept() {
    let cluster = Cluster::shared();
    let db = cluster.create_database("sequences");
    cluster.psql(
        &db,
        "create sequence fresh start 7; create sequence used; select nextval('used'), nextval('used');
         create sequence down increment -5 minvalue -9223372036854775808 start -9223372036854775803;
         select nextval('down'), nextval('down');
         create table t (i int generated always as identity); insert into t default values;",
    );
    let dumped = dump(&cluster.server(), &db).await;
    let mut states: Vec<(&str, i64, bool)> =
        dumped.details.sequences.iter().map(|s| (s.name.as_str(), s.last_value, s.is_called)).collect();
    states.sort_unstable();
    let expected = [("down", i64::MIN, true), ("fresh", 7, false), ("t_i_seq", 1, true), ("used", 2, true)];
    assert_eq!(states, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_is_never_behind_the_rows_that_were_made_with_it() {
    let cluster = Cluster::shared();
    let db = cluster.create_database("numbering");
    cluster.psql(&db, "create table t (i serial)");
    let (name, port, socket, psql) = (db.clone(), cluster.port, cluster.folder.clone(), cluster.bin.join("psql"));
    let writer = std::thread::spawn(move || {
        let mut command = std::process::Command::new(psql);
        command.args(["-Xq", "-U", "postgres", "-h"]).arg(socket).args(["-p", &port.to_string(), "-d", &name, "-c"]);
        let inserts = "do $$ begin for n in 1..30000 loop insert into t default values; commit; end loop; end $$";
        assert!(command.arg(inserts).status().expect("run psql").success());
    });
    let mut seen = std::collections::HashSet::new();
    while !writer.is_finished() {
        let dumped = dump(&cluster.server(), &db).await;
        let highest = dumped.rows("t").iter().map(|row| row.parse::<i64>().expect("a number")).max().unwrap_or(0);
        assert!(highest <= dumped.details.sequences[0].last_value, "the next row would be a duplicate");
        seen.insert(highest);
    }
    writer.join().expect("no panic");
    assert!(seen.len() > 1, "nobody wrote meanwhile");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_objects_read_the_same_for_a_superuser_and_for_their_owner_and_keep_their_holes() {
    let cluster = Cluster::shared();
    let db = cluster.create_database("large");
    cluster.psql("postgres", "create role large_owner login");
    cluster.psql(
        &db,
        "set role large_owner; select lo_from_bytea(4001, ''), lo_from_bytea(4002, '\\x00ff0a5c'), lo_create(4003), lo_create(4004);
         select lo_put(4003, 5000000000, 'end'); select lo_put(4004, 0, decode(repeat('ab', 5000), 'hex'));
         select lo_from_bytea(4005, decode(repeat('00', 2048), 'hex'));",
    );
    let ours = dump(&cluster.server(), &db).await;
    assert_eq!(ours.details.large_objects, 5);
    assert_eq!(ours.details.large_object_page_bytes, 2048);
    let rows = ours.parts.pieces(LARGE_OBJECTS_PART);
    let row = |at: usize| String::from_utf8_lossy(&rows[at]).into_owned();
    assert_eq!(row(0), "4002\t0\t\\\\x00ff0a5c\n");
    let page = 5_000_000_000_i64 / 2048;
    assert!(row(1).starts_with(&format!("4003\t{page}\t")), "only the page behind the hole: {}", row(1));
    assert_eq!(rows.len(), 6);
    let owner = Server { user: "large_owner".to_owned(), ..cluster.server() };
    let theirs = dump_with(&owner, &db, &options()).await.expect("the owner reads them");
    assert_eq!(theirs.parts.pieces(LARGE_OBJECTS_PART), rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_objects_are_of_the_same_moment_as_the_rows() {
    let cluster = Cluster::shared();
    let db = cluster.create_database("unlinked");
    cluster.psql(&db, "select lo_from_bytea(5001, 'before')");
    let open = open_dump(&cluster.server(), &db, &options()).await.expect("open");
    cluster.psql(&db, "select lo_unlink(5001), lo_from_bytea(5002, 'after')");
    let mut sink = Recording::of(open.parts());
    open.read(1, &[1], &mut sink).await.expect("read");
    assert_eq!(sink.bytes(LARGE_OBJECTS_PART), b"5001\t0\t\\\\x6265666f7265\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_roles_that_a_database_needs_are_read_groups_first_and_no_others() {
    let cluster = Cluster::shared();
    let db = cluster.create_database("peopled");
    cluster.psql(
        &db,
        "create role r_stranger; create role r_top; create role r_group in role r_top, pg_monitor;
         create role r_owner login password 'secret' connection limit 3 valid until '2030-01-02 03:04:05+00' createdb;
         grant r_group to r_owner with admin option; create role r_reader nologin noinherit; create role r_policy;
         create role r_setting; create role r_connects; create role r_default; comment on role r_owner is 'it''s';
         alter role r_owner set work_mem = '7MB';
         create table t (i int); alter table t owner to r_owner; grant select on t to r_reader;
         create policy p on t to r_policy using (true); alter default privileges in schema public grant select on tables to r_default;",
    );
    cluster.psql(
        "postgres",
        &format!(
            "alter role r_setting in database {db} set work_mem = '9MB'; grant connect on database {db} to r_connects"
        ),
    );
    let dumped = dump(&cluster.server(), &db).await;
    let names: Vec<&str> = dumped.details.roles.iter().map(|role| role.name.as_str()).collect();
    let place =
        |name: &str| names.iter().position(|other| *other == name).unwrap_or_else(|| panic!("{name}: {names:?}"));
    assert!(place("r_top") < place("r_group") && place("r_group") < place("r_owner"), "{names:?}");
    for name in ["r_reader", "r_policy", "r_setting", "r_connects", "r_default", "postgres"] {
        place(name);
    }
    assert!(!names.contains(&"r_stranger") && names.iter().all(|name| !name.starts_with("pg_")), "{names:?}");
    let owner = &dumped.details.roles[place("r_owner")];
    assert!(owner.password_verifier.as_deref().is_some_and(|verifier| verifier.starts_with("SCRAM-SHA-256$")));
    assert_eq!(owner.valid_until.as_deref(), Some("2030-01-02 03:04:05+00"));
    assert_eq!((owner.connection_limit, owner.login, owner.create_db, owner.superuser), (3, true, true, false));
    assert_eq!(owner.comment.as_deref(), Some("it's"));
    assert_eq!(owner.settings, [("work_mem".to_owned(), "7MB".to_owned())]);
    let membership = Membership { role: "r_group".to_owned(), admin: true, inherit: None, set: None };
    assert_eq!(owner.member_of, [membership]);
    let group = &dumped.details.roles[place("r_group")];
    let groups: Vec<&str> = group.member_of.iter().map(|membership| membership.role.as_str()).collect();
    assert_eq!(groups, ["pg_monitor", "r_top"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_properties_of_the_database_are_read() {
    let cluster = Cluster::shared();
    let db = "properties of it";
    cluster.psql("postgres", "create role p_owner; create role p_user; create role p_role");
    cluster.psql(
        "postgres",
        &format!("create database \"{db}\" template template0 encoding 'UTF8' lc_collate 'C' lc_ctype 'C.UTF-8' owner p_owner"),
    );
    cluster.psql(
        "postgres",
        &format!(
            "alter database \"{db}\" connection limit 17; alter database \"{db}\" set search_path = a, \"b=c\";
             alter role p_role in database \"{db}\" set work_mem = '5MB'; comment on database \"{db}\" is 'a comment';
             revoke connect on database \"{db}\" from public; grant create on database \"{db}\" to p_user with grant option;"
        ),
    );
    let properties = dump(&cluster.server(), db).await.details.database;
    assert_eq!((properties.name.as_str(), properties.owner.as_str()), (db, "p_owner"));
    assert_eq!((properties.collate.as_str(), properties.ctype.as_str()), ("C", "C.UTF-8"));
    assert_eq!((properties.encoding.as_str(), properties.locale_provider.as_str()), ("UTF8", "c"));
    assert_eq!((properties.connection_limit, properties.allow_connections, properties.is_template), (17, true, false));
    assert_eq!((properties.comment.as_deref(), properties.tablespace.as_str()), (Some("a comment"), "pg_default"));
    let setting = |role: Option<&str>, name: &str, value: &str| DatabaseSetting {
        role: role.map(str::to_owned),
        name: name.to_owned(),
        value: value.to_owned(),
    };
    let expected = [setting(None, "search_path", "a, \"b=c\""), setting(Some("p_role"), "work_mem", "5MB")];
    assert_eq!(properties.settings, expected);
    let acl = properties.acl.expect("changed rights");
    let entry = |grantee: Option<&str>, privilege: &str, grantable| AclEntry {
        grantor: "p_owner".to_owned(),
        grantee: grantee.map(str::to_owned),
        privilege: privilege.to_owned(),
        grantable,
    };
    assert!(acl.contains(&entry(Some("p_user"), "CREATE", true)), "{acl:?}");
    assert!(acl.contains(&entry(None, "TEMPORARY", false)) && !acl.contains(&entry(None, "CONNECT", false)), "{acl:?}");
    let plain = cluster.create_database("plain");
    assert_eq!(dump(&cluster.server(), &plain).await.details.database.acl, None, "the default is not spelled out");
}
