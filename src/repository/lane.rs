//! A lane: one stream of chunks on its way into packs.
//!
//! Cut chunks are digested, compressed and proven on the processor pool, a few at a time and in order; what is not known yet
//! is appended to one of the lane's own packs, so that the parts of one lane stay together and their runs stay long. What is new
//! and what is only stored again go into separate packs: what has lasted is likely to last, and a pack that stays in use is
//! renewed instead of stored again. A full pack is sealed and put while the next ones fill. How many are on their way is decided by the room that they share with those
//! of all other lanes: a fast store never has many, a distant one as many as fill the line.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::base::cpu::{self, Place, Room, Started};
use crate::base::ids::Hash32;
use crate::codec::block_cutter::BlockCutter;
use crate::codec::digest::{RowSum, sha256};
use crate::codec::pack::{MAX_PACK_PLAIN_BYTES, PackBuilder};
use crate::codec::row_cutter::{CutChunk, RowCutter};
use crate::codec::{compress, seal};
use crate::repository::Error;
use crate::repository::index::ChunkPlace;
use crate::repository::manifest::{Part, Run};
use crate::repository::writer::{Known, Shared};

/// Batches of one lane that are on the processor pool at once.
const BATCHES_IN_FLIGHT: usize = 2;

/// Chunks cross to the processor pool together, this much plaintext at a time: each crossing wakes a thread.
const BATCH_BYTES: usize = 512 << 10;

/// A lane does no more than this itself before it looks at its connection again; larger chunks cross in any case.
const OWN_BATCH_BYTES: usize = 2 << 20;

/// Room that a chunk needs beside its plaintext: its frame and the proof, in multiples of the plaintext.
const ROOM_FACTOR: usize = 2;

enum Cutter {
    Rows(RowCutter),
    Blocks(BlockCutter),
}

struct OpenPart {
    name: String,
    cutter: Cutter,
    kind: &'static str,
    mean_bytes: u32,
    rows: u64,
    bytes: u64,
    sum: RowSum,
    runs: Vec<Run>,
}

enum Digested {
    Known(Hash32),
    Fresh { id: Hash32, frame: Vec<u8> },
}

/// A pack that is being filled.
#[derive(Default)]
struct OpenPack {
    builder: PackBuilder,
    /// Its slot, once it holds something.
    number: Option<u32>,
}

/// Chunks that are on the processor pool, in order.
type InFlight = Started<Result<Vec<(usize, Digested)>, compress::Error>>;

/// Takes the parts of one stream, one after the other.
pub struct Lane {
    shared: Arc<Shared>,
    part: Option<OpenPart>,
    cut: Vec<CutChunk>,
    /// Counted, and not yet on their way.
    batch: Vec<Vec<u8>>,
    batch_bytes: usize,
    in_flight: VecDeque<InFlight>,
    /// Of new chunks, and of those that are stored again; together no larger than one pack.
    open: [OpenPack; 2],
    uploads: JoinSet<Result<(), Error>>,
}

impl Lane {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            part: None,
            cut: Vec::new(),
            batch: Vec::new(),
            batch_bytes: 0,
            in_flight: VecDeque::new(),
            open: <[OpenPack; 2]>::default(),
            uploads: JoinSet::new(),
        }
    }

    /// Begins a part of rows; `whole_bytes` is an estimate of the table that it belongs to.
    pub fn begin_rows(&mut self, name: &str, whole_bytes: u64) {
        let sizes = self.shared.cut_sizes(name, whole_bytes);
        let cutter = Cutter::Rows(RowCutter::new(self.shared.rows().clone(), sizes));
        self.begin(name, "rows", cutter, sizes.mean);
    }

    /// Begins a part of bytes.
    pub fn begin_bytes(&mut self, name: &str) {
        let cutter = Cutter::Blocks(BlockCutter::new(self.shared.rows().clone()));
        self.begin(name, "bytes", cutter, 0);
    }

    fn begin(&mut self, name: &str, kind: &'static str, cutter: Cutter, mean_bytes: u32) {
        assert!(self.part.is_none(), "a part begins after the one before it has ended");
        let (sum, runs) = (RowSum::default(), Vec::new());
        self.part = Some(OpenPart { name: name.to_owned(), cutter, kind, mean_bytes, rows: 0, bytes: 0, sum, runs });
    }

    /// One row or some bytes. True asks for a [`drain`](Self::drain).
    pub fn push(&mut self, piece: &[u8]) -> bool {
        let part = self.part.as_mut().expect("a part has begun");
        match &mut part.cutter {
            Cutter::Rows(cutter) => cutter.push(piece, &mut self.cut),
            Cutter::Blocks(cutter) => cutter.push(piece, &mut self.cut),
        }
        !self.cut.is_empty()
    }

    /// Sends the chunks that were cut on their way, and waits where too many are under way.
    pub async fn drain(&mut self) -> Result<(), Error> {
        for chunk in std::mem::take(&mut self.cut) {
            let part = self.part.as_mut().expect("a part has begun");
            part.rows += chunk.rows;
            part.bytes += chunk.plain.len() as u64;
            part.sum.merge(chunk.sum);
            // Readers take no larger pack.
            if MAX_PACK_PLAIN_BYTES < chunk.plain.len() as u64 {
                return Err(Error::RowTooLarge { bytes: chunk.plain.len() as u64 });
            }
            self.batch_bytes += chunk.plain.len();
            self.batch.push(chunk.plain);
            if BATCH_BYTES <= self.batch_bytes {
                self.send().await?;
            }
        }
        Ok(())
    }

    async fn send(&mut self) -> Result<(), Error> {
        while self.in_flight.len() >= BATCHES_IN_FLIGHT {
            self.collect().await?;
        }
        let room = self.reserve(self.batch_bytes.saturating_mul(ROOM_FACTOR)).await?;
        let place = if OWN_BATCH_BYTES < self.batch_bytes { Place::Pool } else { self.shared.digest_at() };
        self.batch_bytes = 0;
        let (shared, batch) = (Arc::clone(&self.shared), std::mem::take(&mut self.batch));
        self.in_flight.push_back(cpu::start_at(place, move || {
            let digested = batch.into_iter().map(|plain| Ok((plain.len(), digest(&shared, &plain)?))).collect();
            // The plaintext is gone. A frame that waits for its lane holds nobody else up.
            drop(room);
            digested
        }));
        Ok(())
    }

    /// Takes room; while there is none, what this lane has under way is finished first, so that lanes cannot wait for each
    /// other in a circle.
    async fn reserve(&mut self, bytes: usize) -> Result<Room, Error> {
        let budget = self.shared.budget().clone();
        while !self.in_flight.is_empty() && budget.free_bytes() < bytes {
            self.collect().await?;
        }
        Ok(budget.reserve(bytes).await)
    }

    /// Waits for the oldest batch and puts its chunks in their places.
    async fn collect(&mut self) -> Result<(), Error> {
        let Some(flight) = self.in_flight.pop_front() else { return Ok(()) };
        let digested = flight.finish().await;
        let digested = digested.map_err(|source| Error::Compress { target: self.shared.target().clone(), source })?;
        for (length, chunk) in digested {
            let place = match chunk {
                Digested::Fresh { id, frame } => self.append(id, length, &frame).await?,
                Digested::Known(id) => self.shared.place(&id).expect("what was known stays known"),
            };
            self.record(place);
        }
        Ok(())
    }

    fn record(&mut self, place: ChunkPlace) {
        let part = self.part.as_mut().expect("chunks of a part are collected before it ends");
        match part.runs.last_mut() {
            Some(run) if run.0 == place.pack && u64::from(run.1) + run.2 == u64::from(place.offset) => {
                run.2 += u64::from(place.length);
            }
            _ => part.runs.push(Run(place.pack, place.offset, u64::from(place.length))),
        }
    }

    async fn append(&mut self, id: Hash32, length: usize, frame: &[u8]) -> Result<ChunkPlace, Error> {
        // The same chunk may have been digested twice before it was appended once.
        if let Some(place) = self.shared.place(&id) {
            return Ok(place);
        }
        let kind = usize::from(self.shared.is_stored_again(&id));
        if !self.open[kind].builder.has_room(length) {
            self.close_pack(kind).await?;
        }
        while self.open.iter().map(|open| open.builder.bytes()).sum::<usize>() + frame.len() > self.shared.pack_bytes()
        {
            let [fresh, again] = &self.open;
            let larger = usize::from(fresh.builder.bytes() < again.builder.bytes());
            if self.open[larger].number.is_none() {
                break;
            }
            self.close_pack(larger).await?;
        }
        let open = &mut self.open[kind];
        let pack = *open.number.get_or_insert_with(|| self.shared.begin_pack());
        let offset = open.builder.push(id, length, frame);
        let length = u32::try_from(length).expect("checked when it was sent");
        let place = ChunkPlace { pack, offset, length };
        self.shared.learn(id, place);
        Ok(place)
    }

    /// Ends the part: all its chunks have their place, though their pack may still be open.
    pub async fn end(&mut self) -> Result<Part, Error> {
        let part = self.part.as_mut().expect("a part has begun");
        let rest = match &mut part.cutter {
            Cutter::Rows(cutter) => cutter.finish(),
            Cutter::Blocks(cutter) => cutter.finish(),
        };
        self.cut.extend(rest);
        self.drain().await?;
        if !self.batch.is_empty() {
            self.send().await?;
        }
        while !self.in_flight.is_empty() {
            self.collect().await?;
        }
        let OpenPart { name, kind, mean_bytes, rows, bytes, sum, runs, .. } =
            self.part.take().expect("a part has begun");
        Ok(Part { name, kind: kind.to_owned(), rows, bytes, sum, mean_bytes, runs })
    }

    /// Closes and uploads what is left. After it, every pack of this lane is stored.
    pub async fn finish(mut self) -> Result<(), Error> {
        assert!(self.part.is_none(), "a lane finishes between parts");
        for kind in 0..self.open.len() {
            self.close_pack(kind).await?;
        }
        while let Some(upload) = self.uploads.join_next().await {
            upload.expect("the task neither panics nor is cancelled")?;
        }
        Ok(())
    }

    async fn close_pack(&mut self, kind: usize) -> Result<(), Error> {
        let Some(number) = self.open[kind].number.take() else { return Ok(()) };
        // What failed meanwhile ends the lane now, not after all else was read.
        while let Some(upload) = self.uploads.try_join_next() {
            upload.expect("the task neither panics nor is cancelled")?;
        }
        let builder = std::mem::take(&mut self.open[kind].builder);
        let shared = Arc::clone(&self.shared);
        // The content and, once it is sealed, its ciphertext.
        let mut room = shared.uploads().reserve(builder.bytes().saturating_mul(2)).await;
        self.uploads.spawn(async move {
            let plain_bytes = builder.plain_bytes();
            let recipient = shared.recipient().clone();
            let sealed = cpu::run(move || {
                let sealed = seal::seal(&builder.finish(), std::slice::from_ref(&recipient));
                (sha256(&sealed), sealed)
            });
            let (hash, sealed) = sealed.await;
            room.shrink_to(sealed.len());
            shared.store_pack(number, hash, plain_bytes, Bytes::from(sealed)).await
        });
        Ok(())
    }
}

fn digest(shared: &Shared, plain: &[u8]) -> Result<Digested, compress::Error> {
    let id = shared.chunk_id(plain);
    if shared.knows(&id) == Known::Yes {
        return Ok(Digested::Known(id));
    }
    Ok(Digested::Fresh { id, frame: compress::compress_proven(plain, shared.level())? })
}
