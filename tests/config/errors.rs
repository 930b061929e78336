//! What is wrong is shown with its line, what was expected, and the nearest name.

use std::path::Path;

use dbkeeper::base::class::Class;
use dbkeeper::config::{Config, Error};

use super::{RECIPIENT, base, environment, parse};

const SERVER: &str = "[[servers]]\nname = \"pg\"\nurl = \"postgres://u@h\"\n";

#[track_caller]
fn complaints(text: &str) -> Vec<String> {
    let error = parse(text).map(|_| ()).expect_err("this is wrong");
    assert_eq!(error.class(), Class::Usage);
    let Error::Invalid { complaints } = &error else { panic!("{error}") };
    complaints.iter().map(ToString::to_string).collect()
}

/// Requires that `lines`, behind the two base sections and so beginning with line 5, give exactly one complaint: these
/// three words of it.
#[track_caller]
fn check(lines: &str, headline: &str, expected: &str, meant: Option<&str>) {
    check_text(&format!("{}{lines}", base()), headline, expected, meant);
}

#[track_caller]
fn check_text(text: &str, headline: &str, expected: &str, meant: Option<&str>) {
    let found = complaints(text);
    let [only] = &found[..] else { panic!("one complaint, not\n{}", found.join("\n")) };
    let lines: Vec<&str> = only.lines().collect();
    assert_eq!(lines[0], format!("/etc/dbkeeper.toml:{headline}"), "{only}");
    let underline = lines.get(3).copied().unwrap_or_default();
    assert_eq!(
        underline.split_once('^').map(|(_, rest)| rest.trim_start_matches('^').trim()),
        Some(expected),
        "{only}"
    );
    let said = lines.get(4).map(|line| line.trim_start_matches([' ', '=']));
    assert_eq!(said, meant, "{only}");
}

#[track_caller]
fn check_whole(text: &str, expected: &[&str]) {
    let found = complaints(text);
    assert_eq!(found, expected, "\n{}", found.join("\n"));
}

#[test]
fn an_error_shows_the_line_underlined_what_was_expected_and_the_nearest_name() {
    check_whole(
        &format!("{}{SERVER}conections = 8\n", base()),
        &[r#"/etc/dbkeeper.toml:8:1: unknown key "conections" in [[servers]]
  |
8 | conections = 8
  | ^^^^^^^^^^ expected one of "client_bin", "connections", "maintenance_database", "name", "password", "password_file", "sslmode", "sslrootcert", "url"
  = did you mean "connections"?"#],
    );
}

#[test]
fn every_error_of_a_file_is_reported_at_once_in_the_order_of_lines() {
    let text =
        format!("[repository]\nurl = 5\n[encryption]\nrecipients = [\"{RECIPIENT}\", \"age1x\"]\n{SERVER}{SERVER}");
    let found =
        complaints(&format!("{text}[retention]\ndaily = \"14\"\ntimezone = \"Europe/Pairs\"\n[tenant]\nserver = 1\n"));
    let places: Vec<&str> =
        found.iter().filter_map(|block| block.strip_prefix("/etc/dbkeeper.toml:")?.split(' ').next()).collect();
    assert_eq!(places, ["2:7:", "4:81:", "9:8:", "12:9:", "13:12:", "14:2:"], "{}", found.join("\n"));
    let error = parse(&format!("{}[retention]\ndaily = -1\nweekly = 2.5\n", base())).expect_err("two are wrong");
    assert!(
        error.to_string().starts_with("/etc/dbkeeper.toml is wrong in 2 places\n\n/etc/dbkeeper.toml:6:9: "),
        "{error}"
    );
}

#[test]
fn unknown_keys_and_sections_are_named_with_what_was_meant() {
    let sections = r#"expected one of "central", "copies", "drill", "encryption", "limits", "repository", "retention", "servers", "tenants", "volumes""#;
    check("[tennants]\n", "5:2: unknown section \"tennants\" in the file", sections, Some("did you mean \"tenants\"?"));
    check("[colour]\n", "5:2: unknown section \"colour\" in the file", sections, None);
    let sources = r#"expected one of "file", "env", "command""#;
    check(
        "identity = { fiel = \"x\" }",
        "5:14: unknown key \"fiel\" in encryption.identity",
        sources,
        Some("did you mean \"file\"?"),
    );
    check(
        "[limits]\nmemroy = \"1 GiB\"",
        "6:1: unknown key \"memroy\" in [limits]",
        r#"expected one of "lock_timeout", "memory", "no_progress", "requests_at_once", "targets_at_once""#,
        Some("did you mean \"memory\"?"),
    );
}

#[test]
fn wrong_types_say_what_stands_there_and_what_should() {
    check(
        "[retention]\ndaily = \"14\"",
        "6:9: retention.daily is a string",
        "expected a whole number from 0 to 36500",
        None,
    );
    check("[retention]\ndaily = -1", "6:9: retention.daily is -1", "expected a whole number from 0 to 36500", None);
    check(
        "[retention]\ndaily = 1\nkeep_last = 0",
        "7:13: retention.keep_last is 0",
        "expected a whole number from 1 to 10000",
        None,
    );
    check(
        "[limits]\nmemory = 256",
        "6:10: limits.memory is an integer",
        "expected a size with its unit, such as \"256 MiB\"",
        None,
    );
    check(
        "identity = true",
        "5:12: encryption.identity is true or false",
        "expected { file = \"…\" }, { env = \"…\" } or { command = … }",
        None,
    );
    check("[servers]\nname = \"pg\"", "5:1: servers is a table", "expected sections [[servers]]", None);
    check("[[central]]\n", "5:1: central is an array", "expected a section [central]", None);
    check(
        "[[volumes]]\nname = \"a\"\npath = \"/a\"\nexclude = \"x\"",
        "8:11: volumes[0].exclude is a string",
        "expected an array",
        None,
    );
}

#[test]
fn bad_words_say_what_they_should_look_like() {
    let duration = "expected a duration with its unit, such as \"30s\", \"15m\" or \"1d12h\"";
    check("[limits]\nno_progress = \"10 minutes\"", "6:15: limits.no_progress is \"10 minutes\"", duration, None);
    check("[limits]\nno_progress = \"1s\"", "6:15: limits.no_progress is \"1s\"", "expected at least \"10s\"", None);
    let size = "expected a size with its unit, such as \"256 MiB\"";
    check("[limits]\nmemory = \"1 GB\"", "6:10: limits.memory is \"1 GB\"", size, None);
    check("[limits]\nmemory = \"1 MiB\"", "6:10: limits.memory is 1 MiB", "expected at least 128 MiB", None);
    check(
        "[retention]\ndaily = 1\ntimezone = \"Europe/Pairs\"",
        "7:12: retention.timezone is \"Europe/Pairs\"",
        "expected a name of the IANA time zone database, such as \"Europe/Paris\"",
        Some("did you mean \"Europe/Paris\"?"),
    );
    let recipient = "expected an age recipient: age1 and 58 more characters, as keygen prints it";
    let text =
        |recipient: &str| format!("[repository]\nurl = \"file:///a\"\n[encryption]\nrecipients = [\"{recipient}\"]");
    check_text(&text("age1x"), "4:15: \"age1x\" is no age recipient: invalid Bech32 encoding", recipient, None);
    check_text(
        &text("AGE-SECRET-KEY-1QQQ"),
        "4:15: this is an identity, the secret half of a recipient",
        recipient,
        Some("whoever read this file can read your backups: make a new one with keygen"),
    );
    check_text(
        "[repository]\nurl = \"file:///a\"\n[encryption]\nrecipients = []",
        "4:14: recipients is empty",
        "expected at least one age recipient (age1…)",
        None,
    );
}

#[test]
fn the_place_of_the_repository_is_checked() {
    let expected = "expected \"s3://bucket/prefix\" or \"file:///folder\"";
    for (url, message) in [
        ("/srv", "\"/srv\" is no URL (relative URL without a base)"),
        ("ftp://h/x", "unknown kind of repository \"ftp\""),
        ("s3://", "the URL names no bucket"),
        ("s3://b/p?x=1", "the URL says more than a place"),
        ("s3://user:secret@b/p", "the URL holds a login"),
        ("file://host/x", "this is no folder of this machine"),
    ] {
        let text = format!("[repository]\nurl = \"{url}\"\n[encryption]\nrecipients = [\"{RECIPIENT}\"]");
        check_text(&text, &format!("2:7: {message}"), expected, None);
    }
    let folder = base().replace("[encryption]", "region = \"eu\"\n[encryption]");
    check_text(&folder, "3:10: region has no meaning for a folder", "expected only with an s3:// url", None);
    let half = base()
        .replace("file:///srv", "s3://b")
        .replace("[encryption]", "access_key_id = { env = \"A\" }\n[encryption]");
    let both = "expected access_key_id with secret_access_key, or neither for the SDK's own chain";
    check_text(&half, "3:17: this is half of a login", both, None);
}

#[test]
fn servers_are_checked_and_their_names_are_unique() {
    let twice = format!("{SERVER}{SERVER}");
    check(&twice, "9:8: two servers are called \"pg\"", "expected a name of its own", Some("the first is in line 6"));
    let server = |line: &str| format!("[[servers]]\nname = \"pg\"\n{line}");
    check(
        &server("url = \"postgers://u@h\""),
        "7:7: unknown kind of server \"postgers\"",
        r#"expected one of "postgres", "postgresql", "mysql", "mariadb""#,
        Some("did you mean \"postgres\"?"),
    );
    let parameters = r#"expected one of "host", "port", "user", "dbname", "sslmode", "sslrootcert""#;
    check(
        &server("url = \"postgres://u@h?ssl_mode=x\""),
        "7:7: unknown parameter \"ssl_mode\" in the URL",
        parameters,
        Some("did you mean \"sslmode\"?"),
    );
    let modes = r#"expected one of "disable", "prefer", "require", "verify-ca", "verify-full""#;
    check(&server("url = \"postgres://u@h?sslmode=allow\""), "7:7: sslmode is \"allow\"", modes, None);
    check(
        &server("url = \"postgres://u@h\"\nsslmode = \"verifyfull\""),
        "8:11: servers[0].sslmode is \"verifyfull\"",
        modes,
        Some("did you mean \"verify-full\"?"),
    );
    check(
        &server("url = \"postgres://u@h?sslmode=require\"\nsslmode = \"require\""),
        "8:11: sslmode is given here and in the URL",
        "expected one of them",
        None,
    );
    check(
        &server("url = \"postgres://u@h\"\npassword = { env = \"P\" }\npassword_file = \"p\""),
        "9:17: both a password and a password file are given",
        "expected one of them",
        None,
    );
    check("[[servers]]\nname = \"pg\"", "5:1: [[servers]] does not say \"url\"", "", None);
}

#[test]
fn references_lead_to_servers_and_discovery_has_one_way() {
    let central = format!("{SERVER}[central]\nserver = \"gp\"\ndatabase = \"central\"");
    check(&central, "9:10: there is no server \"gp\"", "expected one of \"pg\"", Some("did you mean \"pg\"?"));
    check(
        "[central]\nserver = \"pg\"\ndatabase = \"c\"",
        "6:10: there is no server \"pg\"",
        "expected a section [[servers]] with this name",
        None,
    );
    let tenants = |discover: &str| format!("{SERVER}[tenants]\nserver = \"pg\"\ndiscover = {discover}");
    check(
        &tenants("{ pattern = \"a%\", list = [\"a\"] }"),
        "10:12: discover has 2 ways: \"pattern\", \"list\"",
        "expected one of them",
        None,
    );
    let ways = r#"expected { preset = "stancl" }, { query = "…" }, { pattern = "…" } or { list = ["…"] }"#;
    check(&tenants("{ }"), "10:12: discover does not say how", ways, None);
    check(&tenants("{ list = [] }"), "10:21: the list is empty", "expected at least one database", None);
    check(
        &tenants("{ query = \"select 1\" }"),
        "10:12: this asks the central database, and there is no [central]",
        "expected a section [central]",
        None,
    );
    check(
        &tenants("{ pattern = \"a%\", database_prefix = \"a\" }"),
        "10:48: database_prefix has no meaning here",
        "expected only with preset = \"stancl\"",
        None,
    );
    let preset = format!("{}\n[central]\nserver = \"pg\"\ndatabase = \"c\"", tenants("{ preset = \"stencil\" }"));
    check(
        &preset,
        "10:23: tenants.discover.preset is \"stencil\"",
        r#"expected one of "stancl", "spatie""#,
        Some("did you mean \"stancl\"?"),
    );
    check(&format!("{SERVER}[tenants]\nserver = \"pg\""), "8:1: [tenants] does not say \"discover\"", "", None);
}

#[test]
fn volumes_have_a_name_of_their_own_and_one_place() {
    check("[[volumes]]\nname = \"a\"", "5:1: the volume has no place", "expected either path or docker_volume", None);
    check(
        "[[volumes]]\nname = \"a\"\npath = \"/a\"\ndocker_volume = \"a\"",
        "8:17: the volume has two places",
        "expected either path or docker_volume",
        None,
    );
    let twice = "[[volumes]]\nname = \"a\"\npath = \"/a\"\n[[volumes]]\nname = \"a\"\npath = \"/b\"\n";
    check(twice, "9:8: two volumes are called \"a\"", "expected a name of its own", Some("the first is in line 6"));
    check(
        "[[volumes]]\nname = \"a\\nb\"\npath = \"/a\"",
        "6:8: \"a\\nb\" is no name of a volume",
        "expected a name without control characters, at most 240 bytes in an object key",
        None,
    );
}

#[test]
fn a_retention_that_keeps_nothing_is_refused() {
    check(
        "[retention]\nkeep_last = 3",
        "5:1: the retention keeps nothing",
        "expected at least one of hourly, daily, weekly, monthly, yearly",
        None,
    );
}

#[test]
fn a_secret_in_the_file_is_refused_and_shown_nowhere() {
    for line in [
        "password = \"hunter2\"",
        "pasword = \"hunter2\"",
        "password = { value = \"hunter2\" }",
        "password = \"hunter2",
        "password = [\"hunter2\"]",
        "password = { env = \"A\", value = \"hunter2\"",
    ] {
        let text = format!("{}{SERVER}{line}\n", base());
        let error = parse(&text).expect_err("a secret in the file");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    let url = format!("{}[[servers]]\nname = \"pg\"\nurl = \"postgres://u:hunter2@h\"\n", base());
    let error = parse(&url).expect_err("a secret in the URL");
    assert!(
        error.to_string().contains("url = \"postgres://u:…@h\"") && !error.to_string().contains("hunter2"),
        "{error}"
    );
    check(
        &format!("{SERVER}password = \"hunter2\""),
        "8:12: servers[0].password is written into the file",
        "expected { file = \"…\" }, { env = \"…\" } or { command = … }",
        Some("a configuration is copied, committed and shown: name the secret's place"),
    );
}

#[test]
fn a_file_that_is_no_toml_shows_where() {
    let found = complaints("[repository]\nurl = \n[encryption\n");
    assert!(found[0].starts_with("/etc/dbkeeper.toml:2:"), "{}", found.join("\n"));
    assert!(found[0].contains("this is not TOML"), "{}", found.join("\n"));
    let twice = complaints(&format!("{}recipients = []\n", base()));
    assert!(twice[0].contains(":5:1: this is not TOML: duplicate key"), "{}", twice.join("\n"));
}

#[test]
fn missing_sections_and_an_empty_file_are_said_in_words() {
    check_whole(
        "[retention]\ndaily = 1\n",
        &["/etc/dbkeeper.toml: section [repository] is missing", "/etc/dbkeeper.toml: section [encryption] is missing"],
    );
    for empty in ["", "\n# nothing\n", "\u{feff}"] {
        check_whole(empty, &["/etc/dbkeeper.toml: the file is empty\n  = begin with [repository] and [encryption]"]);
    }
}

/// Loads a file with these bytes and returns the error as it is shown, without the folder.
fn load_error(bytes: Option<&[u8]>) -> (String, Class, Option<String>) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("dbkeeper.toml");
    if let Some(bytes) = bytes {
        std::fs::write(&file, bytes).expect("write");
    }
    let error = Config::load(&file, &environment()).map(|_| ()).expect_err("this is wrong");
    let source = std::error::Error::source(&error).map(ToString::to_string);
    (error.to_string().replace(&format!("{}/", folder.path().display()), ""), error.class(), source)
}

#[test]
fn a_file_that_is_missing_binary_or_giant_is_refused_with_the_reason() {
    let (text, class, source) = load_error(None);
    assert_eq!((text.as_str(), class), ("read the configuration dbkeeper.toml", Class::Usage));
    assert_eq!(source.as_deref(), Some("No such file or directory (os error 2)"));
    let (text, ..) = load_error(Some(b"[repository]\nurl = \"caf\xe9\"\n"));
    assert!(text.starts_with("dbkeeper.toml:2:11: this is not UTF-8\n"), "{text}");
    let (text, ..) = load_error(Some(&vec![b'#'; (4 << 20) + 1]));
    assert_eq!(text, "the configuration dbkeeper.toml is larger than 4 MiB");
    let deep = format!("a = {}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(Config::parse(Path::new("x"), &deep, &environment()).is_err());
}
