//! Cuts a run of bytes without inner structure into blocks of 1 MiB.

use crate::codec::digest::{RowHasher, RowSum};
use crate::codec::row_cutter::CutChunk;

/// The size of every block but the last.
pub const BLOCK_BYTES: usize = 1 << 20;

/// Cuts one part.
#[derive(Debug)]
pub struct BlockCutter {
    hasher: RowHasher,
    open: Vec<u8>,
    number: u64,
}

impl BlockCutter {
    /// Begins a part.
    pub fn new(hasher: RowHasher) -> Self {
        Self { hasher, open: Vec::new(), number: 0 }
    }

    /// Takes some bytes; blocks that are complete are appended to `done`.
    pub fn push(&mut self, mut bytes: &[u8], done: &mut Vec<CutChunk>) {
        while !bytes.is_empty() {
            let room = BLOCK_BYTES - self.open.len();
            let (head, tail) = bytes.split_at(room.min(bytes.len()));
            self.open.extend_from_slice(head);
            bytes = tail;
            if self.open.len() == BLOCK_BYTES {
                done.push(self.close());
            }
        }
    }

    /// Ends the part: the last block, if bytes are left.
    pub fn finish(&mut self) -> Option<CutChunk> {
        (!self.open.is_empty()).then(|| self.close())
    }

    /// Bytes that wait for their block to be full.
    pub fn open_bytes(&self) -> usize {
        self.open.len()
    }

    fn close(&mut self) -> CutChunk {
        let plain = std::mem::take(&mut self.open);
        let sum = RowSum(self.hasher.block(self.number, &plain));
        self.number += 1;
        CutChunk { plain, rows: 0, sum }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::digest::derive;

    #[test]
    fn blocks_are_full_but_the_last_whatever_the_pieces() {
        let bytes: Vec<u8> = (0..(5 << 19)).map(|i: u32| i.to_le_bytes()[1]).collect();
        for piece in [1 << 10, 1 << 20, 3 << 20] {
            let mut cutter = BlockCutter::new(RowHasher::new(*derive(b"key", b"", "test")));
            let mut done = Vec::new();
            bytes.chunks(piece).for_each(|piece| cutter.push(piece, &mut done));
            done.extend(cutter.finish());
            assert_eq!(done.iter().map(|c| c.plain.len()).collect::<Vec<_>>(), [1 << 20, 1 << 20, 1 << 19]);
            assert_eq!(done.iter().flat_map(|c| c.plain.iter().copied()).collect::<Vec<_>>(), bytes);
        }
    }
}
