//! One section of the schema as `pg_restore` prints it, made fit to stand in a file among others.
//!
//! The minors of August 2025 on put a section between `\restrict KEY` and `\unrestrict KEY`, commands that an older psql
//! does not know and refuses. The pair is left out; the key is a secret of this run of `pg_restore`, so no text of the
//! database can look like it. `SET transaction_timeout` (a `pg_restore` of 17 on) is left out where the source did not know it.
//! Every other byte passes as it is.

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::base::class::Class;
use crate::engine::postgres::client_program::ClientProgram;
use crate::engine::postgres::export::unwritten;
use crate::engine::postgres::pg_restore::{Archive, Section, explained};
use crate::engine::{Error, ExportOutput};

/// Bytes read at once from `pg_restore`. A line may be longer, up to the archive, which is in memory anyway.
const READ_BYTES: usize = 64 * 1024;
/// The server version from which on this parameter exists.
const TRANSACTION_TIMEOUT_SINCE: u32 = 170_000;

/// Prints one section into `output`.
pub(super) async fn write(
    archive: &Archive,
    section: Section,
    (program, server_version_num): (&ClientProgram, u32),
    output: &mut ExportOutput<'_>,
) -> Result<(), Error> {
    let mut running = archive.print(program, section)?;
    let stdout = running.stdout.take().expect("the output of a started program is there once");
    let mut stdout = BufReader::with_capacity(READ_BYTES, stdout);
    let mut filter = Filter::new(server_version_num);
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = stdout.read_until(b'\n', &mut line).await;
        let length = length.map_err(|error| failed(program, format!("its output cannot be read: {error}")))?;
        if length == 0 {
            break;
        }
        if filter.passes(&line) {
            output.write_all(&line).await.map_err(unwritten)?;
        }
    }
    running.finish().await.map_err(explained)?;
    if filter.is_closed() { Ok(()) } else { Err(failed(program, "its output has no end".to_owned())) }
}

fn failed(program: &ClientProgram, reason: String) -> Error {
    Error::Client { program: program.name.to_owned(), reason, class: Class::Unexpected, hint: None }
}

/// Decides, line by line, what passes.
#[derive(Debug)]
struct Filter {
    place: Place,
    /// The line that must come, where the section was opened.
    closing: Option<Vec<u8>>,
    knows_transaction_timeout: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// Before the first statement: only comments and empty lines so far.
    Top,
    /// Among the settings; no object of the database has been named yet.
    Settings,
    /// In the section itself.
    Objects,
}

impl Filter {
    fn new(server_version_num: u32) -> Self {
        let knows_transaction_timeout = TRANSACTION_TIMEOUT_SINCE <= server_version_num;
        Self { place: Place::Top, closing: None, knows_transaction_timeout }
    }

    fn passes(&mut self, line: &[u8]) -> bool {
        if self.place == Place::Objects {
            return !self.closes(line);
        }
        if line.starts_with(b"-- Name: ") || line.starts_with(b"-- TOC entry ") {
            self.place = Place::Objects;
        } else if let (Place::Top, Some(key)) = (&self.place, line.strip_prefix(b"\\restrict ")) {
            self.closing = Some([b"\\unrestrict ", key].concat());
            self.place = Place::Settings;
            return false;
        } else if line != b"\n" && !line.starts_with(b"--") {
            self.place = Place::Settings;
            return (self.knows_transaction_timeout || line != b"SET transaction_timeout = 0;\n") && !self.closes(line);
        }
        true
    }

    fn closes(&mut self, line: &[u8]) -> bool {
        let closes = self.closing.as_deref() == Some(line);
        if closes {
            self.closing = None;
        }
        closes
    }

    /// True where what was opened was closed.
    fn is_closed(&self) -> bool {
        self.closing.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_filter(server_version_num: u32, printed: &str, expected: &str, closed: bool) {
        let mut filter = Filter::new(server_version_num);
        let passed: String = printed.split_inclusive('\n').filter(|line| filter.passes(line.as_bytes())).collect();
        assert_eq!(passed, expected);
        assert_eq!(filter.is_closed(), closed);
    }

    #[test]
    fn the_pair_of_restrict_goes_and_what_looks_like_it_stays() {
        let printed = "--\n-- PostgreSQL database dump\n--\n\n\\restrict k3y\n\n-- Dumped\n\nSET lock_timeout = 0;\n\n--\n\
            -- Name: f; Type: FUNCTION\n--\n\n\\restrict k3y\n\\unrestrict other\nSET transaction_timeout = 0;\n\n\\unrestrict k3y\n\n";
        let expected = "--\n-- PostgreSQL database dump\n--\n\n\n-- Dumped\n\nSET lock_timeout = 0;\n\n--\n\
            -- Name: f; Type: FUNCTION\n--\n\n\\restrict k3y\n\\unrestrict other\nSET transaction_timeout = 0;\n\n\n";
        check_filter(150_000, printed, expected, true);
        check_filter(150_000, "\\restrict k3y\nSET a = 0;\n", "SET a = 0;\n", false);
        check_filter(150_000, "\\restrict k3y\n\\unrestrict k3y\n", "", true);
        check_filter(150_000, "SET a = 0;\n\\restrict k3y\n", "SET a = 0;\n\\restrict k3y\n", true);
    }

    #[test]
    fn a_setting_that_the_source_did_not_know_is_left_out() {
        check_filter(160_000, "SET transaction_timeout = 0;\nSET a = 0;\n", "SET a = 0;\n", true);
        check_filter(170_000, "SET transaction_timeout = 0;\n", "SET transaction_timeout = 0;\n", true);
    }
}
