//! The values of sequences, which no schema dump carries.
//!
//! A sequence is outside of every snapshot: a read shows the present. A value that is read after the snapshot was taken is
//! never behind the rows that the snapshot shows; it may be ahead, and then numbers are skipped, as after a crash.

use tokio_postgres::Client;

use crate::engine::postgres::catalog::Sequence;
use crate::engine::postgres::description::SequenceValue;

/// Sequences that one statement reads.
const READ_BATCH: usize = 500;

/// Reads the values of these sequences, inside the open transaction.
///
/// Each batch is a subtransaction that is given up at once, and with it the locks on its sequences: ten thousand serial
/// columns must not need ten thousand more places in the server's lock table.
/// `None` where one of them is another sequence by now.
pub(super) async fn read(
    client: &Client,
    sequences: &[&Sequence],
) -> Result<Option<Vec<SequenceValue>>, tokio_postgres::Error> {
    let mut values = Vec::with_capacity(sequences.len());
    for batch in sequences.chunks(READ_BATCH) {
        let query = statement(batch);
        let (_, rows, _) = futures::try_join!(
            client.batch_execute("SAVEPOINT batch"),
            client.query_typed(&query, &[]),
            client.batch_execute("ROLLBACK TO SAVEPOINT batch; RELEASE SAVEPOINT batch"),
        )?;
        for row in rows {
            let at = usize::try_from(row.try_get::<_, i32>(0)?).unwrap_or(usize::MAX);
            let Sequence { id, .. } = batch.get(at).expect("the number is one that the statement was given");
            if row.try_get::<_, u32>(1)? != id.oid {
                return Ok(None);
            }
            values.push(SequenceValue {
                schema: id.schema.clone(),
                name: id.name.clone(),
                last_value: row.try_get(2)?,
                is_called: row.try_get(3)?,
            });
        }
    }
    Ok(Some(values))
}

fn statement(batch: &[&Sequence]) -> String {
    let each = |(at, sequence): (usize, &&Sequence)| {
        format!("SELECT {at}::int4, tableoid, last_value::int8, is_called FROM {}", sequence.id.quoted())
    };
    batch.iter().enumerate().map(each).collect::<Vec<_>>().join(" UNION ALL ")
}
