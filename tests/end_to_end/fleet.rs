//! Promise 1: a Stancl fleet is backed up to a folder and to S3, the second time for almost nothing, and scripts can read it all.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::world::{SHOP, World, target};
use crate::support::seaweed::Seaweed;

/// What a backup in which nothing changed may add for a small tenant.
const UNCHANGED_BYTES: u64 = 20_000;

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[track_caller]
fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().expect("a text").parse().expect("a time of RFC 3339")
}

#[test]
fn a_fleet_in_a_folder_is_listed_with_exactly_the_fields_of_the_contract() {
    let world = World::with_shops();
    let report = world.backup();
    assert_eq!(report["result"], "ok");
    let run = report["run_id"].as_str().expect("a run");
    assert_eq!(report["targets"].as_array().expect("targets").len(), 3);
    let listed = world.json(&["list", "--json"], 0);
    let listed = listed.as_array().expect("an array");
    let fields = ["id", "target", "created_at", "expires_at", "class", "rows", "read_bytes", "stored_bytes", "run_id"];
    for backup in listed {
        assert_eq!(keys(backup), BTreeSet::from(fields));
        assert_eq!(keys(&backup["target"]), BTreeSet::from(["kind", "name"]));
        assert!(time(&backup["created_at"]) < time(&backup["expires_at"]));
        assert_eq!((backup["class"].as_str(), backup["run_id"].as_str()), (Some("daily"), Some(run)));
        let told = target(&report, backup["target"]["name"].as_str().expect("a name"));
        assert_eq!((told["result"].as_str(), told["reason"].is_null()), (Some("ok"), true));
        for (ours, theirs) in [("backup_id", "id"), ("stored_bytes", "stored_bytes"), ("rows", "rows")] {
            assert_eq!(told[ours], backup[theirs], "{ours}");
        }
        assert!(told["seconds"].as_f64().expect("a number") > 0.0 && told["read_bytes"].as_u64() > Some(0));
    }
    let names: Vec<_> =
        listed.iter().map(|one| (one["target"]["kind"].as_str(), one["target"]["name"].as_str())).collect();
    let tenant = Some("tenant");
    assert_eq!(names, [(Some("central"), Some("central")), (tenant, Some("acme")), (tenant, Some("globex"))]);
    assert_eq!(listed[1]["rows"], 2000);
    assert!(world.run(&["list", "--tenant", "acme"]).expect(0).stdout.contains(&world.newest("acme")));
    world.run(&["show", &world.newest("acme")]).expect(0);
    world.run(&["verify", "--read-data"]).expect(0);
}

#[test]
fn what_an_unchanged_tenant_adds_is_almost_nothing() {
    let world = World::with_shops();
    world.backup();
    let (before, report) = (world.stored(), world.backup());
    for name in ["acme", "globex", "central"] {
        let stored = target(&report, name)["stored_bytes"].as_u64().expect("a number");
        let vault = if name == "central" { "vaults/central/".to_owned() } else { format!("vaults/tenant/{name}/") };
        let ours = |path: &std::path::Path| path.to_string_lossy().contains(&vault);
        let fresh: u64 = world
            .stored()
            .iter()
            .filter(|(path, _)| ours(path) && !before.contains_key(*path))
            .map(|(_, size)| size)
            .sum();
        assert!(0 < fresh && fresh < UNCHANGED_BYTES, "{name}: {fresh} bytes lie in its folder");
        assert!(stored <= fresh, "{name}: {stored} reported, {fresh} found");
        assert_eq!(target(&report, name)["rows"], if name == "central" { 2 } else { 2000 });
    }
    assert!(before.keys().all(|path| world.stored().contains_key(path)), "nothing stored ever goes");
}

#[test]
fn a_fleet_in_s3_costs_few_requests_and_restores() {
    let world = World::shared();
    let tenants: Vec<String> = (0..8).map(|number| format!("shop-{number}")).collect();
    for name in &tenants {
        world.tenant(name, SHOP);
    }
    let counter = Counter::before(&Seaweed::shared().endpoint);
    world.use_s3(&counter.endpoint);
    world.run(&["init"]).expect(0);
    world.backup();
    let first = counter.take();
    let report = world.backup();
    let second = counter.take();
    // For each vault: keys, list, the parent's marker, list of backups; index, manifest, marker. Once: document, vaults, report.
    let targets = tenants.len() + 1;
    assert!(
        second <= 8 * targets + 8,
        "{second} requests for {targets} unchanged targets, {first} for the first backup"
    );
    // What is new is asked back: the epoch, the pack, the manifest and the marker.
    assert!(first <= 11 * targets + 8, "{first} requests for the first backup");
    for name in &tenants {
        let stored = target(&report, name)["stored_bytes"].as_u64().expect("a number");
        assert!(stored < UNCHANGED_BYTES, "{name}: {stored}");
    }
    let (database, before) = (world.db("shop-3"), world.print(&world.db("shop-3")));
    world.cluster().psql("postgres", &format!("drop database \"{database}\""));
    world.run(&["restore", "--tenant", "shop-3", "--yes"]).expect(0);
    assert_eq!(world.print(&database).content, before.content);
}

/// Stands before a server and counts the requests of HTTP that pass.
struct Counter {
    endpoint: String,
    requests: Arc<AtomicUsize>,
}

impl Counter {
    fn before(endpoint: &str) -> Self {
        let server = endpoint.strip_prefix("http://").expect("an endpoint").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("its address"));
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(upstream) = TcpStream::connect(&server) else { continue };
                let back = (upstream.try_clone().expect("a handle"), client.try_clone().expect("a handle"));
                let counted = Arc::clone(&counted);
                std::thread::spawn(move || pass(client, upstream, Some(&counted)));
                std::thread::spawn(move || pass(back.0, back.1, None));
            }
        });
        Self { endpoint, requests }
    }

    /// Requests since it was asked last.
    fn take(&self) -> usize {
        self.requests.swap(0, Ordering::SeqCst)
    }
}

/// A request line never crosses two packets here: the client writes each head at once.
fn pass(mut from: TcpStream, mut to: TcpStream, counted: Option<&AtomicUsize>) {
    let mut piece = vec![0; 64 << 10];
    while let Ok(length) = from.read(&mut piece)
        && length > 0
    {
        if let Some(counted) = counted {
            let lines = piece[..length].windows(11).filter(|words| words == b" HTTP/1.1\r\n").count();
            counted.fetch_add(lines, Ordering::SeqCst);
        }
        if to.write_all(&piece[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
