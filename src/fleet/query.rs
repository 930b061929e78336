//! A registry that is the result of the operator's own query, read by the names of its columns. Pure.
//!
//! A column that is not understood is an error, not ignored: a misspelled `host` would send the backup to another server.

use crate::base::secret::Secret;
use crate::fleet::entry::{Entry, Field, Place, State, Unreadable, not_empty, port};
use crate::fleet::error::Error;
use crate::fleet::registry::Wanted;

/// Longer values are refused.
const MAX_COLUMN_CHARS: usize = 4096;

const EXPECTED: &str = "tenant (or id) and database; host, port, user (or username), password and server if need be";

/// What a column may mean, by its name.
const MEANINGS: [(&str, Meaning); 9] = [
    ("tenant", Meaning::Tenant),
    ("id", Meaning::Tenant),
    ("database", Meaning::Database),
    ("server", Meaning::Server),
    ("host", Meaning::Host),
    ("port", Meaning::Port),
    ("user", Meaning::User),
    ("username", Meaning::User),
    ("password", Meaning::Password),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Tenant,
    Database,
    Server,
    Host,
    Port,
    User,
    Password,
}

/// How to read the result of one query.
pub(super) struct Query {
    columns: Vec<(String, Meaning)>,
}

/// The query as something to select from; a semicolon at its end is forgiven.
pub(super) fn source(query: &str) -> String {
    // On lines of its own: the query may end in a comment.
    format!("(\n{}\n)", query.trim().trim_end_matches(';'))
}

impl Query {
    /// Understands the columns that the query has.
    pub(super) fn new(found: &[String]) -> Result<Self, Error> {
        let wrong = |problem: String| Error::Columns {
            registry: "the query for tenants",
            problem,
            found: found.join(", "),
            expected: EXPECTED,
        };
        let mut columns: Vec<(String, Meaning)> = Vec::new();
        for name in found {
            let meaning = MEANINGS.into_iter().find(|(known, _)| known == name);
            let (_, meaning) = meaning.ok_or_else(|| wrong(format!("{name:?} is not understood")))?;
            if let Some((other, _)) = columns.iter().find(|(_, known)| *known == meaning) {
                return Err(wrong(format!("{other:?} and {name:?} say the same")));
            }
            columns.push((name.clone(), meaning));
        }
        for (needed, name) in [(Meaning::Tenant, "tenant"), (Meaning::Database, "database")] {
            if !columns.iter().any(|(_, meaning)| *meaning == needed) {
                return Err(wrong(format!("{name:?} is missing")));
            }
        }
        Ok(Self { columns })
    }

    pub(super) fn wanted(&self) -> Vec<Wanted<'_>> {
        self.columns.iter().map(|(column, _)| Wanted { column, max_chars: MAX_COLUMN_CHARS }).collect()
    }

    /// Reads one row, whose fields are those that were wanted.
    pub(super) fn read(&self, fields: Vec<Field>) -> Result<Entry, Unreadable> {
        let mut tenant = String::new();
        self.entry(fields, &mut tenant).map_err(|reason| Unreadable { tenant, reason })
    }

    fn entry(&self, mut fields: Vec<Field>, tenant: &mut String) -> Result<Entry, String> {
        let mut take = |wanted: Meaning| match self.columns.iter().position(|(_, meaning)| *meaning == wanted) {
            Some(at) => std::mem::replace(&mut fields[at], Field::Null).text(&self.columns[at].0),
            None => Ok(None),
        };
        let id = take(Meaning::Tenant)?.ok_or("its tenant is NULL")?;
        tenant.clone_from(&id);
        let database = not_empty(take(Meaning::Database)?, "database")?;
        let place = Place {
            server: not_empty(take(Meaning::Server)?, "server")?,
            host: not_empty(take(Meaning::Host)?, "host")?,
            port: take(Meaning::Port)?.map(|text| port(&text)).transpose()?,
            user: not_empty(take(Meaning::User)?, "user")?,
            password: take(Meaning::Password)?.map(Secret::new),
        };
        let state = match &database {
            Some(_) => State::Live,
            None => State::Unprovisioned("its database is NULL: it has none".to_owned()),
        };
        Ok(Entry { tenant: id, database: database.unwrap_or_default(), state, place, encrypted_login: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_columns(found: &[&str], problem: Option<&str>) {
        let found: Vec<String> = found.iter().map(|name| (*name).to_owned()).collect();
        let error = Query::new(&found).err().map(|error| error.to_string()).unwrap_or_default();
        match problem {
            None => assert_eq!(error, ""),
            Some(words) => assert!(error.contains(words) && error.contains(&found.join(", ")), "{error}"),
        }
    }

    #[test]
    fn columns_that_do_not_fit_are_named() {
        check_columns(&["id", "database"], None);
        check_columns(&["database", "tenant", "host", "port", "user", "password", "server"], None);
        check_columns(&["id", "name"], Some("\"name\" is not understood"));
        check_columns(&["id", "database", "hst"], Some("\"hst\" is not understood"));
        check_columns(&["database"], Some("\"tenant\" is missing"));
        check_columns(&["id"], Some("\"database\" is missing"));
        check_columns(&["id", "tenant", "database"], Some("\"id\" and \"tenant\" say the same"));
        check_columns(&["?column?"], Some("not understood"));
    }

    #[test]
    fn a_semicolon_or_comment_at_the_end_does_no_harm() {
        assert_eq!(source(" select 1 ; "), "(\nselect 1 \n)");
        assert_eq!(source("select 1 -- all"), "(\nselect 1 -- all\n)");
    }
}
