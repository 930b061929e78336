//! The stream under a session: it carries the protocol for the client library, and the rows of a COPY past it.
//!
//! The library hands out each row of `COPY … TO STDOUT` as a reference-counted piece of its own, through two queues and a
//! task; for millions of short rows that costs more than the rows. So while a COPY runs, the library's task is kept from
//! reading, and whoever wants the rows reads the socket itself, many rows at a time. Messages of every other kind go to
//! the library as they came, and in their order. Back-pressure is TCP's: what nobody asks for is not read.
//!
//! Must not know what the rows mean. Message formats: PostgreSQL manual, "Frontend/Backend Protocol".

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A message begins with its tag and its length; the length counts itself, not the tag.
const HEADER_BYTES: usize = 5;

/// No message is shorter.
const MIN_LENGTH: usize = 4;

/// What is read at once while a COPY runs; larger reads no longer fit the processor's second cache.
const COPY_READ_BYTES: usize = 256 << 10;

/// What is read at once of other messages.
const READ_BYTES: usize = 8 << 10;

/// Rows as they came, each in its message.
#[derive(Debug)]
pub struct Rows(BytesMut);

impl Rows {
    /// How much there is, headers included.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    /// The rows, each with its line end.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest: &[u8] = &self.0;
        std::iter::from_fn(move || {
            let (_, length) = header(rest)?;
            let (message, after) = rest.split_at(1 + length);
            rest = after;
            Some(&message[HEADER_BYTES..])
        })
    }
}

/// What comes next of a COPY.
#[derive(Debug)]
pub enum Copied {
    /// More of it.
    Rows(Rows),
    /// All has come, this many rows by the server's count.
    End(u64),
    /// The server gave up, or the connection broke: the library's stream of this COPY says why.
    Broken,
}

/// The other end of a [`Wire`]: gives the rows of the COPY that the library has started.
pub(super) trait CopySource: Send + Sync {
    /// The next rows. Must not be called before the library has seen that the COPY begins.
    fn poll_copied(&self, cx: &mut Context<'_>) -> Poll<Copied>;
}

/// Where a session's source of rows is found once it is connected: the outermost stream that carries plain messages.
pub(super) type Tap = Arc<Mutex<Option<Arc<dyn CopySource>>>>;

/// A stream that the library reads and writes.
pub(super) struct Wire<S>(Arc<Mutex<Core<S>>>);

#[derive(Debug)]
enum Phase {
    /// Nothing came yet: the first byte may be the answer to a request for TLS, which is no message.
    Begin,
    /// TLS runs over this stream: there are no messages to see.
    Opaque,
    /// The library reads.
    Messages,
    /// A COPY runs: its reader reads.
    Copy,
}

struct Core<S> {
    stream: S,
    phase: Phase,
    /// Read, and not yet given to anybody.
    buffer: BytesMut,
    /// Bytes of the current message that the library still has to get.
    due: usize,
    /// The current message announces a COPY.
    announces_copy: bool,
    /// Messages that came in the middle of a COPY and are not about it.
    aside: BytesMut,
    /// What reading came to, for the library.
    failure: Option<io::Error>,
    library: Option<Waker>,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Wire<S> {
    /// Takes a stream of which nothing was read; `tap` gives its rows from now on.
    pub(super) fn new(stream: S, tap: &Tap) -> Self {
        let core = Core {
            stream,
            phase: Phase::Begin,
            buffer: BytesMut::new(),
            due: 0,
            announces_copy: false,
            aside: BytesMut::new(),
            failure: None,
            library: None,
        };
        let shared = Arc::new(Mutex::new(core));
        *tap.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&shared) as Arc<dyn CopySource>);
        Self(shared)
    }

    /// Leaves all bytes alone from now on: another stream runs over this one.
    pub(super) fn make_opaque(&self) {
        self.core().phase = Phase::Opaque;
    }
}

impl<S> Wire<S> {
    fn core(&self) -> MutexGuard<'_, Core<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tag and length of the message at the front.
fn header(bytes: &[u8]) -> Option<(u8, usize)> {
    let header = bytes.first_chunk::<HEADER_BYTES>()?;
    let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
    Some((header[0], length as usize))
}

/// The number at the end of the command tag of `COPY` (manual, `CommandComplete`).
fn count(message: &[u8]) -> Option<u64> {
    let tag = std::str::from_utf8(message.strip_suffix(&[0])?).ok()?;
    tag.strip_prefix("COPY ")?.parse().ok()
}

impl<S: AsyncRead + Unpin> Core<S> {
    /// Reads more; false at the end of the stream.
    fn poll_fill(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<io::Result<bool>> {
        self.buffer.reserve(bytes);
        let read = ready!(tokio_util::io::poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.buffer))?;
        Poll::Ready(Ok(read != 0))
    }

    /// Gives the library what is its own, up to the beginning of a COPY.
    fn poll_messages(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        loop {
            if let Some(failure) = self.failure.take() {
                return Poll::Ready(Err(failure));
            }
            self.hand_out(out);
            if before < out.filled().len() {
                return Poll::Ready(Ok(()));
            }
            if matches!(self.phase, Phase::Copy) {
                self.library = Some(cx.waker().clone());
                return Poll::Pending;
            }
            if !ready!(self.poll_fill(cx, READ_BYTES))? {
                // The end, perhaps within a header: the library knows what that means.
                let rest = self.buffer.len().min(out.remaining());
                out.put_slice(&self.buffer.split_to(rest));
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn hand_out(&mut self, out: &mut ReadBuf<'_>) {
        let aside = self.aside.len().min(out.remaining());
        out.put_slice(&self.aside.split_to(aside));
        while 0 < out.remaining() && !matches!(self.phase, Phase::Copy) {
            if self.due == 0 && !self.begin_message() {
                return;
            }
            let bytes = self.due.min(self.buffer.len()).min(out.remaining());
            if bytes == 0 {
                return;
            }
            out.put_slice(&self.buffer[..bytes]);
            self.buffer.advance(bytes);
            self.due -= bytes;
            if self.due == 0 && self.announces_copy {
                self.announces_copy = false;
                self.phase = Phase::Copy;
            }
        }
    }

    /// Looks at the next message, if its header is here.
    fn begin_message(&mut self) -> bool {
        match self.phase {
            Phase::Opaque => self.due = self.buffer.len(),
            // No session begins with a notice or a parameter: these are the two answers to a request for TLS.
            Phase::Begin if matches!(self.buffer.first(), Some(b'S' | b'N')) => {
                self.due = 1;
                self.phase = Phase::Messages;
            }
            _ => {
                let Some((tag, length)) = header(&self.buffer) else { return false };
                self.phase = Phase::Messages;
                self.due = 1 + length;
                self.announces_copy = tag == b'H';
            }
        }
        0 < self.due
    }

    fn poll_copied(&mut self, cx: &mut Context<'_>) -> Poll<Copied> {
        loop {
            let rows = self.whole_rows();
            if 0 < rows {
                return Poll::Ready(Copied::Rows(self.take_rows(rows)));
            }
            if self.set_aside() {
                continue;
            }
            if let Some(end) = self.end_of_copy() {
                self.phase = Phase::Messages;
                self.wake_library();
                return Poll::Ready(end);
            }
            // A giant row takes memory as it comes, not as it is announced.
            let filled = ready!(self.poll_fill(cx, COPY_READ_BYTES.max(self.buffer.len())));
            if !matches!(filled, Ok(true)) {
                self.failure = filled.err();
                self.phase = Phase::Messages;
                self.wake_library();
                return Poll::Ready(Copied::Broken);
            }
        }
    }

    fn take_rows(&mut self, bytes: usize) -> Rows {
        let rows = self.buffer.split_to(bytes);
        if COPY_READ_BYTES < bytes {
            // The buffer of a giant row goes with it.
            self.buffer = BytesMut::from(&self.buffer[..]);
        }
        Rows(rows)
    }

    /// How many bytes at the front are whole messages with rows.
    fn whole_rows(&self) -> usize {
        let mut end = 0;
        while let Some((b'd', length)) = header(&self.buffer[end..]) {
            if length < MIN_LENGTH || self.buffer.len() - end < 1 + length {
                break;
            }
            end += 1 + length;
        }
        end
    }

    /// Puts a message at the front aside if it is not about the COPY: notices, parameters and notifications come at any time.
    fn set_aside(&mut self) -> bool {
        match self.message_at(0) {
            Some((b'N' | b'S' | b'A', message)) => {
                let message = self.buffer.split_to(message.end);
                self.aside.extend_from_slice(&message);
                self.wake_library();
                true
            }
            _ => false,
        }
    }

    /// What the message at the front means for the COPY, if it is no row and all of it is here.
    fn end_of_copy(&self) -> Option<Copied> {
        let (tag, length) = header(&self.buffer)?;
        match tag {
            _ if length < MIN_LENGTH => Some(Copied::Broken),
            b'd' | b'N' | b'S' | b'A' => None,
            b'c' => {
                let (_, done) = self.message_at(0)?;
                let (tag, complete) = self.message_at(done.end)?;
                let counted = if tag == b'C' { count(&self.buffer[complete]) } else { None };
                Some(counted.map_or(Copied::Broken, Copied::End))
            }
            _ => Some(Copied::Broken),
        }
    }

    /// The message that begins at `at`, without its header.
    fn message_at(&self, at: usize) -> Option<(u8, Range<usize>)> {
        let (tag, length) = header(self.buffer.get(at..)?)?;
        let end = at + 1 + length;
        (MIN_LENGTH <= length && end <= self.buffer.len()).then_some((tag, at + HEADER_BYTES..end))
    }

    fn wake_library(&mut self) {
        if let Some(library) = self.library.take() {
            library.wake();
        }
    }
}

impl<S: AsyncRead + Send + Unpin> CopySource for Mutex<Core<S>> {
    fn poll_copied(&self, cx: &mut Context<'_>) -> Poll<Copied> {
        self.lock().unwrap_or_else(PoisonError::into_inner).poll_copied(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.core().poll_messages(cx, out)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.core().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.core().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.core().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + MIN_LENGTH).expect("short");
        [&[tag][..], &length.to_be_bytes(), body].concat()
    }

    fn begun() -> (DuplexStream, Wire<DuplexStream>, Arc<dyn CopySource>) {
        let (server, ours) = tokio::io::duplex(1 << 20);
        let tap = Tap::default();
        let wire = Wire::new(ours, &tap);
        let source = tap.lock().expect("lock").take().expect("left by the wire");
        (server, wire, source)
    }

    async fn copied(source: &Arc<dyn CopySource>) -> (Vec<Vec<u8>>, Copied) {
        let mut found = Vec::new();
        loop {
            match std::future::poll_fn(|context| source.poll_copied(context)).await {
                Copied::Rows(rows) => found.extend(rows.iter().map(<[u8]>::to_vec)),
                end => return (found, end),
            }
        }
    }

    async fn read(wire: &mut Wire<DuplexStream>, bytes: usize) -> Vec<u8> {
        let mut read = vec![0; bytes];
        wire.read_exact(&mut read).await.expect("read");
        read
    }

    /// Sends `parts` in two pieces cut at `at`; gives the rows and checks that the library got everything else, in order.
    async fn check_split(parts: &[Vec<u8>], at: usize) -> Vec<Vec<u8>> {
        let (mut server, mut wire, source) = begun();
        let all = parts.concat();
        let library: Vec<u8> = parts.iter().filter(|part| part[0] != b'd').flatten().copied().collect();
        let announced = parts.iter().position(|part| part[0] == b'H').expect("a COPY");
        let before: usize = parts[..=announced].iter().map(Vec::len).sum();
        let send = async {
            server.write_all(&all[..at]).await.expect("send");
            tokio::task::yield_now().await;
            server.write_all(&all[at..]).await.expect("send");
        };
        let receive = async {
            let mut got = read(&mut wire, before).await;
            let (rows, end) = copied(&source).await;
            assert!(matches!(end, Copied::End(3)), "{end:?}");
            got.extend(read(&mut wire, library.len() - before).await);
            assert_eq!(got, library);
            rows
        };
        let ((), rows) = tokio::join!(send, receive);
        rows
    }

    #[tokio::test]
    async fn rows_go_past_the_library_and_all_else_reaches_it_however_the_bytes_come() {
        let parts = [
            message(b'R', &[0, 0, 0, 0]),
            message(b'Z', b"I"),
            message(b'H', &[0, 0, 1, 0, 0]),
            message(b'd', b"one\n"),
            message(b'N', b"SNOTICE\0\0"),
            message(b'd', b""),
            message(b'd', &[b'x'; 300]),
            message(b'c', b""),
            message(b'C', b"COPY 3\0"),
            message(b'Z', b"I"),
        ];
        for at in 0..parts.concat().len() {
            let rows = check_split(&parts, at).await;
            assert_eq!(rows, [b"one\n".to_vec(), Vec::new(), vec![b'x'; 300]], "cut at {at}");
        }
    }

    #[tokio::test]
    async fn the_answer_to_a_request_for_tls_is_no_message() {
        let (mut server, mut wire, _) = begun();
        let sent = [b"N".to_vec(), message(b'R', &[0, 0, 0, 0])].concat();
        server.write_all(&sent).await.expect("send");
        assert_eq!(read(&mut wire, sent.len()).await, sent);
    }

    #[tokio::test]
    async fn what_ends_a_copy_otherwise_is_broken_and_the_library_gets_the_reason() {
        let error = message(b'E', b"SERROR\0\0");
        let without_a_count = [message(b'c', b""), message(b'C', b"OK\0")].concat();
        let error_at_the_end = [message(b'c', b""), error.clone()].concat();
        let no_message = [b'd', 0, 0, 0, 1].to_vec();
        for ending in [error, without_a_count, error_at_the_end, no_message] {
            let (mut server, mut wire, source) = begun();
            let begin = [message(b'R', b"    "), message(b'H', b"")].concat();
            server.write_all(&[begin.clone(), message(b'd', b"row\n"), ending.clone()].concat()).await.expect("send");
            read(&mut wire, begin.len()).await;
            let (rows, end) = copied(&source).await;
            assert_eq!(rows, [b"row\n"]);
            assert!(matches!(end, Copied::Broken), "{end:?}");
            drop(server);
            let mut left = Vec::new();
            wire.read_to_end(&mut left).await.expect("read");
            assert_eq!(left, ending);
        }
    }

    #[tokio::test]
    async fn a_connection_that_ends_within_a_row_is_broken() {
        let (mut server, mut wire, source) = begun();
        let begin = [message(b'R', b"    "), message(b'H', b"")].concat();
        server.write_all(&begin).await.expect("send");
        server.write_all(&message(b'd', b"half a row\n")[..9]).await.expect("send");
        drop(server);
        read(&mut wire, begin.len()).await;
        let (rows, end) = copied(&source).await;
        assert!(rows.is_empty() && matches!(end, Copied::Broken), "{end:?}");
    }
}
