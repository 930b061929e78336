//! A stub of an S3 service for the answers that no healthy server gives: it plays a script, one answer per request, each on
//! a connection of its own. Answers that nobody asked for fail the test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use dbkeeper::base::secret::Secret;
use dbkeeper::store::s3::S3Options;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// One answer of the script.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
    /// The length that the header tells, where that is a lie.
    pub declared_bytes: Option<usize>,
}

impl Answer {
    pub fn ok() -> Self {
        Self { status: 200, headers: Vec::new(), body: String::new(), declared_bytes: None }
    }

    /// An error as S3 writes it; `more` goes into the document beside code and message.
    pub fn error(status: u16, code: &str, message: &str, more: &str) -> Self {
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>"
        );
        Self { status, body, ..Self::ok() }
    }

    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn with_body(mut self, body: impl Into<String>) -> Self {
        self.body = body.into();
        self
    }
}

/// A request as the stub saw it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `GET /bucket/key?x=y`.
    pub line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Debug, Default)]
struct Script {
    answers: Vec<Answer>,
    asked: Vec<Asked>,
}

/// The running stub.
#[derive(Debug)]
pub struct S3Stub {
    port: u16,
    encrypted: bool,
    script: Arc<Mutex<Script>>,
}

impl S3Stub {
    pub fn start(answers: Vec<Answer>) -> Self {
        Self::listen(answers, None)
    }

    /// A stub that speaks TLS with a certificate which [`authority`] signed.
    pub fn start_tls(answers: Vec<Answer>) -> Self {
        let certificate = CertificateDer::from_pem_file(fixture("server.pem")).expect("its certificate");
        let key = PrivateKeyDer::from_pem_file(fixture("server.key")).expect("its key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("TLS versions").with_no_client_auth().with_single_cert(vec![certificate], key);
        Self::listen(answers, Some(Arc::new(config.expect("the key fits"))))
    }

    fn listen(answers: Vec<Answer>, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let script = Arc::new(Mutex::new(Script { answers, asked: Vec::new() }));
        let (playing, encrypted) = (Arc::clone(&script), tls.is_some());
        // Ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { continue };
                // A client that goes away in the middle ends its connection only.
                let _ = match &tls {
                    None => play(stream, &playing),
                    Some(config) => {
                        let session = ServerConnection::new(Arc::clone(config)).expect("a session");
                        play(StreamOwned::new(session, stream), &playing)
                    }
                };
            }
        });
        Self { port, encrypted, script }
    }

    /// How dbkeeper reaches it.
    pub fn options(&self) -> S3Options {
        let mut options = options_at(self.port);
        if self.encrypted {
            options.endpoint = Some(format!("https://127.0.0.1:{}", self.port));
        }
        options
    }

    /// The requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.script.lock().unwrap().asked.clone()
    }
}

impl Drop for S3Stub {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let left = &self.script.lock().unwrap().answers;
            assert!(left.is_empty(), "answers that nobody asked for: {left:?}");
        }
    }
}

/// Options for whatever listens on a port of this machine.
pub fn options_at(port: u16) -> S3Options {
    let mut options = S3Options::new("bucket", "prod");
    options.endpoint = Some(format!("http://127.0.0.1:{port}"));
    options.region = Some("us-east-1".to_owned());
    options.path_style = true;
    options.access_key_id = Some(Secret::new("AKIDEXAMPLE".to_owned()));
    options.secret_access_key = Some(Secret::new("hunter2".to_owned()));
    options
}

/// The PEM file of the authority that signed the stub's certificate.
pub fn authority() -> PathBuf {
    fixture("ca.pem")
}

fn fixture(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/fixtures/tls", name].iter().collect()
}

fn play(stream: impl Read + Write, script: &Mutex<Script>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let asked = match read_request(&mut reader) {
        Ok(asked) => asked,
        // No HTTP, so perhaps TLS: a server of HTTP answers in its own language.
        Err(error) => return reader.get_mut().write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").and(Err(error)),
    };
    let answer = {
        let mut script = script.lock().unwrap();
        script.asked.push(asked.clone());
        if script.answers.is_empty() {
            Answer::error(400, "NotInTheScript", "the script has no more answers", "")
        } else {
            script.answers.remove(0)
        }
    };
    let stream = reader.get_mut();
    let declared = answer.declared_bytes.unwrap_or(answer.body.len());
    let mut head =
        format!("HTTP/1.1 {} Scripted\r\nconnection: close\r\ncontent-length: {declared}\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    if !asked.line.starts_with("HEAD ") {
        stream.write_all(answer.body.as_bytes())?;
    }
    stream.flush()
}

fn read_request(reader: &mut impl BufRead) -> std::io::Result<Asked> {
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let line = first.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    let mut headers = Vec::new();
    loop {
        let mut text = String::new();
        reader.read_line(&mut text)?;
        let Some((name, value)) = text.trim_end().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let asked = Asked { line, headers };
    let length = asked.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    std::io::copy(&mut reader.take(length), &mut std::io::sink())?;
    Ok(asked)
}
