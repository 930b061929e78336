//! Every value of the configuration knows where it came from, and no secret is among them.

use std::path::{Path, PathBuf};

use dbkeeper::config::{Config, Environment, Origin, Setting};
use serde_json::json;

use super::{base, parse};

#[track_caller]
fn check(config: &Config, path: &str, value: &serde_json::Value, origin: &Origin) {
    let found: Vec<&Setting> = config.settings.iter().filter(|setting| setting.path == path).collect();
    let [only] = &found[..] else { panic!("{path} is set {} times", found.len()) };
    assert_eq!((&only.value, &only.origin), (value, origin), "{path}");
}

fn line(line: usize) -> Origin {
    Origin::File { file: "/etc/dbkeeper.toml".to_owned(), line }
}

fn variable(name: &str) -> Origin {
    Origin::Environment { variable: name.to_owned() }
}

#[test]
fn a_value_comes_from_a_line_or_is_the_default() {
    let config = parse(&format!(
        "{}[[servers]]\nname = \"pg\"\nurl = \"postgres:///app?sslmode=verify-ca\"\nconnections = 3\n[limits]\nmemory = \"1 GiB\"\n",
        base()
    ))
    .expect("a good file");
    check(&config, "repository.url", &json!("file:///srv/backups"), &line(2));
    check(&config, "repository.attempts", &json!(6), &Origin::Default);
    check(&config, "repository.key", &json!(null), &Origin::Default);
    check(&config, "servers[0].connections", &json!(3), &line(8));
    check(&config, "servers[0].sslmode", &json!("verify-ca"), &line(7));
    check(&config, "servers[0].maintenance_database", &json!("app"), &line(7));
    check(&config, "servers[0].user", &json!("deploy"), &Origin::Default);
    check(&config, "servers[0].password_file", &json!(null), &Origin::Default);
    check(&config, "limits.memory", &json!("1 GiB"), &line(10));
    check(&config, "limits.no_progress", &json!("10m"), &Origin::Default);
    check(&config, "retention.daily", &json!(14), &Origin::Default);
    check(&config, "retention.timezone", &json!("UTC"), &Origin::Default);
}

/// Reads one PostgreSQL server with these extra lines, in this environment.
fn server_in(environment: &Environment, lines: &str) -> Config {
    let text = format!("{}[[servers]]\nname = \"pg\"\nurl = \"postgres://u@h\"\n{lines}", base());
    Config::parse(Path::new("/etc/dbkeeper.toml"), &text, environment).expect("a good file")
}

#[test]
fn a_password_file_is_found_as_libpq_finds_it() {
    const KEY: &str = "servers[0].password_file";
    let home = tempfile::tempdir().expect("a folder");
    let path = home.path().display().to_string();
    let both = Environment::of([("PGPASSFILE", "/run/pgpass"), ("HOME", &path)], None);
    check(&server_in(&both, ""), KEY, &json!("/run/pgpass"), &variable("PGPASSFILE"));
    check(&server_in(&both, "password_file = \"mine\""), KEY, &json!("/etc/mine"), &line(8));
    let with_password = server_in(&both, "password = { env = \"P\" }");
    assert_eq!(with_password.servers[0].password_file, None, "a password is enough");
    let home_only = Environment::of([("HOME", &*path)], None);
    assert_eq!(server_in(&home_only, "").servers[0].password_file, None, "there is no ~/.pgpass");
    std::fs::write(home.path().join(".pgpass"), "*:*:*:*:x").expect("write");
    let expected = home.path().join(".pgpass");
    check(&server_in(&home_only, ""), KEY, &json!(expected.display().to_string()), &variable("HOME"));
    assert_eq!(server_in(&home_only, "").servers[0].password_file, Some(expected));
}

#[test]
fn secrets_are_shown_by_their_place_and_paths_start_at_the_folder_of_the_file() {
    let text = base().replace("[encryption]", "key = { file = \"keys/repository\" }\n[encryption]");
    let config = parse(&text).expect("a good file");
    check(&config, "repository.key", &json!({ "file": "/etc/keys/repository" }), &line(3));
    let volume = parse(&format!("{}[[volumes]]\nname = \"m\"\npath = \"media\"\n", base())).expect("a good file");
    check(&volume, "volumes[0].path", &json!("/etc/media"), &line(7));
    assert_eq!(volume.repository.attempts, 6);
}

#[test]
fn the_example_is_good_and_shows_the_defaults_that_its_comments_name() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("examples/dbkeeper.toml")).expect("the example");
    let config = parse(&text).expect("the example is good");
    assert_eq!(config.servers[0].connections, 8);
    for (key, value) in commented(&text).filter(|(key, _)| *key != "discover") {
        let matches = |setting: &&Setting| setting.path.rsplit('.').next() == Some(key);
        let setting = config.settings.iter().find(matches).unwrap_or_else(|| panic!("{key} of the example is no key"));
        if setting.origin == Origin::Default && !setting.value.is_null() {
            assert_eq!(setting.typed(), value, "the default of {key} in the example");
        }
    }
    assert_eq!(config.repository.key.as_ref().map(|key| key.name().to_owned()), Some("repository.key".to_owned()));
    assert_eq!(config.file, PathBuf::from("/etc/dbkeeper.toml"));
}

/// The keys that stand commented out in a file, with their values.
fn commented(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("# ")?.split_once(" = "));
    let plain = lines.filter(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
    plain.map(|(key, value)| (key, value.split(" #").next().unwrap_or(value).trim()))
}
