//! What every job begins with: the configuration, the clock, and the way to the store, the servers and the fleet.
//!
//! Secrets are read here, when a job starts, and live as long as it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::base::clock::{Clock, Entropy};
use crate::base::ids::RunId;
use crate::base::monitor::Monitor;
use crate::base::requests::RequestCount;
use crate::base::retry::RetryPolicy;
use crate::codec::seal::Identity;
use crate::config::{self, ChecksumMode, Config, Environment, ObjectLock, Place, Preset, S3Settings};
use crate::engine::postgres::client_program::ClientPrograms;
use crate::fleet::{self, Discover, Discovery, Sources};
use crate::job::Error;
use crate::repository::{Repository, layout};
use crate::sql::Server;
use crate::store::s3::{Checksums, Lock, LockMode, S3Options, Timeouts};
use crate::store::{Backend, ObjectStore, StoreOptions};

/// What a job has to work with.
#[derive(Clone)]
pub struct Context {
    /// The configuration.
    pub config: Arc<Config>,
    /// The environment, as it was when the process began.
    pub environment: Arc<Environment>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Whom progress is told.
    pub monitor: Arc<dyn Monitor>,
    /// Cancelled when the process should stop.
    pub stop: CancellationToken,
    /// Folders in which client programs are searched last (`PATH`).
    pub search_path: Vec<PathBuf>,
    /// Where requests to a store that takes money for them are counted.
    pub requests: Arc<RequestCount>,
}

impl Context {
    /// A new run's id.
    pub fn new_run(&self) -> RunId {
        RunId::new(self.clock.now(), self.entropy.tail())
    }

    /// The store, with retries and a bound on requests.
    pub async fn open_store(&self) -> Result<Arc<dyn ObjectStore>, Error> {
        self.open_store_of(&self.config.repository).await
    }

    /// The store of one of the configured repositories.
    pub async fn open_store_of(&self, config: &config::Repository) -> Result<Arc<dyn ObjectStore>, Error> {
        let backend = match &config.place {
            Place::Folder(folder) => Backend::Folder(folder.clone()),
            Place::S3(settings) => Backend::S3(Box::new(self.s3_options(settings).await?)),
        };
        let patience = match &config.place {
            Place::Folder(_) => Duration::ZERO,
            // What the store says of itself is reported, not that nothing moved.
            Place::S3(settings) => settings.slow_down_timeout.min(self.config.limits.no_progress / 5 * 4),
        };
        let retry = RetryPolicy { attempts: config.attempts, patience, ..STORE_RETRY };
        let options = StoreOptions { backend, max_requests: self.config.limits.requests_at_once, retry };
        Ok(crate::store::open(options, Arc::clone(&self.entropy)).await?)
    }

    pub(crate) async fn s3_options(&self, settings: &S3Settings) -> Result<S3Options, Error> {
        let mut options = S3Options::new(settings.bucket.clone(), settings.prefix.clone());
        options.endpoint = settings.endpoint.as_ref().map(|url| url.to_string().trim_end_matches('/').to_owned());
        options.region.clone_from(&settings.region);
        options.path_style = settings.path_style;
        let mode = |lock| match lock {
            ObjectLock::Governance => LockMode::Governance,
            ObjectLock::Compliance => LockMode::Compliance,
        };
        options.lock = settings.object_lock.map(|lock| Lock { mode: mode(lock), until: layout::expires_at });
        options.requests = Arc::clone(&self.requests);
        options.ca_file.clone_from(&settings.ca_file);
        options.checksums = match settings.checksums {
            ChecksumMode::Auto => Checksums::Auto,
            ChecksumMode::Required => Checksums::Required,
            ChecksumMode::Off => Checksums::Off,
        };
        // A silent store is named by its own request, which is tried twice, before the target is given up.
        let no_progress = (self.config.limits.no_progress / 3).min(settings.request_timeout);
        options.timeouts =
            Timeouts { connect: settings.connect_timeout, request: settings.request_timeout, no_progress };
        if let Some(access) = &settings.access {
            let credentials = access.read(&self.environment).await?;
            options.access_key_id = Some(credentials.access_key_id);
            options.secret_access_key = Some(credentials.secret_access_key);
            options.session_token = credentials.session_token;
        }
        Ok(options)
    }

    /// The repository, with its key proven.
    pub async fn open_repository(&self) -> Result<Repository, Error> {
        let key = self.config.repository_key(&self.environment).await?;
        Ok(Repository::open(self.open_store().await?, key.bytes()).await?)
    }

    /// The repository without its key, for restoring only.
    pub async fn open_repository_without_key(&self) -> Result<Repository, Error> {
        Ok(Repository::open_without_key(self.open_store().await?).await?)
    }

    /// The identities of a restoring machine.
    pub async fn identities(&self) -> Result<Vec<Identity>, Error> {
        Ok(self.config.identities(&self.environment).await?)
    }

    /// All servers with their passwords read.
    pub async fn servers(&self) -> Result<BTreeMap<String, Server>, Error> {
        let mut servers = BTreeMap::new();
        for settings in &self.config.servers {
            servers.insert(settings.name.clone(), settings.open(&self.environment).await?);
        }
        Ok(servers)
    }

    /// Where `pg_dump` and `pg_restore` are found.
    pub fn programs(&self) -> ClientPrograms {
        ClientPrograms::new(self.search_path.clone())
    }

    /// Asks the registry and the servers what exists.
    pub async fn discover(&self, servers: &BTreeMap<String, Server>) -> Result<Discovery, Error> {
        let config = &self.config;
        let server = |name: &str| servers.get(name).expect("the configuration names only servers that it has");
        let way = config.tenants.as_ref().map(|tenants| discover_as(&tenants.discover));
        let all: Vec<Server> = servers.values().cloned().collect();
        let sources = Sources {
            central: config.central.as_ref().map(|central| (server(&central.server), central.database.as_str())),
            tenants: config.tenants.as_ref().zip(way.as_ref()).map(|(tenants, way)| (server(&tenants.server), way)),
            servers: &all,
        };
        let asking = async { Ok(fleet::discover(&sources).await?) };
        self.answered("ask the registry and the servers what databases there are", asking).await
    }

    /// Waits for an answer as long as nothing may move.
    pub(super) async fn answered<T>(
        &self,
        what: &'static str,
        asking: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let limit = self.config.limits.no_progress;
        tokio::time::timeout(limit, asking).await.unwrap_or(Err(Error::Silent { what, limit }))
    }
}

/// The waits between tries of a request; the number of tries and the patience are configured.
const STORE_RETRY: RetryPolicy = RetryPolicy {
    attempts: 5,
    base: Duration::from_millis(200),
    cap: Duration::from_secs(20),
    patience: Duration::from_secs(300),
};

fn discover_as(configured: &config::Discover) -> Discover {
    match configured {
        config::Discover::Preset(Preset::Stancl { database_prefix, database_suffix }) => {
            Discover::Stancl { prefix: database_prefix.clone(), suffix: database_suffix.clone() }
        }
        config::Discover::Preset(Preset::Spatie) => Discover::Spatie,
        config::Discover::Query(query) => Discover::Query(query.clone()),
        config::Discover::Pattern(pattern) => Discover::Pattern(pattern.clone()),
        config::Discover::List(names) => Discover::List(names.clone()),
    }
}
