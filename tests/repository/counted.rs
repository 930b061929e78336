//! What a backup and a restore cost, counted and not timed: packs that are fetched, bytes that are in flight.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use dbkeeper::base::clock::{Clock, HeldClock};
use dbkeeper::base::cpu::ByteBudget;
use dbkeeper::base::ids::parse_key_time;
use dbkeeper::repository::writer::{BackupWriter, Content, WriterOptions};
use dbkeeper::store::memory::MemoryStore;

use crate::repository::support::{Table, World, expected, rows};
use crate::support::faults::Faulty;

/// Lanes that write at once.
const LANES: usize = 6;

fn now() -> DateTime<Utc> {
    parse_key_time("20261121T091500Z").expect("a time")
}

/// How often each pack was fetched by these calls.
fn fetched(store: &Faulty, before: usize) -> BTreeMap<String, usize> {
    let mut packs = BTreeMap::new();
    for call in store.calls().split_off(before) {
        if call.operation == "get" && call.key.contains("/packs/") {
            *packs.entry(call.key).or_default() += 1;
        }
    }
    packs
}

#[tokio::test]
async fn a_restore_fetches_each_pack_once_however_many_backups_a_table_is_spread_over() {
    let clock = Arc::new(HeldClock::new(now()));
    let held: Arc<dyn Clock> = Arc::<HeldClock>::clone(&clock);
    let store = Faulty::new(Arc::new(MemoryStore::new(held)));
    let world = World::over(store.clone(), clock).await;
    let vault = world.acme();
    let mut tables: [Table; 1] = [("table:1", rows(100_000, 1))];
    world.back_up(&vault, b"S", &tables).await.expect("back up");
    for day in 0..12_usize {
        world.advance(24);
        for row in [day * 4_001, 50_000 + day * 4_001] {
            tables[0].1[row] = format!("{row}\tchanged on day {day}\n").into_bytes();
        }
        world.back_up(&vault, b"S", &tables).await.expect("back up");
    }
    let before = store.calls().len();
    assert_eq!(world.restore_newest(&vault).await.expect("restore"), expected(b"S", &tables));
    let packs = fetched(&store, before);
    assert!(8 < packs.len(), "it is spread over {} packs", packs.len());
    assert!(packs.values().all(|times| *times == 1), "{packs:?}");
}

#[tokio::test]
async fn what_lanes_have_in_flight_stays_within_the_budgets() {
    let world = World::new().await;
    let (budget, uploads) = (ByteBudget::new(2 << 20), ByteBudget::new(1 << 20));
    let options = WriterOptions { budget: budget.clone(), uploads: uploads.clone(), ..world.options() };
    let writer = BackupWriter::begin(&world.acme(), options, now(), &world.entropy).await.expect("begin");
    let lanes = (0..LANES).map(|number| {
        let mut lane = writer.lane();
        async move {
            lane.begin_rows(&format!("table:{number}"), 0);
            for row in rows(60_000, u32::try_from(number).expect("small")) {
                if lane.push(&row) {
                    lane.drain().await.expect("drain");
                }
            }
            let part = lane.end().await.expect("end");
            lane.finish().await.expect("finish");
            (part, None)
        }
    });
    let parts = futures::future::join_all(lanes).await;
    let bytes: u64 = parts.iter().map(|(part, _)| part.bytes).sum();
    let content = Content { parts, description: serde_json::json!({}), engine: "made up 1".to_owned() };
    writer.commit(content).await.expect("commit");
    let most = budget.total_bytes() + uploads.total_bytes();
    assert!(2 * most < usize::try_from(bytes).expect("small"), "{bytes} bytes went through");
    for room in [&budget, &uploads] {
        assert!((256 << 10..=room.total_bytes()).contains(&room.peak_bytes()), "{} bytes", room.peak_bytes());
        assert_eq!(room.free_bytes(), room.total_bytes(), "all is given back");
    }
}
