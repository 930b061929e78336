//! `[[drill.checks]]`: what each of them asks of whom, and what cannot be meant.

use dbkeeper::base::ids::TargetId;
use dbkeeper::config::DrillCheck;
use dbkeeper::engine::check::Expectation;

use super::{base, parse};

fn checks(lines: &str) -> Vec<DrillCheck> {
    parse(&format!("{}[[drill.checks]]\nname = \"n\"\nquery = \"select 1\"\n{lines}", base()))
        .expect("good")
        .drill_checks
}

#[test]
fn a_check_is_for_whom_it_says() {
    let (central, acme) = (TargetId::central(), TargetId::tenant("acme").expect("a name"));
    for (lines, for_central, for_acme) in [
        ("expect = \"1\"\n", true, true),
        ("expect = \"1\"\non = \"central\"\n", true, false),
        ("expect = \"1\"\non = \"tenants\"\n", false, true),
        ("expect = \"1\"\ntenants = [\"acme\", \"globex\"]\n", false, true),
        ("expect = \"1\"\ntenants = [\"globex\"]\n", false, false),
    ] {
        let check = &checks(lines)[0];
        assert_eq!((check.is_for(&central), check.is_for(&acme)), (for_central, for_acme), "{lines}");
    }
    let bounds = &checks("at_least = -1\nat_most = 5\ntime_limit = \"5m\"\n")[0].check;
    assert_eq!(bounds.expectation, Expectation::Between(Some(-1), Some(5)));
    assert_eq!(bounds.time_limit.as_secs(), 300);
    assert!(parse(&base()).expect("good").drill_checks.is_empty());
}

#[test]
fn what_cannot_be_meant_is_told_with_its_line() {
    for (lines, told) in [
        ("name = \"n\"\nquery = \"q\"\n", "5:1: the check expects nothing"),
        ("name = \"n\"\nquery = \"q\"\nexpect = \"1\"\nat_least = 1\n", "8:10: the check expects two things"),
        ("name = \"n\"\nexpect = \"1\"\n", "5:1: [[drill.checks]] does not say \"query\""),
        ("name = \"n\"\nquery = \"q\"\nexpect = \"1\"\non = \"tenant\"\n", "9:6: drill.checks[0].on is \"tenant\""),
        ("name = \"n\"\nquery = \"q\"\nexpect = 1\n", "8:10: drill.checks[0].expect is an integer"),
        ("name = \"n\"\nquery = \"q\"\nexpect = \"1\"\ntime_limit = \"0s\"\n", "9:14: time_limit is \"0s\""),
    ] {
        let error = parse(&format!("{}[[drill.checks]]\n{lines}", base())).expect_err("this is wrong").to_string();
        assert!(error.contains(told), "{lines}\n{error}");
    }
}
