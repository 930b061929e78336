//! From what a row says to a server: configured ones by name or address, and copies where the registry names others. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use crate::fleet::entry::Place;
use crate::sql::Server;

/// Host and port: what makes two servers the same one, whoever logs in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Address {
    pub(super) fn of(server: &Server) -> Self {
        Self { host: server.host.clone(), port: server.port }
    }
}

/// Finds or makes the server of each row. Rows with no login of their own share one.
#[derive(Debug)]
pub(super) struct Placement {
    default: Arc<Server>,
    configured: Vec<Arc<Server>>,
    /// By the name of the server that they were made from, and their address.
    made: HashMap<(String, Address), Arc<Server>>,
}

impl Placement {
    /// `default` is the server of rows that say nothing.
    pub(super) fn new(default: &Server, configured: &[Server]) -> Self {
        let configured = configured.iter().cloned().map(Arc::new).collect();
        Self { default: Arc::new(default.clone()), configured, made: HashMap::new() }
    }

    /// The server of rows that say nothing.
    pub(super) fn default_server(&self) -> &Arc<Server> {
        &self.default
    }

    /// The configured server at an address, with the login that the operator gave for it.
    pub(super) fn configured_at(&self, address: &Address) -> Option<&Arc<Server>> {
        let at = |server: &&Arc<Server>| server.host == address.host && server.port == address.port;
        [&self.default].into_iter().chain(&self.configured).find(at)
    }

    /// The server that a row means, or why there is none.
    ///
    /// An address that no configured server has gives a copy of the server that the row would else be on, with its role,
    /// password and TLS: the registry is trusted as much as the configuration.
    pub(super) fn place(&mut self, place: Place) -> Result<Arc<Server>, String> {
        let base = match &place.server {
            None => &self.default,
            Some(name) => {
                [&self.default].into_iter().chain(&self.configured).find(|server| server.name == *name).ok_or_else(
                    || format!("it is on {name:?}, and no server of that name is configured: add it to [[servers]]"),
                )?
            }
        };
        let base = Arc::clone(base);
        let host = place.host.unwrap_or_else(|| base.host.clone());
        let address = Address { host, port: place.port.unwrap_or(base.port) };
        let server = if address == Address::of(&base) { base } else { self.at(address, &base) };
        if place.user.is_none() && place.password.is_none() {
            return Ok(server);
        }
        let mut own = Server::clone(&server);
        if let Some(user) = place.user.filter(|user| *user != own.user) {
            // The password belongs to the other role.
            own.user = user;
            own.password = None;
        }
        own.password = place.password.or(own.password);
        Ok(Arc::new(own))
    }

    fn at(&mut self, address: Address, base: &Arc<Server>) -> Arc<Server> {
        if let Some(configured) = self.configured_at(&address) {
            return Arc::clone(configured);
        }
        let make = |(base_name, address): &(String, Address)| {
            let name = format!("{base_name}@{}:{}", address.host, address.port);
            Arc::new(Server { name, host: address.host.clone(), port: address.port, ..Server::clone(base) })
        };
        let key = (base.name.clone(), address);
        Arc::clone(self.made.entry(key).or_insert_with_key(make))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::Secret;
    use crate::sql::{Family, SslMode};

    fn server(name: &str, host: &str) -> Server {
        Server {
            name: name.to_owned(),
            family: Family::Postgres,
            host: host.to_owned(),
            port: 5432,
            user: "backup".to_owned(),
            password: Some(Secret::new(format!("secret of {name}"))),
            password_file: None,
            maintenance_database: "postgres".to_owned(),
            ssl_mode: SslMode::Prefer,
            ssl_root_cert: None,
            connections: 4,
            client_bin: None,
        }
    }

    fn check_placed(place: Place, expected: Result<(&str, &str, u16, &str, Option<&str>), &str>) {
        let mut placement = Placement::new(&server("pg", "a"), &[server("pg", "a"), server("pg2", "b")]);
        match (placement.place(place), expected) {
            (Ok(found), Ok(expected)) => {
                let password = found.password.as_ref().map(Secret::reveal);
                assert_eq!((&*found.name, &*found.host, found.port, &*found.user, password), expected);
            }
            (Err(reason), Err(words)) => assert!(reason.contains(words), "{reason}"),
            (found, expected) => panic!("{found:?}, not {expected:?}"),
        }
    }

    #[test]
    fn a_row_is_placed_by_name_by_address_or_on_a_copy() {
        let text = |text: &str| Some(text.to_owned());
        let (secret, secret2) = (Some("secret of pg"), Some("secret of pg2"));
        let nothing = Place::default;
        check_placed(nothing(), Ok(("pg", "a", 5432, "backup", secret)));
        check_placed(Place { server: text("pg2"), ..nothing() }, Ok(("pg2", "b", 5432, "backup", secret2)));
        check_placed(Place { server: text("pg3"), ..nothing() }, Err("no server of that name"));
        check_placed(Place { host: text("b"), ..nothing() }, Ok(("pg2", "b", 5432, "backup", secret2)));
        check_placed(Place { host: text("c"), ..nothing() }, Ok(("pg@c:5432", "c", 5432, "backup", secret)));
        check_placed(Place { port: Some(6000), ..nothing() }, Ok(("pg@a:6000", "a", 6000, "backup", secret)));
        let password = || Some(Secret::new("own".to_owned()));
        let own = Place { user: text("u"), password: password(), ..nothing() };
        check_placed(own, Ok(("pg", "a", 5432, "u", Some("own"))));
        check_placed(Place { user: text("u"), ..nothing() }, Ok(("pg", "a", 5432, "u", None)));
        check_placed(Place { password: password(), ..nothing() }, Ok(("pg", "a", 5432, "backup", Some("own"))));
    }

    #[test]
    fn rows_without_a_login_of_their_own_share_one_server() {
        let mut placement = Placement::new(&server("pg", "a"), &[]);
        let mut at = |host: &str| placement.place(Place { host: Some(host.to_owned()), ..Place::default() }).unwrap();
        assert!(Arc::ptr_eq(&at("c"), &at("c")));
        assert!(!Arc::ptr_eq(&at("c"), &at("d")));
    }
}
