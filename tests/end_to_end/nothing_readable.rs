//! Nothing readable: markers are planted in rows, names, comments, passwords and keys; every verb runs at `trace` level, in the
//! good case and where the database, the store or a key fails; then all that was said, stored, handed on or left is searched.

use std::sync::{Arc, Mutex};

use self::search::{Found, Planted};
use super::secrets::{PASSWORD, Seen, require_passwords, run, run_to_any_end};
use super::world::{World, wait_until};

mod faults;
mod line;
mod search;

/// Command lines of every verb; `tests/cli/help.rs` requires that none is missing. `ID` is a backup of `good`.
///
/// They run in this order, with the tenant `good` backed up. What a verb needs to go well is not the point: what it says is.
pub(crate) const VERBS: &[&[&str]] = &[
    &["keygen", "--identity", "other.txt", "--repository-key", "other.key"],
    &["init"],
    &["config", "check"],
    &["config", "show"],
    &["config", "show", "--json"],
    &["config", "schema"],
    &["doctor"],
    &["doctor", "--json"],
    &["doctor", "--store"],
    &["backup", "--tenant", "good", "--json"],
    &["--log-format", "json", "backup", "--all"],
    &["list"],
    &["list", "--tenant", "good", "--json"],
    &["show", "ID"],
    &["verify"],
    &["verify", "--read-packs", "--json"],
    &["verify", "--read-data"],
    &["copy", "--to", "disk"],
    &["checkpoint"],
    &["checkpoint", "--output", "seen.txt"],
    &["verify", "--checkpoint", "seen.txt"],
    &["drill", "--tenant", "good", "--server", "pg", "--on-live-server"],
    &["keys", "list"],
    &["keys", "reseal"],
    &["keys", "rotate", "--tenant", "good"],
    &["keys", "list", "--json"],
    &["restore", "--tenant", "good", "--dry-run"],
    &["restore", "--tenant", "good", "--yes"],
    &["restore", "--tenant", "good", "--table", "planted_table_b7", "--as", "one_table", "--yes", "--json"],
    &["export", "--tenant", "good", "--output", "exported.sql"],
    &["hold", "ID", "--until", "2099-12-31", "--reason", "audit"],
    &["list"],
    &["release", "ID"],
    &["prune", "--dry-run"],
    &["prune", "--json"],
    &["erase", "--tenant", "good", "--dry-run"],
    // Nobody answers, so nothing is erased.
    &["erase", "--tenant", "good"],
    &["erase", "--tenant", "stranger", "--yes-erase", "stranger", "--json"],
];

const ROW: &str = "planted-row-4e1c";
const TABLE: &str = "planted_table_b7";
const COMMENT: &str = "planted-comment-90aa";
const ROLE_PASSWORD: &str = "planted-role-password-17";
const LARGE_OBJECT: &str = "planted-large-object-c2";
const SETTING: &str = "planted-setting-5d";

/// Markers everywhere; the trap does nothing at home, and tells the row wherever it is restored.
const GOOD: &str = "
    create table planted_table_b7 (id int primary key, s text not null);
    comment on table planted_table_b7 is 'planted-comment-90aa';
    insert into planted_table_b7 select n, 'planted-row-4e1c' from generate_series(1, 2000) n;
    create role \"{role}\" login password 'planted-role-password-17'; alter table planted_table_b7 owner to \"{role}\";
    comment on role \"{role}\" is 'planted-comment-90aa';
    select lo_from_bytea(0, 'planted-large-object-c2');
    comment on database \"{database}\" is 'planted-comment-90aa';
    alter database \"{database}\" set application.note = 'planted-setting-5d';
    create function away() returns boolean immutable language sql as $$ select current_database() <> '{database}' $$;";

/// What fails where the database has another name, each with a row in the server's own words.
const TRAPS: [(&str, &str); 5] = [
    (
        "raised",
        "create function trap(s text) returns boolean immutable language plpgsql as $$ begin
           if away() then raise exception 'the row is %', s using detail = s, hint = s; end if; return true; end $$;
         alter table planted_table_b7 add check (trap(s))",
    ),
    (
        "posed",
        "create function trap(s text) returns boolean immutable language plpgsql as $$ begin
           if away() then raise exception using errcode = '23505', message = 'the row is ' || s; end if; return true; end $$;
         alter table planted_table_b7 add check (trap(s))",
    ),
    (
        "cast",
        "create function trap(s text) returns int immutable language sql as
           $$ select case when away() then s::int else 1 end $$;
         alter table planted_table_b7 add column n int generated always as (trap(s)) stored",
    ),
    (
        "unique",
        "create function trap(n int, s text) returns text immutable language sql as
           $$ select case when away() then s else n::text end $$;
         create unique index on planted_table_b7 (trap(id, s))",
    ),
    (
        "indexed",
        "create function trap(s text) returns text immutable language plpgsql as $$ begin
           if away() then raise exception 'the row is %', s; end if; return s; end $$;
         create index on planted_table_b7 (trap(s))",
    ),
];

fn plant(world: &World, name: &str, more: &str) {
    let (database, role) = (world.db(name), format!("{}{name}", world.prefix));
    let path = format!("set search_path = public; {GOOD} {more}");
    world.tenant(name, &path.replace("{database}", &database).replace("{role}", &role));
    // Functions name others without a schema: the restore must find them, to reach the row.
    world.cluster().psql(&database, "alter function away() set search_path = public");
    for one in world.cluster().psql(&database, "select oid::regprocedure from pg_proc where proname = 'trap'").lines() {
        world.cluster().psql(&database, &format!("alter function {one} set search_path = public"));
    }
}

/// A password on the server, a folder for temporary files, and a second repository.
fn lock_up(world: &World) {
    require_passwords(world);
    std::fs::create_dir(world.sandbox.path("tmp")).expect("a folder");
    world.reconfigure("connections = 8", "connections = 8\npassword = { env = \"PLANTED_PASSWORD\" }");
    let folder = world.sandbox.path("disk");
    let copy = format!("[[copies]]\nname = \"disk\"\nurl = \"file://{}\"\n\n[encryption]", folder.display());
    world.reconfigure("[encryption]", &copy);
}

/// What was said, by what said it.
type Said = Vec<(String, Vec<u8>)>;

fn run_all_verbs(world: &World, seen: &Arc<Mutex<Seen>>, said: &mut Said) {
    for words in VERBS {
        let words = spelled(world, words);
        let arguments: Vec<&str> = std::iter::once("-vv").chain(words.iter().map(String::as_str)).collect();
        let (code, told) = run_to_any_end(world, &arguments, seen);
        let text = String::from_utf8_lossy(&told);
        assert!(code.is_some_and(|code| code != 101) && !text.contains("panicked"), "{arguments:?}: {code:?} {text}");
        said.push((format!("what {arguments:?} said"), told));
    }
}

/// The words with the newest backup of `good` where a backup is named.
fn spelled(world: &World, words: &[&str]) -> Vec<String> {
    words.iter().map(|word| if *word == "ID" { newest(world) } else { (*word).to_owned() }).collect()
}

fn newest(world: &World) -> String {
    let mut command = world.sandbox.command(&["list", "--tenant", "good", "--json"]);
    let output = command.env("PLANTED_PASSWORD", PASSWORD).output().expect("run dbkeeper");
    let listed: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let newest = listed.as_array().and_then(|all| all.last()).expect("a backup");
    newest["id"].as_str().expect("an id").to_owned()
}

/// The restores that the traps make fail: rows stand in the server's words, and must not stand in ours.
fn run_into_traps(world: &World, seen: &Arc<Mutex<Seen>>, said: &mut Said) {
    for (name, _) in TRAPS {
        let away = world.db(&format!("{name}_away"));
        for format in ["text", "json"] {
            let arguments =
                ["-vv", "--log-format", format, "restore", "--tenant", name, "--as", &away, "--yes", "--json"];
            let (code, told) = run_to_any_end(world, &arguments, seen);
            let text = String::from_utf8_lossy(&told);
            assert!(code.is_some_and(|code| ![0, 2, 101].contains(&code)), "{name}: {code:?} {text}");
            said.push((format!("what {arguments:?} said"), told));
        }
    }
}

fn run_into_damage(world: &World, seen: &Arc<Mutex<Seen>>, said: &mut Said) {
    let packs: Vec<_> =
        world.stored().into_keys().filter(|path| path.to_string_lossy().contains("/good/packs/")).collect();
    for pack in packs {
        let mut bytes = std::fs::read(&pack).expect("read it");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&pack, bytes).expect("damage it");
    }
    for arguments in [
        &["-vv", "restore", "--tenant", "good", "--yes"][..],
        &["-vv", "verify", "--read-data", "--json"],
        &["-vv", "export", "--tenant", "good", "--output", "damaged.sql"],
    ] {
        said.push((format!("what {arguments:?} said"), run(world, arguments, 5, seen)));
    }
}

#[test]
fn nothing_readable_is_said_stored_handed_on_or_left_whatever_goes_wrong() {
    let world = World::own(&[]);
    plant(&world, "good", "");
    for (name, trap) in TRAPS {
        plant(&world, name, trap);
    }
    lock_up(&world);
    let (seen, mut said) = (Arc::new(Mutex::new(Seen::default())), Said::new());
    run_all_verbs(&world, &seen, &mut said);
    let rows = world.cluster().psql("one_table", "select count(*) from planted_table_b7 where s = 'planted-row-4e1c'");
    assert_eq!(rows.trim(), "2000", "in the restore's destination it is");
    assert!(world.sandbox.read("exported.sql").contains(ROW), "and in the export's");
    run_into_traps(&world, &seen, &mut said);
    run_into_damage(&world, &seen, &mut said);
    let mut planted = Planted::of(&world);
    planted.add_identity("the other identity", &world.sandbox.read("other.txt"));
    planted.add_key("the other key", &world.sandbox.read("other.key"));
    let mut found = Found::new();
    for (what, text) in said.iter().chain(&seen.lock().expect("no panic").text) {
        planted.search(what, text, &mut found);
    }
    // All files below the working folder: the repository, its copy, what else was left.
    assert!(planted.search_files(world.sandbox.folder(), &mut found) > 30, "there is something to look into");
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_crash_leaves_no_core() {
    use rustix::process::{Pid, Signal, kill_process};

    let world = World::with_shops();
    let holder = world.hold_lock(&world.db("acme"), "orders");
    let child = world.start(&["backup", "--tenant", "acme"]);
    let waits = format!(
        "select count(*) from pg_stat_activity where datname = '{}' and wait_event_type = 'Lock'",
        world.db("acme")
    );
    wait_until("the dump waits", || world.cluster().psql("postgres", &waits).trim() != "0");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).expect("its limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("the limit");
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    kill_process(Pid::from_child(&child), Signal::ABORT).expect("send a signal");
    assert_eq!(world.finish(child).code, -1, "killed by the signal");
    drop(holder);
    let left = std::fs::read_dir(world.sandbox.folder()).expect("the folder").flatten();
    assert!(!left.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("core")));
}
