//! The drill job: backups are restored into scratch databases, proven, asked the operator's own questions, and dropped again.
//!
//! What counts is what a restore would count: every row is loaded, counted and compared with its checksum, by the same code.
//! Nothing is ever published: the scratch database keeps its mark from its first moment to its last, so that one that was left by a
//! kill is recognised and dropped by the next drill.

mod one;
mod scratch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};
use futures::StreamExt;
use serde::Serialize;

use crate::base::class::Class;
use crate::base::cpu::ByteBudget;
use crate::base::ids::{BackupId, RunId, TargetId, TargetKind};
use crate::base::monitor::Monitor;
use crate::codec::seal::Identity;
use crate::engine::postgres::leftovers::{list_leftovers, remove_leftovers};
use crate::job::watchdog::Watchdog;
use crate::job::{Context, Error, chain};
use crate::repository::Repository;
use crate::repository::verify::Rung;
use crate::restore;
use crate::run::fan_out::fan_out;
use crate::run::report::TargetResult;
use crate::sql::Server;

/// Vaults whose records are read at once, to put them in order.
const RECORDS_AT_ONCE: usize = 16;

/// Drills at once: each restore has lanes of its own.
const MAX_WIDTH: usize = 2;

/// Who is drilled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selected {
    /// Every target of the repository.
    All,
    /// These.
    These(Vec<TargetId>),
    /// So many, by chance.
    Sample(usize),
    /// So many, those first that were never drilled or not for the longest time.
    OldestProof(usize),
}

/// What is drilled, and where.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who.
    pub selected: Selected,
    /// The configured server that takes the scratch databases.
    pub server: String,
    /// Whether that may be one that holds databases of the fleet.
    pub on_live_server: bool,
    /// Whether proof records are stored.
    pub record: bool,
}

/// What came of one check.
#[derive(Clone, Debug, Serialize)]
pub struct Checked {
    /// Its name.
    pub name: String,
    /// True if the answer was what was expected.
    pub passed: bool,
    /// Why not.
    pub reason: Option<String>,
}

/// What came of one target.
#[derive(Clone, Debug, Serialize)]
pub struct Drilled {
    /// Whose backup.
    pub target: TargetId,
    /// How it ended.
    pub result: TargetResult,
    /// Why it did not end well.
    pub reason: Option<String>,
    /// What to type next.
    pub hint: Option<String>,
    /// The backup that was restored: the newest.
    pub backup_id: Option<BackupId>,
    /// When it was taken.
    pub created_at: Option<DateTime<Utc>>,
    /// How old it was when the drill began: the recovery point that was measured.
    pub recovery_point_seconds: u64,
    /// How long restore and checks took: the recovery time that was measured.
    pub recovery_time_seconds: f64,
    /// Rows that were loaded, counted and compared.
    pub rows: u64,
    /// Parts whose checksums were compared.
    pub parts: u64,
    /// Plaintext that was loaded.
    pub bytes: u64,
    /// The operator's own checks.
    pub checks: Vec<Checked>,
    /// What an operator should know although it ended well.
    pub notes: Vec<String>,
    /// When the drill ended that was the last one before this.
    pub previous_proof_at: Option<DateTime<Utc>>,
    /// When this one ended, if it is a proof.
    pub proven_at: Option<DateTime<Utc>>,
    /// Why the proof could not be recorded.
    pub unrecorded: Option<String>,
    /// What the failure means.
    #[serde(skip)]
    pub class: Option<Class>,
    /// When the newest record of the vault was made.
    #[serde(skip)]
    recorded_at: Option<DateTime<Utc>>,
}

/// What came of a drill.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The run.
    pub run_id: RunId,
    /// `ok`, `failed` or `stopped`.
    pub result: &'static str,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// How long it took.
    pub seconds: f64,
    /// The repository's id.
    pub repository: String,
    /// The version of this program.
    pub program: &'static str,
    /// The name of the scratch server.
    pub server: String,
    /// Scratch databases of earlier drills that were dropped, and those that could not be.
    pub leftovers: Vec<String>,
    /// What came of each target.
    pub targets: Vec<Drilled>,
}

/// One drill over many targets.
struct Drill {
    context: Context,
    request: Request,
    repository: Repository,
    scratch: Server,
    identities: Arc<[Identity]>,
    budget: ByteBudget,
    run: RunId,
    watchdog: Watchdog,
}

/// Drills. A target that fails is in the report; an error means that nobody was drilled.
pub async fn run(context: &Context, request: &Request) -> Result<Report, Error> {
    let began = Instant::now();
    let repository = context.open_repository().await?;
    let servers = context.servers().await?;
    let scratch = scratch::server(context, request, &servers).await?;
    let identities = context.identities().await?.into();
    let budget = ByteBudget::new(context.config.limits.pipeline_bytes() / 2);
    let run = context.new_run();
    let (context, request) = (context.clone(), request.clone());
    let watchdog = Watchdog::new(Arc::clone(&context.monitor));
    let drill = Arc::new(Drill { context, request, repository, scratch, identities, budget, run, watchdog });
    let targets = drill.targets().await?;
    let limit = drill.context.config.limits.no_progress;
    let removed = tokio::time::timeout(limit, remove_old(&drill.scratch)).await;
    let leftovers = removed.unwrap_or_else(|_| {
        let waited_for = format!("an answer of server {:?}", drill.scratch.name);
        Err(restore::Error::Stalled { limit, waited_for }.into())
    })?;
    drill.watchdog.run_begins(targets.len());
    let width = drill.context.config.limits.targets_at_once.clamp(1, MAX_WIDTH);
    let results = fan_out(targets.clone(), width, &drill.context.stop, |target| {
        let drill = Arc::clone(&drill);
        async move { Box::pin(drill.one(target)).await }
    });
    let results = results.await.into_iter().zip(targets);
    let skipped = |target| Drilled::skipped(target, "the run was stopped");
    let targets: Vec<Drilled> = results.map(|(result, target)| result.unwrap_or_else(|| skipped(target))).collect();
    let failed = targets.iter().any(|target| target.result == TargetResult::Failed);
    let result = match (failed, drill.context.stop.is_cancelled()) {
        (true, _) => "failed",
        (false, true) => "stopped",
        (false, false) => "ok",
    };
    Ok(Report {
        run_id: run,
        result,
        started_at: run.started_at(),
        seconds: began.elapsed().as_secs_f64(),
        repository: drill.repository.id().to_string(),
        program: env!("CARGO_PKG_VERSION"),
        server: drill.scratch.name.clone(),
        leftovers,
        targets,
    })
}

/// Drops what killed drills left, unless they are running after all.
async fn remove_old(server: &Server) -> Result<Vec<String>, Error> {
    let mut told = Vec::new();
    let ours = list_leftovers(server).await?.unfinished.into_iter().filter(|left| scratch::is_ours(&left.destination));
    let destinations: BTreeMap<String, ()> = ours.map(|left| (left.destination, ())).collect();
    for destination in destinations.into_keys() {
        let removal = remove_leftovers(server, &destination).await?;
        told.extend(removal.dropped.iter().map(|name| format!("{name:?}, left by an earlier drill, was dropped")));
        told.extend(removal.kept.iter().map(|what| format!("an earlier drill left {what}")));
    }
    Ok(told)
}

impl Drill {
    /// Who is drilled, in order.
    async fn targets(&self) -> Result<Vec<TargetId>, Error> {
        let (mut known, _) = self.repository.vaults().await?;
        known.retain(|target| target.kind != TargetKind::Volume);
        let nothing = |what: String| Err(Error::NothingSelected { what });
        if known.is_empty() {
            return nothing("the repository holds no vault of a database".to_owned());
        }
        match &self.request.selected {
            Selected::All => Ok(known),
            Selected::These(targets) => match targets.iter().find(|target| !known.contains(target)) {
                Some(absent) => nothing(format!("{absent} has no vault")),
                None => Ok(targets.clone()),
            },
            Selected::Sample(count) => {
                let mut drawn: Vec<(u64, TargetId)> = known.into_iter().map(|target| (self.draw(), target)).collect();
                drawn.sort();
                Ok(drawn.into_iter().take(*count).map(|(_, target)| target).collect())
            }
            Selected::OldestProof(count) => {
                let reads = futures::stream::iter(known).map(|target| async move {
                    let at = self.last_drill(&target).await?;
                    Ok::<_, Error>((at, target))
                });
                let mut reads = reads.buffered(RECORDS_AT_ONCE);
                let mut order = Vec::new();
                while let Some(read) = reads.next().await {
                    order.push(read?);
                }
                order.sort();
                Ok(order.into_iter().take(*count).map(|(_, target)| target).collect())
            }
        }
    }

    fn draw(&self) -> u64 {
        let mut bytes = [0; 8];
        self.context.entropy.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// When a target was last drilled, by a record that verifies.
    async fn last_drill(&self, target: &TargetId) -> Result<Option<DateTime<Utc>>, Error> {
        let vault = self.repository.vault(target);
        // A record that does not verify proves nothing: such a target comes first.
        let last = vault.last_proof(&vault.proofs().await?, &[Rung::Drill], &mut Vec::new()).await?;
        Ok(last.map(|proof| proof.proven_at))
    }
}

impl Drilled {
    fn begun(target: TargetId) -> Self {
        Self {
            target,
            result: TargetResult::Failed,
            reason: None,
            hint: None,
            backup_id: None,
            created_at: None,
            recovery_point_seconds: 0,
            recovery_time_seconds: 0.0,
            rows: 0,
            parts: 0,
            bytes: 0,
            checks: Vec::new(),
            notes: Vec::new(),
            previous_proof_at: None,
            proven_at: None,
            unrecorded: None,
            class: None,
            recorded_at: None,
        }
    }

    fn skipped(target: TargetId, reason: &str) -> Self {
        Self { result: TargetResult::Skipped, reason: Some(reason.to_owned()), ..Self::begun(target) }
    }

    fn fail(&mut self, error: &Error) {
        self.result = if error.class() == Class::Cancelled { TargetResult::Skipped } else { TargetResult::Failed };
        (self.reason, self.hint, self.class) = (Some(chain(error)), error.hint(), Some(error.class()));
    }
}
