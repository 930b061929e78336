//! `config check`, `config show` and `config schema`, and who says which file it is.

use super::{good_config, with_config};
use crate::support::cli::Sandbox;

#[test]
fn a_good_file_is_called_good_and_a_wrong_one_is_shown() {
    let sandbox = with_config("[retention]\ndialy = 14\nweekly = 1\n");
    let ended = sandbox.run(&["config", "check"]).expect(2);
    assert_eq!(ended.stdout, "");
    let expected = r#"error: dbkeeper.toml:6:1: unknown key "dialy" in [retention]
  |
6 | dialy = 14
  | ^^^^^ expected one of "daily", "hourly", "keep_last", "monthly", "timezone", "weekly", "yearly"
  = did you mean "daily"?

hint: `dbkeeper config schema` describes every key
"#;
    assert_eq!(ended.stderr, expected);
    let good = with_config("").run(&["config", "check"]).expect(0);
    assert_eq!(good.stderr, "dbkeeper.toml is good: repository file:///srv/backups, 0 server(s)\n");
}

#[test]
fn a_missing_file_says_how_to_name_another() {
    let ended = Sandbox::new().run(&["config", "show"]).expect(2);
    let error = "error: read the configuration dbkeeper.toml: No such file or directory (os error 2)";
    assert_eq!(ended.stderr, format!("{error}\n\nhint: name it with --config FILE or DBKEEPER_CONFIG\n"));
}

#[test]
fn check_reads_every_secret_and_tells_all_that_are_missing() {
    let server = "[[servers]]\nname = \"pg\"\nurl = \"postgres://u@h\"\npassword = { file = \"missing\" }\n";
    let sandbox = with_config(&format!("identity = {{ env = \"NOBODY\" }}\n{server}"));
    let ended = sandbox.run(&["config", "check"]).expect(2);
    let missing = "dbkeeper.toml:9:12: servers[0].password: file missing cannot be read: No such file or directory (os error 2)\n";
    assert!(ended.stderr.contains(missing), "{}", ended.stderr);
    let unset = "dbkeeper.toml:5:12: encryption.identity: environment variable NOBODY is not set\n";
    assert!(ended.stderr.contains(unset), "{}", ended.stderr);
    sandbox.run(&["config", "check", "--without-secrets"]).expect(0);
    with_config("identity = { env = \"NOBODY\" }\n").run(&["config", "check"]).expect(12);
}

#[test]
fn show_gives_each_value_with_its_origin_and_no_secret() {
    let sandbox = with_config("identity = { env = \"IDENTITY\" }\n[limits]\nmemory = \"1 GiB\"\n");
    let mut command = sandbox.command(&["config", "show"]);
    let ended = sandbox.finish(command.env("IDENTITY", "hunter2").output().expect("run dbkeeper")).expect(0);
    assert_eq!(ended.stderr, "");
    assert!(!ended.stdout.contains("hunter2"));
    for (value, origin) in [
        ("# dbkeeper.toml", "default"),
        ("repository.url = \"file:///srv/backups\"", "dbkeeper.toml:2"),
        ("encryption.identity = { env = \"IDENTITY\" }", "dbkeeper.toml:5"),
        ("limits.memory = \"1 GiB\"", "dbkeeper.toml:7"),
        ("limits.targets_at_once = 4", "default"),
        ("repository.key = (none)", "default"),
    ] {
        let line = ended.stdout.lines().find(|line| line.starts_with(value));
        let line = line.unwrap_or_else(|| panic!("{value} is not in\n{}", ended.stdout));
        assert_eq!(line[value.len()..].trim_start(), format!("# {origin}"), "{value}");
    }
}

#[test]
fn the_flag_comes_before_the_variable_and_the_variable_before_the_default() {
    let sandbox = with_config("");
    sandbox.write("variable.toml", &good_config("[limits]\nrequests_at_once = 1\n"));
    sandbox.write("flag.toml", &good_config("[limits]\nrequests_at_once = 2\n"));
    let show = |arguments: &[&str], variable: Option<&str>| {
        let mut command = sandbox.command(arguments);
        command.envs(variable.map(|file| ("DBKEEPER_CONFIG", file)));
        let ended = sandbox.finish(command.output().expect("run dbkeeper")).expect(0);
        let document: serde_json::Value = serde_json::from_str(&ended.stdout).expect("one JSON document");
        let settings = document["settings"].as_array().expect("an array").clone();
        let setting = settings.into_iter().find(|setting| setting["path"] == "limits.requests_at_once").expect("it");
        (document["file_origin"].clone(), setting)
    };
    let (origin, setting) = show(&["config", "show", "--json"], None);
    assert_eq!((origin, &setting["value"], &setting["origin"]), ("default".into(), &16.into(), &"default".into()));
    let (origin, setting) = show(&["config", "show", "--json"], Some("variable.toml"));
    assert_eq!(origin, serde_json::json!({ "environment": { "variable": "DBKEEPER_CONFIG" } }));
    assert_eq!(setting["origin"], serde_json::json!({ "file": { "file": "variable.toml", "line": 6 } }));
    let (origin, setting) = show(&["config", "show", "--json", "--config", "flag.toml"], Some("variable.toml"));
    assert_eq!(origin, serde_json::json!({ "argument": { "flag": "--config" } }));
    assert_eq!(setting["value"], 2);
}

#[test]
fn the_schema_is_printed_without_any_configuration() {
    let ended = Sandbox::new().run(&["config", "schema"]).expect(0);
    let stored = include_str!("../../docs/reference/config.schema.json");
    assert_eq!(ended.stdout, stored);
}
