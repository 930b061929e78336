//! Layer 1: pure bytes in, bytes out.
//!
//! Cutting streams into chunks, digests, compression, sealing, and the inside of a pack. Nothing here waits, reads a clock or
//! knows where bytes come from; the repository decides what is done with them.

pub mod block_cutter;
pub mod compress;
pub mod digest;
pub mod pack;
pub mod row_cutter;
pub mod seal;
