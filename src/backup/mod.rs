//! Layer 3: the backup of one target: a dump session's parts, through lanes, into one committed backup.
//!
//! Any failing part fails the target and commits nothing. Must not know which engine it reads or which store it writes to.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::task::JoinSet;

use crate::base::class::Class;
use crate::base::ids::TargetId;
use crate::base::monitor::{Monitor, Progress};
use crate::engine::{self, Downstream, DumpSession, PartKind, PartPlan, PartSink, Stamp};
use crate::repository;
use crate::repository::lane::Lane;
use crate::repository::manifest::Part;
use crate::repository::writer::{BackupWriter, Committed, Content};

/// Small parts are read together, up to this much estimated plaintext …
const BATCH_BYTES: u64 = 4 << 20;

/// … and up to this many at once.
const BATCH_PARTS: usize = 64;

/// Bytes between two calls of the monitor.
const PROGRESS_STEP_BYTES: u64 = 4 << 20;

/// Why a target could not be backed up. Nothing was committed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source failed.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// The repository failed.
    #[error(transparent)]
    Repository(#[from] repository::Error),
    /// The source says that it sent another number of rows than came here.
    #[error("part {part} came with {pushed} rows, and the server counted {counted}")]
    RowCount {
        /// The part.
        part: String,
        /// Rows that came.
        pushed: u64,
        /// Rows that the server says it sent.
        counted: u64,
    },
    /// The engine broke its promise to read every part once.
    #[error("part {part} was not read")]
    PartMissing {
        /// The part.
        part: String,
    },
}

impl Error {
    /// What the error means to the caller.
    pub fn class(&self) -> Class {
        match self {
            Self::Engine(error) => error.class(),
            Self::Repository(error) => error.class(),
            Self::RowCount { .. } => Class::Corrupt,
            Self::PartMissing { .. } => Class::Unexpected,
        }
    }

    /// What to type next, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Engine(error) => error.hint().map(str::to_owned),
            Self::Repository(error) => error.hint(),
            Self::RowCount { .. } | Self::PartMissing { .. } => None,
        }
    }
}

/// A finished backup.
#[derive(Clone, Debug)]
pub struct Done {
    /// What was committed.
    pub committed: Committed,
    /// What the engine has to tell the operator.
    pub notes: Vec<String>,
    /// Plaintext that was read from the source; the rest was known to be unchanged.
    pub read_bytes: u64,
}

/// Reads every part of `session` into `writer` and commits.
pub async fn backup(
    target: &TargetId,
    session: Box<dyn DumpSession>,
    writer: BackupWriter,
    monitor: Arc<dyn Monitor>,
) -> Result<Done, Error> {
    let plans: Arc<[PartPlan]> = session.parts().into();
    let mut parts: Vec<Option<Part>> = plans.iter().map(|plan| reused(&writer, plan)).collect();
    let unread: Vec<usize> = (0..plans.len()).filter(|number| parts[*number].is_none()).collect();
    let queue = Arc::new(Mutex::new(batches(&plans, unread, session.lanes())));
    let session = Arc::new(session);
    let mut lanes = JoinSet::new();
    for number in 0..session.lanes() {
        let sink = LaneSink {
            plans: Arc::clone(&plans),
            lane: writer.lane(),
            open: None,
            done: Vec::new(),
            target: target.clone(),
            monitor: Arc::clone(&monitor),
            unreported: Progress::default(),
        };
        lanes.spawn(read_batches(number, Arc::clone(&session), Arc::clone(&queue), sink));
    }
    let mut read_bytes = 0;
    while let Some(lane) = lanes.join_next().await {
        // Dropping the set stops the other lanes; dropping the session gives the view up.
        let done = lane.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        for (number, part) in done {
            read_bytes += part.bytes;
            parts[number] = Some(part);
        }
    }
    let session = Arc::into_inner(session).expect("every lane has ended");
    // A stamp that did not hold while its part was read is forgotten: the next backup reads the part again.
    let holds = |number: usize| parts[number].is_some() && session.stamp_holds(number);
    let stamps: Vec<_> = (0..plans.len()).map(|number| plans[number].stamp.filter(|_| holds(number))).collect();
    let description = session.finish().await?;
    let notes = description.notes.clone();
    let content = content(&plans, parts, &stamps, description)?;
    let committed = writer.commit(content).await?;
    Ok(Done { committed, notes, read_bytes })
}

fn reused(writer: &BackupWriter, plan: &PartPlan) -> Option<Part> {
    plan.stamp.as_ref().and_then(|stamp| writer.reuse(&plan.name, &stamp.0))
}

fn content(
    plans: &[PartPlan],
    parts: Vec<Option<Part>>,
    stamps: &[Option<Stamp>],
    description: engine::Description,
) -> Result<Content, Error> {
    let mut whole = Vec::with_capacity(parts.len());
    for ((plan, part), stamp) in plans.iter().zip(parts).zip(stamps) {
        let part = part.ok_or_else(|| Error::PartMissing { part: plan.name.clone() })?;
        whole.push((part, stamp.map(|stamp| stamp.0)));
    }
    let engine = format!("{} {}", description.engine, description.version);
    let description = serde_json::to_value(&description).expect("descriptions have only string keys");
    Ok(Content { parts: whole, description, engine })
}

/// Cuts the work into batches: large parts alone and first, small ones together. Pure.
fn batches(plans: &[PartPlan], mut unread: Vec<usize>, lanes: usize) -> VecDeque<Vec<usize>> {
    // The schema first: a client program writes it, beside the lanes. Then the largest first, so that none is left alone.
    unread.sort_by_key(|number| {
        let plan = &plans[*number];
        (plan.kind == PartKind::Rows, std::cmp::Reverse(plan.estimated_bytes))
    });
    let total: u64 = unread.iter().map(|number| plans[*number].estimated_bytes).sum();
    let share = total / (2 * lanes.max(1) as u64);
    let limit = BATCH_BYTES.min(share.max(64 << 10));
    let mut batches: VecDeque<Vec<usize>> = VecDeque::new();
    let mut open_bytes = u64::MAX;
    for number in unread {
        let plan = &plans[number];
        let alone = plan.kind == PartKind::Bytes || lanes == 0;
        let joins = batches.back().is_some_and(|batch| batch.len() < BATCH_PARTS) && !alone;
        if joins && open_bytes.saturating_add(plan.estimated_bytes) <= limit {
            open_bytes += plan.estimated_bytes;
            batches.back_mut().expect("looked at above").push(number);
        } else {
            open_bytes = if alone { u64::MAX } else { plan.estimated_bytes };
            batches.push_back(vec![number]);
        }
    }
    batches
}

async fn read_batches(
    number: usize,
    session: Arc<Box<dyn DumpSession>>,
    queue: Arc<Mutex<VecDeque<Vec<usize>>>>,
    mut sink: LaneSink,
) -> Result<Vec<(usize, Part)>, Error> {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(batch) = next else { break };
        session.read(number, &batch, &mut sink).await.map_err(unwrap_downstream)?;
    }
    sink.report();
    let LaneSink { lane, done, .. } = sink;
    lane.finish().await?;
    Ok(done)
}

/// A failure of our own side that went through the engine is ours again.
fn unwrap_downstream(error: engine::Error) -> Error {
    match error {
        engine::Error::Downstream(Downstream { class, source }) => match source.downcast::<Error>() {
            Ok(own) => *own,
            Err(source) => Error::Engine(engine::Error::Downstream(Downstream { class, source })),
        },
        other => Error::Engine(other),
    }
}

fn downstream(error: impl Into<Error>) -> Downstream {
    let error = error.into();
    Downstream { class: error.class(), source: Box::new(error) }
}

/// Leads the parts of one lane into the repository.
struct LaneSink {
    plans: Arc<[PartPlan]>,
    lane: Lane,
    open: Option<usize>,
    done: Vec<(usize, Part)>,
    target: TargetId,
    monitor: Arc<dyn Monitor>,
    unreported: Progress,
}

impl LaneSink {
    fn report(&mut self) {
        self.monitor.target_advances(&self.target, std::mem::take(&mut self.unreported));
    }
}

#[async_trait]
impl PartSink for LaneSink {
    async fn begin(&mut self, part: usize) -> Result<(), Downstream> {
        let plan = &self.plans[part];
        match plan.kind {
            PartKind::Rows => self.lane.begin_rows(&plan.name, plan.estimated_whole_bytes),
            PartKind::Bytes => self.lane.begin_bytes(&plan.name),
        }
        self.open = Some(part);
        Ok(())
    }

    fn push(&mut self, piece: &[u8]) -> bool {
        self.unreported.bytes += piece.len() as u64;
        self.lane.push(piece)
    }

    async fn drain(&mut self) -> Result<(), Downstream> {
        if self.unreported.bytes >= PROGRESS_STEP_BYTES {
            self.report();
        }
        self.lane.drain().await.map_err(downstream)
    }

    async fn end(&mut self, rows: Option<u64>) -> Result<(), Downstream> {
        let number = self.open.take().expect("a part has begun");
        let part = self.lane.end().await.map_err(downstream)?;
        if let Some(counted) = rows.filter(|counted| *counted != part.rows) {
            return Err(downstream(Error::RowCount { part: part.name, pushed: part.rows, counted }));
        }
        self.unreported.rows += part.rows;
        self.unreported.parts += 1;
        self.report();
        self.done.push((number, part));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(kind: PartKind, estimated_bytes: u64) -> PartPlan {
        let name = format!("part of {estimated_bytes}");
        PartPlan { name, kind, estimated_bytes, estimated_whole_bytes: estimated_bytes, stamp: None }
    }

    #[test]
    fn the_schema_is_read_alone_and_first_large_parts_alone_and_small_ones_together() {
        let mut plans = vec![plan(PartKind::Rows, 100), plan(PartKind::Rows, 50 << 20), plan(PartKind::Bytes, 0)];
        plans.extend((0..100).map(|_| plan(PartKind::Rows, 10)));
        let batches = batches(&plans, (0..plans.len()).collect(), 2);
        assert_eq!(batches[0], [2]);
        assert_eq!(batches[1], [1]);
        assert_eq!(batches[2].len(), BATCH_PARTS);
        let mut all: Vec<usize> = batches.into_iter().flatten().collect();
        all.sort_unstable();
        assert_eq!(all, (0..plans.len()).collect::<Vec<_>>(), "every part once");
    }
}
