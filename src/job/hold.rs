//! Holding a backup until a date, and letting it go.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use crate::base::ids::{BackupId, TargetId};
use crate::job::list::find;
use crate::job::{Context, Error};
use crate::repository::hold::{self, Hold, MAX_REASON_BYTES};

/// Nothing is held longer: a century.
const LONGEST: TimeDelta = TimeDelta::days(100 * 366);

/// What was let go.
#[derive(Clone, Debug, Serialize)]
pub struct Released {
    /// Whose backup.
    pub vault: TargetId,
    /// Which.
    pub backup: BackupId,
    /// How many holds ended.
    pub holds: usize,
    /// When it expires, or has.
    pub expires_at: DateTime<Utc>,
}

/// Holds the backup `id`, in whichever vault it is.
pub async fn hold(context: &Context, id: BackupId, until: DateTime<Utc>, reason: &str) -> Result<Hold, Error> {
    let now = context.clock.now();
    let refused = |what: &str, hint: &str| Err(Error::Refused { what: what.to_owned(), hint: hint.to_owned() });
    if until <= now || now + LONGEST < until {
        return refused("a hold must end in the future, within a century", "give a later day with --until");
    }
    let reason = reason.trim();
    if reason.is_empty() || reason.len() > MAX_REASON_BYTES || reason.chars().any(char::is_control) {
        let hint = format!("say in one line of at most {MAX_REASON_BYTES} bytes why the backup is kept");
        return refused("this is no reason that can be stored", &hint);
    }
    let repository = context.open_repository().await?;
    let (vault, _) = find(&repository, id).await?;
    Ok(hold::place(&vault, id, until, reason, (now, context.entropy.as_ref())).await?)
}

/// Ends the holds of the backup `id`.
pub async fn release(context: &Context, id: BackupId) -> Result<Released, Error> {
    let repository = context.open_repository().await?;
    let (vault, read) = find(&repository, id).await?;
    let holds = hold::release(&vault, id, context.clock.now()).await?;
    if holds == 0 {
        return Err(Error::NothingSelected { what: format!("backup {id} is not held") });
    }
    Ok(Released { vault: vault.target().clone(), backup: id, holds, expires_at: read.marker.expires_at })
}
