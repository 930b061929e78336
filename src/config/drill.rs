//! `[drill]`: what restored databases are asked.

use std::time::Duration;

use serde_json::json;

use crate::base::ids::{TargetId, TargetKind};
use crate::config::limits::at_least;
use crate::config::reader::Section;
use crate::config::values::{Node, Value, Wrong, one_of, wrong_type};
use crate::engine::check::{Check, Expectation};

/// A check, and whom it is for.
#[derive(Clone, Debug, PartialEq)]
pub struct DrillCheck {
    /// The check.
    pub check: Check,
    /// The kinds of targets that it is for.
    pub on: CheckOn,
    /// Only these tenants; all where it is empty.
    pub tenants: Vec<String>,
}

/// The kinds of targets that a check is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckOn {
    /// The central database and all tenants.
    All,
    /// The central database.
    Central,
    /// Tenants.
    Tenants,
}

const WORDS: [(&str, CheckOn); 3] =
    [("all", CheckOn::All), ("central", CheckOn::Central), ("tenants", CheckOn::Tenants)];

impl DrillCheck {
    /// True if the check is for this target.
    pub fn is_for(&self, target: &TargetId) -> bool {
        let kind = match self.on {
            CheckOn::All => true,
            CheckOn::Central => target.kind == TargetKind::Central,
            CheckOn::Tenants => target.kind == TargetKind::Tenant,
        };
        let named = |name: &String| target.kind == TargetKind::Tenant && name == target.name.as_str();
        kind && (self.tenants.is_empty() || self.tenants.iter().any(named))
    }
}

/// Reads all checks.
pub(super) fn read_checks(top: &Section<'_>) -> Vec<DrillCheck> {
    let section = if top.has("drill") { top.section("drill") } else { Some(top.absent("drill")) };
    let Some(section) = section else { return Vec::new() };
    let checks = section.sections("checks").into_iter().filter_map(read_check).collect();
    section.finish();
    checks
}

fn read_check(section: Section<'_>) -> Option<DrillCheck> {
    const EXPECTED: &str = "expect = \"TEXT\", or at_least and at_most with whole numbers";
    let name: Option<String> = section.required("name");
    let query: Option<String> = section.required("query");
    let expect: Option<String> = section.optional("expect");
    let (least, most) = (section.optional::<Bound>("at_least"), section.optional::<Bound>("at_most"));
    let on = section.or("on", CheckOn::All);
    let tenants = section.list_or_empty("tenants");
    let time_limit = section.checked("time_limit", Duration::from_secs(60), |limit: &Duration| {
        at_least(*limit, Duration::from_secs(1), "time_limit")
    });
    let bounds = section.has("at_least") || section.has("at_most");
    match (section.has("expect"), bounds) {
        (true, true) => section.complain("expect", Wrong::new("the check expects two things", EXPECTED)),
        (false, false) => section.complain_here(Wrong::new("the check expects nothing", EXPECTED)),
        _ => {}
    }
    section.finish();
    let bound = |bound: Option<Bound>| bound.map(|Bound(number)| number);
    let expectation = match expect {
        Some(text) => Expectation::Equals(text),
        None => Expectation::Between(bound(least), bound(most)),
    };
    let check = Check { name: name?, query: query?, expectation, time_limit };
    Some(DrillCheck { check, on, tenants })
}

/// A whole number of either sign.
struct Bound(i64);

impl Value for Bound {
    fn read(node: &Node<'_>) -> Result<Self, Wrong> {
        const EXPECTED: &str = "a whole number";
        let integer = node.value.get_ref().as_integer().ok_or_else(|| wrong_type(node, EXPECTED))?;
        let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
        number.map(Self).ok_or_else(|| Wrong::new(format!("{} is {}", node.path, integer.as_str()), EXPECTED))
    }

    fn show(&self) -> serde_json::Value {
        json!(self.0)
    }
}

impl Value for CheckOn {
    fn read(node: &Node<'_>) -> Result<Self, Wrong> {
        one_of(node, &WORDS)
    }

    fn show(&self) -> serde_json::Value {
        json!(WORDS.iter().find(|(_, on)| on == self).map_or("all", |(word, _)| *word))
    }
}
