//! `[repository]`: where backups are kept, how the store is spoken to, and where the repository key is.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use url::Url;

use crate::base::repository_key::RepositoryKey;
use crate::base::secret::Secret;
use crate::config::Config;
use crate::config::environment::Environment;
use crate::config::error::Error;
use crate::config::limits::at_least;
use crate::config::reader::Section;
use crate::config::secret::{KeyReference, SecretReference};
use crate::config::values::{Node, Value, Wrong, one_of, text};

/// The keys that only an S3 repository has.
const S3_KEYS: [&str; 12] = [
    "endpoint",
    "region",
    "path_style",
    "access_key_id",
    "secret_access_key",
    "session_token",
    "ca_file",
    "checksums",
    "object_lock",
    "connect_timeout",
    "request_timeout",
    "slow_down_timeout",
];
const URL_EXPECTED: &str = "\"s3://bucket/prefix\" or \"file:///folder\"";

/// Where backups are kept.
#[derive(Clone, Debug)]
pub struct Repository {
    /// The place as it was typed; holds no secret.
    pub url: String,
    /// The place.
    pub place: Place,
    /// How often a request is tried before it counts as failed.
    pub attempts: u32,
    /// Where the repository key is; a restore works without it.
    pub key: Option<SecretReference>,
}

/// The place of a repository.
#[derive(Clone, Debug)]
pub enum Place {
    /// An absolute folder.
    Folder(PathBuf),
    /// A bucket of an S3-compatible store.
    S3(Box<S3Settings>),
}

/// How an S3-compatible store is spoken to.
#[derive(Clone, Debug)]
pub struct S3Settings {
    /// The bucket.
    pub bucket: String,
    /// The prefix of every key, without slashes at its ends; may be empty.
    pub prefix: String,
    /// The service; left out for AWS.
    pub endpoint: Option<Url>,
    /// The region; left out for the SDK's own chain.
    pub region: Option<String>,
    /// The bucket stands in the path rather than in the host name.
    pub path_style: bool,
    /// The login; left out for the SDK's own chain.
    pub access: Option<S3Access>,
    /// A PEM file of authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Which checksums are sent and asked for.
    pub checksums: ChecksumMode,
    /// How objects are locked until their expiry, if they are.
    pub object_lock: Option<ObjectLock>,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long one try of a request may take.
    pub request_timeout: Duration,
    /// How long a store may answer that it is too busy (503 SlowDown, 429) before that is a failure.
    pub slow_down_timeout: Duration,
}

/// Where the two or three parts of an S3 login are.
#[derive(Clone, Debug)]
pub struct S3Access {
    access_key_id: SecretReference,
    secret_access_key: SecretReference,
    session_token: Option<SecretReference>,
}

/// An S3 login, read.
#[derive(Clone, Debug)]
pub struct S3Credentials {
    /// Who.
    pub access_key_id: Secret,
    /// The proof.
    pub secret_access_key: Secret,
    /// For temporary logins.
    pub session_token: Option<Secret>,
}

/// Which checksums travel with objects: stores differ in what they accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumMode {
    /// As the SDK finds right for the operation.
    Auto,
    /// Only where the operation requires one.
    Required,
    /// None, for stores that refuse them.
    Off,
}

/// Who may end the lock of an object before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectLock {
    /// Who has a right of its own for that.
    Governance,
    /// Nobody.
    Compliance,
}

impl S3Access {
    /// Reads the login.
    pub async fn read(&self, environment: &Environment) -> Result<S3Credentials, Error> {
        let session_token = match &self.session_token {
            Some(reference) => Some(reference.read(environment).await?),
            None => None,
        };
        Ok(S3Credentials {
            access_key_id: self.access_key_id.read(environment).await?,
            secret_access_key: self.secret_access_key.read(environment).await?,
            session_token,
        })
    }

    /// Every secret that it names.
    pub(super) fn references(&self) -> impl Iterator<Item = &SecretReference> {
        [&self.access_key_id, &self.secret_access_key].into_iter().chain(&self.session_token)
    }
}

impl Config {
    /// The repository key; an error of class `Key` where there is none or it is not one.
    pub async fn repository_key(&self, environment: &Environment) -> Result<RepositoryKey, Error> {
        let not_configured = || Error::KeyNotConfigured { file: self.file.clone(), name: "repository.key" };
        let reference = self.repository.key.as_ref().ok_or_else(not_configured)?;
        let secret = reference.read(environment).await?;
        RepositoryKey::parse(secret.reveal()).map_err(|error| reference.failed(&format!("holds {error}"), None))
    }
}

impl Repository {
    pub(super) fn read(top: &Section<'_>) -> Option<Self> {
        let section = top.required_section("repository")?;
        let key: Option<KeyReference> = section.optional("key");
        let place = Self::read_place(&section, "repository");
        section.finish();
        place.map(|place| Self { key: key.map(|KeyReference(reference)| reference), ..place })
    }

    /// Reads where a repository is and how it is reached; `title` is the section's name. The key is none.
    pub(super) fn read_place(section: &Section<'_>, title: &str) -> Option<Self> {
        let url: Option<RepositoryUrl> = section.required("url");
        let attempts = section.count("attempts", 1..=20, 6);
        let place = match &url {
            Some(RepositoryUrl { place: UrlPlace::Folder(folder), .. }) => {
                refuse_s3_keys(section);
                Some(Place::Folder(folder.clone()))
            }
            Some(RepositoryUrl { place: UrlPlace::Bucket(bucket, prefix), .. }) => {
                Some(Place::S3(Box::new(read_s3(section, (title, bucket, prefix)))))
            }
            // What else is wrong is said together with the wrong place.
            None => {
                read_s3(section, (title, "", ""));
                None
            }
        };
        Some(Self { url: url?.text, place: place?, attempts, key: None })
    }
}

fn refuse_s3_keys(section: &Section<'_>) {
    for key in S3_KEYS {
        section.know(key);
        if section.has(key) {
            section.complain(key, Wrong::new(format!("{key} has no meaning for a folder"), "only with an s3:// url"));
        }
    }
}

fn read_s3(section: &Section<'_>, (title, bucket, prefix): (&str, &str, &str)) -> S3Settings {
    let wait = |key: &'static str, default: u64| {
        let check = |wait: &Duration| at_least(*wait, Duration::from_secs(1), &format!("{title}.{key}"));
        section.checked(key, Duration::from_secs(default), check)
    };
    S3Settings {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
        endpoint: section.optional::<Endpoint>("endpoint").map(|Endpoint(url)| url),
        region: section.optional("region"),
        path_style: section.or("path_style", false),
        access: read_access(section),
        ca_file: section.optional("ca_file"),
        checksums: section.or("checksums", ChecksumMode::Auto),
        object_lock: section.optional("object_lock"),
        connect_timeout: wait("connect_timeout", 10),
        request_timeout: wait("request_timeout", 120),
        slow_down_timeout: wait("slow_down_timeout", 300),
    }
}

fn read_access(section: &Section<'_>) -> Option<S3Access> {
    let access_key_id = section.optional("access_key_id");
    let secret_access_key = section.optional("secret_access_key");
    let session_token = section.optional("session_token");
    let (first, second, token) =
        (section.has("access_key_id"), section.has("secret_access_key"), section.has("session_token"));
    if first != second || (token && !first) {
        let expected = "access_key_id with secret_access_key, or neither for the SDK's own chain";
        let given = if first {
            "access_key_id"
        } else if second {
            "secret_access_key"
        } else {
            "session_token"
        };
        section.complain(given, Wrong::new("this is half of a login", expected));
    }
    Some(S3Access { access_key_id: access_key_id?, secret_access_key: secret_access_key?, session_token })
}

struct RepositoryUrl {
    text: String,
    place: UrlPlace,
}

enum UrlPlace {
    Folder(PathBuf),
    Bucket(String, String),
}

impl Value for RepositoryUrl {
    fn read(node: &Node<'_>) -> Result<Self, Wrong> {
        let text = text(node, URL_EXPECTED)?;
        let bad = |what: &str| Wrong::new(what, URL_EXPECTED);
        let url = Url::parse(text).map_err(|error| bad(&format!("{text:?} is no URL ({error})")))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad("the URL holds a login"));
        }
        if url.query().is_some() || url.fragment().is_some() || url.port().is_some() {
            return Err(bad("the URL says more than a place"));
        }
        let place = match url.scheme() {
            "file" => UrlPlace::Folder(url.to_file_path().map_err(|()| bad("this is no folder of this machine"))?),
            "s3" => {
                let bucket =
                    url.host_str().filter(|bucket| is_bucket(bucket)).ok_or_else(|| bad("the URL names no bucket"))?;
                UrlPlace::Bucket(
                    bucket.to_owned(),
                    read_prefix(&url).ok_or_else(|| {
                        Wrong::new(
                            "the prefix is no part of an object key",
                            "segments of A-Z a-z 0-9 . _ ~ - between single slashes",
                        )
                    })?,
                )
            }
            other => return Err(bad(&format!("unknown kind of repository {other:?}"))),
        };
        Ok(Self { text: text.to_owned(), place })
    }

    fn show(&self) -> serde_json::Value {
        json!(self.text)
    }
}

/// The letters that bucket names have had anywhere; the store knows the rest of its rules.
fn is_bucket(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

fn read_prefix(url: &Url) -> Option<String> {
    let prefix = url.path().trim_start_matches('/').trim_end_matches('/');
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'-');
    let segment = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(plain);
    (prefix.is_empty() || prefix.split('/').all(segment)).then(|| prefix.to_owned())
}

struct Endpoint(Url);

impl Value for Endpoint {
    fn read(node: &Node<'_>) -> Result<Self, Wrong> {
        const EXPECTED: &str = "a URL such as \"https://s3.example.net\"";
        let text = text(node, EXPECTED)?;
        let url = Url::parse(text).map_err(|error| Wrong::new(format!("{text:?} is no URL ({error})"), EXPECTED))?;
        let plain = matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none();
        if !plain || url.query().is_some() || url.fragment().is_some() {
            return Err(Wrong::new("this is no endpoint", EXPECTED));
        }
        Ok(Self(url))
    }

    fn show(&self) -> serde_json::Value {
        json!(self.0.as_str())
    }
}

const CHECKSUM_MODES: [(&str, ChecksumMode); 3] =
    [("auto", ChecksumMode::Auto), ("required", ChecksumMode::Required), ("off", ChecksumMode::Off)];

impl Value for ChecksumMode {
    fn read(node: &Node<'_>) -> Result<Self, Wrong> {
        one_of(node, &CHECKSUM_MODES)
    }

    fn show(&self) -> serde_json::Value {
        json!(CHECKSUM_MODES.iter().find(|(_, mode)| mode == self).map(|(name, _)| *name))
    }
}

const OBJECT_LOCKS: [(&str, ObjectLock); 2] =
    [("governance", ObjectLock::Governance), ("compliance", ObjectLock::Compliance)];

impl Value for ObjectLock {
    fn read(node: &Node<'_>) -> Result<Self, Wrong> {
        one_of(node, &OBJECT_LOCKS)
    }

    fn show(&self) -> serde_json::Value {
        json!(OBJECT_LOCKS.iter().find(|(_, lock)| lock == self).map(|(name, _)| *name))
    }
}
