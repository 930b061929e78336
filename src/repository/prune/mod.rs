//! Prune: deletes what has expired, from a plan that is shown first.
//!
//! [`survey`] looks at one vault: its listing, the markers of the backups that must survive, its holds. [`plan`] decides, purely.
//! [`record`] writes down what is about to go, and [`execute`] deletes it: markers first, packs last, in batches. A kill at any
//! time leaves whole backups and leftovers that the next prune takes. It needs the repository key and the right to delete, and
//! no identity; it must not open anything that is sealed.
//!
//! What an object's name says is enough to delete it: no backup names a pack that expires before itself. Two kinds of backups
//! outlive their expiry, and with them all that they name: the newest `keep_last` of a vault, and held ones.

pub mod execute;
pub mod plan;
pub mod record;
pub mod survey;

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

use crate::base::ids::{BackupId, TargetId};
use crate::repository::layout::VaultObject;

/// Nothing is deleted before it has been expired for so long: clocks differ, and a person may be about to hold a backup.
pub const MARGIN: TimeDelta = TimeDelta::hours(1);

/// The most that the store's clock and ours may differ.
pub const CLOCK_TOLERANCE: TimeDelta = TimeDelta::minutes(5);

/// The most of a vault's backups that go in one prune, in percent, where nothing else is said.
pub const MAX_SHARE_PERCENT: u32 = 50;

/// Run reports are kept for so long.
pub const REPORT_LIFE: TimeDelta = TimeDelta::days(400);

/// The rule by which an object goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The backup, or the pack, has expired.
    Expired,
    /// It belongs to a backup that was never finished and would have expired.
    Unfinished,
    /// The same pack lies under a later expiry too: by the store's own word ([`crate::store::Content`]), not by the name alone.
    Superseded,
    /// A run report that is older than reports are kept.
    OldReport,
}

/// What keeps a prune from going on, unless it is forced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guard {
    /// The store's clock is not ours.
    Clock,
    /// The listing lacks backups that must be there.
    Shrunken,
    /// More of a vault would go than may at once.
    Share,
    /// The newest backup, or a held one, is damaged or does not verify.
    Damaged,
}

impl Guard {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Clock, Self::Shrunken, Self::Share, Self::Damaged];

    /// The word in messages and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Clock => "clock",
            Self::Shrunken => "shrunken",
            Self::Share => "share",
            Self::Damaged => "damaged",
        }
    }
}

/// A guard that holds the prune of a vault, or of everything, back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// Which.
    pub guard: Guard,
    /// What it saw.
    pub reason: String,
    /// True where it was overruled.
    pub forced: bool,
}

/// How a vault is pruned. There is no default: a wrong one loses data.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The newest backups that stay whatever their age.
    pub keep_last: usize,
    /// The most of a vault's backups that go at once, in percent.
    pub max_share_percent: u32,
    /// The guards that are overruled.
    pub forced: BTreeSet<Guard>,
    /// True where every version of what goes is deleted: the store locks objects, or the operator says so.
    pub versions: bool,
}

/// An object that goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Which.
    pub object: VaultObject,
    /// Its size.
    pub bytes: u64,
    /// Why.
    pub rule: Rule,
}

/// An expired backup that stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Which.
    pub backup: BackupId,
    /// Why.
    pub why: String,
}

/// What becomes of one vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultPlan {
    /// Whose vault.
    pub target: TargetId,
    /// Committed backups in it.
    pub backups: usize,
    /// How many are left afterwards.
    pub backups_left: usize,
    /// The newest backup.
    pub newest: Option<BackupId>,
    /// What goes, in the order in which it is deleted.
    pub removals: Vec<Removal>,
    /// Expired backups that stay.
    pub kept: Vec<Kept>,
    /// What holds it back. Nothing of this vault goes as long as one of them is not forced.
    pub refusals: Vec<Refusal>,
    /// What an operator should know.
    pub notes: Vec<String>,
}

impl VaultPlan {
    /// True if nothing of this vault may go.
    pub fn is_refused(&self) -> bool {
        self.refusals.iter().any(|refusal| !refusal.forced)
    }

    /// What goes: nothing, where a guard holds it back.
    pub fn granted(&self) -> &[Removal] {
        if self.is_refused() { &[] } else { &self.removals }
    }

    /// Bytes of what goes.
    pub fn bytes(&self) -> u64 {
        self.granted().iter().map(|removal| removal.bytes).sum()
    }
}

/// The removals of a vault with their keys, made as they are written.
struct Keyed<'a>(&'a TargetId, &'a [Removal]);

impl Serialize for Keyed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Line {
            key: String,
            bytes: u64,
            rule: Rule,
        }
        let line = |removal: &Removal| Line {
            key: removal.object.key(self.0).to_string(),
            bytes: removal.bytes,
            rule: removal.rule,
        };
        serializer.collect_seq(self.1.iter().map(line))
    }
}

impl Serialize for VaultPlan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_struct("VaultPlan", 8)?;
        map.serialize_field("target", &self.target)?;
        map.serialize_field("backups", &self.backups)?;
        map.serialize_field("backups_left", &self.backups_left)?;
        map.serialize_field("refused", &self.is_refused())?;
        map.serialize_field("refusals", &self.refusals)?;
        map.serialize_field("kept", &self.kept)?;
        map.serialize_field("notes", &self.notes)?;
        map.serialize_field("removals", &Keyed(&self.target, &self.removals))?;
        map.end()
    }
}

/// True for what says that it is of later than now, by more than clocks may differ: no honest job wrote that, and it would
/// have the last word for ever. `now` may be a [`cutoff`].
pub(crate) fn is_of_the_future(at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    now + MARGIN + CLOCK_TOLERANCE < at
}

/// The time before which things must have expired to go: by the earlier of the two clocks.
pub fn cutoff(ours: DateTime<Utc>, stores: Option<DateTime<Utc>>) -> DateTime<Utc> {
    ours.min(stores.unwrap_or(ours)) - MARGIN
}

/// What is said of two clocks that differ too much.
pub fn clock_refusal(ours: DateTime<Utc>, stores: Option<DateTime<Utc>>, policy: &Policy) -> Option<Refusal> {
    let difference = ours - stores?;
    if difference.abs() <= CLOCK_TOLERANCE {
        return None;
    }
    let side = if difference < TimeDelta::zero() { "behind" } else { "ahead of" };
    let seconds = difference.num_seconds().abs();
    let reason = format!("this machine's clock is {seconds} s {side} the store's: what has expired cannot be told");
    Some(Refusal { guard: Guard::Clock, reason, forced: policy.forced.contains(&Guard::Clock) })
}
