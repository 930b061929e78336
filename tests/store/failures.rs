//! How S3 fails: what is told, what is tried again, how long it takes.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use dbkeeper::base::class::Class;
use dbkeeper::base::clock::SeededEntropy;
use dbkeeper::base::secret::Secret;
use dbkeeper::store::s3::{Checksums, S3Options, S3Store, Timeouts};
use dbkeeper::store::{Backend, Error, ObjectStore, StoreOptions};
use futures::TryStreamExt;

use super::{bytes, key, quick};
use crate::support::s3_stub::{Answer, S3Stub, authority, options_at};
use crate::support::seaweed::Seaweed;

async fn store(options: S3Options) -> S3Store {
    S3Store::open(options).await.expect("a store")
}

async fn retrying(options: S3Options, attempts: u32) -> Arc<dyn ObjectStore> {
    let options = StoreOptions { backend: Backend::S3(Box::new(options)), max_requests: 4, retry: quick(attempts) };
    dbkeeper::store::open(options, Arc::new(SeededEntropy::new(3))).await.expect("a store")
}

/// The error, its causes and its hint, as a person reads them.
fn told(error: &Error) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}\nhint: {}", error.hint().unwrap_or("none"))
}

fn check_told(error: &Error, class: Class, words: &[&str]) {
    let told = told(error);
    assert_eq!(error.class(), class, "{told}");
    for word in words {
        assert!(told.contains(word), "{word:?} is not in: {told}");
    }
    assert!(!told.contains("hunter2"), "a secret is told: {told}");
}

#[tokio::test]
async fn a_wrong_access_key_is_named() {
    let mut options = Seaweed::shared().options();
    options.access_key_id = Some(Secret::new("nobody".to_owned()));
    let error = store(options).await.put(&key("a"), bytes(1)).await.unwrap_err();
    check_told(&error, Class::Store, &["put a: ", "InvalidAccessKeyId (HTTP 403)", "check access_key_id"]);
}

#[tokio::test]
async fn a_wrong_secret_is_named_and_not_repeated() {
    let mut options = Seaweed::shared().options();
    options.secret_access_key = Some(Secret::new("hunter2".to_owned()));
    let error = store(options).await.get(&key("a")).await.unwrap_err();
    check_told(&error, Class::Store, &["get a: ", "SignatureDoesNotMatch", "check secret_access_key"]);
}

#[tokio::test]
async fn a_wrong_key_is_no_missing_object() {
    let mut options = Seaweed::shared().options();
    options.secret_access_key = Some(Secret::new("hunter2".to_owned()));
    let error = store(options).await.head(&key("a")).await.unwrap_err();
    check_told(&error, Class::Store, &["HTTP 403", "check access_key_id, secret_access_key"]);
}

#[tokio::test]
async fn a_missing_bucket_is_named_by_every_method_that_hears_of_it() {
    let store = store(Seaweed::shared().options_in("no-such-bucket", "prod")).await;
    let a = key("a");
    for error in [
        store.put(&a, bytes(1)).await.unwrap_err(),
        store.put_new(&a, bytes(1)).await.unwrap_err(),
        store.get(&a).await.unwrap_err(),
        store.list_page("", None).await.unwrap_err(),
        store.list_folders("").await.unwrap_err(),
    ] {
        check_told(&error, Class::Store, &["NoSuchBucket", "create bucket no-such-bucket at http://127.0.0.1:"]);
    }
}

#[tokio::test]
async fn a_refused_connection_is_tried_again_and_then_told() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let error = retrying(options_at(port), 3).await.get(&key("a")).await.unwrap_err();
    let words = format!("http://127.0.0.1:{port} refuses connections (tried 3 times)");
    check_told(&error, Class::Store, &[&words, "check endpoint"]);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_told() {
    let mut options = options_at(1);
    options.endpoint = Some("http://s3.invalid".to_owned());
    let error = retrying(options, 1).await.get(&key("a")).await.unwrap_err();
    check_told(&error, Class::Store, &["the name of http://s3.invalid cannot be resolved", "check endpoint"]);
}

#[tokio::test]
async fn a_certificate_is_trusted_only_by_the_named_authority() {
    let stub = S3Stub::start_tls(vec![Answer::ok()]);
    let error = store(stub.options()).await.put(&key("a"), bytes(10)).await.unwrap_err();
    check_told(&error, Class::Store, &["the certificate of https://127.0.0.1", "unknown authority", "ca_file"]);
    let mut options = stub.options();
    options.ca_file = Some(authority());
    store(options).await.put(&key("a"), bytes(10)).await.expect("the authority is known");
    let asked = &stub.asked()[0];
    assert_eq!(asked.header("x-amz-content-sha256"), Some("UNSIGNED-PAYLOAD"), "TLS protects the bytes");
    assert!(asked.header("x-amz-checksum-crc32").is_some());
}

#[tokio::test]
async fn a_certificate_for_another_name_is_told() {
    let stub = S3Stub::start_tls(vec![]);
    let mut options = stub.options();
    options.ca_file = Some(authority());
    options.endpoint = options.endpoint.map(|endpoint| endpoint.replace("127.0.0.1", "localhost"));
    let error = store(options).await.put(&key("a"), bytes(10)).await.unwrap_err();
    check_told(&error, Class::Store, &["is for another name", "write the endpoint"]);
}

#[tokio::test]
async fn a_peer_without_tls_is_told() {
    let stub = S3Stub::start(vec![]);
    let mut options = stub.options();
    options.ca_file = Some(authority());
    options.endpoint = options.endpoint.map(|endpoint| endpoint.replace("http:", "https:"));
    let error = store(options).await.get(&key("a")).await.unwrap_err();
    check_told(&error, Class::Store, &["does not speak TLS", "http://"]);
}

#[tokio::test]
async fn over_plain_http_the_signature_covers_the_payload() {
    let stub = S3Stub::start(vec![Answer::ok()]);
    store(stub.options()).await.put(&key("a"), bytes(0)).await.unwrap();
    // The SHA-256 of nothing: FIPS 180-4.
    let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(stub.asked()[0].header("x-amz-content-sha256"), Some(nothing));
}

#[tokio::test]
async fn a_peer_that_never_answers_is_stalled_within_the_configured_time() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut options = options_at(silent.local_addr().unwrap().port());
    options.timeouts.no_progress = Duration::from_millis(200);
    let store = store(options).await;
    // 40 MB fit into no socket's buffers: here it is the upload that does not move.
    for length in [10, 40_000_000] {
        let a = key("a");
        let put = store.put(&a, bytes(length));
        let error = tokio::time::timeout(Duration::from_secs(20), put).await.expect("it ends by itself").unwrap_err();
        check_told(&error, Class::Stalled, &["gave no sign of life for 200ms"]);
    }
}

#[tokio::test]
async fn a_body_that_stops_half_way_is_stalled_too() {
    use std::io::{Read, Write};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut options = options_at(listener.local_addr().unwrap().port());
    options.timeouts.no_progress = Duration::from_millis(200);
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let peer = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").unwrap();
        let _ = ended.recv();
    });
    let error = store(options).await.get(&key("a")).await.unwrap_err();
    check_told(&error, Class::Stalled, &["gave no sign of life"]);
    drop(end);
    peer.join().unwrap();
}

#[tokio::test]
async fn a_request_that_drips_is_cut_off() {
    use std::io::{Read, Write};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut options = options_at(listener.local_addr().unwrap().port());
    options.timeouts = Timeouts { request: Duration::from_millis(500), ..Timeouts::default() };
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").unwrap();
        while stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let error = store(options).await.get(&key("a")).await.unwrap_err();
    check_told(&error, Class::Transient, &["took longer than 500ms"]);
}

#[tokio::test]
async fn what_may_pass_is_tried_again_until_it_passes() {
    let slow_down = Answer::error(503, "SlowDown", "Please reduce your request rate.", "");
    let no_body = Answer { status: 500, ..Answer::ok() };
    let gateway = Answer { status: 502, body: "<html>bad gateway</html>".to_owned(), ..Answer::ok() };
    let stub = S3Stub::start(vec![slow_down, no_body, gateway, Answer::ok()]);
    retrying(stub.options(), 4).await.put(&key("a"), bytes(10)).await.expect("the fourth try");
    let asked: Vec<_> = stub.asked().into_iter().map(|asked| asked.line).collect();
    assert_eq!(asked.len(), 4, "{asked:?}");
    assert!(asked.iter().all(|line| line.starts_with("PUT /bucket/prod/a")), "{asked:?}");
}

#[tokio::test]
async fn the_client_itself_tries_nothing_again() {
    let stub = S3Stub::start(vec![Answer::error(503, "SlowDown", "Please reduce your request rate.", "")]);
    let error = store(stub.options()).await.get(&key("a")).await.unwrap_err();
    check_told(&error, Class::Busy, &["get a: Please reduce your request rate: SlowDown (HTTP 503)"]);
    assert_eq!(stub.asked().len(), 1);
}

async fn check_refusal(answer: Answer, words: &[&str]) {
    let stub = S3Stub::start(vec![answer]);
    let error = retrying(stub.options(), 3).await.get(&key("a")).await.unwrap_err();
    check_told(&error, Class::Store, words);
    assert_eq!(stub.asked().len(), 1, "what a person must change is not tried again");
}

#[tokio::test]
async fn refusals_that_a_person_must_end_say_how() {
    let region = "<Region>eu-west-3</Region>";
    let malformed = Answer::error(400, "AuthorizationHeaderMalformed", "the region is wrong", region);
    check_refusal(malformed, &["not in region us-east-1", "set region = \"eu-west-3\""]).await;
    let redirect = Answer::error(301, "PermanentRedirect", "use the other endpoint", "");
    let redirect = redirect.with_header("x-amz-bucket-region", "eu-central-1");
    check_refusal(redirect, &["set region = \"eu-central-1\""]).await;
    let denied = Answer::error(403, "AccessDenied", "Access Denied", "");
    check_refusal(denied, &["Access Denied: AccessDenied (HTTP 403)", "s3:PutObject", "bucket bucket"]).await;
    let expired = Answer::error(400, "ExpiredToken", "The provided token has expired.", "");
    check_refusal(expired, &["token has expired", "new temporary access key"]).await;
    let page = Answer { status: 404, body: "<html>nothing here</html>".to_owned(), ..Answer::ok() };
    check_refusal(page, &["HTTP 404", "check endpoint, path_style"]).await;
    let plain =
        Answer { status: 400, body: "Client sent an HTTP request to an HTTPS server.\n".to_owned(), ..Answer::ok() };
    check_refusal(plain, &["speaks HTTPS", "https://"]).await;
}

#[tokio::test]
async fn clocks_that_differ_are_told_both() {
    let times = "<RequestTime>20261121T094056Z</RequestTime><ServerTime>2031-02-03T04:05:06Z</ServerTime>";
    let skewed = Answer::error(403, "RequestTimeTooSkewed", "The difference is too large.", times);
    check_refusal(skewed, &["here it is 20", "http://127.0.0.1", "2031-02-03T04:05:06Z", "NTP"]).await;
    let skewed = Answer::error(403, "RequestTimeTooSkewed", "The difference is too large.", "");
    let skewed = skewed.with_header("date", "Mon, 03 Feb 2031 04:05:07 GMT");
    check_refusal(skewed, &["here it is 20", "2031-02-03T04:05:07Z"]).await;
}

#[tokio::test]
async fn the_stores_clock_is_read_even_from_a_refusal() {
    let at = |answer: Answer| answer.with_header("date", "Mon, 03 Feb 2031 04:05:07 GMT");
    for answer in [at(Answer::ok()), at(Answer { status: 403, ..Answer::ok() })] {
        let stub = S3Stub::start(vec![answer]);
        let now = store(stub.options()).await.now().await.unwrap().expect("a time");
        assert_eq!(now.to_rfc3339(), "2031-02-03T04:05:07+00:00");
    }
    let here = store(Seaweed::shared().options()).await.now().await.unwrap();
    assert!(here.is_some(), "a real server tells its time");
}

#[tokio::test]
async fn a_short_body_is_never_taken_for_the_object() {
    let short = Answer { declared_bytes: Some(100), ..Answer::ok().with_body("half") };
    let stub = S3Stub::start(vec![short]);
    let error = store(stub.options()).await.get(&key("a")).await.unwrap_err();
    check_told(&error, Class::Transient, &["get a: the body broke off"]);
}

#[tokio::test]
async fn a_body_that_is_not_what_its_checksum_says_is_damage() {
    let damaged = Answer::ok().with_body("damaged").with_header("x-amz-checksum-crc32", "AAAAAA==");
    let stub = S3Stub::start(vec![damaged]);
    let error = store(stub.options()).await.get(&key("a")).await.unwrap_err();
    check_told(&error, Class::Corrupt, &["checksum mismatch"]);
}

#[tokio::test]
async fn a_range_other_than_the_asked_one_is_refused() {
    let whole = Answer::ok().with_body("the whole object");
    let shifted = Answer { status: 206, ..Answer::ok() }.with_body("ab").with_header("content-range", "bytes 0-1/16");
    for answer in [whole, shifted] {
        let stub = S3Stub::start(vec![answer]);
        let error = store(stub.options()).await.get_range(&key("a"), 4, 2).await.unwrap_err();
        check_told(&error, Class::Transient, &["came for bytes 4-5"]);
    }
}

#[tokio::test]
async fn checksums_are_demanded_only_where_they_are_required() {
    for (checksums, sent, good) in
        [(Checksums::Auto, true, true), (Checksums::Required, true, false), (Checksums::Off, false, true)]
    {
        let stub = S3Stub::start(vec![Answer::ok(), Answer::ok().with_body("x")]);
        let mut options = stub.options();
        options.checksums = checksums;
        let store = store(options).await;
        let (put, got) = (store.put(&key("a"), bytes(10)).await, store.get(&key("a")).await);
        assert_eq!((put.is_ok(), got.is_ok()), (good, good), "{checksums:?}");
        assert_eq!(stub.asked()[0].header("x-amz-checksum-crc32").is_some(), sent, "{checksums:?}");
        if let Err(error) = put {
            check_told(&error, Class::Store, &["gives no checksum", "checksums = \"auto\""]);
        }
    }
}

#[tokio::test]
async fn a_store_that_confirms_other_bytes_is_not_believed() {
    let stub = S3Stub::start(vec![Answer::ok().with_header("x-amz-checksum-crc32", "AAAAAA==")]);
    let error = store(stub.options()).await.put(&key("a"), bytes(10)).await.unwrap_err();
    check_told(&error, Class::Transient, &["the store confirms checksum AAAAAA=="]);
}

#[tokio::test]
async fn a_store_without_conditions_is_looked_at_first() {
    let missing = || Answer { status: 404, ..Answer::ok() };
    let refused = Answer::error(501, "NotImplemented", "A header is not implemented.", "");
    let stub = S3Stub::start(vec![missing(), refused, Answer::ok(), missing(), Answer::ok()]);
    let store = store(stub.options()).await;
    store.put_new(&key("a"), bytes(1)).await.unwrap();
    store.put_new(&key("b"), bytes(1)).await.unwrap();
    let conditions: Vec<_> = stub.asked().iter().map(|asked| asked.header("if-none-match").is_some()).collect();
    assert_eq!(conditions, [false, true, false, false, false]);
}

#[tokio::test]
async fn a_store_without_batch_deletion_deletes_one_by_one() {
    let refused = Answer::error(501, "NotImplemented", "Not implemented.", "");
    let gone = || Answer { status: 204, ..Answer::ok() };
    let stub = S3Stub::start(vec![refused, gone(), gone(), gone()]);
    store(stub.options()).await.delete(&[key("a"), key("b"), key("c")]).await.unwrap();
    let mut asked: Vec<_> = stub.asked().into_iter().skip(1).map(|asked| asked.line).collect();
    asked.sort();
    for (line, name) in asked.iter().zip(["a", "b", "c"]) {
        assert!(line.starts_with(&format!("DELETE /bucket/prod/{name}")), "{asked:?}");
    }
}

#[tokio::test]
async fn an_object_that_could_not_be_deleted_is_an_error_with_its_key() {
    let document = "<DeleteResult><Error><Key>prod/b</Key><Code>AccessDenied</Code><Message>Access Denied</Message></Error>\
        <Error><Key>prod/c</Key><Code>AccessDenied</Code><Message>Access Denied</Message></Error></DeleteResult>";
    let stub = S3Stub::start(vec![Answer::ok().with_body(document)]);
    let error = store(stub.options()).await.delete(&[key("a"), key("b"), key("c")]).await.unwrap_err();
    check_told(&error, Class::Store, &["delete b: Access Denied (and 1 more): AccessDenied", "s3:DeleteObject"]);
}

#[tokio::test]
async fn a_listing_that_does_not_advance_is_an_error() {
    let page = "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken></ListBucketResult>";
    let stub = S3Stub::start(vec![Answer::ok().with_body(page), Answer::ok().with_body(page)]);
    let store: Arc<dyn ObjectStore> = Arc::new(store(stub.options()).await);
    let error = store.list("").try_collect::<Vec<_>>().await.unwrap_err();
    check_told(&error, Class::Transient, &["does not advance"]);
}

#[tokio::test]
async fn the_parts_of_a_failed_upload_are_removed() {
    let begun = "<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>";
    let denied = Answer::error(403, "AccessDenied", "Access Denied", "");
    let removed = Answer { status: 204, ..Answer::ok() };
    let stub = S3Stub::start(vec![Answer::ok().with_body(begun), denied.clone(), removed]);
    let error = store(stub.options()).await.put(&key("a"), bytes(70 << 20)).await.unwrap_err();
    check_told(&error, Class::Store, &["put a: Access Denied"]);
    let asked = stub.asked();
    assert!(asked[2].line.starts_with("DELETE /bucket/prod/a") && asked[2].line.contains("uploadId=u1"), "{asked:?}");

    let stub = S3Stub::start(vec![Answer::ok().with_body(begun), denied.clone(), denied]);
    let error = store(stub.options()).await.put(&key("a"), bytes(70 << 20)).await.unwrap_err();
    check_told(&error, Class::Store, &["put a: Access Denied; the parts of upload u1 stay in the bucket"]);
}

#[tokio::test]
async fn options_that_cannot_work_are_refused_before_any_request() {
    type Change = fn(&mut S3Options);
    let cases: [(&str, Change); 6] = [
        ("without secret_access_key", |options| options.secret_access_key = None),
        ("without access_key_id", |options| options.access_key_id = None),
        ("is no URL", |options| options.endpoint = Some("s3.example.net".to_owned())),
        ("the endpoint is no URL", |options| options.endpoint = Some("http://a:hunter2@host".to_owned())),
        ("No such file", |options| options.ca_file = Some("/nonexistent/ca.pem".into())),
        ("no certificate in it", |options| {
            options.ca_file = Some(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml").into());
        }),
    ];
    for (words, change) in cases {
        let mut options = options_at(9);
        change(&mut options);
        let error = S3Store::open(options).await.unwrap_err();
        check_told(&error, Class::Usage, &[words]);
    }
}
