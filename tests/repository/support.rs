//! A repository in memory, and backups of made-up tables.

use std::sync::Arc;

use chrono::TimeDelta;
use dbkeeper::base::clock::{Clock, HeldClock, SeededEntropy};
use dbkeeper::base::cpu::ByteBudget;
use dbkeeper::base::ids::{BackupId, RunId, TargetId, parse_key_time};
use dbkeeper::codec::seal::Identity;
use dbkeeper::repository::expiry::{RetentionPolicy, kept_for};
use dbkeeper::repository::reader::{BackupReader, Wanted};
use dbkeeper::repository::vault::Vault;
use dbkeeper::repository::verify::{Rung, VaultReport, verify};
use dbkeeper::repository::writer::{BackupWriter, Committed, Content, WriterOptions};
use dbkeeper::repository::{Error, Repository};
use dbkeeper::store::ObjectStore;
use dbkeeper::store::memory::MemoryStore;

pub(crate) const KEY: [u8; 32] = [42; 32];

pub(crate) struct World {
    pub(crate) clock: Arc<HeldClock>,
    pub(crate) entropy: SeededEntropy,
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) repository: Repository,
    pub(crate) officer: Identity,
}

/// How backups are written here.
pub(crate) fn options(clock: &HeldClock, officer: &Identity) -> WriterOptions {
    let retention =
        RetentionPolicy { hourly: 24, daily: 14, weekly: 8, monthly: 12, yearly: 0, timezone: chrono_tz::UTC };
    WriterOptions {
        recovery: vec![officer.recipient().clone()],
        retention,
        keep: None,
        level: 3,
        pack_bytes: 256 << 10,
        digest_at: dbkeeper::base::cpu::Place::Pool,
        budget: ByteBudget::new(8 << 20),
        uploads: ByteBudget::new(8 << 20),
        run_id: RunId::new(clock.now(), [1; 4]),
    }
}

/// The rows of a made-up table.
pub(crate) type Table = (&'static str, Vec<Vec<u8>>);

impl World {
    pub(crate) async fn new() -> Self {
        let clock = Arc::new(HeldClock::new(parse_key_time("20261121T091500Z").expect("a time")));
        let held: Arc<dyn Clock> = Arc::<HeldClock>::clone(&clock);
        Self::over(Arc::new(MemoryStore::new(held)), clock).await
    }

    pub(crate) async fn over(store: Arc<dyn ObjectStore>, clock: Arc<HeldClock>) -> Self {
        let entropy = SeededEntropy::new(7);
        let created = Repository::create(Arc::clone(&store), &KEY, clock.now(), &entropy).await;
        let repository = created.expect("create the repository");
        Self { clock, entropy, store, repository, officer: Identity::from_bytes(&[9; 32]) }
    }

    pub(crate) fn acme(&self) -> Vault {
        self.repository.vault(&TargetId::tenant("acme").expect("a name"))
    }

    pub(crate) fn options(&self) -> WriterOptions {
        options(&self.clock, &self.officer)
    }

    pub(crate) async fn begin(&self, vault: &Vault) -> Result<BackupWriter, Error> {
        BackupWriter::begin(vault, self.options(), self.clock.now(), &self.entropy).await
    }

    /// Backs up some tables and the part `schema`, whose stamp is its content's first byte.
    pub(crate) async fn back_up(&self, vault: &Vault, schema: &[u8], tables: &[Table]) -> Result<Committed, Error> {
        self.fill(self.begin(vault).await?, schema, tables).await
    }

    /// The same with a life of so many hours.
    pub(crate) async fn back_up_for(&self, vault: &Vault, hours: u64, tables: &[Table]) -> Result<Committed, Error> {
        let keep = Some(kept_for(std::time::Duration::from_secs(hours * 3600)));
        let options = WriterOptions { keep, ..self.options() };
        let writer = BackupWriter::begin(vault, options, self.clock.now(), &self.entropy).await?;
        self.fill(writer, b"S", tables).await
    }

    /// Writes the parts of a backup and commits it.
    pub(crate) async fn fill(&self, writer: BackupWriter, schema: &[u8], tables: &[Table]) -> Result<Committed, Error> {
        let stamp = [schema[0]; 32];
        let mut lane = writer.lane();
        let schema_part = match writer.reuse("schema", &stamp) {
            Some(part) => part,
            None => {
                lane.begin_bytes("schema");
                lane.push(schema);
                lane.drain().await?;
                lane.end().await?
            }
        };
        let mut parts = vec![(schema_part, Some(stamp))];
        for (name, rows) in tables {
            lane.begin_rows(name, 0);
            for row in rows {
                if lane.push(row) {
                    lane.drain().await?;
                }
            }
            parts.push((lane.end().await?, None));
        }
        lane.finish().await?;
        let (description, engine) = (serde_json::json!({"tables": tables.len()}), "made up 1".to_owned());
        writer.commit(Content { parts, description, engine }).await
    }

    pub(crate) fn advance(&self, hours: i64) {
        self.clock.advance(TimeDelta::hours(hours));
    }

    pub(crate) async fn open(&self, vault: &Vault, id: BackupId) -> Result<Arc<BackupReader>, Error> {
        let listing = vault.list().await?;
        let identities = [self.officer.clone()];
        BackupReader::open(vault, listing, id, &identities, ByteBudget::new(8 << 20)).await.map(Arc::new)
    }

    /// Restores the newest backup: the bytes of every part, in order of the manifest.
    pub(crate) async fn restore_newest(&self, vault: &Vault) -> Result<Vec<Vec<u8>>, Error> {
        let id = Wanted::Newest.choose(vault, &vault.list().await?)?;
        self.restore(vault, id).await
    }

    pub(crate) async fn restore(&self, vault: &Vault, id: BackupId) -> Result<Vec<Vec<u8>>, Error> {
        let reader = self.open(vault, id).await?;
        let mut parts = Vec::new();
        for part in &reader.manifest().parts {
            let (mut source, mut bytes) = (reader.read(part), Vec::new());
            while let Some(piece) = source.next().await? {
                bytes.extend_from_slice(&piece);
            }
            parts.push(bytes);
        }
        Ok(parts)
    }

    pub(crate) async fn verify(&self, vault: &Vault) -> VaultReport {
        verify(vault, Rung::Data, std::slice::from_ref(&self.officer)).await.expect("the store works")
    }
}

/// What [`World::restore`] must give back.
pub(crate) fn expected(schema: &[u8], tables: &[Table]) -> Vec<Vec<u8>> {
    let rows = tables.iter().map(|(_, rows)| rows.concat());
    std::iter::once(schema.to_vec()).chain(rows).collect()
}

/// `count` rows of about 100 bytes; `salt` changes all of them.
pub(crate) fn rows(count: u32, salt: u32) -> Vec<Vec<u8>> {
    let row = |i: u32| {
        let noise = i.wrapping_mul(2_654_435_761).wrapping_add(salt);
        format!("{i}\tuser {i}\t{noise:08x}{:08x}\tsome text that many rows share\t\\N\n", noise.rotate_left(13) ^ salt)
    };
    (0..count).map(|i| row(i).into_bytes()).collect()
}
