//! What a backup costs the database server, counted and not timed: logins, statements, runs of `pg_dump`.

use super::world::World;
use crate::support::seaweed::Seaweed;

/// Tables in which there is something to read.
const FILLED: usize = 4;
/// Tables by which the other tenants differ from the plain one.
const MORE: usize = 30;
/// Statements of a backup beside one COPY for each table: setting up, locks, snapshot, catalogs, fingerprint, properties.
const STATEMENTS: usize = 20;

/// What only `pg_dump` says, once in each of its sessions.
const BEGINNING_OF_PG_DUMP: &str = "LOG:  statement: SET DATESTYLE = ISO";

fn tables(from: usize, count: usize, filled: bool) -> String {
    let one = |n: usize| {
        let rows = if filled {
            format!("insert into t{n} select i, 'row ' || i from generate_series(1, 50) i;")
        } else {
            String::new()
        };
        format!("create table t{n} (id bigint primary key, name text); {rows}")
    };
    (from..from + count).map(one).collect()
}

/// What the server has logged so far.
fn log(world: &World) -> String {
    std::fs::read_to_string(world.cluster().folder.join("log")).expect("the server's log")
}

/// The lines about one database with these words.
fn count(log: &str, database: &str, words: &str) -> usize {
    let begin = format!("{database}|");
    log.lines().filter(|line| line.starts_with(&begin) && line.contains(words)).count()
}

/// Each message that asks for work is logged once: a simple query, or the execution of a prepared one.
fn statements(log: &str, database: &str) -> usize {
    count(log, database, "LOG:  statement: ") + count(log, database, "LOG:  execute ")
}

#[test]
fn an_empty_table_costs_no_statement_and_equal_schemas_are_dumped_once() {
    let world = World::own(&["log_statement=all", "log_line_prefix='%d|'", "log_connections=on"]);
    let plain = world.tenant("plain", &tables(0, FILLED, true));
    let twin = world.tenant("twin", &tables(0, FILLED, true));
    let wide = world.tenant("wide", &(tables(0, FILLED, true) + &tables(FILLED, MORE, false)));
    let full = world.tenant("full", &(tables(0, FILLED, true) + &tables(FILLED, MORE, true)));
    // One after the other, so that what one has learned is there for the next.
    world.reconfigure("[retention]", "[limits]\ntargets_at_once = 1\n\n[retention]");
    world.run(&["init"]).expect(0);
    let before = log(&world).len();
    world.backup();
    let first = log(&world).split_off(before);
    let dumps = |database: &str| count(&first, database, BEGINNING_OF_PG_DUMP);
    assert_eq!(dumps(&plain) + dumps(&twin), 1, "two tenants of one schema");
    assert_eq!((dumps(&wide) + dumps(&full), dumps(&world.central)), (1, 1), "they differ in rows only");

    let before = log(&world).len();
    world.backup();
    let second = log(&world).split_off(before);
    for database in [&plain, &twin, &wide, &full] {
        let logins = count(&second, database, "connection authorized");
        assert_eq!(logins, 1, "an unchanged small tenant needs one session, and no pg_dump: {database}");
    }
    let copies = statements(&second, &plain);
    assert!((FILLED..=FILLED + STATEMENTS).contains(&copies), "{copies} statements for {FILLED} tables");
    assert_eq!(statements(&second, &wide), copies, "{MORE} empty tables cost nothing more");
    assert_eq!(statements(&second, &full), copies + MORE, "each table with rows costs one COPY");
}

#[test]
fn an_unchanged_small_tenant_costs_five_requests_of_a_real_store() {
    let world = World::shared();
    world.use_s3(&Seaweed::shared().endpoint);
    for name in ["acme", "globex", "initech"] {
        world.tenant(name, &tables(0, FILLED, true));
    }
    world.run(&["init"]).expect(0);
    world.backup();
    let requests = |tenants: &[&str]| -> u64 {
        let chosen = tenants.iter().flat_map(|name| ["--tenant", *name]);
        let report = world.json(&[&["backup"], chosen.collect::<Vec<_>>().as_slice(), &["--json"]].concat(), 0);
        let count = |kind: &str| report["requests"][kind].as_u64().expect("a number");
        ["puts", "copies", "lists", "gets", "heads", "deletes"].map(count).iter().sum()
    };
    requests(&["acme", "globex", "initech"]);
    let [one, three] = [&["acme"][..], &["acme", "globex", "initech"]].map(requests);
    assert_eq!(three - one, 2 * 5, "{three} requests for three tenants, {one} for one");
}
