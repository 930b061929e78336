//! Every database: whether our role can read all of it, and whether the server has room for its locks.
//!
//! Equal causes are told once for all the databases that have them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::base::class::Class;
use crate::base::units::print_duration;
use crate::engine::postgres::rights::{self, Gap, GapKind, READ_ALL_SINCE, Rights};
use crate::fleet::Database;
use crate::job::doctor::servers::{Facts, Locks};
use crate::job::doctor::{Check, Group, first};
use crate::job::{Context, chain};
use crate::run::fan_out::fan_out;
use crate::sql::postgres::quote_identifier;

/// Databases that are looked at side by side on all servers together.
const MAX_AT_ONCE: usize = 64;
/// How long one database may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(90);
/// Databases, schemas or tables that one line names.
const NAMED: usize = 5;
/// Where more statements than this are missing, one right for all is offered instead.
const MANY_STATEMENTS: usize = 5;
/// Databases whose statements a fix spells out.
const MAX_SPELLED_OUT: usize = 1000;

/// A server by where it is: one name may stand for several logins.
type Address = (String, u16);

/// What came of one database.
struct Answer {
    database: Database,
    found: Result<Rights, Refusal>,
}

/// Why one database said nothing.
struct Refusal {
    message: String,
    hint: Option<String>,
}

/// Logs in to every database and tells what cannot be read.
pub(super) async fn check(
    context: &Context,
    databases: Vec<Database>,
    facts: &BTreeMap<String, Facts>,
    checks: &mut Vec<Check>,
) {
    if databases.is_empty() {
        return;
    }
    let answers = ask_all(context, databases, facts).await;
    let whole =
        answers.iter().filter(|answer| answer.found.as_ref().is_ok_and(|rights| rights.gaps.is_empty())).count();
    let message = format!("{whole} of {} databases can be read whole", answers.len());
    checks.push(Check::ok(Group::Tenants, "rights", message));
    checks.extend(logins(&answers));
    checks.extend(gaps(&answers));
    checks.extend(lock_tables(&answers, facts, context.config.limits.targets_at_once));
}

async fn ask_all(context: &Context, databases: Vec<Database>, facts: &BTreeMap<String, Facts>) -> Vec<Answer> {
    let mut budgets: HashMap<Address, Arc<Semaphore>> = HashMap::new();
    let mut width = 0;
    for database in &databases {
        budgets.entry(address(database)).or_insert_with(|| {
            let server = &database.server;
            let permits = facts.get(&server.name).map_or(server.connections, |facts| facts.connections).max(1);
            width += permits;
            Arc::new(Semaphore::new(permits))
        });
    }
    let limit = ANSWER_LIMIT.min(context.config.limits.no_progress);
    let results = fan_out(databases, width.clamp(1, MAX_AT_ONCE), &context.stop, |database| {
        let budget = Arc::clone(&budgets[&address(&database)]);
        async move {
            let _permit = budget.acquire().await.expect("the semaphore is never closed");
            let asked = rights::examine(&database.server, &database.name);
            let found = match tokio::time::timeout(limit, asked).await {
                Ok(answer) => {
                    answer.map_err(|error| Refusal { message: chain(&error), hint: error.hint().map(str::to_owned) })
                }
                Err(_) => Err(Refusal {
                    message: format!("no answer within {}", print_duration(limit)),
                    hint: Some("look for a blocked session: SELECT * FROM pg_locks WHERE NOT granted;".to_owned()),
                }),
            };
            Answer { database, found }
        }
    });
    results.await.into_iter().flatten().collect()
}

fn address(database: &Database) -> Address {
    (database.server.host.clone(), database.server.port)
}

/// One line for each reason why databases cannot be entered.
fn logins(answers: &[Answer]) -> Vec<Check> {
    let mut causes: BTreeMap<String, Vec<(&Database, &Refusal)>> = BTreeMap::new();
    for answer in answers {
        if let Err(refusal) = &answer.found {
            // The server's words name the database: without its name, equal causes are equal.
            let cause = refusal.message.replace(&format!("{:?}", answer.database.name), "it");
            causes.entry(cause).or_default().push((&answer.database, refusal));
        }
    }
    let line = |(cause, databases): (String, Vec<(&Database, &Refusal)>)| {
        let only: Vec<&Database> = databases.iter().map(|(database, _)| *database).collect();
        let message = match databases.as_slice() {
            [(_, refusal)] => &refusal.message,
            _ => &cause,
        };
        let mut fixes: Vec<&str> = databases.iter().filter_map(|(_, refusal)| refusal.hint.as_deref()).collect();
        fixes.dedup();
        fixes.truncate(MAX_SPELLED_OUT);
        let fix = (!fixes.is_empty()).then(|| fixes.join("\n"));
        Check::fail(Group::Tenants, "login", Class::Refused, format!("{}: {message}", whom(&only))).with_fix(fix)
    };
    causes.into_iter().map(line).collect()
}

/// What is missing, and to whom: databases with the same need the same statements.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Lack<'a> {
    what: &'static str,
    server: &'a str,
    role: &'a str,
    server_major: u32,
    gaps: Vec<&'a Gap>,
}

fn gaps(answers: &[Answer]) -> Vec<Check> {
    let mut lacks: BTreeMap<Lack<'_>, Vec<&Database>> = BTreeMap::new();
    for Answer { database, found } in answers {
        let Ok(Rights { role, server_major, gaps, .. }) = found else { continue };
        for what in ["rights", "large objects", "hidden rows"] {
            let gaps: Vec<&Gap> = gaps.iter().filter(|gap| kind(gap) == what).collect();
            if !gaps.is_empty() {
                let lack = Lack { what, server: &database.server.name, role, server_major: *server_major, gaps };
                lacks.entry(lack).or_default().push(database);
            }
        }
    }
    lacks.iter().map(|(lack, databases)| tell(lack, databases)).collect()
}

fn kind(gap: &Gap) -> &'static str {
    match gap.kind {
        GapKind::Schema | GapKind::Tables | GapKind::Sequences => "rights",
        GapKind::LargeObjects => "large objects",
        GapKind::HiddenRows => "hidden rows",
    }
}

fn tell(lack: &Lack<'_>, databases: &[&Database]) -> Check {
    let Lack { what, server, role, .. } = lack;
    let things: Vec<String> = lack.gaps.iter().map(|gap| gap.words()).collect();
    let things = first(&things, NAMED);
    let verb = match *what {
        "hidden rows" => "sees not all rows (row-level security) of",
        _ => "may not read",
    };
    let message = format!("{}: role {role:?} on {server} {verb} {things}", whom(databases));
    Check::fail(Group::Tenants, *what, Class::Refused, message).with_fix(Some(statements(lack, databases)))
}

/// Text for `psql`, to be run by a superuser.
fn statements(lack: &Lack<'_>, databases: &[&Database]) -> String {
    let mut needed: Vec<String> = lack.gaps.iter().map(|gap| gap.statement(lack.role)).collect();
    needed.dedup();
    if lack.what == "hidden rows" {
        return needed.join("\n");
    }
    if READ_ALL_SINCE <= lack.server_major && MANY_STATEMENTS < needed.len() * databases.len() {
        return format!("GRANT pg_read_all_data TO {};", quote_identifier(lack.role));
    }
    let needed = needed.join("\n");
    let spelled =
        databases.iter().take(MAX_SPELLED_OUT).map(|database| format!("{}\n{needed}", connect(&database.name)));
    let mut text = spelled.collect::<Vec<_>>().join("\n");
    if let Some(more) = databases.len().checked_sub(MAX_SPELLED_OUT).filter(|more| 0 < *more) {
        text.push_str(&format!("\n-- and the same in {more} more databases"));
    }
    text
}

/// How `psql` is told to go to a database: a name that looks like more than a name is wrapped in a connection string.
fn connect(database: &str) -> String {
    let plain = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '-' | '.');
    if database.chars().all(plain) {
        return format!("\\connect {}", quote_identifier(database));
    }
    let escaped = database.replace('\\', "\\\\").replace('\'', "\\'").replace('"', "\"\"");
    format!("\\connect -reuse-previous=on \"dbname='{escaped}'\"")
}

/// Whether the shared lock table of each server holds the tables of the largest databases that are worked on at once.
fn lock_tables(answers: &[Answer], facts: &BTreeMap<String, Facts>, at_once: usize) -> Vec<Check> {
    let mut servers: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for Answer { database, found } in answers {
        if let Ok(rights) = found {
            servers.entry(&database.server.name).or_default().push(rights.tables);
        }
    }
    let line = |(server, mut tables): (&str, Vec<u64>)| {
        let locks = facts.get(server)?.locks?;
        tables.sort_unstable_by_key(|count| std::cmp::Reverse(*count));
        tables.truncate(at_once);
        Some(judge_locks(server, tables.iter().sum(), tables.len(), locks))
    };
    servers.into_iter().filter_map(line).collect()
}

/// The server keeps room for `max_locks_per_transaction * (max_connections + max_prepared_transactions)` objects
/// (PostgreSQL manual, 20.12); the application's own locks need some of it, so more than half is too close. Pure.
fn judge_locks(server: &str, needed: u64, databases: usize, locks: Locks) -> Check {
    let Locks { each, sessions } = locks;
    let (name, room) = (format!("{server} locks"), each.saturating_mul(sessions));
    let message = format!(
        "the {databases} largest databases at once have {needed} tables to lock, the server has room for {room} \
         (max_locks_per_transaction = {each})"
    );
    let wanted = (needed / sessions.max(1) * 2 + 64).max(each.saturating_mul(2));
    let fix = format!("ALTER SYSTEM SET max_locks_per_transaction = {wanted}; -- and restart the server");
    match needed {
        needed if room < needed => Check::fail(Group::Servers, name, Class::Refused, message).with_fix(Some(fix)),
        needed if room / 2 < needed => Check::warn(Group::Servers, name, message).with_fix(Some(fix)),
        _ => Check::ok(Group::Servers, name, message),
    }
}

fn whom(databases: &[&Database]) -> String {
    let names: Vec<String> = databases.iter().map(|database| database.target.to_string()).collect();
    if names.len() == 1 { names[0].clone() } else { format!("{} databases ({})", names.len(), first(&names, NAMED)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::doctor::Status;

    fn check_locks(needed: u64, status: Status) {
        let check = judge_locks("pg", needed, 4, Locks { each: 10, sessions: 100 });
        assert_eq!(check.status, status, "{}", check.message);
        assert_eq!(check.fix.is_some(), status != Status::Ok);
    }

    #[test]
    fn half_of_the_lock_table_is_the_applications() {
        check_locks(500, Status::Ok);
        check_locks(501, Status::Warn);
        check_locks(1000, Status::Warn);
        check_locks(1001, Status::Fail);
    }

    #[test]
    fn psql_is_led_to_any_database() {
        assert_eq!(connect("acme_1"), "\\connect \"acme_1\"");
        assert_eq!(connect("a=b 'c\""), "\\connect -reuse-previous=on \"dbname='a=b \\'c\"\"'\"");
    }
}
