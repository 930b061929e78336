//! The hot functions on fixed input, to count their instructions: `hot NAME` does the work of one of them inside of a
//! function whose name begins with `counted_`. Run under callgrind by `bench/guard`; says nothing of time.

use std::process::ExitCode;

use dbkeeper::codec::compress::{DEFAULT_LEVEL, compress_proven, decompress};
use dbkeeper::codec::digest::{MacKey, ROW_SECRET_BYTES, RowHasher};
use dbkeeper::codec::row_cutter::{CutChunk, CutSizes, RowCutter};
use dbkeeper::codec::seal::{Identity, open, seal};

const ROWS: u32 = 8_000;
const CHUNK_BYTES: usize = 128 << 10;

/// Rows as COPY writes them: a number, a word, JSON with a hash, an address, a time.
fn rows() -> Vec<Vec<u8>> {
    let mut state = 1_u64;
    let mut next = move || {
        // xorshift64 (Marsaglia, 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let action = ["login", "update", "delete", "create"];
    (0..ROWS)
        .map(|row| {
            format!(
                "{row}\t{}\t{}\t{{\"h\": \"{:016x}{:016x}\", \"ua\": \"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\", \
                 \"path\": \"/api/v1/events/{}\"}}\t10.0.{}.{}\t2031-01-01 0{}:{}:{}.123456+00\n",
                row % 200,
                action[row as usize % 4],
                next(),
                next(),
                row % 1000,
                row % 256,
                row / 256,
                row % 10,
                10 + row % 50,
                10 + row % 49,
            )
            .into_bytes()
        })
        .collect()
}

fn hasher() -> RowHasher {
    RowHasher::new([7; ROW_SECRET_BYTES])
}

#[inline(never)]
fn counted_row_cutter(rows: &[Vec<u8>]) -> usize {
    let mut cutter = RowCutter::new(hasher(), CutSizes::with_mean(0));
    let mut done: Vec<CutChunk> = Vec::new();
    for row in rows {
        cutter.push(row, &mut done);
    }
    done.extend(cutter.finish());
    done.len()
}

#[inline(never)]
fn counted_row_sums(chunks: &[&[u8]]) -> usize {
    let hasher = hasher();
    chunks.iter().map(|chunk| usize::try_from(hasher.rows_of(chunk).0).unwrap_or(0)).sum()
}

#[inline(never)]
fn counted_digest(key: &MacKey, chunks: &[&[u8]]) -> usize {
    chunks.iter().map(|chunk| usize::from(key.mac(&[chunk]).0[0])).sum()
}

#[inline(never)]
fn counted_compress(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
    chunks.iter().filter_map(|chunk| compress_proven(chunk, DEFAULT_LEVEL).ok()).collect()
}

#[inline(never)]
fn counted_decompress(frames: &[Vec<u8>], chunks: &[&[u8]]) -> usize {
    let plain = frames.iter().zip(chunks).filter_map(|(frame, chunk)| decompress(frame, chunk.len()).ok());
    plain.map(|plain| plain.len()).sum()
}

#[inline(never)]
fn counted_seal(plain: &[u8], identity: &Identity) -> Vec<u8> {
    seal(plain, std::slice::from_ref(identity.recipient()))
}

#[inline(never)]
fn counted_open(sealed: &[u8], identity: &Identity) -> usize {
    open(sealed, std::slice::from_ref(identity), 1 << 30).map_or(0, |plain| plain.len())
}

fn main() -> ExitCode {
    let rows = rows();
    let plain = rows.concat();
    let chunks: Vec<&[u8]> = plain.chunks(CHUNK_BYTES).collect();
    let identity = Identity::from_bytes(&[9; 32]);
    let name = std::env::args().nth(1).unwrap_or_default();
    let done = match name.as_str() {
        "row_cutter" => counted_row_cutter(&rows),
        "row_sums" => counted_row_sums(&chunks),
        "digest" => counted_digest(&MacKey::new(&[5; 32]), &chunks),
        "compress" => counted_compress(&chunks).len(),
        "decompress" => {
            let frames: Vec<Vec<u8>> =
                chunks.iter().filter_map(|chunk| compress_proven(chunk, DEFAULT_LEVEL).ok()).collect();
            counted_decompress(&frames, &chunks)
        }
        "seal" => counted_seal(&plain, &identity).len(),
        "open" => counted_open(&seal(&plain, std::slice::from_ref(identity.recipient())), &identity),
        _ => 0,
    };
    // What was made counts as used, and an unknown name as a failure.
    if std::hint::black_box(done) == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
