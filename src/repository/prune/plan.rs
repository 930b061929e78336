//! What goes, what stays, and what holds a prune back. Pure.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use chrono::{DateTime, Utc};

use crate::base::ids::{BackupId, Hash32};
use crate::repository::layout::VaultObject;
use crate::repository::prune::survey::{Known, Survey};
use crate::repository::prune::{Guard, Kept, MARGIN, Policy, Refusal, Removal, Rule, VaultPlan};
use crate::repository::vault::Listed;

/// Backups that must stay although they have expired, and what they name.
#[derive(Default)]
struct Survivors {
    why: BTreeMap<BackupId, String>,
    needed: HashSet<Hash32>,
    /// What those of them need that have themselves expired: they may have known it under any key.
    outlived: HashSet<Hash32>,
}

/// Decides about one vault. What expired at `cutoff` or before goes, unless a survivor needs it.
pub fn plan(survey: &Survey, policy: &Policy, cutoff: DateTime<Utc>) -> VaultPlan {
    let committed = survey.committed();
    let survivors = survivors(survey, policy, &committed, cutoff);
    let goes = |id: &BackupId| id.expires_at() <= cutoff && !survivors.why.contains_key(id);
    let mut removals = documents(survey, &committed, goes, cutoff);
    removals.extend(packs(survey, &survivors, cutoff, policy.versions));
    removals.sort_by_key(|removal| stage(&removal.object));
    let gone = committed.iter().filter(|id| goes(id)).count();
    let forced = |guard| policy.forced.contains(&guard);
    let mut refusals = Vec::new();
    refusals.extend(shrunken(survey, &committed, cutoff).map(|reason| (Guard::Shrunken, reason)));
    refusals.extend(share(policy, committed.len(), gone).map(|reason| (Guard::Share, reason)));
    if !removals.is_empty() {
        refusals.extend(damaged(survey).map(|reason| (Guard::Damaged, reason)));
    }
    VaultPlan {
        target: survey.target.clone(),
        backups: committed.len(),
        backups_left: committed.len() - gone,
        newest: committed.last().copied(),
        removals,
        kept: survivors.why.into_iter().map(|(backup, why)| Kept { backup, why }).collect(),
        refusals: refusals
            .into_iter()
            .map(|(guard, reason)| Refusal { guard, reason, forced: forced(guard) })
            .collect(),
        notes: survey.problems.clone(),
    }
}

/// Markers first, so that a backup ends before anything of it does; packs last. A release outlives its hold.
pub(crate) fn stage(object: &VaultObject) -> u8 {
    match object {
        VaultObject::Marker(_) => 0,
        VaultObject::Index(_) | VaultObject::Manifest(_) | VaultObject::Hold(..) | VaultObject::Proof(_) => 1,
        VaultObject::Release(..) => 2,
        VaultObject::Pack(..) | VaultObject::Epoch(..) => 3,
    }
}

/// The stages, in order.
pub(crate) const STAGES: std::ops::RangeInclusive<u8> = 0..=3;

fn survivors(survey: &Survey, policy: &Policy, committed: &BTreeSet<BackupId>, cutoff: DateTime<Utc>) -> Survivors {
    let mut survivors = Survivors::default();
    let mut last = 0;
    for (id, known) in survey.known.iter().rev() {
        // A broken one stays too, while it is among the newest, but never in the place of a whole one.
        let counts = matches!(known, Known::Whole(..));
        if last < policy.keep_last && !matches!(known, Known::Forged(_)) {
            survivors.keep(*id, known, cutoff, || format!("one of the newest {} backups", policy.keep_last));
        }
        last += usize::from(counts);
    }
    for (id, holds) in &survey.held {
        let Some(hold) = holds.first().filter(|_| committed.contains(id)) else { continue };
        let until = hold.until.map_or("somebody looks at its hold".to_owned(), |until| until.to_rfc3339());
        let why = || format!("held until {until}: {}", hold.reason);
        match survey.known.get(id) {
            Some(known) => survivors.keep(*id, known, cutoff, why),
            // Not read, since it has not expired: neither have its packs.
            None if cutoff < id.expires_at() => {}
            // Removed since the listing, by another pruner: there is nothing to keep.
            None => drop(survivors.why.insert(*id, why())),
        }
    }
    survivors
}

impl Survivors {
    /// Keeps a backup and what it names. One that has not expired keeps itself, but for older packs that outlive a renewal.
    fn keep(&mut self, id: BackupId, known: &Known, cutoff: DateTime<Utc>, why: impl FnOnce() -> String) {
        if let Known::Whole(names, _) | Known::Broken(names, ..) = known {
            self.needed.extend(names);
            if id.expires_at() <= cutoff {
                self.outlived.extend(names);
            }
        }
        if id.expires_at() <= cutoff {
            self.why.entry(id).or_insert_with(why);
        }
    }
}

/// Documents of backups that go, and of backups that never came to be.
fn documents(
    survey: &Survey,
    committed: &BTreeSet<BackupId>,
    goes: impl Fn(&BackupId) -> bool,
    cutoff: DateTime<Utc>,
) -> Vec<Removal> {
    let of = |object: &VaultObject| match object {
        VaultObject::Marker(id) | VaultObject::Index(id) | VaultObject::Manifest(id) => Some(*id),
        VaultObject::Hold(id, _) | VaultObject::Release(id, _) => Some(*id),
        VaultObject::Pack(..) | VaultObject::Epoch(..) | VaultObject::Proof(_) => None,
    };
    let removal = |&Listed { object, bytes, .. }: &Listed| {
        if let VaultObject::Proof(proof) = object {
            let expired = proof.expires_at() <= cutoff;
            return expired.then_some(Removal { object, bytes, rule: Rule::Expired });
        }
        let id = of(&object)?;
        let rule = match committed.contains(&id) {
            true if goes(&id) => Rule::Expired,
            false if id.expires_at() <= cutoff && !survey.held.contains_key(&id) => Rule::Unfinished,
            _ => return None,
        };
        Some(Removal { object, bytes, rule })
    };
    survey.objects.iter().filter_map(removal).collect()
}

/// Packs that have expired and that no survivor needs, and the older of two keys of one pack.
///
/// A key that has not expired goes only where the store itself says that the same bytes lie under the later one: whoever can
/// put objects and not delete them must not make us delete the good one of the two. And where every version of a key is deleted,
/// none goes early: both may have been overwritten with the same garbage, and an older version is the good one.
fn packs(survey: &Survey, survivors: &Survivors, cutoff: DateTime<Utc>, versions: bool) -> Vec<Removal> {
    let mut keys: BTreeMap<Hash32, Vec<(DateTime<Utc>, &Listed)>> = BTreeMap::new();
    for listed in &survey.objects {
        if let VaultObject::Pack(expiry, hash) = listed.object {
            keys.entry(hash).or_default().push((expiry, listed));
        }
    }
    let mut removals = Vec::new();
    for (hash, mut keys) in keys {
        keys.sort_unstable_by_key(|key| key.0);
        let Some((latest, whole)) = keys.pop() else { continue };
        let mut remove = |Listed { object, bytes, .. }: &Listed, rule| {
            removals.push(Removal { object: *object, bytes: *bytes, rule });
        };
        for (expiry, older) in keys {
            let is_same = older.bytes == whole.bytes && older.content.is_some() && older.content == whole.content;
            if is_same && !versions {
                remove(older, Rule::Superseded);
            } else if expiry <= cutoff && !survivors.outlived.contains(&hash) {
                remove(older, Rule::Expired);
            }
        }
        if latest <= cutoff && !survivors.needed.contains(&hash) {
            remove(whole, Rule::Expired);
        }
    }
    removals
}

/// What the listing lacks of what must be there: what the last prune left, unexpired parents of backups, held backups.
fn shrunken(survey: &Survey, committed: &BTreeSet<BackupId>, cutoff: DateTime<Utc>) -> Option<String> {
    if let Some(last) = survey.remembered {
        let there = committed.iter().filter(|id| id.created_at() <= last.newest.created_at()).count();
        if there < last.backups_left {
            let (left, at) = (last.backups_left, last.at.format("%Y-%m-%d %H:%MZ"));
            return Some(format!("the prune of {at} left {left} backups, and the listing shows {there} of them"));
        }
    }
    if let Some(id) = survey.held.keys().find(|id| !committed.contains(*id)) {
        return Some(format!("backup {id} is held, and its marker is not in the listing"));
    }
    let mut parents = survey.known.values().filter_map(|known| match known {
        Known::Whole(_, parent) | Known::Broken(_, parent, _) => *parent,
        Known::Forged(_) => None,
    });
    // Another pruner's clock may have been a little ahead of ours.
    let lost = |id: &BackupId| cutoff + MARGIN < id.expires_at() && !committed.contains(id);
    parents.rfind(lost).map(|id| format!("backup {id} has not expired, and it is not in the listing"))
}

fn share(policy: &Policy, committed: usize, gone: usize) -> Option<String> {
    let share = (gone * 100).checked_div(committed)?;
    let most = policy.max_share_percent;
    (share > most as usize)
        .then(|| format!("{gone} of {committed} backups would go ({share} %), and at most {most} % may at once"))
}

/// The newest backup, and held ones that have expired, must be whole before older ones go. After the key was replaced whatever
/// is older than that must be known too: where the vouch for it is gone or torn, backups that stay would look like forged ones.
fn damaged(survey: &Survey) -> impl Iterator<Item = String> {
    let newest = survey.known.last_key_value().map(|(id, _)| *id);
    let unvouched = |id: &BackupId, known: &Known| {
        matches!(known, Known::Forged(_)) && survey.key_since.is_some_and(|since| id.created_at() <= since)
    };
    let of_interest = survey
        .known
        .iter()
        .filter(move |(id, known)| Some(**id) == newest || survey.held.contains_key(*id) || unvouched(id, known));
    let backups = of_interest.filter_map(|(id, known)| match known {
        Known::Whole(..) => None,
        Known::Broken(.., what) => Some(format!("backup {id} is not whole: {what}")),
        Known::Forged(what) => Some(format!("backup {id} does not verify: {what}")),
    });
    let vouches = survey.bad_vouches.iter().map(|what| format!("what vouches for older backups is damaged: {what}"));
    backups.chain(vouches)
}
