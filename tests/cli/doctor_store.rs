//! `doctor --store` against the stores that run here: a folder, and SeaweedFS.

use serde_json::Value;

use crate::support::cli::Sandbox;
use crate::support::seaweed::Seaweed;

const PROMISES: [&str; 9] = [
    "read after write",
    "ranges",
    "copy",
    "keys",
    "folders",
    "create once",
    "large objects",
    "delete",
    "long listings",
];

fn sandbox(repository: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let keys = ["keygen", "--identity", "identity", "--repository-key", "key"];
    let recipient = sandbox.run(&keys).expect(0).stdout;
    let recipient = recipient.trim();
    sandbox
        .write("dbkeeper.toml", &format!("[repository]\n{repository}\n[encryption]\nrecipients = [\"{recipient}\"]\n"));
    sandbox
}

/// Requires that the store keeps every promise but those that are named, and gives what is told of the store.
#[track_caller]
fn check_promises(sandbox: &Sandbox, limits: &[&str]) -> Value {
    let report: Value =
        serde_json::from_str(&sandbox.run(&["doctor", "--store", "--json"]).expect(0).stdout).expect("JSON");
    let checks = report["checks"].as_array().expect("checks");
    for name in PROMISES {
        let check =
            checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name}: {report:#}"));
        let expected = if limits.contains(&name) { "warn" } else { "ok" };
        assert_eq!(check["status"], expected, "{check:#}");
    }
    report
}

#[test]
fn a_folder_keeps_every_promise_and_is_left_as_it_was() {
    let place = tempfile::tempdir().expect("a folder");
    let sandbox = sandbox(&format!("url = \"file://{}\"", place.path().display()));
    let report = check_promises(&sandbox, &[]);
    assert_eq!(report["result"], "ok", "{report:#}");
    let left = std::process::Command::new("find").arg(place.path()).args(["-type", "f"]).output().expect("run find");
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
    let said = sandbox.run(&["doctor", "--store"]).expect(0);
    assert!(said.stdout.contains("keeps every promise that backups rest on"), "{}", said.stdout);
}

#[test]
fn seaweedfs_keeps_every_promise_of_backups() {
    let seaweed = Seaweed::shared();
    let options = seaweed.options();
    let secret = |secret: Option<dbkeeper::base::secret::Secret>| secret.expect("a login").reveal().to_owned();
    let sandbox = sandbox(&format!(
        "url = \"s3://{}/{}\"\nendpoint = \"{}\"\nregion = \"us-east-1\"\npath_style = true\n\
         access_key_id = {{ file = \"s3_id\" }}\nsecret_access_key = {{ file = \"s3_secret\" }}",
        options.bucket, options.prefix, seaweed.endpoint
    ));
    sandbox.write("s3_id", &secret(options.access_key_id));
    sandbox.write("s3_secret", &secret(options.secret_access_key));
    let report = check_promises(&sandbox, &[]);
    assert!(report["checks"].as_array().expect("checks").iter().any(|check| check["name"] == "checksums"));
}
