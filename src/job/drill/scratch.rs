//! Where drills may restore to, and under which names.

use std::collections::BTreeMap;

use crate::base::ids::TargetId;
use crate::codec::digest::sha256;
use crate::config::Config;
use crate::job::drill::Request;
use crate::job::{Context, Error};
use crate::sql::Server;

/// What the name of every scratch database begins with.
const PREFIX: &str = "dbkeeper_drill_";

/// Bytes of a target's name that are kept in the name of its scratch database.
const NAME_BYTES: usize = 12;

/// The name that a target's scratch database would have, if it were ever published. At most 63 bytes with the time behind it.
pub(super) fn name(target: &TargetId) -> String {
    let hash = sha256(target.key_form().as_bytes()).to_string();
    let plain = target.name.key_form();
    let name: String = plain.chars().filter(|c| *c != '~').take(NAME_BYTES).collect();
    format!("{PREFIX}{name}_{}", &hash[..8])
}

/// True for the name of a scratch database.
pub(super) fn is_ours(destination: &str) -> bool {
    destination.starts_with(PREFIX)
}

/// The scratch server: one of the configured ones, and none that holds databases of the fleet, unless that was asked for.
pub(super) async fn server(
    context: &Context,
    request: &Request,
    servers: &BTreeMap<String, Server>,
) -> Result<Server, Error> {
    let scratch = servers.get(&request.server).cloned().ok_or_else(|| {
        let known: Vec<&str> = servers.keys().map(String::as_str).collect();
        let what = format!("server {:?} is not configured", request.server);
        Error::Refused { what, hint: format!("name one with --server: {}", known.join(", ")) }
    })?;
    let live = |name: &String| servers.get(name).is_some_and(|live| is_same(live, &scratch));
    let refused = |what: String, hint: &str| Err(Error::Refused { what, hint: hint.to_owned() });
    let hint = "configure a scratch server, or add --on-live-server if it can bear the load";
    if !request.on_live_server && live_names(&context.config).any(live) {
        return refused(format!("server {:?} holds databases of the fleet", scratch.name), hint);
    }
    // A registry may name servers of its own. One that cannot be read, or not in time, stops no drill: the disaster may be real.
    let found = tokio::time::timeout(context.config.limits.no_progress, context.discover(servers)).await;
    let Ok(Ok(found)) = found else { return Ok(scratch) };
    let on_it = || found.databases.iter().filter(|database| is_same(&database.server, &scratch));
    if let Some(database) = on_it().next().filter(|_| !request.on_live_server) {
        return refused(
            format!("server {:?} holds database {:?} of {}", scratch.name, database.name, database.target),
            hint,
        );
    }
    if let Some(database) = on_it().find(|database| is_ours(&database.name)) {
        let what = format!("database {:?} of {} is named like a scratch database", database.name, database.target);
        return refused(what, "drill on another server");
    }
    Ok(scratch)
}

fn live_names(config: &Config) -> impl Iterator<Item = &String> {
    let central = config.central.iter().map(|central| &central.server);
    central.chain(config.tenants.iter().map(|tenants| &tenants.server))
}

fn is_same(one: &Server, other: &Server) -> bool {
    one.name == other.name || (one.host.as_str(), one.port) == (other.host.as_str(), other.port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_a_scratch_name_of_its_own_that_fits_the_server() {
        let long = "x".repeat(200);
        let names = ["acme", "Acme & Co", "ACME", "é", &long].map(|text| TargetId::tenant(text).expect("a name"));
        let mut seen = std::collections::BTreeSet::new();
        for target in names.into_iter().chain([TargetId::central()]) {
            let name = name(&target);
            assert!(is_ours(&name) && name.len() <= 63 - "__restore_20261121T091500Z".len(), "{name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'), "{name}");
            assert!(seen.insert(name.clone()), "{name} twice");
        }
    }
}
