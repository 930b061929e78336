//! The registry is lost, or the whole server is: the repository, an identity and the configuration are enough.

use super::world::{SHOP, World, check_lines, dump_of, print_of, target};
use crate::support::postgres::Cluster;

#[test]
fn without_the_central_database_a_tenant_is_restored_by_the_backups_own_names() {
    let world = World::with_shops();
    // A database that no rule would guess.
    let odd = format!("{}of somebody", world.prefix);
    world.create(&odd);
    world.cluster().psql(&odd, SHOP);
    world.register("odd", &format!("{{\"tenancy_db_name\": \"{odd}\"}}"));
    world.backup();
    let (good, central) = (world.print(&odd), world.print(&world.central));
    world.cluster().psql("postgres", &format!("drop database \"{odd}\""));
    world.cluster().psql("postgres", &format!("drop database {}", world.central));
    let said = world.run(&["restore", "--tenant", "odd", "--yes"]).expect(0).stderr;
    assert!(said.contains("the registry cannot be read") && said.contains(&world.central), "{said}");
    assert_eq!(world.print(&odd).content, good.content);
    world.run(&["restore", "--central", "--yes"]).expect(0);
    assert_eq!(world.print(&world.central).content, central.content);
    assert_eq!(world.backup()["targets"].as_array().map(Vec::len), Some(4), "the fleet is whole again");
}

#[test]
fn a_whole_fleet_is_rebuilt_on_an_empty_server_with_its_roles() {
    let (world, empty) = (World::with_shops(), Cluster::start(&[]));
    let stem = world.prefix.replace("t_", "");
    let (owner, reader) = (format!("{stem}owner"), format!("{stem}reader"));
    world.cluster().psql(
        "postgres",
        &format!("create role {owner} login password 'secret' createdb; create role {reader}; grant {reader} to {owner} with admin option"),
    );
    let all: Vec<String> = world.databases().into_keys().collect();
    for database in &all {
        world.cluster().psql(
            database,
            &format!(
                "alter database {database} owner to {owner}; alter database {database} set work_mem = '7MB';
                 alter role {owner} in database {database} set search_path = public, pg_catalog;
                 grant connect on database {database} to {reader}; create table mine (i int); alter table mine owner to {owner};
                 grant select on mine to {reader}; alter default privileges for role {owner} grant select on tables to {reader}"
            ),
        );
    }
    world.backup();
    let of_old = format!("127.0.0.1:{}\"", world.cluster().port);
    world.reconfigure(&of_old, &format!("127.0.0.1:{}\"", empty.port));
    let plan = world.json(&["restore", "--all", "--dry-run", "--json"], 0);
    let order: Vec<&str> =
        plan["steps"].as_array().expect("steps").iter().filter_map(|s| s["target"]["name"].as_str()).collect();
    assert_eq!(order, ["acme", "globex", "central"], "the central database last");
    let report = world.json(&["restore", "--all", "--yes", "--json"], 0);
    assert_eq!(target(&report, "central")["result"], "ok");
    for database in &all {
        assert_eq!(print_of(&empty, database).content, world.print(database).content, "{database}");
        check_lines(database, &dump_of(world.cluster(), database, &[]), &dump_of(&empty, database, &[]));
    }
    let roles = format!(
        "select rolname, rolcanlogin, rolcreatedb, rolpassword from pg_authid where rolname in ('{owner}', '{reader}') order by 1;
         select roleid::regrole, member::regrole, admin_option from pg_auth_members where member = '{owner}'::regrole"
    );
    assert_eq!(empty.psql("postgres", &roles), world.cluster().psql("postgres", &roles));
    assert_eq!(world.backup()["result"], "ok", "the new server is backed up as the old one was");
}
