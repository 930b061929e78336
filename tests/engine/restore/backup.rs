//! A backup in memory: taken by the engine's own dump, restored as the pipeline would.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use dbkeeper::base::ids::{RunId, parse_key_time};
use dbkeeper::engine::postgres::client_program::ClientPrograms;
use dbkeeper::engine::postgres::description::PostgresDetails;
use dbkeeper::engine::postgres::dump::{DumpOptions, LOCK_TIMEOUT, open_dump};
use dbkeeper::engine::postgres::lock_budget::LockBudget;
use dbkeeper::engine::postgres::restore::{Mode, Owner, PostgresRestore, RestoreOptions, RoleHandling, open_restore};
use dbkeeper::engine::{
    Description, Downstream, DumpSession, Error, PartSink, PartSource, Published, RestoreSession, SCHEMA_PART,
};
use dbkeeper::sql::Server;

use crate::support::postgres::Cluster;

/// Small enough that tests have tables of several pieces.
const SPLIT_BYTES: u64 = 256 << 10;
/// The longest piece that a source gives.
const PIECE_BYTES: usize = 64 << 10;

/// Everything that a dump gave.
#[derive(Clone, Debug)]
pub(super) struct Backup {
    pub(super) description: Description,
    /// The pushed pieces of each part, by its name.
    pub(super) parts: BTreeMap<String, Vec<Bytes>>,
}

impl Backup {
    pub(super) async fn take(cluster: &Cluster, database: &str) -> Self {
        let options = DumpOptions {
            lanes: 2,
            lock_timeout: LOCK_TIMEOUT,
            split_bytes: SPLIT_BYTES,
            programs: Arc::new(ClientPrograms::new(Vec::new())),
            schemas: Arc::default(),
            locks: LockBudget::new(u32::MAX),
        };
        let dump = open_dump(&cluster.server(), database, &options).await.expect("open the dump");
        let names: Vec<String> = dump.parts().iter().map(|part| part.name.clone()).collect();
        let mut sink = Collector { names, parts: BTreeMap::new(), open: None };
        let all: Vec<usize> = (0..sink.names.len()).collect();
        dump.read(0, &all, &mut sink).await.expect("read all parts");
        let description = Box::new(dump).finish().await.expect("finish the dump");
        Self { description, parts: sink.parts }
    }

    pub(super) fn details(&self) -> PostgresDetails {
        serde_json::from_value(self.description.details.clone()).expect("details")
    }

    pub(super) fn change(&mut self, change: impl FnOnce(&mut PostgresDetails)) {
        let mut details = self.details();
        change(&mut details);
        self.description.details = serde_json::to_value(details).expect("details");
    }

    pub(super) fn source(&self, part: &str) -> Pieces {
        let mut pieces: VecDeque<Bytes> = VecDeque::new();
        for row in &self.parts[part] {
            match pieces.back_mut().filter(|piece| piece.len() + row.len() <= PIECE_BYTES) {
                Some(piece) => *piece = Bytes::from([piece.as_ref(), row.as_ref()].concat()),
                None => pieces.push_back(row.clone()),
            }
        }
        Pieces { pieces, then_fail: false }
    }
}

struct Collector {
    names: Vec<String>,
    parts: BTreeMap<String, Vec<Bytes>>,
    open: Option<(usize, Vec<Bytes>)>,
}

#[async_trait]
impl PartSink for Collector {
    async fn begin(&mut self, part: usize) -> Result<(), Downstream> {
        self.open = Some((part, Vec::new()));
        Ok(())
    }

    fn push(&mut self, piece: &[u8]) -> bool {
        self.open.as_mut().expect("a part has begun").1.push(Bytes::copy_from_slice(piece));
        false
    }

    async fn drain(&mut self) -> Result<(), Downstream> {
        Ok(())
    }

    async fn end(&mut self, _rows: Option<u64>) -> Result<(), Downstream> {
        let (part, pieces) = self.open.take().expect("a part has begun");
        self.parts.insert(self.names[part].clone(), pieces);
        Ok(())
    }
}

/// The pieces of one part.
pub(super) struct Pieces {
    pub(super) pieces: VecDeque<Bytes>,
    /// Fails where the end would be.
    pub(super) then_fail: bool,
}

#[async_trait]
impl PartSource for Pieces {
    async fn next(&mut self) -> Result<Option<Bytes>, Downstream> {
        match self.pieces.pop_front() {
            None if self.then_fail => {
                Err(Downstream { class: dbkeeper::base::class::Class::Corrupt, source: "a damaged chunk".into() })
            }
            piece => Ok(piece),
        }
    }
}

/// Options of a plain restore under `destination`; each has a time of its own.
pub(super) fn options(destination: &str, mode: Mode) -> RestoreOptions {
    static SECONDS: AtomicU32 = AtomicU32::new(0);
    let begin: DateTime<Utc> = parse_key_time("20260301T120000Z").expect("a time");
    let time = begin + TimeDelta::seconds(SECONDS.fetch_add(1, Ordering::Relaxed).into());
    RestoreOptions {
        destination: destination.to_owned(),
        mode,
        owner: Owner::AsRecorded,
        keep_privileges: true,
        keep_tablespaces: true,
        roles: RoleHandling::CreateMissing,
        search_path: None,
        tables: Vec::new(),
        schema_only: false,
        lanes: 2,
        run: RunId::new(time, [1, 2, 3, 4]),
        time,
    }
}

pub(super) async fn open(
    server: &Server,
    backup: &Backup,
    options: RestoreOptions,
) -> Result<Box<PostgresRestore>, Error> {
    let programs = ClientPrograms::new(Vec::new());
    open_restore(server, &programs, &backup.description, options).await.map(Box::new)
}

/// Prepares and loads, both lanes at work, stage by stage, and holds each part's count to the source's.
pub(super) async fn fill(session: &mut PostgresRestore, backup: &Backup) -> Result<(), Error> {
    session.prepare(&mut backup.source(SCHEMA_PART)).await?;
    let mut stages: BTreeMap<u32, VecDeque<&String>> = BTreeMap::new();
    for part in backup.parts.keys() {
        if let Some(stage) = session.stage(part) {
            stages.entry(stage).or_default().push_back(part);
        }
    }
    let session = &*session;
    for (_, parts) in stages {
        let queue = tokio::sync::Mutex::new(parts);
        let work = async |lane: usize| -> Result<(), Error> {
            loop {
                let Some(part) = queue.lock().await.pop_front() else { return Ok(()) };
                let rows = session.load(lane, part, &mut backup.source(part)).await?;
                assert_eq!(rows, backup.parts[part].len() as u64, "rows of {part}");
            }
        };
        match session.lanes() {
            1 => work(0).await?,
            _ => futures::try_join!(work(0), work(1)).map(|_| ())?,
        }
    }
    Ok(())
}

/// The whole restore; a failure before the publication abandons it.
pub(super) async fn restore(server: &Server, backup: &Backup, options: RestoreOptions) -> Result<Published, Error> {
    let mut session = open(server, backup, options).await?;
    let built = async {
        fill(&mut session, backup).await?;
        session.complete().await
    };
    match built.await {
        Ok(()) => session.publish().await,
        Err(error) => {
            session.abandon().await.expect("abandon");
            Err(error)
        }
    }
}

/// Everything that `pg_dump` says of a database, apart from the random word in its frame.
pub(super) fn text_of(cluster: &Cluster, database: &str, arguments: &[&str]) -> String {
    let dumped = cluster.client("pg_dump", &[arguments, &["-d", database]].concat());
    let text = String::from_utf8_lossy(&dumped).into_owned();
    let lines = text.lines().filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"));
    // The settings of roles come in the order of the roles' OIDs, which are a server's own.
    let (mut settings, mut lines): (Vec<&str>, Vec<&str>) =
        lines.partition(|line| line.starts_with("ALTER ROLE") && line.contains(" IN DATABASE "));
    settings.sort_unstable();
    lines.extend(settings);
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Fails with the first lines that differ.
pub(super) fn assert_same_text(ours: &str, theirs: &str) {
    for (number, (ours, theirs)) in ours.lines().zip(theirs.lines()).enumerate() {
        assert_eq!(ours, theirs, "line {}", number + 1);
    }
    assert_eq!(ours.lines().count(), theirs.lines().count(), "one text is longer");
}

/// The databases whose name begins with `stem`.
pub(super) fn databases(cluster: &Cluster, stem: &str) -> Vec<String> {
    let query = format!("select datname from pg_database where starts_with(datname, '{stem}') order by 1");
    cluster.psql("postgres", &query).lines().map(str::to_owned).collect()
}
