//! A TCP proxy of the tests' own: it cuts, stalls and slows what passes, in either direction, at a byte of the test's choice.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Never, as a number of bytes.
const NEVER: u64 = u64::MAX;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the server.
    Up = 0,
    /// To the client.
    Down = 1,
}

/// Stands before a server.
pub struct Proxy {
    pub port: u16,
    rules: Arc<Rules>,
}

struct Rules {
    /// Bytes that have passed, by way, over all connections.
    passed: [AtomicU64; 2],
    /// At which of them the connection is cut; once.
    cut_at: [AtomicU64; 2],
    /// At which of them everything stands still.
    stall_at: [AtomicU64; 2],
    stalled: AtomicBool,
    refusing: AtomicBool,
    /// For each connection and way; 0 without a bound.
    bytes_per_second: AtomicU64,
    cuts: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// Before the server at `127.0.0.1:port`.
    pub fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let rules = Arc::new(Rules {
            passed: Default::default(),
            cut_at: [AtomicU64::new(NEVER), AtomicU64::new(NEVER)],
            stall_at: [AtomicU64::new(NEVER), AtomicU64::new(NEVER)],
            stalled: AtomicBool::new(false),
            refusing: AtomicBool::new(false),
            bytes_per_second: AtomicU64::new(0),
            cuts: AtomicU64::new(0),
            open: Mutex::default(),
        });
        let shared = Arc::clone(&rules);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.refusing.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(upstream) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                shared.join(client, upstream);
            }
        });
        Self { port, rules }
    }

    /// Before a server whose endpoint is `http://127.0.0.1:port`.
    pub fn before_endpoint(endpoint: &str) -> Self {
        let port = endpoint.rsplit(':').next().and_then(|port| port.parse().ok());
        Self::before(port.expect("an endpoint ends in a port"))
    }

    /// The endpoint that it makes of an S3 server.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Bytes that have passed so far.
    pub fn passed(&self, way: Way) -> u64 {
        self.rules.passed[way as usize].load(Ordering::SeqCst)
    }

    /// Cuts the connection whose byte is the one after so many more; once.
    pub fn cut_after(&self, way: Way, bytes: u64) {
        self.rules.cut_at[way as usize].store(self.passed(way) + bytes, Ordering::SeqCst);
    }

    /// How many connections were cut.
    pub fn cuts(&self) -> u64 {
        self.rules.cuts.load(Ordering::SeqCst)
    }

    /// Stands still after so many more bytes: nothing passes any more, and nothing is closed.
    pub fn stall_after(&self, way: Way, bytes: u64) {
        self.rules.stall_at[way as usize].store(self.passed(way) + bytes, Ordering::SeqCst);
    }

    pub fn is_stalled(&self) -> bool {
        self.rules.stalled.load(Ordering::SeqCst)
    }

    /// Passes at most so many bytes a second, on each connection and way.
    pub fn slow_to(&self, bytes_per_second: u64) {
        self.rules.bytes_per_second.store(bytes_per_second, Ordering::SeqCst);
    }

    /// Cuts what is open, and lets nobody in.
    pub fn go_away(&self) {
        self.rules.refusing.store(true, Ordering::SeqCst);
        self.cut_all();
    }

    /// Cuts what is open now.
    pub fn cut_all(&self) {
        for stream in self.rules.open.lock().expect("no panic").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
            self.rules.cuts.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Passes everything on again.
    pub fn behave(&self) {
        let rules = &self.rules;
        for limit in rules.cut_at.iter().chain(&rules.stall_at) {
            limit.store(NEVER, Ordering::SeqCst);
        }
        rules.bytes_per_second.store(0, Ordering::SeqCst);
        rules.refusing.store(false, Ordering::SeqCst);
        rules.stalled.store(false, Ordering::SeqCst);
    }
}

impl Rules {
    fn join(self: &Arc<Self>, client: TcpStream, server: TcpStream) {
        let handle = |stream: &TcpStream| stream.try_clone().expect("a handle");
        self.open.lock().expect("no panic").push(handle(&client));
        for (way, from, to) in [(Way::Up, handle(&client), handle(&server)), (Way::Down, server, client)] {
            let rules = Arc::clone(self);
            std::thread::spawn(move || {
                rules.pump(way, &from, &to);
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
            });
        }
    }

    fn pump(&self, way: Way, mut from: &TcpStream, mut to: &TcpStream) {
        let mut piece = vec![0; 16 << 10];
        while let Ok(length) = from.read(&mut piece)
            && 0 < length
        {
            let rate = self.bytes_per_second.load(Ordering::SeqCst);
            if 0 < rate {
                std::thread::sleep(Duration::from_secs_f64(length as f64 / rate as f64));
            }
            let before = self.passed[way as usize].fetch_add(length as u64, Ordering::SeqCst);
            let after = before + length as u64;
            if self.stall_at[way as usize].load(Ordering::SeqCst) < after {
                self.stalled.store(true, Ordering::SeqCst);
            }
            while self.stalled.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(20));
            }
            let cut_at = &self.cut_at[way as usize];
            let limit = cut_at.load(Ordering::SeqCst);
            if limit < after && cut_at.compare_exchange(limit, NEVER, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                // What came before the cut arrives.
                let kept = usize::try_from(limit.saturating_sub(before)).unwrap_or(0).min(length);
                let _ = to.write_all(&piece[..kept]);
                self.cuts.fetch_add(1, Ordering::SeqCst);
                return;
            }
            if to.write_all(&piece[..length]).is_err() {
                return;
            }
        }
    }
}
