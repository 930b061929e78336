//! Checkpoints: which backups the repository had at one time, in one signed line that is kept elsewhere.
//!
//! Nothing that is stored can tell that a marker is gone: a backup exists exactly when its marker does. A checkpoint can. It
//! holds names, times and hashes, and no secret; whoever has the repository key can tell whether it was changed.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};

use crate::base::ids::{BackupId, Hash32, TargetId, TargetKind};
use crate::codec::compress;
use crate::codec::digest::MacKey;
use crate::repository::marker::{FORMAT, Parent};
use crate::repository::prune::is_of_the_future;
use crate::repository::{Error, Repository, json, keys, layout};
use crate::store::ObjectKey;

/// What every checkpoint begins with.
const PREFIX: &str = "dbkeeper-checkpoint-1";

/// The largest text that is read as a checkpoint: 60 backups of each of 20,000 vaults.
pub const MAX_CHECKPOINT_BYTES: usize = 64 << 20;

/// The largest content of a checkpoint, decompressed.
const MAX_CONTENT_BYTES: usize = 256 << 20;

/// How many times larger its content may be than its compressed form. Of each backup 20 bytes are random and some 150 at most
/// are not, so it is 8 times at most; what grows more is a bomb.
const MAX_GROWTH: usize = 32;

/// What a content may have however little there was of it compressed.
const MIN_CONTENT_BYTES: usize = 64 << 10;

/// The first half of the SHA-256 of a marker's bytes: enough to tell that it is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct HalfHash([u8; 16]);

impl HalfHash {
    fn of(hash: &Hash32) -> Self {
        let mut half = [0; 16];
        half.copy_from_slice(&hash.0[..16]);
        Self(half)
    }
}

/// Which backups the repository had at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The repository's id.
    pub repository: String,
    /// When it was taken.
    pub taken_at: DateTime<Utc>,
    /// True if it names every backup, false if only the newest of each vault.
    pub every_backup: bool,
    vaults: BTreeMap<TargetId, BTreeMap<BackupId, HalfHash>>,
}

/// The backups of one vault: id, and half of the marker's hash in hexadecimal digits.
type Heads = Vec<(BackupId, String)>;

/// The content, as JSON has it: `[kind, name, [[id, 32 hexadecimal digits], …]]` for each vault.
#[derive(Serialize, Deserialize)]
struct Content {
    format: u32,
    repository: String,
    taken_at: DateTime<Utc>,
    every_backup: bool,
    vaults: Vec<(TargetKind, String, Heads)>,
}

/// Why a text is no checkpoint of this repository.
#[derive(Debug, thiserror::Error)]
pub enum BadCheckpoint {
    /// It has another form: cut, or something else.
    #[error("it is no checkpoint, or not a whole one: {0}")]
    Shape(&'static str),
    /// It was taken of another repository.
    #[error("it was taken of another repository")]
    OtherRepository,
    /// Its signature does not verify.
    #[error("its signature does not verify: it was changed, or signed with another repository key")]
    Mac,
    /// It was signed with a key that has been replaced.
    #[error(
        "it was signed with a former repository key, and whoever has that one could have changed it: take a new one with \
         `dbkeeper checkpoint`"
    )]
    FormerKey,
}

/// A backup as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Present {
    /// Its id.
    pub id: BackupId,
    /// SHA-256 of the bytes of its marker, which verifies; `None` where it was only listed.
    pub sha256: Option<Hash32>,
    /// The backup before it, where its marker was read.
    pub parent: Option<Parent>,
}

/// A backup that should be there and is not as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alarm {
    /// Whose.
    pub target: TargetId,
    /// Which.
    pub backup: BackupId,
    /// What is wrong.
    pub what: String,
}

impl Checkpoint {
    /// An empty one.
    pub fn new(repository: &Repository, taken_at: DateTime<Utc>, every_backup: bool) -> Self {
        Self { repository: repository.id().to_string(), taken_at, every_backup, vaults: BTreeMap::new() }
    }

    /// Adds a backup.
    pub fn add(&mut self, target: &TargetId, id: BackupId, sha256: &Hash32) {
        self.vaults.entry(target.clone()).or_default().insert(id, HalfHash::of(sha256));
    }

    /// Every target that it names.
    pub fn targets(&self) -> impl Iterator<Item = &TargetId> {
        self.vaults.keys()
    }

    /// The ids that it names of a target.
    pub fn backups(&self, target: &TargetId) -> impl DoubleEndedIterator<Item = BackupId> {
        self.vaults.get(target).into_iter().flat_map(|ids| ids.keys().copied())
    }

    /// How many backups it names.
    pub fn count(&self) -> usize {
        self.vaults.values().map(BTreeMap::len).sum()
    }

    /// One line, without its end.
    pub fn print(&self, mac: &MacKey) -> String {
        let ids =
            |ids: &BTreeMap<BackupId, HalfHash>| ids.iter().map(|(id, half)| (*id, hex::encode(half.0))).collect();
        let vaults = self.vaults.iter().map(|(target, heads)| (target.kind, target.name.to_string(), ids(heads)));
        let content = Content {
            format: FORMAT,
            repository: self.repository.clone(),
            taken_at: self.taken_at,
            every_backup: self.every_backup,
            vaults: vaults.collect(),
        };
        let json = serde_json::to_vec(&content).expect("a list of texts always serialises");
        let frame = compress::compress_document(&json).expect("compressing in memory does not fail");
        let signed = format!("{PREFIX}:{}", BASE64_URL_SAFE_NO_PAD.encode(frame));
        let signature = mac.mac(&[signed.as_bytes()]);
        format!("{signed}:{signature}")
    }

    /// Reads a line of this repository. Without its key nobody can tell who wrote it, and the caller must say so.
    pub fn parse(text: &str, repository: &Repository) -> Result<Self, BadCheckpoint> {
        let shape = BadCheckpoint::Shape;
        let Line { signed, signature, content } = Line::read(text)?;
        let is_ours = repository.checkpoint_mac().map(|mac| mac.verify(&[signed.as_bytes()], &signature));
        if content.repository != repository.id().to_string() {
            return Err(BadCheckpoint::OtherRepository);
        }
        match (is_ours, content.format) {
            (Some(false), _) if is_former(repository, signed, &signature) => Err(BadCheckpoint::FormerKey),
            (Some(false), _) => Err(BadCheckpoint::Mac),
            (_, FORMAT) => content.checked().ok_or(shape("it names what is no backup")),
            _ => Err(shape("it is of a later version")),
        }
    }

    /// What is not as it was. `present` are the backups that count; what has expired by `now` may be gone.
    pub fn compare(&self, target: &TargetId, present: &[Present], now: DateTime<Utc>) -> Vec<Alarm> {
        let nothing = BTreeMap::new();
        compare(target, self.vaults.get(target).unwrap_or(&nothing), present, now)
    }
}

/// True if a key signed it that the repository's key has replaced.
fn is_former(repository: &Repository, signed: &str, signature: &Hash32) -> bool {
    let former = repository.replaced().into_iter().flat_map(|replaced| replaced.former.iter());
    let mut macs = former.map(|key| keys::checkpoint_mac(key, repository.id()));
    macs.any(|mac| mac.verify(&[signed.as_bytes()], signature))
}

/// A line, taken apart. Nothing of it is verified.
struct Line<'a> {
    /// What the signature covers.
    signed: &'a str,
    signature: Hash32,
    content: Content,
}

impl<'a> Line<'a> {
    /// Takes no more memory than the length of the text allows, whatever stands in it.
    fn read(text: &'a str) -> Result<Self, BadCheckpoint> {
        let shape = BadCheckpoint::Shape;
        let (signed, signature) = text.trim().rsplit_once(':').ok_or(shape("it has no signature"))?;
        let signature: Hash32 = signature.parse().map_err(|_| shape("it has no whole signature"))?;
        let frame = signed.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix(':'));
        let frame = frame.ok_or(shape("it does not begin with dbkeeper-checkpoint-1:"))?;
        let frame = BASE64_URL_SAFE_NO_PAD.decode(frame).map_err(|_| shape("its middle is no base64url"))?;
        let most = frame.len().saturating_mul(MAX_GROWTH).clamp(MIN_CONTENT_BYTES, MAX_CONTENT_BYTES);
        let json = compress::decompress_document(&frame, most).map_err(|_| shape("it is damaged"))?;
        let content: Content = json::read(&json).map_err(|_| shape("it is damaged"))?;
        Ok(Self { signed, signature, content })
    }
}

/// Reads a line of whatever repository, signed by whomever.
pub(super) fn read_unverified(text: &str) -> Result<Checkpoint, BadCheckpoint> {
    let content = Line::read(text)?.content;
    content.checked().ok_or(BadCheckpoint::Shape("it names what is no backup"))
}

impl Content {
    fn checked(self) -> Option<Checkpoint> {
        let mut vaults: BTreeMap<TargetId, BTreeMap<BackupId, HalfHash>> = BTreeMap::new();
        for (kind, name, heads) in self.vaults {
            let target = TargetId { kind, name: crate::base::ids::TargetName::new(&name).ok()? };
            let half = |text: &str| hex::decode(text).ok()?.try_into().ok().map(HalfHash);
            let heads: Option<BTreeMap<_, _>> = heads.iter().map(|(id, text)| Some((*id, half(text)?))).collect();
            vaults.insert(target, heads?);
        }
        let Self { repository, taken_at, every_backup, .. } = self;
        Some(Checkpoint { repository, taken_at, every_backup, vaults })
    }
}

/// What the record that closes an erasure says.
#[derive(Deserialize)]
struct Erased {
    target: TargetId,
    at: DateTime<Utc>,
    left: Vec<String>,
}

/// An erasure on purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// When it was.
    pub at: DateTime<Utc>,
    /// The key of its signed record.
    pub record: ObjectKey,
}

/// The targets that were erased on purpose, at `since` or later, by the signed records of it below `runs/`; of each the last
/// time. An erasure that was only begun, left a backup, or says that it is of later than `now` excuses nothing.
pub async fn erased_since(
    repository: &Repository,
    (since, now): (DateTime<Utc>, DateTime<Utc>),
) -> Result<BTreeMap<TargetId, Erasure>, Error> {
    repository.mac().ok_or(Error::NoKey { action: "looking for erasures" })?;
    let failed = |source| Error::Store { action: "look for erasures", source };
    let is_record = |key: &ObjectKey| key.as_str().ends_with("/erase-done.json");
    let (mut erased, mut objects) = (BTreeMap::new(), repository.store().list(layout::RUNS_PREFIX));
    while let Some(object) = objects.try_next().await.map_err(failed)? {
        if !is_record(&object.key) {
            continue;
        }
        let bytes = repository.store().get(&object.key).await.map_err(failed)?;
        // One that does not verify excuses nothing; `verify --read-packs` tells it.
        let Ok(record) = repository.read_record::<Erased>(&bytes, &object.key) else { continue };
        let run = layout::parse_run_report(&object.key).map(|(run, _)| run.started_at());
        let is_future = run.into_iter().chain([record.at]).any(|at| is_of_the_future(at, now));
        if is_future || record.left.iter().any(|key| key.ends_with("/backup.json")) {
            continue;
        }
        let known: Option<&Erasure> = erased.get(&record.target);
        // Records count whole seconds.
        if since.timestamp() <= record.at.timestamp() && known.is_none_or(|known| known.at <= record.at) {
            erased.insert(record.target, Erasure { at: record.at, record: object.key });
        }
    }
    Ok(erased)
}

/// Pure. Three rules: what was there and has not expired is there; the newest of a vault stays, expired or not, until a newer
/// one has come (prune keeps the newest); and what a backup names as its parent is there, as long as it has not expired.
fn compare(
    target: &TargetId,
    past: &BTreeMap<BackupId, HalfHash>,
    present: &[Present],
    now: DateTime<Utc>,
) -> Vec<Alarm> {
    let there: BTreeMap<BackupId, &Present> = present.iter().map(|backup| (backup.id, backup)).collect();
    let newest = there.keys().next_back().copied();
    let mut alarms: BTreeMap<BackupId, String> = BTreeMap::new();
    let head = past.keys().next_back().copied();
    for (id, half) in past {
        let what = match there.get(id) {
            Some(found) if found.sha256.is_none_or(|hash| HalfHash::of(&hash) == *half) => continue,
            Some(_) => "its marker is another than the checkpoint saw".to_owned(),
            // Prune may have taken it: anything but the newest of the vault.
            None if id.expires_at() <= now && (newest > head || Some(*id) != head) => continue,
            None if newest.is_none() => "it was hidden or removed, with every other backup of the vault".to_owned(),
            None if id.expires_at() <= now => {
                "it has expired, but prune keeps the newest backup of a vault: it was hidden or removed".to_owned()
            }
            None if newest < Some(*id) => {
                let newest = newest.map_or_else(String::new, |newest| format!(": the newest is now {newest}"));
                format!("the vault was rolled back to before it{newest}")
            }
            None => "it was hidden or removed, and has not expired".to_owned(),
        };
        alarms.insert(*id, what);
    }
    for child in present {
        let Some(parent) = child.parent else { continue };
        let what = match there.get(&parent.id) {
            Some(found) if found.sha256.is_none_or(|hash| hash == parent.sha256) => continue,
            Some(_) => format!("its marker is another than backup {} saw", child.id),
            None if parent.id.expires_at() <= now => continue,
            None => format!(
                "it was hidden or removed: backup {} names it as the one before, and it has not expired",
                child.id
            ),
        };
        alarms.entry(parent.id).or_insert(what);
    }
    let alarm = |(backup, what)| Alarm { target: target.clone(), backup, what };
    alarms.into_iter().map(alarm).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{RetentionClass, parse_key_time};

    /// No alarm.
    const NONE: [i64; 0] = [];

    fn time(day: i64) -> DateTime<Utc> {
        parse_key_time("20261101T000000Z").expect("a time") + chrono::TimeDelta::days(day)
    }

    /// A backup of this day that is kept for so many days.
    fn id(day: i64, days: u32) -> BackupId {
        BackupId::new(time(day), RetentionClass::Daily, days * 24, [0; 4])
    }

    fn hash(id: BackupId) -> Hash32 {
        crate::codec::digest::sha256(id.to_string().as_bytes())
    }

    /// The backups of these days, each the parent of the next.
    fn vault(days: &[(i64, u32)]) -> Vec<Present> {
        let mut parent = None;
        let mut present = Vec::new();
        for (day, keep) in days {
            let id = id(*day, *keep);
            present.push(Present { id, sha256: Some(hash(id)), parent });
            parent = Some(Parent { id, sha256: hash(id) });
        }
        present
    }

    /// The days of the alarms on `today`, after a checkpoint that named `past`.
    fn alarms(past: &[(i64, u32)], present: &[Present], today: i64) -> Vec<i64> {
        let half = |(day, keep): &(i64, u32)| (id(*day, *keep), HalfHash::of(&hash(id(*day, *keep))));
        let target = TargetId::tenant("acme").expect("a name");
        let alarms = compare(&target, &past.iter().map(half).collect(), present, time(today));
        alarms.iter().map(|alarm| (alarm.backup.created_at() - time(0)).num_days()).collect()
    }

    #[test]
    fn what_is_as_it_was_and_what_came_later_is_no_alarm() {
        let all = [(0, 7), (1, 7), (2, 7)];
        assert_eq!(alarms(&all, &vault(&all), 3), NONE);
        assert_eq!(alarms(&all[..2], &vault(&all), 3), NONE);
        assert_eq!(alarms(&[], &vault(&all), 3), NONE);
    }

    #[test]
    fn what_was_hidden_removed_or_rolled_back_is_an_alarm() {
        let all = [(0, 7), (1, 7), (2, 7)];
        let without = |day: i64| -> Vec<Present> { vault(&all).into_iter().filter(|b| b.id != id(day, 7)).collect() };
        assert_eq!(alarms(&all, &without(0), 3), [0], "the oldest");
        assert_eq!(alarms(&all, &without(1), 3), [1], "one in the middle");
        assert_eq!(alarms(&all, &without(2), 3), [2], "the newest");
        assert_eq!(alarms(&all[2..], &without(1), 3), [1], "the newest names it as the one before");
        assert_eq!(alarms(&all, &[], 3), [0, 1, 2], "all");
        let mut changed = vault(&all);
        changed[2].sha256 = Some(Hash32([9; 32]));
        assert_eq!(alarms(&all, &changed, 3), [2], "another marker in its place");
    }

    #[test]
    fn what_expired_may_be_gone_but_for_the_newest() {
        let all = [(0, 7), (1, 1), (2, 1)];
        let later = vault(&[(0, 7), (1, 1), (2, 1), (5, 7)]);
        let kept = |gone: &[i64]| -> Vec<Present> {
            later.iter().filter(|b| !gone.iter().any(|day| b.id.created_at() == time(*day))).copied().collect()
        };
        assert_eq!(alarms(&all, &kept(&[1, 2]), 6), NONE, "expired, and newer ones have come");
        assert_eq!(alarms(&all, &kept(&[1, 5]), 6), NONE, "expired, and not the newest");
        assert_eq!(alarms(&all, &kept(&[2, 5]), 6), [2], "prune keeps the newest");
        assert_eq!(alarms(&all, &kept(&[0, 1, 2]), 6), [0], "not expired");
        assert_eq!(alarms(&all, &[], 100), [2], "all expired: the newest is missed");
        let listed: Vec<Present> = later.iter().map(|b| Present { sha256: None, parent: None, ..*b }).collect();
        assert_eq!(alarms(&all, &listed, 6), NONE, "what was only listed is taken as there");
    }
}
