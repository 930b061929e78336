//! Promise 2: what is wrong with one tenant, a server, a key, a program or a name is said in its own words, has its own exit
//! code, and hurts nothing else.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use super::world::{REPOSITORY, SHOP, World, target};

/// A port at which nobody listens.
fn dead_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("its address").port()
}

#[test]
fn a_database_without_files_on_the_same_server_stops_no_backup() {
    let world = World::with_shops();
    let (cluster, gone) = (world.cluster(), world.cluster().create_database("gone"));
    let oid = cluster.psql(&gone, "select oid from pg_database where datname = current_database()");
    cluster.psql("postgres", "checkpoint");
    // What an interrupted DROP DATABASE leaves.
    std::fs::remove_dir_all(cluster.folder.join("data/base").join(oid.trim())).expect("its folder");
    assert_eq!(cluster.psql("postgres", &format!("select pg_database_size('{gone}') is null")), "t\n");
    world.run(&["backup", "--all"]).expect(0);
    cluster.psql("postgres", &format!("drop database {gone}"));
}

#[test]
fn broken_tenants_are_named_with_the_servers_words_and_the_others_are_protected() {
    let world = World::with_shops();
    let role = world.prefix.replace("t_", "keeper");
    world.cluster().psql(
        "postgres",
        &format!(
            "create role {role} login; grant connect on database {}, {}, {} to {role}",
            world.central,
            world.db("acme"),
            world.db("globex")
        ),
    );
    for database in [world.central.clone(), world.db("acme")] {
        world.cluster().psql(&database, &format!("grant select on all tables in schema public to {role}"));
        world.cluster().psql(&database, &format!("grant select on all sequences in schema public to {role}"));
    }
    world.cluster().psql(&world.db("globex"), &format!("grant select on customers to {role}"));
    world.register("lost", "{}");
    world.register("broken", "{\"tenancy_db_name\": ");
    world.register("", "{}");
    world.reconfigure("postgres@", &format!("{role}@"));
    let report = world.json(&["backup", "--all", "--json"], 3);
    assert_eq!(report["result"], "partial");
    assert_eq!(
        (target(&report, "acme")["result"].as_str(), target(&report, "central")["result"].as_str()),
        (Some("ok"), Some("ok"))
    );
    for (name, words, hint) in
        [("globex", "permission denied for", "GRANT"), ("lost", "nothing to back up", ""), ("broken", "no JSON", "")]
    {
        let told = target(&report, name);
        assert_eq!((told["result"].as_str(), told["backup_id"].is_null()), (Some("failed"), true), "{name}");
        assert!(told["reason"].as_str().expect("a reason").contains(words), "{name}: {}", told["reason"]);
        assert!(told["hint"].as_str().unwrap_or_default().contains(hint), "{name}: {}", told["hint"]);
    }
    assert_eq!(report["unprotected"].as_array().map(Vec::len), Some(1), "the tenant without a name: {report:#}");
    let listed = world.json(&["list", "--json"], 0);
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "a failed target commits nothing");
    // For people: the words, the hint and the names stand in the summary.
    let said = world.run(&["backup", "--all"]).expect(3).stderr;
    for words in ["globex", "permission denied for", "GRANT", "lost", "broken", "ok 2, failed 4", "tenant globex: "] {
        assert!(said.contains(words), "{words:?} is missing:\n{said}");
    }
    assert_eq!(said.matches("its key is empty").count(), 1, "each failure is said once:\n{said}");
}

#[test]
fn a_tenant_that_cannot_even_be_named_makes_the_run_fail() {
    let world = World::with_shops();
    world.register("", "{}");
    let report = world.json(&["backup", "--all", "--json"], 3);
    assert_eq!((report["result"].as_str(), report["totals"]["failed"].as_u64()), (Some("partial"), Some(1)));
}

#[test]
fn a_configured_volume_that_nobody_copies_is_never_a_success() {
    let world = World::with_shops();
    world.reconfigure("[retention]", "[[volumes]]\nname = \"media\"\npath = \"/srv/media\"\n\n[retention]");
    let ended = world.run(&["backup", "--all"]).expect(3);
    assert!(ended.stderr.contains("volume media is configured"), "{}", ended.stderr);
}

#[test]
fn an_unreachable_server_ends_with_13() {
    let world = World::with_shops();
    // The tenants' server is gone: named tenants are all that was asked for.
    let port = dead_port();
    let server = format!(
        "[[servers]]\nname = \"gone\"\nurl = \"postgres://postgres@127.0.0.1:{port}\"\nsslmode = \"disable\"\n\n[central]"
    );
    world.reconfigure("[central]", &server);
    for name in ["initech", "hooli"] {
        world.register(name, &format!("{{\"tenancy_db_host\": \"127.0.0.1\", \"tenancy_db_port\": {port}}}"));
    }
    let ended = world.run(&["backup", "--tenant", "initech", "--tenant", "hooli"]).expect(13);
    assert!(ended.stderr.contains("server \"gone\"") && ended.stderr.contains("initech"), "{}", ended.stderr);
    let report = world.json(&["backup", "--all", "--json"], 3);
    assert_eq!(report["totals"]["ok"], 3, "the others are protected: {report:#}");
    assert_eq!(target(&report, "hooli")["result"], "failed");
    // The only server is gone.
    let alive = format!("127.0.0.1:{}\"", world.cluster().port);
    world.reconfigure(&alive, &format!("127.0.0.1:{port}\""));
    let ended = world.run(&["backup", "--all"]).expect(13);
    assert!(ended.stderr.contains("onnection refused"), "{}", ended.stderr);
}

#[test]
fn wrong_keys_and_a_missing_repository_have_their_codes() {
    let world = World::with_shops();
    world.backup();
    let other = ["keygen", "--identity", "other.txt", "--repository-key", "other.key"];
    let recipient = world.run(&other).expect(0).stdout;
    world.reconfigure("\"repository.key\"", "\"other.key\"");
    for arguments in [&["backup", "--all"][..], &["list"], &["verify"], &["restore", "--tenant", "acme", "--yes"]] {
        let said = world.run(arguments).expect(12).stderr;
        assert!(said.contains("the repository key does not fit"), "{said}");
    }
    world.reconfigure("\"other.key\"", "\"repository.key\"");
    world.reconfigure("\"identity.txt\"", "\"other.txt\"");
    let before = world.databases();
    let said = world.run(&["restore", "--tenant", "acme", "--yes"]).expect(12).stderr;
    assert!(said.contains("none of the given identities") && said.contains("sealed to age1"), "{said}");
    assert!(!said.contains(recipient.trim()));
    world.run(&["restore", "--all", "--yes"]).expect(12);
    assert_eq!(world.databases(), before);
    std::fs::rename(world.sandbox.path(REPOSITORY), world.sandbox.path("moved")).expect("move the repository");
    for arguments in [&["backup", "--all"][..], &["list"], &["restore", "--tenant", "acme", "--yes"]] {
        let said = world.run(arguments).expect(10).stderr;
        assert!(said.contains("no repository at") && said.contains("dbkeeper init"), "{said}");
    }
}

#[test]
fn without_a_fitting_client_program_nothing_starts() {
    let world = World::with_shops();
    let bin = format!("client_bin = \"{}\"", world.cluster().bin.display());
    let folder = world.sandbox.path("bin");
    std::fs::create_dir(&folder).expect("a folder");
    world.reconfigure(&bin, "client_bin = \"bin\"");
    let before = world.stored();
    let said = world.run(&["backup", "--all"]).expect(6).stderr;
    assert!(said.contains("there is no pg_dump in") && said.contains("postgresql-client-"), "{said}");
    for program in ["pg_dump", "pg_restore"] {
        let script = world.sandbox.write(
            &format!("bin/{program}"),
            &format!(
                "#!/bin/sh\n[ \"$1\" = --version ] || touch {}\necho '{program} (PostgreSQL) 9.6.24'\n",
                folder.join("started").display()
            ),
        );
        std::fs::set_permissions(script, std::fs::Permissions::from_mode(0o755)).expect("make it run");
    }
    let said = world.run(&["backup", "--all"]).expect(6).stderr;
    assert!(said.contains("9.6.24, older than the server's") && said.contains("postgresql-client-"), "{said}");
    assert_eq!(world.stored(), before, "nothing was begun");
    assert!(!folder.join("started").exists(), "an old program was asked for more than its version");
    // A restore needs its program too, and makes nothing without it.
    world.reconfigure("client_bin = \"bin\"", &bin);
    world.backup();
    world.reconfigure(&bin, "client_bin = \"bin\"");
    let databases = world.databases();
    world.run(&["restore", "--tenant", "acme", "--yes"]).expect(6);
    assert_eq!(world.databases(), databases);
}

#[test]
fn a_name_that_is_not_there_ends_with_2_and_the_nearest_one_and_nothing_at_all_with_4() {
    let world = World::with_shops();
    let said = world.run(&["backup", "--tenant", "globx"]).expect(2).stderr;
    assert!(said.contains("there is no tenant \"globx\"") && said.contains("did you mean \"globex\"?"), "{said}");
    let said = world.run(&["restore", "--tenant", "globx", "--yes"]).expect(4).stderr;
    assert!(said.contains("globx"), "{said}");
    let central = format!("[central]\nserver = \"pg\"\ndatabase = \"{}\"\n", world.central);
    world.reconfigure(&central, "");
    let preset = format!("{{ preset = \"stancl\", database_prefix = \"{}\" }}", world.prefix);
    world.reconfigure(&preset, &format!("{{ pattern = \"{}nobody%\" }}", world.prefix));
    let said = world.run(&["backup", "--all"]).expect(4).stderr;
    assert!(said.contains("nothing is selected"), "{said}");
    // An empty registry with a central database is a fleet of one, and the operator is told.
    let world = World::shared();
    world.tenant("stray", SHOP);
    world.cluster().psql(&world.central, "delete from tenants");
    world.run(&["init"]).expect(0);
    let report = world.backup();
    assert_eq!(report["targets"].as_array().map(Vec::len), Some(1));
    assert!(report["findings"].to_string().contains("stray"), "{report:#}");
}
