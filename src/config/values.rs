//! Single values of the configuration: how each type is read from TOML, what is expected of it, and how it is shown.

use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use chrono_tz::Tz;
use serde_json::json;
use toml::Spanned;
use toml::de::DeValue;

use crate::base::units::{ByteSize, parse_duration, print_duration};
use crate::config::complaint::Complaint;
use crate::config::document::Document;
use crate::config::nearest::nearest;

/// The longest text of a single value, in bytes.
const MAX_TEXT_BYTES: usize = 64 << 10;

/// A value in the tree, and what is needed to read it.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    /// The value with its place.
    pub(super) value: &'a Spanned<DeValue<'a>>,
    /// The document it stands in.
    pub(super) document: &'a Document,
    /// The path of the key, for messages that outlive the tree.
    pub(super) path: &'a str,
}

impl Node<'_> {
    /// The place of the value, as a complaint that says only its path: to be kept for what goes wrong later.
    pub(super) fn complaint(&self) -> Complaint {
        self.document.complaint(Some(self.value.span()), self.path)
    }
}

/// Why a value cannot stay.
#[derive(Debug, Default)]
pub(super) struct Wrong {
    /// What is wrong, as a fact.
    pub(super) message: String,
    /// What was expected.
    pub(super) expected: Option<String>,
    /// What was probably meant, or what to do.
    pub(super) meant: Option<String>,
    /// The place, where it is not the whole value.
    pub(super) span: Option<Range<usize>>,
}

impl Wrong {
    /// A wrong value and what was expected instead.
    pub(super) fn new(message: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { message: message.into(), expected: Some(expected.into()), ..Self::default() }
    }

    /// A word that is none of some words.
    pub(super) fn unknown_word<T>(message: &str, word: &str, words: &[(&str, T)]) -> Self {
        let names = words.iter().map(|(name, _)| *name);
        Self::new(message, format!("one of {}", quoted(names.clone()))).or_rather(nearest(word, names))
    }

    /// With what to know beside it.
    pub(super) fn and(mut self, meant: String) -> Self {
        self.meant = Some(meant);
        self
    }

    /// With what was probably meant.
    pub(super) fn or_rather(mut self, name: Option<&str>) -> Self {
        self.meant = name.map(|name| format!("did you mean {name:?}?"));
        self
    }
}

/// A type that a key of the configuration can have.
pub(super) trait Value: Sized {
    /// Reads it.
    fn read(node: &Node<'_>) -> Result<Self, Wrong>;
    /// Shows it: no secret.
    fn show(&self) -> serde_json::Value;
}

/// A wrong type, in words: `"port" is an integer`.
pub(super) fn wrong_type(node: &Node<'_>, expected: impl Into<String>) -> Wrong {
    let found = match node.value.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    };
    Wrong::new(format!("{} is {found}", node.path), expected)
}

/// A text that is not empty and that an operating system takes; `expected` says what kind of.
pub(super) fn text<'a>(node: &Node<'a>, expected: &str) -> Result<&'a str, Wrong> {
    let text = node.value.get_ref().as_str().ok_or_else(|| wrong_type(node, expected))?;
    match text.len() {
        0 => Err(Wrong::new(format!("{} is empty", node.path), expected)),
        length if MAX_TEXT_BYTES < length => {
            Err(Wrong::new(format!("{} is longer than {}", node.path, ByteSize(MAX_TEXT_BYTES as u64)), expected))
        }
        _ if text.contains('\0') => Err(Wrong::new(format!("{} holds a zero byte", node.path), expected)),
        _ => Ok(text),
    }
}

/// One of some words.
pub(super) fn one_of<T: Copy>(node: &Node<'_>, words: &[(&str, T)]) -> Result<T, Wrong> {
    let names = words.iter().map(|(name, _)| *name);
    let text = text(node, &format!("one of {}", quoted(names)))?;
    let found = words.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    found.ok_or_else(|| Wrong::unknown_word(&format!("{} is {text:?}", node.path), text, words))
}

/// Names for a message: `"a", "b", "c"`.
pub(super) fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.into_iter().map(|name| format!("{name:?}")).collect();
    quoted.join(", ")
}

/// A whole number in a range.
pub(super) fn whole_number(node: &Node<'_>, range: &RangeInclusive<u32>) -> Result<u32, Wrong> {
    let expected = format!("a whole number from {} to {}", range.start(), range.end());
    let integer = node.value.get_ref().as_integer().ok_or_else(|| wrong_type(node, expected.as_str()))?;
    let number = u32::from_str_radix(integer.as_str(), integer.radix()).ok();
    let found = number.filter(|number| range.contains(number));
    found.ok_or_else(|| Wrong::new(format!("{} is {}", node.path, integer.as_str()), expected))
}

impl Value for String {
    fn read(node: &Node<'_>) -> Result<Self, Wrong> {
        text(node, "a string that is not empty").map(str::to_owned)
    }

    fn show(&self) -> serde_json::Value {
        json!(self)
    }
}

impl Value for bool {
    fn read(node: &Node<'_>) -> Result<Self, Wrong> {
        node.value.get_ref().as_bool().ok_or_else(|| wrong_type(node, "true or false"))
    }

    fn show(&self) -> serde_json::Value {
        json!(self)
    }
}

impl Value for ByteSize {
    fn read(node: &Node<'_>) -> Result<Self, Wrong> {
        const EXPECTED: &str = "a size with its unit, such as \"256 MiB\"";
        let text = text(node, EXPECTED)?;
        text.parse().map_err(|_| Wrong::new(format!("{} is {text:?}", node.path), EXPECTED))
    }

    fn show(&self) -> serde_json::Value {
        json!(self.to_string())
    }
}

impl Value for Duration {
    fn read(node: &Node<'_>) -> Result<Self, Wrong> {
        const EXPECTED: &str = "a duration with its unit, such as \"30s\", \"15m\" or \"1d12h\"";
        let text = text(node, EXPECTED)?;
        parse_duration(text).map_err(|_| Wrong::new(format!("{} is {text:?}", node.path), EXPECTED))
    }

    fn show(&self) -> serde_json::Value {
        json!(print_duration(*self))
    }
}

impl Value for PathBuf {
    /// A relative path starts at the folder of the configuration.
    fn read(node: &Node<'_>) -> Result<Self, Wrong> {
        let text = text(node, "a path")?;
        Ok(node.document.folder().join(text))
    }

    fn show(&self) -> serde_json::Value {
        json!(self.display().to_string())
    }
}

impl Value for Tz {
    fn read(node: &Node<'_>) -> Result<Self, Wrong> {
        const EXPECTED: &str = "a name of the IANA time zone database, such as \"Europe/Paris\"";
        let text = text(node, EXPECTED)?;
        text.parse().map_err(|_| {
            let known = chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
            Wrong::new(format!("{} is {text:?}", node.path), EXPECTED).or_rather(nearest(text, known))
        })
    }

    fn show(&self) -> serde_json::Value {
        json!(self.name())
    }
}
