//! Objects that a bucket locks until a time (S3 Object Lock), and the versions that such a bucket keeps of everything.
//!
//! Promises that a lock is never shortened, and that an object which is destroyed leaves no version behind unless the store holds
//! it: then it is named with the time until which it does.

use aws_sdk_s3::types::{
    Delete, ObjectIdentifier, ObjectLockEnabled, ObjectLockMode, ObjectLockRetention, ObjectLockRetentionMode,
};
use chrono::{DateTime, Utc};
use futures::stream::{self, StreamExt, TryStreamExt};

use crate::store::s3::listing::DELETE_BATCH;
use crate::store::s3::options::{Lock, LockMode};
use crate::store::s3::{S3Store, explain};
use crate::store::{Error, LockState, Locked, ObjectKey, ObjectStore};

/// Keys whose versions are looked for at one time.
const LOOKS_AT_ONCE: usize = 8;

/// One version of an object.
struct Version {
    key: ObjectKey,
    id: String,
}

impl Lock {
    fn mode(&self) -> ObjectLockMode {
        match self.mode {
            LockMode::Governance => ObjectLockMode::Governance,
            LockMode::Compliance => ObjectLockMode::Compliance,
        }
    }

    fn retention_mode(&self) -> ObjectLockRetentionMode {
        match self.mode {
            LockMode::Governance => ObjectLockRetentionMode::Governance,
            LockMode::Compliance => ObjectLockRetentionMode::Compliance,
        }
    }
}

fn aws_time(time: DateTime<Utc>) -> aws_smithy_types::DateTime {
    aws_smithy_types::DateTime::from_secs(time.timestamp())
}

impl S3Store {
    /// The lock that an object under this key is born with.
    pub(super) fn lock_of(&self, key: &ObjectKey) -> (Option<ObjectLockMode>, Option<aws_smithy_types::DateTime>) {
        let until = self.lock.as_ref().and_then(|lock| Some((lock.mode(), aws_time((lock.until)(key)?))));
        until.map_or((None, None), |(mode, until)| (Some(mode), Some(until)))
    }

    /// Lengthens the lock of an object, if it is shorter.
    pub(super) async fn lengthen(&self, key: &ObjectKey, until: DateTime<Utc>) -> Result<(), Error> {
        let Some(lock) = &self.lock else { return Ok(()) };
        if self.locked_until(key, None).await?.is_some_and(|locked| until <= locked) {
            return Ok(());
        }
        let request = self.request("retain", Some(key));
        let retention = ObjectLockRetention::builder().mode(lock.retention_mode()).retain_until_date(aws_time(until));
        let call = self.client.put_object_retention().bucket(&self.site.bucket).key(self.full_key(key)?);
        let call = call.retention(retention.build());
        self.send(&request, call.customize().interceptor(request.watcher()).send()).await.map(drop)
    }

    /// Until when an object, or a version of it, is locked.
    async fn locked_until(&self, key: &ObjectKey, version: Option<String>) -> Result<Option<DateTime<Utc>>, Error> {
        let request = self.request("head", Some(key));
        let call = self.client.head_object().bucket(&self.site.bucket).key(self.full_key(key)?);
        let call = call.set_version_id(version);
        let output = self.send(&request, call.customize().interceptor(request.watcher()).send()).await?;
        let until = output.object_lock_retain_until_date();
        Ok(until.and_then(|until| DateTime::from_timestamp(until.secs(), 0)))
    }

    /// Asks the bucket whether it locks objects.
    pub(super) async fn bucket_locks(&self) -> Result<LockState, Error> {
        if self.lock.is_none() {
            return Ok(LockState::NotAsked);
        }
        let request = self.request("look", None);
        let call = self.client.get_object_lock_configuration().bucket(&self.site.bucket);
        let sent = self.send(&request, call.customize().interceptor(request.watcher()).send()).await;
        match sent {
            Ok(output) => {
                let enabled = output.object_lock_configuration().and_then(|it| it.object_lock_enabled());
                Ok(match enabled {
                    Some(ObjectLockEnabled::Enabled) => LockState::Ready,
                    _ => LockState::Missing("the bucket was made without object lock".to_owned()),
                })
            }
            Err(error) if explain::says(&error, "ObjectLockConfigurationNotFoundError") => {
                Ok(LockState::Missing("the bucket was made without object lock".to_owned()))
            }
            Err(error) if explain::is_not_implemented(&error) => {
                Ok(LockState::Missing("the store does not know object lock".to_owned()))
            }
            Err(error) => Err(error),
        }
    }

    /// Deletes every version of objects; returns those that are locked.
    pub(super) async fn destroy_versions(&self, keys: &[ObjectKey]) -> Result<Vec<Locked>, Error> {
        if !self.bucket_keeps_versions().await {
            return self.delete(keys).await.map(|()| Vec::new());
        }
        let looks: Vec<_> = keys.iter().map(|key| self.versions(key)).collect();
        let versions: Vec<Vec<Version>> = stream::iter(looks).buffer_unordered(LOOKS_AT_ONCE).try_collect().await?;
        let versions: Vec<Version> = versions.into_iter().flatten().collect();
        let mut locked = Vec::new();
        for batch in versions.chunks(DELETE_BATCH) {
            self.destroy_batch(batch, &mut locked).await?;
        }
        Ok(locked)
    }

    /// True where the bucket keeps older versions. One that does not say so is taken for one that does not.
    pub(super) async fn bucket_keeps_versions(&self) -> bool {
        let request = self.request("look", None);
        let call = self.client.get_bucket_versioning().bucket(&self.site.bucket);
        let sent = self.send(&request, call.customize().interceptor(request.watcher()).send()).await;
        self.lock.is_some() || sent.is_ok_and(|output| output.status().is_some())
    }

    /// Every version of one object, delete markers included.
    async fn versions(&self, key: &ObjectKey) -> Result<Vec<Version>, Error> {
        let request = self.request("list", None);
        let full = self.full_key(key)?;
        let call = self.client.list_object_versions().bucket(&self.site.bucket).prefix(&full);
        let output = self.send(&request, call.customize().interceptor(request.watcher()).send()).await?;
        let version = |found: Option<&str>, id: Option<&str>| {
            (found == Some(full.as_str())).then(|| Version { key: key.clone(), id: id.unwrap_or("null").to_owned() })
        };
        let versions = output.versions().iter().filter_map(|it| version(it.key(), it.version_id()));
        let markers = output.delete_markers().iter().filter_map(|it| version(it.key(), it.version_id()));
        Ok(versions.chain(markers).collect())
    }

    async fn destroy_batch(&self, batch: &[Version], locked: &mut Vec<Locked>) -> Result<(), Error> {
        let request = self.request("delete", None);
        let mut objects = Vec::with_capacity(batch.len());
        for Version { key, id } in batch {
            let object = ObjectIdentifier::builder().key(self.full_key(key)?).version_id(id).build();
            objects.push(object.expect("the key is set"));
        }
        let delete = Delete::builder().set_objects(Some(objects)).quiet(true).build().expect("the objects are set");
        let call = self.client.delete_objects().bucket(&self.site.bucket).delete(delete);
        let output = self.send(&request, call.customize().interceptor(request.watcher()).send()).await?;
        let (mut failed, keys) = (Vec::new(), batch.iter().map(|version| version.key.clone()).collect::<Vec<_>>());
        for error in output.errors().iter().filter(|error| error.code() != Some("NoSuchKey")) {
            let of = |version: &&Version| {
                error.key() == self.full_key(&version.key).ok().as_deref()
                    && error.version_id() == Some(version.id.as_str())
            };
            let until = match batch.iter().find(of) {
                Some(version) => self.locked_until(&version.key, Some(version.id.clone())).await.ok().flatten(),
                None => None,
            };
            match (batch.iter().find(of), until) {
                (Some(version), Some(until)) => locked.push(Locked { key: version.key.clone(), until }),
                _ => failed.push(error),
            }
        }
        self.site.explain_deletions(failed.into_iter(), &keys)
    }
}
