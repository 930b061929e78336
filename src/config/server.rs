//! `[[servers]]`: the database servers and how to log in to them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::config::environment::{Environment, PASSWORD_FILE_VARIABLE};
use crate::config::error::Error;
use crate::config::reader::Section;
use crate::config::secret::SecretReference;
use crate::config::server_url::ServerUrl;
use crate::config::settings::Origin;
use crate::config::values::{Node, Value, Wrong, one_of, text};
use crate::sql::{Family, Server, SslMode};

/// Connections to one server where nothing else is said.
const DEFAULT_CONNECTIONS: u32 = 8;
/// More connections than any server should give to its backup.
const MAX_CONNECTIONS: u32 = 1000;

const SSL_MODES: [(&str, SslMode); 5] = [
    ("disable", SslMode::Disable),
    ("prefer", SslMode::Prefer),
    ("require", SslMode::Require),
    ("verify-ca", SslMode::VerifyCa),
    ("verify-full", SslMode::VerifyFull),
];

/// A server as the configuration describes it; its password is named, not read.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// The operator's name for it.
    pub name: String,
    /// Which protocol.
    pub family: Family,
    /// Host name, address, or the folder of a Unix socket (begins with `/`).
    pub host: String,
    /// TCP port, or the number in the name of the Unix socket.
    pub port: u16,
    /// The role to log in as.
    pub user: String,
    /// Where its password is.
    pub password: Option<SecretReference>,
    /// A libpq password file, where `password` is none.
    pub password_file: Option<PathBuf>,
    /// The database for questions about the whole server.
    pub maintenance_database: String,
    /// How TLS is used.
    pub ssl_mode: SslMode,
    /// A PEM file of authorities to trust instead of the system's.
    pub ssl_root_cert: Option<PathBuf>,
    /// Connections that this process may hold open on it at once.
    pub connections: usize,
    /// The folder of the client programs, where it should not be searched for.
    pub client_bin: Option<PathBuf>,
}

impl ServerSettings {
    /// Reads its password: the server as the layers below take it.
    pub async fn open(&self, environment: &Environment) -> Result<Server, Error> {
        let password = match &self.password {
            Some(reference) => Some(reference.read(environment).await?),
            None => None,
        };
        Ok(Server {
            name: self.name.clone(),
            family: self.family,
            host: self.host.clone(),
            port: self.port,
            user: self.user.clone(),
            password,
            password_file: self.password_file.clone(),
            maintenance_database: self.maintenance_database.clone(),
            ssl_mode: self.ssl_mode,
            ssl_root_cert: self.ssl_root_cert.clone(),
            connections: self.connections,
            client_bin: self.client_bin.clone(),
        })
    }
}

/// A server of the file: its name can be referred to even where the rest of it is wrong.
pub(super) struct Named {
    pub(super) name: String,
    pub(super) settings: Option<ServerSettings>,
}

/// Reads all servers; two of one name are complained about.
pub(super) fn read_all(top: &Section<'_>) -> Vec<Named> {
    let mut servers: Vec<Named> = Vec::new();
    let mut lines = BTreeMap::new();
    for section in top.sections("servers") {
        let name: Option<String> = section.required("name");
        if let Some(name) = &name
            && let Some(first) = lines.insert(name.clone(), section.line("name"))
        {
            let wrong = Wrong::new(format!("two servers are called {name:?}"), "a name of its own");
            section.complain("name", wrong.and(format!("the first is in line {first}")));
        }
        let settings = read(&section, name.clone().unwrap_or_default());
        servers.extend(name.map(|name| Named { name, settings }));
        section.finish();
    }
    servers
}

fn read(section: &Section<'_>, name: String) -> Option<ServerSettings> {
    let url: Option<ServerUrl> = section.required("url");
    let password: Option<SecretReference> = section.optional("password");
    let family = url.as_ref().map_or(Family::Postgres, |url| url.family);
    let password_file = read_password_file(section, family);
    let (ssl_mode, ssl_root_cert) = read_tls(section, url.as_ref());
    let maintenance_database = read_maintenance_database(section, url.as_ref(), family);
    let connections = section.count("connections", 1..=MAX_CONNECTIONS, DEFAULT_CONNECTIONS);
    let client_bin = section.optional("client_bin");
    let url = url?;
    let user = read_user(section, url.user);
    Some(ServerSettings {
        name,
        family,
        host: url.host.unwrap_or_else(|| default_host(family).to_owned()),
        port: url.port.unwrap_or_else(|| default_port(family)),
        user: user?,
        password,
        password_file,
        maintenance_database,
        ssl_mode,
        ssl_root_cert,
        connections: usize::try_from(connections).unwrap_or(usize::MAX),
        client_bin,
    })
}

/// The user of the URL, else, as in libpq, the one that the process runs as.
fn read_user(section: &Section<'_>, named: Option<String>) -> Option<String> {
    let origin = if named.is_some() { section.origin_of("url") } else { Origin::Default };
    let user = named.or_else(|| section.environment().user().map(str::to_owned));
    match &user {
        Some(user) => section.note("user", json!(user), origin),
        None => section.complain("url", Wrong::new("the URL names no user", "postgres://USER@…")),
    }
    user
}

/// Debian's folder of PostgreSQL's socket, as its libpq has it.
fn default_host(family: Family) -> &'static str {
    match family {
        Family::Postgres => "/var/run/postgresql",
        Family::Mysql => "localhost",
    }
}

fn default_port(family: Family) -> u16 {
    match family {
        Family::Postgres => 5432,
        Family::Mysql => 3306,
    }
}

/// The key, else `PGPASSFILE`, else `~/.pgpass` where there is one; none of them beside a password.
fn read_password_file(section: &Section<'_>, family: Family) -> Option<PathBuf> {
    const KEY: &str = "password_file";
    if section.has("password") && section.has(KEY) {
        let wrong = Wrong::new("both a password and a password file are given", "one of them");
        section.complain(KEY, wrong);
    }
    if section.has(KEY) || section.has("password") || family != Family::Postgres {
        return section.optional(KEY);
    }
    let environment = section.environment();
    let named = environment.path(PASSWORD_FILE_VARIABLE).map(|file| (file, PASSWORD_FILE_VARIABLE));
    let usual =
        || environment.path("HOME").map(|home| (home.join(".pgpass"), "HOME")).filter(|(file, _)| file.is_file());
    match named.or_else(usual) {
        Some((file, variable)) => {
            section.given(
                KEY,
                json!(file.display().to_string()),
                Origin::Environment { variable: variable.to_owned() },
            );
            Some(file)
        }
        None => section.optional(KEY),
    }
}

/// Mode and authorities, each as a key or in the URL. Who names authorities wants them checked.
fn read_tls(section: &Section<'_>, url: Option<&ServerUrl>) -> (SslMode, Option<PathBuf>) {
    let certificate: Option<RootCertificate> = match url.and_then(|url| url.sslrootcert.as_deref()) {
        Some(path) => {
            refuse_twice(section, "sslrootcert");
            let found = RootCertificate::new(path, section.folder());
            section.given("sslrootcert", found.show(), section.origin_of("url"));
            Some(found)
        }
        None => section.optional("sslrootcert"),
    };
    let default = if certificate.is_some() { SslMode::VerifyFull } else { SslMode::Prefer };
    let mode = match url.and_then(|url| url.sslmode.as_deref()) {
        Some(word) => {
            refuse_twice(section, "sslmode");
            let found = SSL_MODES.iter().find(|(name, _)| *name == word).map(|(_, mode)| *mode);
            if found.is_none() {
                section.complain("url", Wrong::unknown_word(&format!("sslmode is {word:?}"), word, &SSL_MODES));
            }
            section.given("sslmode", json!(word), section.origin_of("url"));
            found.unwrap_or(default)
        }
        None => section.or("sslmode", SslWord(default)).0,
    };
    (mode, certificate.and_then(|certificate| certificate.0))
}

fn read_maintenance_database(section: &Section<'_>, url: Option<&ServerUrl>, family: Family) -> String {
    const KEY: &str = "maintenance_database";
    if let Some(database) = url.and_then(|url| url.database.clone()) {
        refuse_twice(section, KEY);
        section.given(KEY, json!(database), section.origin_of("url"));
        return database;
    }
    let default = match family {
        Family::Postgres => "postgres",
        Family::Mysql => "mysql",
    };
    section.or(KEY, default.to_owned())
}

fn refuse_twice(section: &Section<'_>, key: &'static str) {
    if section.has(key) {
        section.complain(key, Wrong::new(format!("{key} is given here and in the URL"), "one of them"));
    }
}

/// Authorities in a file, or, as libpq spells the system's own, `system`.
struct RootCertificate(Option<PathBuf>);

impl RootCertificate {
    fn new(text: &str, folder: &Path) -> Self {
        Self((text != "system").then(|| folder.join(text)))
    }
}

impl Value for RootCertificate {
    fn read(node: &Node<'_>) -> Result<Self, Wrong> {
        Ok(Self::new(text(node, "the path of a PEM file, or \"system\"")?, node.document.folder()))
    }

    fn show(&self) -> serde_json::Value {
        self.0.as_ref().map_or_else(|| json!("system"), Value::show)
    }
}

struct SslWord(SslMode);

impl Value for SslWord {
    fn read(node: &Node<'_>) -> Result<Self, Wrong> {
        one_of(node, &SSL_MODES).map(Self)
    }

    fn show(&self) -> serde_json::Value {
        json!(SSL_MODES.iter().find(|(_, mode)| *mode == self.0).map(|(name, _)| *name))
    }
}
