//! The network between dbkeeper and its peers is cut, slow, or dead: nothing counts that is not whole, a silent peer ends with
//! 124 and its name, and the next run does the work.

use serde_json::Value;

use super::kill::LEDGER;
use super::world::{SHOP, World};
use crate::support::proxy::{Proxy, Way};
use crate::support::rounds::{Dice, rounds};
use crate::support::seaweed::Seaweed;

/// What `./dev test` tries; `./dev test faults` tries 50.
const ROUNDS: usize = 3;

/// Codes of a run that lost a peer: some targets, the store, the database.
const LOST: [i32; 3] = [3, 10, 13];

/// A fleet with both of its peers behind a proxy: the database, the store.
fn world() -> (World, [Proxy; 2]) {
    let world = World::shared();
    world.tenant("ledger", LEDGER);
    world.tenant("acme", SHOP);
    let (database, store) = (Proxy::before(world.cluster().port), Proxy::before_endpoint(&Seaweed::shared().endpoint));
    world.through(&database);
    world.use_s3(&store.endpoint());
    world.run(&["init"]).expect(0);
    (world, [database, store])
}

const WAYS: [Way; 2] = [Way::Up, Way::Down];

/// What a run moves through each proxy, each way.
fn measure(proxies: &[Proxy; 2], run: impl FnOnce()) -> [[u64; 2]; 2] {
    let read = || [0, 1].map(|proxy: usize| WAYS.map(|way| proxies[proxy].passed(way)));
    let before = read();
    run();
    let after = read();
    [0, 1].map(|proxy: usize| [0, 1].map(|way: usize| after[proxy][way].saturating_sub(before[proxy][way]).max(1)))
}

/// Where a connection is cut.
fn choose(dice: &mut Dice, moved: &[[u64; 2]; 2]) -> (usize, Way, u64) {
    let (proxy, way) = (usize::from(dice.heads()), usize::from(dice.heads()));
    (proxy, WAYS[way], dice.below(moved[proxy][way]))
}

#[test]
fn a_connection_that_is_cut_at_any_byte_of_a_backup_costs_at_most_this_run() {
    let mut dice = Dice::roll("cut a backup");
    let (world, proxies) = world();
    let ledger = world.db("ledger");
    world.backup();
    world.cluster().psql(&ledger, "update ledger set text = md5(text) || md5(text || 'x')");
    let moved = measure(&proxies, || drop(world.backup()));
    for round in 1..=rounds(ROUNDS) {
        world.cluster().psql(&ledger, "update ledger set text = md5(text) || md5(text || 'x')");
        let (proxy, way, bytes) = choose(&mut dice, &moved);
        proxies[proxy].cut_after(way, bytes);
        let ended = world.run(&["backup", "--all", "--json"]);
        proxies[proxy].behave();
        println!("round {round}: proxy {proxy}, {way:?}, byte {bytes}: ended with {}", ended.code);
        assert!(ended.code == 0 || LOST.contains(&ended.code), "{ended:?}");
        if ended.code != 0 {
            let told = ["hint", "next:"].iter().any(|words| ended.stderr.contains(words));
            assert!(told && !ended.stderr.contains("defect"), "{ended:?}");
        }
        world.run(&["verify"]).expect(0);
        let report = world.backup();
        assert_eq!(report["totals"]["ok"], 3, "{report:#}");
    }
    world.run(&["verify", "--read-data"]).expect(0);
    let copy = format!("{ledger}_copy");
    world.run(&["restore", "--tenant", "ledger", "--as", &copy, "--yes"]).expect(0);
    assert_eq!(world.print(&copy).content, world.print(&ledger).content);
}

#[test]
fn a_connection_that_is_cut_at_any_byte_of_a_restore_leaves_the_live_database_or_the_restored_one() {
    let mut dice = Dice::roll("cut a restore");
    let (world, proxies) = world();
    world.backup();
    let (ledger, good) = (world.db("ledger"), world.print(&world.db("ledger")).content);
    let arguments = ["restore", "--tenant", "ledger", "--yes", "--json"];
    let moved = measure(&proxies, || drop(world.run(&arguments).expect(0)));
    for round in 1..=rounds(ROUNDS) {
        world.cluster().psql(&ledger, &format!("update ledger set round = {round} where id % 7 = 0"));
        let old = world.print(&ledger);
        let (proxy, way, bytes) = choose(&mut dice, &moved);
        proxies[proxy].cut_after(way, bytes);
        let ended = world.run(&arguments);
        proxies[proxy].behave();
        println!("round {round}: proxy {proxy}, {way:?}, byte {bytes}: ended with {}", ended.code);
        let live = world.print(&ledger);
        match ended.code {
            0 => assert_eq!(live.content, good),
            code => {
                assert!(LOST.contains(&code), "{ended:?}");
                assert!(live == old || live.content == good, "whole, under its own name");
                assert!(["hint", "next:"].iter().any(|words| ended.stderr.contains(words)), "{ended:?}");
            }
        }
    }
    world.run(&arguments).expect(0);
    assert_eq!(world.print(&ledger).content, good);
    let left: Vec<String> = world.databases().into_keys().filter(|name| name.contains("__restore_")).collect();
    assert_eq!(left, Vec::<String>::new(), "what failed restores left is gone");
}

#[test]
fn a_slow_peer_is_no_dead_one() {
    let (world, proxies) = world();
    for proxy in &proxies {
        proxy.slow_to(2 << 20);
    }
    world.limit("no_progress = \"60s\"");
    world.backup();
    world.run(&["restore", "--tenant", "ledger", "--yes"]).expect(0);
}

/// Stands one peer still in the middle of a run, which then ends with 124 and says for whom it waited.
fn check_stalled(arguments: &[&str], proxy: usize, way: Way, words: &[&str]) {
    let (world, proxies) = world();
    world.run(&["backup", "--tenant", "ledger"]).expect(0);
    world.cluster().psql(&world.db("ledger"), "update ledger set text = md5(text) || md5(text || 'x')");
    let live = world.print(&world.db("ledger"));
    world.limit("no_progress = \"10s\"");
    proxies[proxy].stall_after(way, 200_000);
    let ended = world.run(arguments).expect(124);
    assert!(proxies[proxy].is_stalled());
    for words in words {
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
    }
    assert!(ended.stderr.contains("no_progress") || ended.stderr.contains("firewall"), "{}", ended.stderr);
    for proxy in &proxies {
        proxy.behave();
        proxy.cut_all();
    }
    assert_eq!(world.print(&world.db("ledger")), live);
    world.run(arguments).expect(0);
}

const BACKUP: [&str; 3] = ["backup", "--tenant", "ledger"];
const RESTORE: [&str; 4] = ["restore", "--tenant", "ledger", "--yes"];

#[test]
fn a_backup_ends_with_124_when_the_database_stands_still() {
    check_stalled(&BACKUP, 0, Way::Down, &["nothing moved for 10s", "an answer of server \"pg\""]);
}

#[test]
fn a_backup_ends_with_124_when_the_store_stands_still() {
    check_stalled(&BACKUP, 1, Way::Up, &["http://127.0.0.1:", "no sign of life"]);
}

#[test]
fn a_restore_ends_with_124_when_the_database_stands_still() {
    check_stalled(&RESTORE, 0, Way::Up, &["nothing moved for 10s", "an answer of server \"pg\""]);
}

#[test]
fn a_restore_ends_with_124_when_the_store_stands_still() {
    check_stalled(&RESTORE, 1, Way::Down, &["http://127.0.0.1:", "no sign of life"]);
}

#[test]
fn doctor_names_a_server_that_stands_still_and_comes_to_its_end() {
    let mut dice = Dice::roll("doctor before a server that stands still");
    let (world, proxies) = world();
    let moved = measure(&proxies, || drop(world.run(&["doctor"]).expect(0)));
    world.limit("no_progress = \"10s\"");
    // From the middle on: it has logged in.
    let byte = moved[0][1] / 2 + dice.below(moved[0][1] / 3);
    println!("stands still after {byte} bytes");
    proxies[0].stall_after(Way::Down, byte);
    let ended = world.run(&["doctor"]);
    assert!(proxies[0].is_stalled());
    assert!([3, 13, 124].contains(&ended.code), "{ended:?}");
    assert!(ended.stdout.contains("no answer"), "{}", ended.stdout);
}

#[test]
fn a_name_that_nobody_resolves_ends_with_10_or_13_and_names_it() {
    let (world, proxies) = world();
    world.backup();
    let [database, store] = &proxies;
    world.reconfigure(&store.endpoint(), "http://store.invalid:9");
    world.reconfigure("path_style = true", "path_style = true\nattempts = 1");
    let said = world.run(&["backup", "--all"]).expect(10).stderr;
    assert!(said.contains("the name of http://store.invalid:9 cannot be resolved") && said.contains("hint"), "{said}");
    world.reconfigure("http://store.invalid:9", &store.endpoint());
    world.reconfigure(&format!("127.0.0.1:{}\"", database.port), "database.invalid:5432\"");
    let said = world.run(&["backup", "--all"]).expect(13).stderr;
    assert!(said.contains("database.invalid") && said.contains("lookup") && said.contains("hint"), "{said}");
    // A restore needs neither registry nor the source: the plan says what could not be asked.
    let plan: Value = world.json(&["restore", "--tenant", "acme", "--dry-run", "--json"], 0);
    assert!(plan["steps"][0]["warnings"].to_string().contains("database.invalid"), "{plan:#}");
}
