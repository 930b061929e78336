//! Uploads: one request for an object up to [`SINGLE_PUT_BYTES`], parts above.
//!
//! Promises that the object appears whole with the last request or not at all, and that the parts of a failed upload are
//! removed. The parts of one that was killed stay in the bucket unseen: a lifecycle rule for incomplete multipart uploads
//! clears them.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;

use crate::store::s3::{Checksums, Request, S3Store};
use crate::store::{Error, ObjectKey};

/// The longest object that goes as one request.
const SINGLE_PUT_BYTES: usize = 64 << 20;

/// The size of a part. S3 takes 10,000 of at least 5 MiB, so an object may have 312 GiB.
const PART_BYTES: usize = 32 << 20;

impl S3Store {
    /// Stores an object; `condition` goes as `If-None-Match`.
    pub(super) async fn upload(&self, key: &ObjectKey, body: Bytes, condition: Option<&str>) -> Result<(), Error> {
        if body.len() <= SINGLE_PUT_BYTES {
            return self.put_whole(key, body, condition).await;
        }
        let upload = self.begin_parts(key).await?;
        let result = self.put_parts(key, &upload, body, condition).await;
        match result {
            Err(error) => Err(self.abandon(key, &upload, error).await),
            Ok(()) => Ok(()),
        }
    }

    async fn put_whole(&self, key: &ObjectKey, body: Bytes, condition: Option<&str>) -> Result<(), Error> {
        let request = self.request("put", Some(key));
        let call = self.client.put_object().bucket(&self.site.bucket).key(self.full_key(key)?);
        let call = call.set_if_none_match(condition.map(str::to_owned)).body(ByteStream::from(body));
        let (mode, until) = self.lock_of(key);
        let call = call.set_object_lock_mode(mode).set_object_lock_retain_until_date(until);
        let mut call = call.customize().interceptor(request.watcher());
        if self.encrypted {
            call = call.disable_payload_signing();
        }
        let output = self.send(&request, call.send()).await?;
        self.check_stored(&request, output.checksum_crc32())
    }

    async fn begin_parts(&self, key: &ObjectKey) -> Result<String, Error> {
        let request = self.request("put", Some(key));
        let algorithm = (self.checksums != Checksums::Off).then_some(ChecksumAlgorithm::Crc32);
        let call = self.client.create_multipart_upload().bucket(&self.site.bucket).key(self.full_key(key)?);
        let (mode, until) = self.lock_of(key);
        let call = call.set_object_lock_mode(mode).set_object_lock_retain_until_date(until);
        let call = call.set_checksum_algorithm(algorithm).customize().interceptor(request.watcher());
        let output = self.send(&request, call.send()).await?;
        output.upload_id.ok_or_else(|| self.site.broken(&request, "no upload id came".to_owned()))
    }

    async fn put_parts(
        &self,
        key: &ObjectKey,
        upload: &str,
        mut body: Bytes,
        condition: Option<&str>,
    ) -> Result<(), Error> {
        let mut parts = Vec::with_capacity(body.len().div_ceil(PART_BYTES));
        while !body.is_empty() {
            let part = body.split_to(body.len().min(PART_BYTES));
            let number = i32::try_from(parts.len() + 1).expect("S3 refuses the part after 10,000");
            parts.push(self.put_part(key, upload, number, part).await?);
        }
        let request = self.request("put", Some(key));
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let call = self.client.complete_multipart_upload().bucket(&self.site.bucket).key(self.full_key(key)?);
        let call = call.upload_id(upload).multipart_upload(parts).set_if_none_match(condition.map(str::to_owned));
        self.send(&request, call.customize().interceptor(request.watcher()).send()).await.map(drop)
    }

    async fn put_part(&self, key: &ObjectKey, upload: &str, number: i32, body: Bytes) -> Result<CompletedPart, Error> {
        let request = self.request("put", Some(key));
        let call = self.client.upload_part().bucket(&self.site.bucket).key(self.full_key(key)?);
        let call = call.upload_id(upload).part_number(number).body(ByteStream::from(body));
        let mut call = call.customize().interceptor(request.watcher());
        if self.encrypted {
            call = call.disable_payload_signing();
        }
        let output = self.send(&request, call.send()).await?;
        self.check_stored(&request, output.checksum_crc32())?;
        let part = CompletedPart::builder().part_number(number).set_e_tag(output.e_tag.clone());
        Ok(part.set_checksum_crc32(output.checksum_crc32).build())
    }

    /// Removes the parts of a failed upload; what it returns is still why it failed.
    async fn abandon(&self, key: &ObjectKey, upload: &str, why: Error) -> Error {
        let request = self.request("put", Some(key));
        let Ok(full_key) = self.full_key(key) else { return why };
        let call = self.client.abort_multipart_upload().bucket(&self.site.bucket).key(full_key).upload_id(upload);
        match (self.send(&request, call.customize().interceptor(request.watcher()).send()).await, why) {
            (Err(again), Error::Failed { operation, key, class, reason, hint, source }) if !again.is_not_found() => {
                let reason = format!("{reason}; the parts of upload {upload} stay in the bucket ({again})");
                Error::Failed { operation, key, class, reason, hint, source }
            }
            (_, why) => why,
        }
    }

    /// Compares the checksum that the store confirms with what was sent.
    fn check_stored(&self, request: &Request<'_>, confirmed: Option<&str>) -> Result<(), Error> {
        let sent = request.exchange.seen().crc32;
        match (sent.as_deref(), confirmed) {
            (Some(sent), Some(confirmed)) if sent != confirmed => {
                Err(self.site.broken(request, format!("the store confirms checksum {confirmed} for {sent}")))
            }
            (_, None) if self.checksums == Checksums::Required => Err(self.site.unchecked(request)),
            _ => Ok(()),
        }
    }
}
