//! Promise 5: every kind of object survives backup, destruction and restore: the same `pg_dump`, the same rows.

use std::collections::BTreeMap;

use super::world::{World, check_lines, dump_of, target};

/// Here columns come back in another order, as from `pg_dump`.
const INHERITED: &str = "inherited";

/// The databases of one fleet: tenant, how its database is created, what is in it.
const DATABASES: &[(&str, &str, &str)] = &[
    ("everything", "", concat!(include_str!("matrix/tables.sql"), include_str!("matrix/objects.sql"))),
    (INHERITED, "", include_str!("matrix/inherited.sql")),
    ("extensions", "", include_str!("matrix/extensions.sql")),
    ("ascii", "encoding 'SQL_ASCII' lc_collate 'C' lc_ctype 'C'", include_str!("matrix/ascii.sql")),
    ("latin", "encoding 'LATIN1' lc_collate 'C' lc_ctype 'C'", include_str!("matrix/latin.sql")),
    ("icu", "locale_provider icu icu_locale 'de-AT' locale 'C.UTF-8'", include_str!("matrix/icu.sql")),
    ("posix", "lc_collate 'C' lc_ctype 'POSIX' connection limit 23", include_str!("matrix/text.sql")),
    ("Odd \"name\" 'of' \\it: ä€", "", include_str!("matrix/text.sql")),
    ("empty", "", ""),
];

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Databases that cannot be created by [`World::tenant`].
fn make_fleet(world: &World) {
    world.cluster().psql("postgres", "create role m_owner login; create role m_reader; create role \"m Odd\"\"role\"; create role m_member in role m_reader");
    for (name, create, sql) in DATABASES {
        let database = world.db(name);
        let create = format!("create database {} template template0 {create}", quoted(&database));
        world.cluster().psql("postgres", &create);
        world.cluster().psql(&connection(&database), &sql.replace("THIS_DATABASE", &quoted(&database)));
        world.register(name, "{}");
    }
    world.cluster().psql("postgres", &format!("update pg_database set datistemplate = false; alter database {0} owner to m_owner;
        comment on database {0} is 'a ''comment'' of ours'; alter database {0} set timezone = 'Asia/Kathmandu'; alter database {0} set search_path = \"$user\", app, \"od,d\";
        alter role m_owner in database {0} set work_mem = '9MB'; revoke connect, temporary on database {0} from public;
        grant connect on database {0} to m_reader; grant create on database {0} to \"m Odd\"\"role\" with grant option; alter database {0} connection limit 41",
        quoted(&world.db("everything"))));
}

/// What psql takes for a database of any name.
fn connection(database: &str) -> String {
    format!("dbname='{}'", database.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[test]
fn every_kind_of_object_survives_backup_destruction_and_restore() {
    let world = World::own(&["max_prepared_transactions=5"]);
    make_fleet(&world);
    world.run(&["init"]).expect(0);
    let report = world.backup();
    let mut before = BTreeMap::new();
    for (name, ..) in DATABASES {
        let database = world.db(name);
        let content = world.print(&connection(&database)).content;
        let dumps = [dump_of(world.cluster(), &database, &["--schema-only"]), dump_of(world.cluster(), &database, &[])];
        before.insert(*name, (content, dumps));
        assert_eq!(target(&report, name)["result"], "ok");
    }
    for (name, ..) in DATABASES {
        let database = world.db(name);
        // Slots and subscriptions hold a database back: none of these has a slot.
        let subscriptions = world.cluster().psql(&connection(&database), "select subname from pg_subscription s join pg_database d on d.oid = subdbid where datname = current_database()");
        for subscription in subscriptions.lines() {
            world.cluster().psql(&connection(&database), &format!("drop subscription {subscription}"));
        }
        world.cluster().psql("postgres", &format!("drop database {}", quoted(&database)));
    }
    let report = world.json(&["restore", "--all", "--yes", "--json"], 0);
    for (name, ..) in DATABASES {
        assert_eq!(target(&report, name)["result"], "ok");
        let (database, (content, [schema, mut whole])) =
            (world.db(name), before.remove(*name).expect("looked at before"));
        check_lines(
            &format!("the definitions of {name}"),
            &schema,
            &dump_of(world.cluster(), &database, &["--schema-only"]),
        );
        let after = world.print(&connection(&database)).content;
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        check_lines(&format!("the content of {name}"), &lines(&content), &lines(&after));
        if *name == INHERITED {
            continue;
        }
        // Rows may lie in another order.
        let mut again = dump_of(world.cluster(), &database, &[]);
        whole.sort_unstable();
        again.sort_unstable();
        check_lines(&format!("the whole dump of {name}"), &whole, &again);
    }
    // The last backup is that of the restored fleet, and its schemas are recognised.
    let report = world.backup();
    assert_eq!(report["result"], "ok");
}
