//! What is digested of the database as a whole: schemas, extensions, foreign servers, replication, large objects, and what
//! is said about objects of every kind: comments, labels, privileges.

use super::statement::{Digest, Gate};

/// The digests that belong to no table and no type.
pub(super) const DIGESTS: &[Digest] = &[
    SETTINGS,
    SCHEMAS,
    EXTENSIONS,
    EVENT_TRIGGERS,
    FOREIGN_DATA_WRAPPERS,
    FOREIGN_SERVERS,
    USER_MAPPINGS,
    PUBLICATIONS,
    PUBLISHED_TABLES,
    PUBLISHED_SCHEMAS,
    SUBSCRIPTIONS,
    SUBSCRIPTION_SETTINGS,
    LARGE_OBJECTS,
    DEFAULT_PRIVILEGES,
    PRIVILEGES,
    FOREIGN_PRIVILEGES,
    INITIAL_PRIVILEGES,
    COMMENTS,
    SECURITY_LABELS,
    EXTENSION_DEPENDENCIES,
];

/// What the head of a dump says.
const SETTINGS: Digest = Digest {
    name: "settings",
    gate: Gate::Always,
    line: "getdatabaseencoding(), current_setting('standard_conforming_strings')",
    from: "(SELECT 1) AS one",
};

/// With the comments and first privileges of schemas, which every database has: so most need no digest of their own.
const SCHEMAS: Digest = Digest {
    name: "schemas",
    gate: Gate::Always,
    line: "nspname, nspowner::regrole, nspacl,
        (SELECT ROW(privtype, initprivs) FROM pg_init_privs
            WHERE objoid = n.oid AND classoid = 'pg_namespace'::regclass AND objsubid = 0),
        (SELECT description FROM pg_description
            WHERE objoid = n.oid AND classoid = 'pg_namespace'::regclass AND objsubid = 0)",
    from: "pg_namespace n WHERE oid IN (SELECT s.oid FROM spaces s)
        AND oid NOT IN (SELECT objid FROM members WHERE classid = 'pg_namespace'::regclass)",
};

const EXTENSIONS: Digest = Digest {
    name: "extensions",
    gate: Gate::When("pg_extension WHERE 16384 <= oid"),
    line: "extname, extnamespace::regnamespace, extversion, extrelocatable,
        ARRAY(SELECT config::regclass FROM unnest(extconfig) WITH ORDINALITY AS c(config, place) ORDER BY place),
        extcondition",
    from: "pg_extension WHERE 16384 <= oid",
};

const EVENT_TRIGGERS: Digest = Digest {
    name: "event triggers",
    gate: Gate::Depends(&["pg_event_trigger n"]),
    line: "evtname, evtevent, evtowner::regrole, evtfoid::regprocedure, evtenabled, evttags",
    from: "pg_event_trigger WHERE oid NOT IN (SELECT objid FROM members WHERE classid = 'pg_event_trigger'::regclass)",
};

const FOREIGN_DATA_WRAPPERS: Digest = Digest {
    name: "foreign data wrappers",
    gate: Gate::Filled("pg_foreign_data_wrapper"),
    line: "fdwname, fdwowner::regrole, fdwhandler::regprocedure, fdwvalidator::regprocedure, fdwacl, fdwoptions",
    from: "pg_foreign_data_wrapper
        WHERE oid NOT IN (SELECT objid FROM members WHERE classid = 'pg_foreign_data_wrapper'::regclass)",
};

const FOREIGN_SERVERS: Digest = Digest {
    name: "foreign servers",
    gate: Gate::Filled("pg_foreign_server"),
    line: "srvname, srvowner::regrole, (SELECT fdwname FROM pg_foreign_data_wrapper w WHERE w.oid = srvfdw), srvtype,
        srvversion, srvacl, srvoptions",
    from: "pg_foreign_server WHERE oid NOT IN (SELECT objid FROM members WHERE classid = 'pg_foreign_server'::regclass)",
};

/// Through the view, as the dump reads them: a role that may not see the options dumps a mapping without any.
const USER_MAPPINGS: Digest = Digest {
    name: "user mappings",
    gate: Gate::Filled("pg_foreign_server"),
    line: "srvname, usename, umoptions",
    from: "pg_user_mappings",
};

const PUBLICATIONS: Digest = Digest {
    name: "publications",
    gate: Gate::Filled("pg_publication"),
    line: "pubowner::regrole, to_jsonb(p) - '{oid,pubowner}'::text[]",
    from: "pg_publication p",
};

const PUBLISHED_TABLES: Digest = Digest {
    name: "published tables",
    gate: Gate::Filled("pg_publication"),
    line: "(SELECT pubname FROM pg_publication p WHERE p.oid = prpubid), prrelid::regclass
        [[15|, pg_get_expr(prqual, prrelid), CASE WHEN prattrs IS NOT NULL THEN ARRAY(SELECT attname FROM pg_attribute
            WHERE attrelid = prrelid AND attnum = ANY (prattrs::int2[]) ORDER BY attnum) END]]",
    from: "pg_publication_rel",
};

const PUBLISHED_SCHEMAS: Digest = Digest {
    name: "published schemas",
    gate: Gate::Filled("pg_publication"),
    line: "(SELECT pubname FROM pg_publication p WHERE p.oid = pnpubid), pnnspid::regnamespace",
    from: "[[15|pg_publication_namespace]]",
};

/// Labels of subscriptions are in a shared catalog, as they are themselves.
const SUBSCRIPTIONS: Digest = Digest {
    name: "subscriptions",
    gate: Gate::Filled("pg_subscription"),
    line: "subname, subowner::regrole, ARRAY(SELECT ROW(provider, label)::text COLLATE \"C\" FROM pg_shseclabel
            WHERE classoid = 'pg_subscription'::regclass AND objoid = s.oid ORDER BY 1)",
    from: "pg_subscription s WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())",
};

/// Only a superuser can read how a subscription connects, and for all others the dump leaves subscriptions out. A statement
/// that merely names the column is refused to them.
const SUBSCRIPTION_SETTINGS: Digest = Digest {
    name: "settings of subscriptions",
    gate: Gate::When("pg_subscription WHERE current_setting('is_superuser') = 'on'"),
    line: "to_jsonb(s) - '{oid,subdbid,subowner,subskiplsn,subenabled}'::text[]",
    from: "pg_subscription s WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())",
};

/// The OID of a large object is its name. It may be a small one, hence the comments here.
const LARGE_OBJECTS: Digest = Digest {
    name: "large objects",
    gate: Gate::Filled("pg_largeobject_metadata"),
    line: "oid, lomowner::regrole, lomacl, (SELECT description FROM pg_description
            WHERE objoid = l.oid AND classoid = 'pg_largeobject'::regclass AND objsubid = 0)",
    from: "pg_largeobject_metadata l",
};

const DEFAULT_PRIVILEGES: Digest = Digest {
    name: "default privileges",
    gate: Gate::Filled("pg_default_acl"),
    line: "defaclrole::regrole, defaclnamespace::regnamespace, defaclobjtype, defaclacl",
    from: "pg_default_acl",
};

/// Privileges on columns, and on objects whose definition is nobody's business here: the server's own and those of
/// extensions are dumped only where they are no longer as they were made.
const PRIVILEGES: Digest = Digest {
    name: "privileges",
    gate: Gate::Always,
    line: "o.classid::regclass, i.type, i.identity, o.acl",
    from: "(
            SELECT 'pg_class'::regclass::oid AS classid, attrelid AS objid, attnum AS objsubid, attacl AS acl
                FROM pg_attribute WHERE attacl IS NOT NULL AND NOT attisdropped
            UNION ALL SELECT 'pg_class'::regclass, oid, 0, relacl
                FROM pg_class WHERE relacl IS NOT NULL AND (relnamespace = 'pg_catalog'::regnamespace OR 16384 <= oid)
            UNION ALL SELECT 'pg_proc'::regclass, oid, 0, proacl FROM pg_proc WHERE proacl IS NOT NULL
            UNION ALL SELECT 'pg_type'::regclass, oid, 0, typacl FROM pg_type WHERE typacl IS NOT NULL
            UNION ALL SELECT 'pg_namespace'::regclass, oid, 0, nspacl
                FROM pg_namespace WHERE nspacl IS NOT NULL AND (nspname = 'pg_catalog' OR 16384 <= oid)
            UNION ALL SELECT 'pg_language'::regclass, oid, 0, lanacl FROM pg_language WHERE lanacl IS NOT NULL
        ) o LEFT JOIN pg_init_privs p ON p.objoid = o.objid AND p.classoid = o.classid AND p.objsubid = o.objsubid,
        LATERAL pg_identify_object(o.classid, o.objid, o.objsubid) i
        WHERE (o.objsubid <> 0 OR o.objid < 16384
                OR (o.classid, o.objid) IN (SELECT m.classid, m.objid FROM members m))
            AND o.acl IS DISTINCT FROM p.initprivs AND left(coalesce(i.schema, ''), 7) <> 'pg_temp'",
};

/// The same for the foreign data wrappers and servers of extensions.
const FOREIGN_PRIVILEGES: Digest = Digest {
    name: "foreign privileges",
    gate: Gate::Filled("pg_foreign_data_wrapper"),
    line: "o.classid::regclass, o.name, o.acl",
    from:
        "(
            SELECT 'pg_foreign_data_wrapper'::regclass::oid AS classid, oid AS objid, fdwname AS name, fdwacl AS acl
                FROM pg_foreign_data_wrapper WHERE fdwacl IS NOT NULL
            UNION ALL SELECT 'pg_foreign_server'::regclass, oid, srvname, srvacl
                FROM pg_foreign_server WHERE srvacl IS NOT NULL
        ) o LEFT JOIN pg_init_privs p ON p.objoid = o.objid AND p.classoid = o.classid
        WHERE (o.classid, o.objid) IN (SELECT m.classid, m.objid FROM members m) AND o.acl IS DISTINCT FROM p.initprivs",
};

/// The dump prints how privileges differ from these.
const INITIAL_PRIVILEGES: Digest = Digest {
    name: "initial privileges",
    gate: Gate::When("pg_init_privs WHERE 16384 <= objoid"),
    line: "classoid::regclass, i.type, i.identity, privtype, initprivs",
    from: "pg_init_privs, LATERAL pg_identify_object(classoid, objoid, objsubid) i WHERE 16384 <= objoid",
};

/// Members of extensions have the comments that their extensions gave them.
const COMMENTS: Digest = Digest {
    name: "comments",
    gate: Gate::When(OWN_COMMENTS),
    line: "classoid::regclass, i.type, i.identity, description",
    from: "pg_description, LATERAL pg_identify_object(classoid, objoid, objsubid) i
        WHERE 16384 <= objoid AND (classoid, objoid) NOT IN (SELECT classid, objid FROM members)
            AND left(coalesce(i.schema, ''), 7) <> 'pg_temp'",
};

const OWN_COMMENTS: &str =
    "pg_description WHERE 16384 <= objoid AND (classoid, objoid) NOT IN (SELECT classid, objid FROM members)";

/// Labels of extension members are dumped, too.
const SECURITY_LABELS: Digest = Digest {
    name: "security labels",
    gate: Gate::Filled("pg_seclabel"),
    line: "classoid::regclass, i.type, i.identity, provider, label",
    from: "pg_seclabel, LATERAL pg_identify_object(classoid, objoid, objsubid) i",
};

/// `ALTER … DEPENDS ON EXTENSION`.
const EXTENSION_DEPENDENCIES: Digest = Digest {
    name: "dependencies on extensions",
    gate: Gate::Depends(&["pg_class x", "pg_proc x", "pg_trigger x"]),
    line: "classid::regclass, i.type, i.identity, (SELECT extname FROM pg_extension e WHERE e.oid = refobjid)",
    from: "pg_depend, LATERAL pg_identify_object(classid, objid, objsubid) i
        WHERE refclassid = 'pg_extension'::regclass AND deptype = 'x'",
};
