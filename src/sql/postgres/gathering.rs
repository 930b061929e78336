//! A TCP connection that is left alone for a moment while much comes: what a server sends in small pieces is read in large ones.
//!
//! PostgreSQL sends 8 KiB at a time (`PQ_SEND_BUFFER_SIZE`, src/backend/libpq/pqcomm.c). To be woken for each of them costs
//! both sides more than the bytes do, and a reader that merely waits a little is woken all the same: its socket is among
//! those that the runtime watches. So the socket is taken from there, and put back a millisecond later. What comes
//! meanwhile is in the buffers of the two sockets.
//!
//! Short answers never wait: this begins only after [`LONG_BYTES`] without a word of ours in between.

use std::io;
use std::net;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// An answer that is longer than this may be gathered.
const LONG_BYTES: usize = 1 << 20;

/// A read that gives less than this was too early.
const SHORT_READ_BYTES: usize = 64 << 10;

/// How long the connection is left alone. A backend writes 100 to 300 KiB meanwhile, which loopback and any fast network
/// have room for; over a slow one it is less than a round trip.
const PAUSE: Duration = Duration::from_millis(1);

/// A connection that gathers what it reads.
pub(super) struct Gathering {
    stream: Watched,
    /// Bytes that came since we last wrote.
    answered: usize,
    /// The reader's, whose waker it holds: it runs to its end whatever happens to the stream.
    pause: Option<Pin<Box<Sleep>>>,
}

enum Watched {
    Yes(TcpStream),
    /// Nobody is told what happens to it.
    No(net::TcpStream),
    /// The runtime would not take it back.
    Lost,
}

impl Gathering {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream: Watched::Yes(stream), answered: 0, pause: None }
    }

    /// The stream, watched from now on.
    fn watched(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        if !matches!(self.stream, Watched::Yes(_)) {
            let Watched::No(stream) = std::mem::replace(&mut self.stream, Watched::Lost) else {
                return Err(io::ErrorKind::NotConnected.into());
            };
            self.stream = Watched::Yes(TcpStream::from_std(stream)?);
        }
        match &mut self.stream {
            Watched::Yes(stream) => Ok(Pin::new(stream)),
            Watched::No(_) | Watched::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Leaves the stream alone for a moment.
    fn rest(&mut self) -> io::Result<()> {
        if let Watched::Yes(stream) = std::mem::replace(&mut self.stream, Watched::Lost) {
            self.stream = Watched::No(stream.into_std()?);
            self.pause = Some(Box::pin(sleep(PAUSE)));
        }
        Ok(())
    }
}

impl AsyncRead for Gathering {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let before = out.filled().len();
        ready!(self.watched()?.poll_read(cx, out))?;
        let read = out.filled().len() - before;
        self.answered = self.answered.saturating_add(read);
        // Nothing is the end of the stream, and a full buffer says that there is more.
        if LONG_BYTES < self.answered && 0 < read && read < SHORT_READ_BYTES && 0 < out.remaining() {
            self.rest()?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Gathering {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.answered = 0;
        self.watched()?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Watched::Yes(stream) => Pin::new(stream).poll_flush(cx),
            // What was written is with the system already.
            Watched::No(_) | Watched::Lost => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watched()?.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const PIECE: usize = 8 << 10;
    const PIECES: usize = 2_000;

    /// A connection to a thread that does `work` at the other end.
    async fn connected(work: impl FnOnce(net::TcpStream) + Send + 'static) -> Gathering {
        let listener = net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("bound");
        std::thread::spawn(move || work(listener.accept().expect("accept").0));
        Gathering::new(TcpStream::connect(address).await.expect("connect"))
    }

    fn send_slowly(server: &mut net::TcpStream) {
        for number in 0..PIECES {
            server.write_all(&[u8::try_from(number % 251).expect("small"); PIECE]).expect("send");
            std::thread::sleep(Duration::from_micros(20));
        }
    }

    #[tokio::test]
    async fn a_long_answer_comes_whole_and_in_few_reads_and_a_short_one_after_it_at_once() {
        let stream = connected(|mut server| {
            send_slowly(&mut server);
            server.write_all(b"end").expect("send");
            let mut question = [0; 1];
            server.read_exact(&mut question).expect("a question");
            server.write_all(&question).expect("send");
        });
        let mut stream = stream.await;
        let (mut all, mut reads) = (Vec::with_capacity(PIECE * PIECES + PIECE), 0);
        while all.len() < PIECE * PIECES + 3 {
            all.reserve(256 << 10);
            assert_ne!(stream.read_buf(&mut all).await.expect("read"), 0);
            reads += 1;
        }
        let expected = (0..PIECE * PIECES).map(|at| u8::try_from(at / PIECE % 251).expect("small"));
        assert!(all.iter().copied().eq(expected.chain(*b"end")));
        assert!(reads < PIECES / 4, "{reads} reads of {PIECES} pieces");
        stream.write_all(b"?").await.expect("send");
        assert_eq!(stream.read_u8().await.expect("read"), b'?');
        assert!(matches!(stream.stream, Watched::Yes(_)), "nothing is gathered of a short answer");
        assert_eq!(stream.read(&mut [0; 1]).await.expect("the end"), 0);
    }

    #[tokio::test]
    async fn a_question_in_the_middle_of_an_answer_loses_nothing_of_it() {
        let stream = connected(|mut server| {
            send_slowly(&mut server);
            let mut questions = Vec::new();
            server.read_to_end(&mut questions).expect("the questions");
            assert_eq!(questions.len(), PIECES);
        });
        let (mut read, mut write) = tokio::io::split(stream.await);
        let ask = async {
            for _ in 0..PIECES {
                write.write_all(b"?").await.expect("send");
                tokio::task::yield_now().await;
            }
        };
        let hear = async {
            let mut left = PIECE * PIECES;
            while 0 < left {
                left -= read.read(&mut vec![0; left.min(256 << 10)]).await.expect("read");
            }
        };
        let both = async { tokio::join!(ask, hear) };
        tokio::time::timeout(Duration::from_secs(20), both).await.expect("it comes to an end");
        write.shutdown().await.expect("the end");
    }
}
