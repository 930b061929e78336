//! What is seen of a silent session from outside.

use std::time::Duration;

use dbkeeper::engine::postgres::witness::{Sight, Witness};
use dbkeeper::sql::postgres::connect;

use crate::support::postgres::Cluster;

/// Long enough for any machine; a look takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(120);

async fn look_until(witness: &Witness, is_seen: impl Fn(&Sight) -> bool) -> Sight {
    let looking = async {
        loop {
            let sight = witness.look(PATIENCE).await;
            if is_seen(&sight) {
                return sight;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("seen in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_tells_work_from_a_lock_and_names_who_holds_it() {
    let cluster = Cluster::shared();
    let (server, database) = (cluster.server(), cluster.create_database("witnessed"));
    cluster.psql(&database, "create table t (i int)");
    let witness = Witness::new(&server, &database);
    assert!(matches!(witness.look(PATIENCE).await, Sight::Waits(words) if words.contains("nothing to do for us")));
    let worker = connect(&server, &database).await.expect("a session");
    let work = tokio::spawn(async move { worker.batch_execute("select pg_sleep(3600)").await.map(|()| worker) });
    look_until(&witness, |sight| *sight == Sight::Works).await;
    let end = "select pg_cancel_backend(pid) from pg_stat_activity where query = 'select pg_sleep(3600)'";
    cluster.psql("postgres", end);
    let ended = work.await.expect("no panic").map(drop);
    ended.expect_err("it was ended");
    let holder = connect(&server, &database).await.expect("a session");
    holder.batch_execute("begin; lock table t in access exclusive mode").await.expect("a lock");
    let waiter = connect(&server, &database).await.expect("a session");
    let wait = tokio::spawn(async move { waiter.batch_execute("select * from t").await });
    let locked = |sight: &Sight| matches!(sight, Sight::Waits(words) if words.contains("is blocked by process"));
    let Sight::Waits(words) = look_until(&witness, locked).await else { unreachable!("looked for words") };
    assert!(words.contains("role \"postgres\", idle in transaction"), "{words}");
    drop(holder);
    wait.await.expect("no panic").expect("its turn");
    let gone = Witness::new(&dbkeeper::sql::Server { port: 1, ..server }, &database);
    assert!(matches!(gone.look(PATIENCE).await, Sight::Waits(words) if words.contains("onnection refused")));
}
