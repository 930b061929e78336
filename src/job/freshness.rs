//! How fresh a restore's evidence is: the age of the newest backup, and whether anybody could have hidden a newer one.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::base::ids::{BackupId, TargetId};
use crate::base::units::print_duration;
use crate::job::Error;
use crate::repository::Repository;
use crate::repository::checkpoint::{Alarm, Checkpoint, Erasure, Present, erased_since};
use crate::repository::reader::{Found, Wanted};
use crate::repository::vault::{Listing, Vault};

/// What is known of the freshness of a target's backups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Freshness {
    /// The newest backup whose marker verifies.
    pub newest: BackupId,
    /// When it was taken.
    pub newest_at: DateTime<Utc>,
    /// How old it is; 0 if it is dated later than now.
    pub age_seconds: u64,
    /// When the checkpoint was taken that it was compared with.
    pub checkpoint_at: Option<DateTime<Utc>>,
    /// What the checkpoint saw and is not there any more.
    pub alarms: Vec<Alarm>,
}

impl Freshness {
    /// One sentence for people.
    pub fn told(&self) -> String {
        let age = print_duration(std::time::Duration::from_secs(self.age_seconds / 60 * 60));
        let age = if self.age_seconds < 60 { "less than a minute".to_owned() } else { age };
        let time = |time: DateTime<Utc>| time.format("%Y-%m-%d %H:%M UTC").to_string();
        let newest = format!("the newest backup is {age} old ({})", time(self.newest_at));
        match self.checkpoint_at {
            None => format!("{newest}; not compared with a checkpoint, so newer ones could have been hidden"),
            Some(at) if self.alarms.is_empty() => {
                format!("{newest}; nothing is missing that the checkpoint of {} saw", time(at))
            }
            Some(at) => format!("{newest}; the checkpoint of {} saw what is missing now", time(at)),
        }
    }
}

/// A checkpoint, and what was erased since on purpose.
pub(super) struct Seen {
    pub(super) checkpoint: Checkpoint,
    erased: BTreeMap<TargetId, Erasure>,
}

impl Seen {
    /// Looks for erasures since the checkpoint. Without the repository key no record of one can be believed.
    pub(super) async fn new(
        checkpoint: Checkpoint,
        repository: &Repository,
        now: DateTime<Utc>,
    ) -> Result<Self, Error> {
        let erased = match repository.has_key() {
            true => erased_since(repository, (checkpoint.taken_at, now)).await?,
            false => BTreeMap::new(),
        };
        Ok(Self { checkpoint, erased })
    }
}

/// The backup that is meant. That there is none is another matter where the checkpoint saw one.
pub(super) async fn find(
    wanted: &Wanted,
    vault: &Vault,
    listing: &Listing,
    checkpoint: Option<&Seen>,
) -> Result<Found, Error> {
    let error = match wanted.find(vault, listing).await {
        Ok(found) => return Ok(found),
        Err(error) => error,
    };
    let lost = checkpoint.filter(|_| listing.committed.is_empty()).and_then(|seen| gone(seen, vault.target()));
    Err(lost.unwrap_or_else(|| error.into()))
}

/// What a checkpoint says of a vault that holds no backup now.
pub(super) fn gone(seen: &Seen, target: &TargetId) -> Option<Error> {
    let Seen { checkpoint, erased } = seen;
    let newest = checkpoint.backups(target).next_back()?;
    if let Some(Erasure { at, record }) = erased.get(target) {
        return Some(Error::Erased { target: target.clone(), at: *at, record: record.clone() });
    }
    Some(Error::Behind {
        target: target.clone(),
        taken_at: checkpoint.taken_at.to_rfc3339(),
        what: format!("there is no backup of it; the newest was {newest}"),
    })
}

/// Finds out how fresh a vault is. With a checkpoint that misses something, only a backup that is named by its id goes on.
pub(super) async fn freshness(
    vault: &Vault,
    listing: &Listing,
    (wanted, found): (&Wanted, BackupId),
    seen: Option<&Seen>,
    now: DateTime<Utc>,
) -> Result<Freshness, Error> {
    let checkpoint = seen.map(|seen| &seen.checkpoint);
    let newest = match wanted {
        Wanted::Newest => found,
        // What is named may be all that is genuine.
        Wanted::At(_) | Wanted::Id(_) => Wanted::Newest.find(vault, listing).await.map_or(found, |newest| newest.id),
    };
    let mut alarms = Vec::new();
    if let Some(checkpoint) = checkpoint {
        let mut present = Vec::new();
        let named: Vec<BackupId> = checkpoint.backups(vault.target()).collect();
        let head = named.last().copied();
        for id in named.into_iter().filter(|id| listing.committed.contains(id) && *id != newest).chain([newest]) {
            let mut sha256 = None;
            // The others count by their names: nobody but the writer could have put them there.
            if Some(id) == head || id == newest {
                match vault.marker(id).await {
                    Ok(read) => sha256 = Some(read.sha256),
                    Err(_) => continue,
                }
            }
            present.push(Present { id, sha256, parent: None });
        }
        alarms = checkpoint.compare(vault.target(), &present, now);
        // What was there before an erasure went with it.
        let erased = seen.and_then(|seen| seen.erased.get(vault.target()));
        alarms.retain(|alarm| erased.is_none_or(|erasure| erasure.at < alarm.backup.created_at()));
    }
    let checkpoint_at = checkpoint.map(|checkpoint| checkpoint.taken_at);
    let newest_at = newest.created_at();
    let age_seconds = u64::try_from((now - newest_at).num_seconds()).unwrap_or(0);
    let fresh = Freshness { newest, newest_at, age_seconds, checkpoint_at, alarms };
    match (fresh.alarms.first(), wanted) {
        (Some(alarm), Wanted::Newest | Wanted::At(_)) => Err(Error::Behind {
            target: vault.target().clone(),
            taken_at: checkpoint_at.map(|at| at.to_rfc3339()).unwrap_or_default(),
            what: format!("backup {}: {}", alarm.backup, alarm.what),
        }),
        _ => Ok(fresh),
    }
}
