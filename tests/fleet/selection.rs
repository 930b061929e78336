//! Who is selected, who is new and who is gone.

use std::sync::Arc;

use dbkeeper::base::ids::TargetId;
use dbkeeper::fleet::FindingKind::{GoneTenant, NewTenant, RowWithoutDatabase};
use dbkeeper::fleet::{Database, Discovery, Finding, Selection, compare_with_known, select};

use crate::support::postgres::Cluster;

/// The central database, tenants `acme` and `globex`, and `lost`, which has no database.
fn fleet() -> Discovery {
    let server = Arc::new(Cluster::shared().server());
    let database =
        |target: TargetId| Database { name: target.name.as_str().to_owned(), target, server: Arc::clone(&server) };
    let tenant = |name| database(TargetId::tenant(name).unwrap());
    let lost = Finding {
        kind: RowWithoutDatabase,
        tenant: "lost".to_owned(),
        server: "pg".to_owned(),
        database: "lost".to_owned(),
        message: "nothing to back up".to_owned(),
    };
    Discovery { databases: vec![database(TargetId::central()), tenant("acme"), tenant("globex")], findings: vec![lost] }
}

fn check_selected(all: bool, central: bool, tenants: &[&str], expected: Result<&[&str], (&str, &str)>) {
    let tenants = tenants.iter().map(|name| (*name).to_owned()).collect();
    let fleet = fleet();
    match (select(&fleet, &Selection { all, central, tenants }), expected) {
        (Ok(found), Ok(expected)) => {
            let names: Vec<_> = found.iter().map(|database| database.name.as_str()).collect();
            assert_eq!(names, expected);
        }
        (Err(error), Err((words, hint))) => {
            assert!(error.to_string().contains(words), "{error}");
            assert_eq!(error.hint().unwrap_or_default(), hint);
        }
        (found, expected) => panic!("{found:?}, not {expected:?}"),
    }
}

#[test]
fn a_selection_names_what_there_is_and_a_wrong_name_is_met_with_the_nearest() {
    check_selected(true, false, &[], Ok(&["central", "acme", "globex"]));
    check_selected(false, true, &[], Ok(&["central"]));
    check_selected(false, true, &["globex", "acme", "globex"], Ok(&["central", "acme", "globex"]));
    check_selected(false, false, &["globex"], Ok(&["globex"]));
    check_selected(false, false, &[], Ok(&[]));
    check_selected(false, false, &["acmee"], Err(("no tenant \"acmee\"", "did you mean \"acme\"?")));
    check_selected(false, false, &["Acme"], Err(("no tenant \"Acme\"", "did you mean \"acme\"?")));
    check_selected(false, false, &["initech"], Err(("no tenant \"initech\"", "")));
    check_selected(false, false, &["lost"], Err(("nothing to back up", "")));
    check_selected(false, false, &["central"], Err(("no tenant", "")));
    check_selected(false, false, &["a\nb"], Err(("no tenant", "")));
}

#[test]
fn the_central_database_cannot_be_selected_where_there_is_none() {
    let error = select(&Discovery::default(), &Selection { central: true, ..Selection::default() }).unwrap_err();
    assert!(error.hint().unwrap().contains("[central]"));
}

#[test]
fn tenants_that_came_and_went_since_the_last_run_are_named() {
    let tenant = |name| TargetId::tenant(name).unwrap();
    let known =
        [TargetId::central(), tenant("acme"), tenant("lost"), tenant("initech"), TargetId::volume("media").unwrap()];
    let found: Vec<_> =
        compare_with_known(&fleet(), known).into_iter().map(|finding| (finding.kind, finding.tenant)).collect();
    assert_eq!(found, [(NewTenant, "globex".to_owned()), (GoneTenant, "initech".to_owned())]);
    assert!(found.iter().all(|(kind, _)| !kind.is_failure()));
    assert_eq!(compare_with_known(&fleet(), [TargetId::central()]), []);
}
