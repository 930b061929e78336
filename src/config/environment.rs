//! The process's environment, read once: the one home of environment variables beside the command line.
//!
//! What is honoured: `DBKEEPER_CONFIG` and `DBKEEPER_LOG` (by the command line), `PGPASSFILE` and `HOME` for libpq's
//! password file, and the variables that secrets name.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Names the configuration file.
pub const CONFIG_VARIABLE: &str = "DBKEEPER_CONFIG";
/// Says what is logged, in the words of tracing's filter.
pub const LOG_VARIABLE: &str = "DBKEEPER_LOG";
/// Names libpq's password file (PostgreSQL manual, 32.16).
pub const PASSWORD_FILE_VARIABLE: &str = "PGPASSFILE";

/// Environment variables and the system user, as they are when a process or a test begins.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
    user: Option<String>,
}

impl std::fmt::Debug for Environment {
    /// Names only: values may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

impl Environment {
    /// That of this process.
    pub fn of_process() -> Self {
        let variables = std::env::vars_os().collect();
        Self { variables, user: system_user(Path::new("/etc/passwd"), rustix::process::geteuid().as_raw()) }
    }

    /// One of these variables only, with this system user.
    pub fn of<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>, user: Option<&str>) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { variables, user: user.map(str::to_owned) }
    }

    /// The value of a variable that is set.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// The path in a variable that is set and not empty.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).filter(|value| !value.is_empty()).map(PathBuf::from)
    }

    /// The name of the user that the process runs as, where the system knows one: libpq's default role.
    pub(super) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }
}

/// The name of a user in a file in the form of passwd(5).
fn system_user(passwd: &Path, id: u32) -> Option<String> {
    let text = std::fs::read_to_string(passwd).ok()?;
    let fields = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let mut own = fields.filter(|fields| fields.get(2).and_then(|uid| uid.parse().ok()) == Some(id));
    own.next().and_then(|fields| fields.first().map(ToString::to_string))
}
