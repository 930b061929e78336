//! What is digested of types, functions, operators and text search.

use super::statement::{Digest, Gate};

/// The digests of types and routines.
pub(super) const DIGESTS: &[Digest] = &[
    TYPES,
    ENUMS,
    RANGES,
    DOMAIN_CONSTRAINTS,
    FUNCTIONS,
    AGGREGATES,
    LANGUAGES,
    TRANSFORMS,
    CASTS,
    OPERATORS,
    OPERATOR_FAMILIES,
    OPERATOR_CLASSES,
    FAMILY_OPERATORS,
    FAMILY_FUNCTIONS,
    ACCESS_METHODS,
    COLLATIONS,
    CONVERSIONS,
    TEXT_SEARCH_PARSERS,
    TEXT_SEARCH_TEMPLATES,
    TEXT_SEARCH_DICTIONARIES,
    TEXT_SEARCH_CONFIGURATIONS,
    TEXT_SEARCH_MAPPINGS,
];

const TYPES: Digest = Digest {
    name: "types",
    gate: Gate::Depends(&["pg_type n"]),
    line:
        "oid::regtype, typowner::regrole, typacl, typtype, typlen, typbyval, typcategory, typispreferred, typisdefined,
        typdelim, typelem::regtype, [[14|typsubscript::oid::regprocedure,]] typinput::oid::regprocedure,
        typoutput::oid::regprocedure, typreceive::oid::regprocedure, typsend::oid::regprocedure,
        typmodin::oid::regprocedure, typmodout::oid::regprocedure, typanalyze::oid::regprocedure, typalign, typstorage,
        typnotnull, format_type(nullif(typbasetype, 0), typtypmod), typndims, typcollation::regcollation, typdefault,
        pg_get_expr(typdefaultbin, 'pg_type'::regclass)",
    from: "types",
};

const ENUMS: Digest = Digest {
    name: "enums",
    gate: Gate::Depends(&["pg_type n"]),
    line: "enumtypid::regtype, array_agg(enumlabel ORDER BY enumsortorder)",
    from: "pg_enum WHERE enumtypid IN (SELECT oid FROM types) GROUP BY enumtypid",
};

const RANGES: Digest = Digest {
    name: "ranges",
    gate: Gate::Depends(&["pg_type n"]),
    line: "rngtypid::regtype, rngsubtype::regtype, [[14|rngmultitypid::regtype,]] rngcollation::regcollation,
        (SELECT ROW(opcnamespace::regnamespace, opcname) FROM pg_opclass o WHERE o.oid = rngsubopc),
        rngcanonical::oid::regprocedure, rngsubdiff::oid::regprocedure",
    from: "pg_range WHERE rngtypid IN (SELECT oid FROM types)",
};

const DOMAIN_CONSTRAINTS: Digest = Digest {
    name: "domain constraints",
    gate: Gate::Depends(&["pg_type n"]),
    line: "contypid::regtype, conname, contype, convalidated, pg_get_constraintdef(oid)",
    from: "pg_constraint WHERE contypid IN (SELECT oid FROM types)",
};

const FUNCTIONS: Digest = Digest {
    name: "functions",
    gate: Gate::Depends(&["pg_proc n"]),
    line: "oid::regprocedure, prokind, proowner::regrole, proacl,
        (SELECT lanname FROM pg_language l WHERE l.oid = prolang), procost, prorows, prosupport::oid::regprocedure, prosecdef,
        proleakproof, proisstrict, proretset, provolatile, proparallel, pg_get_function_arguments(oid),
        pg_get_function_result(oid), ARRAY(SELECT transformed::regtype FROM unnest(protrftypes) AS transformed),
        prosrc, probin, [[14|pg_get_function_sqlbody(oid),]] proconfig",
    from: "pg_proc WHERE 16384 <= oid AND pronamespace IN (SELECT oid FROM spaces)
        AND oid NOT IN (SELECT objid FROM members WHERE classid = 'pg_proc'::regclass)",
};

const AGGREGATES: Digest = Digest {
    name: "aggregates",
    gate: Gate::Depends(&["pg_proc n"]),
    line: "aggfnoid::oid::regprocedure, aggsortop::regoperator, aggtranstype::regtype, aggmtranstype::regtype,
        to_jsonb(a) - '{aggfnoid,aggsortop,aggtranstype,aggmtranstype}'::text[]",
    from: "pg_aggregate a JOIN pg_proc p ON p.oid = aggfnoid
        WHERE 16384 <= p.oid AND pronamespace IN (SELECT oid FROM spaces)
        AND p.oid NOT IN (SELECT objid FROM members WHERE classid = 'pg_proc'::regclass)",
};

const LANGUAGES: Digest = Digest {
    name: "languages",
    gate: Gate::When("pg_language WHERE 16384 <= oid"),
    line: "lanname, lanowner::regrole, lanacl, lanispl, lanpltrusted, lanplcallfoid::regprocedure,
        laninline::regprocedure, lanvalidator::regprocedure",
    from: "pg_language WHERE 16384 <= oid
        AND oid NOT IN (SELECT objid FROM members WHERE classid = 'pg_language'::regclass)",
};

const TRANSFORMS: Digest = Digest {
    name: "transforms",
    gate: Gate::Filled("pg_transform"),
    line: "trftype::regtype, (SELECT lanname FROM pg_language l WHERE l.oid = trflang),
        trffromsql::oid::regprocedure, trftosql::oid::regprocedure",
    from: "pg_transform WHERE 16384 <= oid
        AND oid NOT IN (SELECT objid FROM members WHERE classid = 'pg_transform'::regclass)",
};

const CASTS: Digest = Digest {
    name: "casts",
    gate: Gate::When("pg_cast WHERE 16384 <= oid"),
    line: "castsource::regtype, casttarget::regtype, castfunc::regprocedure, castcontext, castmethod",
    from: "pg_cast WHERE 16384 <= oid
        AND oid NOT IN (SELECT objid FROM members WHERE classid = 'pg_cast'::regclass)",
};

const OPERATORS: Digest = Digest {
    name: "operators",
    gate: Gate::Depends(&["pg_operator n"]),
    line: "oid::regoperator, oprowner::regrole, oprkind, oprcanmerge, oprcanhash, oprresult::regtype,
        oprcom::regoperator, oprnegate::regoperator, oprcode::oid::regprocedure, oprrest::oid::regprocedure,
        oprjoin::oid::regprocedure",
    from: "pg_operator WHERE 16384 <= oid AND oprnamespace IN (SELECT oid FROM spaces)
        AND oid NOT IN (SELECT objid FROM members WHERE classid = 'pg_operator'::regclass)",
};

const OPERATOR_FAMILIES: Digest = Digest {
    name: "operator families",
    gate: Gate::Depends(&["pg_opfamily n"]),
    line: "opfnamespace::regnamespace, opfname, opfowner::regrole,
        (SELECT amname FROM pg_am a WHERE a.oid = opfmethod)",
    from: "pg_opfamily WHERE 16384 <= oid AND opfnamespace IN (SELECT oid FROM spaces)
        AND oid NOT IN (SELECT objid FROM members WHERE classid = 'pg_opfamily'::regclass)",
};

const OPERATOR_CLASSES: Digest = Digest {
    name: "operator classes",
    gate: Gate::Depends(&["pg_opclass n"]),
    line:
        "opcnamespace::regnamespace, opcname, opcowner::regrole, (SELECT amname FROM pg_am a WHERE a.oid = opcmethod),
        (SELECT ROW(opfnamespace::regnamespace, opfname) FROM pg_opfamily f WHERE f.oid = opcfamily),
        opcintype::regtype, opcdefault, opckeytype::regtype",
    from: "pg_opclass WHERE 16384 <= oid AND opcnamespace IN (SELECT oid FROM spaces)
        AND oid NOT IN (SELECT objid FROM members WHERE classid = 'pg_opclass'::regclass)",
};

/// What belongs to a class and what is loose in the family is known only from the dependencies.
///
/// An operator of an own class may be in a family of the server's or of an extension.
const FAMILY_OPERATORS: Digest = Digest {
    name: "operators of families",
    gate: Gate::Depends(&["pg_opfamily n", "pg_opclass n"]),
    line: "opfnamespace::regnamespace, opfname, (SELECT amname FROM pg_am a WHERE a.oid = opfmethod),
        amoplefttype::regtype, amoprighttype::regtype, amopstrategy, amoppurpose, amopopr::regoperator,
        (SELECT ROW(s.opfnamespace::regnamespace, s.opfname) FROM pg_opfamily s WHERE s.oid = amopsortfamily),
        ARRAY(SELECT ROW(opcnamespace::regnamespace, opcname)::text COLLATE \"C\"
            FROM pg_depend JOIN pg_opclass c ON c.oid = refobjid
            WHERE classid = 'pg_amop'::regclass AND objid = o.oid AND refclassid = 'pg_opclass'::regclass ORDER BY 1)",
    from: "pg_amop o JOIN pg_opfamily f ON f.oid = amopfamily
        WHERE 16384 <= o.oid AND (f.oid NOT IN (SELECT objid FROM members WHERE classid = 'pg_opfamily'::regclass)
            OR EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_amop'::regclass AND objid = o.oid
                AND refclassid = 'pg_opclass'::regclass AND (refclassid, refobjid) NOT IN (SELECT classid, objid FROM members)))",
};

const FAMILY_FUNCTIONS: Digest = Digest {
    name: "functions of families",
    gate: Gate::Depends(&["pg_opfamily n", "pg_opclass n"]),
    line: "opfnamespace::regnamespace, opfname, (SELECT amname FROM pg_am a WHERE a.oid = opfmethod),
        amproclefttype::regtype, amprocrighttype::regtype, amprocnum, amproc::oid::regprocedure,
        ARRAY(SELECT ROW(opcnamespace::regnamespace, opcname)::text COLLATE \"C\"
            FROM pg_depend JOIN pg_opclass c ON c.oid = refobjid
            WHERE classid = 'pg_amproc'::regclass AND objid = p.oid AND refclassid = 'pg_opclass'::regclass ORDER BY 1)",
    from: "pg_amproc p JOIN pg_opfamily f ON f.oid = amprocfamily
        WHERE 16384 <= p.oid AND (f.oid NOT IN (SELECT objid FROM members WHERE classid = 'pg_opfamily'::regclass)
            OR EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_amproc'::regclass AND objid = p.oid
                AND refclassid = 'pg_opclass'::regclass AND (refclassid, refobjid) NOT IN (SELECT classid, objid FROM members)))",
};

const ACCESS_METHODS: Digest = Digest {
    name: "access methods",
    gate: Gate::When("pg_am WHERE 16384 <= oid"),
    line: "amname, amtype, amhandler::oid::regprocedure",
    from: "pg_am WHERE 16384 <= oid
        AND oid NOT IN (SELECT objid FROM members WHERE classid = 'pg_am'::regclass)",
};

/// Without the version: it says what the operating system had, and the dump does not say it.
const COLLATIONS: Digest = Digest {
    name: "collations",
    gate: Gate::Depends(&["pg_collation n"]),
    line: "collnamespace::regnamespace, collowner::regrole,
        to_jsonb(c) - '{oid,collnamespace,collowner,collversion}'::text[]",
    from: "pg_collation c WHERE 16384 <= oid AND collnamespace IN (SELECT oid FROM spaces)
        AND oid NOT IN (SELECT objid FROM members WHERE classid = 'pg_collation'::regclass)",
};

const CONVERSIONS: Digest = Digest {
    name: "conversions",
    gate: Gate::Depends(&["pg_conversion n"]),
    line: "connamespace::regnamespace, conowner::regrole, to_jsonb(c) - '{oid,connamespace,conowner}'::text[]",
    from: "pg_conversion c WHERE 16384 <= oid AND connamespace IN (SELECT oid FROM spaces)
        AND oid NOT IN (SELECT objid FROM members WHERE classid = 'pg_conversion'::regclass)",
};

const TEXT_SEARCH_PARSERS: Digest = Digest {
    name: "text search parsers",
    gate: Gate::Depends(&["pg_ts_parser n"]),
    line: "prsnamespace::regnamespace, to_jsonb(p) - '{oid,prsnamespace}'::text[]",
    from: "pg_ts_parser p WHERE 16384 <= oid AND prsnamespace IN (SELECT oid FROM spaces)
        AND oid NOT IN (SELECT objid FROM members WHERE classid = 'pg_ts_parser'::regclass)",
};

const TEXT_SEARCH_TEMPLATES: Digest = Digest {
    name: "text search templates",
    gate: Gate::Depends(&["pg_ts_template n"]),
    line: "tmplnamespace::regnamespace, to_jsonb(t) - '{oid,tmplnamespace}'::text[]",
    from: "pg_ts_template t WHERE 16384 <= oid AND tmplnamespace IN (SELECT oid FROM spaces)
        AND oid NOT IN (SELECT objid FROM members WHERE classid = 'pg_ts_template'::regclass)",
};

const TEXT_SEARCH_DICTIONARIES: Digest = Digest {
    name: "text search dictionaries",
    gate: Gate::Depends(&["pg_ts_dict n"]),
    line: "dictnamespace::regnamespace, dictname, dictowner::regrole, dictinitoption,
        (SELECT ROW(tmplnamespace::regnamespace, tmplname) FROM pg_ts_template t WHERE t.oid = dicttemplate)",
    from: "pg_ts_dict WHERE 16384 <= oid AND dictnamespace IN (SELECT oid FROM spaces)
        AND oid NOT IN (SELECT objid FROM members WHERE classid = 'pg_ts_dict'::regclass)",
};

const TEXT_SEARCH_CONFIGURATIONS: Digest = Digest {
    name: "text search configurations",
    gate: Gate::Depends(&["pg_ts_config n"]),
    line: "cfgnamespace::regnamespace, cfgname, cfgowner::regrole,
        (SELECT ROW(prsnamespace::regnamespace, prsname) FROM pg_ts_parser p WHERE p.oid = cfgparser)",
    from: "pg_ts_config WHERE 16384 <= oid AND cfgnamespace IN (SELECT oid FROM spaces)
        AND oid NOT IN (SELECT objid FROM members WHERE classid = 'pg_ts_config'::regclass)",
};

const TEXT_SEARCH_MAPPINGS: Digest = Digest {
    name: "text search mappings",
    gate: Gate::Depends(&["pg_ts_config n"]),
    line: "mapcfg::regconfig, maptokentype, array_agg(mapdict::regdictionary ORDER BY mapseqno)",
    from: "pg_ts_config_map JOIN pg_ts_config c ON c.oid = mapcfg
        WHERE 16384 <= mapcfg AND cfgnamespace IN (SELECT oid FROM spaces)
        AND mapcfg NOT IN (SELECT objid FROM members WHERE classid = 'pg_ts_config'::regclass)
        GROUP BY mapcfg, maptokentype",
};
