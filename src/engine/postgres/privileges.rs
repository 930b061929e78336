//! The statements that give an object exactly the privileges that its access list had.
//!
//! Pure. A grant comes after the grant option that it rests on, and is made by the role that made it.

use std::collections::HashSet;

use crate::engine::Error;
use crate::engine::postgres::description::AclEntry;
use crate::engine::postgres::refusal::blocked;
use crate::sql::postgres::quote_identifier;

/// Whose privileges are to be restored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Privileges<'a> {
    /// The object as GRANT names it: `DATABASE "d"`. Several of the same owner are possible: `LARGE OBJECT 1, 2`.
    pub(super) subject: &'a str,
    /// The privileges that such an object has; nothing else is written into a statement.
    pub(super) known: &'a [&'a str],
    /// The owner at the source.
    pub(super) recorded_owner: &'a str,
    /// The owner from now on, who gets what the recorded one had.
    pub(super) owner: &'a str,
    /// The statement that makes the session the owner again, or one that acts for it.
    pub(super) return_to: &'a str,
}

impl Privileges<'_> {
    /// The statements, for one transaction that has the owner's rights: first nobody has any privilege, then the recorded are granted.
    pub(super) fn statements(&self, acl: &[AclEntry]) -> Result<Vec<String>, Error> {
        let Self { subject, known, recorded_owner, owner, return_to } = *self;
        let impossible = |reason: String| blocked(format!("grant privileges on {subject}"), reason, None);
        let role = |recorded: &str| quote_identifier(if recorded == recorded_owner { owner } else { recorded });
        let mut statements = vec![
            format!("REVOKE ALL ON {subject} FROM PUBLIC"),
            format!("REVOKE ALL ON {subject} FROM {}", quote_identifier(owner)),
        ];
        // Who may grant what so far; the owner may grant everything.
        let mut grantors: HashSet<(&str, &str)> = known.iter().map(|privilege| (recorded_owner, *privilege)).collect();
        let mut pending: Vec<&AclEntry> = acl.iter().collect();
        if let Some(entry) = pending.iter().find(|entry| !known.contains(&entry.privilege.as_str())) {
            return Err(impossible(format!("it has no privilege {:?}", entry.privilege)));
        }
        while !pending.is_empty() {
            let may = |entry: &&AclEntry| grantors.contains(&(entry.grantor.as_str(), entry.privilege.as_str()));
            let (ready, later): (Vec<&AclEntry>, Vec<&AclEntry>) = pending.into_iter().partition(may);
            if ready.is_empty() {
                let (grantor, privilege) = (&later[0].grantor, &later[0].privilege);
                return Err(impossible(format!("nobody gave role {grantor:?} the right to grant {privilege}")));
            }
            for entry in &ready {
                let grantee = entry.grantee.as_deref().map_or_else(|| "PUBLIC".to_owned(), role);
                let option = if entry.grantable { " WITH GRANT OPTION" } else { "" };
                let grant = format!("GRANT {} ON {subject} TO {grantee}{option}", entry.privilege);
                if entry.grantor == recorded_owner {
                    statements.push(grant);
                } else {
                    statements.push(format!("SET LOCAL ROLE {}; {grant}; {return_to}", role(&entry.grantor)));
                }
            }
            let granted = ready.iter().filter(|entry| entry.grantable);
            grantors.extend(granted.filter_map(|entry| Some((entry.grantee.as_deref()?, entry.privilege.as_str()))));
            pending = later;
        }
        Ok(statements)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATABASE: Privileges<'_> = Privileges {
        subject: "DATABASE \"d\"",
        known: &["CONNECT", "CREATE", "TEMPORARY"],
        recorded_owner: "old",
        owner: "new",
        return_to: "RESET ROLE",
    };

    fn entry(grantor: &str, grantee: Option<&str>, privilege: &str, grantable: bool) -> AclEntry {
        let (grantee, privilege) = (grantee.map(str::to_owned), privilege.to_owned());
        AclEntry { grantor: grantor.to_owned(), grantee, privilege, grantable }
    }

    #[test]
    fn grants_follow_the_grant_options_that_they_rest_on_and_the_owner_is_replaced() {
        let acl = [
            entry("b", Some("c"), "CONNECT", false),
            entry("old", Some("b"), "CONNECT", true),
            entry("old", None, "TEMPORARY", false),
            entry("old", Some("old"), "CREATE", false),
        ];
        let expected = [
            "REVOKE ALL ON DATABASE \"d\" FROM PUBLIC",
            "REVOKE ALL ON DATABASE \"d\" FROM \"new\"",
            "GRANT CONNECT ON DATABASE \"d\" TO \"b\" WITH GRANT OPTION",
            "GRANT TEMPORARY ON DATABASE \"d\" TO PUBLIC",
            "GRANT CREATE ON DATABASE \"d\" TO \"new\"",
            "SET LOCAL ROLE \"b\"; GRANT CONNECT ON DATABASE \"d\" TO \"c\"; RESET ROLE",
        ];
        assert_eq!(DATABASE.statements(&acl).unwrap(), expected);
    }

    #[test]
    fn a_privilege_that_databases_do_not_have_is_refused() {
        let acl = [entry("old", None, "CONNECT; DROP DATABASE d", false)];
        assert!(DATABASE.statements(&acl).is_err());
    }
}
