//! What "born with an expiry" costs: bytes kept and sent by the real code, relative to an ideal store that keeps every content which
//! an unexpired backup needs once, and sends every content once.
//!
//! One vault in memory is backed up every hour for `DAYS` days (700 where nothing is given) with hourly 24, daily 14, weekly 8,
//! monthly 12, and pruned every five days. Its database has 480 parts of one chunk each; each part changes with its own probability.
//! Only packs count: the documents of a backup belong to its parts, of which a real database has few.
//!
//! `cargo run --release --example retention [DAYS] [PROFILE]`

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use dbkeeper::base::clock::{Clock, Entropy, HeldClock, SeededEntropy};
use dbkeeper::base::cpu::{ByteBudget, Place};
use dbkeeper::base::ids::{BackupId, RunId, TargetId, parse_key_time};
use dbkeeper::codec::seal::Identity;
use dbkeeper::repository::expiry::RetentionPolicy;
use dbkeeper::repository::prune::execute::execute;
use dbkeeper::repository::prune::plan::plan;
use dbkeeper::repository::prune::survey::survey;
use dbkeeper::repository::prune::{Policy, cutoff};
use dbkeeper::repository::vault::Vault;
use dbkeeper::repository::writer::{BackupWriter, Content, WriterOptions};
use dbkeeper::repository::{Error, Repository};
use dbkeeper::store::ObjectStore;
use dbkeeper::store::memory::MemoryStore;
use tokio_util::sync::CancellationToken;

const PARTS: usize = 480;
const CHUNK_BYTES: usize = 2048;
const PACK_CHUNKS: usize = 32;
const PRUNE_HOURS: i64 = 120;
const MEASURE_HOURS: i64 = 480;

/// Shares of the parts, and how often in 100,000 hours each of them changes: as in the simulation from which the defaults come.
const PROFILES: [(&str, [(f64, u64); 3]); 3] = [
    ("oltp", [(0.02, 50_000), (0.18, 1_000), (0.80, 10)]),
    ("cold", [(0.005, 30_000), (0.05, 500), (0.945, 1)]),
    ("hot", [(0.2, 50_000), (0.4, 2_000), (0.4, 50)]),
];

struct Simulation {
    clock: Arc<HeldClock>,
    entropy: SeededEntropy,
    store: Arc<dyn ObjectStore>,
    vault: Vault,
    officer: Identity,
    odds: Vec<u64>,
    /// The content of each part, by its number; every content is another one.
    state: Vec<u64>,
    contents: u64,
    backups: Vec<(DateTime<Utc>, Vec<u64>)>,
    /// Packs that were seen in the store, with their sizes.
    sent: BTreeMap<String, u64>,
}

/// What a profile comes to.
struct Ratios {
    kept: f64,
    sent: f64,
    backups: usize,
}

impl Simulation {
    async fn new(profile: &[(f64, u64); 3]) -> Result<Self, Error> {
        let start = parse_key_time("20260101T003000Z").expect("a time");
        let clock = Arc::new(HeldClock::new(start));
        let entropy = SeededEntropy::new(1);
        let store: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new(Arc::<HeldClock>::clone(&clock)));
        let repository = Repository::create(Arc::clone(&store), &[7; 32], start, &entropy).await?;
        let vault = repository.vault(&TargetId::tenant("acme").expect("a name"));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "hundreds"
        )]
        let count = |share: f64| (share * PARTS as f64) as usize;
        let odds: Vec<u64> = profile.iter().flat_map(|(share, odds)| vec![*odds; count(*share)]).collect();
        let state: Vec<u64> = (0..odds.len() as u64).collect();
        let (contents, officer) = (state.len() as u64, Identity::from_bytes(&[9; 32]));
        let (backups, sent) = (Vec::new(), BTreeMap::new());
        Ok(Self { clock, entropy, store, vault, officer, odds, state, contents, backups, sent })
    }

    /// An hour passes.
    fn change(&mut self) {
        for (content, odds) in self.state.iter_mut().zip(&self.odds) {
            let mut bytes = [0; 8];
            self.entropy.fill(&mut bytes);
            if u64::from_le_bytes(bytes) % 100_000 < *odds {
                *content = self.contents;
                self.contents += 1;
            }
        }
        self.clock.advance(TimeDelta::hours(1));
    }

    async fn back_up(&mut self) -> Result<BackupId, Error> {
        let retention =
            RetentionPolicy { hourly: 24, daily: 14, weekly: 8, monthly: 12, yearly: 0, timezone: chrono_tz::UTC };
        let now = self.clock.now();
        let options = WriterOptions {
            recovery: vec![self.officer.recipient().clone()],
            retention,
            keep: None,
            level: 1,
            pack_bytes: CHUNK_BYTES * PACK_CHUNKS,
            digest_at: Place::Here,
            budget: ByteBudget::new(64 << 20),
            uploads: ByteBudget::new(64 << 20),
            run_id: RunId::new(now, [1; 4]),
        };
        let writer = BackupWriter::begin(&self.vault, options, now, &self.entropy).await?;
        let mut lane = writer.lane();
        let mut parts = Vec::new();
        for (part, content) in self.state.iter().enumerate() {
            let mut bytes = vec![0; CHUNK_BYTES];
            SeededEntropy::new(*content).fill(&mut bytes);
            lane.begin_bytes(&part.to_string());
            lane.push(&bytes);
            lane.drain().await?;
            parts.push((lane.end().await?, None));
        }
        lane.finish().await?;
        let (description, engine) = (serde_json::Value::Null, "made up".to_owned());
        let marker = writer.commit(Content { parts, description, engine }).await?.marker;
        for facts in marker.packs {
            self.sent.insert(facts.sha256.to_string(), facts.bytes);
        }
        self.backups.push((marker.expires_at, self.state.clone()));
        Ok(marker.id)
    }

    async fn prune(&mut self) -> Result<(), Error> {
        let now = self.clock.now();
        self.backups.retain(|(expires_at, _)| now <= *expires_at);
        let policy = Policy { keep_last: 1, max_share_percent: 100, forced: BTreeSet::new(), versions: false };
        let times = (now, cutoff(now, None));
        let planned = plan(&survey(&self.vault, 1, times, None).await?, &policy, times.1);
        execute(self.vault.repository(), &[planned], &[], false, &CancellationToken::new()).await.map(drop)
    }

    /// Bytes of packs in the store, relative to the contents that unexpired backups need.
    async fn kept(&self) -> Result<f64, Error> {
        let listing = self.vault.list().await?;
        let stored: u64 = listing.packs.values().map(|pack| pack.bytes).sum();
        let needed: HashSet<u64> = self.backups.iter().flat_map(|(_, contents)| contents.iter().copied()).collect();
        Ok(ratio(stored, needed.len() as u64 * CHUNK_BYTES as u64))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio")]
fn ratio(some: u64, all: u64) -> f64 {
    some as f64 / all as f64
}

async fn simulate(profile: &[(f64, u64); 3], days: i64) -> Result<Ratios, Error> {
    let mut simulation = Simulation::new(profile).await?;
    let mut kept = Vec::new();
    let mut backups = 0;
    for hour in 0..days * 24 {
        simulation.change();
        simulation.back_up().await?;
        backups += 1;
        if hour % PRUNE_HOURS == 0 {
            simulation.prune().await?;
            if hour % MEASURE_HOURS == 0 && hour * 5 > days * 24 * 3 {
                kept.push(simulation.kept().await?);
            }
        }
    }
    let _ = &simulation.store;
    let sent: u64 = simulation.sent.values().sum();
    #[expect(clippy::cast_precision_loss, reason = "a mean")]
    let mean = kept.iter().sum::<f64>() / kept.len() as f64;
    Ok(Ratios { kept: mean, sent: ratio(sent, simulation.contents * CHUNK_BYTES as u64), backups })
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let days = std::env::args().nth(1).and_then(|days| days.parse().ok()).unwrap_or(700);
    println!("| profile | backups | kept, of the ideal | sent, of the ideal |\n| --- | --- | --- | --- |");
    let only = std::env::args().nth(2);
    for (name, profile) in PROFILES.into_iter().filter(|(name, _)| only.as_ref().is_none_or(|only| only == name)) {
        let Ratios { kept, sent, backups } = simulate(&profile, days).await?;
        println!("| {name} | {backups} | {kept:.2} | {sent:.2} |");
    }
    Ok(())
}
