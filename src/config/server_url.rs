//! The URL of a database server: libpq's connection URI, as far as it speaks of the server and not of a session.
//!
//! `postgres://user@host:port/database?sslmode=…`, `postgres:///?host=/var/run/postgresql`, `mysql://…`, `mariadb://…`.
//! Source: PostgreSQL manual, 32.1.1.2. The `url` crate follows WHATWG, which knows no user without a host.

use crate::config::nearest::nearest;
use crate::config::values::{Node, Value, Wrong, quoted, text};
use crate::sql::Family;

const EXPECTED: &str = "a URL such as \"postgres://backup@db.internal:5432\"";
const SCHEMES: [(&str, Family); 4] = [
    ("postgres", Family::Postgres),
    ("postgresql", Family::Postgres),
    ("mysql", Family::Mysql),
    ("mariadb", Family::Mysql),
];
const PARAMETERS: [&str; 6] = ["host", "port", "user", "dbname", "sslmode", "sslrootcert"];

/// What a URL says of a server; what it does not say is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerUrl {
    text: String,
    pub(super) family: Family,
    pub(super) user: Option<String>,
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) database: Option<String>,
    pub(super) sslmode: Option<String>,
    pub(super) sslrootcert: Option<String>,
}

impl Value for ServerUrl {
    fn read(node: &Node<'_>) -> Result<Self, Wrong> {
        parse(text(node, EXPECTED)?)
    }

    fn show(&self) -> serde_json::Value {
        self.text.as_str().into()
    }
}

fn parse(text: &str) -> Result<ServerUrl, Wrong> {
    let (scheme, rest) = text.split_once("://").ok_or_else(|| Wrong::new("this is no URL", EXPECTED))?;
    let family = SCHEMES.iter().find(|(name, _)| *name == scheme).map(|(_, family)| *family);
    let unknown = || Wrong::unknown_word(&format!("unknown kind of server {scheme:?}"), scheme, &SCHEMES);
    let family = family.ok_or_else(unknown)?;
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, place) = authority.rsplit_once('@').map_or((None, authority), |(login, place)| (Some(login), place));
    if login.is_some_and(|login| login.contains(':')) {
        return Err(password_in_url());
    }
    let (host, port) = split_port(place)?;
    let mut url = ServerUrl {
        text: text.to_owned(),
        family,
        user: filled(login.unwrap_or_default())?,
        host: filled(host)?,
        port: port.map(parse_port).transpose()?,
        database: filled(path)?,
        sslmode: None,
        sslrootcert: None,
    };
    for pair in query.iter().flat_map(|query| query.split('&')).filter(|pair| !pair.is_empty()) {
        let (name, value) =
            pair.split_once('=').ok_or_else(|| Wrong::new(format!("{pair:?} has no value"), EXPECTED))?;
        url.set(name, &decode(value)?)?;
    }
    Ok(url)
}

impl ServerUrl {
    fn set(&mut self, name: &str, value: &str) -> Result<(), Wrong> {
        let field = match name {
            "host" => &mut self.host,
            "user" => &mut self.user,
            "dbname" => &mut self.database,
            "sslmode" => &mut self.sslmode,
            "sslrootcert" => &mut self.sslrootcert,
            "port" if self.port.is_some() => return Err(given_twice(name)),
            "port" => {
                self.port = Some(parse_port(value)?);
                return Ok(());
            }
            "password" | "sslpassword" => return Err(password_in_url()),
            _ => {
                let expected = format!("one of {}", quoted(PARAMETERS));
                let wrong = Wrong::new(format!("unknown parameter {name:?} in the URL"), expected);
                return Err(wrong.or_rather(nearest(name, PARAMETERS)));
            }
        };
        if field.is_some() {
            return Err(given_twice(name));
        }
        *field = Some(value.to_owned()).filter(|value| !value.is_empty());
        Ok(())
    }
}

fn given_twice(name: &str) -> Wrong {
    Wrong::new(format!("the URL gives {name:?} twice"), "each of them once")
}

fn password_in_url() -> Wrong {
    let mut wrong = Wrong::new("the URL holds a password", "a URL without one, and password = { file = \"…\" }");
    wrong.meant = Some("a configuration is copied, committed and shown: name the secret's place".to_owned());
    wrong
}

/// Host and port; an IPv6 address stands in brackets.
fn split_port(place: &str) -> Result<(&str, Option<&str>), Wrong> {
    if let Some(inner) = place.strip_prefix('[') {
        let (host, rest) =
            inner.split_once(']').ok_or_else(|| Wrong::new("the address has no closing bracket", EXPECTED))?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(Wrong::new(format!("{rest:?} follows the address"), EXPECTED)),
        };
    }
    if place.contains(',') {
        return Err(Wrong::new("the URL names several hosts", "one [[servers]] section for each"));
    }
    Ok(place.rsplit_once(':').map_or((place, None), |(host, port)| (host, Some(port))))
}

fn parse_port(text: &str) -> Result<u16, Wrong> {
    let port = text.parse().ok().filter(|port| *port != 0);
    port.ok_or_else(|| Wrong::new(format!("{text:?} is no port"), "a number from 1 to 65535"))
}

fn filled(text: &str) -> Result<Option<String>, Wrong> {
    decode(text).map(|text| Some(text).filter(|text| !text.is_empty()))
}

/// Percent decoding; `+` is itself, as in libpq.
fn decode(text: &str) -> Result<String, Wrong> {
    let bad = || Wrong::new(format!("{text:?} is wrongly escaped"), "% and two hexadecimal digits, UTF-8, no %00");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            bytes.extend(tail.get(..2).and_then(|digits| hex::decode(digits).ok()).ok_or_else(bad)?);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0')).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parts<'a> = (Option<&'a str>, Option<&'a str>, Option<u16>, Option<&'a str>);

    fn check_url(text: &str, expected: Parts<'_>) {
        let url = parse(text).map_err(|wrong| wrong.message).expect(text);
        let found = (url.user.as_deref(), url.host.as_deref(), url.port, url.database.as_deref());
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn a_url_is_read_as_libpq_reads_it() {
        check_url("postgres://backup@db.internal:5432", (Some("backup"), Some("db.internal"), Some(5432), None));
        check_url("postgresql://db/app", (None, Some("db"), None, Some("app")));
        check_url("postgres:///?host=/var/run/postgresql", (None, Some("/var/run/postgresql"), None, None));
        check_url("postgres://me@/?host=%2Ftmp&port=5433", (Some("me"), Some("/tmp"), Some(5433), None));
        check_url("postgres://me@%2Ftmp/db", (Some("me"), Some("/tmp"), None, Some("db")));
        check_url("mysql://root@[::1]:3307", (Some("root"), Some("::1"), Some(3307), None));
        check_url("mariadb://a%40b+c@h", (Some("a@b+c"), Some("h"), None, None));
        check_url("postgres://", (None, None, None, None));
    }

    #[test]
    fn a_url_that_is_wrong_is_refused_with_the_reason() {
        for (text, message) in [
            ("db:5432", "this is no URL"),
            ("postgers://h", "unknown kind of server \"postgers\""),
            ("postgres://u:p@h", "the URL holds a password"),
            ("postgres://h?password=x", "the URL holds a password"),
            ("postgres://h?ssl_mode=require", "unknown parameter \"ssl_mode\" in the URL"),
            ("postgres://h?host=g", "the URL gives \"host\" twice"),
            ("postgres://h:1?port=2", "the URL gives \"port\" twice"),
            ("postgres://h:0", "\"0\" is no port"),
            ("postgres://h:x", "\"x\" is no port"),
            ("postgres://h,g", "the URL names several hosts"),
            ("postgres://[::1", "the address has no closing bracket"),
            ("postgres://[::1]x", "\"x\" follows the address"),
            ("postgres://%zz", "\"%zz\" is wrongly escaped"),
            ("postgres://h?sslmode", "\"sslmode\" has no value"),
        ] {
            assert_eq!(parse(text).map_err(|wrong| wrong.message), Err(message.to_owned()), "{text}");
        }
    }
}
