//! A fault at every single call to the store: nothing that was stored before is lost, nothing half-done counts as a backup, what
//! is told as done is done, and the next run succeeds.
//!
//! Over memory every call meets every fault. Over a folder and a real S3 server one of several does, unless
//! `DBKEEPER_FAULT_ROUNDS` is set.

use std::sync::Arc;

use dbkeeper::base::class::Class;
use dbkeeper::base::clock::{HeldClock, SeededEntropy};
use dbkeeper::repository::presence::whole_backups;
use dbkeeper::repository::reader::Wanted;
use dbkeeper::store::ObjectStore;
use dbkeeper::store::local::LocalStore;
use dbkeeper::store::memory::MemoryStore;
use dbkeeper::store::retrying::Retrying;
use dbkeeper::store::s3::S3Store;

use crate::repository::fleet::{Past, Results, run, world_in};
use crate::repository::support::World;
use crate::support::faults::{Call, Fault, Faulty};
use crate::support::seaweed::Seaweed;

/// Whether a run may fail.
#[derive(Clone, Copy, PartialEq)]
enum Outcome {
    /// The target whose call is struck may fail; all others succeed.
    OneMayFail,
    /// Every target succeeds.
    AllSucceed,
}

/// A fault at one call.
struct Case {
    number: usize,
    call: Call,
    fault: Fault,
}

fn is_write(call: &Call) -> bool {
    matches!(call.operation, "put" | "copy")
}

/// Every fault that fits each call: without retries.
fn bare_faults(call: &Call, objects: usize) -> Vec<Fault> {
    let mut faults = vec![Fault::Fail(Class::Store), Fault::LoseReply, Fault::Hang, Fault::Twice];
    match call.operation {
        "put" => faults.extend([Fault::Tear(0), Fault::Tear(1), Fault::Tear(100), Fault::Straggle]),
        "copy" => faults.push(Fault::Straggle),
        "list_page" => faults.extend((1..=objects).map(Fault::HideNewest)),
        _ => {}
    }
    faults
}

/// What a store that tries again must get over.
fn passing_faults(call: &Call, _objects: usize) -> Vec<Fault> {
    let mut faults = vec![Fault::Fail(Class::Transient), Fault::Fail(Class::Stalled), Fault::LoseReply, Fault::Twice];
    if is_write(call) {
        faults.push(Fault::Straggle);
    }
    faults
}

/// The store that a run works on: as it is, or with retries.
fn as_seen(store: &Arc<Faulty>, outcome: Outcome) -> Arc<dyn ObjectStore> {
    let store = Arc::<Faulty>::clone(store);
    match outcome {
        Outcome::OneMayFail => store,
        Outcome::AllSucceed => Arc::new(Retrying::new(store, crate::store::quick(4), Arc::new(SeededEntropy::new(3)))),
    }
}

/// A store with the past in it, and how many calls that took.
async fn prepared(past: &Past, inner: Arc<dyn ObjectStore>) -> (Arc<Faulty>, usize) {
    let store = Faulty::new(inner);
    for (key, body) in &past.objects {
        store.put(key, body.clone()).await.expect("put");
    }
    let made = store.calls().len();
    (store, made)
}

/// The calls of a run in which nothing goes wrong.
async fn calls_of(past: &Past, inner: Arc<dyn ObjectStore>) -> Vec<Call> {
    let (store, made) = prepared(past, inner).await;
    let results = run(Arc::<Faulty>::clone(&store), &past.clock(), &past.sources).await;
    assert!(results.iter().all(Result::is_ok), "nothing goes wrong here");
    store.calls().split_off(made)
}

/// All cases: every call, and every fault that fits it.
async fn cases(past: &Past, inner: Arc<dyn ObjectStore>, faults: fn(&Call, usize) -> Vec<Fault>) -> Vec<Case> {
    let mut cases = Vec::new();
    for (number, call) in calls_of(past, inner).await.into_iter().enumerate() {
        let below = past.objects.iter().filter(|(key, _)| key.as_str().starts_with(&call.key)).count();
        for fault in faults(&call, below) {
            cases.push(Case { number: number + 1, call: call.clone(), fault });
        }
    }
    cases
}

/// Runs one case over an empty store and checks all promises.
async fn check(past: &Past, inner: Arc<dyn ObjectStore>, case: &Case, outcome: Outcome) {
    let told = format!("{:?} at call {} ({} {})", case.fault, case.number, case.call.operation, case.call.key);
    let (store, made) = prepared(past, Arc::clone(&inner)).await;
    store.at_call(made + case.number, case.fault.clone());
    let clock = past.clock();
    let results = tokio::select! {
        results = run(as_seen(&store, outcome), &clock, &past.sources) => Some(results),
        () = store.hung() => None,
    };
    let world = world_in(inner, Arc::clone(&clock)).await;
    nothing_lost(past, &world, &told).await;
    nothing_false(past, &world, results.as_ref(), &told).await;
    if let Some(results) = &results {
        failures_are_few(case, results, outcome, &told);
    }
    store.land().await;
    nothing_lost(past, &world, &told).await;
    next_run_is_whole(past, &world, case, &told).await;
    // What was on its way for an hour arrives once more.
    if 0 < store.land().await {
        nothing_lost(past, &world, &told).await;
        findings_are_none(past, &world, case, &told).await;
    }
}

/// Every older backup gives back its bytes.
async fn nothing_lost(past: &Past, world: &World, told: &str) {
    for ((target, id), expected) in &past.backups {
        let restored = world.restore(&world.repository.vault(target), *id).await;
        let restored = restored.unwrap_or_else(|error| panic!("{told}: {id} of {target}: {error}"));
        assert!(restored == *expected, "{told}: {id} of {target} gives back other bytes");
    }
}

/// What a listing shows restores, and what was told as done is shown.
async fn nothing_false(past: &Past, world: &World, results: Option<&Results>, told: &str) {
    for (number, source) in past.sources.iter().enumerate() {
        let vault = world.repository.vault(&source.target);
        let (whole, _) = whole_backups(&vault).await.expect("list");
        for marker in &whole {
            let old = past.backups.get(&(source.target.clone(), marker.id));
            let restored = world.restore(&vault, marker.id).await;
            let restored = restored.unwrap_or_else(|error| panic!("{told}: {} is listed: {error}", marker.id));
            assert!(restored == *old.unwrap_or(&source.expected()), "{told}: {} gives other bytes", marker.id);
        }
        let old = past.backups.keys().filter(|(target, _)| *target == source.target).count();
        assert!(old <= whole.len() && whole.len() <= old + 1, "{told}: {} of {}", whole.len(), source.target);
        if let Some(Ok(done)) = results.map(|results| &results[number]) {
            let id = done.committed.marker.id;
            // Where only documents are new, a torn one is told by `list` and the next run: an older backup has the content.
            let mut older = past.backups.iter().filter(|((target, _), _)| *target == source.target);
            let spared = told.starts_with("Tear") && older.any(|(_, content)| *content == source.expected());
            assert!(spared || whole.iter().any(|marker| marker.id == id), "{told}: {id} is told as done");
        }
    }
}

/// One fault fails one target at most, or all where the repository did not open.
fn failures_are_few(case: &Case, results: &Results, outcome: Outcome, told: &str) {
    let failed: Vec<String> = results.iter().filter_map(|one| one.as_ref().err()).map(ToString::to_string).collect();
    let most = match outcome {
        Outcome::AllSucceed => 0,
        // Two calls open it.
        Outcome::OneMayFail if case.number <= 2 => results.len(),
        Outcome::OneMayFail => 1,
    };
    assert!(failed.len() <= most, "{told}: {failed:?}");
}

/// The next run succeeds, and the newest backup of every target is the truth.
async fn next_run_is_whole(past: &Past, world: &World, case: &Case, told: &str) {
    world.advance(1);
    let results = run(Arc::clone(&world.store), &world.clock, &past.sources).await;
    for (source, result) in past.sources.iter().zip(results) {
        let done = result.unwrap_or_else(|error| panic!("{told}: the next run of {}: {error}", source.target));
        let vault = world.repository.vault(&source.target);
        let found = Wanted::Newest.find(&vault, &vault.list().await.expect("list")).await.expect("a backup");
        assert_eq!(found.id, done.committed.marker.id, "{told}: the newest");
        assert!(world.restore(&vault, found.id).await.expect("restore") == source.expected(), "{told}");
    }
    findings_are_none(past, world, case, told).await;
}

/// Verification reads everything: at worst it finds what the store has torn.
async fn findings_are_none(past: &Past, world: &World, case: &Case, told: &str) {
    for source in &past.sources {
        let report = world.verify(&world.repository.vault(&source.target)).await;
        for finding in &report.findings {
            let torn = matches!(case.fault, Fault::Tear(_)) && finding.key == case.call.key;
            assert!(torn, "{told}: {finding:?}");
        }
    }
}

fn memory(clock: &Arc<HeldClock>) -> Arc<dyn ObjectStore> {
    Arc::new(MemoryStore::new(Arc::<HeldClock>::clone(clock)))
}

async fn exhaust(faults: fn(&Call, usize) -> Vec<Fault>, outcome: Outcome) -> usize {
    let past = Past::take().await;
    let clock = past.clock();
    let cases = cases(&past, memory(&clock), faults).await;
    for case in &cases {
        check(&past, memory(&clock), case, outcome).await;
    }
    cases.len()
}

#[tokio::test]
async fn a_fault_at_any_call_loses_nothing_shows_nothing_half_done_and_the_next_run_succeeds() {
    let tried = exhaust(bare_faults, Outcome::OneMayFail).await;
    assert!(160 < tried, "{tried} cases: the fleet has become too small to prove anything");
}

#[tokio::test]
async fn a_passing_fault_at_any_call_fails_no_target() {
    let tried = exhaust(passing_faults, Outcome::AllSucceed).await;
    assert!(120 < tried, "{tried} cases: the fleet has become too small to prove anything");
}

/// Every `step`th case; all of them where the full length is asked for.
#[allow(clippy::disallowed_methods, reason = "how long a loop runs is the choice of whoever starts the tests")]
fn some(cases: Vec<Case>, step: usize) -> Vec<Case> {
    let full = std::env::var_os("DBKEEPER_FAULT_ROUNDS").is_some();
    cases.into_iter().step_by(if full { 1 } else { step }).collect()
}

#[tokio::test]
async fn a_fault_over_a_folder_loses_nothing() {
    let past = Past::take().await;
    let folder = tempfile::tempdir().expect("a folder");
    let inner = |number: usize| {
        let root = folder.path().join(number.to_string());
        std::fs::create_dir(&root).expect("a folder");
        Arc::new(LocalStore::new(root))
    };
    for (number, case) in some(cases(&past, inner(0), bare_faults).await, 17).iter().enumerate() {
        check(&past, inner(number + 1), case, Outcome::OneMayFail).await;
    }
}

#[tokio::test]
async fn a_fault_over_a_real_s3_server_loses_nothing() {
    let past = Past::take().await;
    let open = || async { Arc::new(S3Store::open(Seaweed::shared().options()).await.expect("open")) };
    for case in some(cases(&past, open().await, bare_faults).await, 41).iter() {
        check(&past, open().await, case, Outcome::OneMayFail).await;
    }
}
