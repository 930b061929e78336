//! Secrets: named in the configuration, read when a job starts, and again by each job.
//!
//! A reference is `{ file = … }`, `{ env = … }` or `{ command = … }`; a secret in the file itself is refused. Reading is
//! bounded in bytes and time, and no error shows anything of what was read.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use toml::de::DeValue;
use tracing::debug;
use zeroize::Zeroizing;

use crate::base::class::Class;
use crate::base::secret::Secret;
use crate::base::units::{ByteSize, print_duration};
use crate::config::complaint::Complaint;
use crate::config::environment::Environment;
use crate::config::error::Error;
use crate::config::nearest::nearest;
use crate::config::values::{Node, Value, Wrong, quoted, text, wrong_type};

/// The largest secret.
const MAX_SECRET_BYTES: usize = 64 << 10;
/// How long a file (it may be a pipe) or a command may take to give a secret.
const READ_TIME: Duration = Duration::from_secs(30);
/// How much of a failing command's complaint is kept.
const STDERR_BYTES: usize = 4 << 10;
/// How much of it is shown, in characters.
const STDERR_CHARACTERS: usize = 300;

const KINDS: [&str; 3] = ["file", "env", "command"];
const EXPECTED: &str = "{ file = \"…\" }, { env = \"…\" } or { command = … }";

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// The content of a file, without one trailing line end.
    File(PathBuf),
    /// The value of an environment variable.
    Environment(String),
    /// What a program prints, without one trailing line end. A text in the configuration is run by `sh -c`, an array is
    /// the program with its arguments.
    Command(Vec<String>),
}

/// A secret as the configuration names it.
#[derive(Clone, Debug)]
pub struct SecretReference {
    source: SecretSource,
    /// The place in the configuration; its message is the path of the key.
    place: Complaint,
    class: Class,
}

impl SecretReference {
    /// Where the secret is.
    pub fn source(&self) -> &SecretSource {
        &self.source
    }

    /// Its key in the configuration: `repository.key`.
    pub fn name(&self) -> &str {
        &self.place.message
    }

    /// Reads the secret; every call reads it anew.
    pub async fn read(&self, environment: &Environment) -> Result<Secret, Error> {
        self.text(&self.read_raw(environment).await?)
    }

    /// Reads its bytes, which need not be text.
    pub(super) async fn read_raw(&self, environment: &Environment) -> Result<Zeroizing<Vec<u8>>, Error> {
        let read = tokio::time::timeout(READ_TIME, self.read_bytes(environment)).await;
        read.unwrap_or_else(|_| Err(self.failed(&format!("took longer than {}", print_duration(READ_TIME)), None)))
    }

    /// Its bytes as text, without one trailing line end.
    pub(super) fn text(&self, bytes: &[u8]) -> Result<Secret, Error> {
        let text = std::str::from_utf8(bytes).map_err(|_| self.failed("does not hold UTF-8 text", None))?;
        let secret = Secret::new(text.to_owned());
        if secret.reveal().is_empty() {
            return Err(self.failed("is empty", None));
        }
        debug!(key = self.name(), "secret read");
        Ok(secret)
    }

    async fn read_bytes(&self, environment: &Environment) -> Result<Zeroizing<Vec<u8>>, Error> {
        match &self.source {
            SecretSource::File(file) => self.read_file(file).await,
            SecretSource::Environment(name) => self.read_variable(name, environment),
            SecretSource::Command(words) => self.run(words).await,
        }
    }

    /// The error that this secret, though read, is of no use: `{name}: {where} {what}`.
    pub(super) fn failed(&self, what: &str, source: Option<std::io::Error>) -> Error {
        let subject = match &self.source {
            SecretSource::File(file) => format!("file {}", file.display()),
            SecretSource::Environment(name) => format!("environment variable {name}"),
            SecretSource::Command(words) => {
                let program = words.first().map_or("", String::as_str);
                let shown = if words.len() == 3 && program == "sh" { &words[2] } else { program };
                format!("command {shown:?}")
            }
        };
        let mut complaint = self.place.clone();
        complaint.message = format!("{}: {subject} {what}", self.name());
        Error::Secret { complaint: Box::new(complaint), class: self.class, source }
    }

    async fn read_file(&self, file: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
        let unreadable = |error| self.failed("cannot be read", Some(error));
        let opened = tokio::fs::File::open(file).await.map_err(unreadable)?;
        let bytes = read_bounded(opened).await.map_err(unreadable)?;
        self.bounded(bytes)
    }

    fn read_variable(&self, name: &str, environment: &Environment) -> Result<Zeroizing<Vec<u8>>, Error> {
        let value = environment.get(name).ok_or_else(|| self.failed("is not set", None))?;
        self.bounded(Zeroizing::new(value.as_encoded_bytes().to_vec()))
    }

    fn bounded(&self, bytes: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, Error> {
        if bytes.len() <= MAX_SECRET_BYTES {
            return Ok(bytes);
        }
        Err(self.failed(&format!("gives more than {}", ByteSize(MAX_SECRET_BYTES as u64)), None))
    }

    async fn run(&self, words: &[String]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let (program, arguments) = words.split_first().expect("a command has at least its program");
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| self.failed("cannot be run", Some(error)))?;
        let stdout = child.stdout.take().expect("its output is a pipe");
        let stderr = child.stderr.take().expect("its errors are a pipe");
        let (output, complaint, status) = tokio::join!(read_bounded(stdout), read_tail(stderr), child.wait());
        let status = status.map_err(|error| self.failed("cannot be waited for", Some(error)))?;
        // Before the status: a command whose output was cut off dies of it.
        let output = self.bounded(output.map_err(|error| self.failed("cannot be listened to", Some(error)))?)?;
        if !status.success() {
            let words = if complaint.is_empty() { String::new() } else { format!(": {complaint}") };
            return Err(self.failed(&format!("failed ({status}){words}"), None));
        }
        Ok(output)
    }
}

/// Up to one byte more than a secret may have, in a buffer that never moves.
async fn read_bounded(reader: impl AsyncRead + Unpin) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SECRET_BYTES + 1));
    reader.take(MAX_SECRET_BYTES as u64 + 1).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

/// The last line of what a command complained about; the rest is read and dropped.
async fn read_tail(mut reader: impl AsyncRead + Unpin) -> String {
    let mut tail = Vec::new();
    let mut piece = [0; 1024];
    // A pipe that breaks has told its last: the exit status says the rest.
    while let Ok(length @ 1..) = reader.read(&mut piece).await {
        tail.extend_from_slice(&piece[..length]);
        let excess = tail.len().saturating_sub(STDERR_BYTES);
        tail.drain(..excess);
    }
    let text = String::from_utf8_lossy(&tail);
    let last = text.trim_end().lines().next_back().unwrap_or_default().trim();
    last.chars().filter(|character| !character.is_control()).take(STDERR_CHARACTERS).collect()
}

/// A reference whose absence is a matter of keys: without it nothing is written or restored.
pub(super) struct KeyReference(pub(super) SecretReference);

impl Value for SecretReference {
    fn read(node: &Node<'_>) -> Result<Self, Wrong> {
        let source = read_source(node)?;
        Ok(Self { source, place: node.complaint(), class: Class::Usage })
    }

    fn show(&self) -> serde_json::Value {
        match &self.source {
            SecretSource::File(file) => json!({ "file": file.display().to_string() }),
            SecretSource::Environment(name) => json!({ "env": name }),
            SecretSource::Command(words) => json!({ "command": words }),
        }
    }
}

impl Value for KeyReference {
    fn read(node: &Node<'_>) -> Result<Self, Wrong> {
        <SecretReference as Value>::read(node).map(|reference| Self(SecretReference { class: Class::Key, ..reference }))
    }

    fn show(&self) -> serde_json::Value {
        self.0.show()
    }
}

fn read_source(node: &Node<'_>) -> Result<SecretSource, Wrong> {
    let table = match node.value.get_ref() {
        DeValue::Table(table) => table,
        DeValue::String(_) => {
            let mut wrong = Wrong::new(format!("{} is written into the file", node.path), EXPECTED);
            wrong.meant = Some("a configuration is copied, committed and shown: name the secret's place".to_owned());
            return Err(wrong);
        }
        _ => return Err(wrong_type(node, EXPECTED)),
    };
    if let Some(key) = table.keys().find(|key| !KINDS.contains(&key.get_ref().as_ref())) {
        let name = key.get_ref().as_ref();
        let expected = format!("one of {}", quoted(KINDS));
        let wrong = Wrong::new(format!("unknown key {name:?} in {}", node.path), expected);
        return Err(Wrong { span: Some(key.span()), ..wrong.or_rather(nearest(name, KINDS)) });
    }
    let mut entries = table.iter();
    let (Some((key, value)), None) = (entries.next(), entries.next()) else {
        let count = if table.is_empty() { "no" } else { "more than one" };
        return Err(Wrong::new(format!("{} has {count} source", node.path), EXPECTED));
    };
    let path = format!("{}.{}", node.path, key.get_ref());
    let inner = Node { value, path: &path, ..*node };
    let read = match key.get_ref().as_ref() {
        "file" => PathBuf::read(&inner).map(SecretSource::File),
        "env" => read_variable_name(&inner).map(SecretSource::Environment),
        _ => read_command(&inner).map(SecretSource::Command),
    };
    read.map_err(|wrong| Wrong { span: wrong.span.or(Some(value.span())), ..wrong })
}

fn read_variable_name(node: &Node<'_>) -> Result<String, Wrong> {
    const EXPECTED: &str = "the name of an environment variable";
    let name = text(node, EXPECTED)?;
    match name.contains(['=', '\0']) {
        false => Ok(name.to_owned()),
        true => Err(Wrong::new(format!("{} is no such name", node.path), EXPECTED)),
    }
}

fn read_command(node: &Node<'_>) -> Result<Vec<String>, Wrong> {
    const EXPECTED: &str = "a program with its arguments, [\"pass\", \"show\", \"db\"], or one line for the shell";
    let DeValue::Array(array) = node.value.get_ref() else {
        return text(node, EXPECTED).map(|line| vec!["sh".to_owned(), "-c".to_owned(), line.to_owned()]);
    };
    let words: Option<Vec<String>> = array.iter().map(|word| word.get_ref().as_str().map(str::to_owned)).collect();
    let usable = |words: &Vec<String>| words.first().is_some_and(|program| !program.is_empty());
    words.filter(usable).ok_or_else(|| Wrong::new(format!("{} is no command", node.path), EXPECTED))
}
