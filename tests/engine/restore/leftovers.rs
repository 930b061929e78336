//! What is removed before a restore, what never is, and what `doctor` is told.

use dbkeeper::engine::postgres::leftovers::{list_leftovers, remove_leftovers};
use dbkeeper::engine::postgres::restore::Mode;
use dbkeeper::sql::postgres::connect;

use super::backup::{Backup, databases, fill, open, options, restore};
use crate::support::postgres::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn only_what_carries_our_mark_and_our_name_is_dropped() {
    let cluster = Cluster::shared();
    let live = cluster.create_database("cleaned");
    let backup = Backup::take(cluster, &live).await;
    let mark = format!("dbkeeper restore {{\"destination\":\"{live}\",\"run\":\"20260101T000000Z-00000000\"}}");
    let create = |name: &str, comment: Option<&str>| {
        cluster.psql("postgres", &format!("create database \"{name}\" template template0"));
        if let Some(comment) = comment {
            cluster.psql("postgres", &format!("comment on database \"{name}\" is '{comment}'"));
        }
    };
    let name = |tail: &str| format!("{live}__restore_{tail}");
    create(&name("20260101T000001Z"), Some(&mark));
    create(&name("20260101T000002Z"), None);
    create(&name("20260101T000003Z"), Some("dbkeeper restore of something"));
    create(&name("20260101T000004Z"), Some(&mark.replace(&live, "another")));
    create(&name("by_hand"), Some(&mark));
    create(&format!("{live}_x__restore_20260101T000005Z"), Some(&mark));
    create(&name("20260101T000006Z"), Some(&mark));
    let user = connect(&cluster.server(), &name("20260101T000006Z")).await.expect("somebody looks into it");
    cluster.psql("postgres", &format!("comment on database {live} is '{mark}'"));

    let published = restore(&cluster.server(), &backup, options(&live, Mode::Swap)).await.expect("restore");
    let dropped: Vec<_> = published.notes.iter().filter(|note| note.contains("was dropped")).collect();
    assert_eq!(dropped.len(), 1, "{:?}", published.notes);
    assert!(dropped[0].contains("20260101T000001Z"));
    assert!(published.notes.iter().any(|note| note.contains("20260101T000006Z") && note.contains("sessions")));
    let left = databases(cluster, &live);
    for tail in ["20260101T000002Z", "20260101T000003Z", "20260101T000004Z", "by_hand", "20260101T000006Z"] {
        assert!(left.contains(&name(tail)), "{tail}: {left:?}");
    }
    assert!(left.contains(&format!("{live}_x__restore_20260101T000005Z")), "{left:?}");
    assert!(!left.contains(&name("20260101T000001Z")), "{left:?}");
    assert!(left.contains(&published.former.expect("a former one")), "{left:?}");
    drop(user);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_database_never_looks_like_a_leftover_even_if_its_source_did() {
    let cluster = Cluster::shared();
    let live = cluster.create_database("marked");
    let mark = format!("dbkeeper restore {{\"destination\":\"{live}\",\"run\":\"r\"}}");
    cluster.psql("postgres", &format!("comment on database {live} is '{mark}'"));
    let backup = Backup::take(cluster, &live).await;
    let beside = restore(&cluster.server(), &backup, options(&live, Mode::NoSwap)).await.expect("restore").name;
    let removal = remove_leftovers(&cluster.server(), &live).await.expect("remove");
    assert!(removal.dropped.is_empty(), "{removal:?}");
    assert!(databases(cluster, &live).contains(&beside));
}

#[tokio::test(flavor = "multi_thread")]
async fn leftovers_and_former_databases_are_listed_and_a_running_restore_keeps_its_own() {
    let cluster = Cluster::shared();
    let live = cluster.create_database("listed");
    let backup = Backup::take(cluster, &live).await;
    let former = restore(&cluster.server(), &backup, options(&live, Mode::Swap)).await.expect("restore").former;
    let mut session = open(&cluster.server(), &backup, options(&live, Mode::Swap)).await.expect("open");
    fill(&mut session, &backup).await.expect("fill");
    let found = list_leftovers(&cluster.server()).await.expect("list");
    let unfinished = found.unfinished.iter().find(|one| one.destination == live).expect("the running one");
    assert_eq!(unfinished.name, session.work_name());
    assert!(unfinished.bytes.is_some_and(|bytes| bytes > 1 << 20) && unfinished.sessions > 0, "{unfinished:?}");
    let listed = found.former.iter().find(|one| one.live == live).expect("the former one");
    assert_eq!(Some(&listed.name), former.as_ref());
    assert!(listed.bytes.is_some_and(|bytes| bytes > 1 << 20), "{listed:?}");
    let removal = remove_leftovers(&cluster.server(), &live).await.expect("remove");
    assert!(removal.dropped.is_empty() && removal.kept[0].contains("is running"), "{removal:?}");
    drop(session);
    // The server learns only by and by that the sessions are gone, and the claim with them.
    let mut removal = remove_leftovers(&cluster.server(), &live).await.expect("remove");
    while removal.dropped.is_empty() {
        removal = remove_leftovers(&cluster.server(), &live).await.expect("remove");
    }
    assert!(databases(cluster, &live).iter().all(|name| !name.contains("__restore_")), "{removal:?}");
}
