//! The words of the command line: what is accepted, what is refused, and what help says.

use clap::Parser;
use dbkeeper::cli::arguments::Arguments;

use crate::end_to_end::nothing_readable::VERBS;
use crate::support::cli::Sandbox;

const BACKUP: &str = "20261121T091500Z-d336h-3fa9c2d1";

fn parses(line: &str) -> bool {
    let words = line.replace("BACKUP", BACKUP);
    Arguments::try_parse_from(std::iter::once("dbkeeper").chain(words.split(' '))).is_ok()
}

#[test]
fn every_command_line_of_the_contract_is_accepted() {
    for line in [
        "keygen --identity a --repository-key b",
        "init",
        "doctor",
        "doctor --json",
        "doctor --store --json",
        "config check",
        "config show --json",
        "config schema",
        "backup --all",
        "backup --central --tenant a --tenant b --volume media --shard 0/4 --keep 7d --json",
        "list",
        "list --tenant acme --json",
        "list --central",
        "list --volume media",
        "show BACKUP",
        "restore --tenant acme",
        "restore --central --dry-run",
        "restore --volume media --as /srv/restored",
        "restore --all --yes --at 2026-11-21T09:15:00Z --server new",
        "restore --tenant acme --as acme_old --server other --backup BACKUP --table a --table public.b --schema-only",
        "restore --tenant acme --as quarantine --no-owner --yes",
        "restore --tenant acme --no-swap --without-repository-key --json",
        "verify",
        "verify --read-packs --read-data --tenant acme --json",
        "verify --checkpoint seen.txt",
        "verify --read-packs --sample 0.5% --max-duration 1h --older-than 7d --no-record",
        "checkpoint",
        "checkpoint --output seen.txt",
        "restore --tenant acme --checkpoint seen.txt",
        "drill --all --server scratch",
        "drill --central --tenant a --tenant b --server scratch --evidence folder --json",
        "drill --sample 3 --server scratch --on-live-server --no-record",
        "drill --oldest-proof 10 --server scratch",
        "export --tenant acme --output -",
        "export --central --output central.sql",
        "export --tenant acme --backup BACKUP --output acme.sql",
        "keys list",
        "keys list --tenant acme --json",
        "keys reseal --central",
        "keys rotate --json",
        "copy --to second",
        "copy --to second --tenant acme --json",
        "--repository second list",
        "restore --tenant acme --repository second",
        "--config other.toml -v list",
        "list --config other.toml -q --log-format json",
    ] {
        assert!(parses(line), "dbkeeper {line}");
    }
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for line in [
        "backup",
        "backup --shard 4/4 --all",
        "backup --all --keep 7",
        "list --tenant a --central",
        "show yesterday",
        "restore",
        "restore --tenant a --tenant b",
        "restore --tenant a --all",
        "restore --all --as x",
        "restore --all --backup BACKUP",
        "restore --tenant a --at 2026-11-21T09:15:00Z --backup BACKUP",
        "restore --tenant a --at tomorrow",
        "verify --sample 5",
        "verify --sample 5% --checkpoint seen.txt",
        "verify --sample 101%",
        "drill --tenant a",
        "drill --server scratch",
        "drill --sample 0 --server scratch",
        "drill --sample 3 --tenant a --server scratch",
        "drill --sample 3 --oldest-proof 3 --server scratch",
        "export --tenant a",
        "export --output -",
        "export --tenant a --central --output -",
        "list -v -q",
        "keygen --identity a",
        "help",
    ] {
        assert!(!parses(line), "dbkeeper {line}");
    }
}

#[test]
fn the_help_of_every_verb_is_data_and_tells_the_exit_codes() {
    let sandbox = Sandbox::new();
    let verbs = [
        "",
        "keygen",
        "init",
        "doctor",
        "config",
        "backup",
        "list",
        "show",
        "restore",
        "verify",
        "drill",
        "export",
        "copy",
        "keys",
        "checkpoint",
    ];
    for verb in verbs {
        let arguments: Vec<&str> = [verb, "--help"].into_iter().filter(|word| !word.is_empty()).collect();
        let ended = sandbox.run(&arguments).expect(0);
        assert_eq!(ended.stderr, "", "{verb}");
        for code in ["0", "1", "2", "3", "4", "5", "6", "10", "12", "13", "15", "124", "130", "143"] {
            let told = ended
                .stdout
                .split_once("Exit codes:")
                .is_some_and(|(_, codes)| codes.split_whitespace().any(|word| word == code));
            assert!(told, "{verb} --help does not tell {code}");
        }
    }
    let version = sandbox.run(&["--version"]).expect(0);
    assert_eq!(version.stdout, format!("dbkeeper {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_words_are_talk_and_end_with_2() {
    let sandbox = Sandbox::new();
    for (arguments, told) in [
        (&["bakcup"][..], "a similar subcommand exists: 'backup'"),
        (&["list", "--jsno"], "a similar argument exists: '--json'"),
        (&["backup", "--shard", "9/3", "--all"], "\"9/3\" is not a shard I/N with I from 0 to N - 1"),
        (&[], "Usage: dbkeeper"),
    ] {
        let ended = sandbox.run(arguments).expect(2);
        assert_eq!(ended.stdout, "");
        assert!(ended.stderr.contains(told), "{}", ended.stderr);
    }
}

#[test]
fn a_volume_is_refused_as_long_as_none_is_copied() {
    let sandbox = Sandbox::new();
    for arguments in
        [&["backup", "--volume", "media"][..], &["list", "--volume", "media"], &["restore", "--volume", "media"]]
    {
        let ended = sandbox.run(arguments).expect(2);
        let error = "error: volume media cannot be selected: volumes are not supported yet";
        assert_eq!(ended.stderr, format!("{error}\n\nhint: select databases with --central, --tenant or --all\n"));
    }
}

/// Who adds a verb adds it to [`VERBS`]: so it is run at `trace` level over planted secrets, and what it says is searched.
#[test]
fn every_verb_is_run_over_planted_secrets() {
    let help = Sandbox::new().run(&["--help"]).expect(0).stdout;
    let listed = help.split("Commands:\n").nth(1).expect("the verbs").lines().take_while(|line| !line.is_empty());
    for verb in listed.filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next()) {
        assert!(VERBS.iter().any(|words| words[0] == verb), "tests/end_to_end/nothing_readable.rs does not run {verb}");
    }
}
