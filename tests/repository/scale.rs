//! A large fleet: what looking after it asks of the store. `examples/scale.rs` measures the same with 5,000 vaults.

use std::collections::BTreeSet;

use dbkeeper::base::ids::parse_key_time;
use dbkeeper::repository::presence::whole_of;
use dbkeeper::repository::prune::plan::plan;
use dbkeeper::repository::prune::survey::survey;
use dbkeeper::repository::prune::{Policy, cutoff};
use dbkeeper::repository::verify::{Rung, verify};

use crate::support::generated::Generated;

const VAULTS: usize = 40;
const BACKUPS: usize = 60;

#[tokio::test]
async fn requests_grow_with_what_must_be_looked_at_and_with_nothing_else() {
    let now = parse_key_time("20261121T091500Z").expect("a time");
    let fleet = Generated::new(VAULTS, BACKUPS, now).await;
    let repository = fleet.open().await;
    fleet.counts();
    let (targets, strangers) = repository.vaults().await.expect("list the vaults");
    assert_eq!((targets.len(), strangers.len(), fleet.counts()), (VAULTS, 0, (3, 0)));
    let policy = Policy { keep_last: 3, max_share_percent: 50, forced: BTreeSet::new(), versions: false };
    let times = (now, cutoff(now, Some(now)));
    let vaults = VAULTS as u64;
    for target in &targets {
        let seen = survey(&repository.vault(target), policy.keep_last, times, None).await.expect("survey");
        let planned = plan(&seen, &policy, times.1);
        assert_eq!((planned.refusals.len(), planned.backups - planned.backups_left), (0, 3));
    }
    assert_eq!(fleet.counts(), (vaults, 3 * vaults), "a plan reads the markers of the newest three");
    for target in &targets {
        let vault = repository.vault(target);
        let (whole, problems) = whole_of(&vault, &vault.list().await.expect("list")).await.expect("list");
        assert_eq!((whole.len(), problems), (BACKUPS, vec![]));
    }
    assert_eq!(fleet.counts(), (vaults, BACKUPS as u64 * vaults), "a list reads every marker");
    for target in targets.iter().take(4) {
        let report = verify(&repository.vault(target), Rung::Presence, &[]).await.expect("verify");
        assert_eq!((report.findings.len(), report.whole), (0, BACKUPS));
    }
    assert_eq!(fleet.counts(), (4, 4 * (BACKUPS as u64 + 1)), "verify reads every marker and every epoch");
}
