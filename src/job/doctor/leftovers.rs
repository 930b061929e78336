//! What restores left on the servers. Only told: nothing is dropped here.

use crate::base::units::ByteSize;
use crate::engine::postgres::leftovers::{Former, Leftovers, Unfinished, list_leftovers};
use crate::job::chain;
use crate::job::doctor::{Check, Group};
use crate::sql::Server;
use crate::sql::postgres::quote_identifier;

/// Lists unfinished and former databases of one server.
pub(super) async fn check(server: &Server, checks: &mut Vec<Check>) {
    let name = &server.name;
    let Leftovers { unfinished, former } = match list_leftovers(server).await {
        Ok(leftovers) => leftovers,
        Err(error) => {
            checks.push(Check::warn(Group::Leftovers, name, chain(&error)).with_fix(error.hint()));
            return;
        }
    };
    if unfinished.is_empty() && former.is_empty() {
        checks.push(Check::ok(Group::Leftovers, name, "restores left nothing behind"));
    }
    checks.extend(unfinished.into_iter().map(|leftover| begun(name, &leftover)));
    checks.extend(former.into_iter().map(|leftover| kept(name, &leftover)));
}

fn begun(server: &str, leftover: &Unfinished) -> Check {
    let Unfinished { name, destination, run, bytes, sessions } = leftover;
    let message = format!("{name:?} ({}) is an unfinished restore of {destination:?} by run {run}", size(*bytes));
    let drop = format!("DROP DATABASE {};", quote_identifier(name));
    let (message, fix) = match sessions {
        0 => (message, drop),
        _ => (format!("{message}, with {sessions} sessions: it may still be running"), format!("wait; else {drop}")),
    };
    Check::warn(Group::Leftovers, server, message).with_fix(Some(fix))
}

fn kept(server: &str, leftover: &Former) -> Check {
    let Former { name, live, replaced_at, bytes } = leftover;
    let when = replaced_at.format("%Y-%m-%d %H:%M UTC");
    let message = format!("{name:?} ({}) is what {live:?} was before the restore of {when}", size(*bytes));
    let fix = format!("DROP DATABASE {};", quote_identifier(name));
    Check::warn(Group::Leftovers, server, message).with_fix(Some(fix))
}

fn size(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "size unknown".to_owned(), |bytes| ByteSize(bytes).approximate())
}
