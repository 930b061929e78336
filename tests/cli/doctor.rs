//! `doctor`: every line that is not ok says what to type, and typing it makes the line ok.

use std::sync::OnceLock;

use serde_json::Value;

use crate::support::cli::Sandbox;
use crate::support::postgres::Cluster;
use crate::support::seaweed::Seaweed;

/// A server with a lock table of 500 places, for all tests here.
fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| Cluster::start(&["max_connections=50", "max_locks_per_transaction=10"]))
}

/// A repository, its keys, and a configuration that lists these tenants.
struct World {
    sandbox: Sandbox,
    recipient: String,
}

impl World {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let ended = sandbox.run(&["keygen", "--identity", "identity", "--repository-key", "key"]).expect(0);
        std::fs::create_dir(sandbox.path("repository")).expect("a folder");
        let world = Self { sandbox, recipient: ended.stdout.trim().to_owned() };
        world.configure("postgres", &["none"], "");
        world.sandbox.run(&["init"]).expect(0);
        world
    }

    /// Writes the configuration: who logs in, and the databases.
    fn configure(&self, role: &str, tenants: &[&str], more: &str) {
        self.configure_server(&format!("postgres://{role}@127.0.0.1:{}", cluster().port), tenants, more);
    }

    fn configure_server(&self, url: &str, tenants: &[&str], more: &str) {
        let repository = format!("url = \"file://{}\"", self.sandbox.path("repository").display());
        let server = format!("name = \"pg\"\nurl = \"{url}\"\nconnections = 4\n{more}");
        self.write(&repository, &self.recipient, &server, tenants);
    }

    fn write(&self, repository: &str, recipient: &str, server: &str, tenants: &[&str]) {
        let text = format!(
            "[repository]\n{repository}\nkey = {{ file = \"key\" }}\n\
             [encryption]\nrecipients = [\"{recipient}\"]\nidentity = {{ file = \"identity\" }}\n\
             [[servers]]\n{server}\n[tenants]\nserver = \"pg\"\ndiscover = {{ list = {tenants:?} }}\n"
        );
        self.sandbox.write("dbkeeper.toml", &text);
    }

    /// The checks, after the exit code has been found as expected.
    #[track_caller]
    fn doctor(&self, code: i32) -> Vec<Value> {
        let ended = self.sandbox.run(&["doctor", "--json"]).expect(code);
        let report: Value = serde_json::from_str(&ended.stdout).expect("one JSON document");
        let worst = if code == 0 { &["ok", "warn"][..] } else { &["fail"][..] };
        assert!(worst.contains(&report["result"].as_str().expect("a result")), "{report}");
        report["checks"].as_array().expect("checks").clone()
    }
}

/// The lines of one check.
fn named<'a>(checks: &'a [Value], group: &str, name: &str) -> Vec<&'a Value> {
    checks.iter().filter(|check| check["group"] == group && check["name"] == name).collect()
}

#[track_caller]
fn check_line(checks: &[Value], place: (&str, &str), status: &str, words: &str) {
    let lines = named(checks, place.0, place.1);
    let fits = |line: &&&Value| line["status"] == status && line["message"].as_str().expect("text").contains(words);
    assert!(lines.iter().any(|line| fits(&line)), "no {status} {place:?} with {words:?} in {checks:#?}");
}

/// What to type for every check that failed.
fn fixes(checks: &[Value]) -> Vec<String> {
    let failed = checks.iter().filter(|check| check["status"] == "fail");
    failed.map(|check| check["fix"].as_str().expect("a fix").to_owned()).collect()
}

fn role(name: &str) -> String {
    cluster().psql("postgres", &format!("create role {name} login nosuperuser"));
    name.to_owned()
}

#[test]
fn where_all_is_well_every_group_says_so_and_nothing_stays_in_the_store() {
    let world = World::new();
    let database = cluster().create_database("doctor_well");
    cluster().psql(&database, "create table t (x int)");
    world.configure("postgres", &[&database], "");
    let checks = world.doctor(0);
    for (group, name, words) in [
        ("config", "secrets", "all 2 can be read"),
        ("store", "probe", "was put, read and listed in"),
        ("store", "delete", "was deleted again"),
        ("store", "repository", "is there"),
        ("keys", "repository key", "fits"),
        ("keys", "recipients", "1 configured"),
        ("keys", "identity", "is that of a configured recipient"),
        ("clock", "retention", "UTC"),
        ("servers", "pg", "without TLS, no pooler"),
        ("servers", "pg role", "a superuser"),
        ("servers", "pg pg_dump", "/pg_dump"),
        ("servers", "pg pg_restore", "/pg_restore"),
        ("servers", "pg locks", "have 1 tables to lock, the server has room for 500"),
        ("registry", "tenants", "1 tenants can be backed up"),
        ("tenants", "rights", "1 of 1 databases can be read whole"),
    ] {
        check_line(&checks, (group, name), "ok", words);
    }
    assert!(!world.sandbox.path("repository/probe").exists());
    let ended = world.sandbox.run(&["doctor"]).expect(0);
    assert!(ended.stdout.contains("ok    tenants    rights: 1 of 1 databases"), "{}", ended.stdout);
    assert!(ended.stderr.contains("0 failures\nnext: dbkeeper backup --all\n"), "{}", ended.stderr);
}

/// Everything that can be closed to a role, twice over.
const CLOSED: &str = "create schema \"od\"\"d\"; create table \"od\"\"d\".\"t t\" (x int); create table open (x int);
    create table closed (x int); create sequence counter; create table policed (x int); alter table policed enable row level security;
    select lo_from_bytea(0, 'x'); grant select on open, policed to ";

#[test]
fn what_is_printed_for_missing_rights_closes_every_gap() {
    let world = World::new();
    let role = role("doctor_poor");
    let database = cluster().create_database("doctor_poor");
    let [one, other] = [database.as_str(), "doctor-poor 'x' y"];
    cluster().psql("postgres", &format!("create database \"{other}\" template template0"));
    for database in [one, other] {
        cluster().psql(database, &format!("{CLOSED}{role};"));
    }
    cluster().psql("postgres", &format!("revoke connect on database \"{other}\" from public"));
    world.configure(&role, &[one, other], "");
    let checks = world.doctor(3);
    check_line(&checks, ("tenants", "login"), "fail", &format!("permission denied for database \"{other}\""));
    let missing = "may not read schema \"od\"\"d\", table \"od\"\"d\".\"t t\", table \"public\".\"closed\"";
    check_line(&checks, ("tenants", "rights"), "fail", missing);
    check_line(&checks, ("tenants", "rights"), "ok", "0 of 2 databases");
    check_line(&checks, ("tenants", "large objects"), "fail", "may not read 1 large objects");
    check_line(&checks, ("tenants", "hidden rows"), "fail", "of table \"public\".\"policed\"");
    world.sandbox.run(&["backup", "--all"]).expect(3);
    let mut checks = checks;
    for _ in 0..2 {
        fixes(&checks).iter().for_each(|fix| drop(cluster().psql("postgres", fix)));
        checks = world.doctor(if named(&checks, "tenants", "login").is_empty() { 0 } else { 3 });
    }
    check_line(&checks, ("tenants", "rights"), "ok", "2 of 2 databases");
    assert!(fixes(&checks).is_empty());
    world.sandbox.run(&["backup", "--all"]).expect(0);
}

#[test]
fn an_equal_cause_in_many_databases_is_one_line_with_one_statement() {
    let world = World::new();
    let role = role("doctor_many");
    let databases: Vec<String> = (0..6).map(|_| cluster().create_database("doctor_many")).collect();
    for database in &databases {
        cluster().psql(database, "create table closed (x int); create sequence s");
    }
    let names: Vec<&str> = databases.iter().map(String::as_str).collect();
    world.configure(&role, &names, "");
    let checks = world.doctor(3);
    check_line(&checks, ("tenants", "rights"), "fail", "6 databases (tenant ");
    assert_eq!(fixes(&checks), ["GRANT pg_read_all_data TO \"doctor_many\";"]);
    let ended = world.sandbox.run(&["doctor", "--quiet"]).expect(3);
    assert!(
        ended.stdout.contains("\n                 fix: GRANT pg_read_all_data TO \"doctor_many\";\n"),
        "{}",
        ended.stdout
    );
    cluster().psql("postgres", &fixes(&checks)[0]);
    world.doctor(0);
}

#[test]
fn a_lock_table_that_is_too_small_says_how_large_it_must_be() {
    let world = World::new();
    let database = cluster().create_database("doctor_locks");
    cluster().psql(&database, "select format('create table t%s ()', n) from generate_series(1, 501) n \\gexec");
    world.configure("postgres", &[&database], "");
    let checks = world.doctor(3);
    check_line(&checks, ("servers", "pg locks"), "fail", "501 tables to lock, the server has room for 500");
    let fix = fixes(&checks).remove(0);
    assert_eq!(fix, "ALTER SYSTEM SET max_locks_per_transaction = 84; -- and restart the server");
    cluster().psql("postgres", &fix);
    cluster().psql("postgres", "alter system reset max_locks_per_transaction");
}

#[test]
fn a_database_that_is_not_there_fails_that_tenant() {
    let world = World::new();
    let database = cluster().create_database("doctor_there");
    world.configure("postgres", &[&database, "doctor_nowhere"], "");
    let checks = world.doctor(3);
    check_line(&checks, ("registry", "row without database"), "fail", "no database \"doctor_nowhere\"");
    check_line(&checks, ("tenants", "rights"), "ok", "1 of 1");
}

#[test]
fn each_kind_of_failure_has_its_exit_code_and_the_others_are_still_checked() {
    let world = World::new();
    let database = cluster().create_database("doctor_codes");
    world.configure_server("postgres://postgres@127.0.0.1:1", &[&database], "");
    let checks = world.doctor(13);
    check_line(&checks, ("servers", "pg"), "fail", "refused");
    check_line(&checks, ("keys", "repository key"), "ok", "fits");

    std::fs::create_dir(world.sandbox.path("empty")).expect("a folder");
    world.configure("postgres", &[&database], "client_bin = \"empty\"");
    let checks = world.doctor(6);
    check_line(&checks, ("servers", "pg pg_dump"), "fail", "there is no pg_dump in");
    check_line(&checks, ("tenants", "rights"), "ok", "1 of 1");

    world.configure("postgres", &[&database], "password = { file = \"missing\" }");
    let checks = world.doctor(2);
    check_line(&checks, ("config", "secrets"), "fail", "missing cannot be read");

    world.configure("postgres", &[&database], "");
    world.sandbox.run(&["keygen", "--identity", "identity2", "--repository-key", "key2"]).expect(0);
    world.sandbox.write("key", &world.sandbox.read("key2"));
    let checks = world.doctor(12);
    check_line(&checks, ("keys", "repository key"), "fail", "does not fit the repository");
    check_line(&checks, ("tenants", "rights"), "ok", "1 of 1");

    std::fs::remove_file(world.sandbox.path("repository/dbkeeper.json")).expect("remove it");
    check_line(&world.doctor(10), ("store", "repository"), "fail", "no repository at");
    std::fs::remove_dir_all(world.sandbox.path("repository")).expect("remove it");
    check_line(&world.doctor(10), ("store", "probe"), "fail", "does not exist");

    world.sandbox.write("dbkeeper.toml", "nonsense");
    check_line(&world.doctor(2), ("config", "file"), "fail", "nonsense");
}

#[test]
fn leftovers_of_restores_are_told_and_left_alone() {
    let world = World::new();
    let live = cluster().create_database("doctor_live");
    let former = format!("{live}__before_20260131T235959Z");
    let unfinished = format!("{live}__restore_20260131T235959Z");
    for name in [&former, &unfinished] {
        cluster().psql("postgres", &format!("create database \"{name}\" template template0"));
    }
    let mark = format!("dbkeeper restore {{\"destination\":\"{live}\",\"run\":\"r1\"}}");
    cluster().psql("postgres", &format!("comment on database \"{unfinished}\" is '{mark}'"));
    world.configure("postgres", &[&live], "");
    let count = format!("select count(*) from pg_database where datname like '{live}%'");
    for words in [format!("is what \"{live}\" was"), "is an unfinished restore".to_owned()] {
        let checks = world.doctor(0);
        check_line(&checks, ("leftovers", "pg"), "warn", &words);
        assert_eq!(cluster().psql("postgres", &count).trim(), if words.contains("unfinished") { "2" } else { "3" });
        let of_ours = |check: &&&Value| check["message"].as_str().expect("text").contains(&words);
        let lines = named(&checks, "leftovers", "pg");
        let fix = lines.iter().find(of_ours).expect("it")["fix"].as_str().expect("a fix").to_owned();
        cluster().psql("postgres", &fix);
    }
    assert_eq!(cluster().psql("postgres", &count).trim(), "1");
}

#[test]
fn a_bucket_is_probed_and_its_keys_are_tried_on_a_real_backup() {
    let world = World::new();
    let database = cluster().create_database("doctor_s3");
    let server = format!("name = \"pg\"\nurl = \"postgres://postgres@127.0.0.1:{}\"\nconnections = 4", cluster().port);
    let options = Seaweed::shared().options();
    let secret = |secret: &Option<dbkeeper::base::secret::Secret>| secret.as_ref().expect("one").reveal().to_owned();
    world.sandbox.write("access", &secret(&options.access_key_id));
    world.sandbox.write("secret", &secret(&options.secret_access_key));
    let repository = format!(
        "url = \"s3://{}/{}\"\nendpoint = \"{}\"\nregion = \"us-east-1\"\npath_style = true\n\
         access_key_id = {{ file = \"access\" }}\nsecret_access_key = {{ file = \"secret\" }}",
        options.bucket,
        options.prefix,
        Seaweed::shared().endpoint
    );
    world.write(&repository, &world.recipient, &server, &[&database]);
    world.sandbox.run(&["init"]).expect(0);
    world.sandbox.run(&["backup", "--all"]).expect(0);
    let checks = world.doctor(0);
    check_line(&checks, ("store", "probe"), "ok", "was put, read and listed in");
    check_line(&checks, ("clock", "store"), "ok", "the store's clock is ");
    check_line(&checks, ("store", "vaults"), "ok", "1 targets have a vault");
    check_line(&checks, ("keys", "vault keys"), "ok", "the keys of 1 vaults verify");
    check_line(&checks, ("keys", "recipients"), "ok", "every vault is sealed to them");
    check_line(&checks, ("keys", "identity"), "ok", &format!("opens the vault of tenant {database}"));

    let other = world.sandbox.run(&["keygen", "--identity", "identity2", "--repository-key", "key2"]).expect(0);
    world.write(&repository, other.stdout.trim(), &server, &[&database]);
    let checks = world.doctor(0);
    check_line(&checks, ("keys", "recipients"), "warn", &format!("is sealed to {}", world.recipient));

    world.sandbox.write("identity", &world.sandbox.read("identity2"));
    check_line(&world.doctor(12), ("keys", "identity"), "fail", "none of the given identities opens");

    world.sandbox.write("secret", "wrong");
    check_line(&world.doctor(10), ("store", "probe"), "fail", "SignatureDoesNotMatch");
}
