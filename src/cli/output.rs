//! The only printer: data on standard output, talk on standard error.
//!
//! A reader that goes away (`dbkeeper list | head`) is not an error: what is left is not printed. Any other failure to
//! print data is one, since a script would take what it got for the whole.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;

use serde::Serialize;

use crate::base::class::Class;
use crate::cli::failure::Failure;

/// Where a verb prints.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    quiet: bool,
}

impl Output {
    /// A printer; a quiet one prints data and errors, and no talk.
    pub fn new(quiet: bool) -> Self {
        Self { quiet }
    }

    /// True where talk is not wanted.
    pub fn is_quiet(self) -> bool {
        self.quiet
    }

    /// Prints data as it is.
    pub fn data(self, bytes: impl AsRef<[u8]>) -> Result<(), Failure> {
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(bytes.as_ref()).and_then(|()| stdout.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(Failure::said(Class::Unexpected, format!("write to standard output: {error}"))),
        }
    }

    /// Standard output for a stream of bytes. Unlike with [`data`](Self::data), a reader that goes away is an error.
    pub fn stream(self) -> std::io::Result<tokio::fs::File> {
        let descriptor = std::io::stdout().as_fd().try_clone_to_owned()?;
        Ok(tokio::fs::File::from_std(File::from(descriptor)))
    }

    /// Prints one JSON document.
    pub fn json(self, document: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(document);
        let text = text.map_err(|error| Failure::new(&error, Class::Unexpected, None))?;
        self.data(text + "\n")
    }

    /// Tells people something, unless they want quiet.
    pub fn say(self, text: &str) {
        if !self.quiet {
            to_stderr(&format!("{}\n", text.trim_end()));
        }
    }

    /// Tells why a verb failed: `error: …`, and after a blank line what to do about it.
    pub fn failure(self, failure: &Failure) {
        let hint = failure.hint().map(|hint| format!("\nhint: {hint}\n")).unwrap_or_default();
        to_stderr(&format!("error: {}\n{hint}", failure.message()));
    }

    /// Tells what clap has to say about arguments, as it says it.
    pub fn usage(self, text: &str) {
        to_stderr(text);
    }
}

/// Who cannot hear the talk cannot be told so.
fn to_stderr(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}
