//! Looks whether a destination can take a backup, before anything is made there.
//!
//! Every refusal names what is missing and what to do; what the restore can do without becomes a note.

use tokio_postgres::Client;

use crate::engine::Error;
use crate::engine::postgres::archive_contents::Contents;
use crate::engine::postgres::create_roles::missing_roles;
use crate::engine::postgres::description::{DatabaseProperties, PostgresDetails};
use crate::engine::postgres::refusal::{blocked, misused, refused};
use crate::engine::postgres::restore::{Mode, RestoreOptions, RoleHandling};
use crate::engine::postgres::swap::{check_replaceable, live_state};

/// The longest name of a database.
const MAX_NAME_BYTES: usize = 63;
/// Databases have a provider of their locale from this version on.
const LOCALE_PROVIDER_SINCE: u32 = 150_000;

/// What was found out about the destination server.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) server_version_num: u32,
    /// The role that is logged in.
    pub(super) user: String,
    pub(super) superuser: bool,
    pub(super) create_role: bool,
    pub(super) create_db: bool,
    /// The tablespace of the new database; `None` is the server's default.
    pub(super) tablespace: Option<String>,
    /// `lc_monetary` for the loading sessions, if the server knows the source's.
    pub(super) lc_monetary: Option<String>,
    pub(super) notes: Vec<String>,
}

/// Refuses options that contradict each other or the server's configuration.
pub(super) fn check_options(options: &RestoreOptions, maintenance_database: &str) -> Result<(), Error> {
    let action = || format!("restore to database {:?}", options.destination);
    let name = &options.destination;
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains('\0') {
        let reason = format!("a database's name has 1 to {MAX_NAME_BYTES} bytes");
        return Err(misused(action(), reason, None));
    }
    if options.mode == Mode::Swap && name == maintenance_database {
        let hint = "set the server's maintenance database to another one, such as template1";
        return Err(misused(action(), "the maintenance database cannot replace itself", Some(hint.to_owned())));
    }
    let is_partial = options.schema_only || !options.tables.is_empty();
    if options.mode == Mode::Swap && is_partial {
        let hint = "restore under a new name, or without the swap";
        return Err(misused(action(), "a part of a database does not replace the whole", Some(hint.to_owned())));
    }
    Ok(())
}

/// Asks the server all that can be known before the schema is read.
pub(super) async fn examine(
    client: &Client,
    details: &PostgresDetails,
    options: &RestoreOptions,
    work: &str,
) -> Result<Destination, Error> {
    let mut destination = who_is_there(client).await?;
    check_version(&destination, details)?;
    if !destination.superuser && !destination.create_db {
        let hint = format!("ALTER ROLE \"{}\" CREATEDB", destination.user);
        return Err(blocked("create a database", "the role has no CREATEDB", Some(hint)));
    }
    check_names(client, options, work).await?;
    check_locale(client, &details.database, &mut destination).await?;
    check_collation_version(client, &details.database, &mut destination).await?;
    check_roles(client, details, options, &destination).await?;
    if options.keep_tablespaces {
        find_tablespace(client, &details.database, &mut destination).await?;
    }
    if can_use_locale(client, &details.lc_monetary).await? {
        destination.lc_monetary = Some(details.lc_monetary.clone());
    }
    Ok(destination)
}

/// Looks whether every extension of the archive can be installed.
pub(super) async fn check_extensions(client: &Client, contents: &Contents) -> Result<(), Error> {
    let failed = |error| refused("list the server's extensions", error);
    let rows = client.query("SELECT name::text FROM pg_catalog.pg_available_extensions", &[]).await.map_err(failed)?;
    let available: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let missing: Vec<String> = contents.extensions().into_iter().filter(|name| !available.contains(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let reason = format!("the server does not have: {}", missing.join(", "));
    let hint = "install the packages of these extensions on the destination server";
    Err(blocked("create the extensions", reason, Some(hint.to_owned())))
}

/// `money` is printed and read by the locale of the session: where the source's is missing, its values would change.
///
/// Called when the tables exist.
pub(super) async fn check_money(client: &Client, lc_monetary: &str) -> Result<(), Error> {
    let query = "SELECT a.attrelid::pg_catalog.regclass::text FROM pg_catalog.pg_attribute a \
        JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
        WHERE a.atttypid = 'pg_catalog.money'::pg_catalog.regtype AND c.relkind IN ('r', 'p') AND c.oid >= 16384 LIMIT 1";
    let row = client.query_opt(query, &[]).await.map_err(|error| refused("look for columns of type money", error))?;
    let Some(row) = row else { return Ok(()) };
    let table: String = row.get(0);
    let reason = format!("the server does not know the locale {lc_monetary:?} (lc_monetary) of its money values");
    let hint = format!("install the locale {lc_monetary} on the destination server");
    Err(blocked(format!("load table {table}"), reason, Some(hint)))
}

async fn who_is_there(client: &Client) -> Result<Destination, Error> {
    let query = "SELECT current_setting('server_version_num')::int4, rolname::text, rolsuper, rolcreaterole, rolcreatedb \
        FROM pg_catalog.pg_roles WHERE rolname = current_user";
    let row = client.query_one(query, &[]).await.map_err(|error| refused("look at the destination server", error))?;
    Ok(Destination {
        server_version_num: u32::try_from(row.get::<_, i32>(0)).unwrap_or(0),
        user: row.get(1),
        superuser: row.get(2),
        create_role: row.get(3),
        create_db: row.get(4),
        tablespace: None,
        lc_monetary: None,
        notes: Vec::new(),
    })
}

fn check_version(destination: &Destination, details: &PostgresDetails) -> Result<(), Error> {
    let (ours, theirs) = (destination.server_version_num / 10_000, details.server_version_num / 10_000);
    if theirs <= ours {
        return Ok(());
    }
    let reason = format!("the backup is of PostgreSQL {theirs}, the destination server is {ours}");
    Err(blocked("restore the schema", reason, Some(format!("restore to a server of PostgreSQL {theirs} or newer"))))
}

async fn check_names(client: &Client, options: &RestoreOptions, work: &str) -> Result<(), Error> {
    let name = options.destination.as_str();
    let live = live_state(client, name).await?;
    match (options.mode, &live) {
        (Mode::AsNew, Some(_)) => {
            let hint = "choose another name, or restore with a swap";
            let action = format!("restore as new database {name:?}");
            return Err(misused(action, "there is a database of this name", Some(hint.to_owned())));
        }
        (Mode::Swap, Some(state)) => check_replaceable(name, state)?,
        _ => {}
    }
    let mut taken = live_state(client, work).await?.map(|_| work.to_owned());
    if options.mode == Mode::Swap && live.is_some() {
        let former = options.former_name();
        taken = taken.or(live_state(client, &former).await?.map(|_| former));
    }
    match taken {
        // A leftover of this very second is removed before the database is created; anything else would be in the way then.
        Some(taken) if taken != work => {
            let action = format!("keep the former database as {taken:?}");
            Err(blocked(action, "there is a database of this name", None))
        }
        _ => Ok(()),
    }
}

async fn check_locale(client: &Client, database: &DatabaseProperties, found: &mut Destination) -> Result<(), Error> {
    let action = || format!("create a database like {:?}", database.name);
    let query = "SELECT pg_catalog.pg_char_to_encoding($1) >= 0, \
        EXISTS (SELECT FROM pg_catalog.pg_collation WHERE collprovider = 'i')";
    let row = client.query_one(query, &[&database.encoding]).await.map_err(|error| refused(action(), error))?;
    if !row.get::<_, bool>(0) {
        return Err(blocked(action(), format!("the server does not know the encoding {:?}", database.encoding), None));
    }
    if database.locale_provider == "i" && !row.get::<_, bool>(1) {
        let hint = "restore to a server that is built with ICU";
        return Err(blocked(action(), "the server has no ICU locales", Some(hint.to_owned())));
    }
    for locale in [&database.collate, &database.ctype] {
        if !can_use_locale(client, locale).await? {
            let hint = format!("install the locale {locale} on the destination server and restart it");
            return Err(blocked(action(), format!("the server does not know the locale {locale:?}"), Some(hint)));
        }
    }
    if database.locale_provider != "c" && found.server_version_num < LOCALE_PROVIDER_SINCE {
        return Err(blocked(action(), "the server does not know locale providers", None));
    }
    Ok(())
}

/// True where the operating system of the server has this locale: it accepts no other for `lc_time`.
async fn can_use_locale(client: &Client, locale: &str) -> Result<bool, Error> {
    match client.query_one("SELECT pg_catalog.set_config('lc_time', $1, true)", &[&locale]).await {
        Ok(_) => Ok(true),
        Err(error) if error.as_db_error().is_some() => Ok(false),
        Err(error) => Err(refused(format!("look for locale {locale:?}"), error)),
    }
}

async fn check_collation_version(
    client: &Client,
    database: &DatabaseProperties,
    found: &mut Destination,
) -> Result<(), Error> {
    let Some(recorded) = &database.collation_version else { return Ok(()) };
    let locale = database.locale.as_ref().unwrap_or(&database.collate);
    let column = if database.locale_provider == "c" { "collcollate" } else { "colliculocale" };
    let column = if found.server_version_num >= 170_000 && column != "collcollate" { "colllocale" } else { column };
    let query = format!(
        "SELECT pg_catalog.pg_collation_actual_version(oid) FROM pg_catalog.pg_collation \
         WHERE collprovider::text = $1 AND {column} = $2 LIMIT 1"
    );
    if found.server_version_num < LOCALE_PROVIDER_SINCE {
        return Ok(());
    }
    let row = client.query_opt(&query, &[&database.locale_provider, locale]).await;
    let row = row.map_err(|error| refused("look at the version of the collation", error))?;
    let actual: Option<String> = row.and_then(|row| row.get(0));
    if let Some(actual) = actual.filter(|actual| actual != recorded) {
        found.notes.push(format!(
            "the collation {locale:?} has version {actual} here and had {recorded} at the source: text may sort differently"
        ));
    }
    Ok(())
}

async fn check_roles(
    client: &Client,
    details: &PostgresDetails,
    options: &RestoreOptions,
    destination: &Destination,
) -> Result<(), Error> {
    if options.roles == RoleHandling::Ignore {
        return Ok(());
    }
    let missing = missing_roles(client, &details.roles).await?;
    let may_create = options.roles == RoleHandling::CreateMissing && (destination.superuser || destination.create_role);
    if missing.is_empty() || may_create {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|role| role.name.as_str()).collect();
    let reason = format!("the server does not have the roles {}", names.join(", "));
    let hint = "create them, or restore as a role with CREATEROLE, or without owners and privileges";
    Err(blocked("restore owners and privileges", reason, Some(hint.to_owned())))
}

async fn find_tablespace(
    client: &Client,
    database: &DatabaseProperties,
    destination: &mut Destination,
) -> Result<(), Error> {
    let wanted = &database.tablespace;
    let query = "SELECT t.oid = d.dattablespace FROM pg_catalog.pg_tablespace t, pg_catalog.pg_database d \
        WHERE t.spcname = $1 AND d.datname = 'template0'";
    let found = client.query_opt(query, &[&wanted.as_str()]).await;
    match found.map_err(|error| refused(format!("look for tablespace {wanted:?}"), error))? {
        // The template's own needs no right, unless it is named.
        Some(row) if row.get(0) => {}
        Some(_) => destination.tablespace = Some(wanted.clone()),
        None => {
            destination
                .notes
                .push(format!("there is no tablespace {wanted:?} here: the database is in the default one"));
        }
    }
    Ok(())
}
