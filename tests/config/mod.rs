//! The configuration: what it says when something is wrong, where values come from, and what it promises to editors.

mod drill;
mod errors;
mod options;
mod origins;
mod schema;
mod secrets;

use std::path::Path;

use dbkeeper::config::{Config, Environment, Error};

/// A recipient that the examples use.
const RECIPIENT: &str = "age1d2t7g2am2ru98wl9rrcxccmv3y0kwfr5yeag49znpy7fc9cdts6qsz3mvp";

/// The two sections that every file has, in lines 1 to 4.
fn base() -> String {
    format!("[repository]\nurl = \"file:///srv/backups\"\n[encryption]\nrecipients = [\"{RECIPIENT}\"]\n")
}

fn environment() -> Environment {
    Environment::of([], Some("deploy"))
}

/// Checks `text` as `/etc/dbkeeper.toml` in an empty environment of the user `deploy`.
fn parse(text: &str) -> Result<Config, Error> {
    Config::parse(Path::new("/etc/dbkeeper.toml"), text, &environment())
}
