//! Large objects: the statement that reads the contents of all as the rows of `pg_largeobject`, and the objects themselves.
//!
//! Both are read under the dump's snapshot. The objects are read for every server, although the schema of some versions has
//! them too: who restores creates those that it finds missing.

use tokio_postgres::{Client, Row};

use crate::engine::Error;
use crate::engine::postgres::catalog::Facts;
use crate::engine::postgres::description::{AclEntry, LargeObjectGroup, LargeObjectMetadata};
use crate::engine::postgres::session::{column, failed};

/// The mode of `lo_open` that reads under the snapshot (`INV_READ`, `libpq/libpq-fs.h`).
const INV_READ: u32 = 0x0004_0000;

/// The COPY statement; none where there are no objects. Where all of them are empty it gives no row, and the part is empty.
pub(super) fn statement(facts: &Facts) -> Option<String> {
    (facts.large_objects > 0)
        .then(|| if facts.reads_large_object_pages { pages() } else { functions(facts.large_object_page_bytes) })
}

/// For those who may read the catalog: its rows as they are.
fn pages() -> String {
    "COPY (SELECT loid, pageno, data FROM pg_largeobject ORDER BY loid, pageno) TO STDOUT".to_owned()
}

/// For all others: the same rows by way of the functions, which check each object's own rights.
///
/// A hole reads as zeros there, so a page of zeros is left out, unless it is the last one, which tells the length. Every
/// descriptor is closed at once: the server looks for a free one by walking through all. So the same number comes again for
/// another object; the object's own OID beside it keeps the planner's Memoize from giving the answer of the one before.
fn functions(page_bytes: u32) -> String {
    format!(
        "COPY (SELECT m.oid, p.pageno, d.data FROM pg_largeobject_metadata m
           CROSS JOIN LATERAL (SELECT lo_open(m.oid, {INV_READ}) AS descriptor OFFSET 0) o
           CROSS JOIN LATERAL (SELECT m.oid, lo_lseek64(o.descriptor, 0, 2) AS bytes, lo_close(o.descriptor) AS closed OFFSET 0) s
           CROSS JOIN LATERAL generate_series(0, (s.bytes + {page_bytes} - 1) / {page_bytes} - 1) AS p (pageno)
           CROSS JOIN LATERAL (SELECT lo_get(m.oid, p.pageno * {page_bytes}, {page_bytes}) AS data OFFSET 0) d
           WHERE d.data <> decode(repeat('00', {page_bytes}), 'hex') OR (p.pageno + 1) * {page_bytes} >= s.bytes
           ORDER BY m.oid, p.pageno) TO STDOUT"
    )
}

/// What [`read`] found.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) metadata: LargeObjectMetadata,
    /// The objects whose comments are no text in UTF-8, which a database of encoding SQL_ASCII may hold. They are without
    /// their comment in `metadata`.
    pub(super) unreadable_comments: Vec<u32>,
}

/// Reads owners, privileges, comments and labels of all large objects, under the open transaction's snapshot.
pub(super) async fn read(client: &Client, facts: &Facts) -> Result<Read, Error> {
    if facts.large_objects == 0 {
        return Ok(Read::default());
    }
    // Access lists can be hashed and not sorted, so the aggregate has no order of its own.
    let groups = "
        SELECT pg_get_userbyid(g.lomowner)::text, g.lomacl IS NOT NULL, g.oids, a.grantors, a.grantees, a.privileges, a.options
        FROM (SELECT lomowner, lomacl, array_agg(oid) AS oids FROM pg_largeobject_metadata GROUP BY lomowner, lomacl) g
        CROSS JOIN LATERAL (
          SELECT array_agg(pg_get_userbyid(x.grantor)::text ORDER BY x.ordinality) AS grantors,
            array_agg(CASE WHEN x.grantee <> 0 THEN pg_get_userbyid(x.grantee)::text END ORDER BY x.ordinality) AS grantees,
            array_agg(x.privilege_type ORDER BY x.ordinality) AS privileges,
            array_agg(x.is_grantable ORDER BY x.ordinality) AS options
          FROM aclexplode(g.lomacl) WITH ORDINALITY x) a";
    let comments = "
        SELECT objoid, convert_to(description, CASE getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END)
        FROM pg_description WHERE classoid = 'pg_largeobject'::regclass ORDER BY objoid";
    let labels = "
        SELECT objoid, provider, label FROM pg_seclabel WHERE classoid = 'pg_largeobject'::regclass ORDER BY objoid, provider";
    let (groups, comments, labels) = futures::try_join!(
        client.query_typed(groups, &[]),
        client.query_typed(comments, &[]),
        client.query_typed(labels, &[])
    )
    .map_err(|error| failed("read the owners of large objects", error))?;
    let mut read = Read::default();
    let metadata = &mut read.metadata;
    metadata.groups = groups.iter().map(group).collect::<Result<_, _>>()?;
    metadata.groups.sort_by(|one, other| one.oids.cmp(&other.oids));
    for row in &comments {
        let (oid, comment): (u32, Vec<u8>) = (column(row, 0)?, column(row, 1)?);
        match String::from_utf8(comment) {
            Ok(comment) => metadata.comments.push((oid, comment)),
            Err(_) => read.unreadable_comments.push(oid),
        }
    }
    let label = |row: &Row| Ok((column(row, 0)?, column(row, 1)?, column(row, 2)?));
    metadata.security_labels = labels.iter().map(label).collect::<Result<_, Error>>()?;
    Ok(read)
}

fn group(row: &Row) -> Result<LargeObjectGroup, Error> {
    let has_acl: bool = column(row, 1)?;
    let mut oids: Vec<u32> = column(row, 2)?;
    oids.sort_unstable();
    // Aggregates over no entry are null: an access list that is empty.
    let grantors: Vec<String> = column::<Option<_>>(row, 3)?.unwrap_or_default();
    let grantees: Vec<Option<String>> = column::<Option<_>>(row, 4)?.unwrap_or_default();
    let privileges: Vec<String> = column::<Option<_>>(row, 5)?.unwrap_or_default();
    let options: Vec<bool> = column::<Option<_>>(row, 6)?.unwrap_or_default();
    let entries = grantors.into_iter().zip(grantees).zip(privileges).zip(options);
    let entries =
        entries.map(|(((grantor, grantee), privilege), grantable)| AclEntry { grantor, grantee, privilege, grantable });
    Ok(LargeObjectGroup { owner: column(row, 0)?, acl: has_acl.then(|| entries.collect()), oids })
}
