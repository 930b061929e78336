//! Where restores go, compared with each other and with what is there: no target takes another's place.

use std::collections::BTreeMap;

use crate::base::class::Class;
use crate::base::ids::TargetId;
use crate::fleet::Database;
use crate::job::restore::{Impossible, Plan, Step};
use crate::sql::Server;

/// Of several targets that would become one database, none is restored: the last one would hide the others.
pub(super) fn refuse_shared_places(plan: &mut Plan) {
    let place = |step: &Step| (step.server.clone(), step.database.clone());
    let mut takers: BTreeMap<(String, String), usize> = BTreeMap::new();
    for step in &plan.steps {
        *takers.entry(place(step)).or_default() += 1;
    }
    for step in std::mem::take(&mut plan.steps) {
        let Step { database, server, .. } = &step;
        if takers[&place(&step)] == 1 {
            plan.steps.push(step);
        } else {
            let reason = format!("another target would be restored as database {database:?} on server {server:?} too");
            let hint = Some("restore one of them elsewhere, with --as NAME".to_owned());
            plan.impossible.push(Impossible { target: step.target, reason, hint, class: Class::Usage });
        }
    }
}

/// Whose database a place is by the registry, if it is not this target's.
pub(super) fn owned_by_another<'a>(
    found: &'a [Database],
    target: &TargetId,
    place: (&Server, &str),
) -> Option<&'a TargetId> {
    let (server, name) = place;
    let is_it = |database: &&Database| {
        let its = &database.server;
        database.name == name && (its.host.as_str(), its.port) == (server.host.as_str(), server.port)
    };
    let mut owners = found.iter().filter(is_it).map(|database| &database.target);
    owners.find(|owner| *owner != target)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::sql::{Family, SslMode};

    fn server(host: &str) -> Server {
        Server {
            name: host.to_owned(),
            family: Family::Postgres,
            host: host.to_owned(),
            port: 5432,
            user: "backup".to_owned(),
            password: None,
            password_file: None,
            maintenance_database: "postgres".to_owned(),
            ssl_mode: SslMode::Disable,
            ssl_root_cert: None,
            connections: 2,
            client_bin: None,
        }
    }

    #[test]
    fn the_database_that_another_tenant_has_now_is_not_the_place_of_an_old_backup() {
        let tenant = |name: &str| TargetId::tenant(name).expect("a name");
        let here = Arc::new(server("here"));
        let found = [Database { target: tenant("new"), server: Arc::clone(&here), name: "tenant_1".to_owned() }];
        let owner = |target: &str, (server, name): (&Server, &str)| {
            owned_by_another(&found, &tenant(target), (server, name)).map(ToString::to_string)
        };
        assert_eq!(owner("old", (&here, "tenant_1")).as_deref(), Some("tenant new"));
        assert_eq!(owner("new", (&here, "tenant_1")), None);
        assert_eq!(owner("old", (&here, "tenant_2")), None);
        assert_eq!(owner("old", (&server("elsewhere"), "tenant_1")), None);
    }
}
