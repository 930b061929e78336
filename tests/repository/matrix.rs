//! Every kind of stored object, damaged in every way: the documented rung of `verify` finds it and names it with the backups that
//! it costs, all other backups restore byte for byte, nothing damaged is restored as good, and the next backup succeeds.
//!
//! The table below is the one in `docs/reference/verification.md`; a test compares them. A new kind of object is a new row,
//! and objects of it in [`Stage`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use dbkeeper::base::clock::{Clock, HeldClock};
use dbkeeper::base::ids::{BackupId, RunId, TargetId};
use dbkeeper::codec::seal::Identity;
use dbkeeper::repository::Repository;
use dbkeeper::repository::layout::{self, VaultObject};
use dbkeeper::repository::proof::{Proof, ReadTimes};
use dbkeeper::repository::reader::BackupReader;
use dbkeeper::repository::reports::{store_report, verify_reports};
use dbkeeper::repository::vault::Vault;
use dbkeeper::repository::verify::{Finding, Rung, verify};
use dbkeeper::store::memory::MemoryStore;
use dbkeeper::store::{ObjectKey, ObjectStore};

use crate::repository::fleet::keys;
use crate::repository::support::{KEY, Table, World, expected, rows};

/// What is done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    Deleted,
    Emptied,
    Truncated,
    Flipped,
    /// With another object of its kind.
    Swapped,
    /// An older object of its kind lies in its place.
    Replayed,
    /// It lies at its place in another vault instead, or in another run's.
    Moved,
}

const DAMAGES: [Damage; 7] = [
    Damage::Deleted,
    Damage::Emptied,
    Damage::Truncated,
    Damage::Flipped,
    Damage::Swapped,
    Damage::Replayed,
    Damage::Moved,
];

/// What finds it first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum FoundBy {
    /// Every command that opens the repository refuses.
    Opening,
    Presence,
    /// By its size, or else by its bytes.
    SizeOrPacks,
    Packs,
    /// Nothing that is stored can tell.
    Nothing,
    /// It cannot be done.
    Never,
}

use FoundBy::{Never, Nothing, Opening, Packs, Presence, SizeOrPacks};

/// Kind, whether a damaged one costs backups, and what finds each damage, in the order of [`DAMAGES`].
const TABLE: [(&str, Costs, [FoundBy; 7]); 9] = [
    ("dbkeeper.json", Costs::All, [Opening, Opening, Opening, Opening, Never, Presence, Never]),
    ("epoch", Costs::Backups, [Presence; 7]),
    ("pack", Costs::Backups, [Presence, Presence, Presence, Packs, SizeOrPacks, SizeOrPacks, Presence]),
    ("index segment", Costs::None, [Presence, Presence, Presence, Packs, SizeOrPacks, SizeOrPacks, Presence]),
    ("index.age", Costs::None, [Presence, Presence, Presence, Packs, SizeOrPacks, SizeOrPacks, Presence]),
    ("manifest.age", Costs::Backups, [Presence, Presence, Presence, Packs, SizeOrPacks, SizeOrPacks, Presence]),
    ("backup.json", Costs::Backups, [Nothing, Presence, Presence, Presence, Presence, Presence, Presence]),
    ("run report", Costs::None, [Nothing, Packs, Packs, Packs, Packs, Packs, Packs]),
    ("proof record", Costs::None, [Nothing, Packs, Packs, Packs, Packs, Packs, Packs]),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Costs {
    /// Without it no backup opens with the repository key.
    All,
    Backups,
    None,
}

fn words(found_by: FoundBy) -> &'static str {
    match found_by {
        Opening => "every command",
        Presence => "`verify`",
        SizeOrPacks => "`verify` if the sizes differ, else `--read-packs`",
        Packs => "`--read-packs`",
        Nothing => "nothing stored",
        Never => "-",
    }
}

#[test]
fn the_documentation_has_this_very_table() {
    let page = include_str!("../../docs/reference/verification.md");
    for (kind, _, found_by) in TABLE {
        let cells: Vec<&str> = found_by.into_iter().map(words).collect();
        let row = format!("| {kind} | {} |", cells.join(" | "));
        assert!(page.contains(&row), "docs/reference/verification.md lacks this line:\n{row}");
    }
}

fn kind_of(world: &Stage, key: &ObjectKey) -> &'static str {
    let text = key.as_str();
    match text.rsplit('/').next().unwrap_or_default() {
        "dbkeeper.json" => "dbkeeper.json",
        "index.age" => "index.age",
        "manifest.age" => "manifest.age",
        "backup.json" => "backup.json",
        _ if text.starts_with("runs/") => "run report",
        _ if text.contains("/keys/") => "epoch",
        _ if text.contains("/proofs/") => "proof record",
        _ if world.segments.iter().any(|hash| text.ends_with(hash)) => "index segment",
        _ => "pack",
    }
}

/// A repository with at least two objects of every kind in one vault, and what its backups must give back.
struct Stage {
    objects: Vec<(ObjectKey, Bytes)>,
    backups: BTreeMap<(TargetId, BackupId), Vec<Vec<u8>>>,
    /// The hashes of index segments.
    segments: Vec<String>,
    /// The `dbkeeper.json` of a repository that was here before, with the same key.
    earlier: Bytes,
    officers: Vec<Identity>,
    clock: Arc<HeldClock>,
}

/// A record that says that nothing was read yet.
fn proof(vault: &Vault, world: &World, rung: Rung) -> Proof {
    Proof {
        format: 1,
        vault: vault.target().clone(),
        run_id: RunId::new(world.clock.now(), [1; 4]),
        rung,
        proven_at: world.clock.now(),
        whole: true,
        backups: 3,
        newest_whole: None,
        packs: 1,
        read_at: ReadTimes::default(),
        drill: None,
    }
}

fn tenant(name: &str) -> TargetId {
    TargetId::tenant(name).expect("a name")
}

/// More tables than a loose index has entries: each is a chunk of its own.
fn many(salt: usize) -> Vec<Table> {
    let name = |number: usize| -> &'static str { format!("table:{number}").leak() };
    let row = |number: usize| format!("{number}\t{salt}\n").into_bytes();
    (0..1_040).map(|number| (name(number), vec![row(number)])).collect()
}

impl Stage {
    /// A vault with two epochs, three backups and several packs, and another one beside it.
    async fn of_tables() -> Self {
        let mut stage = Self::empty().await;
        let (first, second): ([Table; 1], [Table; 1]) = ([("table:1", rows(1_500, 1))], [("table:1", rows(1_500, 2))]);
        let mut third = second.clone();
        third[0].1[700] = b"9\tchanged\n".to_vec();
        let world = World::new().await;
        stage.back_up(&world, "acme", &first).await;
        world.advance(1);
        // Another officer, so that there is another epoch.
        let world = World { officer: stage.officers[1].clone(), ..world };
        stage.back_up(&world, "acme", &second).await;
        stage.back_up(&world, "globex", &second).await;
        world.advance(1);
        stage.back_up(&world, "acme", &third).await;
        for worker in ["1-2", "2-2"] {
            let run = RunId::new(world.clock.now(), [1; 4]);
            store_report(&world.repository, &run, worker, &serde_json::json!({ "worker": worker })).await.expect("put");
        }
        for (tail, rung) in [(1, Rung::Packs), (2, Rung::Data)] {
            let vault = world.acme();
            vault.put_proof(&proof(&vault, &world, rung), [tail; 4]).await.expect("put");
        }
        stage.keep(&world).await;
        stage
    }

    /// A vault whose backups have index segments.
    async fn of_segments() -> Self {
        let mut stage = Self::empty().await;
        let world = World::new().await;
        for salt in [1, 2] {
            stage.back_up(&world, "acme", &many(salt)).await;
            world.advance(1);
        }
        stage.keep(&world).await;
        assert_eq!(stage.segments.len(), 2, "two segments");
        stage
    }

    async fn empty() -> Self {
        let old: Arc<dyn ObjectStore> = World::new().await.store;
        old.delete(&[layout::repository_document()]).await.expect("delete");
        let entropy = dbkeeper::base::clock::SeededEntropy::new(8);
        Repository::create(Arc::clone(&old), &KEY, chrono::DateTime::UNIX_EPOCH, &entropy).await.expect("create");
        let earlier = old.get(&layout::repository_document()).await.expect("get");
        let officers = vec![Identity::from_bytes(&[9; 32]), Identity::from_bytes(&[10; 32])];
        let clock = Arc::new(HeldClock::new(chrono::DateTime::UNIX_EPOCH));
        Self { objects: vec![], backups: BTreeMap::new(), segments: vec![], earlier, officers, clock }
    }

    async fn back_up(&mut self, world: &World, name: &str, tables: &[Table]) {
        let vault = world.repository.vault(&tenant(name));
        let marker = world.back_up(&vault, b"S", tables).await.expect("back up").marker;
        self.segments.extend(marker.segments.iter().map(|facts| facts.sha256.to_string()));
        self.backups.insert((tenant(name), marker.id), expected(b"S", tables));
    }

    async fn keep(&mut self, world: &World) {
        for key in keys(world.store.as_ref()).await {
            let body = world.store.get(&key).await.expect("get");
            self.objects.push((key, body));
        }
        self.clock = Arc::clone(&world.clock);
    }

    fn body(&self, key: &ObjectKey) -> Bytes {
        self.objects.iter().find(|(known, _)| known == key).expect("one of ours").1.clone()
    }

    /// The objects of one kind in the vault `acme`, or outside of the vaults; the oldest first.
    fn of_kind(&self, kind: &str) -> Vec<ObjectKey> {
        let ours = self.objects.iter().map(|(key, _)| key).filter(|key| !key.as_str().contains("/globex/"));
        ours.filter(|key| kind_of(self, key) == kind).cloned().collect()
    }

    /// What lies under which key after the damage; `None` where nothing does. `None` in all if it cannot be done.
    fn changes(&self, key: &ObjectKey, damage: Damage) -> Option<Vec<(ObjectKey, Option<Bytes>)>> {
        let (kind, body) = (kind_of(self, key), self.body(key));
        let siblings = self.of_kind(kind);
        let at = siblings.iter().position(|sibling| sibling == key).expect("one of its kind");
        let other = siblings[(at + siblings.len() - 1) % siblings.len()].clone();
        let alone = *key == other;
        let changed = match damage {
            Damage::Deleted => None,
            Damage::Emptied => Some(Bytes::new()),
            Damage::Truncated => Some(body.slice(..body.len() - 1)),
            Damage::Flipped => {
                let mut flipped = body.to_vec();
                let middle = flipped.len() / 2;
                flipped[middle] ^= 1;
                Some(Bytes::from(flipped))
            }
            Damage::Replayed if alone => Some(self.earlier.clone()),
            Damage::Replayed => Some(self.body(&other)),
            Damage::Swapped if alone => return None,
            Damage::Swapped => {
                return Some(vec![(key.clone(), Some(self.body(&other))), (other, Some(body))]);
            }
            Damage::Moved => {
                let moved = match key.as_str() {
                    text if text.starts_with("runs/") => text.replace("-2.json", "-3.json"),
                    text => text.replace("/acme/", "/globex/"),
                };
                let place = ObjectKey::new(moved).expect("a key");
                return (place != *key).then(|| vec![(key.clone(), None), (place, Some(body))]);
            }
        };
        Some(vec![(key.clone(), changed)])
    }
}

/// What verification says of all vaults and reports; `None` where the repository does not open.
async fn found(store: &Arc<dyn ObjectStore>, rung: Rung, stage: &Stage) -> Option<Vec<(String, Finding)>> {
    let repository = Repository::open(Arc::clone(store), &KEY).await.ok()?;
    let mut found = Vec::new();
    for target in repository.vaults().await.expect("list").0 {
        let vault = repository.vault(&target);
        let report = verify(&vault, rung, &stage.officers).await.expect("the store works");
        assert_eq!(report.target, target);
        found.extend(report.findings.into_iter().map(|finding| (target.to_string(), finding)));
    }
    if rung >= Rung::Packs {
        let reports = verify_reports(&repository).await.expect("the store works");
        found.extend(reports.into_iter().map(|finding| (String::new(), finding)));
    }
    Some(found)
}

/// True if a finding is about this object.
fn names(finding: &Finding, key: &ObjectKey) -> bool {
    let hash = key.as_str().rsplit('.').next().filter(|hash| hash.len() == 64);
    finding.key == key.as_str() || hash.is_some_and(|hash| finding.key.ends_with(hash))
}

async fn restore(vault: &Vault, id: BackupId, stage: &Stage) -> Option<Vec<Vec<u8>>> {
    let (listing, budget) = (vault.list().await.expect("list"), dbkeeper::base::cpu::ByteBudget::new(8 << 20));
    let reader = Arc::new(BackupReader::open(vault, listing, id, &stage.officers, budget).await.ok()?);
    let mut parts = Vec::new();
    for part in &reader.manifest().parts {
        let (mut source, mut bytes) = (reader.read(part), Vec::new());
        while let Some(piece) = source.next().await.ok()? {
            bytes.extend_from_slice(&piece);
        }
        parts.push(bytes);
    }
    Some(parts)
}

/// The committed backups that cannot be restored; what can be gives back its bytes.
async fn lost(repository: &Repository, stage: &Stage, told: &str) -> BTreeSet<BackupId> {
    let mut lost = BTreeSet::new();
    for target in repository.vaults().await.expect("list").0 {
        let vault = repository.vault(&target);
        for id in vault.list().await.expect("list").committed {
            match restore(&vault, id, stage).await {
                Some(parts) => {
                    let good = stage.backups.get(&(target.clone(), id));
                    assert!(good == Some(&parts), "{told}: {id} of {target} restored as good");
                }
                None => drop(lost.insert(id)),
            }
        }
    }
    lost
}

/// Damages one object in one way and checks every promise.
async fn check(stage: &Stage, key: &ObjectKey, damage: Damage) {
    let kind = kind_of(stage, key);
    let (_, costs, row) = TABLE.iter().find(|(known, ..)| *known == kind).expect("every kind has a row");
    let expected = row[DAMAGES.iter().position(|known| *known == damage).expect("one of them")];
    let told = format!("{kind} {key} {damage:?}");
    let Some(changes) = stage.changes(key, damage) else {
        return assert_eq!(expected, Never, "{told}");
    };
    let store: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new(Arc::<HeldClock>::clone(&stage.clock)));
    for (key, body) in &stage.objects {
        store.put(key, body.clone()).await.expect("put");
    }
    for (key, body) in &changes {
        store.delete(std::slice::from_ref(key)).await.expect("delete");
        if let Some(body) = body {
            store.put(key, body.clone()).await.expect("put");
        }
    }
    let sizes_differ = changes.iter().any(|(key, body)| body.as_ref().is_some_and(|b| b.len() != stage.len_of(key)));
    let expected = match expected {
        SizeOrPacks if sizes_differ => Presence,
        SizeOrPacks => Packs,
        other => other,
    };
    let damaged: Vec<&ObjectKey> = changes.iter().map(|(key, _)| key).collect();
    let rungs = [(Rung::Presence, Presence), (Rung::Packs, Packs)];
    for (rung, word) in rungs.into_iter().filter(|(_, word)| *costs != Costs::All || *word == Presence) {
        let Some(findings) = found(&store, rung, stage).await else {
            return assert_eq!(expected, Opening, "{told}: the repository does not open");
        };
        assert_ne!(expected, Opening, "{told}: the repository opens");
        let named = findings.iter().any(|(_, finding)| damaged.iter().any(|key| names(finding, key)));
        let by_all = *costs == Costs::All && !findings.is_empty();
        assert_eq!(named || by_all, expected <= word, "{told}: {word:?} finds {findings:?}");
        if word == expected && *costs != Costs::All {
            costs_are_told(stage, &store, (*costs, &findings), &told).await;
        }
    }
    if *costs != Costs::All {
        the_next_backup_is_whole(stage, store, (kind, expected), &told).await;
    }
}

/// The findings name exactly the backups that cannot be restored.
async fn costs_are_told(
    stage: &Stage,
    store: &Arc<dyn ObjectStore>,
    (costs, findings): (Costs, &[(String, Finding)]),
    told: &str,
) {
    let repository = Repository::open(Arc::clone(store), &KEY).await.expect("open");
    let lost = lost(&repository, stage, told).await;
    let named: BTreeSet<BackupId> = findings.iter().flat_map(|(_, finding)| finding.backups.iter().copied()).collect();
    assert_eq!(named, lost, "{told}: {findings:?}");
    assert!(costs == Costs::Backups || lost.is_empty(), "{told}: no restore needs it");
}

/// Whatever is damaged, the next backup succeeds; and it is whole, unless a pack of the right size has other bytes inside.
async fn the_next_backup_is_whole(
    stage: &Stage,
    store: Arc<dyn ObjectStore>,
    (kind, found_by): (&str, FoundBy),
    told: &str,
) {
    let repository = Repository::open(Arc::clone(&store), &KEY).await.expect("open");
    let clock = Arc::new(HeldClock::new(stage.clock.now()));
    let entropy = dbkeeper::base::clock::SeededEntropy::new(11);
    let world = World { clock, entropy, store, repository, officer: stage.officers[1].clone() };
    let tables: [Table; 1] = [("table:1", rows(1_500, 2))];
    let done = world.back_up(&world.acme(), b"S", &tables).await;
    let done = done.unwrap_or_else(|error| panic!("{told}: the next backup: {error}"));
    let restored = restore(&world.acme(), done.marker.id, stage).await;
    match restored {
        Some(parts) => assert!(parts == expected(b"S", &tables), "{told}: restored as good"),
        None => assert!(kind == "pack" && found_by == Packs, "{told}: the next backup cannot be restored"),
    }
}

impl Stage {
    fn len_of(&self, key: &ObjectKey) -> usize {
        self.objects.iter().find(|(known, _)| known == key).map_or(usize::MAX, |(_, body)| body.len())
    }
}

#[tokio::test]
async fn every_damage_to_every_kind_of_object_is_found_where_the_documentation_says_and_never_restored_as_good() {
    let stage = Stage::of_tables().await;
    for (kind, ..) in TABLE.iter().filter(|(kind, ..)| !kind.starts_with("index")) {
        let objects = stage.of_kind(kind);
        assert!(*kind == "dbkeeper.json" || 2 <= objects.len(), "{kind}: {objects:?}");
        for key in objects {
            for damage in DAMAGES {
                check(&stage, &key, damage).await;
            }
        }
    }
}

#[tokio::test]
async fn a_damaged_index_or_index_segment_is_found_and_costs_no_backup() {
    let stage = Stage::of_segments().await;
    for kind in ["index segment", "index.age"] {
        let newest = stage.of_kind(kind).pop().expect("two");
        for damage in DAMAGES {
            check(&stage, &newest, damage).await;
        }
    }
}

#[tokio::test]
async fn reading_all_data_finds_all_that_the_lower_rungs_find() {
    let stage = Stage::of_tables().await;
    for kind in ["epoch", "pack", "manifest.age", "backup.json"] {
        let key = stage.of_kind(kind).pop().expect("one");
        for (key, body) in stage.changes(&key, Damage::Flipped).expect("it can be done") {
            let store: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new(Arc::<HeldClock>::clone(&stage.clock)));
            for (key, body) in &stage.objects {
                store.put(key, body.clone()).await.expect("put");
            }
            store.put(&key, body.expect("flipped")).await.expect("put");
            let findings = found(&store, Rung::Data, &stage).await.expect("it opens");
            assert!(findings.iter().any(|(_, finding)| names(finding, &key)), "{key}: {findings:?}");
            let repository = Repository::open(store, &KEY).await.expect("open");
            let lost = lost(&repository, &stage, kind).await;
            let told: BTreeSet<BackupId> =
                findings.iter().flat_map(|(_, finding)| finding.backups.iter().copied()).collect();
            assert_eq!(told, lost, "{key}: {findings:?}");
        }
    }
}

#[test]
fn every_object_of_a_vault_that_the_format_knows_is_a_kind_of_the_table() {
    // A new kind of object does not compile here until it has a row above, or is left out with a reason.
    let row = |object: &VaultObject| match object {
        VaultObject::Epoch(..) => "epoch",
        VaultObject::Pack(..) => "pack",
        VaultObject::Index(_) => "index.age",
        VaultObject::Manifest(_) => "manifest.age",
        VaultObject::Marker(_) => "backup.json",
        VaultObject::Proof(_) => "proof record",
        // One that does not verify keeps its backup, and is told: tests/repository/prune.rs.
        VaultObject::Hold(..) | VaultObject::Release(..) => "",
    };
    let id: BackupId = "20261121T091500Z-d336h-3fa9c2d1".parse().expect("an id");
    for object in [VaultObject::Index(id), VaultObject::Manifest(id), VaultObject::Marker(id)] {
        assert!(TABLE.iter().any(|(kind, ..)| *kind == row(&object)));
    }
}
