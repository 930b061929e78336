//! The reading of a fleet, from the sources to what was found.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::ids::TargetId;
use crate::fleet::catalog::{Catalogs, Question, read_all};
use crate::fleet::entry::{Entry, Place, State, Unreadable};
use crate::fleet::error::Error;
use crate::fleet::placement::{Address, Placement};
use crate::fleet::query::{self, Query};
use crate::fleet::reconcile::{Looks, Placed, is_set_apart, reconcile};
use crate::fleet::registry::Reader;
use crate::fleet::spatie::{self, Spatie};
use crate::fleet::stancl::{self, Stancl};
use crate::fleet::{Database, Discovery, Finding, FindingKind};
use crate::sql::{Family, Server};

/// How tenants are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discover {
    /// stancl/tenancy 2 to 4, in the central database.
    Stancl {
        /// What stands before the tenant's key in a database name that the registry leaves out: `tenant`.
        prefix: String,
        /// What stands behind it: nothing.
        suffix: String,
    },
    /// spatie/laravel-multitenancy, in the central database.
    Spatie,
    /// A query in the central database with columns `tenant` (or `id`) and `database`, and if need be `host`, `port`,
    /// `user`, `password` and `server`.
    Query(String),
    /// The databases whose names match, in the words of SQL's LIKE.
    Pattern(String),
    /// These databases.
    List(Vec<String>),
}

/// What is to be discovered, and where.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// The central database: its server and its name.
    pub central: Option<(&'a Server, &'a str)>,
    /// The server that tenants are on where the registry says nothing else, and how they are found.
    pub tenants: Option<(&'a Server, &'a Discover)>,
    /// All configured servers, which a registry may refer to by name or address.
    pub servers: &'a [Server],
}

/// Reads the registry and the servers' catalogs.
///
/// Fails only where nothing can be known: no registry, or no server that answers. What is wrong with single tenants or
/// servers is among the findings, and an empty registry is an empty fleet. Nothing is written anywhere.
pub async fn discover(sources: &Sources<'_>) -> Result<Discovery, Error> {
    let mut discovery = Discovery::default();
    if let Some((server, database)) = sources.central {
        let (target, server) = (TargetId::central(), Arc::new(server.clone()));
        discovery.databases.push(Database { target, server, name: database.to_owned() });
    }
    let Some((server, way)) = sources.tenants else { return Ok(discovery) };
    if server.family != Family::Postgres {
        return Err(Error::Family { server: server.name.clone() });
    }
    let mut roll =
        Roll { placement: Placement::new(server, sources.servers), placed: Vec::new(), findings: Vec::new() };
    let (looks, pattern) = match way {
        Discover::Stancl { prefix, suffix } => {
            read_stancl(sources, prefix, suffix, &mut roll).await?;
            (Looks::Affixes(prefix.clone(), suffix.clone()), None)
        }
        Discover::Spatie => {
            read_spatie(sources, &mut roll).await?;
            (Looks::LikeTheRest, None)
        }
        Discover::Query(query) => {
            read_query(sources, query, &mut roll).await?;
            (Looks::LikeTheRest, None)
        }
        Discover::Pattern(pattern) => (Looks::Unknown, Some(pattern.as_str())),
        Discover::List(names) => {
            names.iter().for_each(|name| roll.take(Ok(named_like_its_database(name))));
            (Looks::Unknown, None)
        }
    };
    let catalogs = answered(read_all(roll.questions(), pattern).await)?;
    let central = sources.central.map(|(server, database)| (Address::of(server), database));
    for (address, catalog) in &catalogs {
        let is_central = |name: &str| central.as_ref().is_some_and(|(at, database)| at == address && *database == name);
        let matching = catalog.iter().flat_map(|catalog| &catalog.matching);
        let tenants = matching.filter(|name| !is_central(name) && !is_set_apart(name));
        tenants.for_each(|name| roll.take(Ok(named_like_its_database(name))));
    }
    discovery.findings = roll.findings;
    Ok(reconcile(discovery, roll.placed, &catalogs, &looks))
}

/// The catalogs, if at least one server answered; otherwise the reason why one of them did not.
fn answered(catalogs: Catalogs) -> Result<Catalogs, Error> {
    if catalogs.values().any(Result::is_ok) {
        return Ok(catalogs);
    }
    catalogs.into_values().find_map(Result::err).map_or_else(|| Ok(Catalogs::new()), Err)
}

async fn read_stancl(sources: &Sources<'_>, prefix: &str, suffix: &str, roll: &mut Roll) -> Result<(), Error> {
    let reader = open_central(sources).await?;
    let stancl = Stancl::new(prefix, suffix, &reader.columns(stancl::TABLE).await?)?;
    reader.rows(stancl::TABLE, &stancl.wanted(), |fields| roll.take(stancl.read(fields))).await
}

async fn read_spatie(sources: &Sources<'_>, roll: &mut Roll) -> Result<(), Error> {
    let reader = open_central(sources).await?;
    let spatie = Spatie::new(&reader.columns(spatie::TABLE).await?)?;
    reader.rows(spatie::TABLE, &spatie.wanted(), |fields| roll.take(spatie.read(fields))).await
}

async fn read_query(sources: &Sources<'_>, text: &str, roll: &mut Roll) -> Result<(), Error> {
    let reader = open_central(sources).await?;
    let from = query::source(text);
    let query = Query::new(&reader.columns(&from).await?)?;
    reader.rows(&from, &query.wanted(), |fields| roll.take(query.read(fields))).await
}

async fn open_central<'a>(sources: &Sources<'a>) -> Result<Reader<'a>, Error> {
    let (server, database) = sources.central.ok_or(Error::NoCentral)?;
    Reader::open(server, database).await
}

/// A tenant that is known by the name of its database only.
fn named_like_its_database(name: &str) -> Entry {
    let (tenant, database) = (name.to_owned(), name.to_owned());
    Entry { tenant, database, state: State::Live, place: Place::default(), encrypted_login: false }
}

/// The rows read so far: those that make sense, and what is wrong with the others.
struct Roll {
    placement: Placement,
    placed: Vec<Placed>,
    findings: Vec<Finding>,
}

impl Roll {
    fn take(&mut self, row: Result<Entry, Unreadable>) {
        if let Err(Unreadable { tenant, reason }) = row.and_then(|entry| self.place(entry)) {
            let server = self.placement.default_server().name.clone();
            let message = format!("its row cannot be used: {reason}");
            let kind = FindingKind::UnreadableRow;
            self.findings.push(Finding { kind, tenant, server, database: String::new(), message });
        }
    }

    fn place(&mut self, entry: Entry) -> Result<(), Unreadable> {
        let Entry { tenant, database, state, place, encrypted_login } = entry;
        let unusable = |reason: String| Unreadable { tenant: tenant.clone(), reason };
        let target = TargetId::tenant(&tenant).map_err(|bad| unusable(bad.to_string()))?;
        if database.contains('\0') {
            return Err(unusable("the name of its database has a zero byte".to_owned()));
        }
        let server = self.placement.place(place).map_err(unusable)?;
        if encrypted_login {
            let role = &server.user;
            let message = format!("its login is encrypted by the application: role {role:?} of the server is used");
            let kind = FindingKind::EncryptedLogin;
            let (server, database) = (server.name.clone(), database.clone());
            self.findings.push(Finding { kind, tenant, server, database, message });
        }
        self.placed.push(Placed { target, server, database, state });
        Ok(())
    }

    /// One question for each server that a tenant is on, and for the one that tenants are on by default.
    fn questions(&self) -> Vec<Question> {
        let default = self.placement.default_server();
        let mut questions = BTreeMap::new();
        let question = Question { server: Arc::clone(default), otherwise: None };
        questions.insert(Address::of(default), question);
        for tenant in &self.placed {
            let address = Address::of(&tenant.server);
            questions.entry(address).or_insert_with_key(|address| match self.placement.configured_at(address) {
                Some(configured) => Question { server: Arc::clone(configured), otherwise: None },
                None => Question { server: Arc::clone(&tenant.server), otherwise: Some(tenant.database.clone()) },
            });
        }
        questions.into_values().collect()
    }
}
