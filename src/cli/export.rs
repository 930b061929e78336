//! `export`: one backup as plain SQL, in a new file or on standard output.
//!
//! A file is written under a name of its own in the same folder, and gets its final name only when all of it is on the disk:
//! a file of that name is a complete export. On standard output nothing can be taken back, so the exit code tells, and the
//! last line of a complete export; a reader that went away got a part of a backup, which is an error and never exit code 0.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use tokio::io::BufWriter;

use crate::base::class::Class;
use crate::base::units::ByteSize;
use crate::cli::arguments::Export;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::values::Destination;
use crate::cli::{Context, job_context};
use crate::job;
use crate::job::export::{Exported, Request, export};
use crate::repository::reader::Wanted;
use crate::restore;

/// Bytes that are written at once.
const WRITE_BYTES: usize = 256 * 1024;

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{} exists already", .file.display())]
    Exists { file: PathBuf },
    #[error("{} names no file", .file.display())]
    NoName { file: PathBuf },
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
            Self::Exists { .. } => Some("name a new file, or - for standard output".to_owned()),
            Self::NoName { .. } | Self::Write { .. } => None,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(&error, error.class(), error.hint())
    }
}

/// Runs the verb. After a failure there is no file of the final name.
pub(super) async fn run(arguments: &Export, context: &Context) -> Result<Exit, Failure> {
    let target = arguments.of.id().expect("clap requires a target");
    let wanted = arguments.backup.as_ref().map_or(Wanted::Newest, |id| Wanted::Id(id.to_string()));
    let request = Request { target, wanted, without_repository_key: arguments.without_repository_key };
    let (exported, place) = match &arguments.output {
        Destination::Stdout => {
            let stdout = context.output.stream();
            let stdout = stdout.map_err(|error| Failure::new(&error, Class::Unexpected, None))?;
            let exported = write(&request, context, stdout).await?;
            (exported, "standard output".to_owned())
        }
        Destination::File(file) => {
            let new = NewFile::create(file)?;
            let exported = write(&request, context, new.writer()?).await?;
            new.publish()?;
            (exported, file.display().to_string())
        }
    };
    context.output.say(&summary(&request, &exported, &place));
    Ok(Exit::GOOD)
}

async fn write(request: &Request, context: &Context, destination: tokio::fs::File) -> Result<Exported, Failure> {
    let job = job_context(context, context.config()?);
    let mut output = BufWriter::with_capacity(WRITE_BYTES, destination);
    let export = Box::pin(export(&job, request, &mut output));
    let exported = context.signals.stop().run_until_cancelled(export).await;
    job.progress.finish();
    match exported.ok_or_else(Failure::stopped)? {
        Ok(exported) => Ok(exported),
        Err(job::Error::Restore(restore::Error::Output { source })) if source.kind() == ErrorKind::BrokenPipe => {
            let failure = Failure::said(Class::Unexpected, "the reader went away before the export was complete");
            Err(failure.with_hint("to look at its beginning only, pipe it through less, or write it to a file"))
        }
        Err(error) => Err(error.into()),
    }
}

/// A file that has no name yet, and none for ever unless it is published.
struct NewFile {
    file: PathBuf,
    folder: PathBuf,
    unnamed: NamedTempFile,
}

impl NewFile {
    /// Only its owner can read it.
    fn create(file: &Path) -> Result<Self, Error> {
        if file.symlink_metadata().is_ok() {
            return Err(Error::Exists { file: file.to_owned() });
        }
        let name = file.file_name().ok_or_else(|| Error::NoName { file: file.to_owned() })?;
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        let mut prefix = std::ffi::OsString::from(".");
        prefix.push(name);
        prefix.push(".");
        let unnamed = tempfile::Builder::new().prefix(&prefix).suffix(".partial").tempfile_in(folder);
        let unnamed = unnamed.map_err(|source| Error::Write { file: file.to_owned(), source })?;
        Ok(Self { file: file.to_owned(), folder: folder.to_owned(), unnamed })
    }

    fn writer(&self) -> Result<tokio::fs::File, Error> {
        let copy = self.unnamed.as_file().try_clone();
        copy.map(tokio::fs::File::from_std).map_err(|source| self.failed(source))
    }

    /// Gives it its name. Returns when it would survive a power cut; after a failure there is no such file, or one that is
    /// complete.
    fn publish(self) -> Result<(), Error> {
        self.unnamed.as_file().sync_all().map_err(|source| self.failed(source))?;
        let Self { file, folder, unnamed } = self;
        let failed = |source: std::io::Error| match source.kind() {
            ErrorKind::AlreadyExists => Error::Exists { file: file.clone() },
            _ => Error::Write { file: file.clone(), source },
        };
        unnamed.persist_noclobber(&file).map_err(|error| failed(error.error))?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
    }

    fn failed(&self, source: std::io::Error) -> Error {
        Error::Write { file: self.file.clone(), source }
    }
}

fn summary(request: &Request, exported: &Exported, place: &str) -> String {
    let Exported { backup_id, rows, bytes, notes } = exported;
    let bytes = ByteSize(*bytes).approximate();
    let mut text = format!("exported {}, backup {backup_id}: {rows} rows, {bytes}, to {place}\n", request.target);
    for note in notes {
        text.push_str(&format!("note: {note}\n"));
    }
    if place.starts_with("standard") {
        return text;
    }
    text + &format!(
        "next: psql -X -v ON_ERROR_STOP=1 -f {place} into an empty database; the file's first lines say which"
    )
}
