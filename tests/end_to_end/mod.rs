//! The whole pipe: the real program, a real PostgreSQL and a real folder or S3 server, from `keygen` to what a restore left.

mod bounded;
mod checkpoint;
mod clock;
mod copy;
mod damage;
mod disaster;
mod drill;
mod failures;
mod fleet;
mod golden;
mod hostile;
mod keys;
mod kill;
mod matrix;
mod names;
mod network;
pub(crate) mod nothing_readable;
mod proofs;
mod recovery;
mod restore;
mod secrets;
mod servers;
mod sizes;
mod stop;
mod storage;
mod world;
