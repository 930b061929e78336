//! Sizes that break other tools: ten thousand tables, rows of 64 MB, tables of 1,600 columns.

use super::world::{World, check_lines, dump_of};

#[test]
fn ten_thousand_tables_are_backed_up_and_restored() {
    let world = World::own(&["max_locks_per_transaction=512"]);
    // In pieces: one transaction would need a lock for each.
    let mut sql = String::new();
    for piece in 0..10 {
        let names = format!("{}..{}", piece * 1000, piece * 1000 + 999);
        sql.push_str(&format!(
            "do $$ begin for n in {names} loop execute format('create table t_%s (n int, s text)', n);
             execute format('insert into t_%s values (%s, md5(%L))', n, n, n); end loop; end $$;\n"
        ));
    }
    let database = world.tenant("wide", &sql);
    world.run(&["init"]).expect(0);
    let report = world.json(&["backup", "--tenant", "wide", "--json"], 0);
    assert_eq!(report["totals"]["rows"], 10_000);
    let all = "select count(*), md5(string_agg(query_to_xml(format('select n, s from %I', relname), false, true, '')::text, '' order by relname))
        from pg_class where relkind = 'r' and relname like 't\\_%' and relnamespace = 'public'::regnamespace";
    let before = world.cluster().psql(&database, all);
    assert!(before.starts_with("10000|"), "{before}");
    world.cluster().psql("postgres", &format!("drop database {database}"));
    world.run(&["restore", "--tenant", "wide", "--yes"]).expect(0);
    assert_eq!(world.cluster().psql(&database, all), before);
}

#[test]
fn huge_rows_and_the_widest_table_survive() {
    let world = World::shared();
    let columns: Vec<String> = (1..=1600).map(|number| format!("c{number} int")).collect();
    let values: Vec<String> =
        (1..=1600).map(|number| if number % 7 == 0 { "null".to_owned() } else { number.to_string() }).collect();
    let sql = format!(
        "create table widest ({}); insert into widest values ({}), ({});
         create table huge (n int, t text, b bytea);
         insert into huge select 1, string_agg(md5(n::text), '' order by n), 'small' from generate_series(1, 2097152) n;
         insert into huge select 2, 'small', decode(substr(t, 1, 33554432), 'hex') from huge; insert into huge values (3, '', null);",
        columns.join(", "),
        values.join(", "),
        values.join(", ")
    );
    let database = world.tenant("huge", &sql);
    world.run(&["init"]).expect(0);
    world.backup();
    let (print, schema) = (world.print(&database), dump_of(world.cluster(), &database, &["--schema-only"]));
    world.cluster().psql("postgres", &format!("drop database {database}"));
    world.run(&["restore", "--tenant", "huge", "--yes"]).expect(0);
    assert_eq!(world.print(&database).content, print.content);
    check_lines("the definitions", &schema, &dump_of(world.cluster(), &database, &["--schema-only"]));
}
