//! Whether a service compares checksums, tried with a wrong one.

use aws_sdk_s3::primitives::ByteStream;

use crate::store::ObjectKey;
use crate::store::s3::S3Store;

/// The CRC32 of other bytes than those that are sent.
const WRONG: &str = "AAAAAA==";

impl S3Store {
    /// True if the service refuses an object under `key` whose checksum is not that of its bytes.
    pub async fn refuses_wrong_checksum(&self, key: &ObjectKey) -> bool {
        let Ok(full) = self.full_key(key) else { return false };
        let request = self.request("put", Some(key));
        let call = self.client.put_object().bucket(&self.site.bucket).key(full).checksum_crc32(WRONG);
        let call = call.body(ByteStream::from_static(b"these bytes have another checksum"));
        self.send(&request, call.customize().interceptor(request.watcher()).send()).await.is_err()
    }
}
