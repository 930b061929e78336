//! The schema: the custom-format archive that the server's own `pg_dump` writes under the dump's snapshot.
//!
//! Without data, so without row security, and with both sections, so that the filling of materialized views is in it, and up to
//! PostgreSQL 16 the large objects. Many tenants have the same schema: an archive whose stamp is known is not made twice in a run.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use tokio_postgres::Client;

use crate::engine::postgres::client_program::{ClientProgram, Input};
use crate::engine::postgres::fingerprint::fingerprint;
use crate::engine::postgres::session::{self, failed};
use crate::engine::postgres::snapshot::BEGIN;
use crate::engine::{Error, PartSink, Stamp};
use crate::sql::Server;

/// Changes whenever `pg_dump` is called in another way, so that no older archive is taken for a new one.
const ARGUMENTS_VERSION: &[u8] = b"1";

/// Bytes read at once from `pg_dump`.
const READ_BYTES: usize = 64 * 1024;
/// The largest archive that is remembered.
const REMEMBERED_BYTES: usize = 4 * 1024 * 1024;
/// All remembered archives together.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// Remembers the archives of schemas that were dumped in this run; one for all databases of a job.
#[derive(Debug, Default)]
pub struct SchemaCache(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    archives: HashMap<[u8; 32], Bytes>,
    bytes: usize,
}

impl SchemaCache {
    fn get(&self, stamp: Stamp) -> Option<Bytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).archives.get(&stamp.0).cloned()
    }

    fn keep(&self, stamp: Stamp, archive: Vec<u8>) {
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if CACHE_BYTES < remembered.bytes + archive.len() {
            remembered.archives.clear();
            remembered.bytes = 0;
        }
        remembered.bytes += archive.len();
        if let Some(before) = remembered.archives.insert(stamp.0, archive.into()) {
            remembered.bytes -= before.len();
        }
    }
}

/// What a dump of the schema needs.
#[derive(Debug)]
pub(super) struct SchemaDump {
    pub(super) program: ClientProgram,
    pub(super) server: Server,
    pub(super) database: String,
    /// The exported snapshot.
    pub(super) snapshot: String,
    /// How long it may wait for a table's lock.
    pub(super) lock_timeout: Duration,
    pub(super) server_version_num: u32,
    pub(super) superuser: bool,
    /// What the archive would contain, if that is known.
    pub(super) stamp: Option<Stamp>,
}

/// An archive has gone to the sink.
#[derive(Debug)]
pub(super) struct SchemaRead {
    /// What `pg_dump` warned of.
    pub(super) warnings: String,
    /// The stamp was the same before and after, so the archive is what it stands for.
    pub(super) stamp_holds: bool,
}

impl SchemaDump {
    /// What the archive would contain by the catalogs that this session sees.
    ///
    /// Another `pg_dump` may write the same schema in another way, and only a superuser dumps subscriptions.
    pub(super) async fn find_stamp(&self, client: &Client) -> Result<Option<Stamp>, Error> {
        let found = fingerprint(client, self.server_version_num).await?;
        Ok(found.map(|fingerprint| {
            let mut hash = Sha256::new();
            hash.update(fingerprint);
            hash.update([u8::from(self.superuser)]);
            // Other rights or other arguments may print another schema.
            hash.update(self.server.user.as_bytes());
            hash.update(ARGUMENTS_VERSION);
            hash.update(&self.program.version);
            Stamp(hash.finalize().into())
        }))
    }

    /// Pushes the archive. The part is ended only after `pg_dump` has exited with success.
    pub(super) async fn read(
        &self,
        part: usize,
        cache: &SchemaCache,
        sink: &mut dyn PartSink,
    ) -> Result<SchemaRead, Error> {
        sink.begin(part).await?;
        if let Some(archive) = self.stamp.and_then(|stamp| cache.get(stamp)) {
            for piece in archive.chunks(READ_BYTES) {
                push(piece, sink).await?;
            }
            sink.end(None).await?;
            return Ok(SchemaRead { warnings: String::new(), stamp_holds: true });
        }
        let (warnings, archive) = self.run(sink).await?;
        let stamp_holds = self.still_has_stamp().await?;
        sink.end(None).await?;
        // A warning would be told of the first database only.
        if let (Some(stamp), Some(archive), true, true) = (self.stamp, archive, stamp_holds, warnings.is_empty()) {
            cache.keep(stamp, archive);
        }
        Ok(SchemaRead { warnings, stamp_holds })
    }

    /// Part of what `pg_dump` prints is by the catalogs of its moment, not by the snapshot, and nothing locks functions and
    /// types. So the stamp is looked at again, from a new snapshot: if it is the same, nothing has changed on the way.
    async fn still_has_stamp(&self) -> Result<bool, Error> {
        let Some(stamp) = self.stamp else { return Ok(false) };
        let connection = session::open(&self.server, &self.database, self.lock_timeout).await?;
        connection.batch_execute(BEGIN).await.map_err(|error| failed("begin a transaction", error))?;
        // An error here is to be expected while others alter functions: then nothing holds.
        let now = self.find_stamp(&connection).await.unwrap_or(None);
        connection.batch_execute("ROLLBACK").await.map_err(|error| failed("end a transaction", error))?;
        Ok(now == Some(stamp))
    }

    /// Pushes what `pg_dump` writes; gives its warnings, and the archive if it is small enough to be remembered.
    async fn run(&self, sink: &mut dyn PartSink) -> Result<(String, Option<Vec<u8>>), Error> {
        let mut running = self.program.start(&self.server, &self.database, &self.arguments(), Input::Empty).await?;
        let mut stdout = running.stdout.take().expect("the output of a started program is there once");
        let mut archive = self.stamp.map(|_| Vec::new());
        let mut piece = vec![0; READ_BYTES];
        loop {
            let length = stdout.read(&mut piece).await.map_err(|error| Error::Mismatch {
                what: "the output of pg_dump".to_owned(),
                details: format!("cannot be read: {error}"),
            })?;
            if length == 0 {
                break;
            }
            push(&piece[..length], sink).await?;
            archive = archive.filter(|archive| archive.len() + length <= REMEMBERED_BYTES);
            if let Some(archive) = &mut archive {
                archive.extend_from_slice(&piece[..length]);
            }
        }
        Ok((running.finish().await?, archive))
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = ["--format=custom", "--compress=0", "--no-sync", "--no-password"]
            .into_iter()
            .chain(["--section=pre-data", "--section=post-data"])
            .map(str::to_owned)
            .collect();
        arguments.push(format!("--snapshot={}", self.snapshot));
        arguments.push(format!("--lock-wait-timeout={}", self.lock_timeout.as_millis()));
        arguments
    }
}

async fn push(piece: &[u8], sink: &mut dyn PartSink) -> Result<(), Error> {
    if sink.push(piece) {
        sink.drain().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembered_archives_are_bounded_in_bytes() {
        let cache = SchemaCache::default();
        for n in 0..10_u8 {
            cache.keep(Stamp([n; 32]), vec![n; REMEMBERED_BYTES]);
            let remembered = cache.0.lock().expect("not poisoned");
            let held: usize = remembered.archives.values().map(Bytes::len).sum();
            assert!(held == remembered.bytes && held <= CACHE_BYTES);
        }
        assert_eq!(cache.get(Stamp([9; 32])).map(|archive| archive[0]), Some(9));
    }
}
