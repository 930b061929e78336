//! PostgreSQL 13 to 18: schema by the server's own `pg_dump` and `pg_restore`, rows by parallel COPY under one exported snapshot.

pub mod client_program;
pub mod description;

// The dump.
pub mod dump;
pub mod fingerprint;
pub mod rights;
pub mod schema;

mod catalog;
mod copy_out;
mod database;
mod large_objects;
pub mod lock_budget;
mod locks;
pub mod lost;
mod pieces;
mod roles;
mod sequences;
mod session;
mod snapshot;
mod spoken;

// The restore and the export.
pub mod check;
pub mod export;
pub mod leftovers;
pub mod restore;
pub mod witness;

mod archive_contents;
mod complete;
mod create_database;
mod create_large_objects;
mod create_roles;
mod database_name;
mod database_properties;
mod load;
mod parameter_setting;
mod pg_restore;
mod preflight;
mod privileges;
mod refusal;
mod swap;
