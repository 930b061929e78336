//! What the operating system said about a file, in the store's words.
//!
//! Promises the system's own words and the path in every error, and what to do where that is known.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::base::class::Class;
use crate::store::local::is_absent;
use crate::store::{Error, ObjectKey};

/// Which call of the store it was.
#[derive(Clone, Debug)]
pub(super) struct Call {
    operation: &'static str,
    key: Option<ObjectKey>,
}

impl Call {
    pub(super) fn on(operation: &'static str, key: &ObjectKey) -> Self {
        Self { operation, key: Some(key.clone()) }
    }

    pub(super) fn without_key(operation: &'static str) -> Self {
        Self { operation, key: None }
    }
}

/// What went wrong, and where.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The operating system refused.
    System { path: PathBuf, error: io::Error },
    /// There is an object already.
    Taken,
    /// The root is not there.
    NoRoot { root: PathBuf },
}

impl Trouble {
    /// Makes trouble of an error at `path`.
    pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::System { path, error }
    }

    pub(super) fn is_absence(&self) -> bool {
        matches!(self, Self::System { error, .. } if is_absent(error))
    }
}

/// The store's error for some trouble.
pub(super) fn explain(call: Call, trouble: Trouble) -> Error {
    let Call { operation, key } = call;
    let reads = matches!(operation, "get" | "head" | "copy");
    match (trouble, key) {
        (Trouble::Taken, Some(key)) => Error::Exists { key },
        (Trouble::System { error, .. }, Some(key)) if reads && is_absent(&error) => Error::NotFound { key },
        (Trouble::NoRoot { root }, key) => Error::Failed {
            operation,
            key,
            class: Class::Store,
            reason: format!("folder {} does not exist", root.display()),
            hint: Some("check that its volume is mounted; `dbkeeper init` makes a new repository".to_owned()),
            // What it means, for those who make a repository there.
            source: Some(Box::new(io::Error::from(ErrorKind::NotFound))),
        },
        (Trouble::System { path, error }, key) => {
            let (class, hint) = judge(&error);
            failed((operation, key), class, format!("{}: {error}", path.display()), hint)
        }
        (Trouble::Taken, None) => failed((operation, None), Class::Unexpected, "taken".to_owned(), None),
    }
}

/// The error of a call that the end of the runtime cut off.
pub(super) fn shut_down(call: Call) -> Error {
    failed((call.operation, call.key), Class::Cancelled, "the program is ending".to_owned(), None)
}

fn failed(
    (operation, key): (&'static str, Option<ObjectKey>),
    class: Class,
    reason: String,
    hint: Option<&str>,
) -> Error {
    Error::Failed { operation, key, class, reason, hint: hint.map(str::to_owned), source: None }
}

/// Whether it may pass, and what to do about it.
fn judge(error: &io::Error) -> (Class, Option<&'static str>) {
    match error.kind() {
        ErrorKind::Interrupted
        | ErrorKind::TimedOut
        | ErrorKind::ResourceBusy
        | ErrorKind::WouldBlock
        | ErrorKind::StaleNetworkFileHandle => (Class::Transient, None),
        ErrorKind::StorageFull => (Class::Store, Some("free space on that file system, or run `dbkeeper prune`")),
        ErrorKind::QuotaExceeded => (Class::Store, Some("raise the quota of that user, or run `dbkeeper prune`")),
        ErrorKind::ReadOnlyFilesystem => {
            (Class::Store, Some("mount that file system for writing, and look into the kernel log for the reason"))
        }
        ErrorKind::PermissionDenied => {
            (Class::Store, Some("give the user that runs dbkeeper the right to that path (chown, chmod)"))
        }
        ErrorKind::UnexpectedEof => (Class::Corrupt, None),
        _ => (Class::Store, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of Linux: <https://man7.org/linux/man-pages/man3/errno.3.html>.
    fn check(number: i32, words: &str, hint: &str) {
        let error = io::Error::from_raw_os_error(number);
        let key = ObjectKey::new("vaults/a").unwrap();
        let trouble = Trouble::at(Path::new("/backup/=incoming/1"))(error);
        let error = explain(Call::on("put", &key), trouble);
        let text = error.to_string();
        assert!(text.starts_with("put vaults/a: /backup/=incoming/1: ") && text.contains(words), "{text}");
        assert_eq!(error.class(), Class::Store);
        assert!(error.hint().unwrap().contains(hint), "{:?}", error.hint());
    }

    #[test]
    fn a_full_read_only_or_forbidden_disk_is_told_in_the_systems_words_with_the_path() {
        check(28, "No space left on device", "free space");
        check(122, "Disk quota exceeded", "quota");
        check(30, "Read-only file system", "mount");
        check(13, "Permission denied", "chown");
        check(1, "Operation not permitted", "chown");
    }
}
