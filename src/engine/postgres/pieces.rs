//! From the tables of a snapshot to the parts of a backup: what is read, in which pieces, by which statement.
//!
//! Pure: the same tables give the same parts. A piece is a range of pages whose bounds do not move when the table grows, so
//! that an unchanged piece stays the same from backup to backup. The last range has no end: no row is lost between the
//! moment at which the size was read and the snapshot.

use std::collections::HashMap;

use crate::engine::postgres::catalog::Table;
use crate::engine::postgres::description::Relation;
use crate::engine::postgres::snapshot::Snapshot;
use crate::sql::postgres::{quote_identifier, quote_literal};

/// Most pieces of one table; beyond, its pieces double in size.
const MAX_PIECES: u64 = 1024;
/// The first server that reads a range of pages without reading the whole table (release notes of PostgreSQL 14).
const FIRST_WITH_RANGES: u32 = 140_000;

/// A run of pages: from the first to before the last, or to the end of the table.
pub(super) type Pages = (u64, Option<u64>);

/// The pieces of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pieces {
    /// No row: no part.
    None,
    /// One part for all.
    Whole,
    /// A part for each range.
    Ranges(Vec<Pages>),
}

impl Pieces {
    /// How many parts these are.
    pub(super) fn count(&self) -> u32 {
        match self {
            Self::None => 0,
            Self::Whole => 1,
            Self::Ranges(ranges) => u32::try_from(ranges.len()).expect("there are at most MAX_PIECES"),
        }
    }
}

/// How the snapshot's server lets a table be cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cutting {
    page_bytes: u64,
    piece_pages: u64,
    ranges: bool,
}

impl Cutting {
    /// Pieces of about `piece_bytes` where the server can read them for their own cost.
    pub(super) fn new(snapshot: &Snapshot, piece_bytes: u64) -> Self {
        let page_bytes = u64::from(snapshot.facts.large_object_page_bytes) * 4;
        let ranges = FIRST_WITH_RANGES <= snapshot.facts.server_version_num;
        Self { page_bytes, piece_pages: (piece_bytes / page_bytes).max(1), ranges }
    }

    /// The pieces of a table.
    pub(super) fn pieces(&self, table: &Table) -> Pieces {
        if table.heap && table.bytes == 0 {
            return Pieces::None;
        }
        let pages = table.bytes / self.page_bytes;
        let mut step = self.piece_pages;
        while MAX_PIECES < pages.div_ceil(step) {
            step *= 2;
        }
        if !self.ranges || !table.heap || table.config_condition.is_some() || pages <= step {
            return Pieces::Whole;
        }
        let count = pages.div_ceil(step);
        Pieces::Ranges((0..count).map(|n| (n * step, (n + 1 < count).then_some((n + 1) * step))).collect())
    }
}

/// The COPY statement of a table, or of a range of its pages.
///
/// Always with the list of its columns: their order may be another at the destination. Always of this table alone. Without a
/// stored column each row is an empty line.
pub(super) fn statement(table: &Table, pages: Option<Pages>, encoding: &str) -> String {
    let columns: Vec<String> = table.columns.iter().map(|name| quote_identifier(name)).collect();
    let name = table.id.quoted();
    let encoding = quote_literal(encoding);
    let from_page = |page: u64| format!("ctid >= '({page},0)'");
    let filter = match (pages, table.config_condition.as_deref()) {
        (Some((first, None)), _) => format!(" WHERE {}", from_page(first)),
        (Some((first, Some(end))), _) => format!(" WHERE {} AND ctid < '({end},0)'", from_page(first)),
        (None, Some(condition)) => format!(" {condition}"),
        (None, None) => String::new(),
    };
    if filter.is_empty() && !columns.is_empty() {
        return format!("COPY {name} ({}) TO STDOUT (ENCODING {encoding})", columns.join(", "));
    }
    let space = if columns.is_empty() { "" } else { " " };
    let columns = columns.join(", ");
    format!("COPY (SELECT{space}{columns} FROM ONLY {name}{filter}) TO STDOUT (ENCODING {encoding})")
}

/// What the manifest says of a table.
pub(super) fn relation(table: &Table, pieces: u32, snapshot: &Snapshot, stages: &HashMap<u32, u32>) -> Relation {
    Relation {
        id: table.id.oid,
        schema: table.id.schema.clone(),
        name: table.id.name.clone(),
        columns: table.columns.clone(),
        pieces,
        persistence: table.persistence.clone(),
        load_through: snapshot.load_through.get(&table.id.oid).cloned(),
        extension_config: table.config_condition.is_some(),
        load_stage: stages.get(&table.id.oid).copied().unwrap_or(0),
    }
}

/// The load stage of each configuration table: 1, or one more than the highest that it refers to.
///
/// Tables that refer to each other in a circle cannot be ordered; they stay in the stage that was reached after as many
/// rounds as there are tables.
pub(super) fn load_stages(tables: &[Table], references: &[(u32, u32)]) -> HashMap<u32, u32> {
    let config = tables.iter().filter(|table| table.config_condition.is_some());
    let mut stages: HashMap<u32, u32> = config.map(|table| (table.id.oid, 1)).collect();
    for _ in 0..stages.len() {
        let mut settled = true;
        for (from, to) in references {
            let Some(wanted) = stages.get(to).map(|stage| stage + 1) else { continue };
            if let Some(stage) = stages.get_mut(from)
                && *stage < wanted
            {
                *stage = wanted;
                settled = false;
            }
        }
        if settled {
            break;
        }
    }
    stages
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::postgres::catalog::TableName;

    fn table(oid: u32, bytes: u64) -> Table {
        Table {
            id: TableName { oid, schema: "public".to_owned(), name: "a\"b".to_owned() },
            partitioned: false,
            persistence: "p".to_owned(),
            heap: true,
            bytes,
            toast_bytes: 0,
            columns: vec!["x".to_owned(), "Y".to_owned()],
            config_condition: None,
            hides_rows: false,
            held: true,
            unchanged: true,
        }
    }

    const CUTTING: Cutting = Cutting { page_bytes: 8192, piece_pages: 4, ranges: true };

    fn check_pieces(pages: u64, expected: Pieces) {
        assert_eq!(CUTTING.pieces(&table(1, pages * 8192)), expected, "{pages} pages");
    }

    #[test]
    fn pieces_cover_all_pages_and_their_bounds_do_not_move() {
        check_pieces(0, Pieces::None);
        check_pieces(4, Pieces::Whole);
        check_pieces(5, Pieces::Ranges(vec![(0, Some(4)), (4, None)]));
        check_pieces(8, Pieces::Ranges(vec![(0, Some(4)), (4, None)]));
        check_pieces(9, Pieces::Ranges(vec![(0, Some(4)), (4, Some(8)), (8, None)]));
    }

    #[test]
    fn a_huge_table_has_a_bounded_number_of_pieces() {
        let Pieces::Ranges(ranges) = CUTTING.pieces(&table(1, 1 << 40)) else { panic!("it is large") };
        assert!(ranges.len() as u64 <= MAX_PIECES);
        assert!(ranges.windows(2).all(|pair| pair[0].1 == Some(pair[1].0)));
        assert_eq!((ranges[0].0, ranges.last().expect("the last").1), (0, None));
    }

    #[test]
    fn what_cannot_be_cut_is_read_whole() {
        let mut config = table(1, 1 << 30);
        config.config_condition = Some(String::new());
        assert_eq!(CUTTING.pieces(&config), Pieces::Whole);
        let old = Cutting { ranges: false, ..CUTTING };
        assert_eq!(old.pieces(&table(1, 1 << 30)), Pieces::Whole);
        let foreign_storage = Table { heap: false, ..table(1, 0) };
        assert_eq!(CUTTING.pieces(&foreign_storage), Pieces::Whole);
    }

    #[test]
    fn a_statement_names_its_columns_and_reads_one_table_only() {
        let mut table = table(1, 1);
        let plain = r#"COPY "public"."a""b" ("x", "Y") TO STDOUT (ENCODING 'LATIN1')"#;
        assert_eq!(statement(&table, None, "LATIN1"), plain);
        let range = r#"COPY (SELECT "x", "Y" FROM ONLY "public"."a""b" WHERE ctid >= '(4,0)' AND ctid < '(8,0)') TO STDOUT (ENCODING 'UTF8')"#;
        assert_eq!(statement(&table, Some((4, Some(8))), "UTF8"), range);
        table.columns.clear();
        let empty = r#"COPY (SELECT FROM ONLY "public"."a""b") TO STDOUT (ENCODING 'UTF8')"#;
        assert_eq!(statement(&table, None, "UTF8"), empty);
        table.config_condition = Some("WHERE id > 9".to_owned());
        assert!(statement(&table, None, "UTF8").contains(r#""a""b" WHERE id > 9)"#));
    }

    #[test]
    fn configuration_tables_load_after_those_that_they_refer_to() {
        let mut tables: Vec<Table> = (1..=4).map(|oid| table(oid, 1)).collect();
        tables[..3].iter_mut().for_each(|table| table.config_condition = Some(String::new()));
        let stages = load_stages(&tables, &[(1, 2), (2, 3)]);
        assert_eq!((stages[&1], stages[&2], stages[&3], stages.get(&4)), (3, 2, 1, None));
        assert_eq!(load_stages(&tables, &[(1, 2), (2, 1)]).len(), 3, "a circle comes to an end");
    }
}
