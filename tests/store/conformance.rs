//! The same promises for every store and every wrapper.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use dbkeeper::base::clock::{SeededEntropy, SystemClock};
use dbkeeper::store::limited::Limited;
use dbkeeper::store::local::LocalStore;
use dbkeeper::store::memory::MemoryStore;
use dbkeeper::store::retrying::Retrying;
use dbkeeper::store::s3::{Checksums, S3Store};
use dbkeeper::store::{Backend, Error, ObjectStore, StoreOptions};
use futures::TryStreamExt;
use futures::future::join_all;

use super::{bytes, key, quick};
use crate::support::faults::Faulty;
use crate::support::seaweed::Seaweed;

type Store = Arc<dyn ObjectStore>;

/// A store under test, with what must outlive it.
struct Subject {
    store: Store,
    _folder: Option<tempfile::TempDir>,
}

impl Subject {
    fn of(store: Store) -> Self {
        Self { store, _folder: None }
    }
}

fn memory() -> Store {
    Arc::new(MemoryStore::new(Arc::new(SystemClock)))
}

fn local() -> Subject {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Arc::new(LocalStore::new(folder.path().to_owned()));
    Subject { store, _folder: Some(folder) }
}

async fn seaweed(checksums: Checksums) -> Subject {
    let mut options = Seaweed::shared().options();
    options.checksums = checksums;
    Subject::of(Arc::new(S3Store::open(options).await.expect("a store")))
}

/// What a job uses, over S3 and without a prefix.
async fn opened() -> Subject {
    let backend = Backend::S3(Box::new(Seaweed::shared().bucket()));
    let options = StoreOptions { backend, max_requests: 4, retry: quick(3) };
    Subject::of(dbkeeper::store::open(options, Arc::new(SeededEntropy::new(1))).await.expect("a store"))
}

fn retrying() -> Subject {
    Subject::of(Arc::new(Retrying::new(memory(), quick(3), Arc::new(SeededEntropy::new(1)))))
}

macro_rules! conformance {
    ($($name:ident => $subject:expr;)*) => { $(
        mod $name {
            use super::*;

            #[tokio::test]
            async fn what_was_put_is_got_whole_and_in_ranges() {
                check_round_trip(&$subject.store).await;
            }

            #[tokio::test]
            async fn what_is_not_there_is_not_found_and_deleting_it_is_fine() {
                check_missing(&$subject.store).await;
            }

            #[tokio::test]
            async fn a_free_key_is_taken_once() {
                check_put_new(&$subject.store).await;
            }

            #[tokio::test]
            async fn a_listing_shows_each_object_once_and_in_order() {
                check_list(&$subject.store).await;
            }

            #[tokio::test]
            async fn odd_keys_stay_apart() {
                check_odd_keys(&$subject.store).await;
            }

            #[tokio::test]
            async fn a_copy_outlives_its_original() {
                check_copy(&$subject.store).await;
            }

            #[tokio::test]
            async fn what_is_deleted_is_no_longer_listed() {
                check_delete(&$subject.store).await;
            }

            #[tokio::test]
            async fn many_puts_of_one_key_leave_one_whole_object() {
                check_concurrent_puts(&$subject.store).await;
            }

            #[tokio::test]
            async fn a_large_object_comes_back_whole() {
                check_large(&$subject.store).await;
            }

            #[tokio::test]
            async fn a_prefix_is_a_folder_and_nothing_else() {
                check_prefixes(&$subject.store).await;
            }
        }
    )* };
}

conformance! {
    in_memory => Subject::of(memory());
    in_a_folder => local();
    in_s3 => seaweed(Checksums::Auto).await;
    in_s3_without_checksums => seaweed(Checksums::Off).await;
    in_s3_as_jobs_open_it => opened().await;
    through_retrying => retrying();
    through_limited => Subject::of(Arc::new(Limited::new(memory(), 1)));
    through_faulty => Subject::of(Faulty::new(memory()));
}

async fn check_round_trip(store: &Store) {
    for length in [0, 1, 1000, 1 << 20] {
        let (key, body) = (key(&format!("packs/{length}")), bytes(length));
        store.put(&key, body.clone()).await.unwrap();
        store.put(&key, body.clone()).await.expect("the same bytes again");
        assert_eq!(store.get(&key).await.unwrap(), body, "{length} bytes");
        let meta = store.head(&key).await.unwrap();
        assert_eq!((&meta.key, meta.bytes), (&key, length as u64));
        let ranges: [(usize, usize); 7] =
            [(0, 1), (0, length), (length / 2, 10), (length, 5), (length + 7, 5), (0, usize::MAX), (3, 0)];
        for (offset, count) in ranges {
            let expected =
                body.slice(offset.min(length)..offset.saturating_add(count).min(length).max(offset.min(length)));
            let got = store.get_range(&key, offset as u64, count as u64).await.unwrap();
            assert_eq!(got, expected, "{count} of {length} bytes from {offset}");
        }
    }
}

async fn check_missing(store: &Store) {
    store.put(&key("vaults/there"), bytes(10)).await.unwrap();
    for missing in [key("vaults/not"), key("vaults/there/not"), key("vaults")] {
        assert!(store.get(&missing).await.unwrap_err().is_not_found(), "get {missing}");
        assert!(store.get_range(&missing, 0, 1).await.unwrap_err().is_not_found(), "range of {missing}");
        assert!(store.get_range(&missing, 0, 0).await.unwrap_err().is_not_found(), "empty range of {missing}");
        assert!(store.head(&missing).await.unwrap_err().is_not_found(), "head {missing}");
        let copied = store.copy(&missing, &key("vaults/copy")).await;
        assert!(copied.unwrap_err().is_not_found(), "copy {missing}");
    }
    store.delete(&[key("vaults/not"), key("nor/this")]).await.expect("deleting nothing");
    store.delete(&[]).await.expect("deleting no keys");
    assert_eq!(store.get(&key("vaults/there")).await.unwrap(), bytes(10));
}

async fn check_put_new(store: &Store) {
    let key = key("vaults/new");
    store.put_new(&key, bytes(20)).await.unwrap();
    for body in [bytes(20), bytes(30)] {
        assert!(matches!(store.put_new(&key, body).await, Err(Error::Exists { key: there }) if there == key));
    }
    assert_eq!(store.get(&key).await.unwrap(), bytes(20));
    let race = join_all((1..=8).map(|n| {
        let key = super::key("vaults/race");
        async move { store.put_new(&key, bytes(n)).await.map(|()| n) }
    }));
    let winners: Vec<usize> = race.await.into_iter().filter_map(Result::ok).collect();
    assert_eq!(winners.len(), 1, "one caller takes the key");
    assert_eq!(store.get(&super::key("vaults/race")).await.unwrap(), bytes(winners[0]));
}

async fn check_list(store: &Store) {
    let names: BTreeSet<String> = (0..1203).map(|n| format!("vaults/a/packs/{n:05}")).collect();
    let others = ["vaults/a-b/packs/1", "vaults/b/packs/1", "vaults/a/backups/1/index.age", "dbkeeper.json"];
    for batch in names.iter().map(String::as_str).chain(others).collect::<Vec<_>>().chunks(32) {
        let puts = join_all(batch.iter().map(|name| async move { store.put(&key(name), bytes(3)).await }));
        assert!(puts.await.iter().all(Result::is_ok));
    }
    let packs = list(store, "vaults/a/packs/").await;
    assert_eq!(packs, names.iter().cloned().collect::<Vec<_>>(), "one folder is in order");
    let all = list(store, "").await;
    assert_eq!(all.len(), names.len() + others.len(), "each object once");
    let expected: BTreeSet<String> = names.iter().cloned().chain(others.map(str::to_owned)).collect();
    assert_eq!(all.iter().cloned().collect::<BTreeSet<_>>(), expected);
    assert_folders_come_together(&all);
    assert_eq!(store.list_folders("").await.unwrap(), ["vaults"]);
    assert_eq!(store.list_folders("vaults/").await.unwrap(), ["a", "a-b", "b"]);
    assert_eq!(store.list_folders("vaults/a/").await.unwrap(), ["backups", "packs"]);
    assert!(store.list_folders("vaults/a/packs/").await.unwrap().is_empty());
    assert!(store.list_folders("nowhere/").await.unwrap().is_empty());
    assert!(list(store, "nowhere/").await.is_empty());
    assert!(list(store, "vaults/a/pack/").await.is_empty(), "a folder's name is taken whole");
}

fn assert_folders_come_together(keys: &[String]) {
    let mut seen = BTreeSet::new();
    let folders = keys.iter().map(|key| key.rsplit_once('/').map_or("", |(folder, _)| folder));
    let mut last = None;
    for folder in folders.filter(|folder| !folder.is_empty()) {
        assert!(last == Some(folder) || seen.insert(folder), "{folder} comes twice");
        last = Some(folder);
    }
}

async fn check_odd_keys(store: &Store) {
    let odd = [
        "~",
        "-",
        "..a",
        "a..",
        ".hidden/x",
        "~41/~7e",
        "a~41",
        "A_b",
        "a-b/x",
        "a.b/x",
        "CON",
        "x.%".trim_end_matches('%'),
    ];
    let long = format!("{}/{}", "d".repeat(200), "n".repeat(240));
    let odd: Vec<&str> = odd.into_iter().chain([long.as_str()]).collect();
    for name in &odd {
        store.put(&key(name), Bytes::from((*name).to_owned())).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    for name in &odd {
        assert_eq!(store.get(&key(name)).await.unwrap(), name.as_bytes(), "{name}");
    }
    let listed: BTreeSet<String> = list(store, "").await.into_iter().collect();
    assert_eq!(listed, odd.iter().map(|name| (*name).to_owned()).collect());
}

async fn check_copy(store: &Store) {
    let (from, to) = (key("packs/1.abc"), key("renewed/2.abc"));
    store.put(&from, bytes(5000)).await.unwrap();
    store.copy(&from, &to).await.unwrap();
    store.copy(&from, &to).await.expect("the same copy again");
    // The store vouches for a copy, and for no other bytes of its size; also of what it keeps in several pieces.
    let (large, renewed, planted) = (key("packs/1.def"), key("renewed/2.def"), key("planted/3.def"));
    store.put(&large, bytes(20 << 20)).await.unwrap();
    store.copy(&large, &renewed).await.unwrap();
    store.put(&planted, Bytes::from(vec![7; 20 << 20])).await.unwrap();
    let metas: Vec<_> = store.list("").try_collect().await.expect("list");
    let content = |key| metas.iter().find(|meta| meta.key == key).expect("listed").content;
    assert_eq!(content(from.clone()), content(to.clone()));
    assert_eq!(content(large.clone()), content(renewed.clone()));
    for key in [&to, &renewed] {
        assert_eq!(store.head(key).await.unwrap().content, content(key.clone()));
        assert!(content(key.clone()).is_some());
    }
    assert!(content(planted.clone()) != content(renewed.clone()) && content(to.clone()) != content(renewed));
    store.delete(&[from.clone(), large]).await.unwrap();
    assert_eq!(store.get(&to).await.unwrap(), bytes(5000));
    assert!(store.get(&from).await.unwrap_err().is_not_found());
}

async fn check_delete(store: &Store) {
    let keys: Vec<_> = (0..1100).map(|n| key(&format!("old/{}/{n}", n % 7))).collect();
    for batch in keys.chunks(50) {
        assert!(join_all(batch.iter().map(|key| store.put(key, bytes(1)))).await.iter().all(Result::is_ok));
    }
    store.put(&key("kept/1"), bytes(1)).await.unwrap();
    store.delete(&keys).await.unwrap();
    assert_eq!(list(store, "").await, ["kept/1"]);
    assert!(store.get(&keys[3]).await.unwrap_err().is_not_found());
}

async fn check_concurrent_puts(store: &Store) {
    let key = key("vaults/same");
    let puts = join_all((0..8).map(|_| store.put(&key, bytes(300_000))));
    let reads = async {
        for _ in 0..20 {
            match store.get(&key).await {
                Ok(body) => assert_eq!(body, bytes(300_000), "whole or not at all"),
                Err(error) => assert!(error.is_not_found(), "{error}"),
            }
        }
    };
    let (puts, ()) = tokio::join!(puts, reads);
    assert!(puts.iter().all(Result::is_ok));
    assert_eq!(store.get(&key).await.unwrap(), bytes(300_000));
    assert_eq!(list(store, "").await, ["vaults/same"]);
}

/// Longer than what goes in one request to S3.
async fn check_large(store: &Store) {
    let (key, body) = (key("packs/large"), bytes((64 << 20) + 12_345));
    store.put_new(&key, body.clone()).await.unwrap();
    assert!(matches!(store.put_new(&key, body.clone()).await, Err(Error::Exists { .. })));
    assert_eq!(store.head(&key).await.unwrap().bytes, body.len() as u64);
    assert!(store.get(&key).await.unwrap() == body, "the bytes differ");
    let (offset, length) = (33 << 20, 100);
    assert_eq!(store.get_range(&key, offset, length).await.unwrap(), body.slice(33 << 20..(33 << 20) + 100));
}

async fn check_prefixes(store: &Store) {
    store.put(&key("a/b"), bytes(1)).await.unwrap();
    for wrong in ["a", "/", "../", "a//", "a/../", "ü/"] {
        assert!(matches!(store.list_folders(wrong).await, Err(Error::BadKey { .. })), "{wrong:?}");
        assert!(matches!(store.list_page(wrong, None).await, Err(Error::BadKey { .. })), "{wrong:?}");
    }
    assert!(!store.location().is_empty());
}

async fn list(store: &Store, prefix: &str) -> Vec<String> {
    let objects: Vec<_> = store.list(prefix).try_collect().await.unwrap();
    objects.iter().map(|object| object.key.to_string()).collect()
}
