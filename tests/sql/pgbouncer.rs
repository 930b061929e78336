//! A real PgBouncer between us and the server: refused where it shares sessions.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use dbkeeper::base::class::Class;
use dbkeeper::sql::Server;
use dbkeeper::sql::postgres::{Error, connect};

use crate::support::postgres::Cluster;

/// A running PgBouncer in front of the shared server; killed when dropped.
struct PgBouncer {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl PgBouncer {
    fn start(settings: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("dbk-bouncer-").tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let upstream = Cluster::shared().port;
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={upstream}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = trust\nauth_file = {}/users\n{settings}\n",
            folder.path().display()
        );
        std::fs::write(folder.path().join("ini"), text).unwrap();
        std::fs::write(folder.path().join("users"), "\"postgres\" \"\"\n").unwrap();
        let mut command = match rustix::process::getuid().is_root() {
            // PgBouncer refuses to run as root.
            true => {
                let chmod = Command::new("chmod").args(["-R", "a+rX"]).arg(folder.path()).status().unwrap();
                assert!(chmod.success());
                let mut command = Command::new("setpriv");
                command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig=KILL", PGBOUNCER]);
                command
            }
            false => Command::new(PGBOUNCER),
        };
        let silent = command.arg("-q").arg(folder.path().join("ini")).stdout(Stdio::null()).stderr(Stdio::null());
        let child = silent.spawn().expect("PgBouncer is not installed: run ./dev test, or apt-get install pgbouncer");
        let bouncer = Self { child, port, _folder: folder };
        bouncer.wait_until_ready();
        bouncer
    }

    fn wait_until_ready(&self) {
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("PgBouncer did not start: is it installed? apt-get install pgbouncer");
    }

    fn server(&self) -> Server {
        Server { port: self.port, ..Cluster::shared().server() }
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const PGBOUNCER: &str = "/usr/sbin/pgbouncer";

async fn check_refused(settings: &str) {
    let bouncer = PgBouncer::start(settings);
    let database = Cluster::shared().create_database("pooled");
    // More than once: the pool is empty at first, and has idle sessions later.
    for attempt in 0..3 {
        let error = connect(&bouncer.server(), &database).await.expect_err("a shared session");
        assert!(matches!(error, Error::Pooler { .. }), "{settings}, attempt {attempt}: {error}");
        assert!(error.hint().unwrap().contains("port of PostgreSQL itself"));
        assert_eq!(error.class(), Class::Refused);
    }
}

#[tokio::test]
async fn a_pool_in_transaction_mode_is_refused() {
    check_refused("pool_mode = transaction").await;
}

#[tokio::test]
async fn a_pool_in_statement_mode_is_refused() {
    check_refused("pool_mode = statement").await;
}

#[tokio::test]
async fn a_pool_that_goes_round_its_sessions_is_refused_too() {
    check_refused("pool_mode = transaction\nserver_round_robin = 1\nmin_pool_size = 2").await;
}

#[tokio::test]
async fn a_pool_in_session_mode_is_as_good_as_the_server() {
    let bouncer = PgBouncer::start("pool_mode = session");
    let database = Cluster::shared().create_database("sessions");
    for _ in 0..3 {
        let first = connect(&bouncer.server(), &database).await.unwrap();
        let second = connect(&bouncer.server(), &database).await.unwrap();
        first.batch_execute("begin isolation level repeatable read; create temp table mine()").await.unwrap();
        let snapshot: String = first.query_one("select pg_export_snapshot()", &[]).await.unwrap().get(0);
        let import = format!("begin isolation level repeatable read; set transaction snapshot '{snapshot}'");
        second.batch_execute(&import).await.unwrap();
        first.batch_execute("rollback").await.unwrap();
    }
}
