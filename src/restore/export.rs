//! The export of one target: a backup's parts, one after the other, through an export session, into a stream of bytes.
//!
//! Every part is read to its end, where its checksum is compared. After a failure what was written is worth nothing: it is
//! the caller's to throw away.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;

use crate::base::ids::TargetId;
use crate::base::monitor::{Monitor, Progress};
use crate::engine::{ExportOutput, ExportSession, SCHEMA_PART};
use crate::repository::reader::BackupReader;
use crate::restore::{Error, Source, unwrap_downstream};

/// Writes `reader`'s backup through `session` into `output`, and flushes it.
///
/// `heading` goes into the comment at the top.
pub async fn export(
    target: &TargetId,
    reader: &Arc<BackupReader>,
    mut session: Box<dyn ExportSession>,
    (heading, output): (&[String], &mut ExportOutput<'_>),
    monitor: &dyn Monitor,
) -> Result<(), Error> {
    let schema = reader.part(SCHEMA_PART).ok_or(Error::NoSchema)?;
    let parts = &reader.manifest().parts;
    let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
    let order = session.order(&names)?;
    let mut source = Source { parts: reader.read(schema), target, monitor, ended: false };
    session.begin(heading, &mut source, output).await.map_err(unwrap_downstream)?;
    source.check_ended(schema)?;
    for part in order.into_iter().map(|at| &parts[at]) {
        let mut source = Source { parts: reader.read(part), target, monitor, ended: false };
        let taken = session.write(&part.name, &mut source, output).await.map_err(unwrap_downstream)?;
        source.check_ended(part)?;
        if taken != part.rows {
            return Err(Error::RowCount { part: part.name.clone(), expected: part.rows, taken });
        }
        monitor.target_advances(target, Progress { rows: taken, parts: 1, ..Progress::default() });
    }
    session.finish(output).await.map_err(unwrap_downstream)?;
    output.flush().await.map_err(|source| Error::Output { source })
}
