//! The doctor job: looks at everything that a night's backup needs, in daylight, and says what to type where something is
//! wrong.
//!
//! It changes nothing on any server; in the store it puts one small object and takes it away again. Every check ends in one
//! line, whatever happens to the others. Must not know how lines are printed.

mod clock;
mod keys;
mod leftovers;
mod lock;
mod promises;
mod registry;
mod servers;
mod store;
mod tenants;

pub use promises::examine_store;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::base::class::Class;
use crate::base::ids::TargetId;
use crate::config::{self, Config};
use crate::fleet::Discovery;
use crate::job::{Context, chain};
use crate::sql::Server;

/// What a check is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// The configuration and its secrets.
    Config,
    /// The store and the repository in it.
    Store,
    /// Repository key, identity, recipients.
    Keys,
    /// Clocks and time zones.
    Clock,
    /// The database servers.
    Servers,
    /// The application's own list of tenants.
    Registry,
    /// Each database.
    Tenants,
    /// What restores left behind.
    Leftovers,
}

impl Group {
    /// The word in lines and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Store => "store",
            Self::Keys => "keys",
            Self::Clock => "clock",
            Self::Servers => "servers",
            Self::Registry => "registry",
            Self::Tenants => "tenants",
            Self::Leftovers => "leftovers",
        }
    }
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// A backup works, and something should be looked at.
    Warn,
    /// A backup, or a part of it, would fail.
    Fail,
}

impl Status {
    /// The word in lines and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What it is about.
    pub group: Group,
    /// What exactly.
    pub name: String,
    /// How it ended.
    pub status: Status,
    /// What was found; where it is not ok, in the words of whoever refused.
    pub message: String,
    /// What to type, where that is known.
    pub fix: Option<String>,
    /// What a failure means for the exit code.
    #[serde(skip)]
    class: Option<Class>,
}

impl Check {
    fn ok(group: Group, name: impl Into<String>, message: impl Into<String>) -> Self {
        Self { group, name: name.into(), status: Status::Ok, message: message.into(), fix: None, class: None }
    }

    fn warn(group: Group, name: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status: Status::Warn, ..Self::ok(group, name, message) }
    }

    fn fail(group: Group, name: impl Into<String>, class: Class, message: impl Into<String>) -> Self {
        Self { status: Status::Fail, class: Some(class), ..Self::ok(group, name, message) }
    }

    fn with_fix(self, fix: Option<impl Into<String>>) -> Self {
        Self { fix: fix.map(Into::into), ..self }
    }
}

/// All checks.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The worst of them.
    pub result: Status,
    /// In the order in which they were made.
    pub checks: Vec<Check>,
}

/// What a failure means, the most serious first. Any other class is the failure of single targets.
const BY_SERIOUSNESS: [Class; 7] =
    [Class::Usage, Class::Store, Class::Key, Class::Tampered, Class::Corrupt, Class::Database, Class::Client];

impl Report {
    fn new(checks: Vec<Check>) -> Self {
        let result = checks.iter().map(|check| check.status).max().unwrap_or(Status::Ok);
        Self { result, checks }
    }

    /// The report where there is no configuration to start from.
    pub fn without_configuration(class: Class, message: &str, hint: Option<&str>) -> Self {
        Self::new(vec![Check::fail(Group::Config, "file", class, message).with_fix(hint)])
    }

    /// The meaning of the most serious failure; [`Class::Refused`] where only single targets have one, `None` without any.
    pub fn class(&self) -> Option<Class> {
        let mut classes = self.checks.iter().filter_map(|check| check.class).peekable();
        classes.peek()?;
        let rank = |class: Class| BY_SERIOUSNESS.iter().position(|known| *known == class);
        let first = classes.filter_map(rank).min();
        Some(first.map_or(Class::Refused, |rank| BY_SERIOUSNESS[rank]))
    }

    /// How many checks ended like this.
    pub fn count(&self, status: Status) -> usize {
        self.checks.iter().filter(|check| check.status == status).count()
    }
}

/// Makes every check.
pub async fn examine(context: &Context) -> Report {
    let mut checks = configuration(context).await;
    let store = store::check(context, &mut checks).await;
    let known = match store {
        Some(store) => keys::check(context, &store, &mut checks).await,
        None => None,
    };
    clock::check_retention(context, &mut checks);
    fleet(context, known, &mut checks).await;
    Report::new(checks)
}

async fn configuration(context: &Context) -> Vec<Check> {
    let Context { config, environment, .. } = context;
    let mut failures: Vec<config::Error> = Vec::new();
    for secret in config.secrets() {
        failures.extend(secret.read(environment).await.err());
    }
    let mut checks = vec![Check::ok(Group::Config, "file", config.file.display().to_string())];
    if failures.is_empty() {
        checks.push(Check::ok(Group::Config, "secrets", format!("all {} can be read", config.secrets().len())));
    }
    checks.extend(failures.iter().map(|error| {
        let fix = error.hint().or_else(|| Some("correct it, then run `dbkeeper config check`".to_owned()));
        Check::fail(Group::Config, "secrets", error.class(), chain(error)).with_fix(fix)
    }));
    checks
}

/// Servers, registry, databases: each only as far as what comes before it answered.
async fn fleet(context: &Context, known: Option<Vec<TargetId>>, checks: &mut Vec<Check>) {
    let opened = open_servers(context).await;
    let mut facts = BTreeMap::new();
    for server in opened.values() {
        let found = servers::check(context, server, &server.maintenance_database, checks).await;
        facts.extend(found.map(|found| (server.name.clone(), found)));
    }
    let Some(discovery) = discover(context, &opened, &facts, checks).await else { return };
    registry::check(&discovery, known, checks);
    for database in &discovery.databases {
        let server = &database.server;
        if !opened.contains_key(&server.name) && !facts.contains_key(&server.name) {
            let found = servers::check(context, server, &database.name, checks).await;
            facts.insert(server.name.clone(), found.unwrap_or_else(|| servers::Facts::unknown(server)));
        }
    }
    tenants::check(context, discovery.databases, &facts, checks).await;
    for server in opened.values().filter(|server| facts.contains_key(&server.name)) {
        let (limit, mut found) = (context.config.limits.no_progress, Vec::new());
        match tokio::time::timeout(limit, leftovers::check(server, &mut found)).await {
            Ok(()) => checks.extend(found),
            Err(_) => checks.push(servers::silent(Group::Leftovers, &server.name, limit)),
        }
    }
}

/// The servers whose password can be read; the others were told of by their secret.
async fn open_servers(context: &Context) -> BTreeMap<String, Server> {
    let mut opened = BTreeMap::new();
    for settings in &context.config.servers {
        if let Ok(server) = settings.open(&context.environment).await {
            opened.insert(server.name.clone(), server);
        }
    }
    opened
}

async fn discover(
    context: &Context,
    opened: &BTreeMap<String, Server>,
    facts: &BTreeMap<String, servers::Facts>,
    checks: &mut Vec<Check>,
) -> Option<Discovery> {
    let Config { central, tenants, .. } = context.config.as_ref();
    let needed = central.iter().map(|central| &central.server).chain(tenants.iter().map(|tenants| &tenants.server));
    if central.is_none() && tenants.is_none() {
        let fix = "add a section [central] or [tenants]; `dbkeeper config schema` describes them";
        let check = Check::warn(Group::Registry, "tenants", "no database is configured: there is nothing to back up");
        checks.push(check.with_fix(Some(fix)));
        return None;
    }
    if let Some(silent) = needed.into_iter().find(|name| !facts.contains_key(*name)) {
        let message = format!("not read: server {silent} cannot be used, see above");
        checks.push(Check::fail(Group::Registry, "tenants", Class::Database, message));
        return None;
    }
    match context.discover(opened).await {
        Ok(discovery) => Some(discovery),
        Err(error) => {
            let class = if error.class() == Class::Usage { Class::Usage } else { Class::Database };
            checks.push(Check::fail(Group::Registry, "tenants", class, chain(&error)).with_fix(error.hint()));
            None
        }
    }
}

/// The first `limit` of these words, and how many more there are.
fn first(words: &[String], limit: usize) -> String {
    let named = words[..words.len().min(limit)].join(", ");
    if words.len() <= limit { named } else { format!("{named} and {} more", words.len() - limit) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_class(classes: &[Class], expected: Option<Class>) {
        let mut checks = vec![Check::ok(Group::Store, "a", "b"), Check::warn(Group::Store, "a", "b")];
        checks.extend(classes.iter().map(|class| Check::fail(Group::Store, "a", *class, "b")));
        assert_eq!(Report::new(checks).class(), expected, "{classes:?}");
    }

    #[test]
    fn the_most_serious_failure_decides_and_a_warning_never_does() {
        check_class(&[], None);
        check_class(&[Class::Refused], Some(Class::Refused));
        check_class(&[Class::Transient], Some(Class::Refused));
        check_class(&[Class::Refused, Class::Client], Some(Class::Client));
        check_class(&[Class::Database, Class::Key, Class::Refused], Some(Class::Key));
        check_class(&[Class::Key, Class::Usage], Some(Class::Usage));
    }

    #[test]
    fn a_long_list_names_the_first_and_counts_the_rest() {
        let words: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
        assert_eq!(first(&words, 3), "a, b, c");
        assert_eq!(first(&words, 2), "a, b and 1 more");
    }
}
