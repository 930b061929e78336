//! What belongs to the database itself, and what of the live one stays as it is.

use dbkeeper::engine::postgres::restore::Mode;

use super::backup::{Backup, options, restore};
use crate::support::postgres::Cluster;

const FACTS: &str = "select datname, datconnlimit, datistemplate, datacl, datdba::regrole,
    shobj_description(oid, 'pg_database'), (select array_agg(setconfig) from pg_db_role_setting where setdatabase = oid)
    from pg_database";

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_gives_the_recorded_properties_and_leaves_those_of_the_former_database() {
    let cluster = Cluster::shared();
    let live = cluster.create_database("props");
    cluster.psql(
        "postgres",
        &format!(
            "alter database {live} connection limit 9 is_template true; comment on database {live} is 'then';
            alter database {live} set work_mem = '5MB'; revoke connect on database {live} from public"
        ),
    );
    let facts = |name: &str| cluster.psql("postgres", &format!("{FACTS} where datname = '{name}'"));
    let recorded = facts(&live);
    let backup = Backup::take(cluster, &live).await;
    cluster.psql(
        "postgres",
        &format!(
            "alter database {live} connection limit 4 is_template false; comment on database {live} is 'now';
            alter database {live} set work_mem = '6MB'; grant all on database {live} to public"
        ),
    );
    let current = facts(&live);
    let published = restore(&cluster.server(), &backup, options(&live, Mode::Swap)).await.expect("restore");
    let former = published.former.expect("a former one");
    assert_eq!(facts(&live), recorded);
    assert_eq!(facts(&former).replace(&former, &live), current);
    cluster.psql("postgres", &format!("alter database {live} is_template false"));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_any_kind_are_restored_under_names_of_any_kind() {
    let cluster = Cluster::shared();
    let long = "lange_".repeat(10) + "ümp";
    let names = ["with \"quote\" it's {1}\\ = x".to_owned(), "line\nend".to_owned(), long[..62].to_owned()];
    for name in names {
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        cluster.psql("postgres", &format!("create database {quoted} template template0"));
        let server = cluster.server();
        let client = dbkeeper::sql::postgres::connect(&server, &name).await.expect("connect");
        client.batch_execute("create table t (a integer); insert into t values (1)").await.expect("fill");
        drop(client);
        let backup = Backup::take(cluster, &name).await;
        let published = restore(&server, &backup, options(&name, Mode::Swap)).await.expect("restore");
        assert_eq!(published.name, name);
        let former = published.former.expect("a former one");
        assert!(former.len() <= 63 && former.contains("__before_2"), "{former}");
        let client = dbkeeper::sql::postgres::connect(&server, &name).await.expect("connect");
        assert_eq!(client.query("table t", &[]).await.expect("query").len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_that_the_server_refuses_is_a_note() {
    let cluster = Cluster::shared();
    let live = cluster.create_database("setting");
    let mut backup = Backup::take(cluster, &live).await;
    backup.change(|details| {
        let setting = |name: &str, value: &str| dbkeeper::engine::postgres::description::DatabaseSetting {
            role: None,
            name: name.to_owned(),
            value: value.to_owned(),
        };
        details.database.settings = vec![setting("no_such_parameter", "1"), setting("work_mem", "8MB")];
        details.database.security_labels = vec![("nobody".to_owned(), "top".to_owned())];
    });
    let published = restore(&cluster.server(), &backup, options(&live, Mode::Swap)).await.expect("restore");
    for what in ["no_such_parameter", "security label of \"nobody\""] {
        assert!(published.notes.iter().any(|note| note.contains(what)), "{:?}", published.notes);
    }
    assert_eq!(cluster.psql(&live, "show work_mem"), "8MB\n");
}
