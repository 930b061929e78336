//! The schema archive and `pg_restore`: the archive lives in anonymous memory, never on a disk, and `pg_restore` opens it
//! through its descriptor as often as it has workers.
//!
//! Knows sections and lists, not what is loaded between them.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;

use crate::base::class::Class;
use crate::engine::postgres::archive_contents::Contents;
use crate::engine::postgres::client_program::{ClientProgram, FIRST_FILE_FD, Input, RunningProgram, database_argument};
use crate::engine::postgres::refusal::hint;
use crate::engine::{Error, PartSource};
use crate::sql::Server;
use crate::sql::postgres::quote_literal;

/// The largest archive that is accepted: a schema of a million tables is smaller.
const MAX_ARCHIVE_BYTES: usize = 2 << 30;
/// What every statement of `pg_restore` runs with. Commits need not wait for the disk: the transaction that publishes is
/// written after them, and it waits.
const SESSION_OPTIONS: &str = "-c synchronous_commit=off";
/// The beginning of each custom-format archive, and where it says how long its integers are (`ReadHead` in
/// pg_backup_archiver.c).
const MAGIC: &[u8] = b"PGDMP";
const INTEGER_SIZE_AT: usize = 8;
const INTEGER_SIZE: u8 = 4;
/// The statement by which `pg_dump` empties the search path (`dumpSearchPath`), as the archive holds it.
const EMPTY_SEARCH_PATH: &str = "SELECT pg_catalog.set_config('search_path', '', false);\n";

/// A section of the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    /// What must exist before rows.
    PreData,
    /// Indexes, constraints, triggers, views' contents.
    PostData,
}

impl Section {
    fn argument(self) -> &'static str {
        match self {
            Self::PreData => "--section=pre-data",
            Self::PostData => "--section=post-data",
        }
    }
}

/// A schema archive of `pg_dump`, in memory.
#[derive(Debug)]
pub(super) struct Archive {
    file: File,
}

impl Archive {
    /// Reads the archive. `search_path` replaces the empty one with which its statements run.
    pub(super) async fn receive(source: &mut dyn PartSource, search_path: Option<&str>) -> Result<Self, Error> {
        let mut bytes = BytesMut::new();
        while let Some(piece) = source.next().await? {
            if bytes.len() + piece.len() > MAX_ARCHIVE_BYTES {
                return Err(impossible(format!("larger than {MAX_ARCHIVE_BYTES} bytes")));
            }
            bytes.extend_from_slice(&piece);
        }
        if !bytes.starts_with(MAGIC) {
            return Err(impossible("it does not begin like an archive of pg_dump".to_owned()));
        }
        let file = match search_path {
            Some(search_path) => in_memory(&with_search_path(&bytes, search_path)?),
            None => in_memory(&bytes),
        };
        let file = file.map_err(|error| impossible(format!("cannot be kept in memory: {error}")))?;
        Ok(Self { file })
    }

    /// What the archive holds.
    pub(super) async fn contents(&self, program: &ClientProgram, server: &Server) -> Result<Contents, Error> {
        let arguments = ["--list", "--verbose", &path_of(0)].map(str::to_owned);
        let input = Input::Files(vec![self.descriptor()?]);
        let mut running = program.start(server, &server.maintenance_database, &arguments, input).await?;
        let mut stdout = running.stdout.take().expect("stdout is piped");
        let mut list = Vec::new();
        let failed = |error: std::io::Error| impossible(format!("its list cannot be read: {error}"));
        stdout.read_to_end(&mut list).await.map_err(failed)?;
        running.finish().await.map_err(explained)?;
        Ok(Contents::parse(&String::from_utf8_lossy(&list)))
    }

    /// Begins to print one section as SQL: read its standard output to the end, then `finish` it.
    pub(super) fn print(&self, program: &ClientProgram, section: Section) -> Result<RunningProgram, Error> {
        let arguments = [section.argument().to_owned(), "--file=-".to_owned(), path_of(0)];
        program.start_alone(&arguments, Input::Files(vec![self.descriptor()?]))
    }

    fn descriptor(&self) -> Result<OwnedFd, Error> {
        let copy = self.file.try_clone().map_err(|error| impossible(format!("no descriptor is free: {error}")))?;
        Ok(OwnedFd::from(copy))
    }
}

/// How an archive is to be restored.
#[derive(Debug)]
pub(super) struct Restorer<'a> {
    pub(super) program: &'a ClientProgram,
    pub(super) server: &'a Server,
    pub(super) database: &'a str,
    /// `--no-owner` and the like.
    pub(super) flags: &'a [String],
    /// Restores only these entries.
    pub(super) list: Option<&'a str>,
    pub(super) jobs: usize,
}

impl Restorer<'_> {
    /// Restores one section; the first statement that fails ends it.
    ///
    /// After a failure the database holds a part of the section.
    pub(super) async fn restore(&self, archive: &Archive, section: Section) -> Result<(), Error> {
        let mut arguments = vec![
            format!("{} options='{SESSION_OPTIONS}'", database_argument(self.database)),
            "--exit-on-error".to_owned(),
            section.argument().to_owned(),
        ];
        arguments.extend_from_slice(self.flags);
        if self.jobs > 1 {
            arguments.push(format!("--jobs={}", self.jobs));
        }
        let mut files = vec![archive.descriptor()?];
        if let Some(list) = self.list {
            let list = in_memory(list.as_bytes()).map_err(|error| impossible(format!("no memory for it: {error}")))?;
            files.push(OwnedFd::from(list));
            arguments.push(format!("--use-list={}", path_of(1)));
        }
        arguments.push(path_of(0));
        let mut running = self.program.start(self.server, self.database, &arguments, Input::Files(files)).await?;
        let mut stdout = running.stdout.take().expect("stdout is piped");
        // It prints nothing here; reading to the end only waits for it.
        let _ = stdout.read_to_end(&mut Vec::new()).await;
        running.finish().await.map_err(explained)?;
        Ok(())
    }
}

fn path_of(file: i32) -> String {
    format!("/proc/self/fd/{}", FIRST_FILE_FD + file)
}

fn in_memory(bytes: &[u8]) -> std::io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("dbkeeper", rustix::fs::MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    Ok(file)
}

fn impossible(details: String) -> Error {
    Error::Mismatch { what: "the schema archive".to_owned(), details }
}

/// Replaces the archive's one statement about the search path.
///
/// The table of contents is a plain sequence of length-prefixed strings, and an archive without rows holds no offsets, so
/// the statement may become longer.
fn with_search_path(archive: &[u8], search_path: &str) -> Result<Vec<u8>, Error> {
    if archive.get(INTEGER_SIZE_AT) != Some(&INTEGER_SIZE) {
        return Err(impossible("it has integers of an unknown size, so its search path cannot be changed".to_owned()));
    }
    let old = string_field(EMPTY_SEARCH_PATH);
    let literal = quote_literal(search_path);
    let new = string_field(&format!("SELECT pg_catalog.set_config('search_path', {literal}, false);\n"));
    let mut found = archive.windows(old.len()).enumerate().filter(|(_, window)| *window == old);
    let (Some((at, _)), None) = (found.next(), found.next()) else {
        return Err(impossible("its search path is not where it is expected, and cannot be changed".to_owned()));
    };
    Ok([&archive[..at], &new, &archive[at + old.len()..]].concat())
}

/// `WriteStr` of pg_backup_archiver.c: a sign, the length in little-endian order, the bytes.
fn string_field(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("a search path is short");
    [&[0], length.to_le_bytes().as_slice(), text.as_bytes()].concat()
}

/// Makes one sentence of what `pg_restore` said: the entry, the server's words, the function that it was in.
pub(super) fn explained(error: Error) -> Error {
    let Error::Client { program, reason, class, .. } = error else { return error };
    let reason = sentence(&reason);
    // That a program is missing was found before; a failing statement is the server's refusal.
    let class = if class == Class::Unexpected { Class::Refused } else { class };
    let hint = hint(&reason).map(str::to_owned);
    Error::Client { program, reason, class, hint }
}

fn sentence(said: &str) -> String {
    let after = |line: &str, word: &str| line.find(word).map(|at| line[at + word.len()..].trim().to_owned());
    let mut entry = None;
    let mut cause = None;
    let mut context = None;
    for line in said.lines() {
        if cause.is_none() {
            entry = after(line, "from TOC entry ").or(entry);
            cause = after(line, "ERROR:").or_else(|| after(line, "pg_restore: error:"));
        } else if context.is_none() {
            context = after(line, "CONTEXT:").or_else(|| after(line, "HINT:"));
        }
    }
    let Some(mut text) = cause else { return said.trim().to_owned() };
    if let Some(context) = context {
        text = format!("{text} ({context})");
    }
    match entry.as_deref().and_then(entry_words) {
        Some(entry) => format!("restore {entry}: {text}"),
        None => text,
    }
}

/// `TABLE public t` of `220; 1259 16537 TABLE public t owner`.
fn entry_words(entry: &str) -> Option<String> {
    let words = entry.splitn(4, ' ').nth(3)?;
    Some(words.rsplit_once(' ').map_or(words, |(words, _owner)| words).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_entry_and_the_function_and_no_row() {
        let said = "exit status: 1: pg_restore: while PROCESSING TOC:\n\
            pg_restore: from TOC entry 3342; 2606 16543 FK CONSTRAINT t t_x_fkey postgres\n\
            pg_restore: error: could not execute query: ERROR:  relation \"secrets\" does not exist\n\
            DETAIL:  Key (x)=(5) is not present\n\
            CONTEXT:  SQL function \"f\" during inlining\n";
        let expected = "restore FK CONSTRAINT t t_x_fkey: relation \"secrets\" does not exist (SQL function \"f\" during inlining)";
        assert_eq!(sentence(said), expected);
        assert_eq!(sentence("signal: 9 (SIGKILL)"), "signal: 9 (SIGKILL)");
    }

    #[test]
    fn the_search_path_is_replaced_once_or_not_at_all() {
        let head = b"PGDMP\x01\x0e\x00\x04\x08\x01";
        let archive = [head.as_slice(), b"..", &string_field(EMPTY_SEARCH_PATH), b"rest"].concat();
        let changed = with_search_path(&archive, "app, public").unwrap();
        let expected = string_field("SELECT pg_catalog.set_config('search_path', 'app, public', false);\n");
        assert_eq!(changed, [head.as_slice(), b"..", &expected, b"rest"].concat());
        assert!(with_search_path(head, "app").is_err());
        assert!(with_search_path(&[archive.as_slice(), &archive].concat(), "app").is_err());
        assert!(with_search_path(&archive[..8], "app").is_err());
    }
}
