//! What must be known to reach a bucket.
//!
//! Promises that its `Debug` shows no secret. Must not know where the values came from.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::base::requests::RequestCount;
use crate::base::secret::Secret;
use crate::store::ObjectKey;

/// How to reach a bucket.
#[derive(Clone, Debug)]
pub struct S3Options {
    /// The bucket.
    pub bucket: String,
    /// The prefix of all keys, without slashes at its ends; empty for the whole bucket.
    pub prefix: String,
    /// The URL of the service; left out for AWS itself.
    pub endpoint: Option<String>,
    /// The region; left out for what the AWS environment says, else `us-east-1`.
    pub region: Option<String>,
    /// True for `https://host/bucket/key`, false for `https://bucket.host/key`.
    pub path_style: bool,
    /// The access key; left out, together with the secret, for the S3 client's own chain (environment, profiles, web
    /// identity, container and instance roles).
    pub access_key_id: Option<Secret>,
    /// The secret of the access key.
    pub secret_access_key: Option<Secret>,
    /// The token of a temporary access key.
    pub session_token: Option<Secret>,
    /// A PEM file with the only authorities that may sign the service's certificate; the system's own if left out.
    pub ca_file: Option<PathBuf>,
    /// What is demanded of checksums.
    pub checksums: Checksums,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// Where requests are counted.
    pub requests: Arc<RequestCount>,
    /// How objects are locked, if they are.
    pub lock: Option<Lock>,
}

/// How the bucket locks objects (S3 Object Lock).
#[derive(Clone, Copy, Debug)]
pub struct Lock {
    /// Who may end a lock before its time.
    pub mode: LockMode,
    /// Until when an object under this key is locked from its birth; `None` for one that is not.
    pub until: fn(&ObjectKey) -> Option<DateTime<Utc>>,
}

/// Who may end a lock before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Who has a right of its own for that.
    Governance,
    /// Nobody.
    Compliance,
}

impl S3Options {
    /// The bucket in AWS with everything else left out.
    pub fn new(bucket: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            prefix: prefix.into(),
            endpoint: None,
            region: None,
            path_style: false,
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            ca_file: None,
            checksums: Checksums::Auto,
            timeouts: Timeouts::default(),
            requests: Arc::default(),
            lock: None,
        }
    }
}

/// What is demanded of the checksums that travel with an object (CRC-32, at some gigabytes a second).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksums {
    /// Sent with every upload, checked wherever the store gives one.
    #[default]
    Auto,
    /// As `Auto`, and a store that does not confirm the checksum of an upload, or gives none with a whole object, is an
    /// error.
    Required,
    /// Not sent and not checked, for stores that choke on them.
    Off,
}

/// How long to wait for the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Duration,
    /// For one request with its whole body, however slowly it moves.
    pub request: Duration,
    /// Without a single byte sent or received.
    pub no_progress: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            request: Duration::from_secs(30 * 60),
            no_progress: Duration::from_secs(60),
        }
    }
}
