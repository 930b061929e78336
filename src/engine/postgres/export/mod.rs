//! A backup as plain SQL that `psql -v ON_ERROR_STOP=1 -f` loads into an empty database; no server is asked for anything.
//!
//! The schema's first half as `pg_restore` prints it, then rows as `COPY … FROM stdin`, pages of large objects, values of
//! sequences, and the schema's second half. The whole file is in the encoding of the database, as a dump of `pg_dump` is.
//! There is no transaction in it: `psql -1` makes it one. Roles and the properties of the database itself are not in it; the
//! comment at the top names them. Memory holds the schema archive and one piece of rows, whatever the size of the database.
//!
//! psql obeys lines that begin with a backslash, so what a source's server sent as a row is looked at: one that would end
//! the rows is an error, not a command. The text of the schema is `pg_restore`'s, and is as safe as that makes it.

mod section;
mod words;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;

use async_trait::async_trait;
use tokio::io::AsyncWriteExt;

use crate::base::class::Class;
use crate::engine::postgres::client_program::{ClientProgram, ClientPrograms};
use crate::engine::postgres::create_large_objects::Creation;
use crate::engine::postgres::description::{LARGE_OBJECTS_PART, PostgresDetails, Relation, table_part};
use crate::engine::postgres::export::words::{Words, comment_line, in_comment};
use crate::engine::postgres::load::{Content, Page, Parts, copy_target, parse_pages};
use crate::engine::postgres::pg_restore::{Archive, Section};
use crate::engine::postgres::restore::Owner;
use crate::engine::{Description, Downstream, Error, ExportOutput, ExportSession, PartSource, SCHEMA_PART};
use crate::sql::postgres::{quote_literal, quote_qualified};

/// Pages of large objects that are written by one statement: 64 pages of 2 KiB.
const PAGES_PER_STATEMENT: usize = 64;

/// The export of one PostgreSQL database.
#[derive(Debug)]
pub struct PostgresExport {
    details: PostgresDetails,
    version: String,
    program: ClientProgram,
    parts: Parts,
    words: Words,
    archive: Option<Archive>,
}

/// Looks whether this backup can be exported here: which needs a `pg_restore` not older than the `pg_dump` that wrote it.
///
/// `folders` are the configured folders of client programs.
pub async fn open_export(
    programs: &ClientPrograms,
    folders: &[PathBuf],
    description: &Description,
) -> Result<PostgresExport, Error> {
    let details: PostgresDetails = serde_json::from_value(description.details.clone())
        .map_err(|error| mismatch("the description of the backup", error.to_string()))?;
    let written_by = details.pg_dump_version.split(|c: char| !c.is_ascii_digit()).find_map(|major| major.parse().ok());
    let written_by = written_by.unwrap_or(details.server_version_num / 10_000);
    let program = programs.find_for_archive(folders, written_by).await?;
    Ok(PostgresExport {
        parts: Parts::new(&details),
        words: Words::of(&details.database.encoding),
        version: description.version.clone(),
        archive: None,
        program,
        details,
    })
}

#[async_trait]
impl ExportSession for PostgresExport {
    fn order(&self, parts: &[&str]) -> Result<Vec<usize>, Error> {
        order(&self.details, parts)
    }

    async fn begin(
        &mut self,
        heading: &[String],
        schema: &mut dyn PartSource,
        output: &mut ExportOutput<'_>,
    ) -> Result<(), Error> {
        let archive = Archive::receive(schema, None).await?;
        write(output, self.top(heading)).await?;
        section::write(&archive, Section::PreData, self.printer(), output).await?;
        self.archive = Some(archive);
        write(output, self.settings()).await?;
        write(output, self.empty_configuration_tables()).await?;
        write(output, self.large_objects()?).await
    }

    async fn write(
        &self,
        part: &str,
        source: &mut dyn PartSource,
        output: &mut ExportOutput<'_>,
    ) -> Result<u64, Error> {
        match self.parts.content(&self.details, part) {
            Some(Content::Table(relation)) => self.write_rows(relation, source, output).await,
            Some(Content::LargeObjects) => self.write_large_objects(source, output).await,
            None => Err(unknown(part)),
        }
    }

    async fn finish(&mut self, output: &mut ExportOutput<'_>) -> Result<(), Error> {
        write(output, self.sequences()).await?;
        let archive = self.archive.take().expect("an export begins before it is finished");
        section::write(&archive, Section::PostData, self.printer(), output).await?;
        write(output, comment_line("The export is complete.")).await
    }
}

impl PostgresExport {
    fn printer(&self) -> (&ClientProgram, u32) {
        (&self.program, self.details.server_version_num)
    }

    /// The comment at the top. Nothing in it is secret but names.
    fn top(&self, heading: &[String]) -> String {
        let database = &self.details.database;
        let mut text: String = heading.iter().map(|line| comment_line(line)).collect();
        text.push_str(&comment_line(&format!(
            "Source: database {} on PostgreSQL {}; its schema by pg_dump {}.",
            in_comment(&database.name),
            self.version,
            self.details.pg_dump_version
        )));
        text.push_str(&comment_line(&format!(
            "Load it with psql -X -v ON_ERROR_STOP=1 -f FILE, into an empty database made from template0 with encoding \
             {}, collate {}, ctype {}; then ANALYZE.",
            database.encoding, database.collate, database.ctype
        )));
        let roles: Vec<String> = self.details.roles.iter().map(|role| in_comment(&role.name)).collect();
        if !roles.is_empty() {
            text.push_str(&comment_line(&format!("These roles must exist: {}", roles.join(", "))));
        }
        text.push('\n');
        text
    }

    /// The settings under which the text of rows means what it meant to the session that wrote it.
    ///
    /// `money` is read by a locale that the destination may not have: it is asked for only where there is such a column.
    fn settings(&self) -> String {
        let encoding = self.words.string(&self.details.database.encoding);
        let lc_monetary = self.words.string(&self.details.lc_monetary);
        format!(
            "\nSET client_encoding = {encoding};\nSET standard_conforming_strings = on;\nSET check_function_bodies = off;\n\
             SET row_security = off;\nSET xmloption = content;\nSET DateStyle = ISO;\nSET IntervalStyle = postgres;\n\
             SET array_nulls = on;\nSELECT pg_catalog.set_config('search_path', '', false);\n\
             SELECT pg_catalog.set_config('lc_monetary', {lc_monetary}, false) WHERE EXISTS (\n\
             \x20   SELECT FROM pg_catalog.pg_attribute WHERE atttypid = 'pg_catalog.money'::pg_catalog.regtype AND attrelid >= 16384);\n"
        )
    }

    /// Deletes what `CREATE EXTENSION` put into configuration tables, where the extension's own filter calls it user data:
    /// the backup has rows of its own for them.
    fn empty_configuration_tables(&self) -> String {
        let mut relations: Vec<&Relation> =
            self.details.relations.iter().filter(|relation| relation.extension_config).collect();
        // The tables that point to others come last in the load, so they are emptied first.
        relations.sort_by_key(|relation| std::cmp::Reverse(relation.load_stage));
        let statement = |relation: &Relation| {
            let table = quote_qualified(&relation.schema, &relation.name);
            let name = quote_literal(&table);
            let body = format!(
                "DECLARE filter text; BEGIN SELECT c.condition INTO filter FROM pg_catalog.pg_extension e, \
                 ROWS FROM (pg_catalog.unnest(e.extconfig), pg_catalog.unnest(e.extcondition)) AS c(relation, condition) \
                 WHERE c.relation = pg_catalog.to_regclass({name}); \
                 IF FOUND THEN EXECUTE 'DELETE FROM ONLY ' || {name} || ' ' || coalesce(filter, ''); END IF; END"
            );
            format!("DO {};\n", self.words.string(&body))
        };
        relations.into_iter().map(statement).collect()
    }

    /// Creates the large objects that the schema did not create: those of a `pg_dump` since 17.
    ///
    /// A schema has all of them or none, so one that exists stands for its neighbours.
    fn large_objects(&self) -> Result<String, Error> {
        let creation = Creation {
            metadata: &self.details.large_object_metadata,
            owner: &Owner::AsRecorded,
            user: None,
            keep_privileges: true,
        };
        let batches = creation.batches(&HashSet::new())?;
        let mut text = String::new();
        if !batches.is_empty() {
            text.push('\n');
            text.push_str(&comment_line("Large objects, where the schema did not create them."));
        }
        for batch in batches {
            let oids: Vec<String> = batch.oids.iter().map(u32::to_string).collect();
            let (oids, create, set_role) = (oids.join(", "), batch.call(), &batch.set_role);
            let rest: String =
                batch.statements.iter().chain(&batch.labels).map(|statement| format!("{statement}; ")).collect();
            let body = format!(
                "BEGIN IF EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata WHERE oid IN ({oids})) THEN RETURN; END IF; \
                 {set_role}; PERFORM {create}; {rest}RESET ROLE; END"
            );
            text.push_str(&format!("DO {};\n", self.words.string(&body)));
        }
        Ok(text)
    }

    async fn write_rows(
        &self,
        relation: &Relation,
        source: &mut dyn PartSource,
        output: &mut ExportOutput<'_>,
    ) -> Result<u64, Error> {
        let target = copy_target(relation, |name| self.words.identifier(name));
        write(output, format!("\nCOPY {target} FROM stdin;\n")).await?;
        let mut rows = 0;
        while let Some(piece) = source.next().await? {
            rows += count_rows(&piece).map_err(|details| {
                mismatch(&format!("the rows of table {:?}.{:?}", relation.schema, relation.name), details.to_owned())
            })?;
            write(output, piece).await?;
        }
        write(output, "\\.\n").await?;
        Ok(rows)
    }

    /// The objects themselves exist by now. Pages that are not in the source stay holes.
    async fn write_large_objects(
        &self,
        source: &mut dyn PartSource,
        output: &mut ExportOutput<'_>,
    ) -> Result<u64, Error> {
        let mut written = 0;
        while let Some(piece) = source.next().await? {
            let pages = parse_pages(&piece)?;
            for batch in pages.chunks(PAGES_PER_STATEMENT) {
                write(output, self.put(batch)).await?;
            }
            written += pages.len() as u64;
        }
        Ok(written)
    }

    fn put(&self, pages: &[Page]) -> String {
        let page_bytes = i64::from(self.details.large_object_page_bytes);
        let row = |page: &Page| {
            let (start, data) = (page.number * page_bytes, hex::encode(&page.data));
            format!("({}::oid, {start}::bigint, '\\x{data}'::bytea)", page.object)
        };
        let rows: Vec<String> = pages.iter().map(row).collect();
        format!(
            "\nSELECT pg_catalog.count(pg_catalog.lo_put(object, start, content)) FROM (VALUES\n{}\n) AS pages(object, start, content);\n",
            rows.join(",\n")
        )
    }

    fn sequences(&self) -> String {
        let mut text = "\n".to_owned();
        for sequence in &self.details.sequences {
            let name = quote_qualified(&sequence.schema, &sequence.name);
            let (name, value, is_called) = (self.words.string(&name), sequence.last_value, sequence.is_called);
            text.push_str(&format!("SELECT pg_catalog.setval({name}, {value}, {is_called});\n"));
        }
        text.push('\n');
        text
    }
}

async fn write(output: &mut ExportOutput<'_>, bytes: impl AsRef<[u8]> + Send) -> Result<(), Error> {
    output.write_all(bytes.as_ref()).await.map_err(unwritten)
}

fn unwritten(error: std::io::Error) -> Error {
    Error::Downstream(Downstream { class: Class::Unexpected, source: Box::new(error) })
}

fn mismatch(what: &str, details: String) -> Error {
    Error::Mismatch { what: what.to_owned(), details }
}

fn unknown(part: &str) -> Error {
    mismatch(&format!("part {part:?}"), "the description of the backup has no table of this number".to_owned())
}

/// The rows in a piece, which holds whole ones. Each must be one line that psql takes for a row.
///
/// COPY doubles every backslash in a value, so a row that consists of `\.` comes from no honest server; psql would take what
/// follows for commands.
fn count_rows(piece: &[u8]) -> Result<u64, &'static str> {
    let Some(rows) = piece.strip_suffix(b"\n") else { return Err("a row has no line end") };
    let mut count = 0;
    for row in rows.split(|byte| *byte == b'\n') {
        if row.starts_with(b"\\.") {
            return Err("a row would end the table's rows before their end");
        }
        count += 1;
    }
    Ok(count)
}

/// Configuration tables by their stages, all others by number, the large objects last. Pure.
fn order(details: &PostgresDetails, parts: &[&str]) -> Result<Vec<usize>, Error> {
    let mut places: HashMap<String, (u32, usize, u32)> = HashMap::new();
    for (at, relation) in details.relations.iter().enumerate() {
        let stage = relation.load_stage;
        match relation.pieces {
            1 => drop(places.insert(table_part(relation.id, None), (stage, at, 0))),
            pieces => places.extend((0..pieces).map(|n| (table_part(relation.id, Some(n)), (stage, at, n)))),
        }
    }
    let mut ordered = BTreeMap::new();
    for (at, part) in parts.iter().enumerate().filter(|(_, part)| **part != SCHEMA_PART) {
        let place = match places.remove(*part) {
            Some(place) => place,
            None if *part == LARGE_OBJECTS_PART => (u32::MAX, usize::MAX, 0),
            None => return Err(unknown(part)),
        };
        ordered.insert(place, at);
    }
    match places.keys().min() {
        Some(missing) => Err(mismatch(&format!("part {missing:?}"), "it is not in the backup".to_owned())),
        None => Ok(ordered.into_values().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_and_what_psql_would_take_for_an_end_or_a_command_is_refused() {
        assert_eq!(count_rows(b"1\ta\\\\.\n\n\\N\n\\\\.\n"), Ok(4));
        assert_eq!(count_rows(b"\n"), Ok(1));
        for wrong in [b"1\n\\.\n\\! id\n".as_slice(), b"\\.\n", b"1\n2", b"", b"\\.\r\n"] {
            assert!(count_rows(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn parts_are_ordered_by_stage_table_and_piece_and_none_is_missing_or_unknown() {
        let details = serde_json::json!({
            "server_version_num": 150_000, "pg_dump_version": "15.1", "from_standby": false, "lc_monetary": "C",
            "database": {
                "name": "d", "owner": "o", "encoding": "UTF8", "locale_provider": "c", "collate": "C", "ctype": "C",
                "tablespace": "pg_default", "connection_limit": -1, "allow_connections": true, "is_template": false,
                "security_labels": [], "settings": [],
            },
            "roles": [], "sequences": [], "large_objects": 1,
            "relations": [
                {"id": 1, "schema": "s", "name": "late", "columns": [], "pieces": 1, "persistence": "p", "load_stage": 2},
                {"id": 2, "schema": "s", "name": "cut", "columns": [], "pieces": 12, "persistence": "p"},
                {"id": 3, "schema": "s", "name": "empty", "columns": [], "pieces": 0, "persistence": "p"},
                {"id": 4, "schema": "s", "name": "whole", "columns": [], "pieces": 1, "persistence": "p"},
            ],
        });
        let details: PostgresDetails = serde_json::from_value(details).unwrap();
        let cut: Vec<String> = (0..12).rev().map(|piece| format!("table:2/{piece}")).collect();
        let mut parts = vec!["large-objects", "table:1", "table:4", "schema"];
        parts.extend(cut.iter().map(String::as_str));
        let ordered: Vec<&str> = order(&details, &parts).unwrap().into_iter().map(|at| parts[at]).collect();
        assert_eq!((ordered[0], ordered[11], ordered[12]), ("table:2/0", "table:2/11", "table:4"));
        assert_eq!(ordered[13..], ["table:1", "large-objects"]);
        assert!(order(&details, &parts[..10]).unwrap_err().to_string().contains("not in the backup"));
        parts.push("table:9");
        assert!(order(&details, &parts).unwrap_err().to_string().contains("table:9"));
    }
}
