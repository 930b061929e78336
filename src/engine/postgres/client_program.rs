//! The client programs of PostgreSQL: which `pg_dump` or `pg_restore` fits a server, and how it is run.
//!
//! A program is never older than the server (its catalogs would be unknown to it), and is of the server's own major where that
//! is installed: a newer one writes settings that an older server refuses. It is run with an environment of our own making:
//! no `PG*` variable of ours reaches it, and the password is neither in its arguments nor in its environment nor in a file,
//! but in anonymous memory that it inherits as a descriptor. Must not know what the programs are run for.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio_util::task::AbortOnDropHandle;

use crate::base::class::Class;
use crate::engine::Error;
use crate::engine::postgres::spoken::without_statements_and_values;
use crate::sql::postgres::APPLICATION_NAME;
use crate::sql::{Server, SslMode};

/// How much of a program's stderr is kept: its end, where the reason of a failure stands.
const STDERR_TAIL_BYTES: usize = 8 * 1024;
/// How long a program may take to print its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a program may take to connect; in whole seconds, as libpq wants it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// The descriptor under which a program finds its password.
const PASSWORD_FD: i32 = 3;
/// The descriptor of the first of [`Input::Files`]; the others follow it. A program opens one as `/proc/self/fd/<n>`.
pub const FIRST_FILE_FD: i32 = 4;
/// The majors that are looked for: from the oldest that may lie around to more than will be released in ten years.
const MAJORS: std::ops::RangeInclusive<u32> = 9..=40;
/// Where the packages of the distributions put a major's programs: Debian, Red Hat, Alpine.
const PACKAGE_FOLDERS: [(&str, &str); 3] =
    [("/usr/lib/postgresql/", "/bin"), ("/usr/pgsql-", "/bin"), ("/usr/libexec/postgresql", "")];
/// Where the distributions keep the system's certificate authorities: libpq before 16 cannot be told "the system's".
const SYSTEM_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Finds client programs and remembers what it found; one for all databases of a job.
#[derive(Debug)]
pub struct ClientPrograms {
    package_folders: Vec<(String, String)>,
    search_path: Vec<PathBuf>,
    known: Mutex<HashMap<Wanted, ClientProgram>>,
}

/// What was asked for: the program, the configured folder, the server's major.
type Wanted = (&'static str, Option<PathBuf>, u32);

/// A program that fits a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientProgram {
    /// `pg_dump`, `pg_restore`.
    pub name: &'static str,
    /// The file.
    pub path: PathBuf,
    /// Its version as it prints it, such as `15.20`.
    pub version: String,
    /// The first number of its version.
    pub major: u32,
}

impl ClientPrograms {
    /// Looks into the folders of the distributions' packages, then into `search_path` (the folders of `PATH`).
    pub fn new(search_path: Vec<PathBuf>) -> Self {
        let package_folders = PACKAGE_FOLDERS.map(|(before, after)| (before.to_owned(), after.to_owned())).to_vec();
        Self { package_folders, search_path, known: Mutex::default() }
    }

    /// The program `name` that fits a server of `server_major`.
    ///
    /// [`Server::client_bin`] is the only folder looked into where it is set. Otherwise the server's own major wins, and the
    /// smallest newer one comes next. The error, of [`Class::Client`], names what was found instead.
    pub async fn find(&self, server: &Server, name: &'static str, server_major: u32) -> Result<ClientProgram, Error> {
        let wanted = (name, server.client_bin.clone(), server_major);
        if let Some(program) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&wanted) {
            return Ok(program.clone());
        }
        let program = match &server.client_bin {
            Some(folder) => configured(folder, name, server_major).await?,
            None => self.search(name, server_major).await?,
        };
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(wanted, program.clone());
        Ok(program)
    }

    /// The `pg_restore` that reads an archive which a `pg_dump` of `archive_major` wrote, where no server is involved.
    ///
    /// The smallest major that can, so that it prints no setting that an older server refuses. `folders` are the configured
    /// ones, and come before those of the packages.
    pub async fn find_for_archive(&self, folders: &[PathBuf], archive_major: u32) -> Result<ClientProgram, Error> {
        let name = "pg_restore";
        let mut best: Option<ClientProgram> = None;
        for path in folders.iter().map(|folder| folder.join(name)).filter(|path| path.is_file()) {
            let program = probe(name, &path).await?;
            if archive_major <= program.major && best.as_ref().is_none_or(|best| program.major < best.major) {
                best = Some(program);
            }
        }
        if let Some(program) = best {
            return Ok(program);
        }
        let found = self.installed(name, archive_major).await;
        match found.range(archive_major..).next() {
            Some((_, path)) => fitting(probe(name, path).await?, archive_major),
            None => Err(Error::Client {
                program: name.to_owned(),
                reason: format!(
                    "the schema was written by pg_dump {archive_major} and needs {name} of {archive_major} or newer: {}",
                    listed(found.values())
                ),
                class: Class::Client,
                hint: Some(format!("install {}", package(archive_major))),
            }),
        }
    }

    async fn search(&self, name: &'static str, server_major: u32) -> Result<ClientProgram, Error> {
        let found = self.installed(name, server_major).await;
        match found.range(server_major..).next() {
            Some((_, path)) => fitting(probe(name, path).await?, server_major),
            None => Err(missing(name, server_major, found.values())),
        }
    }

    /// The programs called `name` by their majors; the search path counts only where no package has `wanted_major`.
    async fn installed(&self, name: &'static str, wanted_major: u32) -> BTreeMap<u32, PathBuf> {
        // Folders whose name tells the major come first: no program is started only to be refused.
        let mut found: BTreeMap<u32, PathBuf> = BTreeMap::new();
        for major in MAJORS {
            let folders = self.package_folders.iter().map(|(before, after)| format!("{before}{major}{after}"));
            if let Some(path) = folders.map(|folder| Path::new(&folder).join(name)).find(|path| path.is_file()) {
                found.insert(major, path);
            }
        }
        if !found.contains_key(&wanted_major) {
            for path in self.search_path.iter().map(|folder| folder.join(name)).filter(|path| path.is_file()) {
                if let Ok(program) = probe(name, &path).await {
                    found.entry(program.major).or_insert(path);
                }
            }
        }
        found
    }
}

async fn configured(folder: &Path, name: &'static str, server_major: u32) -> Result<ClientProgram, Error> {
    let path = folder.join(name);
    if !path.is_file() {
        return Err(Error::Client {
            program: name.to_owned(),
            reason: format!("there is no {name} in {}", folder.display()),
            class: Class::Client,
            hint: Some(format!("correct the server's client_bin, or install {}", package(server_major))),
        });
    }
    fitting(probe(name, &path).await?, server_major)
}

fn fitting(program: ClientProgram, server_major: u32) -> Result<ClientProgram, Error> {
    if server_major <= program.major {
        return Ok(program);
    }
    Err(Error::Client {
        program: program.name.to_owned(),
        reason: format!(
            "{} is version {}, older than the server's {server_major}",
            program.path.display(),
            program.version
        ),
        class: Class::Client,
        hint: Some(install(server_major)),
    })
}

fn missing<'a>(name: &str, server_major: u32, found: impl Iterator<Item = &'a PathBuf>) -> Error {
    let found = listed(found);
    Error::Client {
        program: name.to_owned(),
        reason: format!("the server is PostgreSQL {server_major} and needs {name} of {server_major} or newer: {found}"),
        class: Class::Client,
        hint: Some(install(server_major)),
    }
}

fn listed<'a>(found: impl Iterator<Item = &'a PathBuf>) -> String {
    let found: Vec<String> = found.map(|path| path.display().to_string()).collect();
    if found.is_empty() { "none was found".to_owned() } else { format!("found only {}", found.join(", ")) }
}

fn install(server_major: u32) -> String {
    format!("install {}, or set the server's client_bin to the folder of its programs", package(server_major))
}

fn package(server_major: u32) -> String {
    format!("the package postgresql-client-{server_major}")
}

/// Asks a program for its version.
async fn probe(name: &'static str, path: &Path) -> Result<ClientProgram, Error> {
    let failed = |reason: String| Error::Client {
        program: path.display().to_string(),
        reason,
        class: Class::Client,
        hint: None,
    };
    let mut command = Command::new(path);
    command.arg("--version").env_clear().stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(VERSION_TIMEOUT, command.output());
    let output = output.await.map_err(|_| failed(format!("no version within {} s", VERSION_TIMEOUT.as_secs())))?;
    let output = output.map_err(|error| failed(format!("cannot be started: {error}")))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let version = version_in(&printed).filter(|_| output.status.success());
    let (version, major) = version.ok_or_else(|| failed(format!("printed no version: {:?}", printed.trim())))?;
    Ok(ClientProgram { name, path: path.to_owned(), version, major })
}

/// The version in `pg_dump (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)`, and its major.
fn version_in(printed: &str) -> Option<(String, u32)> {
    let (_, rest) = printed.split_once("(PostgreSQL) ")?;
    let version = rest.split_whitespace().next()?;
    let digits = version.bytes().take_while(u8::is_ascii_digit).count();
    Some((version.to_owned(), version[..digits].parse().ok()?))
}

/// What a program's standard input is.
#[derive(Debug)]
pub enum Input {
    /// Nothing.
    Empty,
    /// Nothing, but these open files besides, as descriptors from [`FIRST_FILE_FD`] on.
    Files(Vec<OwnedFd>),
    /// What the caller writes to [`RunningProgram::stdin`].
    Piped,
}

/// A started program. It is killed when this is dropped.
#[derive(Debug)]
pub struct RunningProgram {
    name: &'static str,
    child: Child,
    /// Its standard input, where [`Input::Piped`] was asked for; dropping it is its end.
    pub stdin: Option<ChildStdin>,
    /// Its standard output: take it, and read it to its end.
    pub stdout: Option<ChildStdout>,
    stderr: AbortOnDropHandle<String>,
}

impl ClientProgram {
    /// Starts the program with these arguments; it will connect to `database` on `server`.
    ///
    /// `pg_dump` finds the database in its environment; `pg_restore` needs [`database_argument`] besides.
    pub async fn start(
        &self,
        server: &Server,
        database: &str,
        arguments: &[String],
        input: Input,
    ) -> Result<RunningProgram, Error> {
        let passwords = password_lines(server).await.map_err(|reason| self.failed(reason))?;
        let passwords =
            in_memory(&passwords).map_err(|error| self.failed(format!("keep the password in memory: {error}")))?;
        let passwords = FdMapping { parent_fd: passwords, child_fd: PASSWORD_FD };
        self.spawn(environment(server, database), arguments, input, vec![passwords])
    }

    /// Starts the program with these arguments, for work that needs no server: it is told of none.
    pub fn start_alone(&self, arguments: &[String], input: Input) -> Result<RunningProgram, Error> {
        self.spawn(vec![("LC_ALL", "C".to_owned())], arguments, input, Vec::new())
    }

    fn spawn(
        &self,
        environment: Vec<(&'static str, String)>,
        arguments: &[String],
        input: Input,
        mut mappings: Vec<FdMapping>,
    ) -> Result<RunningProgram, Error> {
        let mut command = std::process::Command::new(&self.path);
        command.args(arguments).env_clear().envs(environment);
        let is_piped = matches!(input, Input::Piped);
        if let Input::Files(files) = input {
            let numbered = (FIRST_FILE_FD..).zip(files);
            mappings.extend(numbered.map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd }));
        }
        command.fd_mappings(mappings).expect("the descriptors are numbered apart");
        let mut command = Command::from(command);
        command.kill_on_drop(true).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if is_piped { Stdio::piped() } else { Stdio::null() });
        let mut child = command
            .spawn()
            .map_err(|error| self.failed(format!("{} cannot be started: {error}", self.path.display())))?;
        let stderr = child.stderr.take().expect("stderr is piped");
        let stderr = AbortOnDropHandle::new(tokio::spawn(tail(stderr)));
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        Ok(RunningProgram { name: self.name, child, stdin, stdout, stderr })
    }

    fn failed(&self, reason: String) -> Error {
        Error::Client { program: self.name.to_owned(), reason, class: Class::Unexpected, hint: None }
    }
}

impl RunningProgram {
    /// The process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Closes its input, waits for its end and gives the end of what it said on stderr: warnings.
    ///
    /// Whatever came from its stdout counts only after this has returned `Ok`: an exit status other than 0 is an error that
    /// tells its last words. Read stdout to its end before, or the program waits for ever.
    pub async fn finish(mut self) -> Result<String, Error> {
        drop(self.stdin.take());
        let failed = |reason: String, class| Error::Client { program: self.name.to_owned(), reason, class, hint: None };
        let status =
            self.child.wait().await.map_err(|error| failed(format!("wait for its end: {error}"), Class::Unexpected))?;
        let said = self.stderr.await.map_err(|error| failed(format!("read its stderr: {error}"), Class::Unexpected))?;
        let said = without_statements_and_values(&said);
        if status.success() {
            return Ok(said);
        }
        let said = if said.is_empty() { status.to_string() } else { format!("{status}: {said}") };
        let class = if is_passing(&said) { Class::Transient } else { Class::Refused };
        Err(failed(said, class))
    }
}

/// Words of the server and of libpq that say that the connection ended, not that the work was refused.
fn is_passing(said: &str) -> bool {
    let words = [
        "server closed the connection unexpectedly",
        "terminating connection due to",
        "canceling statement due to lock timeout",
        "canceling statement due to conflict with recovery",
        "the database system is",
        "Connection refused",
        "Connection reset",
        "timeout expired",
    ];
    words.iter().any(|word| said.contains(word))
}

/// Reads a stream to its end and keeps its last [`STDERR_TAIL_BYTES`], from the beginning of a line.
async fn tail(mut stream: impl AsyncRead + Unpin) -> String {
    let mut kept: Vec<u8> = Vec::new();
    let mut cut = false;
    let mut piece = vec![0; STDERR_TAIL_BYTES];
    // A pipe that cannot be read any more has come to its end for us; the exit status tells the rest.
    while let Ok(length) = stream.read(&mut piece).await
        && length > 0
    {
        kept.extend_from_slice(&piece[..length]);
        if kept.len() > STDERR_TAIL_BYTES {
            cut = true;
            kept.drain(..kept.len() - STDERR_TAIL_BYTES);
        }
    }
    let from = if cut { kept.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1) } else { 0 };
    String::from_utf8_lossy(&kept[from..]).into_owned()
}

/// All that a program inherits. Nothing here is secret.
fn environment(server: &Server, database: &str) -> Vec<(&'static str, String)> {
    let ssl_mode = match server.ssl_mode {
        SslMode::Disable => "disable",
        SslMode::Prefer => "prefer",
        SslMode::Require => "require",
        SslMode::VerifyCa => "verify-ca",
        SslMode::VerifyFull => "verify-full",
    };
    let mut variables = vec![
        ("PGHOST", server.host.clone()),
        ("PGPORT", server.port.to_string()),
        ("PGUSER", server.user.clone()),
        ("PGDATABASE", database.to_owned()),
        ("PGPASSFILE", format!("/proc/self/fd/{PASSWORD_FD}")),
        ("PGAPPNAME", APPLICATION_NAME.to_owned()),
        ("PGCONNECT_TIMEOUT", CONNECT_TIMEOUT.as_secs().to_string()),
        ("PGGSSENCMODE", "disable".to_owned()),
        ("PGSSLMODE", ssl_mode.to_owned()),
        ("LC_ALL", "C".to_owned()),
    ];
    match &server.ssl_root_cert {
        Some(file) => variables.push(("PGSSLROOTCERT", file.display().to_string())),
        None if matches!(server.ssl_mode, SslMode::VerifyCa | SslMode::VerifyFull) => {
            let system = SYSTEM_AUTHORITIES.iter().find(|file| Path::new(file).is_file());
            variables.push(("PGSSLROOTCERT", system.unwrap_or(&"system").to_string()));
        }
        // With a root certificate at hand libpq would check in the modes that promise not to.
        None => variables.push(("PGSSLROOTCERT", "/nonexistent".to_owned())),
    }
    variables
}

/// A connection string that says only the database's name, whatever characters that has (PostgreSQL manual, 34.1.1.1).
pub fn database_argument(database: &str) -> String {
    let escaped = database.replace('\\', "\\\\").replace('\'', "\\'");
    format!("--dbname=dbname='{escaped}'")
}

/// The lines of a libpq password file (PostgreSQL manual, 34.16) for this server: empty where there is no password.
async fn password_lines(server: &Server) -> Result<zeroize::Zeroizing<Vec<u8>>, String> {
    let lines = match (&server.password, &server.password_file) {
        (Some(password), _) => {
            let password = password.reveal();
            if password.contains(['\n', '\r', '\0']) {
                return Err("the password holds a line end, which libpq cannot read".to_owned());
            }
            let escaped = zeroize::Zeroizing::new(password.replace('\\', "\\\\").replace(':', "\\:"));
            format!("*:*:*:*:{}\n", *escaped).into_bytes()
        }
        (None, Some(file)) => tokio::fs::read(file)
            .await
            .map_err(|error| format!("read the password file {}: {error}", file.display()))?,
        (None, None) => Vec::new(),
    };
    Ok(zeroize::Zeroizing::new(lines))
}

/// An anonymous file in memory with these bytes, readable by nobody else: libpq refuses a password file that others may read.
fn in_memory(bytes: &[u8]) -> std::io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create("dbkeeper", rustix::fs::MemfdFlags::CLOEXEC)?;
    rustix::fs::fchmod(&file, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)?;
    let mut file = File::from(file);
    file.write_all(bytes)?;
    Ok(OwnedFd::from(file))
}

#[cfg(test)]
mod tests;
