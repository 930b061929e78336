//! SIGTERM in the middle: a report, exit 143, no marker of what is unfinished, and nothing left running anywhere.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::world::{SHOP, World, target, wait_until};
use crate::support::seaweed::Seaweed;

fn terminate(child: &Child) {
    kill_process(Pid::from_child(child), Signal::TERM).expect("send a signal");
}

/// Sessions of the program on this fleet's databases.
pub(super) fn sessions(world: &World) -> String {
    let stem = world.prefix.trim_end_matches("t_");
    let query = format!(
        "select pid, datname, state, wait_event from pg_stat_activity where starts_with(datname, '{stem}')
         and backend_type = 'client backend' and application_name like 'dbkeeper%'"
    );
    world.cluster().psql("postgres", &query)
}

/// Processes that were started from this sandbox and still run.
pub(super) fn processes(world: &World) -> Vec<String> {
    let folder = world.sandbox.folder().to_path_buf();
    let running = std::fs::read_dir("/proc").expect("the processes").flatten();
    let ours = running.filter(|entry| std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == folder));
    ours.map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default()).collect()
}

#[test]
fn what_is_under_way_is_finished_and_nothing_new_is_begun() {
    let world = World::with_shops();
    world.tenant(
        "big",
        &format!("{SHOP} insert into customers (name) select md5(n::text) from generate_series(1, 100000) n"),
    );
    world.reconfigure("[retention]", "[limits]\ntargets_at_once = 1\n\n[retention]");
    // The largest is first, and waits for this lock.
    let (mut holder, database) = (world.hold_lock(&world.db("big"), "orders"), world.db("big"));
    let child = world.start(&["backup", "--all", "--json"]);
    let waiting = format!(
        "select count(*) from pg_locks l join pg_database d on d.oid = l.database where datname = '{database}' and not granted"
    );
    wait_until("the dump waits for the lock", || world.cluster().psql("postgres", &waiting).trim() != "0");
    terminate(&child);
    std::thread::sleep(Duration::from_millis(300));
    holder.release();
    let ended = world.finish(child).expect(143);
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).expect("a report");
    assert_eq!(report["result"], "stopped");
    assert_eq!(target(&report, "big")["result"], "ok", "{report:#}");
    for name in ["acme", "globex", "central"] {
        assert_eq!(target(&report, name)["result"], "skipped");
    }
    let listed = world.json(&["list", "--json"], 0);
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
    wait_until("its sessions are gone", || sessions(&world).is_empty());
    assert_eq!(processes(&world), Vec::<String>::new());
}

#[test]
fn what_does_not_end_in_time_is_given_up_and_leaves_no_marker_no_session_and_no_process() {
    let world = World::shared();
    world.tenant(
        "big",
        "create table t as select n, md5(n::text) || md5((n + 1)::text) as s from generate_series(1, 400000) n",
    );
    let gate = Gate::before(&Seaweed::shared().endpoint);
    world.use_s3(&gate.endpoint);
    world.run(&["init"]).expect(0);
    gate.close_after(1 << 20);
    let child = world.start(&["backup", "--tenant", "big"]);
    wait_until("the store stands still in the middle of a pack", || gate.is_closed());
    terminate(&child);
    let ended = world.finish(child).expect(143);
    assert!(ended.stderr.contains("big") && ended.stderr.contains("stopped"), "{}", ended.stderr);
    wait_until("its sessions are gone", || sessions(&world).is_empty());
    assert_eq!(processes(&world), Vec::<String>::new());
    gate.open();
    let listed = world.json(&["list", "--json"], 0);
    assert_eq!(listed.as_array().map(Vec::len), Some(0), "no marker");
    world.backup();
    world.run(&["verify", "--read-data"]).expect(0);
}

#[test]
fn a_dump_that_waits_for_a_lock_leaves_no_session_behind_when_it_is_stopped_twice() {
    let world = World::with_shops();
    let holder = world.hold_lock(&world.db("acme"), "orders");
    let child = world.start(&["backup", "--tenant", "acme"]);
    wait_until("the dump waits", || sessions(&world).contains("relation"));
    terminate(&child);
    std::thread::sleep(Duration::from_millis(200));
    terminate(&child);
    world.finish(child).expect(143);
    drop(holder);
    wait_until("its sessions are gone", || sessions(&world).is_empty());
    assert_eq!(processes(&world), Vec::<String>::new());
    assert_eq!(world.json(&["list", "--json"], 0).as_array().map(Vec::len), Some(0), "no marker");
}

/// Stands before a server and, when it is told to, passes nothing on any more.
pub(super) struct Gate {
    pub(super) endpoint: String,
    left: Arc<AtomicUsize>,
    closed: Arc<AtomicBool>,
}

impl Gate {
    pub(super) fn before(endpoint: &str) -> Self {
        let server = endpoint.strip_prefix("http://").expect("an endpoint").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("its address"));
        let gate = Self { endpoint, left: Arc::new(AtomicUsize::new(usize::MAX)), closed: Arc::default() };
        let (left, closed) = (Arc::clone(&gate.left), Arc::clone(&gate.closed));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(upstream) = TcpStream::connect(&server) else { continue };
                let (mut back, mut out) =
                    (upstream.try_clone().expect("a handle"), client.try_clone().expect("a handle"));
                let (left, closed) = (Arc::clone(&left), Arc::clone(&closed));
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut back, &mut out);
                    let _ = out.shutdown(Shutdown::Both);
                });
                std::thread::spawn(move || {
                    pass(&client, &upstream, &left, &closed);
                    // The other thread holds the server's end as well: it would stay open, and its session with it.
                    let _ = upstream.shutdown(Shutdown::Both);
                });
            }
        });
        gate
    }

    /// Closes when so many bytes have passed.
    pub(super) fn close_after(&self, bytes: usize) {
        self.left.store(bytes, Ordering::SeqCst);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    pub(super) fn open(&self) {
        self.left.store(usize::MAX, Ordering::SeqCst);
        self.closed.store(false, Ordering::SeqCst);
    }
}

fn pass(mut from: &TcpStream, mut to: &TcpStream, left: &AtomicUsize, closed: &AtomicBool) {
    let mut piece = vec![0; 64 << 10];
    while let Ok(length) = from.read(&mut piece)
        && length > 0
    {
        let passed = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(length));
        if passed.is_err() {
            closed.store(true, Ordering::SeqCst);
        }
        while closed.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(20));
        }
        if to.write_all(&piece[..length]).is_err() {
            return;
        }
    }
}
