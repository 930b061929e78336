//! Layer 4: the configuration: text in, the option types of the layers below out.
//!
//! [`Config::load`] reads `dbkeeper.toml`, checks all of it, and gives either a [`Config`] in which every value is valid and
//! every reference leads somewhere, or one error that lists every complaint with its line. Secrets are only named in it: they
//! are read when a job starts ([`SecretReference::read`]), so a rotated one is seen, and a check needs none.
//! This layer must not know the command line, nor what a job does with the values.

use std::path::{Path, PathBuf};

mod complaint;
mod copies;
mod document;
mod drill;
mod encryption;
pub mod environment;
mod error;
mod limits;
mod nearest;
mod reader;
mod repository;
mod retention;
pub mod schema;
mod secret;
mod server;
mod server_url;
mod settings;
mod tenants;
mod values;
mod volume;

pub use complaint::Complaint;
pub use copies::SecondRepository;
pub use drill::{CheckOn, DrillCheck};
pub use encryption::Encryption;
pub use environment::Environment;
pub use error::Error;
pub use limits::Limits;
pub use repository::{ChecksumMode, ObjectLock, Place, Repository, S3Access, S3Credentials, S3Settings};
pub use retention::Retention;
pub use secret::{SecretReference, SecretSource};
pub use server::ServerSettings;
pub use settings::{Origin, Setting};
pub use tenants::{Central, Discover, Preset, Tenants};
pub use volume::{Volume, VolumeSource};

use document::Document;
use reader::Reader;

/// Everything that `dbkeeper.toml` says, valid as a whole; secrets are named, not read.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file, as it was given.
    pub file: PathBuf,
    /// Where backups are kept.
    pub repository: Repository,
    /// Second repositories; names are unique.
    pub copies: Vec<SecondRepository>,
    /// Who can read them.
    pub encryption: Encryption,
    /// The database servers; names are unique.
    pub servers: Vec<ServerSettings>,
    /// The central database.
    pub central: Option<Central>,
    /// The tenant databases.
    pub tenants: Option<Tenants>,
    /// The volumes; names are unique.
    pub volumes: Vec<Volume>,
    /// How long backups are kept.
    pub retention: Retention,
    /// How much the process takes at once.
    pub limits: Limits,
    /// What restored databases are asked in a drill.
    pub drill_checks: Vec<DrillCheck>,
    /// Every value with where it came from, in reading order.
    pub settings: Vec<Setting>,
}

impl Config {
    /// Reads and checks a file. Relative paths in it start at its folder.
    pub fn load(file: &Path, environment: &Environment) -> Result<Self, Error> {
        Self::read(&Document::open(file)?, environment)
    }

    /// Checks `text` as if it stood in `file`.
    pub fn parse(file: &Path, text: &str, environment: &Environment) -> Result<Self, Error> {
        Self::read(&Document::new(file, text.as_bytes().to_vec())?, environment)
    }

    /// The server of that name.
    pub fn server(&self, name: &str) -> Option<&ServerSettings> {
        self.servers.iter().find(|server| server.name == name)
    }

    /// Every secret that the file names, in the order of sections.
    pub fn secrets(&self) -> Vec<&SecretReference> {
        fn access(repository: &Repository) -> Option<&S3Access> {
            match &repository.place {
                Place::S3(s3) => s3.access.as_ref(),
                Place::Folder(_) => None,
            }
        }
        let repositories = std::iter::once(&self.repository).chain(self.copies.iter().map(|copy| &copy.repository));
        let logins = repositories.filter_map(access).flat_map(S3Access::references);
        let keys =
            self.repository.key.iter().chain(&self.encryption.identity).chain(&self.encryption.identity_passphrase);
        logins.chain(keys).chain(self.servers.iter().filter_map(|server| server.password.as_ref())).collect()
    }

    fn read(document: &Document, environment: &Environment) -> Result<Self, Error> {
        let root = document.parse()?;
        let reader = Reader::new(document, environment);
        let top = reader.top(&root);
        let repository = Repository::read(&top);
        let copies = copies::read_all(&top);
        let encryption = Encryption::read(&top);
        let servers = server::read_all(&top);
        let central = Central::read(&top, &servers);
        let tenants = Tenants::read(&top, &servers);
        let volumes = volume::read_all(&top);
        let retention = Retention::read(&top);
        let limits = Limits::read(&top);
        let drill_checks = drill::read_checks(&top);
        top.finish();
        let settings = reader.finish()?;
        let proved = "a value that is missing was complained about";
        Ok(Self {
            file: document.file().to_owned(),
            repository: repository.expect(proved),
            copies,
            encryption: encryption.expect(proved),
            servers: servers.into_iter().map(|server| server.settings.expect(proved)).collect(),
            central,
            tenants,
            volumes,
            retention: retention.expect(proved),
            limits: limits.expect(proved),
            drill_checks,
            settings,
        })
    }
}
