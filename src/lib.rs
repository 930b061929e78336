//! **dbkeeper** backs up, restores and migrates the databases of multi-tenant SaaS: one central database, thousands of
//! tenant databases, and volumes.
//!
//! # Map
//! Data flows one way; a module imports only lower layers, never a sibling of its own (`tests/architecture.rs`).
//! ```text
//! L0 base                              ids, units, secret, class, retry, clock, monitor, cpu
//! L1 store, codec, sql, run            objects under keys; bytes to bytes; servers; many fallible units
//! L2 repository, engine, fleet, observe  our stored format; dump and restore sessions; what exists; what is told
//! L3 backup, restore                   one target at a time
//! L4 config                            text to the option types of the layers below
//! L5 job                               whole jobs over the fleet
//! L7 cli                               arguments, output, exit codes
//! ```
//!
//! # Words
//! A **repository** (a bucket prefix or a folder) holds a **vault** for each **target** (the central database, one tenant
//! database, one volume). A **backup** is one finished copy of one target at one time; it exists exactly when its commit
//! marker exists. A **part** is an independently dumped and restored stream of a target; it is cut into **chunks**, the unit
//! of deduplication; many chunks make a **pack**, one stored object. A **manifest** is the full description of a backup. A
//! **snapshot** is only a consistent view of a source database. A **run** is one execution over many targets.
//! **Source** and **destination** are the two ends of a restore, never "target".
//!
//! # Invariants
//! 1. A backup exists exactly when its marker exists; the marker is the last put.
//! 2. Nothing stored is ever overwritten; only prune and erase delete, from a printed plan.
//! 3. A backup references no pack that expires before it does, and none unseen in this run's listing.
//! 4. No error is only logged: it is returned, or it is in the report and the exit code.
//! 5. Plaintext and secrets never reach the store, logs, metrics, reports, errors or disk.
//! 6. Every queue, retry, wait and size has a named limit; memory in flight is bounded in bytes.
//! 7. Time, randomness and environment enter as arguments; retention, shards, plans and waves are pure functions.

pub mod backup;
pub mod base;
pub mod cli;
pub mod codec;
pub mod config;
pub mod engine;
pub mod fleet;
pub mod job;
pub mod observe;
pub mod repository;
pub mod restore;
pub mod run;
pub mod sql;
pub mod store;
