//! The password file of libpq (PostgreSQL manual, "The Password File"): which line answers for a login.
//!
//! Promises to read it as libpq does, escapes and wildcards included, and never to use one that others can read. Unlike
//! libpq it does not pass over such a file with a warning: a login that then fails would not say why.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tokio::io::AsyncReadExt;

use crate::base::secret::Secret;
use crate::sql::Server;

/// A larger file is none of ours; 5,000 tenants with lines of their own need about half of it.
const MAX_PASSWORD_FILE_BYTES: u64 = 1024 * 1024;

/// The folders of Unix sockets that libpq builds have as default; the file calls them `localhost`.
const DEFAULT_SOCKET_FOLDERS: [&str; 3] = ["/var/run/postgresql", "/run/postgresql", "/tmp"];

/// Why a password file is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    /// It cannot be read.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// It is a folder, device or pipe.
    #[error("it is not a plain file")]
    NotPlain,
    /// It is open to group or others.
    #[error("group or others can access it (mode {0:04o})")]
    Open(u32),
    /// It is larger than the limit.
    #[error("it is larger than {MAX_PASSWORD_FILE_BYTES} bytes")]
    TooLarge,
}

/// The password that the file at `path` has for a login; `None` where no line matches or no such file exists.
pub(super) async fn look_up(path: &Path, server: &Server, database: &str) -> Result<Option<Secret>, Unusable> {
    let file = match tokio::fs::File::open(path).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let metadata = file.metadata().await?;
    let mode = metadata.permissions().mode() & 0o7777;
    if !metadata.is_file() {
        return Err(Unusable::NotPlain);
    }
    if mode & 0o077 != 0 {
        return Err(Unusable::Open(mode));
    }
    let mut bytes = zeroize::Zeroizing::new(Vec::new());
    file.take(MAX_PASSWORD_FILE_BYTES + 1).read_to_end(&mut bytes).await?;
    if MAX_PASSWORD_FILE_BYTES < bytes.len() as u64 {
        return Err(Unusable::TooLarge);
    }
    Ok(find(&String::from_utf8_lossy(&bytes), server, database))
}

/// The password in the first line whose four fields match.
fn find(text: &str, server: &Server, database: &str) -> Option<Secret> {
    let host = if DEFAULT_SOCKET_FOLDERS.contains(&server.host.as_str()) { "localhost" } else { &server.host };
    let wanted = [host, &server.port.to_string(), database, &server.user];
    let lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    lines.filter(|line| !line.starts_with('#')).find_map(|line| password_of(line, &wanted))
}

fn password_of(line: &str, wanted: &[&str]) -> Option<Secret> {
    let mut rest = line;
    for value in wanted {
        let (raw, field, tail) = next_field(rest);
        if raw != "*" && field != **value {
            return None;
        }
        rest = tail?;
    }
    Some(Secret::new(next_field(rest).1))
}

/// The first field as it stands and without its escapes, and what follows its colon.
fn next_field(text: &str) -> (&str, String, Option<&str>) {
    let mut field = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            ':' => return (&text[..at], field, Some(&text[at + 1..])),
            '\\' => field.extend(letters.next().map(|(_, escaped)| escaped)),
            plain => field.push(plain),
        }
    }
    (text, field, None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sql::{Family, SslMode};

    fn server(host: &str, user: &str) -> Server {
        Server {
            name: "pg".to_owned(),
            family: Family::Postgres,
            host: host.to_owned(),
            port: 5432,
            user: user.to_owned(),
            password: None,
            password_file: None,
            maintenance_database: "postgres".to_owned(),
            ssl_mode: SslMode::Disable,
            ssl_root_cert: None,
            connections: 1,
            client_bin: None,
        }
    }

    fn check_found(text: &str, host: &str, user: &str, expected: Option<&str>) {
        let found = find(text, &server(host, user), "central");
        assert_eq!(found.as_ref().map(Secret::reveal), expected, "{text:?} for {user} at {host}");
    }

    #[test]
    fn the_first_line_that_matches_answers() {
        let text =
            "# db:5432:central:app:commented\r\nother:*:*:*:no\ndb:5432:central:app:first\r\ndb:*:*:app:second\n";
        check_found(text, "db", "app", Some("first"));
        check_found("db:5433:*:*:no\n*:*:*:*:any", "db", "app", Some("any"));
        check_found("db:5432:centra:app:no", "db", "app", None);
        check_found("db:5432:centrale:app:no", "db", "app", None);
        check_found("", "db", "app", None);
        check_found("db:5432:central:app", "db", "app", None);
    }

    #[test]
    fn escapes_are_undone_and_an_escaped_star_is_no_wildcard() {
        check_found(r"db:*:*:a\:b\\c:p\:w\\d", "db", r"a:b\c", Some(r"p:w\d"));
        check_found(r"db:*:*:\*:secret", "db", "app", None);
        check_found(r"db:*:*:\*:secret", "db", "*", Some("secret"));
        check_found("db:*:*:app:pass:ignored", "db", "app", Some("pass"));
        check_found("db:*:*:app:", "db", "app", Some(""));
        check_found("db:*:*:app:naïve", "db", "app", Some("naïve"));
    }

    #[test]
    fn a_default_socket_folder_is_called_localhost_and_another_by_its_path() {
        check_found("localhost:*:*:*:yes", "/var/run/postgresql", "app", Some("yes"));
        check_found("localhost:*:*:*:no\n/srv/sockets:*:*:*:yes", "/srv/sockets", "app", Some("yes"));
        check_found("::1:*:*:*:no\n\\:\\:1:*:*:*:yes", "::1", "app", Some("yes"));
    }

    proptest! {
        #[test]
        fn whatever_stands_in_the_file_a_login_is_found_or_not(text in "([a-z*:\\\\#]|central|5432|\\PC|[\r\n]){0,60}") {
            let _ = find(&text, &server("db", "a"), "central");
            // A line of its own answers, whatever stands above it that fits nobody.
            let text = format!("{}\ndb:5432:central:nobody-else:secret\n", text.replace('*', ""));
            prop_assert!(find(&text, &server("db", "nobody-else"), "central").is_some());
        }
    }
}
