//! Whether the bucket can lock objects, where the configuration asks for it.

use crate::base::class::Class;
use crate::job::chain;
use crate::job::doctor::{Check, Group};
use crate::store::{LockState, ObjectStore};

/// What is to be done about a bucket that cannot.
const FIX: &str =
    "make a new bucket with object lock (it cannot be added everywhere), or leave [repository] object_lock out";

/// Asks the store; says nothing where no lock is asked for.
pub(super) async fn check(store: &dyn ObjectStore, checks: &mut Vec<Check>) {
    checks.extend(match store.lock_state().await {
        Ok(LockState::NotAsked) => None,
        Ok(LockState::Ready) => {
            Some(Check::ok(Group::Store, "object lock", "the bucket locks objects until their expiry"))
        }
        Ok(LockState::Missing(why)) => {
            let message = format!("objects cannot be locked: {why}");
            Some(Check::fail(Group::Store, "object lock", Class::Store, message).with_fix(Some(FIX)))
        }
        Err(error) => Some(Check::warn(Group::Store, "object lock", chain(&error)).with_fix(error.hint())),
    });
}
