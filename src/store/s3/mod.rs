//! A bucket behind S3 as a store, through the AWS SDK.
//!
//! Promises one try per call, every answer checked against what was asked (lengths, ranges, checksums), and errors that say
//! what to change. It must not retry: [`retrying`](crate::store::retrying) does, for every store alike.
//!
//! What protects the bytes of an upload: over TLS the payload is not hashed for the signature (`UNSIGNED-PAYLOAD`), since
//! TLS carries its own authentication code and a second pass of SHA-256 would only cost time; the CRC-32, which is nearly
//! free, guards what lies between the connection and the disk. Over plain HTTP nothing else stops a change on the way, so
//! there the signature covers the SHA-256 of the payload: one pass.

mod client;
mod exchange;
mod explain;
mod listing;
mod lock;
mod options;
mod refusal;
mod unreachable;
mod upload;
mod wrong_checksum;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::primitives::ByteStream;
use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};

pub use self::options::{Checksums, Lock, LockMode, S3Options, Timeouts};
use crate::base::requests::RequestCount;
use crate::store::s3::exchange::{Exchange, Watcher};
use crate::store::s3::explain::{Site, Words};
use crate::store::{
    Error, LockState, Locked, MAX_KEY_BYTES, ObjectKey, ObjectMeta, ObjectStore, Page, PageToken, check_prefix,
    check_size,
};

/// The most bytes that are set aside before an object arrives; a longer one makes its buffer grow.
const RESERVE_BYTES: u64 = 64 << 20;

/// The last offset that stores understand: they count in signed numbers.
const MAX_OFFSET: u64 = i64::MAX as u64 - 1;

/// A prefix in a bucket.
pub struct S3Store {
    client: Client,
    site: Site,
    checksums: Checksums,
    timeouts: Timeouts,
    /// True where the connection itself protects an upload, so that its payload need not be hashed for the signature.
    encrypted: bool,
    /// Set when the store said that it does not know `If-None-Match`.
    unconditional: AtomicBool,
    requests: Arc<RequestCount>,
    lock: Option<Lock>,
}

/// One request: what it is for, and what is seen of it.
struct Request<'a> {
    operation: &'static str,
    key: Option<&'a ObjectKey>,
    exchange: Arc<Exchange>,
}

impl Request<'_> {
    fn watcher(&self) -> Watcher {
        Watcher(Arc::clone(&self.exchange))
    }
}

impl S3Store {
    /// Prepares a client: reads the CA file and, without an access key, what the S3 client's own chain looks at for the
    /// region. Asks the store nothing.
    pub async fn open(options: S3Options) -> Result<Self, Error> {
        if !options.prefix.is_empty() {
            ObjectKey::new(options.prefix.as_str())?;
        }
        let connected = client::connect(&options).await?;
        let prefix = if options.prefix.is_empty() { String::new() } else { format!("{}/", options.prefix) };
        Ok(Self {
            client: connected.client,
            site: Site { bucket: options.bucket, prefix, endpoint: options.endpoint, region: connected.region },
            checksums: options.checksums,
            timeouts: options.timeouts,
            encrypted: connected.encrypted,
            unconditional: AtomicBool::new(false),
            requests: options.requests,
            lock: options.lock,
        })
    }

    fn request<'a>(&self, operation: &'static str, key: Option<&'a ObjectKey>) -> Request<'a> {
        self.requests.add(operation);
        Request { operation, key, exchange: Exchange::begin() }
    }

    /// The whole key of an object in the bucket.
    fn full_key(&self, key: &ObjectKey) -> Result<String, Error> {
        let full = format!("{}{key}", self.site.prefix);
        if full.len() <= MAX_KEY_BYTES { Ok(full) } else { Err(Error::BadKey { key: full }) }
    }

    /// Waits for one answer of the S3 client.
    async fn send<T, E: Words>(
        &self,
        request: &Request<'_>,
        call: impl Future<Output = Result<T, SdkError<E>>>,
    ) -> Result<T, Error> {
        self.watch(request, async { call.await.map_err(|error| self.site.explain(request, error)) }).await
    }

    /// Waits while bytes move, and not longer than a request may take.
    async fn watch<T>(&self, request: &Request<'_>, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let Timeouts { request: most, no_progress, .. } = self.timeouts;
        tokio::select! {
            biased;
            result = call => result,
            () = request.exchange.stalled(no_progress) => Err(self.site.stalled(request, no_progress)),
            () = tokio::time::sleep(most) => Err(self.site.too_slow(request, most)),
        }
    }

    /// Asks for an object or a part of it; the body must still be read.
    async fn fetch(&self, key: &ObjectKey, range: Option<(u64, u64)>) -> Result<Bytes, Error> {
        let request = self.request("get", Some(key));
        let asked = range.map(|(offset, last)| format!("bytes={offset}-{last}"));
        let call = self.client.get_object().bucket(&self.site.bucket).key(self.full_key(key)?).set_range(asked);
        let call = call.customize().interceptor(request.watcher()).send();
        let work = async {
            let output = call.await.map_err(|error| self.site.explain(&request, error))?;
            let declared = output.content_length.and_then(|length| u64::try_from(length).ok());
            match range {
                Some((offset, last)) => {
                    let given = output.content_range.as_deref().unwrap_or("no range");
                    if !explain::is_range(given, offset, last, declared) {
                        let asked = format!("bytes {offset}-{last}");
                        return Err(self.site.broken(&request, format!("{given} came for {asked}")));
                    }
                }
                None if self.checksums == Checksums::Required && !has_checksum(&output) => {
                    return Err(self.site.unchecked(&request));
                }
                None => check_size(key, declared.unwrap_or(0))?,
            }
            self.read(&request, output.body, declared).await
        };
        self.watch(&request, work).await
    }

    /// Reads a body to its end and checks its length.
    async fn read(&self, request: &Request<'_>, mut stream: ByteStream, declared: Option<u64>) -> Result<Bytes, Error> {
        let reserve = usize::try_from(declared.unwrap_or(0).min(RESERVE_BYTES)).unwrap_or(0);
        let mut first = Bytes::new();
        let mut body = BytesMut::new();
        // To the very end: the checksum is compared after the last piece.
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(|error| self.site.explain_body(request, &error))?;
            request.exchange.moved();
            if first.is_empty() && body.is_empty() {
                first = piece;
                continue;
            }
            if body.is_empty() {
                body.reserve(reserve);
                body.extend_from_slice(&std::mem::take(&mut first));
            }
            body.extend_from_slice(&piece);
            request.key.map_or(Ok(()), |key| check_size(key, body.len() as u64))?;
        }
        // A small object comes in one piece, and is not copied.
        let body = if body.is_empty() { first } else { body.freeze() };
        let came = body.len() as u64;
        match declared {
            Some(declared) if declared != came => {
                Err(self.site.broken(request, format!("{came} of {declared} bytes came")))
            }
            _ => Ok(body),
        }
    }
}

fn has_checksum(output: &aws_sdk_s3::operation::get_object::GetObjectOutput) -> bool {
    output.checksum_crc32().is_some()
        || output.checksum_crc32_c().is_some()
        || output.checksum_crc64_nvme().is_some()
        || output.checksum_sha1().is_some()
        || output.checksum_sha256().is_some()
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Store({})", self.site)
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    fn location(&self) -> String {
        self.site.to_string()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes) -> Result<(), Error> {
        self.upload(key, body, None).await
    }

    /// Looks first, then puts on the condition that there is nothing.
    ///
    /// Some stores ignore the condition without a word, and some refuse it as not implemented; with those the look alone
    /// decides, and of two callers in the same instant both may succeed.
    async fn put_new(&self, key: &ObjectKey, body: Bytes) -> Result<(), Error> {
        match self.head(key).await {
            Ok(_) => return Err(Error::Exists { key: key.clone() }),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        if self.unconditional.load(Ordering::Relaxed) {
            return self.upload(key, body, None).await;
        }
        match self.upload(key, body.clone(), Some("*")).await {
            Err(error) if explain::is_not_implemented(&error) => {
                self.unconditional.store(true, Ordering::Relaxed);
                self.upload(key, body, None).await
            }
            result => result,
        }
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes, Error> {
        self.fetch(key, None).await
    }

    async fn get_range(&self, key: &ObjectKey, offset: u64, length: u64) -> Result<Bytes, Error> {
        if length == 0 {
            return self.head(key).await.map(|_| Bytes::new());
        }
        let last = offset.saturating_add(length - 1).min(MAX_OFFSET);
        match self.fetch(key, Some((offset.min(last), last))).await {
            // Some stores say so of any range that they do not understand: the size decides.
            Err(error) if explain::is_beyond_end(&error) => match self.head(key).await? {
                meta if meta.bytes <= offset => Ok(Bytes::new()),
                _ => Err(error),
            },
            result => result,
        }
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta, Error> {
        let request = self.request("head", Some(key));
        let call = self.client.head_object().bucket(&self.site.bucket).key(self.full_key(key)?);
        let output = self.send(&request, call.customize().interceptor(request.watcher()).send()).await?;
        let facts = (output.content_length, output.e_tag.as_deref(), output.last_modified.as_ref());
        let meta = listing::meta(key.clone(), facts);
        meta.ok_or_else(|| self.site.broken(&request, "no size or time came".to_owned()))
    }

    async fn list_page(&self, prefix: &str, from: Option<&PageToken>) -> Result<Page, Error> {
        check_prefix(prefix)?;
        self.page(prefix, from).await
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, Error> {
        check_prefix(prefix)?;
        self.folders(prefix).await
    }

    async fn copy(&self, from: &ObjectKey, to: &ObjectKey) -> Result<(), Error> {
        let request = self.request("copy", Some(from));
        let source = format!("{}/{}", self.site.bucket, self.full_key(from)?);
        let call = self.client.copy_object().bucket(&self.site.bucket).copy_source(source).key(self.full_key(to)?);
        let (mode, until) = self.lock_of(to);
        let call = call.set_object_lock_mode(mode).set_object_lock_retain_until_date(until);
        self.send(&request, call.customize().interceptor(request.watcher()).send()).await?;
        // Some stores give a copy the lock of its original.
        match self.lock.as_ref().and_then(|lock| (lock.until)(to)) {
            Some(until) => self.lengthen(to, until).await,
            None => Ok(()),
        }
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), Error> {
        for batch in keys.chunks(listing::DELETE_BATCH) {
            self.delete_batch(batch).await?;
        }
        Ok(())
    }

    async fn destroy(&self, keys: &[ObjectKey]) -> Result<Vec<Locked>, Error> {
        self.destroy_versions(keys).await
    }

    async fn retain(&self, key: &ObjectKey, until: DateTime<Utc>) -> Result<(), Error> {
        self.lengthen(key, until).await
    }

    async fn keeps_versions(&self) -> Result<bool, Error> {
        Ok(self.bucket_keeps_versions().await)
    }

    async fn lock_state(&self) -> Result<LockState, Error> {
        self.bucket_locks().await
    }

    /// The `Date` of an answer to a request about the bucket; a refusal has one, too.
    async fn now(&self) -> Result<Option<DateTime<Utc>>, Error> {
        let request = self.request("now", None);
        let call = self.client.head_bucket().bucket(&self.site.bucket);
        let sent = self.send(&request, call.customize().interceptor(request.watcher()).send()).await;
        match (request.exchange.seen().answered_at, sent) {
            (Some(at), _) => Ok(Some(at)),
            (None, sent) => sent.map(|_| None),
        }
    }
}
