//! Hostile storage and hostile sources, against the real program and server: nothing that a manifest or a schema says runs as
//! anybody but the restoring role, or anywhere but in the new database.

use std::path::Path;
use std::sync::Arc;

use dbkeeper::base::ids::{BackupId, TargetId};
use dbkeeper::base::repository_key::RepositoryKey;
use dbkeeper::base::secret::Secret;
use dbkeeper::codec::seal::Identity;
use dbkeeper::repository::Repository;
use dbkeeper::repository::vault::Vault;
use dbkeeper::store::local::LocalStore;
use serde_json::{Value, json};

use super::world::{REPOSITORY, World};
use crate::support::forge::Forger;

const SHOP: &str =
    "create table shop (id int primary key, s text); insert into shop values (1, 'one'); create sequence q;
    create role \"{role}\"; alter table shop owner to \"{role}\"; select lo_create(4711)";

/// A world with the tenant `acme`, its vault for a forger, and its backup.
struct Prey {
    world: World,
    vault: Vault,
    officer: Identity,
    id: BackupId,
    role: String,
}

async fn open(world: &World, folder: &Path) -> (Vault, Identity) {
    let key = RepositoryKey::parse(&world.sandbox.read("repository.key"));
    let Ok(key) = key else { panic!("the repository key") };
    let store = Arc::new(LocalStore::new(folder.to_owned()));
    let repository = Repository::open(store, key.bytes()).await.expect("open the repository");
    let identities = Identity::parse_file(&Secret::new(world.sandbox.read("identity.txt"))).expect("the identity");
    (repository.vault(&TargetId::tenant("acme").expect("a name")), identities[0].clone())
}

async fn prey() -> Prey {
    let world = World::shared();
    let role = format!("{}owner", world.prefix);
    world.tenant("acme", &SHOP.replace("{role}", &role));
    world.run(&["init"]).expect(0);
    world.backup();
    let id = world.newest("acme").parse().expect("an id");
    let (vault, officer) = open(&world, &world.sandbox.path(REPOSITORY)).await;
    Prey { world, vault, officer, id, role }
}

impl Prey {
    /// Roles that only an injected statement can have made.
    fn owned(&self) -> String {
        let names = format!("select rolname from pg_roles where starts_with(rolname, '{}stolen')", self.world.prefix);
        self.world.cluster().psql("postgres", &names)
    }
}

#[tokio::test]
async fn a_name_in_a_manifest_that_is_meant_to_break_quoting_breaks_nothing() {
    let prey = prey().await;
    let (world, live) = (&prey.world, prey.world.print(&prey.world.db("acme")));
    let writer = Forger::writer(&prey.vault);
    let good = writer.manifest(prey.id, &prey.officer).await;
    // It ends a string, an identifier, a dollar quote and a connection string, and a path besides.
    let make = format!("create role \"{}stolen\"; --", world.prefix);
    let evil = format!("x'\"$$\\; {make}\n host=evil.invalid ../../../x");
    let details = "/description/details";
    let places: [(&str, Value); 12] = [
        ("/relations/0/schema", json!(evil)),
        ("/relations/0/name", json!(evil)),
        ("/relations/0/columns/0", json!(evil)),
        ("/relations/0/load_through", json!(["public", evil])),
        ("/sequences/0/name", json!(evil)),
        ("/lc_monetary", json!(evil)),
        ("/database/owner", json!(evil)),
        ("/database/encoding", json!(evil)),
        ("/database/comment", json!(evil)),
        ("/database/settings", json!([{"role": null, "name": evil, "value": evil}])),
        ("/database/acl", json!([{"grantor": prey.role, "grantee": null, "privilege": evil, "grantable": false}])),
        ("/large_object_metadata/groups/0/owner", json!(evil)),
    ];
    for (number, (place, value)) in places.into_iter().enumerate() {
        let mut changed = good.clone();
        let place = format!("{details}{place}");
        *changed.pointer_mut(&place).unwrap_or_else(|| panic!("no {place} in {good:#}")) = value;
        writer.replace_manifest(prey.id, &serde_json::to_vec(&changed).expect("JSON")).await;
        let name = world.db(&format!("beside{number}"));
        let ended = world.run(&["restore", "--tenant", "acme", "--as", &name, "--yes"]);
        assert!([0, 1, 3, 5, 13].contains(&ended.code), "{place}: {} {}", ended.code, ended.stderr);
        assert!(!ended.stderr.contains("panicked"), "{place}: {}", ended.stderr);
        assert_eq!(prey.owned(), "", "{place}: a statement came through: {}", ended.stderr);
        world.cluster().psql("postgres", &format!("drop database if exists \"{name}\""));
    }
    assert_eq!(world.print(&world.db("acme")), live, "the live database is as it was");
    // The name of a part leads nowhere either, and neither does what the source is called.
    for (place, code) in [("/parts/1/name", vec![1, 3, 5]), ("/description/source", vec![0])] {
        let mut changed = good.clone();
        *changed.pointer_mut(place).expect("it is there") = json!(evil);
        writer.replace_manifest(prey.id, &serde_json::to_vec(&changed).expect("JSON")).await;
        let ended = world.run(&["restore", "--tenant", "acme", "--as", &world.db("beside"), "--yes"]);
        assert!(code.contains(&ended.code), "{place}: {} {}", ended.code, ended.stderr);
        assert_eq!(prey.owned(), "", "{place}");
        world.cluster().psql("postgres", &format!("drop database if exists \"{}\"", world.db("beside")));
    }
}

#[tokio::test]
async fn a_backup_that_a_thief_forged_is_refused_and_without_the_key_the_operator_is_told_that_nobody_can_tell() {
    let prey = prey().await;
    let live = prey.world.print(&prey.world.db("acme"));
    // A thief knows the vault's recipient: he can seal a manifest of his own, but not sign for it.
    let mut manifest = Forger::thief(&prey.vault).manifest(prey.id, &prey.officer).await;
    manifest["description"]["details"]["database"]["comment"] = json!("by a thief");
    let thief = Forger::thief(&prey.vault);
    thief.replace_manifest(prey.id, &serde_json::to_vec(&manifest).expect("JSON")).await;
    let refused = prey.world.run(&["restore", "--tenant", "acme", "--yes"]).expect(5);
    assert!(refused.stderr.contains("this looks like tampering"), "{}", refused.stderr);
    let found = prey.world.run(&["verify"]).expect(5);
    assert!(found.stdout.contains("tampering") || found.stderr.contains("tampering"), "{found:?}");
    let backup = prey.world.run(&["backup", "--tenant", "acme"]).expect(0);
    assert!(backup.stderr.contains("this looks like tampering"), "{}", backup.stderr);
    let id = prey.id.to_string();
    let blind = ["restore", "--tenant", "acme", "--backup", &id, "--without-repository-key", "--dry-run"];
    let told = prey.world.run(&blind).expect(0);
    assert!(told.stderr.contains("nobody can tell whether this backup is authentic or was forged"), "{}", told.stderr);
    assert_eq!(prey.world.print(&prey.world.db("acme")), live);
}

/// What a hostile source puts into its own database: code that runs while the database is restored.
const TRAP: &str = r#"
    create function trap(n int) returns int language plpgsql immutable as $f$
    begin
      begin execute 'alter role "{restorer}" superuser'; exception when others then null; end;
      begin execute 'create role "{stolen}"'; exception when others then null; end;
      begin execute 'copy (select 1) to program ''touch {file}'''; exception when others then null; end;
      begin execute 'drop table {victim}'; exception when others then null; end;
      return n;
    end $f$;
    create table bait (n int check (trap(n) = n), m int generated always as (trap(n)) stored);
    insert into bait (n) select generate_series(1, 10);
    create index on bait (trap(n));
    create materialized view seen as select trap(n) from bait;"#;

#[test]
fn a_hostile_source_is_restored_by_a_role_that_can_do_nothing_else() {
    let world = World::shared();
    let (restorer, stolen) = (format!("{}restorer", world.prefix), format!("{}stolen", world.prefix));
    let file = world.sandbox.path("touched");
    let psql = |sql: &str| world.cluster().psql("postgres", sql);
    psql(&format!("create role \"{restorer}\" login createdb"));
    world.cluster().psql(&world.central, "create table victim (n int)");
    let trap = TRAP
        .replace("{restorer}", &restorer)
        .replace("{stolen}", &stolen)
        .replace("{file}", &file.display().to_string())
        .replace("{victim}", "victim");
    world.tenant("acme", &trap);
    // What the trap did at the source, as a superuser, is what it must not do again.
    psql(&format!("drop role if exists \"{stolen}\"; alter role \"{restorer}\" nosuperuser"));
    let _ = std::fs::remove_file(&file);
    world.run(&["init"]).expect(0);
    world.backup();
    psql(&format!("drop role if exists \"{stolen}\"; alter role \"{restorer}\" nosuperuser"));
    let _ = std::fs::remove_file(&file);
    world.reconfigure("postgres://postgres@", &format!("postgres://{restorer}@"));
    let name = world.db("quarantine");
    world.run(&["restore", "--tenant", "acme", "--as", &name, "--no-owner", "--yes"]).expect(0);
    let restored = world.cluster().psql(&name, "select count(*), sum(m) from bait");
    assert_eq!(restored.trim(), "10|55", "the rows are there");
    let rights = psql(&format!("select rolsuper, rolcreaterole from pg_roles where rolname = '{restorer}'"));
    assert_eq!(rights.trim(), "f|f", "the restoring role got no more rights");
    assert_eq!(psql(&format!("select count(*) from pg_roles where rolname = '{stolen}'")).trim(), "0");
    assert!(!file.exists(), "no program was run");
    let owner = psql(&format!("select pg_get_userbyid(datdba) from pg_database where datname = '{name}'"));
    assert_eq!(owner.trim(), restorer);
    assert_eq!(world.cluster().psql(&world.central, "select to_regclass('victim') is not null").trim(), "t");
    psql(&format!("drop database \"{name}\""));
    psql(&format!("drop role \"{restorer}\""));
}
