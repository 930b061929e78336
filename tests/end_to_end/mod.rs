//! The whole pipe: the real program, a real PostgreSQL and a real folder or S3 server, from `keygen` to what a restore left.

mod aged;
mod checkpoint;
mod clock;
mod copy;
mod damage;
mod disaster;
mod drill;
mod erase;
mod failures;
mod fleet;
mod golden;
mod keys;
mod kill;
mod lock;
mod matrix;
mod network;
mod proofs;
mod prune;
mod recovery;
mod restore;
mod secrets;
mod servers;
mod sizes;
mod stop;
mod storage;
mod world;
