//! The one statement that digests the catalogs, assembled for a server's major version.
//!
//! Knows how digests are put together, not what is in them. Where a text depends on the version it says so itself:
//! `[[15|text]]` is there from PostgreSQL 15 on.

use std::collections::BTreeSet;

use super::{database, relations, types};

/// One digest: what is written of each object, one line each. The lines are sorted on the server, so their order never
/// counts. The texts may use the sets of [`SETS`].
pub(super) struct Digest {
    /// Unique among all digests; never changes its meaning.
    pub(super) name: &'static str,
    /// Whether there is anything to write.
    pub(super) gate: Gate,
    /// The columns of a line.
    pub(super) line: &'static str,
    /// The rows, as after FROM; empty for a major version without such objects.
    pub(super) from: &'static str,
}

/// Most databases have no objects of most kinds, and planning a digest costs more than running it. So the first statement
/// finds out cheaply which kinds there may be, and a second one, where there are any, takes their digests. A digest without
/// lines is the same as none.
#[derive(Clone, Copy)]
pub(super) enum Gate {
    /// In the first statement.
    Always,
    /// In the second, if some object of such a catalog, no member of an extension, has such a dependency. Whatever is in a
    /// schema that is dumped has a normal one (`n`) on the schema: only schemas that begin with `pg_` are pinned.
    Depends(&'static [&'static str]),
    /// In the second, if this catalog has pages. It has none in a new database, and never none while a row can be seen.
    Filled(&'static str),
    /// In the second, if this, as after FROM, has rows.
    When(&'static str),
}

impl Gate {
    /// Whether the second statement asks, by the tokens that the first one answered.
    pub(super) fn is_open(self, tokens: &[&str]) -> bool {
        match self {
            Self::Always => false,
            Self::Depends(any) => any.iter().any(|token| tokens.contains(token)),
            Self::Filled(token) | Self::When(token) => tokens.contains(&token),
        }
    }
}

/// The name of the row that counts the server's own objects in schemas that are dumped; see [`super::fingerprint`].
pub(super) const MOVED: &str = "moved";

/// The name of the row that says which gates are open: their tokens, one a line.
pub(super) const PRESENT: &str = "present";

const SAVEPOINT: &str = "SAVEPOINT dbkeeper_fingerprint";

/// Takes back all that [`for_major`] set, after a failure as well as after success.
pub(super) const UNDO: &str = "ROLLBACK TO SAVEPOINT dbkeeper_fingerprint; RELEASE SAVEPOINT dbkeeper_fingerprint";

/// How constants in expressions are printed must not lose digits nor depend on the role; names are printed with their
/// schemas; and compiling or parallel workers would cost more than the statement.
const LOCAL_SETTINGS: &str = "SET LOCAL search_path TO pg_catalog, pg_temp; \
    SET LOCAL extra_float_digits TO 3; SET LOCAL datestyle TO ISO, YMD; SET LOCAL intervalstyle TO postgres; \
    SET LOCAL bytea_output TO hex; SET LOCAL jit TO off; SET LOCAL max_parallel_workers_per_gather TO 0";

/// The schemas whose objects are dumped (as `pg_dump` chooses them: none that begins with `pg_`, so no temporary ones), the
/// members of extensions (only their privileges, labels and policies are dumped), and the relations and types to digest:
/// no row types of tables and no array types, which come by themselves.
const SETS: &str = "
spaces AS MATERIALIZED (SELECT oid FROM pg_namespace
    WHERE left(nspname, 3) <> 'pg_' AND nspname <> 'information_schema'),
members AS MATERIALIZED (SELECT classid, objid FROM pg_depend
    WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'),
relations AS MATERIALIZED (SELECT oid::regclass::text AS name, c.* FROM pg_class c
    WHERE 16384 <= oid AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c')
        AND relnamespace IN (SELECT s.oid FROM spaces s)
        AND oid NOT IN (SELECT objid FROM members WHERE classid = 'pg_class'::regclass)),
constraints AS MATERIALIZED (SELECT * FROM pg_constraint
    WHERE conrelid IN (SELECT r.oid FROM relations r) AND NOT (contype = 'f' AND conparentid <> 0)),
types AS MATERIALIZED (SELECT * FROM pg_type t
    WHERE 16384 <= oid AND typnamespace IN (SELECT s.oid FROM spaces s)
        AND oid NOT IN (SELECT objid FROM members WHERE classid = 'pg_type'::regclass)
        AND (typrelid = 0 OR typrelid IN (SELECT r.oid FROM relations r WHERE relkind = 'c'))
        AND NOT (typelem <> 0 AND oid = (SELECT e.typarray FROM pg_type e WHERE e.oid = t.typelem)))";

/// An object of the server's own (its OID is below 16384) moved into a schema that is dumped becomes part of the dump, but
/// is in no digest. Such a move is known by a dependency on the schema.
const MOVED_LINES: &str = "
SELECT count(*)::text FROM pg_depend
WHERE refclassid = 'pg_namespace'::regclass AND refobjid IN (SELECT oid FROM spaces)
    AND objid < 16384 AND deptype <> 'p'";

/// The digests of a server of this major version, in the order in which they are combined.
pub(super) fn digests(major: u32) -> impl Iterator<Item = &'static Digest> {
    let all = [database::DIGESTS, relations::DIGESTS, types::DIGESTS].into_iter().flatten();
    all.filter(move |digest| !resolve(digest.from, major).is_empty())
}

/// The first statement: a row of name and hexadecimal digest for each digest that is always taken, then [`MOVED`] with a
/// count, then [`PRESENT`] with the tokens of the open gates.
pub(super) fn first(major: u32) -> String {
    let always = digests(major).filter(|digest| matches!(digest.gate, Gate::Always));
    let moved = format!("SELECT '{MOVED}', ({MOVED_LINES})");
    whole(always.map(|digest| taken(digest, major)).chain([moved, present(major)]))
}

/// The second statement: a row of name and hexadecimal digest for each of these.
pub(super) fn second(major: u32, names: &[&str]) -> String {
    whole(digests(major).filter(|digest| names.contains(&digest.name)).map(|digest| taken(digest, major)))
}

fn whole(selects: impl Iterator<Item = String>) -> String {
    let selects: Vec<String> = selects.collect();
    format!("{SAVEPOINT}; {LOCAL_SETTINGS}; WITH {SETS} {}; {UNDO}", selects.join("\nUNION ALL "))
}

/// The lines are sorted below the aggregate: as its own sort key, each would be computed twice.
/// The bytes that are hashed are those of the database's own encoding: a conversion could fail on odd names.
fn taken(digest: &Digest, major: u32) -> String {
    format!(
        "SELECT '{}', encode(sha256(convert_to(coalesce(string_agg(line, chr(10)), ''), 'SQL_ASCII')), 'hex') \
         FROM (SELECT ROW({})::text COLLATE \"C\" FROM {} ORDER BY 1) AS lines(line)",
        digest.name,
        resolve(digest.line, major),
        resolve(digest.from, major)
    )
}

/// The tokens of the open gates, one a line.
fn present(major: u32) -> String {
    let gates: Vec<Gate> = digests(major).map(|digest| digest.gate).collect();
    let filled = gates.iter().filter_map(|gate| match gate {
        Gate::Filled(catalog) => Some(format!("'{catalog}'")),
        _ => None,
    });
    let probes = gates.iter().filter_map(|gate| match gate {
        Gate::When(probe) => {
            Some(format!("CASE WHEN EXISTS (SELECT FROM {probe}) THEN '{}' END", probe.replace('\'', "''")))
        }
        _ => None,
    });
    format!(
        "SELECT '{PRESENT}', concat_ws(chr(10), \
         (SELECT string_agg(concat(classid::regclass, ' ', deptype), chr(10)) FROM (SELECT DISTINCT classid, deptype \
             FROM pg_depend WHERE 16384 <= objid AND (classid, objid) NOT IN (SELECT m.classid, m.objid FROM members m)) d), \
         (SELECT string_agg(catalog, chr(10)) FROM unnest(ARRAY[{}]) AS catalog \
             WHERE 0 < pg_relation_size(catalog::regclass)), {})",
        distinct(filled).join(", "),
        distinct(probes).join(", ")
    )
}

fn distinct(texts: impl Iterator<Item = String>) -> Vec<String> {
    texts.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Keeps or drops the bracketed pieces of a text. Pieces do not nest.
fn resolve(text: &str, major: u32) -> String {
    let mut resolved = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, opened)) = rest.split_once("[[") {
        let (piece, after) = opened.split_once("]]").expect("every piece is closed");
        let (from, piece) = piece.split_once('|').expect("every piece names its first version");
        resolved.push_str(before);
        if from.parse::<u32>().expect("a version is a number") <= major {
            resolved.push_str(piece);
        }
        rest = after;
    }
    resolved.push_str(rest);
    resolved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_there_from_its_version_on() {
        let text = "a[[14|, b]], c[[15|, d]]";
        assert_eq!(resolve(text, 13), "a, c");
        assert_eq!(resolve(text, 14), "a, b, c");
        assert_eq!(resolve(text, 15), "a, b, c, d");
    }

    #[test]
    fn names_of_digests_are_unique_and_every_text_resolves() {
        for major in 13..=18 {
            let names: Vec<&str> = digests(major).map(|digest| digest.name).collect();
            assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
            assert_eq!(names.contains(&"published schemas"), 15 <= major);
            assert!(!first(major).contains("[["));
            assert!(!second(major, &names).contains("[["));
        }
    }
}
