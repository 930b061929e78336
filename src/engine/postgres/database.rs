//! The properties of a database that no schema dump carries: what `pg_dump -C` would say of it.

use tokio_postgres::{Client, Row};

use crate::engine::Error;
use crate::engine::postgres::description::{AclEntry, DatabaseProperties, DatabaseSetting};
use crate::engine::postgres::session::{column, failed};

/// Reads the properties of the connected database, under the open transaction's snapshot.
pub(super) async fn read(client: &Client, server_version_num: u32) -> Result<DatabaseProperties, Error> {
    let properties = query(server_version_num);
    let acl = "
        SELECT pg_get_userbyid(a.grantor)::text, CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee)::text END,
          a.privilege_type, a.is_grantable
        FROM pg_database d CROSS JOIN aclexplode(d.datacl) WITH ORDINALITY a WHERE d.datname = current_database()
        ORDER BY a.ordinality";
    let settings = "
        SELECT r.rolname::text, c.setting
        FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_roles r ON r.oid = s.setrole
        CROSS JOIN unnest(s.setconfig) WITH ORDINALITY c (setting, at)
        WHERE d.datname = current_database() ORDER BY s.setrole, c.at";
    let (row, acl, settings) = futures::try_join!(
        client.query_typed_one(&properties, &[]),
        client.query_typed(acl, &[]),
        client.query_typed(settings, &[])
    )
    .map_err(|error| failed("read the properties of the database", error))?;
    let mut properties = properties_in(&row)?;
    let has_acl: bool = column(&row, 16)?;
    let acl = acl.iter().map(acl_entry).collect::<Result<Vec<_>, _>>()?;
    properties.acl = has_acl.then_some(acl);
    for row in &settings {
        let (name, value) = setting(column(row, 1)?);
        properties.settings.push(DatabaseSetting { role: column(row, 0)?, name, value });
    }
    Ok(properties)
}

/// The columns that came with later versions are read where they exist (PostgreSQL manual, `pg_database`).
fn query(server_version_num: u32) -> String {
    let since = |version: u32, column: &'static str| if version <= server_version_num { column } else { "NULL::text" };
    let provider = if 150_000 <= server_version_num { "d.datlocprovider::text" } else { "'c'" };
    let locale = if 170_000 <= server_version_num { "d.datlocale" } else { since(150_000, "d.daticulocale") };
    let rules = since(160_000, "d.daticurules");
    let collation_version = since(150_000, "d.datcollversion");
    format!(
        "SELECT d.datname::text, pg_get_userbyid(d.datdba)::text, pg_encoding_to_char(d.encoding)::text, {provider},
           d.datcollate::text, d.datctype::text, {locale}, {rules}, {collation_version}, t.spcname::text, d.datconnlimit,
           d.datallowconn, d.datistemplate, shobj_description(d.oid, 'pg_database'),
           ARRAY(SELECT l.provider FROM pg_shseclabel l WHERE l.classoid = 'pg_database'::regclass AND l.objoid = d.oid
                 ORDER BY l.provider),
           ARRAY(SELECT l.label FROM pg_shseclabel l WHERE l.classoid = 'pg_database'::regclass AND l.objoid = d.oid
                 ORDER BY l.provider),
           d.datacl IS NOT NULL
         FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace WHERE d.datname = current_database()"
    )
}

fn properties_in(row: &Row) -> Result<DatabaseProperties, Error> {
    let (providers, labels): (Vec<String>, Vec<String>) = (column(row, 14)?, column(row, 15)?);
    Ok(DatabaseProperties {
        name: column(row, 0)?,
        owner: column(row, 1)?,
        encoding: column(row, 2)?,
        locale_provider: column(row, 3)?,
        collate: column(row, 4)?,
        ctype: column(row, 5)?,
        locale: column(row, 6)?,
        icu_rules: column(row, 7)?,
        collation_version: column(row, 8)?,
        tablespace: column(row, 9)?,
        connection_limit: column(row, 10)?,
        allow_connections: column(row, 11)?,
        is_template: column(row, 12)?,
        comment: column(row, 13)?,
        acl: None,
        security_labels: providers.into_iter().zip(labels).collect(),
        settings: Vec::new(),
    })
}

fn acl_entry(row: &Row) -> Result<AclEntry, Error> {
    Ok(AclEntry {
        grantor: column(row, 0)?,
        grantee: column(row, 1)?,
        privilege: column(row, 2)?,
        grantable: column(row, 3)?,
    })
}

/// `name=value` as `setconfig` stores it; a value may hold further equals signs, a name none.
pub(super) fn setting(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.to_owned(), value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_cut_at_its_first_equals_sign() {
        assert_eq!(setting("a.b=c=d"), ("a.b".to_owned(), "c=d".to_owned()));
    }

    #[test]
    fn only_columns_that_the_version_has_are_asked_for() {
        for (version, asked, absent) in [
            (130_000, "'c'", "daticulocale"),
            (150_000, "daticulocale", "daticurules"),
            (160_000, "daticurules", "datlocale,"),
            (170_000, "d.datlocale,", "daticulocale"),
        ] {
            let query = query(version);
            assert!(query.contains(asked) && !query.contains(absent), "{version}: {query}");
        }
    }
}
