//! What the wrappers add: tries, and a bound on calls.

use std::sync::Arc;

use dbkeeper::base::class::Class;
use dbkeeper::base::clock::{SeededEntropy, SystemClock};
use dbkeeper::store::limited::Limited;
use dbkeeper::store::memory::MemoryStore;
use dbkeeper::store::retrying::Retrying;
use dbkeeper::store::{Error, ObjectStore};
use futures::TryStreamExt;
use futures::future::join_all;

use super::{bytes, key, quick};
use crate::support::faults::{Fault, Faulty};

fn faulty() -> Arc<Faulty> {
    Faulty::new(Arc::new(MemoryStore::new(Arc::new(SystemClock))))
}

fn retrying(inner: &Arc<Faulty>, attempts: u32) -> Arc<dyn ObjectStore> {
    Arc::new(Retrying::new(inner.clone(), quick(attempts), Arc::new(SeededEntropy::new(7))))
}

async fn check_attempts(class: Class, attempts: u32, calls: usize, final_class: Class) {
    let inner = faulty();
    inner.when(calls, Fault::Fail(class), |call| call.operation == "get");
    let store = retrying(&inner, attempts);
    let error = store.get(&key("a")).await.unwrap_err();
    assert_eq!(inner.count("get"), calls, "{class:?} with {attempts} attempts");
    assert_eq!(error.class(), final_class);
    assert_eq!(error.to_string().contains("(tried"), 1 < calls, "{error}");
}

#[tokio::test]
async fn a_passing_fault_is_tried_as_often_as_allowed_and_is_final_then() {
    check_attempts(Class::Transient, 4, 4, Class::Store).await;
    check_attempts(Class::Transient, 1, 1, Class::Store).await;
    check_attempts(Class::Stalled, 4, 2, Class::Stalled).await;
    check_attempts(Class::Store, 4, 1, Class::Store).await;
    check_attempts(Class::Corrupt, 4, 1, Class::Corrupt).await;
}

#[tokio::test]
async fn every_method_is_tried_again() {
    let inner = faulty();
    inner.when(10, Fault::Fail(Class::Transient), {
        let seen = std::sync::Mutex::new(Vec::new());
        move |call| {
            let mut seen = seen.lock().unwrap();
            let first = !seen.contains(&call.operation);
            seen.push(call.operation);
            first
        }
    });
    let store = retrying(&inner, 2);
    let (a, b) = (key("a"), key("b"));
    store.put(&a, bytes(3)).await.unwrap();
    store.put_new(&b, bytes(3)).await.unwrap();
    store.get(&a).await.unwrap();
    store.get_range(&a, 0, 1).await.unwrap();
    store.head(&a).await.unwrap();
    store.list_page("", None).await.unwrap();
    store.list_folders("").await.unwrap();
    store.copy(&a, &key("c")).await.unwrap();
    store.delete(&[b]).await.unwrap();
    store.now().await.unwrap();
    assert_eq!(inner.calls().len(), 20);
}

#[tokio::test]
async fn a_new_object_whose_reply_was_lost_is_still_ours() {
    let inner = faulty();
    inner.at_call(1, Fault::LoseReply);
    let store = retrying(&inner, 3);
    store.put_new(&key("marker"), bytes(9)).await.expect("the object is ours");
    assert_eq!((inner.count("put_new"), inner.count("get")), (2, 1));
}

#[tokio::test]
async fn a_new_object_that_another_put_meanwhile_is_not_ours() {
    let inner = faulty();
    inner.put(&key("marker"), bytes(5)).await.unwrap();
    inner.when(1, Fault::Fail(Class::Transient), |call| call.operation == "put_new");
    let store = retrying(&inner, 3);
    let error = store.put_new(&key("marker"), bytes(9)).await.unwrap_err();
    assert!(matches!(error, Error::Exists { .. }), "{error}");
}

#[tokio::test]
async fn a_listing_goes_on_at_the_page_that_failed() {
    let inner = faulty();
    for n in 0..2500 {
        inner.put(&key(&format!("packs/{n:04}")), bytes(1)).await.unwrap();
    }
    let page = inner.calls().len() + 2;
    inner.at_call(page, Fault::Fail(Class::Transient));
    let store = retrying(&inner, 3);
    let listed: Vec<_> = store.list("packs/").try_collect().await.unwrap();
    assert_eq!(listed.len(), 2500);
    assert!(listed.is_sorted_by(|a, b| a.key < b.key), "each once, in order");
    assert_eq!(inner.count("list_page"), 4, "three pages, one of them twice");
}

#[tokio::test]
async fn an_error_ends_a_listing_and_is_not_swallowed() {
    let inner = faulty();
    inner.put(&key("a"), bytes(1)).await.unwrap();
    inner.when(1, Fault::Fail(Class::Store), |call| call.operation == "list_page");
    let store: Arc<dyn ObjectStore> = inner.clone();
    let listed: Result<Vec<_>, _> = store.list("").try_collect().await;
    assert_eq!(listed.unwrap_err().class(), Class::Store);
}

#[tokio::test]
async fn never_more_calls_than_the_limit_are_inside() {
    let inner = faulty();
    inner.when(4, Fault::Hang, |call| call.operation == "head");
    let limited: Arc<dyn ObjectStore> = Arc::new(Limited::new(inner.clone(), 4));
    let names: Vec<_> = (0..20).map(|n| key(&format!("k{n}"))).collect();
    {
        let mut calls = std::pin::pin!(join_all(names.iter().map(|key| limited.head(key))));
        for _ in 0..100 {
            assert!(futures::poll!(calls.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
        assert_eq!(inner.count("head"), 4, "the others wait outside");
    }
    let after = join_all(names.iter().map(|key| limited.head(key))).await;
    assert_eq!((after.len(), inner.count("head")), (20, 24), "a call that was dropped gives its place back");
}

#[tokio::test]
async fn a_torn_put_and_a_listing_without_the_newest_are_what_they_say() {
    let inner = faulty();
    inner.at_call(1, Fault::Tear(4));
    inner.put(&key("torn"), bytes(10)).await.expect("it says that all is well");
    assert_eq!(inner.get(&key("torn")).await.unwrap(), bytes(10).slice(..4));
    inner.put(&key("newest"), bytes(1)).await.unwrap();
    inner.when(1, Fault::HideNewest(1), |call| call.operation == "list_page");
    let page = inner.list_page("", None).await.unwrap();
    assert_eq!(page.objects.iter().map(|object| object.key.as_str()).collect::<Vec<_>>(), ["torn"]);
    assert_eq!(inner.list_page("", None).await.unwrap().objects.len(), 2);
}

#[tokio::test]
#[should_panic(expected = "faults that never struck")]
async fn a_fault_that_never_struck_fails_the_test() {
    faulty().at_call(1, Fault::Hang);
}
