//! The S3 client's errors in the store's words.
//!
//! Promises a class, the store's own words, and what to change where that is known. What a refusal means is decided in
//! `refusal`, why there was no answer in `unreachable`.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::base::class::Class;
use crate::store::s3::Request;
use crate::store::s3::refusal::{Refusal, Verdict};
use crate::store::s3::unreachable;
use crate::store::{Error, ObjectKey};

/// An error of one operation of the S3 client.
pub(super) trait Words: ProvideErrorMetadata + StdError + Send + Sync + 'static {}

impl<E: ProvideErrorMetadata + StdError + Send + Sync + 'static> Words for E {}

/// Where the objects are, as far as messages need it.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub(super) bucket: String,
    /// Empty, or ending in `/`.
    pub(super) prefix: String,
    pub(super) endpoint: Option<String>,
    pub(super) region: String,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.prefix.trim_end_matches('/'))?;
        match &self.endpoint {
            Some(endpoint) => write!(f, " at {endpoint}"),
            None => write!(f, " in {}", self.region),
        }
    }
}

impl Site {
    /// The service, for messages.
    pub(super) fn service(&self) -> String {
        self.endpoint.clone().unwrap_or_else(|| format!("AWS S3 in {}", self.region))
    }

    /// The store's error for an error of the client.
    pub(super) fn explain<E: Words>(&self, request: &Request<'_>, error: SdkError<E>) -> Error {
        match error {
            SdkError::ServiceError(context) => {
                let refusal = Refusal::read(context.raw(), context.err().code(), context.err().message());
                self.refused(request, refusal)
            }
            SdkError::ResponseError(context) => {
                let refusal = Refusal::read(context.raw(), None, None);
                if refusal.is_error() {
                    return self.refused(request, refusal);
                }
                let words = unreachable::words(&SdkError::<E>::ResponseError(context));
                failed(request, Verdict::new(Class::Transient, format!("the answer cannot be read: {words}")), None)
            }
            error => failed(request, unreachable::judge(self, &error), None),
        }
    }

    fn refused(&self, request: &Request<'_>, refusal: Refusal) -> Error {
        if let Some(key) = request.key {
            if refusal.says_not_found(request.operation) {
                return Error::NotFound { key: key.clone() };
            }
            if refusal.says_exists() {
                return Error::Exists { key: key.clone() };
            }
        }
        let verdict = refusal.judge(self, &request.exchange.seen());
        failed(request, verdict, Some(refusal))
    }

    /// The error of a body that broke off or is not what its checksum says.
    pub(super) fn explain_body(&self, request: &Request<'_>, error: &(dyn StdError + 'static)) -> Error {
        let words = unreachable::words(error);
        let class = if words.contains("checksum mismatch") { Class::Corrupt } else { Class::Transient };
        failed(request, Verdict::new(class, format!("the body broke off: {words}")), None)
    }

    /// The error where no byte moved.
    pub(super) fn stalled(&self, request: &Request<'_>, limit: Duration) -> Error {
        let reason = format!("{} gave no sign of life for {limit:?}", self.service());
        let hint = "check that the endpoint is right and that no firewall swallows its packets";
        failed(request, Verdict::new(Class::Stalled, reason).with_hint(hint), None)
    }

    /// The error where bytes moved, but too few.
    pub(super) fn too_slow(&self, request: &Request<'_>, limit: Duration) -> Error {
        failed(request, Verdict::new(Class::Transient, format!("the request took longer than {limit:?}")), None)
    }

    /// The error where the answer does not fit the question.
    pub(super) fn broken(&self, request: &Request<'_>, reason: String) -> Error {
        failed(request, Verdict::new(Class::Transient, reason), None)
    }

    /// The error where a checksum was demanded and none came.
    pub(super) fn unchecked(&self, request: &Request<'_>) -> Error {
        let reason = format!("{} gives no checksum, and checksums are required", self.service());
        let hint = "set checksums = \"auto\" in [repository]";
        failed(request, Verdict::new(Class::Store, reason).with_hint(hint), None)
    }

    /// The error of the first object that could not be deleted, if there is one.
    pub(super) fn explain_deletions<'a>(
        &self,
        failures: impl Iterator<Item = &'a aws_sdk_s3::types::Error>,
        keys: &[ObjectKey],
    ) -> Result<(), Error> {
        let failures: Vec<_> = failures.collect();
        let Some(first) = failures.first() else { return Ok(()) };
        let refusal = Refusal::of_one_key(first.code(), first.message());
        let mut verdict = refusal.judge_code(self);
        if 1 < failures.len() {
            verdict.reason = format!("{} (and {} more)", verdict.reason, failures.len() - 1);
        }
        let key = first.key().and_then(|full| full.strip_prefix(self.prefix.as_str()));
        let key = key.and_then(|key| keys.iter().find(|asked| asked.as_str() == key)).cloned();
        Err(Error::Failed {
            operation: "delete",
            key,
            class: verdict.class,
            reason: verdict.reason,
            hint: verdict.hint,
            source: Some(Box::new(refusal)),
        })
    }
}

fn failed(request: &Request<'_>, verdict: Verdict, refusal: Option<Refusal>) -> Error {
    Error::Failed {
        operation: request.operation,
        key: request.key.cloned(),
        class: verdict.class,
        reason: verdict.reason,
        hint: verdict.hint,
        source: refusal.map(|refusal| Box::new(refusal) as _),
    }
}

fn refusal(error: &Error) -> Option<&Refusal> {
    StdError::source(error)?.downcast_ref()
}

/// True where the store does not know what was asked of it (a conditional put).
pub(super) fn is_not_implemented(error: &Error) -> bool {
    refusal(error).is_some_and(|refusal| refusal.status == 501 || refusal.code() == "NotImplemented")
}

/// True where the store answers with this code.
pub(super) fn says(error: &Error, code: &str) -> bool {
    refusal(error).is_some_and(|refusal| refusal.code() == code)
}

/// True where a range begins after the end of the object.
pub(super) fn is_beyond_end(error: &Error) -> bool {
    refusal(error).is_some_and(|refusal| refusal.status == 416)
}

/// True where the store has no deletion of many objects, or demands a checksum for it that is no longer made (MD5).
pub(super) fn lacks_batch_delete(error: &Error) -> bool {
    let lacks = |refusal: &Refusal| {
        matches!(refusal.status, 405 | 501)
            || matches!(refusal.code(), "NotImplemented" | "MethodNotAllowed" | "MissingContentMD5")
            || (refusal.status == 400 && refusal.message.contains("Content-MD5"))
    };
    refusal(error).is_some_and(lacks)
}

/// True where `given` (a `Content-Range`) and the length are what bytes `offset` to `last` of any object can give.
pub(super) fn is_range(given: &str, offset: u64, last: u64, length: Option<u64>) -> bool {
    let parsed = || {
        let (range, total) = given.strip_prefix("bytes ")?.split_once('/')?;
        let (first, end) = range.split_once('-')?;
        let total = if total == "*" { u64::MAX } else { total.parse().ok()? };
        Some((first.parse::<u64>().ok()?, end.parse::<u64>().ok()?, total))
    };
    let Some((first, end, total)) = parsed() else { return false };
    let whole = first == offset && (end == last.min(total.saturating_sub(1)) || (total == u64::MAX && end <= last));
    whole && length == Some(end - first + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_range(given: &str, length: u64, expected: bool) {
        assert_eq!(is_range(given, 10, 19, Some(length)), expected, "{given}");
    }

    #[test]
    fn a_range_is_only_taken_if_it_is_the_one_that_was_asked() {
        check_range("bytes 10-19/100", 10, true);
        check_range("bytes 10-14/15", 5, true);
        check_range("bytes 10-19/*", 10, true);
        check_range("bytes 10-14/100", 5, false);
        check_range("bytes 0-9/100", 10, false);
        check_range("bytes 10-19/100", 9, false);
        check_range("no range", 100, false);
    }
}
