//! The convention of stancl/tenancy: table `tenants` with a key `id` and all else in the JSON column `data`.
//!
//! Versions 3 and 4 write `tenancy_db_name`, version 2 `_tenancy_db_name`; an application may promote a key to a real
//! column of that name. The JSON is decoded here and never in SQL: the column may be json, jsonb or text. Pure.

use serde_json::{Map, Value};

use crate::base::secret::Secret;
use crate::fleet::entry::{Entry, Field, Place, State, Unreadable, not_empty, port};
use crate::fleet::error::Error;
use crate::fleet::laravel::is_encrypted;
use crate::fleet::registry::Wanted;

/// The table that is read.
pub(super) const TABLE: &str = "tenants";

/// Longer keys and names are refused: a database name has 63 bytes.
const MAX_COLUMN_CHARS: usize = 4096;

/// Longer documents are refused.
const MAX_DATA_CHARS: usize = 1024 * 1024;

const NAME: &str = "tenancy_db_name";
const HOST: &str = "tenancy_db_host";
const PORT: &str = "tenancy_db_port";
const USER: &str = "tenancy_db_username";
const PASSWORD: &str = "tenancy_db_password";
const CONNECTION: &str = "tenancy_db_connection";
const CREATE: &str = "tenancy_create_database";
const PENDING: &str = "pending_since";
const DELETED: &str = "deleted_at";
const KEYS: [&str; 9] = [NAME, HOST, PORT, USER, PASSWORD, CONNECTION, CREATE, PENDING, DELETED];

/// How to read the registry of one application.
pub(super) struct Stancl {
    prefix: String,
    suffix: String,
    /// The columns that are read: `id`, `data` if it is there, and promoted keys.
    columns: Vec<String>,
}

/// The values of one row by key: promoted columns first, then the document.
struct Values {
    columns: Vec<(String, String)>,
    data: Map<String, Value>,
}

impl Stancl {
    /// Chooses from the columns that the table has.
    pub(super) fn new(prefix: &str, suffix: &str, found: &[String]) -> Result<Self, Error> {
        let has = |name: &str| found.iter().any(|column| column == name);
        let is_key = |column: &str| KEYS.contains(&column.strip_prefix('_').unwrap_or(column));
        if !has("id") || !(has("data") || has(NAME)) {
            return Err(Error::Columns {
                registry: "table tenants",
                problem: "it is not the registry of stancl/tenancy".to_owned(),
                found: found.join(", "),
                expected: "id and data",
            });
        }
        let columns = found.iter().filter(|column| *column == "id" || *column == "data" || is_key(column));
        Ok(Self { prefix: prefix.to_owned(), suffix: suffix.to_owned(), columns: columns.cloned().collect() })
    }

    pub(super) fn wanted(&self) -> Vec<Wanted<'_>> {
        let max_chars = |column| if column == "data" { MAX_DATA_CHARS } else { MAX_COLUMN_CHARS };
        self.columns.iter().map(|column| Wanted { column, max_chars: max_chars(column) }).collect()
    }

    /// Reads one row, whose fields are those that were wanted.
    pub(super) fn read(&self, fields: Vec<Field>) -> Result<Entry, Unreadable> {
        let mut tenant = String::new();
        let entry = self.entry(fields, &mut tenant);
        entry.map_err(|reason| Unreadable { tenant, reason })
    }

    fn entry(&self, fields: Vec<Field>, tenant: &mut String) -> Result<Entry, String> {
        let mut named: Vec<(&str, Field)> = self.columns.iter().map(String::as_str).zip(fields).collect();
        let mut take = |name| match named.iter().position(|(column, _)| *column == name) {
            Some(at) => named.swap_remove(at).1.text(name),
            None => Ok(None),
        };
        let id = not_empty(take("id")?, "key")?.ok_or("its key is NULL")?;
        tenant.clone_from(&id);
        let data = take("data")?.map_or_else(|| Ok(Map::new()), |text| document(&text))?;
        let mut columns = Vec::new();
        for (column, field) in named {
            columns.extend(field.text(column)?.map(|text| (column.to_owned(), text)));
        }
        let values = Values { columns, data };
        let state = values.state()?;
        let default = || format!("{}{id}{}", self.prefix, self.suffix);
        let database = not_empty(values.readable(NAME)?, NAME)?.unwrap_or_else(default);
        let (place, encrypted_login) = values.place()?;
        Ok(Entry { tenant: id, database, state, place, encrypted_login })
    }
}

/// The document; PHP writes an empty one as an empty array.
fn document(text: &str) -> Result<Map<String, Value>, String> {
    if is_encrypted(text) {
        return Err("its data is encrypted by the application".to_owned());
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(Value::Array(list)) if list.is_empty() => Ok(Map::new()),
        Ok(_) => Err("its data is JSON, but no object".to_owned()),
        Err(error) => Err(format!("its data is no JSON (line {}, column {})", error.line(), error.column())),
    }
}

impl Values {
    /// A value as text; `None` where it is absent or NULL.
    fn text(&self, key: &str) -> Result<Option<String>, String> {
        let old = format!("_{key}");
        if let Some((_, text)) = self.columns.iter().find(|(column, _)| *column == key || *column == old) {
            return Ok(Some(text.clone()));
        }
        match self.data.get(key).or_else(|| self.data.get(&old)) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(Value::Bool(value)) => Ok(Some(value.to_string())),
            Some(_) => Err(format!("its {key} is no text")),
        }
    }

    /// A value that must not be encrypted.
    fn readable(&self, key: &str) -> Result<Option<String>, String> {
        match self.text(key)? {
            Some(text) if is_encrypted(&text) => Err(format!("its {key} is encrypted by the application")),
            other => Ok(other),
        }
    }

    fn state(&self) -> Result<State, String> {
        // Only as a column: there is no other way to soft-delete, and a key of that name may be the application's own.
        if let Some((_, time)) = self.columns.iter().find(|(column, _)| column == DELETED) {
            return Ok(State::Deleted(time.clone()));
        }
        // A promoted column prints PostgreSQL's false, or the number that Laravel stores.
        let refuses = matches!(self.readable(CREATE)?.as_deref(), Some("false" | "f" | "0"));
        if refuses {
            return Ok(State::Unprovisioned(format!("{CREATE} is false: it has no database")));
        }
        let pending = self.text(PENDING)?;
        Ok(pending.map_or(State::Live, |_| State::Unprovisioned(format!("{PENDING} is set: nobody uses it yet"))))
    }

    /// Where the database is; and true if there is a login that cannot be read.
    fn place(&self) -> Result<(Place, bool), String> {
        let (user, password) = (self.text(USER)?, self.text(PASSWORD)?);
        let encrypted = [&user, &password].into_iter().flatten().any(|text| is_encrypted(text));
        let (user, password) = if encrypted { (None, None) } else { (user, password) };
        let place = Place {
            server: self.readable(CONNECTION)?,
            host: not_empty(self.readable(HOST)?, HOST)?,
            port: self.readable(PORT)?.map(|text| port(&text)).transpose()?,
            user: not_empty(user, USER)?,
            password: password.map(Secret::new),
        };
        Ok((place, encrypted))
    }
}
