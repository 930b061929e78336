//! `kill -9` at any moment of a backup or a restore: nothing that was there is lost, and the next run finishes the work.
//!
//! Moments come from progress, never from time: a byte that passes between the program and a server, or that appears in the
//! repository's folder, of as many as a whole run moves. Half of them are held, so that the kill hits exactly there.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::stop::{processes, sessions};
use super::world::{REPOSITORY, SHOP, World, wait_until};
use crate::support::proxy::{Proxy, Way};
use crate::support::rounds::{Dice, rounds};
use crate::support::seaweed::Seaweed;

/// What `./dev test` tries; `./dev test faults` tries 50.
const ROUNDS: usize = 3;

/// A tenant whose backup and restore move megabytes through every stage: rows, sequences, indexes, constraints.
pub(super) const LEDGER: &str = "
    create table ledger (id serial primary key, text text not null, round int not null default 0);
    insert into ledger (text) select md5(n::text) || md5((n + 1)::text) from generate_series(1, 15000) n;
    create index on ledger (text);";

/// Where a run's progress is seen.
enum Gauge<'a> {
    Passed(&'a Proxy, Way),
    Stored(&'a World),
}

impl Gauge<'_> {
    fn read(&self) -> u64 {
        match self {
            Self::Passed(proxy, way) => proxy.passed(*way),
            Self::Stored(world) => stored(world),
        }
    }
}

/// Bytes in the repository's folder, those of unfinished objects too; files come and go while it is looked at.
fn stored(world: &World) -> u64 {
    let (mut bytes, mut folders) = (0, vec![world.sandbox.path(REPOSITORY)]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(found) if found.is_dir() => folders.push(entry.path()),
                Ok(found) => bytes += found.len(),
                Err(_) => {}
            }
        }
    }
    bytes
}

/// Runs to the end and gives what each gauge has moved.
fn measure(world: &World, arguments: &[&str], gauges: &[Gauge<'_>]) -> Vec<u64> {
    let before: Vec<u64> = gauges.iter().map(Gauge::read).collect();
    world.run(arguments).expect(0);
    gauges.iter().zip(before).map(|(gauge, before)| gauge.read().saturating_sub(before).max(1)).collect()
}

/// Starts, and kills when so many bytes have moved; true if it did not end before by itself. A held kill lets the byte pass
/// no further.
fn kill_at(world: &World, arguments: &[&str], (gauge, bytes): (&Gauge<'_>, u64), held: bool) -> bool {
    let start = gauge.read();
    let hold = match gauge {
        Gauge::Passed(proxy, way) if held => {
            proxy.stall_after(*way, bytes);
            Some(proxy)
        }
        _ => None,
    };
    let (mut child, began) = (world.start(arguments), Instant::now());
    let killed = loop {
        let is_there = hold.map_or_else(|| bytes <= gauge.read().saturating_sub(start), |proxy| proxy.is_stalled());
        if is_there {
            child.kill().expect("kill it");
            break true;
        }
        if child.try_wait().expect("ask for its end").is_some() {
            break false;
        }
        assert!(began.elapsed() < Duration::from_secs(120), "it neither moves nor ends");
        std::thread::sleep(Duration::from_millis(1));
    };
    if let Gauge::Passed(proxy, _) = gauge {
        proxy.behave();
        proxy.cut_all();
    }
    let code = world.finish(child).code;
    assert!(code == -1 || code == 0, "killed, or done before: {code}");
    wait_until("its sessions and programs are gone", || sessions(world).is_empty() && processes(world).is_empty());
    killed
}

/// The content of every backup of the ledger, by id.
type Known = BTreeMap<String, String>;

/// No backup that was there is gone, and what is new is of now.
fn look(world: &World, known: &mut Known, now: &str) {
    let listed = world.json(&["list", "--tenant", "ledger", "--json"], 0);
    let listed = listed.as_array().expect("an array").iter().map(|one| one["id"].as_str().expect("an id").to_owned());
    let listed: Vec<String> = listed.collect();
    for id in known.keys() {
        assert!(listed.contains(id), "backup {id} is gone");
    }
    for id in listed {
        known.entry(id).or_insert_with(|| now.to_owned());
    }
}

#[expect(clippy::print_stdout, reason = "which round it is, is shown where the test fails")]
fn check_backups(world: &World, gauges: &[Gauge<'_>], dice: &mut Dice) {
    let (ledger, mut known) = (world.db("ledger"), Known::new());
    let arguments = ["backup", "--all", "--json"];
    world.backup();
    look(world, &mut known, &world.print(&ledger).content);
    world.cluster().psql(&ledger, "update ledger set text = md5(text) || md5(text || 'x')");
    let whole = measure(world, &arguments, gauges);
    look(world, &mut known, &world.print(&ledger).content);
    let mut killed = 0;
    for round in 1..=rounds(ROUNDS) {
        // As much is new each time, so that each run moves about as much as the one that was measured.
        world
            .cluster()
            .psql(&ledger, &format!("update ledger set round = {round}, text = md5(text) || md5(text || 'x')"));
        let now = world.print(&ledger).content;
        let chosen = usize::try_from(dice.below(gauges.len() as u64)).expect("a handful");
        let (bytes, held) = (dice.below(whole[chosen]), dice.heads());
        killed += usize::from(kill_at(world, &arguments, (&gauges[chosen], bytes), held));
        println!("round {round}: gauge {chosen}, byte {bytes} of {}, held: {held}", whole[chosen]);
        look(world, &mut known, &now);
        world.run(&["verify", "--read-data"]).expect(0);
        let before = known.len();
        world.run(&arguments).expect(0);
        look(world, &mut known, &now);
        assert!(before < known.len(), "the next run makes a backup");
        let (copy, chosen) = (format!("{ledger}_{round}"), dice.below(known.len() as u64));
        let (id, content) = known.iter().nth(usize::try_from(chosen).expect("a handful")).expect("a backup");
        world.run(&["restore", "--tenant", "ledger", "--backup", id, "--as", &copy, "--yes"]).expect(0);
        assert_eq!(world.print(&copy).content, *content, "round {round}: backup {id}");
        world.cluster().psql("postgres", &format!("drop database \"{copy}\""));
    }
    assert!(0 < killed, "some runs were killed in the middle");
}

fn ledger() -> (World, Proxy) {
    let world = World::shared();
    world.tenant("ledger", LEDGER);
    world.tenant("acme", SHOP);
    let proxy = Proxy::before(world.cluster().port);
    world.through(&proxy);
    (world, proxy)
}

#[test]
fn a_backup_to_s3_that_is_killed_at_any_moment_costs_no_other_backup_and_the_next_run_succeeds() {
    let mut dice = Dice::roll("kill a backup to S3");
    let (world, database) = ledger();
    let store = Proxy::before_endpoint(&Seaweed::shared().endpoint);
    world.use_s3(&store.endpoint());
    world.run(&["init"]).expect(0);
    let gauges = [
        Gauge::Passed(&database, Way::Down),
        Gauge::Passed(&database, Way::Up),
        Gauge::Passed(&store, Way::Up),
        Gauge::Passed(&store, Way::Down),
    ];
    check_backups(&world, &gauges, &mut dice);
}

#[test]
fn a_backup_to_a_folder_that_is_killed_at_any_moment_costs_no_other_backup_and_its_unfinished_files_are_named_and_removed()
 {
    let mut dice = Dice::roll("kill a backup to a folder");
    let (world, database) = ledger();
    world.run(&["init"]).expect(0);
    let gauges = [Gauge::Passed(&database, Way::Down), Gauge::Stored(&world), Gauge::Stored(&world)];
    check_backups(&world, &gauges, &mut dice);
    // What a killed run left unfinished lies in a folder of its own, by which it is known as ours.
    let incoming = world.sandbox.path(REPOSITORY).join("=incoming");
    let left = incoming.join("4711.0");
    std::fs::write(&left, "half of a pack").expect("leave a file");
    let said = world.run(&["doctor"]);
    let told = said.stdout + &said.stderr;
    assert!(told.contains("=incoming") && told.contains("unfinished"), "{told}");
    world.run(&["verify", "--read-packs"]).expect(0);
    world.run(&["backup", "--all"]).expect(0);
    assert!(left.exists(), "it may be that of a run on another machine");
    for entry in std::fs::read_dir(&incoming).expect("the folder") {
        let aged = std::fs::File::options().write(true).open(entry.expect("a file").path()).expect("open it");
        aged.set_modified(std::time::SystemTime::UNIX_EPOCH).expect("age it");
    }
    world.run(&["backup", "--all"]).expect(0);
    assert_eq!(std::fs::read_dir(&incoming).expect("the folder").count(), 0, "the next run removes what is old");
}

#[test]
fn a_restore_over_a_live_tenant_that_is_killed_at_any_moment_leaves_the_old_or_the_new_database_and_a_second_one_finishes()
 {
    let mut dice = Dice::roll("kill a restore");
    let (world, proxy) = ledger();
    world.run(&["init"]).expect(0);
    world.backup();
    let ledger = world.db("ledger");
    let (good, live) = (world.print(&ledger).content, |world: &World| world.print(&ledger));
    let arguments = ["restore", "--tenant", "ledger", "--yes"];
    let gauges = [Gauge::Passed(&proxy, Way::Up), Gauge::Passed(&proxy, Way::Down)];
    let whole = measure(&world, &arguments, &gauges);
    let mut killed = 0;
    for round in 1..=rounds(ROUNDS) {
        drop_former(&world);
        world.cluster().psql(&ledger, &format!("update ledger set round = {round} where id % 7 = 0"));
        let old = live(&world);
        // Half of the kills hit the end, where the databases are renamed.
        let chosen = usize::from(dice.heads());
        let last = if dice.heads() { whole[chosen] } else { whole[chosen].min(4000) };
        let (bytes, held) = (whole[chosen] - 1 - dice.below(last), dice.heads());
        killed += usize::from(kill_at(&world, &arguments, (&gauges[chosen], bytes), held));
        let found = live(&world);
        println!(
            "round {round}: gauge {chosen}, byte {bytes} of {}, held: {held}; old: {}",
            whole[chosen],
            found == old
        );
        let former: Vec<String> = with(&world, "__before_");
        if found == old {
            assert_eq!(former, Vec::<String>::new(), "nothing was renamed");
        } else {
            assert_eq!(found.content, good, "whole, under its own name");
            assert_eq!(world.print(&former[0]), old, "and the former database is kept");
        }
        // What is left is named, with the command that removes it; the next restore removes it by itself.
        let left = with(&world, "__restore_");
        if let Some(left) = left.first() {
            let said = world.run(&["doctor"]).stdout;
            assert!(said.contains(left) && said.contains(&format!("DROP DATABASE \"{left}\"")), "{left}: {said}");
        }
        world.run(&arguments).expect(0);
        assert_eq!(live(&world).content, good, "a repeated restore finishes");
        assert_eq!(with(&world, "__restore_"), Vec::<String>::new(), "and removes what was left");
    }
    assert!(0 < killed, "some restores were killed in the middle");
}

fn with(world: &World, infix: &str) -> Vec<String> {
    world.databases().into_keys().filter(|name| name.contains(infix)).collect()
}

fn drop_former(world: &World) {
    for name in with(world, "__before_") {
        world.cluster().psql("postgres", &format!("drop database \"{name}\""));
    }
}
