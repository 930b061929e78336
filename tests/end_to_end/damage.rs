//! What is damaged in the store is never restored: the exit code is 5, the object is named, and the live database stays.

use std::path::{Path, PathBuf};

use super::world::{World, print_of};

fn packs(world: &World, tenant: &str) -> Vec<PathBuf> {
    let folder = format!("vaults/tenant/{tenant}/packs/");
    world.stored().into_keys().filter(|path| path.to_string_lossy().contains(&folder)).collect()
}

/// Writes a file anew: what is stored may be read-only.
fn overwrite(file: &Path, bytes: &[u8]) {
    std::fs::remove_file(file).expect("remove it");
    std::fs::write(file, bytes).expect("write it");
}

#[test]
fn a_damaged_or_missing_pack_ends_with_5_and_leaves_the_live_database_and_nothing_else() {
    let world = World::with_shops();
    world.backup();
    let (acme, databases) = (world.db("acme"), world.databases());
    let live = world.print(&acme);
    let packs = packs(&world, "acme");
    for pack in &packs {
        let name = pack.file_name().expect("a name").to_string_lossy().into_owned();
        let hash = name.rsplit('.').next().expect("a hash");
        let whole = std::fs::read(pack).expect("read it");
        let mut flipped = whole.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        for (what, bytes) in [("flipped", &flipped[..]), ("cut", &whole[..whole.len() - 1]), ("empty", &[])] {
            overwrite(pack, bytes);
            let ended = world.run(&["restore", "--tenant", "acme", "--yes"]).expect(5);
            assert!(ended.stderr.contains(hash) && ended.stderr.contains("verify"), "{what}: {}", ended.stderr);
            assert_eq!(world.databases(), databases, "{what}: no leftover");
        }
        std::fs::remove_file(pack).expect("remove it");
        let ended = world.run(&["restore", "--tenant", "acme", "--yes"]).expect(5);
        assert!(ended.stderr.contains(hash), "missing: {}", ended.stderr);
        let said = world.run(&["verify", "--tenant", "acme"]).expect(5);
        assert!((said.stdout + &said.stderr).contains(hash), "verify sees it");
        overwrite_new(pack, &whole);
    }
    assert_eq!((world.print(&acme), world.databases()), (live.clone(), databases));
    // One vault's damage is no other's: all others are restored, and the central database waits for the last tenant.
    overwrite(&packs[0], b"");
    let report = world.json(&["restore", "--all", "--yes", "--json"], 3);
    assert_eq!(super::world::target(&report, "globex")["result"], "ok");
    assert_eq!(super::world::target(&report, "central")["result"], "skipped");
    assert_eq!(print_of(world.cluster(), &acme), live);
}

fn overwrite_new(file: &Path, bytes: &[u8]) {
    std::fs::write(file, bytes).expect("write it");
}

#[test]
fn a_planted_marker_is_passed_over_and_told_and_the_genuine_backup_is_restored() {
    let world = World::with_shops();
    world.backup();
    let (acme, id) = (world.db("acme"), world.newest("acme"));
    let good = world.print(&acme);
    world.cluster().psql(&acme, "delete from orders");
    let folder = world.sandbox.path(super::world::REPOSITORY).join("vaults/tenant/acme/backups");
    let planted = format!("2099{}", &id[4..]);
    std::fs::create_dir(folder.join(&planted)).expect("make a folder");
    std::fs::copy(folder.join(&id).join("backup.json"), folder.join(&planted).join("backup.json")).expect("copy");
    let said = world.run(&["list", "--tenant", "acme"]).expect(5).stderr;
    assert!(said.contains(&planted) && said.contains("tampering"), "{said}");
    let plan = world.run(&["restore", "--tenant", "acme", "--dry-run"]).expect(0).stderr;
    assert!(plan.contains(&format!("backup {planted} is newer and was passed over")), "{plan}");
    let report = world.json(&["restore", "--tenant", "acme", "--yes", "--json"], 0);
    assert_eq!(super::world::target(&report, "acme")["backup_id"], id.as_str());
    assert!(super::world::target(&report, "acme")["notes"].to_string().contains(&planted), "{report:#}");
    assert_eq!(world.print(&acme).content, good.content);
    let said = world.run(&["verify", "--tenant", "acme"]).expect(5);
    assert!(said.stdout.contains(&planted) && said.stdout.contains("tampering"), "{said:?}");
    assert_eq!(world.backup()["result"], "ok", "and it stops no backup");
}

#[test]
fn a_damaged_run_report_is_found_where_every_byte_is_read() {
    let world = World::with_shops();
    world.backup();
    world.run(&["verify", "--read-packs"]).expect(0);
    let reports: Vec<PathBuf> =
        world.stored().into_keys().filter(|path| path.to_string_lossy().contains("/runs/")).collect();
    let [report] = reports.as_slice() else { panic!("one run report: {reports:?}") };
    let text = std::fs::read_to_string(report).expect("read it");
    overwrite(report, text.replacen("\"ok\"", "\"no\"", 1).as_bytes());
    let said = world.run(&["verify", "--read-packs"]).expect(5).stdout;
    assert!(said.contains("runs/") && said.contains("tampering"), "{said}");
}

#[test]
fn damage_to_one_table_is_named_and_the_newest_backup_without_it_is_offered_and_restores() {
    let world = World::with_shops();
    world.backup();
    let (acme, first) = (world.db("acme"), world.newest("acme"));
    let good = world.print(&acme);
    let before = packs(&world, "acme");
    // Only orders are new in the second backup: its own packs hold nothing else.
    world.cluster().psql(&acme, "update orders set total = total + 1");
    world.backup();
    assert_ne!(world.newest("acme"), first);
    let live = world.print(&acme);
    for pack in packs(&world, "acme").iter().filter(|pack| !before.contains(pack)) {
        let mut bytes = std::fs::read(pack).expect("read it");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        overwrite(pack, &bytes);
    }
    let said = world.run(&["restore", "--tenant", "acme", "--yes"]).expect(5).stderr;
    assert!(said.contains("it cannot give back public.orders") && !said.contains("customers"), "{said}");
    let command = format!("dbkeeper restore --tenant acme --backup {first}");
    assert!(said.contains(&command), "{command}: {said}");
    assert_eq!(world.print(&acme), live, "the live database stays");
    // The table that is whole comes back even from the damaged backup, and all of it from the one that is offered.
    let copy = format!("{acme}_customers");
    world.run(&["restore", "--tenant", "acme", "--table", "customers", "--as", &copy, "--yes"]).expect(0);
    let rows = "select md5(string_agg(c::text, ',' order by id)) from customers c";
    assert_eq!(world.cluster().psql(&copy, rows), world.cluster().psql(&acme, rows));
    let arguments: Vec<&str> = command.split(' ').skip(1).chain(["--yes"]).collect();
    world.run(&arguments).expect(0);
    assert_eq!(world.print(&acme).content, good.content);
}
