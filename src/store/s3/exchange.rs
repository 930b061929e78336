//! What is seen of one HTTP request while the S3 client makes it.
//!
//! Promises to tell when bytes last moved in either direction, and the two clocks. An interceptor of the client feeds it:
//! the body of the request goes out in frames of [`FRAME_BYTES`], each of which is a sign of life.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextMut,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

/// The most bytes of a request that go out as one sign of life. Slices of the caller's buffer: nothing is copied.
const FRAME_BYTES: usize = 128 * 1024;

/// One HTTP request, as it is seen.
#[derive(Debug)]
pub(super) struct Exchange(Mutex<Seen>);

/// Facts of an exchange, as far as it went.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// When bytes last moved.
    pub(super) moved_at: Instant,
    /// Our clock when the request was signed, in the form of the signature.
    pub(super) signed_at: Option<String>,
    /// The CRC-32 that was sent.
    pub(super) crc32: Option<String>,
    /// The store's clock.
    pub(super) answered_at: Option<DateTime<Utc>>,
}

impl Exchange {
    /// A request that begins now.
    pub(super) fn begin() -> Arc<Self> {
        let seen = Seen { moved_at: Instant::now(), signed_at: None, crc32: None, answered_at: None };
        Arc::new(Self(Mutex::new(seen)))
    }

    /// What was seen so far.
    pub(super) fn seen(&self) -> Seen {
        self.lock().clone()
    }

    /// Notes that bytes moved.
    pub(super) fn moved(&self) {
        self.lock().moved_at = Instant::now();
    }

    /// Returns when no byte has moved for `limit`.
    pub(super) async fn stalled(&self, limit: Duration) {
        loop {
            let moved_at = self.lock().moved_at;
            if limit <= moved_at.elapsed() {
                return;
            }
            tokio::time::sleep_until(moved_at + limit).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The interceptor that feeds an exchange.
#[derive(Debug)]
pub(super) struct Watcher(pub(super) Arc<Exchange>);

#[dyn_dispatch_hint]
impl Intercept for Watcher {
    fn name(&self) -> &'static str {
        "Watcher"
    }

    /// Runs after checksum and signature: the bytes stay what was signed, only their frames change.
    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        let header = |name| request.headers().get(name).map(str::to_owned);
        let (signed_at, crc32) = (header("x-amz-date"), header("x-amz-checksum-crc32"));
        {
            let mut seen = self.0.lock();
            seen.signed_at = signed_at;
            seen.crc32 = crc32;
        }
        let body = std::mem::replace(request.body_mut(), SdkBody::taken());
        let exchange = Arc::clone(&self.0);
        // The contents are kept in view: other interceptors take a body without them for a stream, and chunk it.
        *request.body_mut() = body.map_preserve_contents(move |inner| {
            SdkBody::from_body_1_x(Outgoing { inner, rest: Bytes::new(), exchange: Arc::clone(&exchange) })
        });
        Ok(())
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        let answered_at = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok());
        let mut seen = self.0.lock();
        seen.moved_at = Instant::now();
        seen.answered_at = answered_at.map(|at| at.to_utc());
        Ok(())
    }
}

/// A request's body on its way out, frame by frame.
struct Outgoing {
    inner: SdkBody,
    rest: Bytes,
    exchange: Arc<Exchange>,
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = aws_smithy_types::body::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => self.rest = bytes,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        self.exchange.moved();
        let length = self.rest.len().min(FRAME_BYTES);
        let frame = self.rest.split_to(length);
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let inner = self.inner.size_hint();
        let rest = self.rest.len() as u64;
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}
