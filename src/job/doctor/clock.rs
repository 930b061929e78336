//! What time it is: here, at the store, and where the retention's days begin.

use chrono::TimeDelta;

use crate::base::class::Class;
use crate::config::Origin;
use crate::job::doctor::{Check, Group};
use crate::job::{Context, chain};
use crate::store::ObjectStore;

/// More than this is worth a look.
const WARN_SKEW: TimeDelta = TimeDelta::minutes(1);
/// More than this, and expiries mean something else here than there; S3 itself refuses requests at 15 minutes.
const FAIL_SKEW: TimeDelta = TimeDelta::minutes(5);

/// Compares the store's clock with ours.
pub(super) async fn check_store(context: &Context, store: &dyn ObjectStore, checks: &mut Vec<Check>) {
    let theirs = store.now().await;
    let ours = context.clock.now();
    checks.push(match theirs {
        Ok(None) => Check::ok(Group::Clock, "store", "a folder has no clock of its own"),
        Ok(Some(theirs)) => judge(theirs - ours),
        Err(error) => Check::warn(Group::Clock, "store", chain(&error)).with_fix(error.hint()),
    });
}

/// What a difference of clocks means. Pure.
fn judge(skew: TimeDelta) -> Check {
    let seconds = skew.num_seconds();
    let side = if seconds < 0 { "behind" } else { "ahead of" };
    let message = format!("the store's clock is {} s {side} ours", seconds.abs());
    let fix = Some("timedatectl set-ntp true (on this machine, or on the store's)");
    match skew.abs() {
        skew if FAIL_SKEW < skew => Check::fail(Group::Clock, "store", Class::Store, message).with_fix(fix),
        skew if WARN_SKEW < skew => Check::warn(Group::Clock, "store", message).with_fix(fix),
        _ => Check::ok(Group::Clock, "store", message),
    }
}

/// Says by which clock days begin and end.
pub(super) fn check_retention(context: &Context, checks: &mut Vec<Check>) {
    let zone = context.config.retention.timezone;
    let now = context.clock.now().with_timezone(&zone).format("%Y-%m-%d %H:%M %:z");
    let set = context
        .config
        .settings
        .iter()
        .any(|setting| setting.path == "retention.timezone" && setting.origin != Origin::Default);
    let by_default = if set { "" } else { "; by default: `timezone` in [retention] sets it" };
    let message = format!("days begin and end in {zone}, where it is {now}{by_default}");
    checks.push(Check::ok(Group::Clock, "retention", message));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::doctor::Status;

    fn check_skew(seconds: i64, status: Status, words: &str) {
        let check = judge(TimeDelta::seconds(seconds));
        assert_eq!((check.status, check.message.contains(words)), (status, true), "{}", check.message);
        assert_eq!(check.fix.is_some(), status != Status::Ok);
    }

    #[test]
    fn a_minute_is_looked_at_and_five_are_too_many() {
        check_skew(0, Status::Ok, "0 s");
        check_skew(60, Status::Ok, "60 s ahead of");
        check_skew(-61, Status::Warn, "61 s behind");
        check_skew(300, Status::Warn, "ahead of");
        check_skew(301, Status::Fail, "301 s ahead of");
        check_skew(-86_400, Status::Fail, "behind");
    }
}
