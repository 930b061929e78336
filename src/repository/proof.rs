//! Proof records: when a vault was proven, by which rung, and which of its packs were read when.
//!
//! A record is signed, never changed, and carries its expiry in its name. No restore needs one: without them verification
//! begins anew. The newest of a rung holds all that is known, so the others only tell the past.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures::TryStreamExt;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::ids::{BackupId, Hash32, RunId, TargetId, key_time, parse_key_time};
use crate::base::units::Share;
use crate::repository::Error;
use crate::repository::layout::{self, VaultObject};
use crate::repository::marker::FORMAT;
use crate::repository::vault::Vault;
use crate::repository::verify::{Rung, VaultReport};
use crate::store;

/// Records that do not verify and are passed over for older ones; what lies beyond counts as none.
const RECORDS_TRIED: usize = 4;

/// Times in a table are hours since 1970.
const SECONDS_PER_HOUR: i64 = 3600;

/// The name of a record: when, by which rung, and until when it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProofId {
    /// When the proof was complete, in whole seconds.
    pub proven_at: DateTime<Utc>,
    /// By which rung.
    pub rung: Rung,
    tail: [u8; 4],
    /// When the record may be pruned.
    pub expires_at: DateTime<Utc>,
}

impl ProofId {
    /// The name of a record that is written at `now`.
    pub fn new(now: DateTime<Utc>, rung: Rung, tail: [u8; 4]) -> Self {
        let proven_at = parse_key_time(&key_time(now)).unwrap_or(now);
        let days = match rung {
            Rung::Presence => 14,
            Rung::Packs | Rung::Data => 100,
            // For those who ask for evidence of a year.
            Rung::Drill => 400,
        };
        Self { proven_at, rung, tail, expires_at: proven_at + TimeDelta::days(days) }
    }

    /// Until when it is kept.
    pub fn expires_at(&self) -> DateTime<Utc> {
        self.expires_at
    }

    /// The file name without `.json`.
    pub(super) fn stem(&self) -> String {
        let (expiry, time) = (key_time(self.expires_at), key_time(self.proven_at));
        format!("{expiry}.{time}-{}-{}", self.rung.word(), hex::encode(self.tail))
    }

    /// Inverse of [`stem`](Self::stem).
    pub(super) fn parse(stem: &str) -> Option<Self> {
        let (expiry, rest) = stem.split_once('.')?;
        let mut pieces = rest.split('-');
        let (time, rung, tail) = (pieces.next()?, pieces.next()?, pieces.next()?);
        let rung = Rung::ALL.into_iter().find(|known| known.word() == rung)?;
        let tail = hex::decode(tail).ok()?.try_into().ok()?;
        let (proven_at, expires_at) = (parse_key_time(time)?, parse_key_time(expiry)?);
        let id = Self { proven_at, rung, tail, expires_at };
        (id.stem() == stem).then_some(id)
    }
}

/// When packs were read last: for each, by the first half of its hash, the hour.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadTimes(BTreeMap<[u8; 16], u32>);

impl ReadTimes {
    fn half(hash: &Hash32) -> [u8; 16] {
        let mut half = [0; 16];
        half.copy_from_slice(&hash.0[..16]);
        half
    }

    /// When a pack was read last.
    pub fn get(&self, hash: &Hash32) -> Option<DateTime<Utc>> {
        let hours = self.0.get(&Self::half(hash))?;
        DateTime::from_timestamp(i64::from(*hours) * SECONDS_PER_HOUR, 0)
    }

    /// Notes that a pack was read.
    pub fn set(&mut self, hash: &Hash32, at: DateTime<Utc>) {
        let hours = u32::try_from(at.timestamp() / SECONDS_PER_HOUR).unwrap_or(0);
        self.0.insert(Self::half(hash), hours);
    }

    /// Forgets a pack.
    pub fn forget(&mut self, hash: &Hash32) {
        self.0.remove(&Self::half(hash));
    }

    /// Forgets all packs but these.
    pub fn retain(&mut self, needed: &BTreeSet<Hash32>) {
        let needed: BTreeSet<[u8; 16]> = needed.iter().map(Self::half).collect();
        self.0.retain(|half, _| needed.contains(half));
    }

    /// Takes over what another knows and this one does not, or knows of an earlier time.
    fn merge(&mut self, other: Self) {
        for (half, hours) in other.0 {
            let known = self.0.entry(half).or_insert(hours);
            *known = hours.max(*known);
        }
    }

    /// Of how many packs a time is known, and the earliest of them.
    pub fn summary(&self) -> (usize, Option<DateTime<Utc>>) {
        let oldest = self.0.values().min();
        (self.0.len(), oldest.and_then(|hours| DateTime::from_timestamp(i64::from(*hours) * SECONDS_PER_HOUR, 0)))
    }
}

impl Serialize for ReadTimes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = self.0.iter().flat_map(|(half, hours)| half.iter().copied().chain(hours.to_le_bytes()));
        serializer.serialize_str(&BASE64_STANDARD.encode(bytes.collect::<Vec<u8>>()))
    }
}

impl<'de> Deserialize<'de> for ReadTimes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64_STANDARD.decode(text).map_err(serde::de::Error::custom)?;
        let entry = |entry: &[u8]| {
            let (half, hours) = entry.split_at_checked(16)?;
            Some((half.try_into().ok()?, u32::from_le_bytes(hours.try_into().ok()?)))
        };
        let entries: Option<BTreeMap<_, _>> = bytes.chunks(20).map(entry).collect();
        entries.map(Self).ok_or_else(|| serde::de::Error::custom("no table of packs"))
    }
}

/// Stores what was proven of a vault so far.
#[async_trait]
pub trait Keep: Sync {
    /// Stores a record, and gives its time if that went well.
    async fn keep(&self, report: &VaultReport) -> Option<DateTime<Utc>>;
}

/// How much of a vault was read.
#[derive(Clone, Debug, Serialize)]
pub struct Coverage {
    /// Packs that the backups need and the store has, index segments included.
    pub packs: usize,
    /// Of them, those that were read now.
    pub packs_read: usize,
    /// Of them, those that this rung has read, now or in earlier runs.
    pub packs_proven: usize,
    /// When the pack was read that was not read for the longest time.
    pub oldest_proof_at: Option<DateTime<Utc>>,
    /// False where the time was over before all that was chosen was read.
    pub complete: bool,
    /// When which packs were read, for the record.
    #[serde(skip)]
    pub read_at: ReadTimes,
    /// When the newest record was made.
    #[serde(skip)]
    pub recorded_at: Option<DateTime<Utc>>,
}

impl Coverage {
    /// Of a vault that has these records, before anything was read.
    pub(super) fn before(records: &BTreeSet<ProofId>) -> Self {
        Self {
            packs: 0,
            packs_read: 0,
            packs_proven: 0,
            oldest_proof_at: None,
            complete: true,
            read_at: ReadTimes::default(),
            recorded_at: newest(records),
        }
    }

    pub(super) fn sum_up(&mut self) {
        (self.packs_proven, self.oldest_proof_at) = self.read_at.summary();
    }
}

/// When the newest of some records was made.
pub fn newest(records: &BTreeSet<ProofId>) -> Option<DateTime<Utc>> {
    records.last().map(|id| id.proven_at)
}

/// The time of a new record: now, but later than every other, so that the newest is never in doubt.
pub fn next_time(now: DateTime<Utc>, newest: Option<DateTime<Utc>>) -> DateTime<Utc> {
    newest.map_or(now, |newest| now.max(newest + TimeDelta::seconds(1)))
}

/// What a drill measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrillFacts {
    /// The backup that was restored.
    pub backup: BackupId,
    /// Its rows, all of which were counted and compared.
    pub rows: u64,
    /// How long restore and checks took: the measured recovery time.
    pub recovery_seconds: f64,
    /// How old the backup was when the drill began: the measured recovery point.
    pub age_seconds: u64,
    /// How many checks of the operator's own passed.
    pub checks: usize,
    /// The engine and version of the server that it was restored to.
    pub server: String,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proof {
    /// 1.
    pub format: u32,
    /// Whose vault.
    pub vault: TargetId,
    /// The run that proved it.
    pub run_id: RunId,
    /// By which rung.
    pub rung: Rung,
    /// When.
    pub proven_at: DateTime<Utc>,
    /// True if nothing was wrong with what was read.
    pub whole: bool,
    /// Committed backups.
    pub backups: usize,
    /// The newest whole backup.
    pub newest_whole: Option<BackupId>,
    /// Packs that the backups need, index segments included; 0 where a rung reads none.
    pub packs: usize,
    /// When each of them was read last by this rung, in this run or before.
    pub read_at: ReadTimes,
    /// Of a drill.
    pub drill: Option<DrillFacts>,
}

/// When a target was last proven by one rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LastProof {
    /// When the last run was.
    pub at: DateTime<Utc>,
    /// `ok`; `partial` where some packs were never read; `damaged`.
    pub result: &'static str,
    /// When the pack was read that was not read for the longest time, where packs are read.
    pub oldest_at: Option<DateTime<Utc>>,
    /// How long the restore of a drill took.
    pub recovery_time_seconds: Option<u64>,
    /// How old the backup was that a drill restored.
    pub recovery_point_seconds: Option<u64>,
}

/// When a target was last proven, rung by rung.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LastProofs {
    /// Markers and presence.
    pub presence: Option<LastProof>,
    /// The bytes of packs.
    pub packs: Option<LastProof>,
    /// Every chunk.
    pub data: Option<LastProof>,
    /// A whole restore.
    pub drill: Option<LastProof>,
}

impl LastProofs {
    /// True where no rung was ever climbed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Proof {
    /// What a listing says of it.
    pub fn last(&self) -> LastProof {
        let (known, oldest_at) = self.read_at.summary();
        let result = match (self.whole, known < self.packs) {
            (false, _) => "damaged",
            (true, true) => "partial",
            (true, false) => "ok",
        };
        let took = |facts: &DrillFacts| Duration::try_from_secs_f64(facts.recovery_seconds).ok();
        LastProof {
            at: self.proven_at,
            result,
            oldest_at,
            recovery_time_seconds: self.drill.as_ref().and_then(took).map(|took| took.as_secs()),
            recovery_point_seconds: self.drill.as_ref().map(|facts| facts.age_seconds),
        }
    }
}

impl Vault {
    /// The names of all its records, without listing anything else.
    pub async fn proofs(&self) -> Result<BTreeSet<ProofId>, Error> {
        let prefix = format!("{}proofs/", layout::vault_prefix(self.target()));
        let failed = |source: store::Error| Error::Store { action: "list the proofs of a vault", source };
        let vault = layout::vault_prefix(self.target());
        let objects = self.repository().store().list(&prefix);
        let ids = objects.try_filter_map(|object| {
            let path = object.key.as_str().strip_prefix(&vault).and_then(VaultObject::parse);
            futures::future::ready(Ok(match path {
                Some(VaultObject::Proof(id)) => Some(id),
                _ => None,
            }))
        });
        ids.try_collect().await.map_err(failed)
    }

    /// Reads a record.
    pub async fn proof(&self, id: ProofId) -> Result<Proof, Error> {
        let key = VaultObject::Proof(id).key(self.target());
        let (proof, _): (Proof, _) = self.read_signed(&self.get(&key).await?, &key).await?;
        let its_own = proof.vault == *self.target() && proof.rung == id.rung && proof.format == FORMAT;
        if its_own { Ok(proof) } else { Err(Error::Tampered { key, what: "it proves another vault".to_owned() }) }
    }

    /// The newest record of one of these rungs that verifies; what does not is told in `problems`.
    pub async fn last_proof(
        &self,
        ids: &BTreeSet<ProofId>,
        rungs: &[Rung],
        problems: &mut Vec<String>,
    ) -> Result<Option<Proof>, Error> {
        for id in ids.iter().rev().filter(|id| rungs.contains(&id.rung)).take(RECORDS_TRIED) {
            match self.proof(*id).await {
                Ok(proof) => return Ok(Some(proof)),
                Err(error @ (Error::Damaged { .. } | Error::Tampered { .. })) => problems.push(error.to_string()),
                // Pruned since the listing.
                Err(Error::Store { source, .. }) if source.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// When it was last proven, rung by rung.
    pub async fn last_proofs(&self, ids: &BTreeSet<ProofId>, problems: &mut Vec<String>) -> Result<LastProofs, Error> {
        let mut last = LastProofs::default();
        for rung in Rung::ALL {
            let found = self.last_proof(ids, &[rung], problems).await?.map(|proof| proof.last());
            match rung {
                Rung::Presence => last.presence = found,
                Rung::Packs => last.packs = found,
                Rung::Data => last.data = found,
                Rung::Drill => last.drill = found,
            }
        }
        Ok(last)
    }

    /// When which packs were read, by this rung or a higher one.
    pub(crate) async fn read_times(
        &self,
        ids: &BTreeSet<ProofId>,
        rung: Rung,
        problems: &mut Vec<String>,
    ) -> Result<ReadTimes, Error> {
        let mut known = ReadTimes::default();
        for rung in [Rung::Packs, Rung::Data].into_iter().filter(|higher| rung <= *higher) {
            if let Some(proof) = self.last_proof(ids, &[rung], problems).await? {
                known.merge(proof.read_at);
            }
        }
        Ok(known)
    }

    /// Stores a record under a name of its own.
    pub async fn put_proof(&self, proof: &Proof, tail: [u8; 4]) -> Result<(), Error> {
        let keys = self.writer_keys("recording a proof")?;
        let key = VaultObject::Proof(ProofId::new(proof.proven_at, proof.rung, tail)).key(self.target());
        self.put(&key, Bytes::from(crate::repository::signed::write(proof, &key, &keys.mac))).await
    }
}

/// Which packs are read, in order: a share of all, those first that were never read or not for the longest time. Pure.
pub fn choose(
    packs: impl Iterator<Item = Hash32>,
    known: &ReadTimes,
    share: Share,
    older_than: Option<DateTime<Utc>>,
) -> Vec<Hash32> {
    let mut packs: Vec<(Option<DateTime<Utc>>, Hash32)> = packs.map(|hash| (known.get(&hash), hash)).collect();
    packs.sort_unstable();
    let count = share.of(packs.len());
    let is_due = |read_at: Option<DateTime<Utc>>| match (read_at, older_than) {
        (Some(at), Some(limit)) => at < limit,
        _ => true,
    };
    packs.into_iter().take(count).filter(|(read_at, _)| is_due(*read_at)).map(|(_, hash)| hash).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(hour: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(hour * SECONDS_PER_HOUR, 0).expect("a time")
    }

    #[test]
    fn a_name_says_when_by_what_and_until_when() {
        for rung in Rung::ALL {
            let id = ProofId::new(time(500_000), rung, [1, 2, 3, 4]);
            assert_eq!(ProofId::parse(&id.stem()), Some(id), "{}", id.stem());
            assert!(id.proven_at < id.expires_at);
        }
        for wrong in ["", ".", "20261121T091500Z", "20261121T091500Z.20261121T091500Z-pack-01020304", "x.y-packs-z"] {
            assert_eq!(ProofId::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_table_comes_back_as_it_was() {
        let mut times = ReadTimes::default();
        for number in 0..100_u8 {
            times.set(&Hash32([number; 32]), time(i64::from(number)));
        }
        let text = serde_json::to_string(&times).expect("JSON");
        assert_eq!(serde_json::from_str::<ReadTimes>(&text).expect("the same"), times);
        assert_eq!(times.summary(), (100, Some(time(0))));
        assert!(serde_json::from_str::<ReadTimes>("\"AAAA\"").is_err(), "no whole entry");
    }

    #[test]
    fn samples_go_round_and_every_pack_has_its_turn() {
        let packs: Vec<Hash32> = (0..10).map(|number| Hash32([number; 32])).collect();
        let mut known = ReadTimes::default();
        let share: Share = "30%".parse().expect("a share");
        for run in 1..=4 {
            let chosen = choose(packs.iter().copied(), &known, share, None);
            assert_eq!(chosen.len(), 3);
            for hash in &chosen {
                known.set(hash, time(run));
            }
        }
        let (seen, oldest) = known.summary();
        assert_eq!((seen, oldest), (10, Some(time(1))), "four thirds of ten");
        let all: Share = "100%".parse().expect("a share");
        let due = choose(packs.iter().copied(), &known, all, Some(time(2)));
        assert!(due.iter().all(|hash| known.get(hash) == Some(time(1))) && !due.is_empty());
    }
}
