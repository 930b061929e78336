//! The restore job's plan, which can be shown and asked about; `restore_run` carries it out.
//!
//! The plan reads the repository and, where it can, the registry; it changes nothing. A registry that cannot be read (the
//! central database is lost too) stops nobody: then the backup itself says which database it was.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::base::class::Class;
use crate::base::cpu::ByteBudget;
use crate::base::ids::{BackupId, RunId, TargetId, TargetKind};
use crate::codec::seal::Identity;
use crate::engine::Description;
use crate::engine::postgres::restore::{Mode, RestoreOptions};
use crate::fleet::FindingKind;
use crate::job::damage::{self, explain};
use crate::job::freshness::{self, Freshness, Seen, freshness};
use crate::job::places::{owned_by_another, refuse_shared_places};
use crate::job::restore_options::restore_options;
use crate::job::{Context, Error, chain, checkpoint};
use crate::repository::reader::{BackupReader, Found, Wanted};
use crate::repository::vault::{Listing, Vault};
use crate::repository::{self, Repository};
use crate::sql::Server;

/// What is restored, and how.
#[derive(Clone, Debug)]
pub struct Request {
    /// One target, or `None` for all that the repository has.
    pub target: Option<TargetId>,
    /// Which of its backups.
    pub wanted: Wanted,
    /// Into a new database of this name.
    pub as_name: Option<String>,
    /// Onto this configured server.
    pub server: Option<String>,
    /// Only these tables.
    pub tables: Vec<String>,
    /// No rows.
    pub schema_only: bool,
    /// Leave the database beside the live one.
    pub no_swap: bool,
    /// Everything belongs to the role that logs in: nothing that the backup says of roles and privileges is done.
    pub no_owner: bool,
    /// The repository key is lost.
    pub without_repository_key: bool,
    /// The text of a checkpoint, to compare with.
    pub checkpoint: Option<String>,
}

impl Request {
    /// True if the restored database takes the place of the live one: a part of a database never does.
    fn swaps(&self) -> bool {
        self.as_name.is_none() && !self.no_swap && self.tables.is_empty() && !self.schema_only
    }
}

/// One restore that is about to happen.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Whose backup.
    pub target: TargetId,
    /// Which backup.
    pub backup_id: BackupId,
    /// When it was taken.
    pub created_at: DateTime<Utc>,
    /// Its rows.
    pub rows: u64,
    /// Its plaintext.
    pub bytes: u64,
    /// The name of the destination server.
    pub server: String,
    /// The name of the destination database.
    pub database: String,
    /// True if a database of that name is replaced (and kept under another name).
    pub swaps: bool,
    /// False where authenticity could not be checked.
    pub verified: bool,
    /// How fresh the target's backups are.
    pub freshness: Freshness,
    /// What the operator should know before saying yes.
    pub warnings: Vec<String>,
    #[serde(skip)]
    pub(super) reader: Arc<BackupReader>,
    #[serde(skip)]
    pub(super) destination: Server,
    #[serde(skip)]
    pub(super) options: RestoreOptions,
    #[serde(skip)]
    pub(super) passed_over: Vec<String>,
    #[serde(skip)]
    pub(super) vault: Vault,
    #[serde(skip)]
    pub(super) identities: Arc<[Identity]>,
}

/// Everything that is about to happen, in order.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The run.
    pub run_id: RunId,
    /// The restores: the central database last.
    pub steps: Vec<Step>,
    /// Targets that cannot be restored.
    pub impossible: Vec<Impossible>,
    /// Targets of which there is nothing to restore: they hold back nobody.
    pub without_backup: Vec<Impossible>,
}

/// A target that cannot be restored.
#[derive(Clone, Debug, Serialize)]
pub struct Impossible {
    /// Which target.
    pub target: TargetId,
    /// Why: the whole chain of causes.
    pub reason: String,
    /// What to type next, where that is known.
    pub hint: Option<String>,
    #[serde(skip)]
    pub(super) class: Class,
}

impl Impossible {
    fn new(target: TargetId, error: &Error) -> Self {
        Self { target, reason: chain(error), hint: error.hint(), class: error.class() }
    }
}

/// The targets that a checkpoint saw and that have no vault any more: those that somebody hid, and those that were erased.
fn lost(seen: &Seen, known: &[TargetId]) -> (Vec<Impossible>, Vec<Impossible>) {
    let targets = checkpoint::without_vault(&seen.checkpoint, known).into_iter();
    let told = targets.filter_map(|target| Some(Impossible::new(target.clone(), &freshness::gone(seen, &target)?)));
    told.partition(|one| one.class != Class::Empty)
}

/// Where a target's database is or was.
struct Place {
    server: Server,
    database: String,
    warnings: Vec<String>,
}

struct Planner<'a> {
    context: &'a Context,
    request: &'a Request,
    repository: Repository,
    servers: BTreeMap<String, Server>,
    identities: Arc<[Identity]>,
    discovery: Result<crate::fleet::Discovery, String>,
    run: RunId,
    budget: ByteBudget,
    checkpoint: Option<Seen>,
}

/// Plans what `request` asks for. Nothing is changed.
pub async fn plan(context: &Context, request: &Request) -> Result<Plan, Error> {
    let planner = Planner::open(context, request).await?;
    let run_id = planner.run;
    let mut plan = Plan { run_id, steps: Vec::new(), impossible: Vec::new(), without_backup: Vec::new() };
    match &request.target {
        Some(target) => plan.steps.push(Box::pin(planner.step(target)).await?),
        None => {
            let (mut targets, _) = planner.repository.vaults().await?;
            // The central database last: until it is swapped, the application sees no tenant that is not there yet.
            targets.sort_by_key(|target| (target.kind == TargetKind::Central, target.clone()));
            if let Some(seen) = &planner.checkpoint {
                (plan.impossible, plan.without_backup) = lost(seen, &targets);
            }
            for target in targets {
                match Box::pin(planner.step(&target)).await {
                    Ok(step) => plan.steps.push(step),
                    Err(error) => {
                        let nothing = target.kind == TargetKind::Volume || error.class() == Class::Empty;
                        let impossible = Impossible::new(target, &error);
                        match nothing {
                            // A vault whose first backup never ended, or of a tenant that came later; a volume.
                            true => plan.without_backup.push(impossible),
                            false => plan.impossible.push(impossible),
                        }
                    }
                }
            }
            refuse_shared_places(&mut plan);
            if plan.steps.is_empty() && plan.impossible.is_empty() {
                return Err(Error::NothingSelected { what: "the repository holds no vault".to_owned() });
            }
        }
    }
    Ok(plan)
}

impl<'a> Planner<'a> {
    async fn open(context: &'a Context, request: &'a Request) -> Result<Self, Error> {
        let repository = match request.without_repository_key {
            true => context.open_repository_without_key().await?,
            false => context.open_repository().await?,
        };
        let servers = context.servers().await?;
        let identities = context.identities().await?.into();
        let discovery = match context.discover(&servers).await {
            Ok(discovery) => Ok(discovery),
            Err(error) => Err(chain(&error)),
        };
        let budget = ByteBudget::new(context.config.limits.pipeline_bytes() / 2);
        let checkpoint = request.checkpoint.as_deref().map(|text| checkpoint::read(text, &repository)).transpose()?;
        let checkpoint = match checkpoint {
            Some(checkpoint) => Some(Seen::new(checkpoint, &repository, context.clock.now()).await?),
            None => None,
        };
        let run = context.new_run();
        Ok(Self { context, request, repository, servers, identities, discovery, run, budget, checkpoint })
    }

    async fn step(&self, target: &TargetId) -> Result<Step, Error> {
        if target.kind == TargetKind::Volume {
            let what = format!("{target}: volumes cannot be restored yet");
            return Err(Error::Refused { what, hint: "name a tenant, or --central".to_owned() });
        }
        let vault = self.repository.vault(target);
        let listing = vault.list().await?;
        let (wanted, checkpoint) = (&self.request.wanted, self.checkpoint.as_ref());
        let Found { id, passed_over } = freshness::find(wanted, &vault, &listing, checkpoint).await?;
        let now = self.run.started_at();
        let freshness = freshness(&vault, &listing, (wanted, id), checkpoint, now).await?;
        let reader = match self.backup(&vault, listing, id).await {
            Ok(reader) => reader,
            Err(error) => return Err(explain(&vault, id, &self.identities, ("restore", error.into())).await),
        };
        let description = description(&reader)?;
        let place = self.place(target, &description)?;
        let mode = match (&self.request.as_name, self.request.swaps()) {
            (Some(_), _) => Mode::AsNew,
            (None, false) => Mode::NoSwap,
            (None, true) => Mode::Swap,
        };
        let mut warnings = place.warnings;
        warnings.extend(damage::missing(&reader));
        warnings.extend(passed_over.iter().cloned());
        warnings.extend(freshness.alarms.iter().map(|alarm| format!("backup {}: {}", alarm.backup, alarm.what)));
        if freshness.newest != id {
            warnings.push("this is not the newest backup".to_owned());
        }
        if self.run.started_at() < id.created_at() {
            warnings.push("this backup is dated later than now: one of two clocks is wrong".to_owned());
        }
        if !reader.marker().verified {
            warnings.push(
                "without the repository key nobody can tell whether this backup is authentic or was forged".to_owned(),
            );
        }
        let marker = &reader.marker().marker;
        Ok(Step {
            target: target.clone(),
            backup_id: id,
            created_at: marker.created_at,
            rows: marker.rows,
            bytes: marker.read_bytes,
            server: place.server.name.clone(),
            database: place.database.clone(),
            swaps: mode == Mode::Swap,
            verified: reader.marker().verified,
            freshness,
            warnings,
            options: restore_options(self.request, self.run, place.database, mode, &place.server),
            destination: place.server,
            reader: Arc::new(reader),
            passed_over,
            vault,
            identities: Arc::clone(&self.identities),
        })
    }

    /// Opens a backup. Where not all of it is wanted, packs may be missing: what needs one fails when it is read.
    async fn backup(&self, vault: &Vault, listing: Listing, id: BackupId) -> Result<BackupReader, repository::Error> {
        let (identities, budget) = (&self.identities, self.budget.clone());
        match self.request.tables.is_empty() && !self.request.schema_only {
            true => BackupReader::open(vault, listing, id, identities, budget).await,
            false => BackupReader::open_incomplete(vault, listing, id, identities, budget).await,
        }
    }

    /// Where to restore: what the operator says, else the registry, else what the backup says.
    fn place(&self, target: &TargetId, description: &Description) -> Result<Place, Error> {
        let mut warnings = Vec::new();
        let discovery = self.discovery.as_ref().ok();
        let known = discovery.and_then(|found| found.databases.iter().find(|database| database.target == *target));
        // A lost database is the usual reason to be here: its row still says its name.
        let lost = discovery.and_then(|found| {
            let mut findings = found.findings.iter();
            findings.find(|f| f.kind == FindingKind::RowWithoutDatabase && f.tenant == target.name.as_str())
        });
        match (&self.discovery, known, lost) {
            (_, Some(_), _) => {}
            (_, None, Some(finding)) => {
                warnings.push(format!("database {:?} does not exist at present", finding.database))
            }
            (Err(reason), None, None) => {
                warnings.push(format!("the registry cannot be read, so the backup's own names are used: {reason}"));
            }
            (Ok(_), None, None) => {
                warnings.push(format!("the registry has no {target}; the backup's own names are used"))
            }
        }
        let lost_on = || lost.and_then(|finding| self.servers.get(&finding.server).cloned());
        let server = match (&self.request.server, known) {
            (Some(name), _) => self.server(name)?,
            (None, Some(database)) => Server::clone(&database.server),
            (None, None) => match lost_on() {
                Some(server) => server,
                None => self.server(&description.server).or_else(|error| self.default_server(target).ok_or(error))?,
            },
        };
        let row = lost.map(|finding| finding.database.clone()).filter(|name| !name.is_empty());
        let live = known.map(|database| database.name.clone()).or(row).unwrap_or_else(|| description.source.clone());
        let shared = self.shared_with_others(&live);
        let replaces = self.request.swaps();
        if replaces && shared {
            let what =
                format!("database {live:?} belongs to several tenants: restoring one would replace the others too");
            return Err(Error::Refused { what, hint: "restore beside it, with --as NAME or --no-swap".to_owned() });
        }
        let found = discovery.map_or(&[][..], |found| found.databases.as_slice());
        if let Some(owner) = owned_by_another(found, target, (&server, &live)).filter(|_| replaces) {
            let what = format!("database {live:?} is now that of {owner}: restoring {target} would replace it");
            return Err(Error::Refused { what, hint: "restore beside it, with --as NAME or --no-swap".to_owned() });
        }
        Ok(Place { server, database: self.request.as_name.clone().unwrap_or(live), warnings })
    }

    fn shared_with_others(&self, database: &str) -> bool {
        self.discovery.as_ref().is_ok_and(|discovery| {
            let mut findings = discovery.findings.iter();
            findings.any(|finding| finding.kind == FindingKind::SharedDatabase && finding.database == database)
        })
    }

    fn server(&self, name: &str) -> Result<Server, Error> {
        self.servers.get(name).cloned().ok_or_else(|| {
            let known: Vec<&str> = self.servers.keys().map(String::as_str).collect();
            let what = format!("server {name:?} is not configured");
            Error::Refused { what, hint: format!("name one with --server: {}", known.join(", ")) }
        })
    }

    fn default_server(&self, target: &TargetId) -> Option<Server> {
        let config = &self.context.config;
        let name = match target.kind {
            TargetKind::Central => config.central.as_ref().map(|central| &central.server),
            TargetKind::Tenant | TargetKind::Volume => config.tenants.as_ref().map(|tenants| &tenants.server),
        };
        name.and_then(|name| self.servers.get(name).cloned())
    }
}

pub(super) fn description(reader: &BackupReader) -> Result<Description, Error> {
    let value = reader.manifest().description.clone();
    serde_json::from_value(value).map_err(|error| Error::Other {
        what: format!("the description in the manifest of {} cannot be read: {error}", reader.manifest().id),
        class: Class::Corrupt,
    })
}
