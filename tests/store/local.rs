//! What only a folder can do wrong.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dbkeeper::base::class::Class;
use dbkeeper::store::local::{INCOMING, LocalStore};
use dbkeeper::store::{Error, ObjectStore};
use futures::TryStreamExt;
use futures::future::join_all;

use super::{bytes, key};

fn store(root: &Path) -> Arc<dyn ObjectStore> {
    Arc::new(LocalStore::new(root.to_owned()))
}

fn unfinished(root: &Path) -> usize {
    fs::read_dir(root.join(INCOMING)).expect("the folder of unfinished objects").count()
}

async fn keys(store: &Arc<dyn ObjectStore>) -> Vec<String> {
    let objects: Vec<_> = store.list("").try_collect().await.unwrap();
    objects.iter().map(|object| object.key.to_string()).collect()
}

#[tokio::test]
async fn a_folder_that_is_not_mounted_is_no_empty_repository() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder.path().join("not/there"));
    for error in [
        store.list_page("", None).await.unwrap_err(),
        store.list_folders("").await.unwrap_err(),
        store.put(&key("a"), bytes(1)).await.unwrap_err(),
    ] {
        assert_eq!(error.class(), Class::Store);
        assert!(error.to_string().contains("not/there does not exist"), "{error}");
        assert!(error.hint().unwrap().contains("mounted"));
    }
    assert!(!folder.path().join("not").exists(), "nothing was made");
    store.put_new(&key("dbkeeper.json"), bytes(1)).await.expect("a new repository makes its folder");
    store.put(&key("a"), bytes(1)).await.unwrap();
    assert_eq!(keys(&store).await, ["a", "dbkeeper.json"]);
}

#[tokio::test]
async fn keys_are_listed_in_order_although_folders_are_read_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let names = ["A", "a-b/x", "a.b", "a/x", "a/y/z", "a0", "b/c/d/e", "b/c/d0"];
    for name in names.iter().rev() {
        store.put(&key(name), bytes(1)).await.unwrap();
    }
    assert_eq!(keys(&store).await, names);
}

#[tokio::test]
async fn pages_of_a_folder_join_without_gap_or_repeat() {
    let folder = tempfile::tempdir().unwrap();
    // More than one page, made behind the store's back because flushing each would take long.
    for n in 0..10_050 {
        let path = folder.path().join(format!("v{}", n % 3));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join(format!("{n:05}")), "x").unwrap();
    }
    let listed = keys(&store(folder.path())).await;
    assert_eq!(listed.len(), 10_050);
    assert!(listed.is_sorted_by(|a, b| a < b));
}

#[tokio::test]
async fn nothing_unfinished_stays_or_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    store.put(&key("a/b"), bytes(10)).await.unwrap();
    store.put_new(&key("a/c"), bytes(10)).await.unwrap();
    assert!(matches!(store.put_new(&key("a/c"), bytes(9)).await, Err(Error::Exists { .. })));
    store.copy(&key("a/b"), &key("d")).await.unwrap();
    assert_eq!(unfinished(folder.path()), 0);
    fs::write(folder.path().join(INCOMING).join("17.3"), "half of an obj").unwrap();
    assert_eq!(keys(&store).await, ["a/b", "a/c", "d"]);
    assert_eq!(store.list_folders("").await.unwrap(), ["a"]);
}

#[tokio::test]
async fn what_a_dead_process_left_is_cleared_after_a_day_and_what_a_live_one_writes_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let incoming = folder.path().join(INCOMING);
    fs::create_dir(&incoming).unwrap();
    for (name, hours) in [("1.0", 25), ("2.0", 23)] {
        let file = fs::File::create(incoming.join(name)).unwrap();
        let now = file.metadata().unwrap().modified().unwrap_or(SystemTime::UNIX_EPOCH);
        file.set_modified(now - Duration::from_secs(hours * 3600)).unwrap();
    }
    store(folder.path()).put(&key("a"), bytes(1)).await.unwrap();
    let left: Vec<_> = fs::read_dir(&incoming).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["2.0"]);
}

#[tokio::test]
async fn a_copy_is_a_link_and_costs_no_space() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    store.put(&key("packs/1"), bytes(10_000)).await.unwrap();
    store.copy(&key("packs/1"), &key("packs/2")).await.unwrap();
    let inode = |name| fs::metadata(folder.path().join(name)).unwrap().ino();
    assert_eq!(inode("packs/1"), inode("packs/2"));
}

#[tokio::test]
async fn an_emptied_folder_goes_and_a_put_beside_the_deletion_still_succeeds() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    for round in 0..30 {
        let (old, new) = (key(&format!("v/w/old{round}")), key(&format!("v/w/new{round}")));
        store.put(&old, bytes(1)).await.unwrap();
        let old_keys = [old];
        let (deleted, put) = tokio::join!(store.delete(&old_keys), store.put(&new, bytes(2)));
        deleted.unwrap();
        put.unwrap();
        assert_eq!(store.get(&new).await.unwrap(), bytes(2));
        store.delete(&[new]).await.unwrap();
        assert!(!folder.path().join("v").exists(), "round {round}");
    }
    assert!(store.list_folders("").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_folder_without_an_object_is_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    fs::create_dir_all(folder.path().join("vaults/empty/packs")).unwrap();
    fs::create_dir_all(folder.path().join("vaults/full/packs")).unwrap();
    fs::write(folder.path().join("vaults/full/packs/1"), "x").unwrap();
    assert_eq!(store.list_folders("vaults/").await.unwrap(), ["full"]);
    assert_eq!(keys(&store).await, ["vaults/full/packs/1"]);
}

#[tokio::test]
async fn what_others_put_there_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    store.put(&key("a"), bytes(1)).await.unwrap();
    fs::write(folder.path().join("my notes.txt"), "x").unwrap();
    fs::create_dir(folder.path().join("lost+found")).unwrap();
    std::os::unix::fs::symlink("nowhere", folder.path().join("dangling")).unwrap();
    assert_eq!(keys(&store).await, ["a"]);
}

#[tokio::test]
async fn a_linked_folder_is_followed_and_a_cycle_of_links_is_told() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = store(folder.path());
    fs::write(other.path().join("1"), "x").unwrap();
    std::os::unix::fs::symlink(other.path(), folder.path().join("packs")).unwrap();
    assert_eq!(keys(&store).await, ["packs/1"]);
    std::os::unix::fs::symlink(folder.path(), folder.path().join("cycle")).unwrap();
    let error = store.list_page("", None).await.unwrap_err();
    assert!(error.to_string().contains("Too many levels of symbolic links"), "{error}");
}

#[tokio::test]
async fn trouble_is_told_in_the_systems_words_with_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    store.put(&key("file"), bytes(1)).await.unwrap();
    let error = store.put(&key("file/below"), bytes(1)).await.unwrap_err();
    let path = folder.path().join("file");
    let text = error.to_string();
    assert!(text.contains("Not a directory") && text.contains(path.to_str().unwrap()), "{text}");
    assert_eq!(error.class(), Class::Store);
    assert_eq!(unfinished(folder.path()), 0, "a failed put leaves nothing");
    let long = key(&"n".repeat(300));
    let text = store.put(&long, bytes(1)).await.unwrap_err().to_string();
    assert!(text.contains("File name too long"), "{text}");
}

#[tokio::test]
async fn readers_see_an_object_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let body = bytes(2_000_000);
    let names: Vec<_> = (0..12).map(|n| key(&format!("packs/{n}"))).collect();
    let puts = join_all(names.iter().map(|key| store.put(key, body.clone())));
    let looks = async {
        for _ in 0..40 {
            let page = store.list_page("", None).await.unwrap();
            assert!(
                page.objects.iter().all(|object| object.bytes == body.len() as u64),
                "a part of an object is visible"
            );
            tokio::task::yield_now().await;
        }
    };
    let (puts, ()) = tokio::join!(puts, looks);
    assert!(puts.iter().all(Result::is_ok));
}
