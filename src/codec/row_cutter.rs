//! Cuts a stream of rows into chunks of whole rows, where a keyed hash of the row says so.
//!
//! A border depends on the row before it and on the distance from the last border, so an inserted row moves one border, not
//! all. The same row hash, summed, is the part's checksum: each row is hashed once.

use crate::codec::digest::{RowHasher, RowSum};

/// The sizes of chunks, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutSizes {
    /// What a chunk has on average.
    pub mean: u32,
    /// No border comes before this size is reached.
    pub min: u32,
    /// A border comes before this size is exceeded; a longer row is its own chunk.
    pub max: u32,
}

/// The smallest mean: 64 KiB. Of a table in which each thousandth row of 200 bytes has changed, this stores half, and twice
/// the mean three quarters; such chunks compress less than 1 % worse.
pub const BASE_MEAN: u32 = 64 << 10;

/// The smallest mean of vaults that do not say which they began with. They keep it: another one would store every row again.
pub const FIRST_BASE_MEAN: u32 = 128 << 10;

/// The largest mean: 128 MiB, for tables beyond 4 TiB.
const TOP_MEAN: u32 = 128 << 20;

/// No table has many more chunks than this.
const CHUNKS_PER_TABLE: u64 = 65_536;

impl CutSizes {
    /// The sizes that go with a mean: a quarter of it at least, eight times it at most.
    pub fn with_mean(mean: u32) -> Self {
        let mean = mean.clamp(BASE_MEAN, TOP_MEAN);
        Self { mean, min: mean / 4, max: mean * 8 }
    }

    /// The sizes for a table of about `bytes`, whose last backup used `before`, in a vault whose smallest mean is `base`.
    ///
    /// The mean grows from there in powers of four, so that the number of chunks stays bounded, and is sticky: a table on the edge keeps
    /// its mean until it has shrunk to a quarter of the edge. Another mean would store every row again.
    pub fn for_table(bytes: u64, base: u32, before: Option<u32>) -> Self {
        let fits = |mean: u32, bytes: u64| bytes <= u64::from(mean) * CHUNKS_PER_TABLE;
        let mut mean = base.clamp(BASE_MEAN, FIRST_BASE_MEAN);
        while mean < TOP_MEAN && !fits(mean, bytes) {
            mean = mean.saturating_mul(4).min(TOP_MEAN);
        }
        match before {
            Some(before) if mean < before && !fits(before / 4, bytes.saturating_mul(4)) => Self::with_mean(before),
            _ => Self::with_mean(mean),
        }
    }
}

/// A chunk that has been cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutChunk {
    /// Whole rows.
    pub plain: Vec<u8>,
    /// How many.
    pub rows: u64,
    /// The sum of their hashes.
    pub sum: RowSum,
}

/// Cuts one part.
#[derive(Debug)]
pub struct RowCutter {
    hasher: RowHasher,
    sizes: CutSizes,
    /// A row of `n` bytes ends a chunk where its hash is below `n` times this.
    odds: u64,
    open: Vec<u8>,
    rows: u64,
    sum: RowSum,
}

impl RowCutter {
    /// Begins a part.
    pub fn new(hasher: RowHasher, sizes: CutSizes) -> Self {
        let odds = u64::MAX / u64::from(sizes.mean - sizes.min);
        Self { hasher, sizes, odds, open: Vec::new(), rows: 0, sum: RowSum::default() }
    }

    /// Takes one row with its line end. A chunk that is complete is appended to `done`: at most two a row.
    pub fn push(&mut self, row: &[u8], done: &mut Vec<CutChunk>) {
        let hash = self.hasher.row(row);
        if !self.open.is_empty() && self.open.len() + row.len() > self.sizes.max as usize {
            done.push(self.close());
        }
        if self.open.capacity() == 0 {
            self.open.reserve(self.sizes.mean as usize);
        }
        self.open.extend_from_slice(row);
        self.rows += 1;
        self.sum.add(hash);
        let length = u64::try_from(row.len()).unwrap_or(u64::MAX);
        let high_half = u64::try_from(hash >> 64).expect("the upper half has 64 bits");
        let wanted = high_half < length.saturating_mul(self.odds);
        if (wanted && self.open.len() >= self.sizes.min as usize) || self.open.len() > self.sizes.max as usize {
            done.push(self.close());
        }
    }

    /// Ends the part: the last chunk, if rows are left.
    pub fn finish(&mut self) -> Option<CutChunk> {
        (!self.open.is_empty()).then(|| self.close())
    }

    /// Bytes that wait for a border.
    pub fn open_bytes(&self) -> usize {
        self.open.len()
    }

    fn close(&mut self) -> CutChunk {
        let plain = std::mem::take(&mut self.open);
        CutChunk { plain, rows: std::mem::take(&mut self.rows), sum: std::mem::take(&mut self.sum) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::digest::derive;

    fn hasher() -> RowHasher {
        RowHasher::new(*derive(b"key", b"", "test"))
    }

    fn cut<'a>(rows: impl Iterator<Item = &'a [u8]>, sizes: CutSizes) -> Vec<CutChunk> {
        let mut cutter = RowCutter::new(hasher(), sizes);
        let mut done = Vec::new();
        rows.for_each(|row| cutter.push(row, &mut done));
        done.extend(cutter.finish());
        done
    }

    fn numbered_rows(count: u32) -> Vec<Vec<u8>> {
        (0..count)
            .map(|i| format!("{i}\trow number {i} of a table\t{}\n", i.wrapping_mul(2_654_435_761)).into_bytes())
            .collect()
    }

    #[test]
    fn an_inserted_row_changes_one_or_two_chunks_and_no_more() {
        let sizes = CutSizes::with_mean(0);
        let mut rows = numbered_rows(60_000);
        let before = cut(rows.iter().map(Vec::as_slice), sizes);
        rows.insert(33_333, b"a new row\n".to_vec());
        let after = cut(rows.iter().map(Vec::as_slice), sizes);
        let fresh = after.iter().filter(|chunk| !before.contains(chunk)).count();
        assert!((1..=2).contains(&fresh), "{fresh} of {} chunks are new", after.len());
    }

    #[test]
    fn chunks_have_the_promised_sizes() {
        let sizes = CutSizes::with_mean(0);
        let chunks = cut(numbered_rows(200_000).iter().map(Vec::as_slice), sizes);
        let (last, full) = chunks.split_last().expect("chunks");
        assert!(full.iter().all(|c| (sizes.min as usize..=sizes.max as usize).contains(&c.plain.len())));
        assert!(last.plain.len() <= sizes.max as usize);
        let mean = full.iter().map(|c| c.plain.len()).sum::<usize>() / full.len();
        assert!((50 << 10..80 << 10).contains(&mean), "the mean is {mean}");
    }

    #[test]
    fn a_giant_row_is_its_own_chunk() {
        let giant = vec![b'x'; 3 << 20];
        let rows: [&[u8]; 3] = [b"before\n", &giant, b"after\n"];
        let chunks = cut(rows.into_iter(), CutSizes::with_mean(0));
        assert_eq!(chunks.iter().map(|c| c.plain.len()).collect::<Vec<_>>(), [7, giant.len(), 6]);
    }

    #[test]
    fn the_mean_grows_with_the_table_and_stays_on_the_edge() {
        let mean = |bytes, before| CutSizes::for_table(bytes, BASE_MEAN, before).mean;
        let edge = u64::from(BASE_MEAN) * CHUNKS_PER_TABLE;
        assert_eq!(mean(0, None), BASE_MEAN);
        assert_eq!(mean(edge, None), BASE_MEAN);
        assert_eq!(mean(edge + 1, None), 4 * BASE_MEAN);
        assert_eq!(mean(edge - 1, Some(4 * BASE_MEAN)), 4 * BASE_MEAN, "sticky just below the edge");
        assert_eq!(mean(edge / 4, Some(4 * BASE_MEAN)), BASE_MEAN, "gives way at a quarter");
        assert_eq!(mean(u64::MAX, None), TOP_MEAN);
        let old = |bytes| CutSizes::for_table(bytes, FIRST_BASE_MEAN, None).mean;
        assert_eq!((old(0), old(2 * edge), old(2 * edge + 1)), (2 * BASE_MEAN, 2 * BASE_MEAN, 8 * BASE_MEAN));
        assert_eq!(CutSizes::for_table(0, u32::MAX, None).mean, FIRST_BASE_MEAN, "whatever an index says");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn cutting_loses_nothing_and_sums_agree(rows in proptest::collection::vec(proptest::collection::vec(0_u8..255, 0..9_000), 0..80)) {
            let rows: Vec<Vec<u8>> = rows.into_iter().map(|mut row| {
                row.retain(|byte| *byte != b'\n');
                row.push(b'\n');
                row
            }).collect();
            let chunks = cut(rows.iter().map(Vec::as_slice), CutSizes::with_mean(0));
            let joined: Vec<u8> = chunks.iter().flat_map(|c| c.plain.iter().copied()).collect();
            prop_assert_eq!(joined, rows.concat());
            for chunk in &chunks {
                prop_assert_eq!(hasher().rows_of(&chunk.plain), (chunk.rows, chunk.sum));
            }
        }
    }
}
