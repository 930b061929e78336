//! `keygen`: two files that only their owner reads, and one line for the configuration.

use std::os::unix::fs::PermissionsExt;

use dbkeeper::base::repository_key::RepositoryKey;

use crate::support::cli::Sandbox;

const BOTH: [&str; 5] = ["keygen", "--identity", "identity", "--repository-key", "key"];

#[test]
fn keygen_prints_the_recipient_of_the_identity_that_it_wrote_and_nothing_else_on_standard_output() {
    let sandbox = Sandbox::new();
    let ended = sandbox.run(&BOTH).expect(0);
    let recipient = ended.stdout.strip_suffix('\n').expect("one line");
    let identity = sandbox.read("identity");
    let secret = identity.lines().find(|line| !line.starts_with('#')).expect("the identity");
    let parsed: age::x25519::Identity = secret.parse().expect("an age identity");
    assert_eq!(parsed.to_public().to_string(), recipient);
    assert!(identity.contains(&format!("# recipient: {recipient}\n")), "the file says whose it is");
    assert!(!ended.stderr.contains(secret), "a secret is not for the terminal");
    assert!(ended.stderr.contains("identity") && ended.stderr.contains("[repository] key"), "{}", ended.stderr);
}

#[test]
fn keygen_writes_a_repository_key_of_one_line_and_another_each_time() {
    let sandbox = Sandbox::new();
    sandbox.run(&BOTH).expect(0);
    sandbox.run(&["keygen", "-q", "--identity", "identity2", "--repository-key", "key2"]).expect(0);
    let first = sandbox.read("key");
    assert_eq!(first.lines().count(), 1);
    assert!(RepositoryKey::parse(&first).is_ok());
    assert_ne!(first, sandbox.read("key2"));
    for file in ["identity", "key", "identity2", "key2"] {
        let mode = std::fs::metadata(sandbox.path(file)).expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[test]
fn keygen_overwrites_nothing_and_leaves_no_half() {
    for existing in ["identity", "key"] {
        let sandbox = Sandbox::new();
        sandbox.write(existing, "mine");
        let ended = sandbox.run(&BOTH).expect(2);
        let hint = "hint: a key that is overwritten is lost: name a new file";
        assert_eq!(ended.stderr, format!("error: {existing} exists already\n\n{hint}\n"));
        assert_eq!(ended.stdout, "");
        assert_eq!(sandbox.read(existing), "mine");
        assert_eq!(std::fs::read_dir(sandbox.folder()).expect("the folder").count(), 1, "only {existing} is there");
    }
    let sandbox = Sandbox::new();
    sandbox.run(&["keygen", "--identity", "same", "--repository-key", "same"]).expect(2);
    sandbox.run(&["keygen", "--identity", "identity", "--repository-key", "missing/key"]).expect(2);
    assert_eq!(std::fs::read_dir(sandbox.folder()).expect("the folder").count(), 0, "nothing is left behind");
}

#[test]
fn a_generated_pair_satisfies_config_check() {
    let sandbox = Sandbox::new();
    let recipient = sandbox.run(&BOTH).expect(0).stdout;
    sandbox.write(
        "dbkeeper.toml",
        &format!(
            "[repository]\nurl = \"file:///srv\"\nkey = {{ file = \"key\" }}\n[encryption]\nrecipients = [\"{}\"]\n\
             identity = {{ file = \"identity\" }}\n",
            recipient.trim()
        ),
    );
    let ended = sandbox.run(&["config", "check"]).expect(0);
    assert_eq!(ended.stderr, "dbkeeper.toml is good: repository file:///srv, 0 server(s)\n");
}
