//! The place of the backups fails: it is full, closed for writing, does not know us any more, or asks for patience.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::kill::LEDGER;
use super::world::{REPOSITORY, SHOP, World, target};
use crate::support::s3_proxy::S3Proxy;
use crate::support::s3_stub::{Answer, Asked};
use crate::support::seaweed::Seaweed;

fn tenants(world: &World) {
    world.tenant("ledger", LEDGER);
    world.tenant("acme", SHOP);
}

/// A small file system of its own under a folder; gone with the test process, however that ends.
struct SmallDisk {
    keeper: Child,
}

impl SmallDisk {
    /// `None` where this process may not mount anything.
    fn mount(folder: &Path, bytes: u64) -> Option<Self> {
        std::fs::create_dir_all(folder).expect("a folder");
        let script = r#"mount -t tmpfs -o size="$2" none "$1" || exit 1; echo mounted; cat >/dev/null; umount -l "$1""#;
        let mut command = Command::new("setsid");
        command.args(["sh", "-c", script, "sh"]).arg(folder).arg(bytes.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut keeper = command.spawn().expect("start a shell");
        let mut said = [0; 7];
        let stdout = keeper.stdout.as_mut().expect("its standard output");
        match std::io::Read::read_exact(stdout, &mut said) {
            Ok(()) => Some(Self { keeper }),
            Err(_) => {
                keeper.wait().expect("its end");
                None
            }
        }
    }

    fn grow(folder: &Path, bytes: u64) {
        let options = format!("remount,size={bytes}");
        let grown = Command::new("mount").args(["-o", &options]).arg(folder).status().expect("run mount");
        assert!(grown.success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

#[test]
fn a_full_disk_under_a_folder_fails_what_does_not_fit_and_nothing_else() {
    let world = World::shared();
    tenants(&world);
    let folder = world.sandbox.path(REPOSITORY);
    let Some(disk) = SmallDisk::mount(&folder, 256 << 10) else { return check_file_size_limit(&world) };
    world.run(&["init"]).expect(0);
    world.run(&["backup", "--tenant", "acme"]).expect(0);
    let said = world.run(&["backup", "--tenant", "ledger"]).expect(10).stderr;
    for words in ["No space left on device", "free space on that file system", "dbkeeper prune"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    // What was being written is gone: the small ones still fit, and what is there is whole.
    let report = world.json(&["backup", "--all", "--json"], 3);
    assert_eq!(target(&report, "ledger")["result"], "failed");
    assert_eq!(target(&report, "acme")["result"], "ok", "{report:#}");
    world.run(&["verify", "--read-data"]).expect(0);
    SmallDisk::grow(&folder, 64 << 20);
    world.backup();
    world.run(&["verify", "--read-data"]).expect(0);
    drop(disk);
}

/// Where nothing can be mounted: files may not grow beyond a limit, which the system tells in other words.
fn check_file_size_limit(world: &World) {
    world.run(&["init"]).expect(0);
    world.run(&["backup", "--tenant", "acme"]).expect(0);
    let mut command = Command::new("sh");
    let program = world.sandbox.command(&["backup", "--tenant", "ledger"]);
    command.args(["-c", r#"trap "" XFSZ; ulimit -f 200; exec "$@""#, "sh"]).arg(program.get_program());
    command.args(program.get_args()).current_dir(world.sandbox.folder()).env_clear().env("PATH", "/usr/bin:/bin");
    let ended = world.sandbox.finish(command.output().expect("run dbkeeper")).expect(10);
    assert!(ended.stderr.contains("File too large"), "{}", ended.stderr);
    world.backup();
    world.run(&["verify", "--read-data"]).expect(0);
}

/// A fleet whose store answers some requests as `judge` says, by their number since `init`.
fn judged(judge: impl Fn(u64, &Asked) -> Option<Answer> + Send + Sync + 'static) -> (World, Arc<AtomicU64>, S3Proxy) {
    let armed = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&armed);
    let proxy = S3Proxy::before(&Seaweed::shared().endpoint, move |_, asked| match seen.load(Ordering::SeqCst) {
        0 => None,
        _ => judge(seen.fetch_add(1, Ordering::SeqCst), asked),
    });
    let world = World::shared();
    tenants(&world);
    world.use_s3(&proxy.endpoint);
    world.run(&["init"]).expect(0);
    (world, armed, proxy)
}

fn arm(armed: &AtomicU64, on: bool) {
    armed.store(u64::from(on), Ordering::SeqCst);
}

fn slow_down() -> Answer {
    Answer::error(503, "SlowDown", "Please reduce your request rate.", "")
}

#[test]
fn a_store_that_asks_for_patience_gets_it_and_one_that_never_recovers_is_named() {
    // More refusals in a row than a request has tries.
    let (world, armed, _proxy) = judged(|number, _| (3..9).contains(&number).then(slow_down));
    world.reconfigure("path_style = true", "path_style = true\nattempts = 2");
    arm(&armed, true);
    world.backup();
    assert!(9 <= armed.load(Ordering::SeqCst), "it was asked for patience, and bore it");
    world.run(&["verify", "--read-data"]).expect(0);
    let (world, armed, _proxy) = judged(|number, _| (3 <= number).then(slow_down));
    world.reconfigure("path_style = true", "path_style = true\nattempts = 2\nslow_down_timeout = \"2s\"");
    arm(&armed, true);
    let said = world.run(&["backup", "--all"]).expect(10).stderr;
    for words in ["Please reduce your request rate", "SlowDown (HTTP 503)", "slow_down_timeout"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    arm(&armed, false);
    world.backup();
}

/// From the first pack on the store refuses all: the login worked so far.
fn check_revoked(answer: fn() -> Answer, words: &[&str]) {
    let is_pack = |asked: &Asked| asked.line.starts_with("PUT ") && asked.line.contains("/packs/");
    let packs = AtomicU64::new(0);
    let (world, armed, _proxy) = judged(move |_, asked| {
        let put = packs.fetch_add(u64::from(is_pack(asked)), Ordering::SeqCst) + u64::from(is_pack(asked));
        (0 < put).then(answer)
    });
    arm(&armed, true);
    let said = world.run(&["backup", "--all"]).expect(10).stderr;
    for words in words {
        assert!(said.contains(words), "{words}: {said}");
    }
    arm(&armed, false);
    // Nothing counts of what was broken off, and nothing is in the way of the next run.
    world.backup();
    world.run(&["verify", "--read-data"]).expect(0);
}

#[test]
fn a_login_that_is_revoked_in_the_middle_ends_the_run_with_10_and_the_next_one_does_the_work() {
    check_revoked(
        || {
            let words = "The AWS Access Key Id you provided does not exist in our records.";
            Answer::error(403, "InvalidAccessKeyId", words, "")
        },
        &["does not exist in our records", "InvalidAccessKeyId", "check access_key_id"],
    );
}

#[test]
fn a_token_that_expires_in_the_middle_ends_the_run_with_10_and_says_how_to_get_another() {
    check_revoked(
        || Answer::error(400, "ExpiredToken", "The provided token has expired.", ""),
        &["The provided token has expired", "get a new temporary access key"],
    );
}

#[test]
fn a_bucket_that_may_only_be_read_takes_no_backup_and_gives_every_restore() {
    let world = World::shared();
    tenants(&world);
    world.use_s3(&Seaweed::shared().endpoint);
    world.run(&["init"]).expect(0);
    world.backup();
    let good = world.print(&world.db("acme"));
    let (key, secret) = Seaweed::reader();
    world.sandbox.write("s3_id", key);
    world.sandbox.write("s3_secret", secret);
    let said = world.run(&["backup", "--all"]).expect(10).stderr;
    assert!(said.contains("AccessDenied") && said.contains("s3:PutObject"), "{said}");
    assert_eq!(world.json(&["list", "--json"], 0).as_array().map(Vec::len), Some(3));
    // All is whole, but what was proven cannot be recorded.
    let said = world.run(&["verify", "--read-data"]).expect(3).stderr;
    assert!(said.contains("0 damaged") && said.contains("the proof was not recorded"), "{said}");
    world.run(&["verify", "--read-data", "--no-record"]).expect(0);
    world.run(&["restore", "--tenant", "acme", "--yes"]).expect(0);
    assert_eq!(world.print(&world.db("acme")).content, good.content);
}

#[test]
fn a_folder_that_is_not_mounted_costs_nothing_and_nothing_is_made_in_its_place() {
    let world = World::shared();
    tenants(&world);
    world.run(&["init"]).expect(0);
    world.backup();
    let (folder, away): (PathBuf, PathBuf) = (world.sandbox.path(REPOSITORY), world.sandbox.path("elsewhere"));
    std::fs::rename(&folder, &away).expect("unmount it");
    for arguments in [&["backup", "--all"][..], &["list"], &["restore", "--tenant", "acme", "--yes"]] {
        let said = world.run(arguments).expect(10).stderr;
        assert!(said.contains("no repository at"), "{said}");
    }
    assert!(!folder.exists(), "nothing was made in its place");
    std::fs::rename(&away, &folder).expect("mount it again");
    world.backup();
}
