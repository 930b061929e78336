//! Creates the large objects that a schema did not create, with owner, privileges, comments and labels, and without contents.
//!
//! Since PostgreSQL 17 `pg_dump` counts large objects as data, so an archive of the schema is without them. What exists is
//! left as it is: the archives of older versions create them all.

use std::collections::{BTreeMap, HashSet};

use tokio_postgres::Client;

use crate::engine::Error;
use crate::engine::postgres::description::{LargeObjectGroup, LargeObjectMetadata};
use crate::engine::postgres::privileges::Privileges;
use crate::engine::postgres::refusal::refused;
use crate::engine::postgres::restore::Owner;
use crate::sql::postgres::{quote_identifier, quote_literal};

/// The privileges that a large object has.
const PRIVILEGES: [&str; 2] = ["SELECT", "UPDATE"];
/// Large objects that one transaction creates: each comment, and from PostgreSQL 18 on each grant, holds a lock to its end.
const OBJECTS_PER_TRANSACTION: usize = 100;

/// What is to be created, and for whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Creation<'a> {
    pub(super) metadata: &'a LargeObjectMetadata,
    /// Whom they belong to.
    pub(super) owner: &'a Owner,
    /// The role that is logged in, or `None` where nobody knows yet.
    pub(super) user: Option<&'a str>,
    /// Restores grants.
    pub(super) keep_privileges: bool,
}

/// Large objects that one transaction creates.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) oids: Vec<u32>,
    /// Makes the session their owner, until the transaction ends; empty where it is.
    pub(super) set_role: String,
    /// What is said of them when they exist.
    pub(super) statements: Vec<String>,
    /// The statements that label them. A server without the provider refuses these.
    pub(super) labels: Vec<String>,
}

impl Batch {
    /// The call that creates them, for a `SELECT` or a `PERFORM`.
    pub(super) fn call(&self) -> String {
        let oids = list(&self.oids, ",");
        format!(
            "pg_catalog.count(pg_catalog.lo_create(object)) FROM pg_catalog.unnest('{{{oids}}}'::pg_catalog.oid[]) AS object"
        )
    }
}

impl Creation<'_> {
    /// The transactions that create all but those that `exist`. Pure.
    pub(super) fn batches(&self, exist: &HashSet<u32>) -> Result<Vec<Batch>, Error> {
        let comments: BTreeMap<u32, &str> =
            self.metadata.comments.iter().map(|(oid, comment)| (*oid, comment.as_str())).collect();
        let mut labels: BTreeMap<u32, Vec<String>> = BTreeMap::new();
        for (oid, provider, label) in &self.metadata.security_labels {
            let (provider, label) = (quote_identifier(provider), quote_literal(label));
            let statement = format!("SECURITY LABEL FOR {provider} ON LARGE OBJECT {oid} IS {label}");
            labels.entry(*oid).or_default().push(statement);
        }
        let mut batches = Vec::new();
        for group in &self.metadata.groups {
            let missing: Vec<u32> = group.oids.iter().copied().filter(|oid| !exist.contains(oid)).collect();
            for oids in missing.chunks(OBJECTS_PER_TRANSACTION) {
                let mut batch = self.batch(group, oids)?;
                let comment =
                    |oid| Some(format!("COMMENT ON LARGE OBJECT {oid} IS {}", quote_literal(comments.get(oid)?)));
                batch.statements.extend(oids.iter().filter_map(comment));
                batch.labels = oids.iter().filter_map(|oid| labels.remove(oid)).flatten().collect();
                batches.push(batch);
            }
        }
        Ok(batches)
    }

    fn batch(&self, group: &LargeObjectGroup, oids: &[u32]) -> Result<Batch, Error> {
        let owner = match self.owner {
            Owner::AsRecorded => Some(group.owner.as_str()),
            Owner::Role(role) => Some(role.as_str()),
            Owner::Connecting => self.user,
        };
        let other = owner.filter(|owner| self.user != Some(owner));
        let set_role = other.map_or_else(String::new, |owner| format!("SET LOCAL ROLE {}", quote_identifier(owner)));
        let mut statements = Vec::new();
        if let (Some(acl), Some(owner), true) = (&group.acl, owner, self.keep_privileges) {
            let privileges = Privileges {
                subject: &format!("LARGE OBJECT {}", list(oids, ", ")),
                known: &PRIVILEGES,
                recorded_owner: &group.owner,
                owner,
                return_to: if set_role.is_empty() { "RESET ROLE" } else { &set_role },
            };
            statements = privileges.statements(acl)?;
        }
        Ok(Batch { oids: oids.to_vec(), set_role, statements, labels: Vec::new() })
    }
}

fn list(oids: &[u32], separator: &str) -> String {
    oids.iter().map(u32::to_string).collect::<Vec<_>>().join(separator)
}

/// Creates those that are missing; returns notes about labels that the server refused.
///
/// After a failure some of them exist.
pub(super) async fn create_missing(client: &mut Client, creation: &Creation<'_>) -> Result<Vec<String>, Error> {
    if creation.metadata.groups.is_empty() {
        return Ok(Vec::new());
    }
    let failed = |error| refused("create large objects", error);
    let exist = client.query("SELECT oid FROM pg_catalog.pg_largeobject_metadata", &[]).await.map_err(failed)?;
    let exist: HashSet<u32> = exist.iter().map(|row| row.get(0)).collect();
    let mut notes = Vec::new();
    for batch in creation.batches(&exist)? {
        let create = format!("SELECT {}", batch.call());
        let statements = [batch.set_role, create, batch.statements.join("; ")].join("; ");
        let transaction = client.transaction().await.map_err(failed)?;
        transaction.batch_execute(&statements).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        for label in &batch.labels {
            if let Err(error) = client.batch_execute(label).await {
                notes.push(format!("a large object is without its security label: {}", refused("set it", error)));
            }
        }
    }
    Ok(notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata() -> LargeObjectMetadata {
        LargeObjectMetadata {
            groups: vec![
                LargeObjectGroup { owner: "a".to_owned(), acl: None, oids: (1..=150).collect() },
                LargeObjectGroup { owner: "b".to_owned(), acl: Some(Vec::new()), oids: vec![200, 201] },
            ],
            comments: vec![(150, "it's".to_owned()), (3, "exists".to_owned())],
            security_labels: vec![(200, "p".to_owned(), "top".to_owned())],
        }
    }

    fn batches(owner: &Owner, keep_privileges: bool) -> Vec<Batch> {
        let metadata = metadata();
        let creation = Creation { metadata: &metadata, owner, user: Some("a"), keep_privileges };
        creation.batches(&(2..=149).collect()).unwrap()
    }

    #[test]
    fn only_the_missing_are_created_each_as_its_owner_with_what_is_said_of_it() {
        let expected = [
            Batch {
                oids: vec![1, 150],
                set_role: String::new(),
                statements: vec!["COMMENT ON LARGE OBJECT 150 IS 'it''s'".to_owned()],
                labels: Vec::new(),
            },
            Batch {
                oids: vec![200, 201],
                set_role: "SET LOCAL ROLE \"b\"".to_owned(),
                statements: vec![
                    "REVOKE ALL ON LARGE OBJECT 200, 201 FROM PUBLIC".to_owned(),
                    "REVOKE ALL ON LARGE OBJECT 200, 201 FROM \"b\"".to_owned(),
                ],
                labels: vec!["SECURITY LABEL FOR \"p\" ON LARGE OBJECT 200 IS 'top'".to_owned()],
            },
        ];
        assert_eq!(batches(&Owner::AsRecorded, true), expected);
    }

    #[test]
    fn another_owner_and_no_privileges_are_what_the_operator_asked_for() {
        let of = |batches: Vec<Batch>| -> Vec<(String, usize)> {
            batches.into_iter().map(|batch| (batch.set_role, batch.statements.len())).collect()
        };
        let role = "SET LOCAL ROLE \"c\"".to_owned();
        assert_eq!(of(batches(&Owner::Connecting, true)), [(String::new(), 1), (String::new(), 2)]);
        assert_eq!(of(batches(&Owner::Role("c".to_owned()), false)), [(role.clone(), 1), (role, 0)]);
    }

    #[test]
    fn no_transaction_creates_more_than_the_lock_table_bears() {
        let metadata = metadata();
        let creation = Creation { metadata: &metadata, owner: &Owner::AsRecorded, user: None, keep_privileges: true };
        let sizes: Vec<usize> =
            creation.batches(&HashSet::new()).unwrap().iter().map(|batch| batch.oids.len()).collect();
        assert_eq!(sizes, [100, 50, 2]);
    }
}
