//! The words of the verbs that look after a repository: `prune`, `hold`, `release`, `erase`.

use clap::{Args, ValueEnum};

use crate::base::ids::{BackupId, TargetName};
use crate::cli::arguments::parse_backup;
use crate::cli::values::LastDay;

/// `prune`.
#[derive(Debug, Args)]
pub struct Prune {
    /// Print what would go and by which rule, and delete nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Go on although this guard refuses; without a value, although any does. The plan says which refuses, and why.
    #[arg(long, value_name = "GUARD", num_args = 0..=1, require_equals = true, default_missing_value = "all")]
    pub force: Vec<ForcedGuard>,
    /// The most of a vault's backups that may go at once, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = crate::repository::prune::MAX_SHARE_PERCENT,
        value_parser = clap::value_parser!(u32).range(1..=100))]
    pub max_share: u32,
    /// Delete older versions of what goes too, in a bucket that keeps them; in one that locks objects this is always done.
    #[arg(long)]
    pub all_versions: bool,
    /// Print the plan and what was deleted as one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// `hold`.
#[derive(Debug, Args)]
pub struct Hold {
    /// The id of a backup, as list prints it.
    #[arg(value_name = "BACKUP", value_parser = parse_backup)]
    pub backup: BackupId,
    /// Until the end of this day, or until this time: 2027-03-31, 2027-03-31T12:00:00Z. Days end in the time zone of the
    /// retention.
    #[arg(long, value_name = "DATE")]
    pub until: LastDay,
    /// Why. It is stored readable for everybody who can read the bucket.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Print one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// `release`.
#[derive(Debug, Args)]
pub struct Release {
    /// The id of a backup, as list prints it.
    #[arg(value_name = "BACKUP", value_parser = parse_backup)]
    pub backup: BackupId,
    /// Print one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// `erase`.
#[derive(Debug, Args)]
pub struct Erase {
    /// The tenant.
    #[arg(long, value_name = "NAME", value_parser = TargetName::new)]
    pub tenant: TargetName,
    /// Do not ask for the name: here it is once more.
    #[arg(long, value_name = "NAME", value_parser = TargetName::new)]
    pub yes_erase: Option<TargetName>,
    /// Print what would be destroyed, and destroy nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Print the record as one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// A guard that is overruled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ForcedGuard {
    /// Every guard.
    All,
    /// The store's clock differs.
    Clock,
    /// The listing lacks backups.
    Shrunken,
    /// Too much of a vault would go.
    Share,
    /// The newest backup is damaged.
    Damaged,
}
