//! The inside of a pack: zstd frames one after the other, then a table of contents in a skippable frame.
//!
//! `zstd -d` on the whole gives the chunks' bytes, since it passes over skippable frames (RFC 8878, 3.1.2). The table holds for
//! each chunk its id, its plain length and the length of its frame; the last eight bytes say how long the table is.

use crate::base::ids::Hash32;

/// The default size at which a pack is closed.
pub const PACK_BYTES: usize = 16 << 20;

/// A pack is closed before its plaintext exceeds this, so that offsets fit 32 bits. A single larger chunk stands alone.
pub const MAX_PACK_PLAIN_BYTES: u64 = 1 << 30;

/// Magic number of the skippable frame that we use.
const SKIPPABLE: u32 = 0x184D_2A5D;
const TRAILER_MAGIC: [u8; 4] = *b"DBKT";
const ENTRY_BYTES: usize = 40;
const TRAILER_BYTES: usize = 8;
const HEADER_BYTES: usize = 8;

/// One chunk of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The chunk's id.
    pub id: Hash32,
    /// Where its plaintext begins in the pack's plaintext.
    pub offset: u32,
    /// The length of its plaintext.
    pub length: u32,
    /// Where its frame begins in the pack.
    pub frame_offset: u32,
    /// The length of its frame.
    pub frame_length: u32,
}

/// Why something is no pack.
#[derive(Debug, thiserror::Error)]
#[error("not a whole pack: {0}")]
pub struct BadPack(&'static str);

/// Collects frames into a pack.
#[derive(Debug, Default)]
pub struct PackBuilder {
    body: Vec<u8>,
    entries: Vec<Entry>,
    plain_bytes: u64,
}

impl PackBuilder {
    /// Appends a chunk's frame and returns where its plaintext begins.
    ///
    /// The caller closes the pack first if [`has_room`](Self::has_room) says no.
    pub fn push(&mut self, id: Hash32, plain_length: usize, frame: &[u8]) -> u32 {
        let small = |n: usize| u32::try_from(n).expect("has_room keeps a pack below 4 GiB");
        let offset = u32::try_from(self.plain_bytes).expect("has_room keeps a pack below 4 GiB");
        let (frame_offset, frame_length) = (small(self.body.len()), small(frame.len()));
        self.entries.push(Entry { id, offset, length: small(plain_length), frame_offset, frame_length });
        self.plain_bytes += plain_length as u64;
        self.body.extend_from_slice(frame);
        offset
    }

    /// True if a chunk of this plain length may still be appended.
    pub fn has_room(&self, plain_length: usize) -> bool {
        self.entries.is_empty() || self.plain_bytes + plain_length as u64 <= MAX_PACK_PLAIN_BYTES
    }

    /// Bytes of frames so far.
    pub fn bytes(&self) -> usize {
        self.body.len()
    }

    /// Bytes of plaintext so far.
    pub fn plain_bytes(&self) -> u64 {
        self.plain_bytes
    }

    /// True before the first chunk.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The pack's content.
    pub fn finish(self) -> Vec<u8> {
        let mut body = self.body;
        let length = self.entries.len() * ENTRY_BYTES + TRAILER_BYTES;
        body.reserve_exact(HEADER_BYTES + length);
        let small = |n: usize| u32::try_from(n).expect("a pack has fewer than 2^26 chunks").to_le_bytes();
        body.extend_from_slice(&SKIPPABLE.to_le_bytes());
        body.extend_from_slice(&small(length));
        for entry in &self.entries {
            body.extend_from_slice(&entry.id.0);
            body.extend_from_slice(&entry.length.to_le_bytes());
            body.extend_from_slice(&entry.frame_length.to_le_bytes());
        }
        body.extend_from_slice(&TRAILER_MAGIC);
        body.extend_from_slice(&small(self.entries.len()));
        body
    }
}

/// Reads the table of contents. Every entry's frame lies inside `pack`, and frames and table fill it exactly.
pub fn parse(pack: &[u8]) -> Result<Vec<Entry>, BadPack> {
    let (rest, trailer) = pack.split_last_chunk::<TRAILER_BYTES>().ok_or(BadPack("too short"))?;
    let (magic, count) = trailer.split_at(4);
    if magic != TRAILER_MAGIC {
        return Err(BadPack("no table of contents at its end"));
    }
    let count = little_endian(count) as usize;
    let table_bytes = count.checked_mul(ENTRY_BYTES).ok_or(BadPack("impossible number of chunks"))?;
    let table_at = rest.len().checked_sub(table_bytes).ok_or(BadPack("impossible number of chunks"))?;
    let (before, table) = rest.split_at(table_at);
    let (frames, header) = before.split_last_chunk::<HEADER_BYTES>().ok_or(BadPack("no header of its table"))?;
    let promised = little_endian(&header[4..]) as usize;
    if little_endian(&header[..4]) != SKIPPABLE || promised != table_bytes + TRAILER_BYTES {
        return Err(BadPack("no header of its table"));
    }
    let mut entries = Vec::with_capacity(count);
    let (mut offset, mut frame_offset) = (0_u32, 0_u32);
    for bytes in table.chunks_exact(ENTRY_BYTES) {
        let id = Hash32(bytes[..32].try_into().expect("32 bytes of a slice of 40"));
        let (length, frame_length) = (little_endian(&bytes[32..36]), little_endian(&bytes[36..]));
        if u64::from(length) > MAX_PACK_PLAIN_BYTES {
            return Err(BadPack("a chunk that is larger than any"));
        }
        entries.push(Entry { id, offset, length, frame_offset, frame_length });
        offset = offset.checked_add(length).ok_or(BadPack("more than 4 GiB of plaintext"))?;
        frame_offset = frame_offset.checked_add(frame_length).ok_or(BadPack("more than 4 GiB of frames"))?;
    }
    if frame_offset as usize == frames.len() { Ok(entries) } else { Err(BadPack("frames and table do not fit")) }
}

/// The bytes of an entry's frame.
pub fn frame<'a>(pack: &'a [u8], entry: &Entry) -> &'a [u8] {
    &pack[entry.frame_offset as usize..][..entry.frame_length as usize]
}

fn little_endian(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().expect("callers slice four bytes"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::compress::{compress_proven, decompress};

    fn sample() -> (Vec<u8>, Vec<Vec<u8>>) {
        let chunks: Vec<Vec<u8>> = (0_u8..5).map(|i| vec![i; 1000 * usize::from(i)]).collect();
        let mut builder = PackBuilder::default();
        for (number, chunk) in chunks.iter().enumerate() {
            let frame = compress_proven(chunk, 3).expect("compress");
            let id = Hash32([u8::try_from(number).expect("small"); 32]);
            builder.push(id, chunk.len(), &frame);
        }
        (builder.finish(), chunks)
    }

    #[test]
    fn a_pack_gives_back_its_chunks_and_zstd_alone_gives_their_bytes() {
        let (pack, chunks) = sample();
        let entries = parse(&pack).expect("parse");
        for (entry, chunk) in entries.iter().zip(&chunks) {
            assert_eq!(&decompress(frame(&pack, entry), entry.length as usize).expect("decompress"), chunk);
        }
        assert_eq!(zstd::stream::decode_all(pack.as_slice()).expect("stock zstd"), chunks.concat());
        assert_eq!(parse(&PackBuilder::default().finish()).expect("an empty pack"), []);
    }

    proptest! {
        #[test]
        fn a_mutated_pack_is_refused_or_read_within_its_bounds(at in 0_usize..400, value: u8, cut in 0_usize..400) {
            let (mut pack, _) = sample();
            let at = at % pack.len();
            pack[at] = value;
            pack.truncate(pack.len() - cut.min(pack.len()));
            if let Ok(entries) = parse(&pack) {
                for entry in entries {
                    let _ = frame(&pack, &entry);
                }
            }
        }
    }
}
