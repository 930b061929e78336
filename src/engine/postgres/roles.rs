//! The roles that a database needs: who owns or may use anything in it, and the groups behind them.

use std::collections::HashMap;

use tokio_postgres::{Client, Row};

use crate::engine::Error;
use crate::engine::postgres::database::setting;
use crate::engine::postgres::description::{Membership, Role};
use crate::engine::postgres::session::{column, failed};

/// The server's first superuser (`BOOTSTRAP_SUPERUSERID`, `pg_authid.dat`). The server pins it and records no dependency on
/// it, so what it owns has to be looked for.
const BOOTSTRAP_SUPERUSER: u32 = 10;
/// The first OID that is not the system's own (`FirstNormalObjectId`, `access/transam.h`).
const FIRST_NORMAL_OID: u32 = 16384;

/// Reads the roles, those that others are members of first, under the open transaction's snapshot.
///
/// The server's predefined roles (`pg_…`) exist everywhere and are left out; memberships in them are kept. Verifiers of
/// passwords are read only `with_passwords`: it takes a right that few roles have.
pub(super) async fn read(client: &Client, server_version_num: u32, with_passwords: bool) -> Result<Vec<Role>, Error> {
    let rows = client.query_typed(&query(server_version_num, with_passwords), &[]).await;
    let rows = rows.map_err(|error| failed("read the roles", error))?;
    let roles = rows.iter().map(role).collect::<Result<Vec<_>, _>>()?;
    Ok(groups_first(roles))
}

fn query(server_version_num: u32, with_passwords: bool) -> String {
    let password = match with_passwords {
        true => "(SELECT a.rolpassword FROM pg_authid a WHERE a.oid = r.oid)",
        false => "NULL::text",
    };
    // From 16 on a member can be granted a role several times, by several grantors, each with its own options.
    let options = match 160_000 <= server_version_num {
        true => "bool_or(m.admin_option) AS admin, bool_or(m.inherit_option) AS inherit, bool_or(m.set_option) AS set",
        false => "bool_or(m.admin_option) AS admin, NULL::bool AS inherit, NULL::bool AS set",
    };
    let memberships =
        |column: &str| format!("ARRAY(SELECT g.{column} FROM granted g WHERE g.member = r.oid ORDER BY g.role)");
    let owned = |catalog: &str, owner: &str| {
        format!(
            "EXISTS (SELECT FROM {catalog} o WHERE o.{owner} = {BOOTSTRAP_SUPERUSER} AND o.oid >= {FIRST_NORMAL_OID})"
        )
    };
    format!(
        "WITH RECURSIVE database AS MATERIALIZED (
           SELECT d.oid, d.datdba, d.datacl FROM pg_database d WHERE d.datname = current_database()),
         named (oid) AS (
           SELECT s.refobjid FROM pg_shdepend s
             WHERE s.dbid = (SELECT oid FROM database) AND s.refclassid = 'pg_authid'::regclass
           UNION SELECT s.refobjid FROM pg_shdepend s
             WHERE s.dbid = 0 AND s.classid = 'pg_database'::regclass AND s.objid = (SELECT oid FROM database)
               AND s.refclassid = 'pg_authid'::regclass
           UNION SELECT datdba FROM database
           UNION SELECT unnest(ARRAY[a.grantor, a.grantee]) FROM database CROSS JOIN aclexplode(datacl) a
           UNION SELECT s.setrole FROM pg_db_role_setting s WHERE s.setdatabase = (SELECT oid FROM database)
           UNION SELECT s.subowner FROM pg_subscription s WHERE s.subdbid = (SELECT oid FROM database)
           UNION SELECT {BOOTSTRAP_SUPERUSER}::oid WHERE {} OR {} OR {} OR {}),
         needed (oid) AS (
           SELECT oid FROM named UNION SELECT m.roleid FROM pg_auth_members m JOIN needed n ON n.oid = m.member),
         granted AS (
           SELECT m.member, g.rolname::text AS role, {options} FROM pg_auth_members m JOIN needed n ON n.oid = m.member
             JOIN pg_roles g ON g.oid = m.roleid GROUP BY m.member, g.rolname)
         SELECT r.rolname::text, r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb, r.rolcanlogin, r.rolreplication,
           r.rolbypassrls, r.rolconnlimit, r.rolvaliduntil::text, {password}, shobj_description(r.oid, 'pg_authid'),
           ARRAY(SELECT c.setting FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) WITH ORDINALITY c (setting, at)
                 WHERE s.setdatabase = 0 AND s.setrole = r.oid ORDER BY c.at),
           {}, {}, {}, {}
         FROM pg_roles r JOIN needed n ON n.oid = r.oid WHERE r.rolname !~ '^pg_' ORDER BY r.rolname",
        owned("pg_class", "relowner"),
        owned("pg_proc", "proowner"),
        owned("pg_type", "typowner"),
        owned("pg_namespace", "nspowner"),
        memberships("role"),
        memberships("admin"),
        memberships("inherit"),
        memberships("set"),
    )
}

fn role(row: &Row) -> Result<Role, Error> {
    let settings: Vec<&str> = column(row, 12)?;
    let groups: Vec<String> = column(row, 13)?;
    let admin: Vec<bool> = column(row, 14)?;
    let inherit: Vec<Option<bool>> = column(row, 15)?;
    let set: Vec<Option<bool>> = column(row, 16)?;
    let options = admin.into_iter().zip(inherit.into_iter().zip(set));
    let member_of = groups.into_iter().zip(options);
    Ok(Role {
        name: column(row, 0)?,
        superuser: column(row, 1)?,
        inherit: column(row, 2)?,
        create_role: column(row, 3)?,
        create_db: column(row, 4)?,
        login: column(row, 5)?,
        replication: column(row, 6)?,
        bypass_rls: column(row, 7)?,
        connection_limit: column(row, 8)?,
        valid_until: column(row, 9)?,
        password_verifier: column(row, 10)?,
        comment: column(row, 11)?,
        settings: settings.into_iter().map(setting).collect(),
        member_of: member_of.map(|(role, (admin, (inherit, set)))| Membership { role, admin, inherit, set }).collect(),
    })
}

/// Sorts every role behind those that it is a member of; by name where that leaves a choice.
///
/// The server allows no circle of memberships; one would end where it began.
fn groups_first(roles: Vec<Role>) -> Vec<Role> {
    let mut waiting: HashMap<String, Role> = HashMap::new();
    let names: Vec<String> = roles.iter().map(|role| role.name.clone()).collect();
    waiting.extend(roles.into_iter().map(|role| (role.name.clone(), role)));
    let mut sorted = Vec::with_capacity(names.len());
    // A stack of roles that are taken out, with how many of their groups have been looked at.
    let mut open: Vec<(Role, usize)> = Vec::new();
    for name in names {
        open.extend(waiting.remove(&name).map(|role| (role, 0)));
        while let Some((role, looked_at)) = open.pop() {
            match role.member_of.get(looked_at) {
                None => sorted.push(role),
                Some(membership) => {
                    let group = waiting.remove(&membership.role);
                    open.push((role, looked_at + 1));
                    open.extend(group.map(|group| (group, 0)));
                }
            }
        }
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(name: &str, groups: &[&str]) -> Role {
        let member_of =
            groups.iter().map(|group| Membership { role: (*group).to_owned(), admin: false, inherit: None, set: None });
        Role {
            name: name.to_owned(),
            superuser: false,
            inherit: true,
            create_role: false,
            create_db: false,
            login: true,
            replication: false,
            bypass_rls: false,
            connection_limit: -1,
            valid_until: None,
            password_verifier: None,
            comment: None,
            settings: Vec::new(),
            member_of: member_of.collect(),
        }
    }

    #[test]
    fn groups_come_before_their_members_and_nobody_is_lost() {
        let roles = vec![role("a", &["c", "b", "pg_monitor"]), role("b", &["d"]), role("c", &["d"]), role("d", &[])];
        let names: Vec<String> = groups_first(roles).into_iter().map(|role| role.name).collect();
        assert_eq!(names, ["d", "c", "b", "a"]);
    }
}
