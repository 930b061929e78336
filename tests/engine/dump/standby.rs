//! A standby as the source.

use std::process::Command;

use super::dump;
use crate::support::postgres::Cluster;

/// Runs `pg_ctl` as the owner of the data.
fn control(cluster: &Cluster, arguments: &[&str]) {
    let data = cluster.folder.join("data");
    let mut command = match rustix::process::getuid().is_root() {
        true => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(cluster.bin.join("pg_ctl"));
            command
        }
        false => Command::new(cluster.bin.join("pg_ctl")),
    };
    command.args(arguments).arg("-w").arg("-D").arg(&data).arg("-l").arg(cluster.folder.join("data/log"));
    assert!(command.stdout(std::process::Stdio::null()).status().expect("run pg_ctl").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_dumped_and_says_that_unlogged_rows_are_not_there() {
    let cluster = Cluster::start(&[]);
    let db = cluster.create_database("standing");
    cluster.psql(
        &db,
        "create table t as select i, repeat('x', 500) as x from generate_series(1, 1000) i; create sequence q;
         select nextval('q'); create unlogged table lost as select 1 as i; create unlogged sequence lost_numbers;
         select lo_from_bytea(7001, 'content');",
    );
    control(&cluster, &["stop", "-m", "fast"]);
    let signal = cluster.folder.join("data/standby.signal");
    std::fs::write(&signal, "").expect("make it a standby");
    control(&cluster, &["start"]);
    let dumped = dump(&cluster.server(), &db).await;
    control(&cluster, &["stop", "-m", "immediate"]);
    assert!(dumped.details.from_standby);
    assert!(dumped.relation("t").pieces > 1);
    assert_eq!(dumped.rows("t").len(), 1000);
    assert_eq!(dumped.parts.pieces("large-objects").len(), 1);
    assert!(!dumped.has("lost"));
    let named = dumped.notes.iter().any(|note| note.contains("standby") && note.contains("\"public\".\"lost\""));
    assert!(named, "{:?}", dumped.notes);
    assert!(dumped.notes.iter().any(|note| note.contains("1 unlogged sequences")), "{:?}", dumped.notes);
    let sequences: Vec<&str> = dumped.details.sequences.iter().map(|sequence| sequence.name.as_str()).collect();
    assert_eq!(sequences, ["q"]);
}
