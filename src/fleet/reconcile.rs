//! Laying what the registry says against what the servers have. Pure: everything that does not fit becomes a finding.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::base::ids::{TargetId, TargetKind, parse_key_time};
use crate::fleet::catalog::{Catalog, Catalogs};
use crate::fleet::entry::State;
use crate::fleet::error::Error;
use crate::fleet::placement::Address;
use crate::fleet::{Database, Discovery, Finding, FindingKind};
use crate::sql::Server;

/// `NAMEDATALEN - 1`: the server cuts longer names, when a database is created and when one is connected to.
const MAX_DATABASE_NAME_BYTES: usize = 63;

/// A common beginning of database names that is shorter says nothing.
const MIN_COMMON_BYTES: usize = 3;

/// How many other tenants a finding about a shared database names.
const MAX_NAMED_SHARERS: usize = 3;

/// Before the time in the names of databases that a restore builds, and of those that it replaced.
const RESTORE_INFIXES: [&str; 2] = ["__restore_", "__before_"];

/// A tenant with its server.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) target: TargetId,
    pub(super) server: Arc<Server>,
    pub(super) database: String,
    pub(super) state: State,
}

/// By what a database without a row is taken for a tenant's.
#[derive(Debug)]
pub(super) enum Looks {
    /// It begins and ends like this.
    Affixes(String, String),
    /// It begins like the databases of all rows, if they have something in common.
    LikeTheRest,
    /// There is nothing to go by.
    Unknown,
}

/// Everything that discovery found; `discovery` has the central database and the findings so far.
pub(super) fn reconcile(
    mut discovery: Discovery,
    placed: Vec<Placed>,
    catalogs: &Catalogs,
    looks: &Looks,
) -> Discovery {
    let central = discovery.databases.first().map(|central| (Address::of(&central.server), central.name.clone()));
    for (address, answer) in catalogs {
        discovery.findings.extend(answer.as_ref().err().map(|error| unreachable(address, error)));
    }
    let claimed = claimed(&placed, catalogs);
    for tenant in without_repetitions(placed, &mut discovery.findings) {
        let name = existing(catalogs.get(&Address::of(&tenant.server)), &tenant.database);
        take(tenant, name, &mut discovery);
    }
    let none = BTreeSet::new();
    let shared = shared(&discovery.databases);
    discovery.findings.extend(shared);
    for (address, answer) in catalogs {
        if let Ok(catalog) = answer {
            let claims = claimed.get(address).unwrap_or(&none);
            let is_central =
                |name: &str| central.as_ref().is_some_and(|(at, central)| at == address && central == name);
            let strays = strays(catalog, claims, looks).filter(|name| !is_central(name));
            discovery.findings.extend(strays.map(|name| without_row(address, name)));
        }
    }
    discovery.databases.sort_by(|a, b| a.target.cmp(&b.target));
    discovery.findings.sort();
    discovery
}

/// The databases on each server that some row names, whatever else is wrong with it.
fn claimed(placed: &[Placed], catalogs: &Catalogs) -> BTreeMap<Address, BTreeSet<String>> {
    let mut claimed: BTreeMap<Address, BTreeSet<String>> = BTreeMap::new();
    // A row that names no database has an empty name here.
    for tenant in placed.iter().filter(|tenant| !tenant.database.is_empty()) {
        let address = Address::of(&tenant.server);
        let name = existing(catalogs.get(&address), &tenant.database).unwrap_or_else(|| tenant.database.clone());
        claimed.entry(address).or_default().insert(name);
    }
    claimed
}

/// The tenants in order, each once. A query that joins may repeat a row; two rows that differ are an error in it.
fn without_repetitions(mut placed: Vec<Placed>, findings: &mut Vec<Finding>) -> Vec<Placed> {
    placed.sort_by(|a, b| (&a.target, &a.database, &a.server.name).cmp(&(&b.target, &b.database, &b.server.name)));
    let mut once: Vec<Placed> = Vec::with_capacity(placed.len());
    for next in placed {
        let before = once.last().filter(|before| before.target == next.target);
        let Some(before) = before else {
            once.push(next);
            continue;
        };
        if before.database != next.database || Address::of(&before.server) != Address::of(&next.server) {
            let (first, second) = (&before.database, &next.database);
            let (host, other) = (&before.server.name, &next.server.name);
            let message = format!(
                "two rows of this tenant name {first:?} on {host} and {second:?} on {other}: only the first is backed up"
            );
            findings.push(finding(FindingKind::UnreadableRow, &next, message));
        }
    }
    once
}

/// The name that the database really has; `None` if the server has no such database. A server that did not answer is
/// given the benefit of the doubt.
fn existing(answer: Option<&Result<Catalog, Error>>, name: &str) -> Option<String> {
    let Some(Ok(catalog)) = answer else { return Some(name.to_owned()) };
    [name, clip(name)].into_iter().find(|name| catalog.names.contains(*name)).map(str::to_owned)
}

/// A name as the server cuts it, between characters (PostgreSQL manual, 4.1.1).
fn clip(name: &str) -> &str {
    let mut end = name.len().min(MAX_DATABASE_NAME_BYTES);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

/// A tenant goes among the databases, or becomes a finding, or both.
fn take(tenant: Placed, existing: Option<String>, discovery: &mut Discovery) {
    let (kind, message) = match (&tenant.state, &existing) {
        (State::Live, Some(_)) => (None, String::new()),
        (State::Live, None) => (
            Some(FindingKind::RowWithoutDatabase),
            format!("server {} has no database {:?}: there is nothing to back up", tenant.server.name, tenant.database),
        ),
        (State::Unprovisioned(reason), _) => (Some(FindingKind::Unprovisioned), reason.clone()),
        (State::Deleted(time), Some(_)) => (
            Some(FindingKind::DeletedTenant),
            format!("the tenant was deleted at {time}, its database is still there and is backed up"),
        ),
        (State::Deleted(time), None) => {
            (Some(FindingKind::Unprovisioned), format!("the tenant was deleted at {time}, and its database is gone"))
        }
    };
    discovery.findings.extend(kind.map(|kind| finding(kind, &tenant, message)));
    let is_expected = !matches!(tenant.state, State::Unprovisioned(_));
    if let Some(name) = existing.filter(|_| is_expected) {
        discovery.databases.push(Database { target: tenant.target, server: tenant.server, name });
    }
}

/// One finding for each tenant whose database is also somebody else's.
fn shared(databases: &[Database]) -> Vec<Finding> {
    let mut users: HashMap<(&str, u16, &str), Vec<&Database>> = HashMap::with_capacity(databases.len());
    for database in databases {
        let key = (database.server.host.as_str(), database.server.port, database.name.as_str());
        users.entry(key).or_default().push(database);
    }
    let mut findings = Vec::new();
    for sharers in users.into_values().filter(|sharers| 1 < sharers.len()) {
        for tenant in sharers.iter().filter(|sharer| sharer.target.kind == TargetKind::Tenant) {
            let others = sharers.iter().filter(|other| other.target != tenant.target);
            let named: Vec<String> = others.take(MAX_NAMED_SHARERS).map(|other| other.target.to_string()).collect();
            let more = sharers.len() - 1 - named.len();
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            let also = named.join(", ");
            findings.push(Finding {
                kind: FindingKind::SharedDatabase,
                tenant: tenant.target.name.as_str().to_owned(),
                server: tenant.server.name.clone(),
                database: tenant.name.clone(),
                message: format!(
                    "this database is also that of {also}{more}: to restore one is to restore all of them"
                ),
            });
        }
    }
    findings
}

/// Databases that look like a tenant's and have no row.
fn strays<'a>(
    catalog: &'a Catalog,
    claims: &'a BTreeSet<String>,
    looks: &'a Looks,
) -> impl Iterator<Item = &'a String> {
    let affixes = match looks {
        Looks::Unknown => None,
        Looks::Affixes(prefix, suffix) => Some((prefix.as_str(), suffix.as_str())),
        Looks::LikeTheRest => common_beginning(claims.iter().map(String::as_str)).map(|prefix| (prefix, "")),
    };
    let looks_like = move |name: &str| {
        affixes.is_some_and(|(prefix, suffix)| {
            prefix.len() + suffix.len() < name.len() && name.starts_with(prefix) && name.ends_with(suffix)
        })
    };
    catalog.names.iter().filter(move |name| looks_like(name) && !claims.contains(*name) && !is_set_apart(name))
}

fn without_row(address: &Address, name: &str) -> Finding {
    Finding {
        kind: FindingKind::DatabaseWithoutRow,
        tenant: String::new(),
        server: format!("{}:{}", address.host, address.port),
        database: name.to_owned(),
        message: format!("database {name:?} looks like a tenant's and has no row in the registry: it is not backed up"),
    }
}

/// True for the database that every server has, and for those that a restore left.
pub(super) fn is_set_apart(name: &str) -> bool {
    let is_ours = |infix: &&str| name.rsplit_once(*infix).is_some_and(|(_, time)| parse_key_time(time).is_some());
    name == "postgres" || RESTORE_INFIXES.iter().any(is_ours)
}

/// What all names begin with, up to a separator or the first digit; `None` if that is too little to go by.
fn common_beginning<'a>(mut names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut common = names.next()?;
    let second = names.next()?;
    for name in [second].into_iter().chain(names) {
        let same = common.char_indices().zip(name.chars()).find(|((_, a), b)| a != b);
        let length = same.map_or(common.len().min(name.len()), |((at, _), _)| at);
        common = &common[..length];
    }
    let end = match common.rfind(|letter: char| !letter.is_alphanumeric()) {
        Some(separator) => separator + common[separator..].chars().next().map_or(0, char::len_utf8),
        None => common.trim_end_matches(|letter: char| letter.is_ascii_digit()).len(),
    };
    Some(&common[..end]).filter(|common| MIN_COMMON_BYTES <= common.len())
}

fn unreachable(address: &Address, error: &Error) -> Finding {
    let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
    Finding {
        kind: FindingKind::UnreachableServer,
        tenant: String::new(),
        server: format!("{}:{}", address.host, address.port),
        database: String::new(),
        message: format!("whether its databases are there is unknown: {error}{hint}"),
    }
}

fn finding(kind: FindingKind, tenant: &Placed, message: String) -> Finding {
    Finding {
        kind,
        tenant: tenant.target.name.as_str().to_owned(),
        server: tenant.server.name.clone(),
        database: tenant.database.clone(),
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_common(names: &[&str], expected: Option<&str>) {
        assert_eq!(common_beginning(names.iter().copied()), expected, "{names:?}");
    }

    #[test]
    fn what_names_have_in_common_ends_before_what_tells_them_apart() {
        check_common(&["tenant_1", "tenant_10", "tenant_12"], Some("tenant_"));
        check_common(&["tenant1", "tenant12"], Some("tenant"));
        check_common(&["app-é-1", "app-é-2"], Some("app-é-"));
        check_common(&["acme", "globex"], None);
        check_common(&["a_1", "a_2"], None);
        check_common(&["tenant_1"], None);
        check_common(&[], None);
    }

    #[test]
    fn only_names_that_a_restore_makes_are_set_apart() {
        for name in ["postgres", "acme__before_20261121T091500Z", "acme__restore_20261121T091500Z"] {
            assert!(is_set_apart(name), "{name}");
        }
        for name in ["acme", "acme__before_", "acme__before_the_fall", "postgres2"] {
            assert!(!is_set_apart(name), "{name}");
        }
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        assert_eq!(clip("short"), "short");
        assert_eq!(clip(&"x".repeat(70)), "x".repeat(63));
        assert_eq!(clip(&"é".repeat(40)), "é".repeat(31));
    }
}
