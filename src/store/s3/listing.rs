//! Listings of a bucket, and deleting what they named.
//!
//! Promises that a page is taken as the store gave it, that a listing which does not advance is an error, and that a key
//! which could not be deleted is one.

use aws_sdk_s3::types::{Delete, Object, ObjectIdentifier};
use chrono::DateTime;
use futures::stream::{self, StreamExt, TryStreamExt};

use crate::store::s3::{S3Store, explain};
use crate::store::{Content, Error, ObjectKey, ObjectMeta, Page, PageToken};

/// The most keys in one deletion (S3's own limit).
pub(super) const DELETE_BATCH: usize = 1000;

/// Deletions at one time where the store cannot delete many at once.
const SINGLE_DELETES: usize = 4;

impl S3Store {
    /// One page of objects.
    pub(super) async fn page(&self, prefix: &str, from: Option<&PageToken>) -> Result<Page, Error> {
        let request = self.request("list", None);
        let call = self.client.list_objects_v2().bucket(&self.site.bucket);
        let call = call.prefix(format!("{}{prefix}", self.site.prefix));
        let call = call.set_continuation_token(from.map(|token| token.0.clone()));
        let output = self.send(&request, call.customize().interceptor(request.watcher()).send()).await?;
        let objects = output.contents().iter().filter_map(|object| self.object(object)).collect();
        let next = output.next_continuation_token.filter(|_| output.is_truncated.unwrap_or(false)).map(PageToken);
        if output.is_truncated == Some(true) && (next.is_none() || next.as_ref() == from) {
            return Err(self.site.broken(&request, "the listing does not advance".to_owned()));
        }
        Ok(Page { objects, next })
    }

    /// What is ours of an object in the bucket.
    fn object(&self, object: &Object) -> Option<ObjectMeta> {
        let key = object.key()?.strip_prefix(self.site.prefix.as_str())?;
        let facts = (object.size(), object.e_tag(), object.last_modified());
        meta(ObjectKey::new(key).ok()?, facts)
    }

    /// The folders directly below a prefix.
    pub(super) async fn folders(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let full = format!("{}{prefix}", self.site.prefix);
        let mut names = Vec::new();
        let mut token = None;
        loop {
            let request = self.request("list", None);
            let call = self.client.list_objects_v2().bucket(&self.site.bucket).prefix(&full).delimiter("/");
            let call = call.set_continuation_token(token.clone());
            let output = self.send(&request, call.customize().interceptor(request.watcher()).send()).await?;
            let found = output.common_prefixes().iter().filter_map(|folder| folder.prefix()?.strip_prefix(&full));
            names.extend(found.map(|name| name.trim_end_matches('/').to_owned()));
            if output.is_truncated != Some(true) {
                break;
            }
            if output.next_continuation_token.is_none() || output.next_continuation_token == token {
                return Err(self.site.broken(&request, "the listing does not advance".to_owned()));
            }
            token = output.next_continuation_token;
        }
        names.retain(|name| ObjectKey::new(name.as_str()).is_ok());
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Deletes up to [`DELETE_BATCH`] objects at once, or one by one where the store cannot.
    pub(super) async fn delete_batch(&self, keys: &[ObjectKey]) -> Result<(), Error> {
        let request = self.request("delete", None);
        let mut objects = Vec::with_capacity(keys.len());
        for key in keys {
            let object = ObjectIdentifier::builder().key(self.full_key(key)?).build();
            objects.push(object.expect("the key is set"));
        }
        let batch = Delete::builder().set_objects(Some(objects)).quiet(true).build().expect("the objects are set");
        let call = self.client.delete_objects().bucket(&self.site.bucket).delete(batch);
        match self.send(&request, call.customize().interceptor(request.watcher()).send()).await {
            Ok(output) => {
                let failed = output.errors().iter().filter(|error| error.code() != Some("NoSuchKey"));
                self.site.explain_deletions(failed, keys)
            }
            Err(error) if explain::lacks_batch_delete(&error) => {
                let singles: Vec<_> = keys.iter().map(|key| self.delete_one(key)).collect();
                stream::iter(singles).buffer_unordered(SINGLE_DELETES).try_collect().await
            }
            Err(error) => Err(error),
        }
    }

    async fn delete_one(&self, key: &ObjectKey) -> Result<(), Error> {
        let request = self.request("delete", Some(key));
        let call = self.client.delete_object().bucket(&self.site.bucket).key(self.full_key(key)?);
        self.send(&request, call.customize().interceptor(request.watcher()).send()).await.map(drop)
    }
}

/// Size, `ETag` and time as the S3 client gives them.
pub(super) fn meta(
    key: ObjectKey,
    (size, etag, modified): (Option<i64>, Option<&str>, Option<&aws_smithy_types::DateTime>),
) -> Option<ObjectMeta> {
    let modified = modified?;
    let modified_at = DateTime::from_timestamp(modified.secs(), modified.subsec_nanos())?;
    Some(ObjectMeta { key, bytes: u64::try_from(size?).ok()?, modified_at, content: etag.and_then(Content::of_etag) })
}
