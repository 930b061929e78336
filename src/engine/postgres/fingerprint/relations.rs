//! What is digested of tables, views, sequences and everything that hangs on them.
//!
//! Only definitions: sizes, statistics, file nodes and transaction ids change without the dump and are not read.

use super::statement::{Digest, Gate};

/// The digests of relations.
pub(super) const DIGESTS: &[Digest] = &[
    RELATIONS,
    COLUMNS,
    SEQUENCES,
    CONSTRAINTS,
    INDEXES,
    FOREIGN_TABLES,
    INHERITANCE,
    STATISTICS,
    TRIGGERS,
    RULES,
    POLICIES,
    MEMBER_ROW_SECURITY,
];

const RELATIONS: Digest = Digest {
    name: "relations",
    gate: Gate::Always,
    line: "name, relkind, relowner::regrole, relacl, relpersistence, relispopulated, relreplident, relrowsecurity,
        relforcerowsecurity, relispartition, reloptions,
        CASE WHEN reltablespace <> 0 THEN (SELECT spcname FROM pg_tablespace t WHERE t.oid = reltablespace) END,
        CASE WHEN relam <> 0 THEN (SELECT amname FROM pg_am a WHERE a.oid = relam) END,
        CASE WHEN reloftype <> 0 THEN reloftype::regtype END,
        CASE WHEN reltoastrelid <> 0 THEN (SELECT t.reloptions FROM pg_class t WHERE t.oid = r.reltoastrelid) END,
        CASE WHEN relispartition THEN pg_get_expr(relpartbound, oid) END,
        CASE WHEN relkind = 'p' THEN pg_get_partkeydef(oid) WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(oid) END",
    from: "relations r WHERE relkind <> 'c'",
};

/// One line for each relation, so that the order of its columns counts and their numbers do not.
///
/// From the minor versions of late 2026 on a server may keep a `pg_attver` among the options of each column: a number of
/// its own, other in every database, which `pg_dump` does not print either.
const COLUMNS: Digest = Digest {
    name: "columns",
    gate: Gate::Always,
    line: "r.name, string_agg(ROW(attname, format_type(atttypid, atttypmod), attnotnull, attislocal, attstattarget,
        attstorage, [[14|attcompression,]] attidentity, attgenerated, attfdwoptions,
        CASE WHEN attcollation NOT IN (0, 100) THEN attcollation::regcollation END,
        ARRAY(SELECT option FROM unnest(attoptions) AS option WHERE left(option, 10) <> 'pg_attver='),
        pg_get_expr(adbin, adrelid))::text, ',' ORDER BY attnum)",
    from: "relations r JOIN pg_attribute ON attrelid = r.oid AND attnum > 0 AND NOT attisdropped
            LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE relkind <> 'S' GROUP BY r.oid, r.name",
};

/// The owner of a sequence is a dependency: automatic for OWNED BY, internal for an identity column.
const SEQUENCES: Digest = Digest {
    name: "sequences",
    gate: Gate::Always,
    line: "r.name, seqtypid::regtype, seqstart, seqincrement, seqmax, seqmin, seqcache, seqcycle, refobjid::regclass,
        CASE WHEN refobjsubid <> 0 THEN (SELECT attname FROM pg_attribute
            WHERE attrelid = refobjid AND attnum = refobjsubid) END, deptype",
    from: "relations r JOIN pg_sequence ON seqrelid = r.oid
        LEFT JOIN pg_depend ON classid = 'pg_class'::regclass AND objid = r.oid AND objsubid = 0
            AND refclassid = 'pg_class'::regclass AND deptype IN ('a', 'i')
        WHERE relkind = 'S'",
};

/// Of foreign keys only those that were declared: the server names the copies for partitions by itself.
const CONSTRAINTS: Digest = Digest {
    name: "constraints",
    gate: Gate::Always,
    line: "conrelid::regclass, conname, contype, condeferrable, condeferred, convalidated, conislocal, connoinherit,
        conindid::regclass, pg_get_constraintdef(oid)",
    from: "constraints",
};

/// The index of a constraint is printed as the constraint. Only columns that are expressions have a statistics target.
const INDEXES: Digest = Digest {
    name: "indexes",
    gate: Gate::Always,
    line: "indexrelid::regclass, r.name, indisclustered, indisreplident, indisvalid, indisready, c.reloptions,
        CASE WHEN c.reltablespace <> 0 THEN (SELECT spcname FROM pg_tablespace t WHERE t.oid = c.reltablespace) END,
        CASE WHEN c.relispartition THEN (SELECT inhparent::regclass FROM pg_inherits WHERE inhrelid = indexrelid) END,
        CASE WHEN indexprs IS NOT NULL THEN (SELECT string_agg(ROW(attnum, attstattarget)::text, ',' ORDER BY attnum)
            FROM pg_attribute WHERE attrelid = indexrelid AND 0 <= attstattarget) END,
        CASE WHEN indexrelid NOT IN (SELECT conindid FROM constraints WHERE contype IN ('p', 'u', 'x'))
            THEN pg_get_indexdef(indexrelid) END",
    from: "pg_index JOIN relations r ON r.oid = indrelid JOIN pg_class c ON c.oid = indexrelid",
};

const FOREIGN_TABLES: Digest = Digest {
    name: "foreign tables",
    gate: Gate::When("relations WHERE relkind = 'f'"),
    line: "ftrelid::regclass, (SELECT srvname FROM pg_foreign_server s WHERE s.oid = ftserver), ftoptions",
    from: "pg_foreign_table WHERE ftrelid IN (SELECT oid FROM relations)",
};

const INHERITANCE: Digest = Digest {
    name: "inheritance",
    gate: Gate::Filled("pg_inherits"),
    line: "inhrelid::regclass, string_agg(inhparent::regclass::text, ',' ORDER BY inhseqno)",
    from: "pg_inherits WHERE inhrelid IN (SELECT oid FROM relations) GROUP BY inhrelid",
};

const STATISTICS: Digest = Digest {
    name: "statistics",
    gate: Gate::Depends(&["pg_statistic_ext n"]),
    line: "stxnamespace::regnamespace, stxname, stxowner::regrole, stxrelid::regclass, stxstattarget,
        pg_get_statisticsobjdef(oid)",
    from: "pg_statistic_ext WHERE stxnamespace IN (SELECT oid FROM spaces)
        AND oid NOT IN (SELECT objid FROM members WHERE classid = 'pg_statistic_ext'::regclass)",
};

/// The server's own triggers are printed only on a partition whose copy is enabled in another way than the original.
const TRIGGERS: Digest = Digest {
    name: "triggers",
    gate: Gate::Depends(&["pg_trigger a", "pg_trigger P"]),
    line: "t.tgrelid::regclass, t.tgname, t.tgenabled, t.tgparentid <> 0, pg_get_triggerdef(t.oid, false)",
    from: "pg_trigger t WHERE t.tgrelid IN (SELECT oid FROM relations) AND (NOT t.tgisinternal
        OR t.tgenabled <> (SELECT p.tgenabled FROM pg_trigger p WHERE p.oid = t.tgparentid))",
};

/// The rule behind a view is in the view's own definition, unless someone changed when it fires.
const RULES: Digest = Digest {
    name: "rules",
    gate: Gate::Depends(&["pg_rewrite a"]),
    line: "ev_class::regclass, rulename, ev_type, ev_enabled, is_instead, pg_get_ruledef(oid)",
    from: "pg_rewrite WHERE ev_class IN (SELECT oid FROM relations) AND (ev_type <> '1' OR ev_enabled <> 'O')",
};

/// Policies on the tables of extensions are dumped, too. The roles are a set.
const POLICIES: Digest = Digest {
    name: "policies",
    gate: Gate::Depends(&["pg_policy a"]),
    line: "polrelid::regclass, polname, polcmd, polpermissive,
        ARRAY(SELECT pg_get_userbyid(role)::text COLLATE \"C\" FROM unnest(polroles) AS role WHERE role <> 0 ORDER BY 1),
        pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)",
    from: "pg_policy WHERE polrelid NOT IN (SELECT oid FROM pg_class WHERE relpersistence = 't')",
};

const MEMBER_ROW_SECURITY: Digest = Digest {
    name: "row security of members",
    gate: Gate::When("members WHERE classid = 'pg_class'::regclass"),
    line: "oid::regclass, relforcerowsecurity",
    from: "pg_class WHERE 16384 <= oid AND relrowsecurity
        AND oid IN (SELECT objid FROM members WHERE classid = 'pg_class'::regclass)",
};
