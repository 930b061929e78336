//! A small fleet over any store: made-up sources behind the engine's own trait, backed up by the real `backup`.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use dbkeeper::backup::{self, Done};
use dbkeeper::base::clock::{Clock, HeldClock, SeededEntropy};
use dbkeeper::base::ids::{BackupId, TargetId, parse_key_time};
use dbkeeper::base::monitor::Silent;
use dbkeeper::codec::digest::sha256;
use dbkeeper::codec::seal::Identity;
use dbkeeper::engine::{self, Description, DumpSession, PartKind, PartPlan, PartSink, Stamp};
use dbkeeper::repository::Repository;
use dbkeeper::repository::expiry::RetentionPolicy;
use dbkeeper::repository::writer::{BackupWriter, WriterOptions};
use dbkeeper::store::memory::MemoryStore;
use dbkeeper::store::{ObjectKey, ObjectStore};
use futures::TryStreamExt;

use crate::repository::support::{KEY, World, rows};
use crate::support::faults::Faulty;

/// What a source holds: a schema, and tables.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) target: TargetId,
    pub(super) schema: Vec<u8>,
    pub(super) tables: Vec<Vec<Vec<u8>>>,
}

impl Source {
    pub(super) fn new(target: TargetId, salt: u32) -> Self {
        let schema = format!("schema {salt} of {target}").into_bytes();
        Self { target, schema, tables: vec![rows(900, salt), rows(40, salt + 1)] }
    }

    /// What a restore must give back.
    pub(super) fn expected(&self) -> Vec<Vec<u8>> {
        std::iter::once(self.schema.clone()).chain(self.tables.iter().map(|rows| rows.concat())).collect()
    }

    fn session(&self) -> Box<dyn DumpSession> {
        let stamp = Some(Stamp(sha256(&self.schema).0));
        let schema = PartPlan {
            name: engine::SCHEMA_PART.to_owned(),
            kind: PartKind::Bytes,
            estimated_bytes: self.schema.len() as u64,
            estimated_whole_bytes: self.schema.len() as u64,
            stamp,
        };
        let table = |(number, rows): (usize, &Vec<Vec<u8>>)| PartPlan {
            name: format!("table:{number}"),
            kind: PartKind::Rows,
            estimated_bytes: rows.iter().map(|row| row.len() as u64).sum(),
            estimated_whole_bytes: 0,
            stamp: None,
        };
        let plans = std::iter::once(schema).chain(self.tables.iter().enumerate().map(table)).collect();
        let contents = std::iter::once(vec![self.schema.clone()]).chain(self.tables.clone()).collect();
        Box::new(MadeUp { plans, contents })
    }
}

/// A dump session that reads from memory, on one lane: its calls to the store come in one order.
struct MadeUp {
    plans: Vec<PartPlan>,
    contents: Vec<Vec<Vec<u8>>>,
}

#[async_trait]
impl DumpSession for MadeUp {
    fn lanes(&self) -> usize {
        1
    }

    fn parts(&self) -> &[PartPlan] {
        &self.plans
    }

    async fn read(&self, _lane: usize, parts: &[usize], sink: &mut dyn PartSink) -> Result<(), engine::Error> {
        for number in parts {
            sink.begin(*number).await?;
            for piece in &self.contents[*number] {
                if sink.push(piece) {
                    sink.drain().await?;
                }
            }
            let rows = self.contents[*number].len() as u64;
            sink.end((self.plans[*number].kind == PartKind::Rows).then_some(rows)).await?;
        }
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<Description, engine::Error> {
        let (engine, version) = ("made up".to_owned(), "1".to_owned());
        let (server, source) = ("memory".to_owned(), "memory".to_owned());
        Ok(Description { engine, version, server, source, details: serde_json::Value::Null, notes: Vec::new() })
    }
}

/// How the backup of each target ended, in order.
pub(super) type Results = Vec<Result<Done, backup::Error>>;

/// Backs up all sources, one after the other. A repository that does not open fails them all.
pub(super) async fn run(store: Arc<dyn ObjectStore>, clock: &HeldClock, sources: &[Source]) -> Results {
    let entropy = SeededEntropy::new(clock.now().timestamp().unsigned_abs());
    let repository = match Repository::open(store, &KEY).await {
        Ok(repository) => repository,
        Err(error) => {
            let failed = || Err(backup::Error::Engine(mismatch(&error.to_string())));
            return sources.iter().map(|_| failed()).collect();
        }
    };
    let mut results = Vec::new();
    for source in sources {
        results.push(Box::pin(one(&repository, clock, &entropy, source)).await);
    }
    results
}

fn mismatch(what: &str) -> engine::Error {
    engine::Error::Mismatch { what: "open the repository".to_owned(), details: what.to_owned() }
}

async fn one(
    repository: &Repository,
    clock: &HeldClock,
    entropy: &SeededEntropy,
    source: &Source,
) -> Result<Done, backup::Error> {
    let vault = repository.vault(&source.target);
    let writer = BackupWriter::begin(&vault, options(clock), clock.now(), entropy).await?;
    backup::backup(&source.target, source.session(), writer, Arc::new(Silent)).await
}

/// A daily backup for 14 days: its packs last three and a half days longer.
fn options(clock: &HeldClock) -> WriterOptions {
    let base = WriterOptions { pack_bytes: 16 << 10, ..crate::repository::support::options(clock, &officer()) };
    let retention =
        RetentionPolicy { hourly: 0, daily: 14, weekly: 0, monthly: 0, yearly: 0, timezone: chrono_tz::UTC };
    WriterOptions { retention, ..base }
}

fn officer() -> Identity {
    Identity::from_bytes(&[9; 32])
}

/// A repository with some past, as it can be put into any store; and what was done next.
pub(super) struct Past {
    /// Every object, in the order in which it was put.
    pub(super) objects: Vec<(ObjectKey, Bytes)>,
    /// What each older backup must give back.
    pub(super) backups: BTreeMap<(TargetId, BackupId), Vec<Vec<u8>>>,
    /// The sources as they are now.
    pub(super) sources: Vec<Source>,
    now: chrono::DateTime<chrono::Utc>,
}

impl Past {
    /// Four targets: one changed since its two backups, one unchanged whose packs must be renewed, one unchanged, one new.
    pub(super) async fn take() -> Self {
        let clock = clock_at(parse_key_time("20261121T091500Z").expect("a time"));
        let store = Faulty::new(Arc::new(MemoryStore::new(Arc::<HeldClock>::clone(&clock))));
        let world = World::over(Arc::<Faulty>::clone(&store), Arc::clone(&clock)).await;
        let tenant = |name: &str, salt| Source::new(TargetId::tenant(name).expect("a name"), salt);
        let (mut changes, renewed, steady) = (tenant("changes", 1), tenant("renewed", 11), tenant("steady", 21));
        let central = Source::new(TargetId::central(), 31);
        let mut backups = BTreeMap::new();
        let days: [(i64, Vec<Source>); 3] = [
            (4 * 24, vec![changes.clone(), renewed.clone()]),
            (23, vec![changes.changed(1), steady.clone()]),
            (0, vec![]),
        ];
        for (hours, sources) in days {
            for (source, done) in sources.iter().zip(run(world.store.clone(), &clock, &sources).await) {
                let id = done.expect("back up").committed.marker.id;
                backups.insert((source.target.clone(), id), source.expected());
            }
            world.advance(hours);
        }
        changes = changes.changed(2);
        let mut objects = Vec::new();
        for key in store.put_order() {
            let body = store.get(&key).await.expect("get");
            objects.push((key, body));
        }
        Self { objects, backups, sources: vec![changes, renewed, steady, central], now: clock.now() }
    }

    /// A clock at the time of the next run.
    pub(super) fn clock(&self) -> Arc<HeldClock> {
        clock_at(self.now)
    }
}

impl Source {
    /// With other rows in the middle of the large table.
    fn changed(&self, salt: u32) -> Self {
        let mut changed = self.clone();
        for (number, row) in rows(300, 1000 + salt).into_iter().enumerate() {
            changed.tables[0][300 + number] = row;
        }
        changed
    }
}

fn clock_at(time: chrono::DateTime<chrono::Utc>) -> Arc<HeldClock> {
    Arc::new(HeldClock::new(time))
}

/// Opens what is in a store, to look at it.
pub(crate) async fn world_in(store: Arc<dyn ObjectStore>, clock: Arc<HeldClock>) -> World {
    let repository = Repository::open(Arc::clone(&store), &KEY).await.expect("open the repository");
    World { clock, entropy: SeededEntropy::new(7), store, repository, officer: officer() }
}

/// Every key of a store.
pub(crate) async fn keys(store: &dyn ObjectStore) -> Vec<ObjectKey> {
    store.list("").map_ok(|object| object.key).try_collect().await.expect("list")
}
