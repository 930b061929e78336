//! Verification in pieces: it ends when it is told to, says what is left, and begins with what was not read for the longest time.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use dbkeeper::base::clock::Clock;
use dbkeeper::base::ids::{RunId, TargetId};
use dbkeeper::base::monitor::{Monitor, Progress};
use dbkeeper::base::units::Share;
use dbkeeper::repository::proof::Proof;
use dbkeeper::repository::vault::Vault;
use dbkeeper::repository::verify::{Rung, Task, VaultReport, verify_some};
use tokio_util::sync::CancellationToken;

use crate::repository::support::{World, rows};

/// Says that it is enough after so many packs.
struct Patience {
    left: AtomicUsize,
    enough: CancellationToken,
}

impl Monitor for Patience {
    fn run_begins(&self, _: usize) {}
    fn target_begins(&self, _: &TargetId, _: u64) {}
    fn target_advances(&self, _: &TargetId, _: Progress) {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.enough.cancel();
        }
    }
    fn target_ends(&self, _: &TargetId, _: &'static str) {}
}

/// Verifies until `packs` packs were read, and records what was proven as the job does.
async fn verify(world: &World, vault: &Vault, rung: Rung, packs: usize) -> VaultReport {
    let patience = Patience { left: AtomicUsize::new(packs), enough: CancellationToken::new() };
    let task = Task {
        rung,
        identities: std::slice::from_ref(&world.officer),
        share: Share::ALL,
        older_than: None,
        now: world.clock.now(),
        monitor: &patience,
        enough: &patience.enough,
        keep: None,
    };
    let report = verify_some(vault, &task).await.expect("the store works");
    let proof = Proof {
        format: 1,
        vault: vault.target().clone(),
        run_id: RunId::new(world.clock.now(), [1; 4]),
        rung,
        proven_at: world.clock.now(),
        whole: report.findings.is_empty(),
        backups: report.backups,
        newest_whole: report.newest_whole,
        packs: report.coverage.packs,
        read_at: report.coverage.read_at.clone(),
        drill: None,
    };
    vault.put_proof(&proof, [2; 4]).await.expect("put");
    report
}

#[tokio::test]
async fn what_one_run_could_not_read_the_next_one_reads_first() {
    for rung in [Rung::Packs, Rung::Data] {
        let world = World::new().await;
        let vault = world.acme();
        for salt in 1..=4 {
            world.back_up(&vault, b"S", &[("table:1", rows(1_500, salt))]).await.expect("back up");
            world.advance(1);
        }
        let mut oldest = BTreeSet::new();
        let mut runs = 0;
        loop {
            let report = verify(&world, &vault, rung, 1).await;
            runs += 1;
            assert_eq!((report.findings.as_slice(), report.coverage.packs_read), (&[][..], 1), "{rung:?}");
            assert_eq!(report.coverage.packs_proven, runs, "{rung:?}: each run reads another pack");
            assert!(!report.coverage.complete, "{rung:?}: all was asked for, and one was read");
            oldest.insert(report.coverage.oldest_proof_at);
            world.advance(1);
            if report.coverage.packs_proven == report.coverage.packs {
                break;
            }
        }
        assert!(4 <= runs, "{rung:?}: {runs} packs");
        let next = verify(&world, &vault, rung, 1).await;
        assert!(!oldest.contains(&next.coverage.oldest_proof_at), "{rung:?}: the oldest proof was renewed");
        world.advance(1);
        let all = verify(&world, &vault, rung, usize::MAX).await;
        assert!(all.coverage.complete && all.coverage.packs_read == all.coverage.packs, "{rung:?}");
        assert_eq!(vault.proofs().await.expect("list").len(), runs + 2);
    }
}

#[tokio::test]
async fn a_run_that_was_ended_before_it_began_finds_what_is_missing_all_the_same() {
    let world = World::new().await;
    let vault = world.acme();
    let backup = world.back_up(&vault, b"S", &[("table:1", rows(500, 1))]).await.expect("back up").marker;
    let listing = vault.list().await.expect("list");
    let pack = listing.pack_key(vault.target(), backup.packs[0].sha256).expect("a pack");
    world.store.delete(&[pack]).await.expect("delete");
    let enough = CancellationToken::new();
    enough.cancel();
    let task = Task {
        rung: Rung::Packs,
        identities: &[],
        share: Share::ALL,
        older_than: None,
        now: world.clock.now(),
        monitor: &dbkeeper::base::monitor::Silent,
        enough: &enough,
        keep: None,
    };
    let report = verify_some(&vault, &task).await.expect("the store works");
    assert_eq!((report.findings.len(), report.coverage.packs_read), (1, 0), "{report:?}");
}

/// Counts what it is asked to keep.
#[derive(Default)]
struct Kept(std::sync::Mutex<Vec<usize>>);

#[async_trait::async_trait]
impl dbkeeper::repository::proof::Keep for Kept {
    async fn keep(&self, report: &VaultReport) -> Option<chrono::DateTime<chrono::Utc>> {
        let (proven, _) = report.coverage.read_at.summary();
        self.0.lock().expect("no panic").push(proven);
        None
    }
}

#[tokio::test]
async fn what_was_proven_is_kept_on_the_way() {
    for rung in [Rung::Packs, Rung::Data] {
        let world = World::new().await;
        let vault = world.acme();
        for salt in 1..=4 {
            world.back_up(&vault, b"S", &[("table:1", rows(1_500, salt))]).await.expect("back up");
            world.advance(1);
        }
        let (kept, enough) = (Kept::default(), CancellationToken::new());
        let task = Task {
            rung,
            identities: std::slice::from_ref(&world.officer),
            share: Share::ALL,
            older_than: None,
            now: world.clock.now(),
            monitor: &dbkeeper::base::monitor::Silent,
            enough: &enough,
            keep: Some((2, &kept)),
        };
        let report = verify_some(&vault, &task).await.expect("the store works");
        let expected: Vec<usize> = (1..=report.coverage.packs_read / 2).map(|times| 2 * times).collect();
        assert!(2 <= expected.len());
        assert_eq!(*kept.0.lock().expect("no panic"), expected, "{rung:?}: after every second pack");
    }
}
