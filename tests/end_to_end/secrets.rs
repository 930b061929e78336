//! Promise 4: no secret and no row is in an output, a log, the store, an argument, an environment or a file that was left.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::world::{CONFIG, REPOSITORY, World};

pub(super) const PASSWORD: &str = "planted:pass'w\\ord-91f3";
const MAPPING: &str = "planted-mapping-5c07";
const ROW: &str = "planted-row-d2a8";
const TABLE: &str = "planted_table_77e1";
const TENANT: &str = "planted-tenant-0b6d";

/// What a run may take; one that hangs is ended, which is no good end.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a run is looked at all the time.
const LIVELY: Duration = Duration::from_secs(4);

/// Command lines and environments of all that the program started, and of the program itself.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) children: BTreeSet<String>,
    pub(super) text: BTreeSet<(String, Vec<u8>)>,
}

/// The processes below `parent`.
fn children(parent: u32) -> Vec<u32> {
    let path = format!("/proc/{parent}/task");
    let tasks = std::fs::read_dir(path).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()).collect()
}

fn look(parent: u32, seen: &Mutex<Seen>) {
    let mut seen = seen.lock().expect("no panic");
    if let Ok(line) = std::fs::read(format!("/proc/{parent}/cmdline")) {
        seen.text.insert((format!("the arguments of {parent}"), line));
    }
    for child in children(parent) {
        let (line, environment) =
            (std::fs::read(format!("/proc/{child}/cmdline")), std::fs::read(format!("/proc/{child}/environ")));
        if let (Ok(line), Ok(environment)) = (line, environment) {
            let name = String::from_utf8_lossy(line.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned();
            // Between fork and exec a child is a copy of the program.
            if !name.ends_with("dbkeeper") {
                seen.text.insert((format!("the arguments of {name}"), line));
                seen.text.insert((format!("the environment of {name}"), environment));
                seen.children.insert(Path::new(&name).file_name().unwrap_or_default().to_string_lossy().into_owned());
            }
        }
    }
}

/// Runs the program while somebody looks at its processes; gives all that it said.
pub(super) fn run(world: &World, arguments: &[&str], code: i32, seen: &Arc<Mutex<Seen>>) -> Vec<u8> {
    let (ended, said) = run_to_any_end(world, arguments, seen);
    assert_eq!(ended, Some(code), "{arguments:?}: {}", String::from_utf8_lossy(&said));
    said
}

/// All there is to hear, also of libraries by paths that are longer than those that the program silences.
const EVERYTHING: &str = "trace,tokio_postgres::simple_query=trace,tokio_postgres::prepare=trace,tokio_postgres::query=trace,tokio_postgres::connection=trace,\
    hyper::proto=trace,hyper_util::client=trace,rustls::client=trace,aws_smithy_runtime::client=trace,aws_sigv4::http_request=trace";

/// The same, whatever the exit code.
pub(super) fn run_to_any_end(world: &World, arguments: &[&str], seen: &Arc<Mutex<Seen>>) -> (Option<i32>, Vec<u8>) {
    let child = start(world, arguments);
    watch(child, &world.sandbox.path("tmp"), seen, PATIENCE, Signal::KILL)
}

/// The same, told by a crash's signal after so long that it ends.
pub(super) fn run_to_a_crash(
    world: &World,
    arguments: &[&str],
    seen: &Arc<Mutex<Seen>>,
    after: Duration,
) -> (Option<i32>, Vec<u8>) {
    let child = start(world, arguments);
    watch(child, &world.sandbox.path("tmp"), seen, after, Signal::ABORT)
}

fn start(world: &World, arguments: &[&str]) -> Child {
    let mut command = world.sandbox.command(arguments);
    command.env("DBKEEPER_LOG", EVERYTHING).env("PLANTED_PASSWORD", PASSWORD).env("TMPDIR", world.sandbox.path("tmp"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("run dbkeeper")
}

/// Looks at a child until it ends, or is ended by a signal; gives its exit code, if it has one, and all that it said.
fn watch(
    child: Child,
    temporary: &Path,
    seen: &Arc<Mutex<Seen>>,
    most: Duration,
    signal: Signal,
) -> (Option<i32>, Vec<u8>) {
    let (pid, done) = (Pid::from_child(&child), Arc::new(AtomicBool::new(false)));
    let (watched, ended, temporary) = (Arc::clone(seen), Arc::clone(&done), temporary.to_owned());
    let watcher = std::thread::spawn(move || {
        let (began, mut signalled) = (Instant::now(), false);
        while !ended.load(Ordering::SeqCst) {
            look(pid.as_raw_nonzero().get().unsigned_abs(), &watched);
            look_into(&temporary, &watched);
            if !signalled && most <= began.elapsed() {
                // Not found: it has just ended.
                let _ = kill_process(pid, signal);
                signalled = true;
            }
            // Who takes long stands still.
            std::thread::sleep(Duration::from_millis(if began.elapsed() < LIVELY { 2 } else { 50 }));
        }
    });
    let output = child.wait_with_output().expect("its end");
    done.store(true, Ordering::SeqCst);
    watcher.join().expect("no panic");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), said)
}

/// Files that exist only while the program runs.
fn look_into(temporary: &Path, seen: &Mutex<Seen>) {
    for entry in std::fs::read_dir(temporary).into_iter().flatten().flatten() {
        let bytes = std::fs::read(entry.path()).unwrap_or_default();
        seen.lock().expect("no panic").text.insert((format!("the temporary {}", entry.path().display()), bytes));
    }
}

pub(super) fn contains(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|window| window == word.as_bytes())
}

/// Requires passwords of TCP connections; the tests' own psql comes over the socket.
pub(super) fn require_passwords(world: &World) {
    let cluster = world.cluster();
    let lines = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
    std::fs::write(cluster.folder.join("data/pg_hba.conf"), lines).expect("write the rules");
    let quoted = PASSWORD.replace('\'', "''");
    cluster.psql("postgres", &format!("alter role postgres password '{quoted}'; select pg_reload_conf()"));
}

fn fill(world: &World) {
    let wide = "do $$ begin for n in 1..300 loop execute format('create table wide_%s (a int primary key, b text)', n); end loop; end $$";
    let sql = format!(
        "create extension postgres_fdw; create server far foreign data wrapper postgres_fdw options (host 'far.invalid');
         create user mapping for postgres server far options (user 'u', password '{MAPPING}');
         create table {TABLE} (id serial primary key, s text); insert into {TABLE} (s) select '{ROW}' from generate_series(1, 5000); {wide};"
    );
    world.tenant("acme", &sql);
    world.tenant("globex", &sql);
    world.register(
        "initech",
        &format!("{{\"tenancy_db_username\": \"nobody\", \"tenancy_db_password\": \"{TENANT}\"}}"),
    );
    world.create(&world.db("initech"));
}

#[test]
fn no_secret_and_no_row_is_said_stored_or_handed_to_another_process() {
    let world = World::own(&[]);
    fill(&world);
    require_passwords(&world);
    std::fs::create_dir(world.sandbox.path("tmp")).expect("a folder");
    world.reconfigure("connections = 8", "connections = 8\npassword = { env = \"PLANTED_PASSWORD\" }");
    let seen = Arc::new(Mutex::new(Seen::default()));
    let mut said = Vec::new();
    for (arguments, code) in [
        (&["-vv", "init"][..], 0),
        (&["-vv", "config", "show"], 0),
        (&["-vv", "backup", "--all"], 3),
        (&["-vv", "--log-format", "json", "backup", "--tenant", "acme", "--json"], 0),
        (&["-vv", "list"], 0),
        (&["-vv", "verify", "--read-data"], 0),
        (&["-vv", "restore", "--tenant", "acme", "--yes"], 0),
        (&["-vv", "restore", "--tenant", "globex", "--as", "elsewhere", "--json", "--yes"], 0),
    ] {
        said.push((format!("what {arguments:?} said"), run(&world, arguments, code, &seen)));
    }
    let kept = world.sandbox.read("identity.txt");
    let identity = kept.lines().find(|line| !line.starts_with('#')).expect("the identity").to_owned();
    let key = world.sandbox.read("repository.key").trim().to_owned();
    // A wrong password is as secret as a right one.
    world.cluster().psql("postgres", "alter role postgres password 'changed'");
    said.push(("what a refused login said".to_owned(), run(&world, &["-vv", "backup", "--all"], 13, &seen)));
    let seen = seen.lock().expect("no panic");
    for program in ["pg_dump", "pg_restore"] {
        assert!(seen.children.contains(program), "{program} was never seen: {:?}", seen.children);
    }
    let secrets = [PASSWORD, MAPPING, TENANT, ROW, &identity, &key];
    for (what, text) in said.iter().chain(&seen.text) {
        for secret in secrets {
            assert!(!contains(text, secret), "{what} holds {secret:?}");
        }
    }
    // The store: table names neither, in names of objects and in their bytes.
    let stored = world.stored();
    assert!(stored.len() > 10, "there is something to look into");
    for file in stored.keys() {
        let bytes = [std::fs::read(file).expect("read it"), file.to_string_lossy().into_owned().into_bytes()].concat();
        for secret in secrets.iter().chain(&[TABLE]) {
            assert!(!contains(&bytes, secret), "{} holds {secret:?}", file.display());
        }
    }
    no_file_was_left(&world, &identity);
}

/// The program leaves no file but the repository and what the test wrote.
fn no_file_was_left(world: &World, identity: &str) {
    assert_eq!(
        std::fs::read_dir(world.sandbox.path("tmp")).expect("the folder").count(),
        0,
        "no temporary file is left"
    );
    let names = std::fs::read_dir(world.sandbox.folder()).expect("the folder").flatten();
    let names: BTreeSet<String> = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let expected = ["identity.txt", "repository.key", CONFIG, REPOSITORY, "tmp"].map(str::to_owned);
    assert_eq!(names, BTreeSet::from(expected));
    let found = Command::new("grep").args(["-rlF", identity]).arg(world.sandbox.folder()).output().expect("run grep");
    assert_eq!(String::from_utf8_lossy(&found.stdout).lines().count(), 1, "the identity is in its own file only");
}
