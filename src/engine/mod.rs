//! Layer 2: dump and restore sessions, one folder per engine, behind two traits.
//!
//! A [`DumpSession`] is a consistent view of one source, cut into independent [`PartPlan`]s; a [`RestoreSession`] builds one
//! destination from such parts. Bytes leave through a [`PartSink`] and come in through a [`PartSource`]: an engine knows
//! neither chunks nor packs, neither keys nor the repository, and it never sees more than one target.

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::base::class::Class;

pub mod check;
pub mod postgres;

/// The name of the part that carries the schema; it is restored before all others.
pub const SCHEMA_PART: &str = "schema";

/// How the bytes of a part are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartKind {
    /// Whole rows: each piece that is pushed is one row, with its line end.
    Rows,
    /// A run of bytes without inner structure.
    Bytes,
}

/// A fingerprint of what a part would contain. Equal stamps promise equal content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(pub [u8; 32]);

/// One independently dumped and restored stream of a target.
#[derive(Clone, Debug)]
pub struct PartPlan {
    /// Unique within the target, and the same from backup to backup: `schema`, `table:7`, `table:7/3`.
    pub name: String,
    /// How it is cut.
    pub kind: PartKind,
    /// An estimate of its plaintext, for order and progress, never for correctness.
    pub estimated_bytes: u64,
    /// The estimated plaintext of the whole table that it is a piece of; decides the mean chunk size.
    pub estimated_whole_bytes: u64,
    /// If the vault's newest backup holds a part of this name with this stamp, the part need not be read.
    pub stamp: Option<Stamp>,
}

/// Takes the bytes of parts, one part after the other.
#[async_trait]
pub trait PartSink: Send {
    /// The part with this index in [`DumpSession::parts`] begins.
    async fn begin(&mut self, part: usize) -> Result<(), Downstream>;
    /// One row, or a piece of bytes. True asks the caller to `drain` before it pushes more.
    fn push(&mut self, piece: &[u8]) -> bool;
    /// Waits until there is room again. A failure here means that the backup cannot succeed: stop reading.
    async fn drain(&mut self) -> Result<(), Downstream>;
    /// The part is complete. `rows` is the source's own count, which must equal what was pushed.
    async fn end(&mut self, rows: Option<u64>) -> Result<(), Downstream>;
}

/// Gives the bytes of one part.
#[async_trait]
pub trait PartSource: Send {
    /// The next piece, or `None` at the end. Pieces of row parts hold whole rows.
    async fn next(&mut self) -> Result<Option<Bytes>, Downstream>;
}

/// A consistent view of one source. Dropping it gives the view up and leaves nothing behind on the server.
#[async_trait]
pub trait DumpSession: Send + Sync {
    /// How many parts can be read at the same time.
    fn lanes(&self) -> usize;
    /// What there is to read; fixed for the life of the session.
    fn parts(&self) -> &[PartPlan];
    /// Reads these parts on one lane, in this order. At most one call per lane at a time.
    async fn read(&self, lane: usize, parts: &[usize], sink: &mut dyn PartSink) -> Result<(), Error>;
    /// After this part was read: true if its stamp describes what was read. Otherwise the stamp must not be kept with it.
    fn stamp_holds(&self, _part: usize) -> bool {
        true
    }
    /// After all parts: reads what must come last, checks that the view held, closes, and describes the target.
    async fn finish(self: Box<Self>) -> Result<Description, Error>;
}

/// Everything about a target that is not in its parts: the engine's half of the manifest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Description {
    /// `postgresql`, `mysql`, `mariadb`, `volume`.
    pub engine: String,
    /// The source's own version, as it prints it.
    pub version: String,
    /// The configured name of the server that was read; empty for a volume.
    #[serde(default)]
    pub server: String,
    /// The database or path that was read.
    pub source: String,
    /// What the engine needs to restore; only the engine reads it.
    pub details: serde_json::Value,
    /// What the operator should know: unlogged tables left out, readable passwords missing.
    pub notes: Vec<String>,
}

/// Builds one destination beside whatever is there. Dropping it leaves the live database as it was.
#[async_trait]
pub trait RestoreSession: Send + Sync {
    /// How many parts can be loaded at the same time.
    fn lanes(&self) -> usize;
    /// Creates the destination and all that must exist before rows.
    async fn prepare(&mut self, schema: &mut dyn PartSource) -> Result<(), Error>;
    /// When a part other than the schema is to be loaded: all parts of a stage before any of a higher one, and `None` not
    /// at all. Fixed once `prepare` has returned.
    fn stage(&self, _part: &str) -> Option<u32> {
        Some(0)
    }
    /// Loads one part and returns how many rows the destination says it took. At most one call per lane at a time.
    async fn load(&self, lane: usize, part: &str, source: &mut dyn PartSource) -> Result<u64, Error>;
    /// After all parts: sequences, indexes, constraints, triggers, statistics.
    async fn complete(&mut self) -> Result<(), Error>;
    /// Puts the destination in its place under its final name; says what it did with what was there.
    async fn publish(self: Box<Self>) -> Result<Published, Error>;
    /// Removes what this session made. The error says what was left.
    async fn abandon(self: Box<Self>) -> Result<(), Error>;
}

/// Where an export is written to.
pub type ExportOutput<'a> = dyn tokio::io::AsyncWrite + Send + Unpin + 'a;

/// Writes one backup as a file that the engine's stock client loads; needs no server.
///
/// A failure to write is an [`Error::Downstream`] with the `std::io::Error` as its source. After any failure what was
/// written so far is worth nothing.
#[async_trait]
pub trait ExportSession: Send + Sync {
    /// The places of these parts in the order in which they must be written, the schema left out. An unknown or a missing
    /// part is an error.
    fn order(&self, parts: &[&str]) -> Result<Vec<usize>, Error>;
    /// Writes all that must stand before rows. `heading` goes into the comment at the top, line by line.
    async fn begin(
        &mut self,
        heading: &[String],
        schema: &mut dyn PartSource,
        output: &mut ExportOutput<'_>,
    ) -> Result<(), Error>;
    /// Writes one part and returns its number of rows.
    async fn write(&self, part: &str, source: &mut dyn PartSource, output: &mut ExportOutput<'_>)
    -> Result<u64, Error>;
    /// Writes what comes after the rows. Does not flush.
    async fn finish(&mut self, output: &mut ExportOutput<'_>) -> Result<(), Error>;
}

/// The end of a restore.
#[derive(Clone, Debug, Serialize)]
pub struct Published {
    /// The name under which the restored data now is.
    pub name: String,
    /// The name under which the former live data is kept, if there was any.
    pub former: Option<String>,
    /// What the operator should know: roles created without a password, skipped refreshes.
    pub notes: Vec<String>,
}

/// A failure on the other side of a sink or source: the store, a key, a damaged chunk.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct Downstream {
    /// What it means.
    pub class: Class,
    /// What it is.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// What went wrong in an engine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The other side of a sink or source failed.
    #[error(transparent)]
    Downstream(#[from] Downstream),
    /// The database cannot be reached, or answered no.
    #[error("{action}: {reason}")]
    Database {
        /// What was tried: `lock the tables of "acme"`.
        action: String,
        /// The server's own words.
        reason: String,
        /// What it means.
        class: Class,
        /// What to type next, where that is known.
        hint: Option<String>,
        /// The cause.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// A client program is missing, too old or failed.
    #[error("{program}: {reason}")]
    Client {
        /// The program.
        program: String,
        /// Its last words on stderr, or why it could not be started.
        reason: String,
        /// What it means: [`Class::Client`] where it is missing or too old.
        class: Class,
        /// What to type next, where that is known.
        hint: Option<String>,
    },
    /// Two counts that must be equal are not, or bytes have an impossible shape.
    #[error("{what}: {details}")]
    Mismatch {
        /// What was compared.
        what: String,
        /// Both sides.
        details: String,
    },
}

impl Error {
    /// What the error means to the caller.
    pub fn class(&self) -> Class {
        match self {
            Self::Downstream(downstream) => downstream.class,
            Self::Database { class, .. } | Self::Client { class, .. } => *class,
            Self::Mismatch { .. } => Class::Corrupt,
        }
    }

    /// What to type next, where that is known.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Database { hint, .. } | Self::Client { hint, .. } => hint.as_deref(),
            Self::Downstream(_) | Self::Mismatch { .. } => None,
        }
    }
}
