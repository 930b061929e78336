//! Format version 1: the committed repository opens for ever, and what is written today is still of this version. A reader in
//! another language, which knows the format only from its specification, agrees on both.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use super::world::{SHOP, World};
use crate::support::cli::Sandbox;
use crate::support::postgres::Cluster;

/// A tenant whose name is no object key, with all that the format can hold.
const ACME: &str = "Acme & Co";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("UTF-8")
}

/// What the reader says of a repository; `Err` with its words where it refuses.
fn read(repository: &Path, identity: &Path, key: Option<&Path>) -> Result<Value, String> {
    let mut command = Command::new("python3");
    command
        .arg("-B")
        .arg(folder().join("reader.py"))
        .arg("--repository")
        .arg(repository)
        .arg("--identity")
        .arg(identity);
    if let Some(key) = key {
        command.arg("--repository-key").arg(key);
    }
    let output = run(&mut command);
    let words = text(output.stderr);
    if !output.status.success() {
        return Err(words);
    }
    Ok(serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {words}")))
}

/// A copy of the golden repository with a configuration: nothing here can touch what is committed.
struct Golden(Sandbox);

impl Golden {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let from = folder().join("v1/.");
        assert!(run(Command::new("cp").arg("-r").arg(from).arg(sandbox.folder())).status.success());
        let (cluster, place) = (Cluster::shared(), sandbox.path("repository"));
        let known = expected();
        let recipient = text(run(Command::new("age-keygen").arg("-y").arg(sandbox.path("identity.txt"))).stdout);
        sandbox.write(
            "dbkeeper.toml",
            &format!(
                "[repository]\nurl = \"file://{}\"\nkey = {{ file = \"repository.key\" }}\n\n[encryption]\nrecipients = [\"{}\"]\n\
                 identity = {{ file = \"identity.txt\" }}\n\n[[servers]]\nname = \"pg\"\nurl = \"postgres://postgres@127.0.0.1:{}\"\n\
                 sslmode = \"disable\"\nclient_bin = \"{}\"\n\n[tenants]\nserver = \"pg\"\ndiscover = {{ list = [\"none\"] }}\n",
                place.display(),
                recipient.trim(),
                cluster.port,
                cluster.bin.display()
            ),
        );
        assert_eq!(known["verified"], true);
        Self(sandbox)
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.0.run(arguments).expect(0).stdout).expect("JSON")
    }

    fn read(&self, key: Option<&str>) -> Result<Value, String> {
        let key = key.map(|key| self.0.path(key));
        read(&self.0.path("repository"), &self.0.path("identity.txt"), key.as_deref())
    }
}

fn expected() -> Value {
    let file = folder().join("v1/expected.json");
    serde_json::from_str(&std::fs::read_to_string(file).expect("what is known of it")).expect("JSON")
}

fn vault<'a>(said: &'a Value, name: &str) -> &'a Value {
    let vaults = said["vaults"].as_array().expect("vaults");
    vaults.iter().find(|vault| vault["target"]["name"] == name).unwrap_or_else(|| panic!("no vault {name}"))
}

fn newest<'a>(said: &'a Value, name: &str) -> &'a Value {
    vault(said, name)["backups"].as_array().expect("backups").last().expect("a backup")
}

/// Requires that the tables of a database hold the rows that the reader found, in any order.
#[track_caller]
fn check_tables(cluster: &Cluster, database: &str, backup: &Value) {
    let tables = backup["tables"].as_object().expect("tables");
    for (name, known) in tables {
        let (schema, table) = name.split_once('.').expect("a schema");
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let columns = cluster.psql(
            database,
            &format!(
                "select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute \
                 where attrelid = '{}.{}'::regclass and attnum > 0 and not attisdropped and attgenerated = ''",
                quoted(schema),
                quoted(table).replace('\'', "''")
            ),
        );
        let copy = format!("copy (select {} from only {}.{}) to stdout", columns.trim(), quoted(schema), quoted(table));
        let rows = cluster.psql(database, &copy);
        let mut lines: Vec<&str> = rows.split_inclusive('\n').collect();
        lines.sort_unstable_by_key(|line| line.trim_end_matches('\n').as_bytes());
        let sum = dbkeeper::codec::digest::sha256(lines.concat().as_bytes());
        assert_eq!(Value::from(lines.len()), known["rows"], "rows of {name}");
        assert_eq!(Value::from(sum.to_string()), known["sorted_sha256"], "content of {name}");
    }
}

#[test]
fn the_repository_of_version_1_is_listed_proven_restored_and_exported() {
    let (golden, known, cluster) = (Golden::new(), expected(), Cluster::shared());
    let listed = golden.json(&["list", "--json"]);
    let ids = |backups: &Value| -> Vec<String> {
        backups.as_array().expect("backups").iter().map(|b| b["id"].as_str().expect("an id").to_owned()).collect()
    };
    let mut all: Vec<String> =
        known["vaults"].as_array().expect("vaults").iter().flat_map(|vault| ids(&vault["backups"])).collect();
    let mut found = ids(&listed);
    all.sort();
    found.sort();
    assert_eq!(found, all);
    let report = golden.json(&["verify", "--read-data", "--json"]);
    assert_eq!(report["result"], "ok", "{report:#}");
    for (number, backup) in vault(&known, ACME)["backups"].as_array().expect("backups").iter().enumerate() {
        let (name, id) = (format!("golden_v1_restored_{number}"), backup["id"].as_str().expect("an id"));
        golden.0.run(&["restore", "--tenant", ACME, "--as", &name, "--backup", id, "--yes"]).expect(0);
        check_tables(cluster, &name, backup);
    }
    golden.0.run(&["export", "--tenant", ACME, "--output", "acme.sql"]).expect(0);
    let database = cluster.create_database("golden_v1_exported");
    cluster.psql(&database, &golden.0.read("acme.sql"));
    check_tables(cluster, &database, newest(&known, ACME));
    let sequence = "select last_value, is_called from tickets";
    assert_eq!(cluster.psql(&database, sequence), "9223372036854775001|t\n");
}

#[test]
fn a_reader_that_shares_no_code_finds_the_same_and_sees_damage() {
    let golden = Golden::new();
    assert_eq!(golden.read(Some("repository.key")).expect("it reads"), expected());
    let mut without = golden.read(None).expect("it reads without the repository key");
    assert_eq!(without["verified"], false);
    assert_eq!(newest(&without, ACME)["tables"], newest(&expected(), ACME)["tables"]);
    without["verified"] = Value::Null;
    let id = newest(&expected(), ACME)["id"].as_str().expect("an id").to_owned();
    let marker = golden.0.path(&format!("repository/vaults/tenant/~41cme~20~26~20~43o/backups/{id}/backup.json"));
    let good = std::fs::read_to_string(&marker).expect("a marker");
    let rows = format!("\"rows\":{}", newest(&expected(), ACME)["rows"]);
    assert!(good.contains(&rows), "{good}");
    std::fs::write(&marker, good.replace(&rows, "\"rows\":1")).expect("write");
    let refusal = golden.read(Some("repository.key")).expect_err("a forged marker");
    assert!(refusal.contains("does not verify"), "{refusal}");
}

#[test]
fn what_is_written_today_is_read_by_the_reader_of_version_1() {
    let world = World::shared();
    world.tenant("acme", SHOP);
    world.run(&["init"]).expect(0);
    world.backup();
    world
        .cluster()
        .psql(&world.db("acme"), "delete from orders where id % 7 = 0; insert into customers (name) values ('new')");
    world.backup();
    let path = |name: &str| world.sandbox.path(name);
    let said = read(&path("repository"), &path("identity.txt"), Some(&path("repository.key"))).expect("it reads");
    assert_eq!(vault(&said, "acme")["backups"].as_array().map(Vec::len), Some(2));
    check_tables(world.cluster(), &world.db("acme"), newest(&said, "acme"));
    check_tables(world.cluster(), &world.central, newest(&said, "central"));
}
