//! What happens where nobody listens, where a disk is full, and where the log is configured wrongly.

use std::fs::OpenOptions;
use std::process::Stdio;

use super::with_config;
use crate::support::cli::Sandbox;

#[test]
fn a_reader_that_went_away_is_no_error() {
    let sandbox = Sandbox::new();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let child = sandbox.command(&["config", "schema"]).stdout(writer).stderr(Stdio::piped()).spawn();
    let ended = sandbox.finish(child.expect("run dbkeeper").wait_with_output().expect("its end")).expect(0);
    assert_eq!(ended.stderr, "");
}

#[test]
fn data_that_could_not_be_written_is_an_error() {
    let sandbox = Sandbox::new();
    let full = OpenOptions::new().write(true).open("/dev/full").expect("a full device");
    let child = sandbox.command(&["config", "schema"]).stdout(full).stderr(Stdio::piped()).spawn();
    let ended = sandbox.finish(child.expect("run dbkeeper").wait_with_output().expect("its end")).expect(1);
    assert_eq!(ended.stderr, "error: write to standard output: No space left on device (os error 28)\n");
}

#[test]
fn a_standard_error_that_went_away_stops_nothing() {
    let sandbox = Sandbox::new();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = sandbox.command(&["keygen", "--identity", "a", "--repository-key", "b"]);
    let child = command.stdout(Stdio::piped()).stderr(writer).spawn().expect("run dbkeeper");
    let ended = sandbox.finish(child.wait_with_output().expect("its end")).expect(0);
    assert!(ended.stdout.starts_with("age1"));
}

#[test]
fn log_lines_go_to_standard_error_as_text_or_as_json_and_only_if_they_are_asked_for() {
    let sandbox = with_config("identity = { command = \"cat identity\" }\n");
    sandbox.run(&["keygen", "-q", "--identity", "identity", "--repository-key", "key"]).expect(0);
    let said = |arguments: &[&str]| {
        let ended = sandbox.run(arguments).expect(0);
        assert_eq!(ended.stdout, "");
        ended.stderr
    };
    assert_eq!(said(&["config", "check", "-q"]), "");
    assert!(!said(&["config", "check"]).contains("secret read"));
    let text = said(&["config", "check", "-v"]);
    assert!(text.contains("DEBUG secret read key=\"encryption.identity\""), "{text}");
    let lines = said(&["config", "check", "-v", "--log-format", "json"]);
    let line: serde_json::Value = serde_json::from_str(lines.lines().next().expect("a line")).expect("JSON");
    assert_eq!((&line["message"], &line["key"]), (&"secret read".into(), &"encryption.identity".into()));
}

#[test]
fn a_log_filter_that_is_none_is_refused() {
    let sandbox = Sandbox::new();
    let output = sandbox.command(&["config", "schema"]).env("DBKEEPER_LOG", "dbkeeper=loud").output();
    let ended = sandbox.finish(output.expect("run dbkeeper")).expect(2);
    assert!(ended.stderr.starts_with("error: \"dbkeeper=loud\" is no log filter: "), "{}", ended.stderr);
    assert!(ended.stderr.ends_with("\nhint: DBKEEPER_LOG takes filters such as debug or warn,dbkeeper=trace\n"));
}
