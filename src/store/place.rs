//! Where a repository is, as people write it: `s3://bucket/prefix` or `file:///folder`.
//!
//! Promises that what it took is usable as it stands, and that its errors repeat nothing that could be a password. Must not
//! know how a store is reached.

use std::path::PathBuf;
use std::str::FromStr;

use url::Url;

use crate::store::{Error, ObjectKey};

/// The place that a repository URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A folder, absolute.
    Folder(PathBuf),
    /// A prefix in a bucket.
    Bucket {
        /// The bucket.
        bucket: String,
        /// The prefix, without slashes at its ends; empty for the whole bucket.
        prefix: String,
    },
}

const EXPECTED: &str = "a repository URL: s3://bucket/prefix or file:///absolute/folder";

impl FromStr for Place {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        // The text itself is shown only if it cannot hold a password.
        let shown = if text.contains('@') { "the URL".to_owned() } else { format!("{text:?}") };
        let bad = |why: &str| Error::BadOptions { reason: format!("{shown} is not {EXPECTED}{why}") };
        let url = Url::parse(text).map_err(|error| bad(&format!(" ({error})")))?;
        let plain = url.username().is_empty() && url.password().is_none() && url.port().is_none();
        if !plain || url.query().is_some() || url.fragment().is_some() {
            return Err(bad(" (no user, port, query or fragment belongs there)"));
        }
        match url.scheme() {
            "file" => url.to_file_path().map(Self::Folder).map_err(|()| bad("")),
            "s3" => {
                let bucket = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| bad(" (no bucket)"))?;
                let prefix = url.path().trim_matches('/');
                if !prefix.is_empty() {
                    ObjectKey::new(prefix).map_err(|_| bad(" (a prefix is made of A-Z a-z 0-9 . _ ~ - and /)"))?;
                }
                Ok(Self::Bucket { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
            }
            _ => Err(bad("")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_bucket(text: &str, bucket: &str, prefix: &str) {
        let expected = Place::Bucket { bucket: bucket.to_owned(), prefix: prefix.to_owned() };
        assert_eq!(text.parse::<Place>().expect(text), expected);
    }

    #[test]
    fn buckets_and_folders_are_told_apart() {
        check_bucket("s3://acme-backups/prod", "acme-backups", "prod");
        check_bucket("s3://acme-backups/a/b/", "acme-backups", "a/b");
        check_bucket("s3://acme.backups", "acme.backups", "");
        let folder: Place = "file:///var/lib/db%20keeper".parse().unwrap();
        assert_eq!(folder, Place::Folder("/var/lib/db keeper".into()));
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for wrong in
            ["", "acme", "/var/lib", "http://x/y", "s3://", "s3:///p", "s3://b/a//b", "s3://b/ü", "s3://b/p?x=1"]
        {
            assert!(wrong.parse::<Place>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_password_in_the_url_is_refused_and_not_repeated() {
        let error = "s3://key:hunter2@bucket/p".parse::<Place>().unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        let error = "s3://key:hunter2@".parse::<Place>().unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
