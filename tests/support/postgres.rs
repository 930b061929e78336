//! A private PostgreSQL in a temporary folder, started from the installed binaries and gone with the test process.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use dbkeeper::sql::{Family, Server, SslMode};

/// One running server. It is stopped and its folder removed when the test process ends, however it ends: the wrapper shell
/// waits for the end of its standard input.
pub struct Cluster {
    /// The folder of its binaries.
    pub bin: PathBuf,
    /// The folder that holds `data/` and the socket.
    pub folder: PathBuf,
    pub port: u16,
    _lifeline: std::process::ChildStdin,
}

static SHARED: OnceLock<Cluster> = OnceLock::new();
static NEXT: AtomicU32 = AtomicU32::new(0);

impl Cluster {
    /// The server that all tests share: create databases of your own on it, and touch no others.
    pub fn shared() -> &'static Self {
        SHARED.get_or_init(|| Self::start(&["max_connections=200", "max_locks_per_transaction=256"]))
    }

    /// A server of one test's own, with these settings.
    pub fn start(settings: &[&str]) -> Self {
        Self::start_from(newest_bin(), settings)
    }

    /// A server of one test's own, from the binaries in this folder.
    #[expect(clippy::zombie_processes, reason = "it must outlive this call: it ends when its lifeline closes")]
    pub fn start_from(bin: PathBuf, settings: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("dbk-pg-").tempdir().expect("a temporary folder").keep();
        let data = folder.join("data");
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("its address").port();
        run(Command::new("chmod").arg("777").arg(&folder));
        run(as_postgres(&bin.join("initdb"))
            .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N", "-D"])
            .arg(&data));
        let mut file =
            std::fs::OpenOptions::new().append(true).open(data.join("postgresql.conf")).expect("its settings");
        writeln!(
            file,
            "port={port}\nunix_socket_directories='{}'\nfsync=off\nsynchronous_commit=off\nfull_page_writes=off",
            folder.display()
        )
        .expect("write");
        for setting in settings {
            writeln!(file, "{setting}").expect("write");
        }
        drop(free);
        // Ended by `restart`, it is started again.
        let script = r#"log=$1; data=$2; folder=$3; shift 3
            (while :; do
                "$@" -D "$data" >>"$log" 2>&1 </dev/null &
                echo $! >"$folder/pid"
                wait $!
                [ -e "$folder/again" ] || exit
                rm "$folder/again"
            done) &
            keeper=$!
            cat >/dev/null
            kill -INT "$(cat "$folder/pid")"
            wait $keeper
            rm -rf "$folder""#;
        let server = as_postgres(&bin.join("postgres"));
        let mut wrapper = Command::new("setsid");
        wrapper.args(["sh", "-c", script, "sh"]).arg(folder.join("log")).arg(&data).arg(&folder);
        wrapper
            .arg(server.get_program())
            .args(server.get_args())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = wrapper.spawn().expect("start the server");
        let lifeline = child.stdin.take().expect("its standard input");
        let cluster = Self { bin, folder, port, _lifeline: lifeline };
        cluster.wait_until_ready();
        cluster
    }

    /// Ends the server as `pg_ctl stop -m fast` (SIGINT) or `immediate` (SIGQUIT) does, and starts it again.
    pub fn restart(&self, signal: rustix::process::Signal) {
        self.stop_for_restart(signal);
        self.wait_until_ready();
    }

    /// The same, without waiting until it is back.
    pub fn stop_for_restart(&self, signal: rustix::process::Signal) {
        let pid = || std::fs::read_to_string(self.folder.join("pid")).ok().and_then(|text| text.trim().parse().ok());
        let old: i32 = pid().expect("the server's process id");
        std::fs::write(self.folder.join("again"), "").expect("ask for a new start");
        let process = rustix::process::Pid::from_raw(old).expect("a process id");
        rustix::process::kill_process(process, signal).expect("end the server");
        for _ in 0..6000 {
            if pid().is_some_and(|pid| pid != old) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("the server did not end");
    }

    fn wait_until_ready(&self) {
        for _ in 0..300 {
            let ready = Command::new(self.bin.join("pg_isready"))
                .args(["-q", "-h"])
                .arg(&self.folder)
                .args(["-p", &self.port.to_string()])
                .status();
            if ready.expect("run pg_isready").success() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        panic!("the server did not start: {}", std::fs::read_to_string(self.folder.join("log")).unwrap_or_default());
    }

    /// How dbkeeper reaches it, as superuser, over TCP.
    pub fn server(&self) -> Server {
        Server {
            name: "pg".to_owned(),
            family: Family::Postgres,
            host: "127.0.0.1".to_owned(),
            port: self.port,
            user: "postgres".to_owned(),
            password: None,
            password_file: None,
            maintenance_database: "postgres".to_owned(),
            ssl_mode: SslMode::Disable,
            ssl_root_cert: None,
            connections: 8,
            client_bin: Some(self.bin.clone()),
        }
    }

    /// Creates an empty database with a name of its own, made from `stem`.
    pub fn create_database(&self, stem: &str) -> String {
        let name = format!("{stem}_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("create database {name} template template0"));
        name
    }

    /// Runs SQL through psql and returns its unaligned output; panics with the server's words if it fails.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        let mut command = Command::new(self.bin.join("psql"));
        command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h"]).arg(&self.folder);
        command.args(["-p", &self.port.to_string(), "-d", database, "-f", "-"]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("run psql");
        let mut stdin = child.stdin.take().expect("its standard input");
        let sql = sql.to_owned();
        let writer = std::thread::spawn(move || stdin.write_all(sql.as_bytes()));
        let output = child.wait_with_output().expect("wait for psql");
        let _ = writer.join();
        assert!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs one of the server's client programs against a database and returns its standard output.
    pub fn client(&self, program: &str, arguments: &[&str]) -> Vec<u8> {
        let mut command = Command::new(self.bin.join(program));
        command.args(["-U", "postgres", "-h"]).arg(&self.folder).args(["-p", &self.port.to_string()]).args(arguments);
        let output = command.output().expect("run the client program");
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}

/// The folder of the newest installed server's binaries.
pub fn newest_bin() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is not installed: run ./dev test, or apt-get install postgresql");
    let mut found: Vec<u32> = versions.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    found.sort_unstable();
    let newest = found.last().expect("PostgreSQL is not installed: run ./dev test, or apt-get install postgresql");
    Path::new("/usr/lib/postgresql").join(newest.to_string()).join("bin")
}

/// PostgreSQL refuses to run as root: there it runs as `postgres`.
fn as_postgres(program: &Path) -> Command {
    if rustix::process::getuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("start a program");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
