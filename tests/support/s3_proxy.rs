//! Stands before a real S3 server and lets a test answer some of the requests in its place (SlowDown for a while, a key that
//! is no longer known), or bend what the server gives. What it passes on it passes on unchanged, signatures included.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::s3_stub::{Answer, Asked};

/// What becomes of a request.
pub enum Verdict {
    /// It is passed on.
    Pass,
    /// The test answers it.
    Say(Answer),
    /// It is passed on, and the body of a good answer comes back changed.
    Bend(fn(&mut Vec<u8>)),
}

/// Judges a request by its number (from 1) and what it asks.
type Judge = dyn Fn(u64, &Asked) -> Verdict + Send + Sync;

/// Request lines and bodies.
type Heard = Mutex<Vec<(String, Vec<u8>)>>;

pub struct S3Proxy {
    /// How dbkeeper reaches it.
    pub endpoint: String,
    heard: Arc<Heard>,
}

/// What all connections share.
struct Post {
    server: String,
    judge: Box<Judge>,
    number: AtomicU64,
    heard: Arc<Heard>,
}

impl S3Proxy {
    /// Before the server at `http://127.0.0.1:port`; what `judge` does not answer is passed on.
    pub fn before(endpoint: &str, judge: impl Fn(u64, &Asked) -> Option<Answer> + Send + Sync + 'static) -> Self {
        Self::judging(endpoint, move |number, asked| judge(number, asked).map_or(Verdict::Pass, Verdict::Say))
    }

    /// The same with all that can become of a request.
    pub fn judging(endpoint: &str, judge: impl Fn(u64, &Asked) -> Verdict + Send + Sync + 'static) -> Self {
        let server = endpoint.strip_prefix("http://").expect("an endpoint").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("its address"));
        let heard = Arc::<Heard>::default();
        let post =
            Arc::new(Post { server, judge: Box::new(judge), number: AtomicU64::new(0), heard: Arc::clone(&heard) });
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let post = Arc::clone(&post);
                std::thread::spawn(move || post.serve(&client));
            }
        });
        Self { endpoint, heard }
    }

    /// All that was asked for so far, with all that was to be stored; it is kept no longer.
    pub fn take_heard(&self) -> Vec<(String, Vec<u8>)> {
        std::mem::take(&mut *self.heard.lock().expect("no panic"))
    }
}

impl Post {
    /// One request for each connection: both sides are told so.
    fn serve(&self, client: &TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(client.try_clone()?);
        let head = read_head(&mut reader)?;
        let Some((request, headers)) = head.split_first() else { return Ok(()) };
        let pair =
            |line: &String| line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
        let asked = Asked {
            line: request.trim_end_matches(" HTTP/1.1").to_owned(),
            headers: headers.iter().filter_map(pair).collect(),
        };
        let length = asked.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = Vec::new();
        let read = (&mut reader).take(length).read_to_end(&mut body);
        self.heard.lock().expect("no panic").push((asked.line.clone(), body.clone()));
        read?;
        match (self.judge)(self.number.fetch_add(1, Ordering::SeqCst) + 1, &asked) {
            Verdict::Say(answer) => reply(client, &asked, &answer),
            Verdict::Pass => pass(client, &self.server, (request, headers), &body, None),
            Verdict::Bend(bend) => pass(client, &self.server, (request, headers), &body, Some(bend)),
        }
    }
}

/// The lines before the body; none where the client went away.
fn read_head(reader: &mut impl BufRead) -> std::io::Result<Vec<String>> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(Vec::new());
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            return Ok(head);
        }
        head.push(line);
    }
}

fn reply(mut client: &TcpStream, asked: &Asked, answer: &Answer) -> std::io::Result<()> {
    let length = answer.declared_bytes.unwrap_or(answer.body.len());
    let mut text = format!("HTTP/1.1 {} Told\r\nconnection: close\r\ncontent-length: {length}\r\n", answer.status);
    for (name, value) in &answer.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    if !asked.line.starts_with("HEAD ") {
        text.push_str(&answer.body);
    }
    client.write_all(text.as_bytes())
}

fn pass(
    mut client: &TcpStream,
    server: &str,
    (request, headers): (&str, &[String]),
    body: &[u8],
    bend: Option<fn(&mut Vec<u8>)>,
) -> std::io::Result<()> {
    let mut upstream = TcpStream::connect(server)?;
    let kept = headers.iter().filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
    let lines: Vec<&str> = std::iter::once(request).chain(kept.map(String::as_str)).collect();
    upstream.write_all(format!("{}\r\nconnection: close\r\n\r\n", lines.join("\r\n")).as_bytes())?;
    upstream.write_all(body)?;
    let Some(bend) = bend else { return std::io::copy(&mut upstream, &mut client).map(drop) };
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer)?;
    let end = b"\r\n\r\n";
    let begin = answer.windows(end.len()).position(|window| window == end).map_or(answer.len(), |at| at + end.len());
    let mut given = answer.split_off(begin);
    bend(&mut given);
    client.write_all(&answer)?;
    client.write_all(&given)
}
