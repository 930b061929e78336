//! The text of a configuration file, its lines, and its tree with the place of every key and value.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::DeTable;

use crate::base::units::ByteSize;
use crate::config::complaint::{Complaint, Place};
use crate::config::error::Error;

/// The largest configuration that is read; a fleet's is a few KiB.
pub(super) const MAX_FILE: ByteSize = ByteSize(4 << 20);
/// Syntax errors that are reported at once: after many, the rest is noise.
const MAX_SYNTAX_COMPLAINTS: usize = 10;

/// A configuration file as text.
pub(super) struct Document {
    file: PathBuf,
    text: String,
    line_starts: Vec<usize>,
}

impl Document {
    /// Reads a file: whole, UTF-8, and not larger than [`MAX_FILE`].
    pub(super) fn open(file: &Path) -> Result<Self, Error> {
        let unreadable = |source| Error::Unreadable { file: file.to_owned(), source };
        let opened = File::open(file).map_err(unreadable)?;
        let mut bytes = Vec::new();
        opened.take(MAX_FILE.0 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        Self::new(file, bytes)
    }

    /// Takes the bytes of a file.
    pub(super) fn new(file: &Path, bytes: Vec<u8>) -> Result<Self, Error> {
        if u64::try_from(bytes.len()).is_ok_and(|length| MAX_FILE.0 < length) {
            return Err(Error::TooLarge { file: file.to_owned(), limit: MAX_FILE });
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self::from_text(file, text)),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let document = Self::from_text(file, String::from_utf8_lossy(error.as_bytes()).into_owned());
                let mut complaint = document.complaint(Some(valid..valid + 1), "this is not UTF-8");
                complaint.expected = Some("text saved as UTF-8".to_owned());
                Err(Error::invalid(vec![complaint]))
            }
        }
    }

    fn from_text(file: &Path, text: String) -> Self {
        let starts = text.match_indices('\n').map(|(at, _)| at + 1);
        let line_starts = std::iter::once(0).chain(starts).collect();
        Self { file: file.to_owned(), text, line_starts }
    }

    /// The file, as it was given.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// The folder that relative paths start at.
    pub(super) fn folder(&self) -> &Path {
        self.file.parent().unwrap_or_else(|| Path::new(""))
    }

    /// The tree. What is said in a text that is no TOML cannot be judged: then only the syntax is complained about.
    pub(super) fn parse(&self) -> Result<Spanned<DeTable<'_>>, Error> {
        let (root, errors) = DeTable::parse_recoverable(&self.text);
        if errors.is_empty() {
            return Ok(root);
        }
        let complaints = errors.iter().take(MAX_SYNTAX_COMPLAINTS).map(|error| {
            let message = error.message().trim().replace('\n', ", ");
            self.complaint(error.span(), &format!("this is not TOML: {message}"))
        });
        Err(Error::invalid(complaints.collect()))
    }

    /// True where there is nothing but white space and comments.
    pub(super) fn is_empty(&self) -> bool {
        let mut lines = self.text.trim_start_matches('\u{feff}').lines().map(str::trim);
        lines.all(|line| line.is_empty() || line.starts_with('#'))
    }

    /// A complaint about `span` (bytes), or about the file as a whole.
    pub(super) fn complaint(&self, span: Option<Range<usize>>, message: &str) -> Complaint {
        Complaint {
            file: self.file.display().to_string(),
            place: span.map(|span| self.place(&span)),
            message: message.to_owned(),
            expected: None,
            meant: None,
        }
    }

    /// The first line of a span: enough to underline of a table.
    pub(super) fn first_line(&self, span: &Range<usize>) -> Range<usize> {
        let end = self.line_starts.get(self.line(span.start)).map_or(self.text.len(), |next| next - 1);
        span.start..span.end.min(end)
    }

    /// The number of the line of a byte, counted from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    fn place(&self, span: &Range<usize>) -> Place {
        let line = self.line(span.start);
        let start = self.line_starts[line - 1];
        let end = self.line_starts.get(line).map_or(self.text.len(), |next| next - 1);
        let text = self.text.get(start..end).unwrap_or_default().trim_end_matches('\r');
        Place::new(line, text, span.start - start..span.end.max(span.start) - start)
    }
}
