//! What discovery found: how many tenants, and all that does not fit, by its kind.

use std::collections::BTreeMap;

use crate::base::class::Class;
use crate::base::ids::{TargetId, TargetKind};
use crate::fleet::{Discovery, Finding, FindingKind, compare_with_known};
use crate::job::doctor::{Check, Group, Status, first};

/// Findings of one kind that are told in full.
const NAMED: usize = 5;

/// Counts the tenants and tells every kind of finding in one line; `known` are the targets that have a vault.
pub(super) fn check(discovery: &Discovery, known: Option<Vec<TargetId>>, checks: &mut Vec<Check>) {
    let tenants = discovery.databases.iter().filter(|it| it.target.kind == TargetKind::Tenant).count();
    let central = if tenants < discovery.databases.len() { " and the central database" } else { "" };
    let message = format!("{tenants} tenants{central} can be backed up");
    checks.push(Check::ok(Group::Registry, "tenants", message));
    let compared = known.map(|known| compare_with_known(discovery, known)).unwrap_or_default();
    let mut kinds: BTreeMap<FindingKind, Vec<&Finding>> = BTreeMap::new();
    for finding in discovery.findings.iter().chain(&compared) {
        kinds.entry(finding.kind).or_default().push(finding);
    }
    checks.extend(kinds.into_iter().map(|(kind, findings)| of_kind(kind, &findings)));
}

fn of_kind(kind: FindingKind, findings: &[&Finding]) -> Check {
    let told: Vec<String> = findings
        .iter()
        .map(|finding| match finding.tenant.is_empty() {
            true => finding.message.clone(),
            false => format!("{}: {}", finding.tenant, finding.message),
        })
        .collect();
    let count = if told.len() == 1 { String::new() } else { format!("{} times: ", told.len()) };
    let message = format!("{count}{}", first(&told, NAMED));
    let (name, status, fix) = meaning(kind);
    let check = match status {
        Status::Ok => Check::ok(Group::Registry, name, message),
        Status::Warn => Check::warn(Group::Registry, name, message),
        Status::Fail => {
            let class = if kind == FindingKind::UnreachableServer { Class::Database } else { Class::Refused };
            Check::fail(Group::Registry, name, class, message)
        }
    };
    check.with_fix(fix)
}

/// The name of a kind, how bad it is, and what to do.
fn meaning(kind: FindingKind) -> (&'static str, Status, Option<&'static str>) {
    match kind {
        FindingKind::RowWithoutDatabase => (
            "row without database",
            Status::Fail,
            Some("dbkeeper restore --tenant NAME, or correct or remove its row in the registry"),
        ),
        FindingKind::UnreadableRow => ("unreadable row", Status::Fail, Some("correct the row in the registry")),
        FindingKind::UnreachableServer => {
            ("unreachable server", Status::Fail, Some("start the server, or correct the rows that name it"))
        }
        FindingKind::SharedDatabase => {
            ("shared database", Status::Warn, Some("give each tenant a database of its own, or correct the rows"))
        }
        FindingKind::DatabaseWithoutRow => {
            ("database without row", Status::Warn, Some("add its row to the registry, or drop the database"))
        }
        FindingKind::Unprovisioned => ("no database expected", Status::Ok, None),
        FindingKind::DeletedTenant => ("deleted tenant", Status::Ok, None),
        FindingKind::EncryptedLogin => (
            "encrypted login",
            Status::Warn,
            Some("make sure that the server's role in dbkeeper.toml may read these databases"),
        ),
        FindingKind::NewTenant => ("no backup yet", Status::Warn, Some("dbkeeper backup --all")),
        FindingKind::GoneTenant => ("gone tenant", Status::Ok, None),
    }
}
