//! The backup job: every selected target, side by side, within what the servers and this machine can take.
//!
//! One failed target never stops the others; what was not protected is in the report, and in the exit code.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures::FutureExt;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::backup;
use crate::base::class::Class;
use crate::base::cpu::{ByteBudget, Place};
use crate::base::ids::{RunId, TargetId};
use crate::base::monitor::Monitor;
use crate::codec::pack::PACK_BYTES;
use crate::engine::postgres::dump::{DumpOptions, SPLIT_BYTES, open_dump};
use crate::engine::postgres::lock_budget::LockBudget;
use crate::engine::postgres::lost::is_lost;
use crate::engine::postgres::schema::SchemaCache;
use crate::engine::postgres::witness::Witness;
use crate::fleet::{Database, Discovery, Finding, FindingKind, Selection, compare_with_known, select};
use crate::job::servers::{Facts, is_back};
use crate::job::watchdog::Watchdog;
use crate::job::{Context, Error, chain};
use crate::repository::Repository;
use crate::repository::expiry::{self, RetentionPolicy};
use crate::repository::reports::store_report;
use crate::repository::writer::{BackupWriter, WriterOptions};
use crate::run::fan_out::fan_out;
use crate::run::report::{RunReport, TargetReport, TargetResult};
use crate::run::shard::owner;

/// What targets that are under way have left when the process is told to stop; Kubernetes grants 30 s by default.
const STOP_GRACE: Duration = Duration::from_secs(20);

/// How long the run report may take to be stored.
const REPORT_LIMIT: Duration = Duration::from_secs(60);

/// The same for a run that was stopped, after [`STOP_GRACE`].
const STOPPED_REPORT_LIMIT: Duration = Duration::from_secs(3);

/// A database is given one more lane for each of these.
const LANE_BYTES: u64 = 64 << 20;

/// Three or four lanes gain little on two cores, and each costs a connection.
const MAX_LANES: usize = 4;

/// The share of the memory for packs: were all lanes in use, each would have one that fills, one that is sealed and one
/// that is sent.
const PACKS_PER_LANE: usize = 3;

/// What is backed up.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which targets.
    pub selection: Selection,
    /// A life chosen by hand.
    pub keep: Option<Duration>,
    /// This worker's slice, `(index, count)` with `index` from 0.
    pub shard: Option<(u32, u32)>,
}

/// What all targets of a run share.
struct Run {
    context: Context,
    id: RunId,
    repository: Repository,
    writer: WriterOptions,
    connections: HashMap<String, Arc<Semaphore>>,
    locks: HashMap<String, LockBudget>,
    dump: DumpOptions,
    watchdog: Arc<Watchdog>,
    max_lanes: usize,
}

/// What is known before the first target is begun.
struct Prepared {
    repository: Repository,
    id: RunId,
    selected: Vec<Database>,
    missing: Missing,
    facts: Facts,
    findings: Vec<String>,
}

/// Backs up what `request` asks for.
///
/// An error means that no target was begun. Otherwise the report says what came of each.
pub async fn backup(context: &Context, request: &Request) -> Result<RunReport, Error> {
    let began = Instant::now();
    let prepared = context.stop.run_until_cancelled(Box::pin(prepare(context, request))).await;
    let Prepared { repository, id, selected, missing, facts, findings } = prepared.ok_or(Error::Stopped)??;
    let run = Arc::new(Run::new(context, id, repository, request, &facts));
    let (ready, mut targets) = facts.split(selected);
    targets.extend(run.all(ready).await);
    // A store that stands still says nothing about the key, and must not hold up the end of a run.
    let current = tokio::time::timeout(run.last_word_limit(), run.repository.check_still_current()).await;
    let unsure = match current {
        Ok(Ok(())) => None,
        Ok(Err(error)) if error.class() == Class::Key => {
            count_for_nothing(&mut targets, &error);
            None
        }
        Ok(Err(error)) => Some(chain(&error)),
        Err(_) => Some("the store did not answer in time".to_owned()),
    };
    targets.extend(missing.named);
    let (seconds, stopped) = (began.elapsed().as_secs_f64(), context.stop.is_cancelled());
    let mut report = RunReport::new(id, seconds, targets, missing.nameless, stopped);
    report.findings = findings;
    if let Some(reason) = unsure {
        report.cannot_tell(format!("whether the repository key was replaced during this run cannot be told: {reason}"));
    }
    report.requests = context.requests.total();
    if let Err(reason) = run.store_report(&report, request.shard).await {
        report.findings.push(format!("the run report could not be stored: {reason}"));
    }
    Ok(report)
}

/// What this run stored may have been signed with a key that was replaced meanwhile: whatever came of it, it is no backup.
fn count_for_nothing(targets: &mut [TargetReport], error: &crate::repository::Error) {
    for target in targets.iter_mut().filter(|target| target.result == TargetResult::Ok) {
        target.result = TargetResult::Failed;
        target.reason = Some(format!("this backup does not count: {}", chain(error)));
        (target.hint, target.class) = (error.hint(), Some(Class::Key));
    }
}

async fn prepare(context: &Context, request: &Request) -> Result<Prepared, Error> {
    let repository = context.open_repository().await?;
    let servers = context.servers().await?;
    let id = context.new_run();
    let mut discovery = context.discover(&servers).await?;
    let (known, strangers) = repository.vaults().await?;
    let everything = request.selection.all;
    if everything {
        discovery.findings.extend(compare_with_known(&discovery, known));
    }
    let selected = in_shard(select(&discovery, &request.selection)?.into_iter().cloned().collect(), request.shard);
    let missing = if everything { unprotected(&discovery, request.shard) } else { Missing::default() };
    if selected.is_empty() && missing.is_empty() {
        return Err(Error::NothingSelected {
            what: "neither the configuration nor the registry names a database".to_owned(),
        });
    }
    let programs = context.programs();
    let examining = async { Ok(Facts::examine(&selected, &programs).await?) };
    let facts = context.answered("ask the servers what they can take", examining).await?;
    let strangers = strangers.into_iter().map(|folder| format!("{folder} in the repository is no vault of ours"));
    let findings = told_once(discovery.findings, &missing).chain(strangers).collect();
    Ok(Prepared { repository, id, selected, missing, facts, findings })
}

/// What discovery found, without what the report says as failures.
fn told_once(findings: Vec<Finding>, missing: &Missing) -> impl Iterator<Item = String> {
    let is_told = |finding: &Finding| {
        let mut named = missing.named.iter().filter_map(|target| target.reason.as_ref());
        named.any(|reason| *reason == finding.message) || missing.nameless.contains(&finding.message)
    };
    findings.into_iter().filter(move |finding| !is_told(finding)).map(|finding| match finding.tenant.is_empty() {
        true => finding.message,
        false => format!("tenant {}: {}", finding.tenant, finding.message),
    })
}

/// The databases of one worker: a stable slice by rendezvous hashing, so that a new tenant moves nobody else. Pure.
fn in_shard(databases: Vec<Database>, shard: Option<(u32, u32)>) -> Vec<Database> {
    let Some((index, count)) = shard else { return databases };
    databases.into_iter().filter(|database| owner(&database.target, count) == index).collect()
}

/// Tenants that discovery found and could not place: they are not protected, and the run says so.
#[derive(Default)]
struct Missing {
    named: Vec<TargetReport>,
    nameless: Vec<String>,
}

impl Missing {
    fn is_empty(&self) -> bool {
        self.named.is_empty() && self.nameless.is_empty()
    }
}

fn unprotected(discovery: &Discovery, shard: Option<(u32, u32)>) -> Missing {
    let mut missing = Missing::default();
    let mine = |target: &TargetId| shard.is_none_or(|(index, count)| owner(target, count) == index);
    let first = shard.is_none_or(|(index, _)| index == 0);
    for finding in discovery.findings.iter().filter(|finding| finding.kind.is_failure()) {
        match TargetId::tenant(&finding.tenant) {
            Ok(target) if discovery.databases.iter().any(|database| database.target == target) => {
                // One of two rows that name different databases: only the other database is protected.
                if finding.kind == FindingKind::UnreadableRow && mine(&target) {
                    missing.nameless.push(finding.message.clone());
                }
            }
            Ok(target) if mine(&target) => {
                missing.named.push(TargetReport::new(target, TargetResult::Failed, Some(finding.message.clone())));
            }
            Ok(_) => {}
            // What has no name belongs to no shard: the first one reports it.
            Err(_) if first => missing.nameless.push(finding.message.clone()),
            Err(_) => {}
        }
    }
    missing
}

impl Run {
    fn new(context: &Context, id: RunId, repository: Repository, request: &Request, facts: &Facts) -> Self {
        let limits = &context.config.limits;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let max_lanes = MAX_LANES.min(cores.max(2));
        let targets_at_once = limits.targets_at_once.min(facts.databases_in_all());
        let lanes_in_all = (targets_at_once * max_lanes).min(facts.connections_in_all()).max(1);
        let memory = limits.pipeline_bytes();
        let pack_bytes = (memory / 2 / (PACKS_PER_LANE * lanes_in_all)).clamp(1 << 20, PACK_BYTES);
        let writer = WriterOptions {
            recovery: context.config.encryption.recipients.clone(),
            retention: retention(context),
            keep: request.keep.map(expiry::kept_for),
            level: crate::codec::compress::DEFAULT_LEVEL,
            pack_bytes,
            // While a lane computes, the sockets of its connection hold what its server sends.
            digest_at: if cores <= lanes_in_all { Place::Here } else { Place::Pool },
            budget: ByteBudget::new(memory / 2),
            // Each lane fills one; the others are on their way, however few lanes there are.
            uploads: ByteBudget::new((memory / 2).saturating_sub(pack_bytes * lanes_in_all).max(2 * pack_bytes)),
            run_id: id,
        };
        let dump = DumpOptions {
            lanes: 1,
            lock_timeout: limits.lock_timeout,
            split_bytes: SPLIT_BYTES,
            programs: Arc::new(context.programs()),
            schemas: Arc::new(SchemaCache::default()),
            locks: LockBudget::new(u32::MAX),
        };
        Self {
            context: context.clone(),
            id,
            repository,
            writer,
            connections: facts.budgets(),
            locks: facts.lock_budgets(),
            dump,
            watchdog: Arc::new(Watchdog::new(Arc::clone(&context.monitor))),
            max_lanes,
        }
    }

    async fn all(self: &Arc<Self>, databases: Vec<(Database, u64)>) -> Vec<TargetReport> {
        let names: Vec<TargetId> = databases.iter().map(|(database, _)| database.target.clone()).collect();
        self.watchdog.run_begins(databases.len());
        // A stop first begins nothing new; what is under way has a little longer, and is then given up.
        let abandon = CancellationToken::new();
        let grace = tokio::spawn(grace(self.context.stop.clone(), abandon.clone()));
        let width = self.context.config.limits.targets_at_once.max(1);
        let results = fan_out(databases, width, &self.context.stop, |(database, bytes)| {
            let (run, abandon) = (Arc::clone(self), abandon.clone());
            async move { run.one(database, bytes, abandon).await }
        });
        let results = results.await;
        grace.abort();
        let skipped =
            |name: TargetId| TargetReport::new(name, TargetResult::Skipped, Some("the run was stopped".to_owned()));
        results.into_iter().zip(names).map(|(result, name)| result.unwrap_or_else(|| skipped(name))).collect()
    }

    async fn one(&self, database: Database, bytes: u64, abandon: CancellationToken) -> TargetReport {
        let (target, began) = (database.target.clone(), Instant::now());
        let limit = self.context.config.limits.no_progress;
        let witness = Witness::new(&database.server, &database.name);
        // A defect that shows with one target must not stop the others.
        let work = AssertUnwindSafe(Box::pin(self.twice(&database, bytes))).catch_unwind();
        let done = tokio::select! {
            done = work => done.unwrap_or_else(|_| Err(Failure::defect())),
            waited_for = self.watchdog.stalled(&target, limit, |limit| witness.look(limit)) => Err(Failure::stalled(limit, &waited_for)),
            () = abandon.cancelled() => Err(Failure::stopped()),
        };
        let mut report = match done {
            Ok(done) => {
                let marker = done.committed.marker;
                let notes = done.notes.into_iter().chain(done.committed.problems).collect();
                TargetReport {
                    backup_id: Some(marker.id),
                    read_bytes: done.read_bytes,
                    stored_bytes: marker.stored_bytes,
                    rows: marker.rows,
                    notes,
                    ..TargetReport::new(target.clone(), TargetResult::Ok, None)
                }
            }
            Err(failure) => TargetReport {
                hint: failure.hint,
                class: Some(failure.class),
                ..TargetReport::new(target.clone(), TargetResult::Failed, Some(failure.reason))
            },
        };
        report.seconds = began.elapsed().as_secs_f64();
        self.watchdog.target_ends(&target, report.result.word());
        report
    }

    /// Tries once more where the server was restarted, or the connection cut, in the middle.
    async fn twice(&self, database: &Database, bytes: u64) -> Result<backup::Done, Failure> {
        let failure = match Box::pin(self.work(database, bytes)).await {
            Err(failure) if failure.lost => failure,
            done => return done,
        };
        let alive = || self.watchdog.lives(&database.target);
        if !is_back(&database.server, &self.context.stop, alive).await {
            return Err(failure);
        }
        let mut done = Box::pin(self.work(database, bytes)).await?;
        done.notes.push(format!("the first try was broken off, and a second one made: {}", failure.reason));
        Ok(done)
    }

    async fn work(&self, database: &Database, bytes: u64) -> Result<backup::Done, Failure> {
        let connections = self.connections.get(&database.server.name).expect("every server was examined");
        let share = usize::try_from(bytes / LANE_BYTES + 1).unwrap_or(usize::MAX);
        let most = connections.available_permits().max(2) - 1;
        let lanes = share.min(self.max_lanes).min(most).max(1);
        // One more for pg_dump, which logs in by itself.
        let wanted = u32::try_from(lanes + 1).expect("a handful");
        let _room = connections.acquire_many(wanted).await.expect("the semaphore is never closed");
        self.watchdog.target_begins(&database.target, bytes);
        let locks = self.locks[&database.server.name].clone();
        let options = DumpOptions { lanes, locks, ..self.dump.clone() };
        let own = self.context.config.own_recipient(&database.target).cloned();
        let vault = self.repository.vault(&database.target).with_own_recipient(own);
        let (now, entropy) = (self.context.clock.now(), Arc::clone(&self.context.entropy));
        let writer = BackupWriter::begin(&vault, self.writer.clone(), now, entropy.as_ref()).await?;
        let session = open_dump(&database.server, &database.name, &options).await?;
        let monitor: Arc<dyn Monitor> = Arc::<Watchdog>::clone(&self.watchdog);
        let done = backup::backup(&database.target, Box::new(session), writer, monitor).await?;
        let expires_at = done.committed.marker.expires_at;
        if expires_at <= self.context.clock.now() { Err(Failure::expired(expires_at)) } else { Ok(done) }
    }

    /// How long each of the last things is waited for: they are worth it, but a stopped run is about to be killed.
    fn last_word_limit(&self) -> Duration {
        if self.context.stop.is_cancelled() { STOPPED_REPORT_LIMIT } else { REPORT_LIMIT }
    }

    async fn store_report(&self, report: &RunReport, shard: Option<(u32, u32)>) -> Result<(), String> {
        let bare = report.without_words();
        let worker = shard.map_or("1".to_owned(), |(index, count)| format!("{index}-{count}"));
        let limit = self.last_word_limit();
        let put = tokio::time::timeout(limit, store_report(&self.repository, &self.id, &worker, &bare));
        let put = put.await.map_err(|_| format!("the store did not answer for {} s", limit.as_secs()))?;
        put.map_err(|error| chain(&error))
    }
}

async fn grace(stop: CancellationToken, abandon: CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(STOP_GRACE).await;
    abandon.cancel();
}

fn retention(context: &Context) -> RetentionPolicy {
    let config = &context.config.retention;
    RetentionPolicy {
        hourly: config.hourly,
        daily: config.daily,
        weekly: config.weekly,
        monthly: config.monthly,
        yearly: config.yearly,
        timezone: config.timezone,
    }
}

/// Why one target failed, in words and for the exit code.
struct Failure {
    class: Class,
    reason: String,
    hint: Option<String>,
    /// The server went away in the middle.
    lost: bool,
}

impl Failure {
    fn stalled(limit: Duration, waited_for: &str) -> Self {
        let limit = crate::base::units::print_duration(limit);
        let hint = "mend that and run the backup again; [limits] no_progress says how long to wait".to_owned();
        let reason = format!("nothing moved for {limit}: it waited for {waited_for}");
        Self { class: Class::Stalled, reason, hint: Some(hint), lost: false }
    }

    fn expired(at: DateTime<Utc>) -> Self {
        let reason = format!("the backup took longer than it is kept: it expired at {}", at.to_rfc3339());
        let hint = "keep backups longer: --keep, or [retention]".to_owned();
        Self { class: Class::Refused, reason, hint: Some(hint), lost: false }
    }

    fn defect() -> Self {
        let reason = "a defect of dbkeeper stopped it; standard error says where".to_owned();
        Self { class: Class::Unexpected, reason, hint: None, lost: false }
    }

    fn stopped() -> Self {
        Self {
            class: Class::Cancelled,
            reason: "stopped before it was finished; do not count on it".to_owned(),
            hint: None,
            lost: false,
        }
    }
}

impl From<backup::Error> for Failure {
    fn from(error: backup::Error) -> Self {
        let lost = matches!(&error, backup::Error::Engine(cause) if is_lost(cause));
        // Tried again already: what has not passed by now is an unreachable server.
        let class = if lost { Class::Database } else { error.class() };
        Self { class, hint: error.hint(), reason: chain(&error), lost }
    }
}

impl From<crate::repository::Error> for Failure {
    fn from(error: crate::repository::Error) -> Self {
        backup::Error::from(error).into()
    }
}

impl From<crate::engine::Error> for Failure {
    fn from(error: crate::engine::Error) -> Self {
        backup::Error::from(error).into()
    }
}
