//! A central database of one test's own, with tenants whose names no other test has.

use dbkeeper::fleet::{Discover, Discovery, Error, FindingKind, Sources, discover};
use dbkeeper::sql::Server;

use crate::support::postgres::Cluster;

pub(super) struct Registry {
    pub(super) cluster: &'static Cluster,
    /// The central database.
    pub(super) central: String,
    /// What the names of this registry's tenant databases begin with.
    pub(super) prefix: String,
}

impl Registry {
    /// `{prefix}` in the SQL is replaced.
    pub(super) fn new(sql: &str) -> Self {
        let cluster = Cluster::shared();
        let central = cluster.create_database("central");
        let registry = Self { cluster, prefix: format!("{central}_t_"), central };
        registry.run(sql);
        registry
    }

    pub(super) fn run(&self, sql: &str) {
        self.cluster.psql(&self.central, &sql.replace("{prefix}", &self.prefix));
    }

    /// Creates a database of this prefix, whatever the rest of its name; returns the whole name.
    pub(super) fn create(&self, rest: &str) -> String {
        let name = format!("{}{rest}", self.prefix);
        let quoted = name.replace('"', "\"\"");
        self.cluster.psql("postgres", &format!("create database \"{quoted}\" template template0"));
        name
    }

    pub(super) async fn discover_with(&self, way: Discover, servers: &[Server]) -> Result<Discovery, Error> {
        let server = self.cluster.server();
        let central = Some((&server, self.central.as_str()));
        discover(&Sources { central, tenants: Some((&server, &way)), servers }).await
    }

    pub(super) async fn discover(&self, way: Discover) -> Discovery {
        self.discover_with(way, &[]).await.unwrap_or_else(|error| panic!("{error} ({:?})", error.hint()))
    }

    pub(super) fn stancl(&self) -> Discover {
        Discover::Stancl { prefix: self.prefix.clone(), suffix: String::new() }
    }

    /// Requires exactly these tenants with these databases (the prefix left out), after the central one.
    pub(super) fn check_databases(&self, discovery: &Discovery, expected: &[(&str, &str)]) {
        let mut databases = discovery.databases.iter();
        assert_eq!(databases.next().map(|central| central.name.as_str()), Some(self.central.as_str()));
        let found: Vec<_> = databases
            .map(|database| (database.target.name.as_str(), database.name.trim_start_matches(&self.prefix)))
            .collect();
        assert_eq!(found, expected);
    }

    /// Requires exactly these findings: kind, tenant, database (the prefix left out) and words of the message.
    pub(super) fn check_findings(&self, discovery: &Discovery, expected: &[(FindingKind, &str, &str, &str)]) {
        let mut found = discovery.findings.iter();
        for (kind, tenant, database, words) in expected {
            let finding = found.next().unwrap_or_else(|| panic!("no finding {kind:?} of {tenant:?}"));
            let name = finding.database.trim_start_matches(&self.prefix);
            assert_eq!((finding.kind, finding.tenant.as_str(), name), (*kind, *tenant, *database), "{finding:?}");
            assert!(finding.message.contains(words), "{finding:?}");
        }
        assert_eq!(found.next(), None);
    }
}
