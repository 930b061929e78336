//! The packs that a backup under way references, and what it uses of them.

use std::collections::HashMap;

use crate::base::ids::Hash32;
use crate::repository::index::{ChunkPlace, KnownPack};
use crate::repository::manifest::Run;
use crate::repository::prior::Prior;

/// A pack that this backup references.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    /// `None` until it is stored.
    pub(super) pack: Option<KnownPack>,
    pub(super) used_bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) slots: Vec<Slot>,
    /// Slots of packs of earlier backups, by their number in [`Prior`].
    pub(super) adopted: HashMap<u32, u32>,
    /// Chunks of earlier backups that this one uses.
    pub(super) touched: HashMap<Hash32, ChunkPlace>,
    /// What parts that were not read again use of earlier packs: by slot, ranges of plaintext.
    pub(super) reused: HashMap<u32, Vec<(u64, u64)>>,
    /// Chunks that this backup stores.
    pub(super) fresh: HashMap<Hash32, ChunkPlace>,
    pub(super) stored_bytes: u64,
}

impl State {
    /// Takes a run of a part of an earlier backup.
    pub(super) fn reuse(&mut self, prior: &Prior, run: &Run) -> Run {
        let slot = self.adopt(prior, run.0);
        self.slots[slot as usize].used_bytes += run.2;
        self.reused.entry(slot).or_default().push((u64::from(run.1), u64::from(run.1) + run.2));
        Run(slot, run.1, run.2)
    }

    /// The slot of a pack of an earlier backup.
    pub(super) fn adopt(&mut self, prior: &Prior, number: u32) -> u32 {
        if let Some(slot) = self.adopted.get(&number) {
            return *slot;
        }
        let slot = self.new_slot(Some(prior.pack(number)));
        self.adopted.insert(number, slot);
        slot
    }

    /// Chunks of parts that were not read again stay in the index: such a part may be read again, and not be new, another time.
    pub(super) fn touch_reused(&mut self, prior: &Prior) {
        for ranges in self.reused.values_mut() {
            ranges.sort_unstable();
            ranges.dedup_by(|next, last| {
                let touches = next.0 <= last.1;
                last.1 = if touches { last.1.max(next.1) } else { last.1 };
                touches
            });
        }
        let (reused, adopted) = (&self.reused, &self.adopted);
        let places = prior.chunks().filter_map(|(id, place)| {
            let pack = *adopted.get(&place.pack)?;
            let (ranges, offset) = (reused.get(&pack)?, u64::from(place.offset));
            let before = ranges.partition_point(|(begin, _)| *begin <= offset).checked_sub(1)?;
            (offset < ranges[before].1).then_some((*id, ChunkPlace { pack, ..place }))
        });
        self.touched.extend(places);
    }

    pub(super) fn new_slot(&mut self, pack: Option<KnownPack>) -> u32 {
        let slot = u32::try_from(self.slots.len()).expect("fewer than 2^32 packs");
        self.slots.push(Slot { pack, used_bytes: 0 });
        slot
    }

    /// All packs, with how much of them is in use. Every one is stored, and lasts (invariant 3).
    pub(super) fn finished_packs(&self, prior: &Prior) -> Vec<KnownPack> {
        assert!(self.adopted.keys().all(|number| prior.lasts(*number)), "only lasting packs are adopted");
        let finished = self.slots.iter().map(|slot| {
            let pack = slot.pack.expect("every lane has finished, so every pack is stored");
            KnownPack { used_bytes: slot.used_bytes.min(pack.plain_bytes), ..pack }
        });
        finished.collect()
    }
}
