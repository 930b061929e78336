//! The fleet of today against the vaults of the repository: who came, who went. Pure.

use std::collections::BTreeSet;

use crate::base::ids::{TargetId, TargetKind};
use crate::fleet::{Discovery, Finding, FindingKind};

/// Tenants that are new or gone since the repository was last written to; `known` are the targets that have a vault.
///
/// Nobody is new in a repository that knows no tenant. A tenant that a finding already speaks of is not gone.
pub fn compare_with_known(discovery: &Discovery, known: impl IntoIterator<Item = TargetId>) -> Vec<Finding> {
    let known: BTreeSet<TargetId> = known.into_iter().filter(|target| target.kind == TargetKind::Tenant).collect();
    if known.is_empty() {
        return Vec::new();
    }
    let mut present = BTreeSet::new();
    let mut findings = Vec::new();
    for database in discovery.databases.iter().filter(|database| database.target.kind == TargetKind::Tenant) {
        present.insert(database.target.name.as_str());
        if !known.contains(&database.target) {
            findings.push(Finding {
                kind: FindingKind::NewTenant,
                tenant: database.target.name.as_str().to_owned(),
                server: database.server.name.clone(),
                database: database.name.clone(),
                message: "the tenant is new: this is its first backup".to_owned(),
            });
        }
    }
    present.extend(discovery.findings.iter().map(|finding| finding.tenant.as_str()));
    let gone = known.iter().map(|target| target.name.as_str()).filter(|name| !present.contains(name));
    findings.extend(gone.map(|name| Finding {
        kind: FindingKind::GoneTenant,
        tenant: name.to_owned(),
        server: String::new(),
        database: String::new(),
        message: "the tenant is in the registry no longer: its backups stay until they expire".to_owned(),
    }));
    findings
}
