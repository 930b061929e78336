//! One complaint about the configuration: where, what, the line itself, what was expected, and what was probably meant.
//!
//! A complaint is printed to terminals and logs, so the line it shows has its secrets covered first.

use std::fmt;
use std::ops::Range;

use crate::config::nearest::nearest;

/// The keys whose values are secrets, ours and those that people try.
const SECRET_KEYS: [&str; 12] = [
    "password",
    "secret_access_key",
    "access_key_id",
    "session_token",
    "key",
    "identity",
    "secret",
    "token",
    "pass",
    "passphrase",
    "passwd",
    "pwd",
];
/// The keys of a reference to a secret: what they say is no secret.
const REFERENCE_KEYS: [&str; 3] = ["file", "env", "command"];
/// What stands in the place of a secret.
const COVER: &str = "…";
/// The longest piece of a line that is shown, in characters.
const EXCERPT_CHARACTERS: usize = 110;

/// Something in the configuration that cannot stay as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    pub(super) file: String,
    pub(super) place: Option<Place>,
    pub(super) message: String,
    pub(super) expected: Option<String>,
    pub(super) meant: Option<String>,
}

/// A place in the text, with its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Counted from 1.
    pub(super) line: usize,
    /// In characters, counted from 1.
    pub(super) column: usize,
    /// The line, covered and clipped.
    excerpt: String,
    /// What to underline in the excerpt, in characters.
    underline: Range<usize>,
}

impl Place {
    /// The place of `span` (bytes) in the line number `line` with text `text`.
    pub(super) fn new(line: usize, text: &str, span: Range<usize>) -> Self {
        let characters = |bytes: usize| text.get(..bytes).map_or(0, |start| start.chars().count());
        let from = characters(span.start);
        let until = characters(span.end.min(text.len())).max(from + 1);
        let covered: Vec<char> = cover_secrets(text).chars().map(plain).collect();
        let first = from.saturating_sub(EXCERPT_CHARACTERS / 2).min(covered.len());
        let last = (first + EXCERPT_CHARACTERS).min(covered.len());
        let start = (from - first.min(from)).min(last - first);
        let end = (until - first.min(until)).clamp(start + 1, (last - first).max(start + 1));
        let excerpt = covered[first..last].iter().collect();
        Self { line, column: from + 1, excerpt, underline: start..end }
    }
}

/// One column for each character: no tab, no escape sequence reaches a terminal.
fn plain(character: char) -> char {
    if character.is_control() { ' ' } else { character }
}

/// The line without the secrets that somebody may have typed into it.
///
/// Covers what follows `password =` and the like (a misspelled key included) unless it is a reference in braces, passwords
/// in URLs, and age identities. What stands before a covered value keeps its column.
fn cover_secrets(line: &str) -> String {
    let mut covered = cover_identity(&cover_url_password(line));
    let mut in_reference = false;
    let mut from = 0;
    while let Some(equals) = covered[from..].find('=').map(|at| from + at) {
        in_reference &= !covered[from..equals].contains('}');
        let word = last_word(&covered[..equals]);
        let is_secret =
            if in_reference { !REFERENCE_KEYS.contains(&word) } else { nearest(word, SECRET_KEYS).is_some() };
        let refers = covered[equals + 1..].trim_start().starts_with('{');
        if is_secret && !refers {
            covered.truncate(equals + 1);
            return covered + " " + COVER;
        }
        in_reference |= is_secret;
        from = equals + 1;
    }
    covered
}

/// The key before an equals sign, quoted or not.
fn last_word(text: &str) -> &str {
    let text = text.trim_end().trim_end_matches(['"', '\'']);
    let kept = text.trim_end_matches(|c: char| c.is_alphanumeric() || c == '_' || c == '-');
    &text[kept.len()..]
}

fn cover_url_password(line: &str) -> String {
    let Some(start) = line.find("://").map(|at| at + 3) else { return line.to_owned() };
    let end = line[start..].find(['"', '\'']).map_or(line.len(), |at| start + at);
    let Some(at) = line[start..end].rfind('@').map(|at| start + at) else { return line.to_owned() };
    match line[start..at].find(':') {
        Some(colon) => format!("{}:{COVER}{}", &line[..start + colon], &line[at..]),
        None => line.to_owned(),
    }
}

fn cover_identity(line: &str) -> String {
    const IDENTITY: &str = "AGE-SECRET-KEY-";
    let Some(start) = line.to_ascii_uppercase().find(IDENTITY).filter(|at| line.is_char_boundary(*at)) else {
        return line.to_owned();
    };
    let rest = &line[start..];
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).map_or(line.len(), |at| start + at);
    format!("{}{IDENTITY}{COVER}{}", &line[..start], &line[end..])
}

impl Complaint {
    /// The line, counted from 1, where the complaint has one.
    pub fn line(&self) -> Option<usize> {
        self.place.as_ref().map(|place| place.line)
    }

    /// What is wrong, without its place.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Complaint {
    /// `file:line:column: message`, the line, its underline with what was expected, and what was meant.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(place) = &self.place else {
            write!(f, "{}: {}", self.file, self.message)?;
            return self.meant.iter().try_for_each(|meant| write!(f, "\n  = {meant}"));
        };
        let number = place.line.to_string();
        let margin = " ".repeat(number.len());
        writeln!(f, "{}:{}:{}: {}", self.file, place.line, place.column, self.message)?;
        writeln!(f, "{margin} |")?;
        writeln!(f, "{number} | {}", place.excerpt)?;
        let carets = "^".repeat(place.underline.len());
        write!(f, "{margin} | {}{carets}", " ".repeat(place.underline.start))?;
        self.expected.iter().try_for_each(|expected| write!(f, " expected {expected}"))?;
        self.meant.iter().try_for_each(|meant| write!(f, "\n{margin} = {meant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_in_a_line_is_covered_and_a_reference_is_not() {
        for (line, expected) in [
            (r#"password = "hunter2""#, "password = …"),
            (r#"pasword = "hunter2"#, "pasword = …"),
            (r#"{ name = "pg", password="x" }"#, r#"{ name = "pg", password= …"#),
            (r#"key = { file = "/run/key" }"#, r#"key = { file = "/run/key" }"#),
            (r#"url = "postgres://u:p@ss@db:5432""#, r#"url = "postgres://u:…@db:5432""#),
            (r#"url = "postgres://u@db:5432""#, r#"url = "postgres://u@db:5432""#),
            (r#"recipients = ["age-secret-key-1qq"]"#, r#"recipients = ["AGE-SECRET-KEY-…"]"#),
            (r#"key = { value = "x" }"#, "key = { value = …"),
            (r#"password = { env = "A", value = "x" }"#, r#"password = { env = "A", value = …"#),
            (r#"{ key = { env = "A" }, url = "x" }"#, r#"{ key = { env = "A" }, url = "x" }"#),
            (r#"connections = 8"#, "connections = 8"),
        ] {
            assert_eq!(cover_secrets(line), expected);
        }
    }

    #[test]
    fn a_place_counts_characters_and_clips_a_giant_line() {
        let place = Place::new(3, "é = 1x", 5..7);
        assert_eq!((place.column, place.underline), (5, 4..6));
        let giant = format!("{}!{}", "a".repeat(1000), "b".repeat(1000));
        let place = Place::new(1, &giant, 1000..1001);
        assert_eq!(place.column, 1001);
        assert_eq!(place.excerpt.chars().count(), EXCERPT_CHARACTERS);
        assert_eq!(place.excerpt.chars().nth(place.underline.start), Some('!'));
        let end = Place::new(1, "ab", 2..2);
        assert_eq!((end.column, end.underline), (3, 2..3));
    }
}
