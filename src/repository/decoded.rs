//! Packs whose chunks were decoded, and what the chunks of a part add up to.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::cpu;
use crate::base::ids::Hash32;
use crate::codec::digest::{RowHasher, RowSum};
use crate::codec::pack::Entry;
use crate::repository::Error;
use crate::repository::manifest::{Manifest, Part};
use crate::repository::pack_cache::{OpenPack, chunks_of};
use crate::repository::reader::{Checks, decode_chunk};

/// A chunk that was decoded, and what it adds to a part: as rows, or as a block.
#[derive(Clone, Copy)]
pub(super) struct Proven {
    pub(super) rows: u64,
    pub(super) sum: RowSum,
    pub(super) hash: u128,
}

/// The contents of a pack that was decoded. Empty for one that was not, or could not be opened.
#[derive(Default)]
pub(super) struct Table {
    pub(super) entries: Vec<Entry>,
    /// For each entry; shorter where a chunk is damaged or there is no key to hash with.
    pub(super) proven: Vec<Proven>,
}

/// What the chunks of a part come to.
pub(super) enum Sums {
    /// A run begins or ends where no chunk does.
    NoChunks,
    /// A pack was not read, or could not be opened, which was found already, or a chunk not hashed.
    Unknown,
    /// Rows and checksum; blocks have no rows.
    Added(u64, RowSum),
}

/// Decodes every chunk of a pack, and tells what is wrong with those that are damaged: then nothing is proven, since which
/// chunk is which could no longer be told.
pub(super) async fn decode(open: &Arc<OpenPack>, checks: &Arc<Checks>) -> (Vec<Proven>, Vec<Error>) {
    let (mut proven, mut damage) = (Vec::with_capacity(open.entries.len()), Vec::new());
    for entry in open.entries.clone() {
        let (pack, checks) = (Arc::clone(open), Arc::clone(checks));
        let decoded = cpu::run(move || {
            let plain = decode_chunk(&pack, &entry, &checks)?;
            let (rows, sum) = checks.rows.rows_of(&plain);
            Ok(Proven { rows, sum, hash: checks.rows.row(&plain) })
        });
        match decoded.await {
            Ok(chunk) => proven.push(chunk),
            Err(error) => damage.push(error),
        }
    }
    if !damage.is_empty() {
        proven.clear();
    }
    (proven, damage)
}

/// The packs that were decoded.
#[derive(Default)]
pub(super) struct Tables(pub(super) BTreeMap<Hash32, Table>);

impl Tables {
    /// What the chunks of a part add up to.
    pub(super) fn sums_of(&self, manifest: &Manifest, part: &Part) -> Sums {
        let (mut rows, mut sum, mut number, mut known) = (0, RowSum::default(), 0, true);
        for run in &part.runs {
            let Some(table) = self.0.get(&manifest.packs[run.0 as usize].sha256) else { return Sums::Unknown };
            if table.entries.is_empty() {
                return Sums::Unknown;
            }
            let Some(chunks) = chunks_of(&table.entries, run.1, run.2) else { return Sums::NoChunks };
            let first = table.entries.partition_point(|entry| entry.offset < run.1);
            let proven = table.proven.get(first..first + chunks.len()).unwrap_or_default();
            known &= proven.len() == chunks.len();
            for chunk in proven {
                if part.kind == "rows" {
                    rows += chunk.rows;
                    sum.merge(chunk.sum);
                } else {
                    sum.add(RowHasher::block_of(number, chunk.hash));
                    number += 1;
                }
            }
        }
        if known { Sums::Added(rows, sum) } else { Sums::Unknown }
    }
}
