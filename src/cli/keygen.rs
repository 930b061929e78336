//! `keygen`: a recovery identity and a repository key, each in a new file that only its owner can read.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use age::secrecy::ExposeSecret;
use zeroize::Zeroizing;

use crate::base::class::Class;
use crate::base::clock::{Clock, SystemClock, SystemEntropy};
use crate::base::repository_key::RepositoryKey;
use crate::cli::Context;
use crate::cli::arguments::Keygen;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;

/// Only the owner reads a key.
const KEY_MODE: u32 = 0o600;

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{} exists already", .file.display())]
    Exists { file: PathBuf },
    #[error("write {}", .file.display())]
    Write {
        file: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    fn class(&self) -> Class {
        Class::Usage
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Exists { .. } => Some("a key that is overwritten is lost: name a new file".to_owned()),
            Self::Write { .. } => None,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(&error, error.class(), error.hint())
    }
}

/// Runs the verb. After a failure neither file is there, unless it was there before.
pub(super) async fn run(arguments: &Keygen, context: &Context) -> Result<Exit, Failure> {
    let identity = age::x25519::Identity::generate();
    let recipient = identity.to_public();
    let repository_key = RepositoryKey::generate(&SystemEntropy).print();
    let made_at = SystemClock.now().format("%Y-%m-%d");
    let secret = identity.to_string();
    let identity_text = Zeroizing::new(format!(
        "# Recovery identity of dbkeeper, made {made_at}. It opens every backup that is sealed to its recipient.\n\
         # Keep it offline and in two places, and never on a machine that only backs up.\n\
         # recipient: {recipient}\n{}\n",
        secret.expose_secret()
    ));
    let key_text = Zeroizing::new(format!("{}\n", repository_key.reveal()));
    for file in arguments.identity.iter().chain([&arguments.repository_key]) {
        if file.symlink_metadata().is_ok() {
            return Err(Error::Exists { file: file.clone() }.into());
        }
    }
    let Some(identity_file) = &arguments.identity else {
        write_new(&arguments.repository_key, &key_text)?;
        context.output.say(&format!(
            "{key}\n    a repository key. Keep a copy of it before it is used.\n\
             next: dbkeeper keys rotate --repository-key {key}, where a repository should have it in the place of another",
            key = arguments.repository_key.display()
        ));
        return Ok(Exit::GOOD);
    };
    write_new(identity_file, &identity_text)?;
    if let Err(error) = write_new(&arguments.repository_key, &key_text) {
        // An identity that nobody was told of helps nobody; if it stays, its file says what it is.
        let _ = std::fs::remove_file(identity_file);
        return Err(error.into());
    }
    context.output.data(format!("{recipient}\n"))?;
    context.output.say(&advice(arguments, identity_file));
    Ok(Exit::GOOD)
}

fn advice(arguments: &Keygen, identity: &Path) -> String {
    format!(
        "\nThe line above is the recipient: put it into [encryption] recipients.\n\
         {identity}\n    the recovery identity: opens every backup. Keep it offline and in two places; without it nothing can be restored.\n\
         {key}\n    the repository key: every machine that backs up needs it as [repository] key. Keep a copy: without it\n    \
         restores still work, but nothing can be added or checked for forgery.\n\
         next: dbkeeper config check, then dbkeeper init",
        identity = identity.display(),
        key = arguments.repository_key.display()
    )
}

/// Writes a file that must not exist, and does not return before it would survive a power cut.
fn write_new(file: &Path, text: &str) -> Result<(), Error> {
    let failed = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::AlreadyExists => Error::Exists { file: file.to_owned() },
        _ => Error::Write { file: file.to_owned(), source },
    };
    let mut opened = OpenOptions::new().write(true).create_new(true).mode(KEY_MODE).open(file).map_err(failed)?;
    let written = opened.write_all(text.as_bytes()).and_then(|()| opened.sync_all()).and_then(|()| sync_folder(file));
    written.map_err(|error| {
        let _ = std::fs::remove_file(file);
        failed(error)
    })
}

fn sync_folder(file: &Path) -> std::io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    File::open(folder)?.sync_all()
}
