//! Builds a PostgreSQL database beside the live one and puts it in its place.
//!
//! ```text
//! open_restore   looks at the server, makes nothing
//! prepare        reads the schema; removes leftovers; roles; database, marked; what must exist before rows
//! load           rows, on all lanes
//! complete       sequences; indexes, constraints, triggers; statistics; settings, owner, privileges
//! publish        one transaction: renames, comment in place of the mark, limits
//! ```
//! Until `publish` the database carries a mark, so that after a kill at any point the next restore of the same destination
//! recognises and removes it. The live database is first touched by the renames, and they succeed together or not at all.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::base::ids::RunId;
use crate::engine::postgres::archive_contents::{Contents, Selection};
use crate::engine::postgres::client_program::{ClientProgram, ClientPrograms};
use crate::engine::postgres::create_database::{NewDatabase, create_database, drop_marked};
use crate::engine::postgres::create_large_objects::{Creation, create_missing};
use crate::engine::postgres::create_roles::{Rights, create_roles};
use crate::engine::postgres::database_name::{BEFORE_INFIX, Mark, RESTORE_INFIX, beside};
use crate::engine::postgres::database_properties::{apply_owner, apply_privileges, apply_settings, closing_statements};
use crate::engine::postgres::description::{LARGE_OBJECTS_PART, PostgresDetails, table_part};
use crate::engine::postgres::leftovers::{claim_destination, free_time, remove_claimed};
use crate::engine::postgres::load::{Content, Lanes, Parts, load_large_objects, load_table, session_setup};
use crate::engine::postgres::pg_restore::{Archive, Restorer, Section};
use crate::engine::postgres::preflight::{Destination, check_extensions, check_money, check_options, examine};
use crate::engine::postgres::refusal::{blocked, misused, refused, unreachable};
use crate::engine::postgres::swap::{Swap, put_in_place};
use crate::engine::postgres::{complete, swap};
use crate::engine::{Description, Error, PartSource, Published, RestoreSession, SCHEMA_PART};
use crate::sql;
use crate::sql::Server;
use crate::sql::postgres::Connection;

/// What becomes of the restored database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It takes the destination's name; the live database of that name, if any, is kept as `<name>__before_<time>`.
    Swap,
    /// It stays beside the live one, as `<name>__restore_<time>`.
    NoSwap,
    /// It takes the destination's name, which no database has.
    AsNew,
}

/// Whom the restored objects belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The roles that they belonged to.
    AsRecorded,
    /// The role that is logged in.
    Connecting,
    /// This role.
    Role(String),
}

/// What happens to roles that the backup needs and the server lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleHandling {
    /// They are created.
    CreateMissing,
    /// They are an error.
    MustExist,
    /// Nobody looks.
    Ignore,
}

/// How a backup is restored.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// The name of the database at the end.
    pub destination: String,
    /// What becomes of it.
    pub mode: Mode,
    /// Whom things belong to.
    pub owner: Owner,
    /// Restores grants, on the database and in it.
    pub keep_privileges: bool,
    /// Restores where things are stored; otherwise all is in the server's default tablespace.
    pub keep_tablespaces: bool,
    /// What happens to missing roles.
    pub roles: RoleHandling,
    /// The search path of all statements; empty where it is `None`. For databases whose functions name things without their schema.
    pub search_path: Option<String>,
    /// Only these tables (`name` or `schema.name`) and what they need; all where it is empty.
    pub tables: Vec<String>,
    /// No rows.
    pub schema_only: bool,
    /// Parts that are loaded, and indexes that are built, at the same time; at least 1.
    pub lanes: usize,
    /// The run, for the mark.
    pub run: RunId,
    /// The time in the names of the databases beside; a second later, or more, where those names are taken.
    pub time: DateTime<Utc>,
}

impl RestoreOptions {
    /// The name that a live database gets.
    pub(super) fn former_name(&self) -> String {
        beside(&self.destination, BEFORE_INFIX, self.time)
    }
}

/// A restore into one PostgreSQL server.
#[derive(Debug)]
pub struct PostgresRestore {
    server: Server,
    details: PostgresDetails,
    options: RestoreOptions,
    /// The name under which the database is built.
    work: String,
    mark: Mark,
    program: ClientProgram,
    destination: Destination,
    maintenance: Connection,
    lanes: Lanes,
    parts: Parts,
    prepared: Option<Prepared>,
    is_created: bool,
    /// The parts that were loaded, by name.
    loaded: Mutex<BTreeSet<String>>,
    notes: Vec<String>,
}

#[derive(Debug)]
struct Prepared {
    archive: Archive,
    selection: Option<Selection>,
}

/// Looks whether the server can take this backup, and makes nothing there.
pub async fn open_restore(
    server: &Server,
    programs: &ClientPrograms,
    description: &Description,
    mut options: RestoreOptions,
) -> Result<PostgresRestore, Error> {
    check_options(&options, &server.maintenance_database)?;
    let details: PostgresDetails = serde_json::from_value(description.details.clone()).map_err(|error| {
        Error::Mismatch { what: "the description of the backup".to_owned(), details: error.to_string() }
    })?;
    let maintenance = connect_and_claim(server, &options.destination).await?;
    options.time = free_time(&maintenance, &options.destination, options.time).await?;
    let work = beside(&options.destination, RESTORE_INFIX, options.time);
    let destination = examine(&maintenance, &details, &options, &work).await?;
    let program = programs.find(server, "pg_restore", destination.server_version_num / 10_000).await?;
    check_program(&program, &details)?;
    let lc_monetary = destination.lc_monetary.as_deref();
    let search_path = options.search_path.as_deref().unwrap_or("");
    let setup = session_setup(destination.server_version_num, search_path, lc_monetary);
    Ok(PostgresRestore {
        mark: Mark { destination: options.destination.clone(), run: options.run.to_string() },
        lanes: Lanes::new(server.clone(), work.clone(), setup, options.lanes),
        parts: Parts::new(&details),
        notes: destination.notes.clone(),
        server: server.clone(),
        prepared: None,
        is_created: false,
        loaded: Mutex::default(),
        details,
        options,
        work,
        program,
        destination,
        maintenance,
    })
}

async fn connect_and_claim(server: &Server, destination: &str) -> Result<Connection, Error> {
    let connection = sql::postgres::connect(server, &server.maintenance_database).await.map_err(unreachable)?;
    let failed = |error| refused("prepare a session", error);
    let setup = "SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0; \
        SET default_transaction_read_only = off; SET client_min_messages = warning; \
        SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings \
        WHERE name IN ('idle_session_timeout', 'transaction_timeout')";
    connection.batch_execute(setup).await.map_err(failed)?;
    if claim_destination(&connection, destination).await? {
        return Ok(connection);
    }
    let hint = "wait for it, or end it, and try again";
    Err(blocked(
        format!("restore to database {destination:?}"),
        "another restore of it is running",
        Some(hint.to_owned()),
    ))
}

/// An archive is read by the `pg_restore` of the `pg_dump` that wrote it, or by a newer one.
fn check_program(program: &ClientProgram, details: &PostgresDetails) -> Result<(), Error> {
    let written_by = details.pg_dump_version.split(|c: char| !c.is_ascii_digit()).find_map(|major| major.parse().ok());
    match written_by {
        Some(major) if program.major < major => Err(Error::Client {
            program: program.path.display().to_string(),
            reason: format!("is of version {}, and the schema was written by pg_dump {major}", program.version),
            class: crate::base::class::Class::Client,
            hint: Some(format!(
                "restore to a server of PostgreSQL {major}, with the package postgresql-client-{major}"
            )),
        }),
        _ => Ok(()),
    }
}

impl PostgresRestore {
    /// The name under which the database is built.
    pub fn work_name(&self) -> &str {
        &self.work
    }

    /// What the operator should know so far.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Every part that the description promises was loaded: a manifest that leaves one out restores nothing.
    fn check_all_loaded(&self) -> Result<(), Error> {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let tables = self.details.relations.iter().flat_map(|relation| match relation.pieces {
            0 => Vec::new(),
            1 => vec![table_part(relation.id, None)],
            pieces => (0..pieces).map(|piece| table_part(relation.id, Some(piece))).collect(),
        });
        let objects = (self.details.large_objects > 0).then(|| LARGE_OBJECTS_PART.to_owned());
        let mut missing = tables.chain(objects).filter(|part| self.stage(part).is_some() && !loaded.contains(part));
        match missing.next() {
            None => Ok(()),
            Some(part) => Err(Error::Mismatch {
                what: format!("part {part:?}"),
                details: "the description names it, and the backup does not hold it".to_owned(),
            }),
        }
    }

    fn is_partial(&self) -> bool {
        !self.options.tables.is_empty()
    }

    /// The session for the whole server, opened anew if it broke while it had nothing to do.
    async fn renew_maintenance(&mut self) -> Result<(), Error> {
        if self.maintenance.is_closed() {
            self.maintenance = connect_and_claim(&self.server, &self.options.destination).await?;
        }
        Ok(())
    }

    async fn create(&mut self) -> Result<(), Error> {
        let removal = remove_claimed(&self.maintenance, &self.options.destination).await?;
        let dropped = removal.dropped.iter().map(|name| format!("{name:?}, left by an earlier restore, was dropped"));
        let kept = removal.kept.iter().map(|what| format!("an earlier restore left {what}"));
        self.notes.extend(dropped.chain(kept));
        if self.options.roles == RoleHandling::CreateMissing {
            let Destination { superuser, server_version_num, .. } = self.destination;
            let rights = Rights { superuser, server_version_num };
            self.notes.extend(create_roles(&mut self.maintenance, &self.details.roles, rights).await?);
        }
        let owner = match &self.options.owner {
            Owner::Role(role) => Some(role.as_str()),
            Owner::AsRecorded | Owner::Connecting => None,
        };
        let new = NewDatabase {
            name: &self.work,
            mark: &self.mark,
            properties: &self.details.database,
            tablespace: self.destination.tablespace.as_deref(),
            owner,
            server_version_num: self.destination.server_version_num,
        };
        create_database(&self.maintenance, &new).await?;
        self.is_created = true;
        Ok(())
    }

    async fn restore_section(&self, prepared: &Prepared, section: Section, jobs: usize) -> Result<(), Error> {
        let mut flags = Vec::new();
        match &self.options.owner {
            Owner::AsRecorded => {}
            Owner::Connecting => flags.push("--no-owner".to_owned()),
            Owner::Role(role) => flags.extend(["--no-owner".to_owned(), format!("--role={role}")]),
        }
        if !self.options.keep_privileges {
            flags.push("--no-privileges".to_owned());
        }
        if !self.options.keep_tablespaces {
            flags.push("--no-tablespaces".to_owned());
        }
        let restorer = Restorer {
            program: &self.program,
            server: &self.server,
            database: &self.work,
            flags: &flags,
            list: prepared.selection.as_ref().map(|selection| selection.list.as_str()),
            jobs,
        };
        restorer.restore(&prepared.archive, section).await
    }

    fn select(&mut self, contents: &Contents) -> Result<Option<Selection>, Error> {
        if self.options.tables.is_empty() {
            return Ok(None);
        }
        let mut oids = BTreeSet::new();
        for wanted in &self.options.tables {
            let mut found = contents.tables_named(wanted);
            let relations = self.details.relations.iter();
            let named =
                relations.filter(|one| one.name == *wanted || format!("{}.{}", one.schema, one.name) == *wanted);
            found.extend(named.map(|relation| relation.id));
            if found.is_empty() {
                return Err(misused(
                    format!("restore table {wanted:?}"),
                    "the backup has no such table",
                    self.nearest(wanted),
                ));
            }
            oids.extend(found);
        }
        let selection = contents.select(&oids);
        if let Some(one) =
            self.details.relations.iter().find(|one| oids.contains(&one.id) && !selection.tables.contains(&one.id))
        {
            let action = format!("restore table {}.{}", one.schema, one.name);
            return Err(misused(action, "it belongs to an extension and comes only with the whole database", None));
        }
        let left_out = selection
            .left_out
            .iter()
            .map(|what| format!("not restored, since it needs more than the chosen tables: {what}"));
        self.notes.extend(left_out);
        Ok(Some(selection))
    }

    fn nearest(&self, wanted: &str) -> Option<String> {
        let names = self.details.relations.iter().map(|one| format!("{}.{}", one.schema, one.name));
        let distance = |name: &String| {
            let bare = name.split_once('.').map_or(name.as_str(), |(_, bare)| bare);
            strsim::levenshtein(name, wanted).min(strsim::levenshtein(bare, wanted))
        };
        Some(format!("did you mean {}?", names.min_by_key(distance)?))
    }

    async fn finish_properties(&mut self) -> Result<(), Error> {
        let database = &self.details.database;
        self.notes.extend(apply_settings(&self.maintenance, &self.work, database).await);
        let owner = match &self.options.owner {
            Owner::AsRecorded => database.owner.clone(),
            Owner::Connecting => self.destination.user.clone(),
            Owner::Role(role) => role.clone(),
        };
        if self.options.owner == Owner::AsRecorded && owner != self.destination.user {
            apply_owner(&self.maintenance, &self.work, &owner).await?;
        }
        if self.options.keep_privileges {
            apply_privileges(&mut self.maintenance, &self.work, database, &owner).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl RestoreSession for PostgresRestore {
    fn lanes(&self) -> usize {
        self.lanes.count()
    }

    async fn prepare(&mut self, schema: &mut dyn PartSource) -> Result<(), Error> {
        let archive = Archive::receive(schema, self.options.search_path.as_deref()).await?;
        let mut contents = archive.contents(&self.program, &self.server).await?;
        contents.identify(self.details.relations.iter().map(|one| (one.id, one.schema.as_str(), one.name.as_str())));
        check_extensions(&self.maintenance, &contents).await?;
        let selection = self.select(&contents)?;
        if contents.has_subscriptions() {
            self.notes
                .push("subscriptions were restored disabled: enable them when this database is to receive".to_owned());
        }
        self.create().await?;
        let prepared = Prepared { archive, selection };
        self.restore_section(&prepared, Section::PreData, 1).await?;
        self.prepared = Some(prepared);
        let mut connection = self.lanes.open(0).await?;
        if self.destination.lc_monetary.is_none() {
            check_money(&connection, &self.details.lc_monetary).await?;
        }
        if !self.is_partial() {
            let creation = Creation {
                metadata: &self.details.large_object_metadata,
                owner: &self.options.owner,
                user: Some(&self.destination.user),
                keep_privileges: self.options.keep_privileges,
            };
            self.notes.extend(create_missing(&mut connection, &creation).await?);
        }
        if !self.options.schema_only && !self.is_partial() {
            complete::empty_configuration_tables(&connection, &self.details).await?;
        }
        Ok(())
    }

    fn stage(&self, part: &str) -> Option<u32> {
        let selection = self.prepared.as_ref().and_then(|prepared| prepared.selection.as_ref());
        if part == SCHEMA_PART || self.options.schema_only {
            return None;
        }
        match (self.parts.content(&self.details, part), selection) {
            (Some(Content::Table(relation)), Some(selection)) if !selection.tables.contains(&relation.id) => None,
            (Some(Content::LargeObjects), Some(_)) => None,
            (Some(Content::Table(relation)), _) => Some(relation.load_stage),
            // An unknown part is not passed over: loading it fails.
            (Some(Content::LargeObjects) | None, _) => Some(0),
        }
    }

    async fn load(&self, lane: usize, part: &str, source: &mut dyn PartSource) -> Result<u64, Error> {
        let connection = self.lanes.open(lane).await?;
        let rows = match self.parts.content(&self.details, part) {
            Some(Content::Table(relation)) => {
                load_table(&connection, relation, &self.details.database.encoding, source).await?
            }
            Some(Content::LargeObjects) => {
                load_large_objects(&connection, self.details.large_object_page_bytes, source).await?
            }
            None => {
                return Err(Error::Mismatch {
                    what: format!("part {part:?}"),
                    details: "the description of the backup has no table of this number".to_owned(),
                });
            }
        };
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).insert(part.to_owned());
        Ok(rows)
    }

    async fn complete(&mut self) -> Result<(), Error> {
        self.check_all_loaded()?;
        let prepared = self.prepared.as_ref().expect("a restore is prepared before it is completed");
        if !self.options.schema_only {
            let connection = self.lanes.open(0).await?;
            complete::set_sequences(&connection, &self.details.sequences, self.is_partial()).await?;
        }
        // pg_restore opens a session for each of its workers: the server must not have to bear both.
        self.lanes.close().await;
        self.restore_section(prepared, Section::PostData, self.lanes.count()).await?;
        let notes = complete::analyze(&self.lanes).await?;
        self.notes.extend(notes);
        self.lanes.close().await;
        self.renew_maintenance().await?;
        self.finish_properties().await
    }

    async fn publish(mut self: Box<Self>) -> Result<Published, Error> {
        self.lanes.close().await;
        self.renew_maintenance().await?;
        let name = match self.options.mode {
            Mode::NoSwap => self.work.clone(),
            Mode::Swap | Mode::AsNew => self.options.destination.clone(),
        };
        let closing = closing_statements(&name, &self.details.database);
        let former_name = self.options.former_name();
        let is_replaced = match self.options.mode {
            Mode::NoSwap => {
                swap::leave_beside(&mut self.maintenance, &self.work, &closing).await?;
                false
            }
            mode => {
                let (server, work) = (&self.server, self.work.as_str());
                let may_replace = mode == Mode::Swap;
                let swap = Swap { server, work, live: &name, former: &former_name, closing: &closing, may_replace };
                put_in_place(&mut self.maintenance, &swap).await?
            }
        };
        Ok(Published { name, former: is_replaced.then_some(former_name), notes: std::mem::take(&mut self.notes) })
    }

    async fn abandon(mut self: Box<Self>) -> Result<(), Error> {
        self.lanes.close().await;
        if self.is_created {
            self.renew_maintenance().await?;
            drop_marked(&self.maintenance, &self.work, &self.mark).await?;
        }
        Ok(())
    }
}
