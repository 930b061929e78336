//! The configuration file.
#![no_main]

use std::path::Path;

use dbkeeper::config::{Config, Environment};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let environment = Environment::of([], Some("deploy"));
    if let Err(error) = Config::parse(Path::new("/etc/dbkeeper.toml"), text, &environment) {
        assert!(!error.to_string().is_empty());
    }
});
