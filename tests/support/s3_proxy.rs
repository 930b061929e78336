//! Stands before a real S3 server and lets a test answer some of the requests in its place: SlowDown for a while, a key that
//! is no longer known. What it passes on it passes on unchanged, signatures included.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::s3_stub::{Answer, Asked};

/// Judges a request by its number (from 1) and what it asks: an answer of the test's own, or `None` to pass it on.
type Judge = dyn Fn(u64, &Asked) -> Option<Answer> + Send + Sync;

pub struct S3Proxy {
    /// How dbkeeper reaches it.
    pub endpoint: String,
}

impl S3Proxy {
    /// Before the server at `http://127.0.0.1:port`.
    pub fn before(endpoint: &str, judge: impl Fn(u64, &Asked) -> Option<Answer> + Send + Sync + 'static) -> Self {
        let server = endpoint.strip_prefix("http://").expect("an endpoint").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("its address"));
        let (judge, number): (Arc<Judge>, _) = (Arc::new(judge), Arc::new(AtomicU64::new(0)));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (judge, number, server) = (Arc::clone(&judge), Arc::clone(&number), server.clone());
                std::thread::spawn(move || serve(client, &server, &number, judge.as_ref()));
            }
        });
        Self { endpoint }
    }
}

/// One request for each connection: both sides are told so.
fn serve(client: TcpStream, server: &str, number: &AtomicU64, judge: &Judge) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        head.push(line);
    }
    let (request, headers) = head.split_first().expect("a request has a first line");
    let pair = |line: &String| line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
    let asked = Asked {
        line: request.trim_end_matches(" HTTP/1.1").to_owned(),
        headers: headers.iter().filter_map(pair).collect(),
    };
    let length = asked.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = Vec::new();
    (&mut reader).take(length).read_to_end(&mut body)?;
    match judge(number.fetch_add(1, Ordering::SeqCst) + 1, &asked) {
        Some(answer) => reply(&client, &asked, &answer),
        None => pass(&client, server, (request, headers), &body),
    }
}

fn reply(mut client: &TcpStream, asked: &Asked, answer: &Answer) -> std::io::Result<()> {
    let length = answer.body.len();
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

fn pass(client: &TcpStream, server: &str, (request, headers): (&str, &[String]), body: &[u8]) -> std::io::Result<()> {
    let mut upstream = TcpStream::connect(server)?;
    let kept = headers.iter().filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
    let lines: Vec<&str> = std::iter::once(request).chain(kept.map(String::as_str)).collect();
    upstream.write_all(format!("{}\r\nconnection: close\r\n\r\n", lines.join("\r\n")).as_bytes())?;
    upstream.write_all(body)?;
    std::io::copy(&mut upstream, &mut &*client)?;
    Ok(())
}
