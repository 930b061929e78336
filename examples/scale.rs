//! Looking after a large fleet: requests, what they cost on S3, time and memory of `list`, `prune --dry-run` and the cheap rung of
//! `verify`, over a store that makes its objects when they are asked for.
//!
//! `cargo run --release --example scale [VAULTS] [BACKUPS]`

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::collections::BTreeSet;
use std::time::Instant;

use dbkeeper::base::ids::{TargetId, parse_key_time};
use dbkeeper::base::requests::RequestCount;
use dbkeeper::repository::Repository;
use dbkeeper::repository::presence::whole_of;
use dbkeeper::repository::prune::plan::plan;
use dbkeeper::repository::prune::survey::survey;
use dbkeeper::repository::prune::{Policy, VaultPlan, cutoff};
use dbkeeper::repository::verify::{Rung, verify};
use futures::{StreamExt, TryStreamExt};

#[allow(unreachable_pub, reason = "the tests use it too, as a public module")]
#[path = "../tests/support/generated.rs"]
mod generated;

/// As the jobs have it.
const VAULTS_AT_ONCE: usize = 16;

/// The most memory that this process has used, in MiB.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

fn tell(what: &str, fleet: &generated::Generated, began: Instant) {
    let (lists, gets) = fleet.counts();
    let count = RequestCount::default();
    (0..lists).for_each(|_| count.add("list"));
    (0..gets).for_each(|_| count.add("get"));
    let cost = count.total().map_or(0.0, |total| total.cost_usd);
    let seconds = began.elapsed().as_secs_f64();
    println!("| {what} | {lists} | {gets} | ${cost:.2} | {seconds:.0} s | {} MiB |", peak_mib());
}

async fn plans(repository: &Repository, targets: &[TargetId], policy: &Policy) -> Vec<VaultPlan> {
    let now = parse_key_time("20261121T091500Z").expect("a time");
    let times = (now, cutoff(now, Some(now)));
    let surveys = targets.iter().map(|target| async move {
        let seen = survey(&repository.vault(target), policy.keep_last, times, None).await?;
        Ok::<_, dbkeeper::repository::Error>(plan(&seen, policy, times.1))
    });
    futures::stream::iter(surveys).buffered(VAULTS_AT_ONCE).try_collect().await.expect("the store works")
}

#[tokio::main]
async fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|number| number.parse().ok());
    let (vaults, backups) = (numbers.next().unwrap_or(5_000), numbers.next().unwrap_or(60));
    let now = parse_key_time("20261121T091500Z").expect("a time");
    let fleet = generated::Generated::new(vaults, backups, now).await;
    let repository = fleet.open().await;
    println!(
        "| {vaults} vaults of {backups} backups | list | get | S3 | time | peak memory |\n| --- | --- | --- | --- | --- | --- |"
    );
    let (targets, _) = repository.vaults().await.expect("the store works");
    let policy = Policy { keep_last: 3, max_share_percent: 50, forced: BTreeSet::new(), versions: false };
    let began = Instant::now();
    let planned = plans(&repository, &targets, &policy).await;
    tell("prune --dry-run", &fleet, began);
    let going: usize = planned.iter().map(|plan| plan.granted().len()).sum();
    drop(planned);
    let began = Instant::now();
    let mut whole = 0;
    for target in &targets {
        let vault = repository.vault(target);
        whole += whole_of(&vault, &vault.list().await.expect("list")).await.expect("list").0.len();
    }
    tell("list", &fleet, began);
    let began = Instant::now();
    for target in &targets {
        let report = verify(&repository.vault(target), Rung::Presence, &[]).await.expect("the store works");
        assert!(report.findings.is_empty(), "nothing is wrong with it");
    }
    tell("verify", &fleet, began);
    println!("\n{whole} backups are listed; {going} objects would go");
}
