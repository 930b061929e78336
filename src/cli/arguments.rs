//! The words of the command line: every verb, every flag, and what their values may be.
//!
//! Scripts depend on each of them. Nothing here does anything.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, ArgGroup, Args, Parser, Subcommand, ValueEnum};

use crate::base::ids::{BackupId, BadId, TargetId, TargetKind, TargetName};
use crate::base::units::{Share, parse_duration};
use crate::cli::exit;
use crate::cli::upkeep::{Erase, Hold, Prune, Release};
use crate::cli::values::{Destination, Moment, Shard};

/// Backs up, restores and verifies the databases of multi-tenant SaaS.
#[derive(Debug, Parser)]
#[command(name = "dbkeeper", version, after_help = exit::HELP, max_term_width = 120, disable_help_subcommand = true)]
pub struct Arguments {
    /// Flags of every verb.
    #[command(flatten)]
    pub general: General,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Flags of every verb.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every verb")]
pub struct General {
    /// The configuration [default: DBKEEPER_CONFIG, else dbkeeper.toml].
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Work on this copy (a name from [[copies]]) in place of the repository.
    #[arg(long, global = true, value_name = "NAME")]
    pub repository: Option<String>,
    /// Log more: -v each part, -vv each chunk. DBKEEPER_LOG says it in detail.
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// Print only data and errors.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// The form of log lines: text or json.
    #[arg(long, global = true, value_name = "FORM", default_value = "text", hide_possible_values = true)]
    pub log_format: LogFormat,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
#[command(after_help = exit::HELP)]
pub enum Verb {
    /// Make a recovery identity and a repository key; print the age recipient.
    #[command(after_help = exit::HELP)]
    Keygen(Keygen),
    /// Make the repository; refuses where there is one.
    #[command(after_help = exit::HELP)]
    Init(Init),
    /// Check servers, rights, client programs, the store, keys and clocks.
    #[command(after_help = exit::HELP)]
    Doctor(Doctor),
    /// Check, show or describe the configuration.
    #[command(subcommand, after_help = exit::HELP)]
    Config(ConfigVerb),
    /// Back up databases.
    #[command(after_help = exit::HELP)]
    Backup(Backup),
    /// List backups.
    #[command(after_help = exit::HELP)]
    List(List),
    /// Show one backup.
    #[command(after_help = exit::HELP)]
    Show(Show),
    /// Restore one target, or all of them.
    #[command(after_help = exit::HELP)]
    Restore(Restore),
    /// Verify what is stored.
    #[command(after_help = exit::HELP)]
    Verify(Verify),
    /// Print which backups there are as one signed line, to keep elsewhere.
    #[command(after_help = exit::HELP)]
    Checkpoint(Checkpoint),
    /// Prove backups: restore them into scratch databases, ask them, and drop them again.
    #[command(after_help = exit::HELP)]
    Drill(Drill),
    /// Write a backup as plain SQL.
    #[command(after_help = exit::HELP)]
    Export(Export),
    /// Bring a second repository in step with the first; needs no identity.
    #[command(after_help = exit::HELP)]
    Copy(Copy),
    /// Show to whom vaults are sealed, seal them to others, or begin new epochs.
    #[command(subcommand, after_help = exit::HELP)]
    Keys(KeysVerb),
    /// Delete what has expired; shows the plan first.
    #[command(after_help = exit::HELP)]
    Prune(Prune),
    /// Keep a backup until a date, whatever its expiry.
    #[command(after_help = exit::HELP)]
    Hold(Hold),
    /// End the holds of a backup.
    #[command(after_help = exit::HELP)]
    Release(Release),
    /// Destroy all that is stored of one tenant, for good.
    #[command(after_help = exit::HELP)]
    Erase(Erase),
}

/// `keygen`.
#[derive(Debug, Args)]
pub struct Keygen {
    /// The file of the new age identity; must not exist. Opens every backup: keep it away from what is backed up. Left out, only
    /// a repository key is made, for `keys rotate`.
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// The file of the new repository key; must not exist. Every machine that backs up needs it.
    #[arg(long, value_name = "FILE")]
    pub repository_key: PathBuf,
}

/// `init`.
#[derive(Debug, Args)]
pub struct Init {}

/// `doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Try out every promise of the store that backups rest on, and nothing else: some 1,200 small objects and a large one.
    #[arg(long)]
    pub store: bool,
    /// Print one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// `config`.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Check the configuration, and that every secret it names can be read.
    Check {
        /// Read no secret: for a machine that has none.
        #[arg(long)]
        without_secrets: bool,
    },
    /// Show every value with its origin; secrets by their place only.
    Show {
        /// Print one JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of the configuration.
    Schema,
}

/// `backup`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").args(["all", "central", "tenant", "volume"]).required(true).multiple(true))]
pub struct Backup {
    /// Everything that is configured.
    #[arg(long)]
    pub all: bool,
    /// The central database.
    #[arg(long)]
    pub central: bool,
    /// A tenant; may be repeated.
    #[arg(long, value_name = "NAME", value_parser = TargetName::new)]
    pub tenant: Vec<TargetName>,
    /// A volume; may be repeated.
    #[arg(long, value_name = "NAME", value_parser = TargetName::new)]
    pub volume: Vec<TargetName>,
    /// Only slice I of N, counted from 0: each target is in exactly one slice.
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
    /// Keep these backups for so long, whatever the retention says: 7d, 12h.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub keep: Option<Duration>,
    /// Print the report as one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// One target or none.
#[derive(Debug, Args)]
#[group(id = "target", multiple = false)]
pub struct OneTarget {
    /// A tenant.
    #[arg(long, value_name = "NAME", value_parser = TargetName::new)]
    pub tenant: Option<TargetName>,
    /// The central database.
    #[arg(long)]
    pub central: bool,
    /// A volume.
    #[arg(long, value_name = "NAME", value_parser = TargetName::new)]
    pub volume: Option<TargetName>,
}

impl OneTarget {
    /// The target, where one was named.
    pub fn id(&self) -> Option<TargetId> {
        let tenant = self.tenant.clone().map(|name| TargetId { kind: TargetKind::Tenant, name });
        let volume = self.volume.clone().map(|name| TargetId { kind: TargetKind::Volume, name });
        tenant.or(volume).or_else(|| self.central.then(TargetId::central))
    }
}

/// `list`.
#[derive(Debug, Args)]
pub struct List {
    /// Of which target; else of all.
    #[command(flatten)]
    pub of: OneTarget,
    /// Print one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// `show`.
#[derive(Debug, Args)]
pub struct Show {
    /// The id of a backup, as list prints it.
    #[arg(value_name = "BACKUP", value_parser = parse_backup)]
    pub backup: BackupId,
    /// Print one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// `restore`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").args(["tenant", "central", "volume", "all"]).required(true))]
pub struct Restore {
    /// Which target.
    #[command(flatten)]
    pub of: OneTarget,
    /// Every target of the repository, roles first, the central database last to be swapped.
    #[arg(long, conflicts_with_all = ["as_name", "backup", "table"])]
    pub all: bool,
    /// Restore into a database of this name, which must not exist (a folder for a volume); nothing is swapped.
    #[arg(long = "as", id = "as_name", value_name = "NAME")]
    pub as_name: Option<String>,
    /// Restore to this server of the configuration instead of where the target is.
    #[arg(long, value_name = "NAME")]
    pub server: Option<String>,
    /// Restore the newest backup that is not younger than this: 2026-11-21T09:15:00Z, or "2026-11-21 09:15" in the
    /// time zone of the retention.
    #[arg(long, value_name = "TIME", conflicts_with = "backup")]
    pub at: Option<Moment>,
    /// Restore this backup.
    #[arg(long, value_name = "ID", value_parser = parse_backup)]
    pub backup: Option<BackupId>,
    /// Restore only this table, as NAME or SCHEMA.NAME; may be repeated.
    #[arg(long, value_name = "T")]
    pub table: Vec<String>,
    /// Restore no rows.
    #[arg(long)]
    pub schema_only: bool,
    /// Print what would be done, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Build the database beside the live one and leave it there.
    #[arg(long)]
    pub no_swap: bool,
    /// Give everything to the role that logs in: no role is created, no owner and no privilege is restored.
    #[arg(long)]
    pub no_owner: bool,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    /// Restore though the repository key is lost, and say what could not be checked.
    #[arg(long)]
    pub without_repository_key: bool,
    /// Compare with what `checkpoint` printed, and stop if a backup of the target was hidden or removed since.
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// Print the report as one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// `verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// Read every pack and compare it with its name; needs no identity.
    #[arg(long)]
    pub read_packs: bool,
    /// Read every row: open, decompress and compare; needs an identity.
    #[arg(long)]
    pub read_data: bool,
    /// Only this tenant.
    #[arg(long, value_name = "NAME", value_parser = TargetName::new)]
    pub tenant: Option<TargetName>,
    /// Read only this share of each vault's packs (without --read-packs and --read-data: of the vaults), those first
    /// that were not read for the longest time: 5%, 0.5%.
    #[arg(long, value_name = "SHARE")]
    pub sample: Option<Share>,
    /// Begin nothing after this time; the next run goes on where this one stopped: 1h, 30m.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub max_duration: Option<Duration>,
    /// Leave out what this rung has proven within this time: 7d.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub older_than: Option<Duration>,
    /// Store no record of the proof: for credentials that may only read.
    #[arg(long)]
    pub no_record: bool,
    /// Compare with what `checkpoint` printed: finds backups that were hidden, removed or rolled back. Of several lines
    /// the last one counts.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["sample", "max_duration", "older_than"])]
    pub checkpoint: Option<PathBuf>,
    /// Print the report as one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// `checkpoint`.
#[derive(Debug, Args)]
pub struct Checkpoint {
    /// Name every backup, not only the newest of each vault, and write the line to this file, which must not exist.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `drill`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("whom").args(["all", "central", "tenant"]).multiple(true))]
#[command(group = ArgGroup::new("some").args(["sample", "oldest_proof"]).conflicts_with("whom"))]
#[command(group = ArgGroup::new("what").args(["all", "central", "tenant", "sample", "oldest_proof"]).required(true).multiple(true))]
pub struct Drill {
    /// Every target of the repository.
    #[arg(long)]
    pub all: bool,
    /// The central database.
    #[arg(long)]
    pub central: bool,
    /// A tenant; may be repeated.
    #[arg(long, value_name = "NAME", value_parser = TargetName::new)]
    pub tenant: Vec<TargetName>,
    /// N targets, by chance.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub sample: Option<u32>,
    /// N targets, those first that were never drilled or not for the longest time.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub oldest_proof: Option<u32>,
    /// The configured server that takes the scratch databases.
    #[arg(long, value_name = "NAME")]
    pub server: String,
    /// Let that be a server that holds databases of the fleet: a drill takes its time and its disk.
    #[arg(long)]
    pub on_live_server: bool,
    /// Write a JSON document and a page in Markdown into this folder, which must exist.
    #[arg(long, value_name = "FOLDER")]
    pub evidence: Option<PathBuf>,
    /// Store no record of the proof: for credentials that may only read.
    #[arg(long)]
    pub no_record: bool,
    /// Print the report as one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// `export`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").args(["tenant", "central", "volume"]).required(true))]
pub struct Export {
    /// Which target.
    #[command(flatten)]
    pub of: OneTarget,
    /// This backup instead of the newest.
    #[arg(long, value_name = "ID", value_parser = parse_backup)]
    pub backup: Option<BackupId>,
    /// The file to write, which must not exist; - is standard output. Whoever reads only a part of it makes the exit code 1.
    #[arg(long, value_name = "FILE")]
    pub output: Destination,
    /// Export though the repository key is lost, and say what could not be checked.
    #[arg(long)]
    pub without_repository_key: bool,
}

/// `keys`.
#[derive(Debug, Subcommand)]
pub enum KeysVerb {
    /// Show to whom every vault is sealed; needs no identity.
    List(KeysSelection),
    /// Seal the keys of every vault to the configured recipients and nobody else; rewrites no data; needs an identity.
    Reseal(KeysSelection),
    /// Begin a new epoch in every vault, for all that is stored from now on, or replace the repository key; needs no identity.
    Rotate(KeysRotation),
}

/// What every verb of `keys` takes.
#[derive(Debug, Args)]
pub struct KeysSelection {
    /// Of which target; else of all.
    #[command(flatten)]
    pub of: OneTarget,
    /// Print one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// `keys rotate`.
#[derive(Debug, Args)]
pub struct KeysRotation {
    /// What every verb of `keys` takes.
    #[command(flatten)]
    pub selection: KeysSelection,
    /// Make the key in this file the repository's, in the place of the former one; `keygen --repository-key` makes one.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tenant", "central", "volume"])]
    pub repository_key: Option<PathBuf>,
    /// The file of the key that is replaced; else [repository] key is.
    #[arg(long, value_name = "FILE", requires = "repository_key")]
    pub former_key: Option<PathBuf>,
    /// Replace a key that is lost: what the repository holds is believed, since nothing can prove it.
    #[arg(long, requires = "repository_key", conflicts_with = "former_key")]
    pub former_key_lost: bool,
}

/// `copy`.
#[derive(Debug, Args)]
pub struct Copy {
    /// The copy: a name from [[copies]].
    #[arg(long, value_name = "NAME")]
    pub to: String,
    /// Of which target; else of all.
    #[command(flatten)]
    pub of: OneTarget,
    /// Print the report as one JSON document.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn parse_backup(text: &str) -> Result<BackupId, BadId> {
    text.parse()
}
