//! The whole pipe: the real program, a real PostgreSQL and a real folder or S3 server, from `keygen` to what a restore left.

mod checkpoint;
mod clock;
mod copy;
mod counted;
mod damage;
mod disaster;
mod drill;
mod failures;
mod fleet;
mod golden;
mod keys;
mod kill;
mod matrix;
mod network;
mod proofs;
mod recovery;
mod restore;
mod secrets;
mod servers;
mod sizes;
mod stop;
mod storage;
mod world;
