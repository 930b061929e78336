//! Separate duties: a writer's login that may not delete, a pruner's login that may do little else, and a prune that is killed.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::aged::{Aged, EXPIRED};
use super::world::{World, wait_until};
use crate::support::s3_proxy::S3Proxy;
use crate::support::s3_stub::{Answer, Asked};
use crate::support::seaweed::Seaweed;

/// A store before which somebody stands who refuses what this login may not do, and counts it.
fn only(is_allowed: impl Fn(&Asked) -> bool + Send + Sync + 'static) -> (S3Proxy, Arc<AtomicU64>) {
    let refused = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&refused);
    let proxy = S3Proxy::before(&Seaweed::shared().endpoint, move |_, asked| {
        (!is_allowed(asked)).then(|| {
            counter.fetch_add(1, Ordering::SeqCst);
            Answer::error(403, "AccessDenied", "User is not authorized to perform this action", "")
        })
    });
    (proxy, refused)
}

fn deletes(asked: &Asked) -> bool {
    asked.line.starts_with("DELETE ") || (asked.line.starts_with("POST ") && asked.line.contains("?delete"))
}

/// What a writer may: get, put, list.
fn writer() -> (S3Proxy, Arc<AtomicU64>) {
    only(|asked| !deletes(asked))
}

/// What a pruner may: get, list, delete, and put below `runs/`.
fn pruner() -> (S3Proxy, Arc<AtomicU64>) {
    only(|asked| !asked.line.starts_with("PUT ") || asked.line.contains("/runs/"))
}

#[test]
fn a_login_that_may_not_delete_is_enough_to_back_up_list_verify_hold_and_restore() {
    let world = World::with_shops();
    let (proxy, refused) = writer();
    world.use_s3(&proxy.endpoint);
    world.run(&["init"]).expect(0);
    world.backup();
    world.backup();
    let newest = world.newest("acme");
    for arguments in [
        &["list"][..],
        &["show", &newest],
        &["verify", "--read-data"],
        &["checkpoint"],
        &["hold", &newest, "--until", "2099-01-01", "--reason", "the auditors"],
        &["release", &newest],
        &["keys", "list"],
        &["keys", "rotate"],
        &["prune", "--dry-run"],
    ] {
        world.run(arguments).expect(0);
    }
    let copy = format!("{}restored", world.prefix);
    world.run(&["restore", "--tenant", "acme", "--as", &copy, "--yes"]).expect(0);
    assert_eq!(refused.load(Ordering::SeqCst), 0, "nobody even tried to delete");
    let erased = world.run(&["erase", "--tenant", "acme", "--yes-erase", "acme"]);
    assert_ne!(erased.code, 0, "that needs the right to delete");
    assert!(erased.stderr.contains("AccessDenied") && 0 < refused.load(Ordering::SeqCst), "{}", erased.stderr);
    world.run(&["verify", "--read-data"]).expect(0);
}

#[tokio::test]
async fn a_login_that_deletes_prunes_with_no_identity_and_puts_nothing_but_its_records() {
    let options = Seaweed::shared().options();
    let aged = Aged::in_s3(options).await;
    let ((by_writer, refused), (by_pruner, refused_pruner)) = (writer(), pruner());
    let direct = Seaweed::shared().endpoint.clone();
    aged.reconfigure(&direct, &by_writer.endpoint);
    let all = aged.listed("acme");
    let said = aged.run(&["prune"]);
    assert_ne!(said.code, 0);
    assert!(said.stderr.contains("AccessDenied") && 0 < refused.load(Ordering::SeqCst), "{}", said.stderr);
    assert_eq!(aged.listed("acme"), all, "nothing is gone");
    aged.reconfigure(&by_writer.endpoint, &by_pruner.endpoint);
    aged.run(&["prune"]).expect(0);
    assert_eq!(refused_pruner.load(Ordering::SeqCst), 0, "it needs no more than that");
    assert_eq!(aged.listed("acme"), aged.ids("acme", EXPIRED));
    aged.reconfigure(&by_pruner.endpoint, &by_writer.endpoint);
    aged.run(&["verify", "--read-packs"]).expect(0);
    aged.check_restores().await;
}

/// Holds the deletion with this number (from 1) until the program is dead; then it happens, or never.
struct Held {
    deletions: AtomicU64,
    at: u64,
    happens: bool,
    is_held: AtomicBool,
    is_dead: AtomicBool,
}

impl Held {
    fn judge(&self, asked: &Asked) -> Option<Answer> {
        if !deletes(asked) || self.deletions.fetch_add(1, Ordering::SeqCst) + 1 != self.at {
            return None;
        }
        self.is_held.store(true, Ordering::SeqCst);
        while !self.is_dead.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(2));
        }
        (!self.happens).then(|| Answer::error(500, "InternalError", "the server died too", ""))
    }
}

#[tokio::test]
async fn a_prune_that_is_killed_at_any_deletion_leaves_whole_backups_and_the_next_one_finishes() {
    let (mut at, mut killed) = (0, 0);
    loop {
        at += 1;
        let aged = Aged::in_s3(Seaweed::shared().options()).await;
        let (is_held, is_dead) = Default::default();
        let held = Arc::new(Held { deletions: AtomicU64::new(0), at, happens: at % 2 == 0, is_held, is_dead });
        let judge = Arc::clone(&held);
        let proxy = S3Proxy::before(&Seaweed::shared().endpoint, move |_, asked| judge.judge(asked));
        aged.reconfigure(&Seaweed::shared().endpoint, &proxy.endpoint);
        let mut command = aged.sandbox.command(&["prune"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("run dbkeeper");
        let mut ended = false;
        wait_until("it deletes, or ends", || {
            ended = child.try_wait().expect("ask for its end").is_some();
            ended || held.is_held.load(Ordering::SeqCst)
        });
        child.kill().expect("kill it");
        child.wait().expect("its end");
        held.is_dead.store(true, Ordering::SeqCst);
        killed += usize::from(!ended);
        // Every backup that is listed is whole, and none that has not expired is gone.
        let listed = aged.listed("acme");
        assert!(aged.ids("acme", EXPIRED).iter().all(|id| listed.contains(id)), "deletion {at}: {listed:?}");
        aged.run(&["verify", "--read-packs"]).expect(0);
        aged.check_restores().await;
        aged.run(&["prune"]).expect(0);
        assert_eq!(aged.listed("acme"), aged.ids("acme", EXPIRED), "deletion {at}");
        let again = aged.json(&["prune", "--dry-run", "--json"], 0);
        let left = again["vaults"].as_array().expect("vaults").iter();
        let left: usize = left.map(|vault| vault["removals"].as_array().map_or(0, Vec::len)).sum();
        assert_eq!(left, 0, "deletion {at}: the next prune finished");
        if ended {
            break;
        }
    }
    assert!(2 <= killed, "markers and packs go in deletions of their own: {killed}");
}
