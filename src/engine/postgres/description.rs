//! What a dump says of a PostgreSQL database beside its parts, and what a restore reads back.
//!
//! It is the `details` of [`crate::engine::Description`]: part of the stored format, so a field is only ever added, with
//! `#[serde(default)]`. It is encrypted with the manifest and may hold names and password hashes.
//!
//! Parts are named `schema` (the custom-format archive of `pg_dump`), `table:<id>` (a whole table), `table:<id>/<n>`
//! (piece `n` of a large table) and `large-objects`, where `<id>` is [`Relation::id`].
//!
//! Rows are the lines of COPY's text format (PostgreSQL manual, COPY) in the source database's own encoding
//! ([`DatabaseProperties::encoding`]), not in UTF-8: `COPY … (ENCODING '<that>')` at both ends keeps them byte for byte. The
//! rows of `large-objects` are the three columns of `pg_largeobject`: `loid`, `pageno`, `data` as `\\x…`. A page that is missing
//! within an object is a hole; an object without any row is empty. The objects themselves are in
//! [`PostgresDetails::large_object_metadata`], and up to PostgreSQL 16 also in the schema: since 17 `pg_dump` counts them as data.

use serde::{Deserialize, Serialize};

use crate::engine::SCHEMA_PART;

/// The name of the part that holds the contents of all large objects; there is none where there are no objects.
pub const LARGE_OBJECTS_PART: &str = "large-objects";

/// Bytes of a large object's page where blocks have the usual 8 KiB (`LOBLKSIZE`, `storage/large_object.h`).
const USUAL_LARGE_OBJECT_PAGE_BYTES: u32 = 2048;

/// The name of a table's part: of the whole table, or of one piece of it.
pub fn table_part(id: u32, piece: Option<u32>) -> String {
    match piece {
        None => format!("table:{id}"),
        Some(piece) => format!("table:{id}/{piece}"),
    }
}

/// What parts hold, in words and each once: `public.orders`, `large objects`, `the schema`. A part that `details` does not
/// know is told by its own name.
pub fn contents_of(details: &serde_json::Value, parts: &[&str]) -> Vec<String> {
    let relations = PostgresDetails::deserialize(details).map(|details| details.relations).unwrap_or_default();
    let mut told: Vec<String> = Vec::new();
    for part in parts {
        let id = part.strip_prefix("table:").and_then(|rest| rest.split('/').next()?.parse::<u32>().ok());
        let relation = relations.iter().find(|relation| Some(relation.id) == id);
        let words = match (*part, relation) {
            (_, Some(relation)) => format!("{}.{}", relation.schema, relation.name),
            (SCHEMA_PART, None) => "the schema".to_owned(),
            (LARGE_OBJECTS_PART, None) => "large objects".to_owned(),
            (other, None) => format!("part {other}"),
        };
        if !told.contains(&words) {
            told.push(words);
        }
    }
    told
}

fn usual_large_object_page_bytes() -> u32 {
    USUAL_LARGE_OBJECT_PAGE_BYTES
}

/// A PostgreSQL database, without its rows and schema.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PostgresDetails {
    /// `server_version_num`, such as 150020.
    pub server_version_num: u32,
    /// The version that the `pg_dump` which wrote the schema prints.
    pub pg_dump_version: String,
    /// True where the source was in recovery: unlogged tables have no rows there.
    pub from_standby: bool,
    /// `lc_monetary` of the dump session: `money` columns print by it.
    pub lc_monetary: String,
    /// What `CREATE DATABASE` and `ALTER DATABASE` must say.
    pub database: DatabaseProperties,
    /// The roles that the database needs, those they are members of included, dependencies first.
    pub roles: Vec<Role>,
    /// The tables whose rows are data: all but foreign, temporary and extension-owned ones.
    pub relations: Vec<Relation>,
    /// The values of all sequences.
    pub sequences: Vec<SequenceValue>,
    /// Number of large objects; their contents are the part `large-objects`.
    pub large_objects: u64,
    /// Bytes of a large object's page at the source: page `n` begins at byte `n` times this.
    #[serde(default = "usual_large_object_page_bytes")]
    pub large_object_page_bytes: u32,
    /// The large objects themselves, those of one owner and one access list together.
    #[serde(default)]
    pub large_object_metadata: LargeObjectMetadata,
}

/// The large objects of a database, without their contents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LargeObjectMetadata {
    /// All of them: each is in one group.
    pub groups: Vec<LargeObjectGroup>,
    /// The comments: OID and text.
    pub comments: Vec<(u32, String)>,
    /// The security labels: OID, provider and label.
    pub security_labels: Vec<(u32, String, String)>,
}

/// Large objects of one owner, with the same privileges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LargeObjectGroup {
    /// Their owner.
    pub owner: String,
    /// Their privileges, or `None` for the built-in default.
    pub acl: Option<Vec<AclEntry>>,
    /// They, in ascending order.
    pub oids: Vec<u32>,
}

/// The properties of the database itself: what `pg_dump -C` would carry.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DatabaseProperties {
    /// Its name at the source.
    pub name: String,
    /// Its owner's name.
    pub owner: String,
    /// `pg_encoding_to_char(encoding)`.
    pub encoding: String,
    /// `c` (libc), `i` (ICU) or `b` (builtin); always `c` before PostgreSQL 15.
    pub locale_provider: String,
    /// `datcollate`.
    pub collate: String,
    /// `datctype`.
    pub ctype: String,
    /// `daticulocale` (15, 16) or `datlocale` (17 on).
    pub locale: Option<String>,
    /// `daticurules` (16 on).
    pub icu_rules: Option<String>,
    /// `datcollversion` (15 on).
    pub collation_version: Option<String>,
    /// Its tablespace's name.
    pub tablespace: String,
    /// `datconnlimit`.
    pub connection_limit: i32,
    /// `datallowconn`.
    pub allow_connections: bool,
    /// `datistemplate`.
    pub is_template: bool,
    /// Its comment.
    pub comment: Option<String>,
    /// Its privileges, or `None` for the built-in default.
    pub acl: Option<Vec<AclEntry>>,
    /// Security labels: provider and label.
    pub security_labels: Vec<(String, String)>,
    /// `ALTER DATABASE … SET` and `ALTER ROLE … IN DATABASE … SET`.
    pub settings: Vec<DatabaseSetting>,
}

/// One granted privilege, as `aclexplode` tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AclEntry {
    /// Who granted it.
    pub grantor: String,
    /// Who has it; `None` is PUBLIC.
    pub grantee: Option<String>,
    /// `CONNECT`, `CREATE`, `TEMPORARY` of a database; `SELECT`, `UPDATE` of a large object.
    pub privilege: String,
    /// With grant option.
    pub grantable: bool,
}

/// One setting that new sessions in the database begin with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseSetting {
    /// For this role only, or for all.
    pub role: Option<String>,
    /// The parameter's name.
    pub name: String,
    /// Its value, as it stands after the first `=` in `setconfig`.
    pub value: String,
}

/// A role that the database needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// `rolsuper`.
    pub superuser: bool,
    /// `rolinherit`.
    pub inherit: bool,
    /// `rolcreaterole`.
    pub create_role: bool,
    /// `rolcreatedb`.
    pub create_db: bool,
    /// `rolcanlogin`.
    pub login: bool,
    /// `rolreplication`.
    pub replication: bool,
    /// `rolbypassrls`.
    pub bypass_rls: bool,
    /// `rolconnlimit`.
    pub connection_limit: i32,
    /// `rolvaliduntil` as ISO text.
    pub valid_until: Option<String>,
    /// The stored verifier (`SCRAM-SHA-256$…`, `md5…`), where the backup role may read it.
    pub password_verifier: Option<String>,
    /// Its comment.
    pub comment: Option<String>,
    /// `ALTER ROLE … SET`, outside of any database.
    pub settings: Vec<(String, String)>,
    /// The roles that it is a member of.
    pub member_of: Vec<Membership>,
}

/// One membership of a role in another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The group.
    pub role: String,
    /// `WITH ADMIN OPTION`.
    pub admin: bool,
    /// `WITH INHERIT` (16 on).
    pub inherit: Option<bool>,
    /// `WITH SET` (16 on).
    pub set: Option<bool>,
}

/// A table whose rows are data.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Relation {
    /// Unique in this backup and stable from backup to backup as far as possible: the table's OID at the source.
    pub id: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The columns that are copied, in the order of the stored rows; empty for rows without a stored column.
    pub columns: Vec<String>,
    /// Number of pieces: 1 means the part `table:<id>`, more mean `table:<id>/0` … . 0 means that it was empty: no part.
    pub pieces: u32,
    /// `relpersistence`: `p` or `u`.
    pub persistence: String,
    /// The partitioned root to load through, where rows cannot be sent to the leaf itself (hash partitions on an enum).
    #[serde(default)]
    pub load_through: Option<(String, String)>,
    /// An extension's configuration table: the schema may hold rows before the load, which the dump did not copy.
    #[serde(default)]
    pub extension_config: bool,
    /// Load order among configuration tables, whose foreign keys exist before their rows; 0 for all others.
    #[serde(default)]
    pub load_stage: u32,
}

/// The state of one sequence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceValue {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `last_value`.
    pub last_value: i64,
    /// `is_called`.
    pub is_called: bool,
}
