//! The shape of `dbkeeper.toml` for editors: types that are never filled, only described.
//!
//! The reader is the judge of a file; this says the same as JSON Schema. A test holds the two together, key by key and
//! default by default.

#![expect(dead_code, reason = "these types are described, never built")]

use schemars::JsonSchema;

/// The configuration of dbkeeper. Relative paths start at the folder of the file.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename = "dbkeeper.toml")]
struct File {
    repository: Repository,
    /// Second repositories, kept in step by copy; they have the keys of the first.
    copies: Option<Vec<SecondRepository>>,
    encryption: Encryption,
    /// The database servers.
    servers: Option<Vec<Server>>,
    central: Option<Central>,
    tenants: Option<Tenants>,
    /// Folders of files that belong to the fleet.
    volumes: Option<Vec<Volume>>,
    retention: Option<Retention>,
    limits: Option<Limits>,
    drill: Option<Drill>,
}

/// Where backups are kept, how the store is spoken to, and where the repository key is.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Repository {
    /// Where the repository key is, as keygen makes it. Needed to back up; a restore works without it.
    key: Option<Secret>,
    #[schemars(flatten)]
    store: Store,
}

/// A second repository.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct SecondRepository {
    /// Your name for it, used by `copy --to` and `--repository`.
    name: String,
    /// The bytes that copy sends there a second, on the average; at least 4 KiB.
    bandwidth: Option<ByteSize>,
    #[schemars(flatten)]
    store: Store,
}

/// Where a repository is and how it is reached.
#[derive(JsonSchema)]
struct Store {
    /// `s3://bucket/prefix` or `file:///folder`.
    #[schemars(regex(pattern = "^(s3|file)://"))]
    url: String,
    /// How often a request to the store is tried before it counts as failed.
    #[schemars(range(min = 1, max = 20), extend("default" = 6))]
    attempts: Option<u32>,
    /// S3: the URL of the service; left out for AWS.
    endpoint: Option<String>,
    /// S3: the region; left out for the SDK's own chain.
    region: Option<String>,
    /// S3: the bucket stands in the path of a request rather than in its host name.
    #[schemars(extend("default" = false))]
    path_style: Option<bool>,
    /// S3: who logs in; left out, with the secret, for the SDK's own chain (web identity, profiles, instance roles).
    access_key_id: Option<Secret>,
    /// S3: the proof of the login.
    secret_access_key: Option<Secret>,
    /// S3: the third part of a temporary login.
    session_token: Option<Secret>,
    /// S3: a PEM file of certificate authorities to trust instead of the system's.
    ca_file: Option<String>,
    /// S3: which checksums are sent: as the SDK finds right, only where the operation requires one, or none.
    #[schemars(extend("default" = "auto"))]
    checksums: Option<Checksums>,
    /// S3: every object is locked until its expiry; the bucket must have been made with object lock.
    object_lock: Option<ObjectLock>,
    /// S3: how long a connection may take; at least 1s.
    #[schemars(extend("default" = "10s"))]
    connect_timeout: Option<Duration>,
    /// S3: how long one try of a request may take; at least 1s.
    #[schemars(extend("default" = "2m"))]
    request_timeout: Option<Duration>,
    /// S3: how long the store may answer that it is too busy (503 SlowDown, 429) before that is a failure; at least 1s.
    #[schemars(extend("default" = "5m"))]
    slow_down_timeout: Option<Duration>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum ObjectLock {
    Governance,
    Compliance,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Checksums {
    Auto,
    Required,
    Off,
}

/// Where a secret is. It is read when a job starts, and again by the next; one trailing line end is not part of it.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Secret {
    /// The content of a file.
    File(String),
    /// The value of an environment variable.
    Env(String),
    /// What a program prints.
    Command(Command),
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum Command {
    /// One line for `sh -c`.
    Line(String),
    /// A program with its arguments, run without a shell.
    Words(#[schemars(length(min = 1))] Vec<String>),
}

/// Whole numbers with w, d, h, m, s, the largest first.
#[derive(JsonSchema)]
struct Duration(#[schemars(regex(pattern = r"^([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$"))] String);

/// A whole number with B, KiB, MiB, GiB or TiB.
#[derive(JsonSchema)]
struct ByteSize(#[schemars(regex(pattern = "^[0-9]+ *(B|KiB|MiB|GiB|TiB)$"))] String);

/// Who can read the backups.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Encryption {
    /// The recovery recipients, as keygen or a plugin of age prints them.
    #[schemars(length(min = 1), inner(regex(pattern = "^age1[0-9a-z]{58,}$")))]
    recipients: Vec<String>,
    /// An age identity file; only where restores run.
    identity: Option<Secret>,
    /// The passphrase of the identity file, where it has one (age -p); else a person is asked on a terminal.
    identity_passphrase: Option<Secret>,
}

/// A database server and how to log in to it.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Server {
    /// Your name for it, used in messages and by `server` keys.
    name: String,
    /// `postgres://user@host:port`, `postgres:///?host=/var/run/postgresql`, `mysql://…` or `mariadb://…`; never a password.
    /// Parameters: host, port, user, dbname, sslmode, sslrootcert.
    #[schemars(regex(pattern = "^(postgres|postgresql|mysql|mariadb)://"))]
    url: String,
    /// Where the password is.
    password: Option<Secret>,
    /// A libpq password file, instead of `password`; else `PGPASSFILE` or `~/.pgpass`.
    password_file: Option<String>,
    /// A PEM file of certificate authorities to trust, or `system`.
    sslrootcert: Option<String>,
    /// How TLS is used: `prefer`, or `verify-full` where `sslrootcert` is given.
    sslmode: Option<SslMode>,
    /// The database for questions about the whole server: `postgres` or `mysql`.
    maintenance_database: Option<String>,
    /// Connections that this process may hold open on it at once.
    #[schemars(range(min = 1, max = 1000), extend("default" = 8))]
    connections: Option<u32>,
    /// The folder of `pg_dump` and `pg_restore`, where it should not be searched for.
    client_bin: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
enum SslMode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// The central database.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Central {
    /// The name of its server.
    server: String,
    /// Its name there.
    database: String,
}

/// The tenant databases.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Tenants {
    /// The name of the server they are on, where the registry says nothing else.
    server: String,
    /// How they are found; read anew by every run.
    discover: Discover,
    /// Recipients of tenants' own: new keys of their vaults are sealed to them too.
    recipients: Option<std::collections::BTreeMap<String, String>>,
}

#[derive(JsonSchema)]
#[schemars(untagged, deny_unknown_fields)]
enum Discover {
    /// By the convention of a framework, in the central database.
    Preset {
        preset: Preset,
        /// stancl: what stands before the tenant's key in a database name that the registry leaves out.
        #[schemars(extend("default" = "tenant"))]
        database_prefix: Option<String>,
        /// stancl: what stands behind it.
        #[schemars(extend("default" = ""))]
        database_suffix: Option<String>,
    },
    /// By a statement in the central database.
    Query { query: String },
    /// By the names of databases, in the words of SQL's LIKE.
    Pattern { pattern: String },
    /// These databases.
    List {
        #[schemars(length(min = 1))]
        list: Vec<String>,
    },
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Preset {
    Stancl,
    Spatie,
}

/// A folder of files: either `path` or `docker_volume`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Volume {
    /// Its name.
    name: String,
    /// The folder.
    path: Option<String>,
    /// A named volume of Docker.
    docker_volume: Option<String>,
    /// Patterns of paths below it that are left out.
    #[schemars(extend("default" = []))]
    exclude: Option<Vec<String>>,
}

/// How long backups are kept: the first backups of so many periods. Without this section: 14 daily, 8 weekly, 12 monthly.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Retention {
    #[schemars(range(min = 0, max = 876_000), extend("default" = 0))]
    hourly: Option<u32>,
    #[schemars(range(min = 0, max = 36_500), extend("default" = 0))]
    daily: Option<u32>,
    #[schemars(range(min = 0, max = 5_200), extend("default" = 0))]
    weekly: Option<u32>,
    #[schemars(range(min = 0, max = 1_200), extend("default" = 0))]
    monthly: Option<u32>,
    #[schemars(range(min = 0, max = 100), extend("default" = 0))]
    yearly: Option<u32>,
    /// The newest backups that are kept whatever their age.
    #[schemars(range(min = 1, max = 10_000), extend("default" = 3))]
    keep_last: Option<u32>,
    /// The zone in which periods begin and end, by its name in the IANA database.
    #[schemars(extend("default" = "UTC"))]
    timezone: Option<String>,
}

/// How much the process takes at once.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Limits {
    /// The memory that the process should stay within; at least 128 MiB.
    #[schemars(extend("default" = "256 MiB"))]
    memory: Option<ByteSize>,
    /// Targets that are worked on at once.
    #[schemars(range(min = 1, max = 1000), extend("default" = 4))]
    targets_at_once: Option<u32>,
    /// Requests to the store at once.
    #[schemars(range(min = 1, max = 1000), extend("default" = 16))]
    requests_at_once: Option<u32>,
    /// How long nothing may move before a target is given up; at least 10s.
    #[schemars(extend("default" = "10m"))]
    no_progress: Option<Duration>,
    /// How long a dump waits for a table that another session has locked; at least 1s.
    #[schemars(extend("default" = "30s"))]
    lock_timeout: Option<Duration>,
}

/// What a drill asks of the databases that it restored.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Drill {
    /// Questions of your own.
    checks: Option<Vec<DrillCheck>>,
}

/// A query and its expected answer: either `expect`, or `at_least` and `at_most`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct DrillCheck {
    /// Your name for it.
    name: String,
    /// One statement, run in a read-only transaction; the first value of the first row is its answer.
    query: String,
    /// The answer, as the server prints it.
    expect: Option<String>,
    /// The answer is a number that is not less.
    at_least: Option<i64>,
    /// The answer is a number that is not more.
    at_most: Option<i64>,
    /// Which targets are asked.
    #[schemars(extend("default" = "all"))]
    on: Option<CheckOn>,
    /// Only these tenants.
    #[schemars(extend("default" = []))]
    tenants: Option<Vec<String>>,
    /// How long it may take; at least 1s.
    #[schemars(extend("default" = "1m"))]
    time_limit: Option<Duration>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum CheckOn {
    All,
    Central,
    Tenants,
}

/// The JSON Schema of a configuration file.
pub fn schema() -> serde_json::Value {
    // An absent key is absent: TOML has no null.
    let settings =
        schemars::generate::SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = false);
    let mut schema = settings.into_generator().into_root_schema_for::<File>().to_value();
    remove_null(&mut schema);
    schema
}

/// Takes back what the generator makes of an optional key: `null` as one of its types or alternatives.
fn remove_null(schema: &mut serde_json::Value) {
    let null = |value: &serde_json::Value| value == "null" || value["type"] == "null";
    match schema {
        serde_json::Value::Object(fields) => {
            fields.values_mut().for_each(remove_null);
            for list in ["type", "enum", "anyOf"] {
                if let Some(serde_json::Value::Array(items)) = fields.get_mut(list) {
                    items.retain(|item| !null(item) && !item.is_null());
                }
            }
            if let Some([only]) = fields.get("type").and_then(|types| types.as_array()).map(Vec::as_slice) {
                let only = only.clone();
                fields.insert("type".to_owned(), only);
            }
            if let Some([only]) = fields.get("anyOf").and_then(|any| any.as_array()).map(Vec::as_slice) {
                let only = only.as_object().cloned().unwrap_or_default();
                fields.remove("anyOf");
                fields.extend(only);
            }
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(remove_null),
        _ => {}
    }
}
