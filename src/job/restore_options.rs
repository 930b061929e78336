//! How a backup is to be restored: what the operator asked for, in the engine's words. Pure, but for the number of cores.

use crate::base::ids::RunId;
use crate::engine::postgres::restore::{Mode, Owner, RestoreOptions, RoleHandling};
use crate::job::restore::Request;
use crate::sql::Server;

/// Parts that are loaded, and indexes that are built, at once; more gain little and cost a connection each.
const MAX_LANES: usize = 4;

/// The options of a restore onto `server`, as the database `destination`.
///
/// With [`Request::no_owner`] nothing that the backup says of roles is done: what is restored is the connecting role's.
pub(super) fn restore_options(
    request: &Request,
    run: RunId,
    destination: String,
    mode: Mode,
    server: &Server,
) -> RestoreOptions {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let as_recorded = !request.no_owner;
    RestoreOptions {
        destination,
        mode,
        owner: if as_recorded { Owner::AsRecorded } else { Owner::Connecting },
        keep_privileges: as_recorded,
        keep_tablespaces: as_recorded,
        roles: if as_recorded { RoleHandling::CreateMissing } else { RoleHandling::Ignore },
        search_path: None,
        tables: request.tables.clone(),
        schema_only: request.schema_only,
        lanes: MAX_LANES.min(cores.max(2)).min(server.connections.saturating_sub(2).max(1)),
        run,
        time: run.started_at(),
    }
}
