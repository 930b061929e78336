//! The convention of spatie/laravel-multitenancy: table `tenants` with `id`, `name`, `domain` and `database`. Pure.

use crate::fleet::entry::{Entry, Field, Place, State, Unreadable, not_empty};
use crate::fleet::error::Error;
use crate::fleet::laravel::is_encrypted;
use crate::fleet::registry::Wanted;

/// The table that is read.
pub(super) const TABLE: &str = "tenants";

/// Longer values are refused.
const MAX_COLUMN_CHARS: usize = 4096;

const COLUMNS: [&str; 3] = ["id", "database", "deleted_at"];

/// How to read the registry of one application.
pub(super) struct Spatie {
    has_deleted_at: bool,
}

impl Spatie {
    /// Chooses from the columns that the table has.
    pub(super) fn new(found: &[String]) -> Result<Self, Error> {
        let has = |name: &str| found.iter().any(|column| column == name);
        if !has("id") || !has("database") {
            return Err(Error::Columns {
                registry: "table tenants",
                problem: "it is not the registry of spatie/laravel-multitenancy".to_owned(),
                found: found.join(", "),
                expected: "id and database",
            });
        }
        Ok(Self { has_deleted_at: has("deleted_at") })
    }

    pub(super) fn wanted(&self) -> Vec<Wanted<'_>> {
        let number = if self.has_deleted_at { 3 } else { 2 };
        COLUMNS[..number].iter().map(|column| Wanted { column, max_chars: MAX_COLUMN_CHARS }).collect()
    }

    /// Reads one row, whose fields are those that were wanted.
    pub(super) fn read(&self, fields: Vec<Field>) -> Result<Entry, Unreadable> {
        let mut tenant = String::new();
        entry(fields, &mut tenant).map_err(|reason| Unreadable { tenant, reason })
    }
}

fn entry(fields: Vec<Field>, tenant: &mut String) -> Result<Entry, String> {
    let mut fields = fields.into_iter();
    let mut next = |column| fields.next().unwrap_or(Field::Null).text(column);
    let id = next("id")?.ok_or("its key is NULL")?;
    tenant.clone_from(&id);
    let database = not_empty(next("database")?, "database")?;
    let deleted = next("deleted_at")?;
    if database.as_deref().is_some_and(is_encrypted) {
        return Err("its database is encrypted by the application".to_owned());
    }
    let state = match (&database, deleted) {
        (_, Some(time)) => State::Deleted(time),
        (None, None) => State::Unprovisioned("its database is NULL: it has none".to_owned()),
        (Some(_), None) => State::Live,
    };
    let database = database.unwrap_or_default();
    Ok(Entry { tenant: id, database, state, place: Place::default(), encrypted_login: false })
}
