//! Certificates made by openssl, as an administrator makes them, and servers that present them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::postgres::Cluster;

/// A folder of keys and certificates that a server of the tests may read.
pub(super) struct Authority {
    folder: tempfile::TempDir,
}

impl Authority {
    /// An authority of its own: `ca.crt`.
    pub(super) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("dbk-ca-").tempdir().expect("a temporary folder");
        run(Command::new("chmod").arg("755").arg(folder.path()));
        let authority = Self { folder };
        authority.openssl(&format!("req -x509 -newkey {KEY} -keyout ca.key -out ca.crt -days 30 -subj /CN=authority"));
        authority
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A certificate for `host` (such as `DNS:localhost`), valid for `days`; negative: it has expired.
    pub(super) fn issue(&self, name: &str, host: &str, days: i32) {
        std::fs::write(self.path("extensions"), format!("subjectAltName={host}\n")).expect("write");
        self.openssl(&format!("req -newkey {KEY} -keyout {name}.key -out request -subj /CN={name}"));
        let sign = "x509 -req -in request -CA ca.crt -CAkey ca.key -CAcreateserial -extfile extensions";
        self.openssl(&format!("{sign} -out {name}.crt -days {days}"));
        own_by_the_server(&self.path(&format!("{name}.key")));
    }

    /// What the PostgreSQL manual's recipe makes: X.509 version 1, without a name that counts.
    pub(super) fn issue_version_1(&self, name: &str) {
        self.openssl(&format!("req -newkey {KEY} -keyout {name}.key -out request -subj /CN=localhost"));
        self.openssl(&format!(
            "x509 -req -in request -CA ca.crt -CAkey ca.key -CAcreateserial -out {name}.crt -days 9"
        ));
        own_by_the_server(&self.path(&format!("{name}.key")));
    }

    /// The manual's other recipe: it signs itself, and may sign others.
    pub(super) fn issue_self_signed(&self, name: &str, key: &str) {
        let names = "-addext subjectAltName=DNS:localhost";
        self.openssl(&format!(
            "req -x509 -newkey {key} -keyout {name}.key -out {name}.crt -days 9 -subj /CN=x {names}"
        ));
        own_by_the_server(&self.path(&format!("{name}.key")));
    }

    /// A server that presents the certificate `name`, and lets in whom `pg_hba` says.
    pub(super) fn start_server(&self, name: &str, pg_hba: &str) -> Cluster {
        let hba = self.path("pg_hba.conf");
        std::fs::write(&hba, format!("local all postgres trust\n{pg_hba}\n")).expect("write");
        Cluster::start(&[
            "ssl=on",
            &format!("ssl_cert_file='{}'", self.path(&format!("{name}.crt")).display()),
            &format!("ssl_key_file='{}'", self.path(&format!("{name}.key")).display()),
            &format!("hba_file='{}'", hba.display()),
        ])
    }

    fn openssl(&self, arguments: &str) {
        run(Command::new("openssl").current_dir(self.folder.path()).args(arguments.split(' ')));
    }
}

/// `-newkey` for a key that is made in no time.
const KEY: &str = "ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

/// PostgreSQL wants to own its key.
fn own_by_the_server(key: &Path) {
    run(Command::new("chmod").arg("600").arg(key));
    if rustix::process::getuid().is_root() {
        run(Command::new("chown").arg("postgres").arg(key));
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("start a program");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
