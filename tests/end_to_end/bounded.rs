//! Bounded: memory under a store and a database that stand still, descriptors and sessions over many runs in one process, and
//! nothing left behind by a run that is dropped at any of its await points.

use std::future::{Future, poll_fn};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::{Duration, Instant};

use dbkeeper::base::clock::{SystemClock, SystemEntropy};
use dbkeeper::base::ids::TargetId;
use dbkeeper::base::monitor::Silent;
use dbkeeper::config::{Config, Environment};
use dbkeeper::fleet::Selection;
use dbkeeper::job::{Context, backup, restore, restore_run};
use dbkeeper::repository::reader::Wanted;
use rustix::process::{Pid, Signal, kill_process};
use tokio_util::sync::CancellationToken;

use super::stop::Gate;
use super::world::{CONFIG, SHOP, World, wait_until};
use crate::support::rounds::is_full;
use crate::support::s3_proxy::S3Proxy;
use crate::support::s3_stub::Answer;
use crate::support::seaweed::Seaweed;

/// What `[limits] memory` says in these tests.
const LIMIT_KIB: u64 = 128 << 10;
/// More than the limit: rows that hardly compress.
const LARGE: &str = "create table large (n int, s text); alter table large alter s set storage external;
    insert into large select n, (select string_agg(md5((n * 4000 + m)::text), '') from generate_series(1, 3000) m)
    from generate_series(1, 1700) n";
/// Set for the child that makes many runs: the configuration to use.
const CHILD: &str = "DBKEEPER_TEST_CONFIG";
/// How long what stands still is watched.
const PATIENCE: Duration = Duration::from_secs(120);

/// Full length, or what a usual run has time for.
fn rounds(full: usize, short: usize) -> usize {
    if is_full() { full } else { short }
}

/// The most memory that a process has had so far, in KiB; none where it has ended.
fn most_memory_kib(child: &Child) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Waits until the memory of what stands still grows no more; gives the most that it had.
fn settled_memory(child: &Child) -> u64 {
    let began = Instant::now();
    let (mut most, mut unchanged) = (0, 0);
    while unchanged < 30 {
        assert!(began.elapsed() < PATIENCE, "it never stands still");
        std::thread::sleep(Duration::from_millis(100));
        let now = most_memory_kib(child).expect("it runs");
        unchanged = if now == most { unchanged + 1 } else { 0 };
        most = now;
    }
    most
}

fn kill(world: &World, child: Child) {
    kill_process(Pid::from_child(&child), Signal::KILL).expect("kill it");
    world.finish(child);
}

#[test]
fn memory_stays_within_its_limit_while_the_store_or_the_database_stands_still() {
    let world = World::shared();
    world.tenant("large", LARGE);
    let store = Gate::before(&Seaweed::shared().endpoint);
    world.use_s3(&store.endpoint);
    world.reconfigure("[retention]", "[limits]\nmemory = \"128 MiB\"\n\n[retention]");
    world.run(&["init"]).expect(0);
    store.close_after(1 << 20);
    let stalled = world.start(&["backup", "--tenant", "large"]);
    wait_until("the store stands still", || store.is_closed());
    let most = settled_memory(&stalled);
    kill(&world, stalled);
    assert!(most <= LIMIT_KIB, "{most} KiB were taken before a store that stands still");
    store.open();
    world.run(&["backup", "--tenant", "large"]).expect(0);
    let port = world.cluster().port;
    let database = Gate::before(&format!("http://127.0.0.1:{port}"));
    let gate = database.endpoint.strip_prefix("http://").expect("an endpoint").to_owned();
    world.reconfigure(&format!("127.0.0.1:{port}"), &gate);
    database.close_after(4 << 20);
    let stalled = world.start(&["restore", "--tenant", "large", "--as", &world.db("again"), "--yes"]);
    wait_until("the database stands still", || database.is_closed());
    let most = settled_memory(&stalled);
    kill(&world, stalled);
    database.open();
    assert!(most <= LIMIT_KIB, "{most} KiB were taken before a database that stands still");
}

#[test]
fn a_store_that_asks_for_patience_for_a_minute_is_borne_within_the_limit_of_memory() {
    let busy = Duration::from_secs(if is_full() { 60 } else { 5 });
    let world = World::shared();
    world.tenant("large", LARGE);
    let (began, refused) = (Arc::<OnceLock<Instant>>::default(), Arc::new(AtomicU64::new(0)));
    let (since, counted) = (Arc::clone(&began), Arc::clone(&refused));
    // From the first pack on it refuses everything.
    let store = S3Proxy::before(&Seaweed::shared().endpoint, move |_, asked| {
        let is_pack = asked.line.starts_with("PUT ") && asked.line.contains("/packs/");
        let since = if is_pack { since.get_or_init(Instant::now) } else { since.get()? };
        let is_busy = since.elapsed() < busy;
        counted.fetch_add(u64::from(is_busy), Ordering::SeqCst);
        is_busy.then(|| Answer::error(503, "SlowDown", "Please reduce your request rate.", ""))
    });
    world.use_s3(&store.endpoint);
    world.reconfigure("[retention]", "[limits]\nmemory = \"128 MiB\"\n\n[retention]");
    world.run(&["init"]).expect(0);
    let mut backup = world.start(&["backup", "--tenant", "large"]);
    let mut most = 0;
    while backup.try_wait().expect("its state").is_none() {
        most = most.max(most_memory_kib(&backup).unwrap_or(0));
        std::thread::sleep(Duration::from_millis(50));
    }
    world.finish(backup).expect(0);
    assert!(began.get().is_some_and(|began| busy <= began.elapsed()), "it was borne to its end");
    let refused = refused.load(Ordering::SeqCst);
    println!("{refused} requests were refused within {busy:?}, at most {most} KiB were taken");
    assert!((2..=busy.as_secs() * 40).contains(&refused), "tried again, and not all the time: {refused}");
    assert!(32 << 10 < most && most <= LIMIT_KIB, "{most} KiB");
    world.run(&["verify", "--read-packs"]).expect(0);
}

/// What a job in this process works with.
fn context(config: &std::path::Path) -> Context {
    let environment = Environment::of([], Some("postgres"));
    Context {
        config: Arc::new(Config::load(config, &environment).expect("the configuration")),
        environment: Arc::new(environment),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        monitor: Arc::new(Silent),
        stop: CancellationToken::new(),
        search_path: Vec::new(),
        requests: Arc::default(),
    }
}

fn all() -> backup::Request {
    let selection = Selection { all: true, ..Selection::default() };
    backup::Request { selection, keep: None, shard: None }
}

/// Descriptors of this process.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("the descriptors").count()
}

/// Sessions of dbkeeper on this fleet's databases.
fn sessions(world: &World) -> usize {
    let stem = world.prefix.trim_end_matches("t_");
    let query = format!(
        "select count(*) from pg_stat_activity where starts_with(datname, '{stem}')
         and backend_type = 'client backend' and application_name like 'dbkeeper%'"
    );
    world.cluster().psql("postgres", &query).trim().parse().expect("a number")
}

/// Client programs that work on this fleet's databases.
fn programs(world: &World) -> Vec<String> {
    let stem = format!("PGDATABASE={}", world.prefix.trim_end_matches("t_"));
    let running = std::fs::read_dir("/proc").expect("the processes").flatten();
    let ours = running.filter(|entry| {
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(stem.as_bytes()))
    });
    ours.map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default()).collect()
}

#[test]
fn descriptors_and_sessions_return_to_their_start_over_many_runs_in_one_process() {
    let world = World::with_shops();
    world.backup();
    let mut command = Command::new(std::env::current_exe().expect("the tests themselves"));
    command.args([
        "--exact",
        "end_to_end::bounded::many_runs_of_a_child_of_the_tests",
        "--test-threads=1",
        "--nocapture",
    ]);
    let output = command.env(CHILD, world.sandbox.path(CONFIG)).output().expect("run the tests themselves");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    wait_until("its sessions are gone", || sessions(&world) == 0);
    world.run(&["verify", "--read-data"]).expect(0);
}

/// Does nothing unless it is the child of the test above: a process of one's own has descriptors of one's own.
#[test]
#[expect(clippy::disallowed_methods, reason = "the child's configuration comes from its parent, the test above")]
fn many_runs_of_a_child_of_the_tests() {
    let Some(config) = std::env::var_os(CHILD) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let mut settled = 0;
    for round in 0..rounds(1_000, 6) {
        let context = context(config.as_ref());
        let report = runtime.block_on(backup::backup(&context, &all())).expect("a report");
        assert!(report.targets.iter().all(|target| target.backup_id.is_some()), "{report:?}");
        drop(context);
        // The runtime, the processor pool and the programs' paths are made by the first runs, and stay.
        match round {
            0 | 1 => settled = settled.max(descriptors()),
            _ => wait_until("descriptors return", || descriptors() <= settled),
        }
    }
}

/// Polls a future at most so often, and drops it then. Gives how often it was polled where it came to its end.
async fn dropped_after<F: Future>(future: F, polls: usize) -> Option<(F::Output, usize)> {
    let mut future = Box::pin(future);
    let mut polled = 0;
    poll_fn(|context| {
        if polled == polls {
            return Poll::Ready(None);
        }
        polled += 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some((output, polled))),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Some numbers of polls from 1 to `whole`: all of the first ones, and the others evenly.
fn places(whole: usize, short: usize) -> Vec<usize> {
    let count = rounds(whole, short);
    let evenly = (0..count).map(|number| 1 + number * whole / count.max(1));
    let mut places: Vec<usize> = (1..=whole.min(count / 2)).chain(evenly).collect();
    places.sort_unstable();
    places.dedup();
    places
}

#[test]
fn a_backup_that_is_dropped_at_any_await_leaves_no_session_no_program_and_no_backup() {
    let world = World::with_shops();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let context = context(&world.sandbox.path(CONFIG));
    let whole = runtime.block_on(dropped_after(backup::backup(&context, &all()), usize::MAX));
    let whole = whole.expect("it ended").1;
    for polls in places(whole, 16) {
        let ended = runtime.block_on(dropped_after(backup::backup(&context, &all()), polls));
        assert!(ended.is_none_or(|(report, _)| report.is_ok()), "{polls} of {whole}");
    }
    wait_until("its sessions are gone", || sessions(&world) == 0);
    wait_until("its programs are gone", || programs(&world).is_empty());
    world.backup();
    world.run(&["verify", "--read-data"]).expect(0);
}

#[test]
fn a_restore_that_is_dropped_at_any_await_leaves_no_session_no_program_and_the_live_database_whole() {
    let world = World::shared();
    let database = world.tenant("acme", SHOP);
    world.run(&["init"]).expect(0);
    world.backup();
    let live = world.print(&database);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let context = context(&world.sandbox.path(CONFIG));
    let request = |as_name: Option<String>| restore::Request {
        target: Some(TargetId::tenant("acme").expect("a name")),
        wanted: Wanted::Newest,
        as_name,
        server: None,
        tables: Vec::new(),
        schema_only: false,
        no_swap: false,
        no_owner: false,
        without_repository_key: false,
        checkpoint: None,
    };
    let run = async |request: restore::Request| {
        let plan = restore::plan(&context, &request).await.expect("a plan");
        restore_run::execute(&context, plan).await
    };
    let first = run(request(Some(world.db("whole"))));
    let whole = runtime.block_on(dropped_after(first, usize::MAX)).expect("it ended").1;
    for polls in places(whole, 12) {
        runtime.block_on(dropped_after(run(request(None)), polls));
        // Before the swap or after it: one of the two is there, and whole.
        assert_eq!(world.print(&database).content, live.content, "{polls} of {whole}");
    }
    wait_until("its sessions are gone", || sessions(&world) == 0);
    wait_until("its programs are gone", || programs(&world).is_empty());
    world.run(&["restore", "--tenant", "acme", "--yes"]).expect(0);
    assert_eq!(world.print(&database).content, live.content);
    let names = world.databases();
    assert!(!names.keys().any(|name| name.contains("__restore_")), "what was begun is removed: {names:?}");
}
