//! Years of a vault through the real code over a store in memory: hourly, daily, missed, doubled, crashed and slow runs, changes of
//! the policy, clocks that differ, holds, prunes that fail half-way. After every step each backup that must live is there with all
//! that it names, and some of them are restored.
//!
//! Short by default; `DBKEEPER_FAULT_ROUNDS` asks for the full length.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use dbkeeper::base::class::Class;
use dbkeeper::base::clock::{Clock, Entropy, SeededEntropy};
use dbkeeper::base::ids::{BackupId, RunId};
use dbkeeper::repository::expiry::RetentionPolicy;
use dbkeeper::repository::hold;
use dbkeeper::repository::marker::Marker;
use dbkeeper::repository::presence::lacks;
use dbkeeper::repository::prune::execute::execute;
use dbkeeper::repository::prune::plan::plan;
use dbkeeper::repository::prune::record::{read_reports, write_plan};
use dbkeeper::repository::prune::survey::survey;
use dbkeeper::repository::prune::{Policy, cutoff};
use dbkeeper::repository::vault::Vault;
use dbkeeper::repository::writer::{BackupWriter, Content, WriterOptions};
use dbkeeper::repository::{Error, Repository};
use tokio_util::sync::CancellationToken;

use crate::repository::support::{KEY, World};
use crate::support::faults::{Fault, Faulty};

const PARTS: usize = 10;
const KEEP_LAST: usize = 3;

/// What a backup must give back: for each part, which version of its content.
type State = Vec<u64>;

fn content(part: usize, version: u64) -> Vec<u8> {
    let mut bytes = vec![0; 120];
    SeededEntropy::new(version.wrapping_mul(1000) + part as u64).fill(&mut bytes);
    bytes
}

/// A backup that was committed, and must live as long as something keeps it.
struct Living {
    marker: Marker,
    state: State,
    held_until: Option<DateTime<Utc>>,
}

/// A backup under way.
struct Slow {
    writer: BackupWriter,
    state: State,
    ends_at: DateTime<Utc>,
}

struct Years {
    world: World,
    vault: Vault,
    chance: SeededEntropy,
    policy: RetentionPolicy,
    state: State,
    living: BTreeMap<BackupId, Living>,
    slow: Vec<Slow>,
    pruned: usize,
    most: usize,
}

const POLICIES: [RetentionPolicy; 4] = [
    RetentionPolicy { hourly: 24, daily: 14, weekly: 8, monthly: 12, yearly: 0, timezone: chrono_tz::Europe::Paris },
    RetentionPolicy { hourly: 0, daily: 7, weekly: 4, monthly: 0, yearly: 2, timezone: chrono_tz::UTC },
    RetentionPolicy { hourly: 6, daily: 0, weekly: 0, monthly: 0, yearly: 0, timezone: chrono_tz::UTC },
    RetentionPolicy { hourly: 0, daily: 30, weekly: 0, monthly: 3, yearly: 0, timezone: chrono_tz::Asia::Tokyo },
];

impl Years {
    async fn new(seed: u64) -> Self {
        let world = World::new().await;
        let (vault, chance) = (world.acme(), SeededEntropy::new(seed));
        let (living, slow) = (BTreeMap::new(), Vec::new());
        let state = vec![0; PARTS];
        Self { world, vault, chance, policy: POLICIES[0], state, living, slow, pruned: 0, most: 0 }
    }

    fn now(&self) -> DateTime<Utc> {
        self.world.clock.now()
    }

    /// A number below `most`.
    fn pick(&self, most: u64) -> u64 {
        let mut bytes = [0; 8];
        self.chance.fill(&mut bytes);
        u64::from_le_bytes(bytes) % most
    }

    fn once_in(&self, times: u64) -> bool {
        self.pick(times) == 0
    }

    /// Time passes, and rows change with it: some parts often, most of them seldom.
    fn pass(&mut self, hours: i64) {
        self.world.clock.advance(TimeDelta::minutes(hours * 60 + i64::try_from(self.pick(3)).expect("small")));
        for part in 0..PARTS {
            let odds = [2, 5, 40, 400][part % 4];
            if self.pick(odds) < u64::try_from(hours).expect("time passes") {
                self.state[part] += 1;
            }
        }
    }

    async fn begin(&self, vault: &Vault, skew: TimeDelta) -> Result<BackupWriter, Error> {
        let options = WriterOptions { retention: self.policy, pack_bytes: 400, ..self.world.options() };
        BackupWriter::begin(vault, options, self.now() + skew, &self.world.entropy).await
    }

    async fn end(&mut self, writer: BackupWriter, state: State) {
        let marker = commit(writer, &state).await.expect("commit");
        assert!(self.living.insert(marker.id, Living { marker, state, held_until: None }).is_none());
    }

    async fn back_up(&mut self) {
        // A writer's clock may be wrong by days.
        let skew = if self.once_in(12) { i64::try_from(self.pick(96)).expect("small") - 48 } else { 0 };
        let writer = self.begin(&self.vault, TimeDelta::hours(skew)).await.expect("begin");
        if self.once_in(8) {
            // It ends while it is still worth something: later, the job counts it as failed.
            let hours = i64::try_from(self.pick(30)).expect("small");
            let ends_at = (self.now() + TimeDelta::hours(hours)).min(writer.id().expires_at() - TimeDelta::minutes(1));
            if self.now() < ends_at {
                self.slow.push(Slow { writer, state: self.state.clone(), ends_at });
            }
            return;
        }
        if self.once_in(8) {
            // Doubled: a second one begins before the first one has ended.
            let second = self.begin(&self.vault, TimeDelta::seconds(1)).await.expect("begin");
            self.end(second, self.state.clone()).await;
        }
        self.end(writer, self.state.clone()).await;
    }

    /// A run that dies at one of its first puts.
    async fn crash(&mut self) {
        let store = Faulty::new(Arc::clone(&self.world.store));
        let nth = self.pick(5);
        let seen = std::sync::atomic::AtomicU64::new(0);
        let opened = Repository::open(Arc::clone(&store) as _, &KEY).await.expect("open");
        store.when(usize::MAX, Fault::Fail(Class::Store), move |call| {
            call.operation == "put" && nth <= seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
        });
        if let Ok(writer) = self.begin(&opened.vault(self.vault.target()), TimeDelta::zero()).await {
            // It may have come to its end.
            if let Ok(marker) = commit(writer, &self.state).await {
                let state = self.state.clone();
                self.living.insert(marker.id, Living { marker, state, held_until: None });
            }
        }
        std::mem::forget(store);
    }

    async fn end_slow(&mut self) {
        let now = self.now();
        let (done, still) = std::mem::take(&mut self.slow).into_iter().partition(|slow| slow.ends_at <= now);
        self.slow = still;
        let done: Vec<Slow> = done;
        for Slow { writer, state, .. } in done {
            // The clock stands later than its end: one that has expired meanwhile is given up, as its run would be.
            if now < writer.id().expires_at() {
                self.end(writer, state).await;
            }
        }
    }

    async fn hold(&mut self) {
        let ids: Vec<BackupId> = self.living.keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        let id = ids[usize::try_from(self.pick(ids.len() as u64)).expect("small")];
        let now = self.now();
        if self.living[&id].held_until.is_some() && self.once_in(2) {
            hold::release(&self.vault, id, now).await.expect("release");
            self.living.get_mut(&id).expect("it lives").held_until = None;
            return;
        }
        let until = now + TimeDelta::days(1 + i64::try_from(self.pick(400)).expect("small"));
        let chance = (now, &self.world.entropy as &dyn Entropy);
        hold::place(&self.vault, id, until, "audit", chance).await.expect("hold");
        let living = self.living.get_mut(&id).expect("it lives");
        living.held_until = living.held_until.max(Some(until));
    }

    /// Prunes as the job does; the pruner's clock differs by minutes, and its store may fail half-way.
    async fn prune(&mut self) {
        let skew = TimeDelta::minutes(i64::try_from(self.pick(11)).expect("small") - 5);
        let ours = self.now() + skew;
        let policy = Policy { keep_last: KEEP_LAST, max_share_percent: 100, forced: BTreeSet::new(), versions: false };
        let store = Faulty::new(Arc::clone(&self.world.store));
        let repository = Repository::open(Arc::clone(&store) as _, &KEY).await.expect("open");
        let fails = self.once_in(4).then(|| self.pick(4));
        if let Some(nth) = fails {
            let seen = std::sync::atomic::AtomicU64::new(0);
            store.when(usize::MAX, Fault::Fail(Class::Store), move |call| {
                call.operation == "delete" && nth <= seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
            });
        }
        let (times, vault) = ((ours, cutoff(ours, Some(self.now()))), repository.vault(self.vault.target()));
        let reports = read_reports(&repository, times.1).await.expect("reports");
        let last = reports.remembered.get(vault.target()).copied();
        let seen = survey(&vault, KEEP_LAST, times, last).await.expect("survey");
        let planned = [plan(&seen, &policy, times.1)];
        assert_eq!(planned[0].refusals, [], "nothing is wrong here");
        let run = RunId::new(self.now(), self.chance.tail());
        write_plan(&repository, (run, self.now()), &planned, &reports.remembered, &policy.forced)
            .await
            .expect("write down");
        let done = execute(&repository, &planned, &[], false, &CancellationToken::new()).await;
        assert!(done.is_ok() || fails.is_some());
        self.pruned += planned[0].removals.len();
        std::mem::forget(store);
        self.forget(times.1).await;
    }

    /// Requires that only what may go is gone.
    async fn forget(&mut self, cutoff: DateTime<Utc>) {
        let listing = self.vault.list().await.expect("list");
        let newest: BTreeSet<BackupId> = self.living.keys().rev().take(KEEP_LAST).copied().collect();
        let now = self.now();
        self.living.retain(|id, living| {
            let held = living.held_until.is_some_and(|until| now + TimeDelta::minutes(5) < until);
            let may_go = id.expires_at() <= cutoff && !newest.contains(id) && !held;
            assert!(may_go || listing.committed.contains(id), "backup {id} is gone");
            listing.committed.contains(id)
        });
    }

    /// Every backup that lives is whole, and some are restored.
    async fn check(&mut self, restored: usize) {
        let listing = self.vault.list().await.expect("list");
        self.most = self.most.max(self.living.len());
        for (id, living) in &self.living {
            assert!(listing.committed.contains(id), "{id}");
            assert_eq!(lacks(self.vault.target(), &listing, &living.marker), [], "{id} at {}", self.now());
        }
        let ids: Vec<BackupId> = self.living.keys().copied().collect();
        for _ in 0..restored.min(ids.len()) {
            // The oldest are those that most has happened to.
            let at = self.pick(ids.len() as u64).min(self.pick(ids.len() as u64));
            let id = ids[usize::try_from(at).expect("small")];
            let expected: Vec<Vec<u8>> =
                self.living[&id].state.iter().enumerate().map(|(part, version)| content(part, *version)).collect();
            assert_eq!(self.world.restore(&self.vault, id).await.expect("restore"), expected, "{id}");
        }
    }

    /// One step: time passes and something happens.
    async fn step(&mut self) {
        let hours = match self.pick(20) {
            0..=11 => 1,
            12..=17 => 24,
            18 => 7 * 24,
            _ => 40 * 24,
        };
        self.pass(hours);
        self.end_slow().await;
        match self.pick(40) {
            0..=24 => self.back_up().await,
            25..=27 => self.crash().await,
            28..=34 => self.prune().await,
            35..=37 => self.hold().await,
            38 => self.policy = POLICIES[usize::try_from(self.pick(4)).expect("small")],
            _ => {} // Missed.
        }
    }
}

async fn commit(writer: BackupWriter, state: &State) -> Result<Marker, Error> {
    let mut lane = writer.lane();
    let mut parts = Vec::new();
    for (part, version) in state.iter().enumerate() {
        lane.begin_bytes(&format!("part {part}"));
        lane.push(&content(part, *version));
        lane.drain().await?;
        parts.push((lane.end().await?, None));
    }
    lane.finish().await?;
    let (description, engine) = (serde_json::Value::Null, "made up".to_owned());
    writer.commit(Content { parts, description, engine }).await.map(|committed| committed.marker)
}

#[allow(clippy::disallowed_methods, reason = "how long a loop runs is the choice of whoever starts the tests")]
fn length() -> (u64, usize) {
    if std::env::var_os("DBKEEPER_FAULT_ROUNDS").is_some() { (24, 1500) } else { (2, 260) }
}

#[tokio::test]
async fn over_years_of_every_kind_of_run_all_that_must_live_restores() {
    let (seeds, steps) = length();
    for seed in 1..=seeds {
        let mut years = Years::new(seed).await;
        let began = years.now();
        for _ in 0..steps {
            years.step().await;
            years.check(1).await;
        }
        years.check(usize::MAX).await;
        assert!(TimeDelta::days(365) < years.now() - began, "{} is not long", years.now() - began);
        assert!(50 < years.pruned && 5 < years.most, "seed {seed}: {} pruned, {} at most", years.pruned, years.most);
        assert_eq!(years.world.verify(&years.vault).await.findings, [], "seed {seed}");
    }
}
