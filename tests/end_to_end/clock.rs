//! The clock is an hour wrong: no backup is lost, none is hidden, and whoever can tell the difference says so.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::world::{SHOP, World, target};
use crate::support::cli::Ended;
use crate::support::s3_proxy::S3Proxy;
use crate::support::s3_stub::Answer;
use crate::support::seaweed::Seaweed;

/// Runs the program with its clock moved, `+1h` or `-1h`.
fn run_at(world: &World, shift: &str, arguments: &[&str]) -> Ended {
    let program = world.sandbox.command(arguments);
    let mut command = Command::new("faketime");
    command.args(["-f", shift]).arg(program.get_program()).args(program.get_args());
    command.current_dir(world.sandbox.folder()).env_clear();
    command.env("HOME", world.sandbox.folder()).env("PATH", "/usr/local/bin:/usr/bin:/bin");
    let output = command.output().expect("run faketime: ./dev test installs it");
    world.sandbox.finish(output)
}

fn world() -> World {
    let world = World::shared();
    world.tenant("acme", SHOP);
    world.run(&["init"]).expect(0);
    world
}

#[test]
fn backups_by_a_clock_that_is_an_hour_wrong_restore_and_hide_no_other() {
    let world = world();
    let acme = world.db("acme");
    let mut contents = Vec::new();
    // Right, ahead, and right again: the second is dated later than the third.
    for (number, shift) in ["+0", "+1h", "-1h", "+0"].into_iter().enumerate() {
        world.cluster().psql(&acme, &format!("update customers set note = 'take {number}'"));
        contents.push(world.print(&acme).content);
        let ended = run_at(&world, shift, &["backup", "--all", "--json"]).expect(0);
        let report: serde_json::Value = serde_json::from_str(&ended.stdout).expect("a report");
        let id = target(&report, "acme")["backup_id"].as_str().expect("an id").to_owned();
        let copy = format!("{acme}_{number}");
        world.run(&["restore", "--tenant", "acme", "--backup", &id, "--as", &copy, "--yes"]).expect(0);
        assert_eq!(world.print(&copy).content, contents[number], "{shift}");
    }
    let listed = world.json(&["list", "--tenant", "acme", "--json"], 0);
    assert_eq!(listed.as_array().map(Vec::len), Some(4));
    world.run(&["verify", "--read-data"]).expect(0);
    // Which is the newest is decided by the dates, and the plan says that one of them cannot be right.
    let said = world.run(&["restore", "--tenant", "acme", "--dry-run"]).expect(0).stderr;
    assert!(said.contains("dated later than now: one of two clocks is wrong"), "{said}");
}

#[test]
fn a_store_that_refuses_our_clock_ends_the_run_with_10_and_both_times() {
    let world = World::shared();
    world.tenant("acme", SHOP);
    // The words of Amazon S3, which refuses requests that are more than 15 minutes off.
    let refusal = || {
        let words = "The difference between the request time and the current time is too large.";
        Answer::error(403, "RequestTimeTooSkewed", words, "<ServerTime>2026-01-01T12:00:00Z</ServerTime>")
    };
    let skewed = Arc::new(AtomicBool::new(false));
    let is_skewed = Arc::clone(&skewed);
    let refuse = move |_, _: &_| is_skewed.load(Ordering::SeqCst).then(refusal);
    let proxy = S3Proxy::before(&Seaweed::shared().endpoint, refuse);
    world.use_s3(&proxy.endpoint);
    world.run(&["init"]).expect(0);
    skewed.store(true, Ordering::SeqCst);
    let said = world.run(&["backup", "--all"]).expect(10).stderr;
    for words in ["the clocks differ too much", "2026-01-01T12:00:00Z", "set-ntp true"] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn doctor_sees_that_our_clock_is_an_hour_off_the_stores() {
    let world = World::shared();
    world.tenant("acme", SHOP);
    world.use_s3(&Seaweed::shared().endpoint);
    world.run(&["init"]).expect(0);
    let ended = run_at(&world, "+1h", &["doctor"]);
    let said = ended.stdout + &ended.stderr;
    assert!(ended.code == 10 && said.contains("set-ntp true"), "{}: {said}", ended.code);
}
