//! Names and strings as they stand in an export: the whole file is in the encoding of the database, and we know names in UTF-8.
//!
//! Where the two differ, what is not ASCII is written as Unicode escapes (PostgreSQL manual, 4.1.1 and 4.1.2.3), which the
//! server turns into its own encoding. Needs `standard_conforming_strings`. Pure.

use std::fmt::Write as _;

use crate::sql::postgres::{quote_identifier, quote_literal};

/// How characters beyond ASCII are written in a file of one encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Words {
    /// As they are: the file is in UTF-8, or in no stated encoding with names whose bytes are UTF-8.
    Plain,
    /// As escapes.
    Escaped,
}

impl Words {
    /// For a file in this encoding, as PostgreSQL names it.
    pub(super) fn of(encoding: &str) -> Self {
        match encoding {
            "UTF8" | "SQL_ASCII" => Self::Plain,
            _ => Self::Escaped,
        }
    }

    pub(super) fn identifier(self, name: &str) -> String {
        if self == Self::Plain || name.is_ascii() { quote_identifier(name) } else { escaped(name, '"') }
    }

    pub(super) fn string(self, text: &str) -> String {
        if self == Self::Plain || text.is_ascii() { quote_literal(text) } else { escaped(text, '\'') }
    }
}

/// A name in a comment: one line of printable ASCII in any case, and an identifier that can be copied from there.
pub(super) fn in_comment(name: &str) -> String {
    let is_plain = name.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if is_plain { quote_identifier(name) } else { escaped(name, '"') }
}

/// A line of a comment: what is not printable ASCII is written as an escape, so that nothing ends the comment.
pub(super) fn comment_line(text: &str) -> String {
    let mut line = String::from("-- ");
    for character in text.chars() {
        match character {
            ' '..='~' => line.push(character),
            _ => line.extend(character.escape_default()),
        }
    }
    line.push('\n');
    line
}

fn escaped(text: &str, quote: char) -> String {
    let mut written = format!("U&{quote}");
    for character in text.chars() {
        match character {
            '\\' => written.push_str("\\\\"),
            _ if character == quote => written.extend([quote, quote]),
            ' '..='~' => written.push(character),
            _ => {
                let code = u32::from(character);
                let result =
                    if code <= 0xFFFF { write!(written, "\\{code:04X}") } else { write!(written, "\\+{code:06X}") };
                result.expect("writing to a string succeeds");
            }
        }
    }
    written.push(quote);
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_in_another_encoding_needs_escapes() {
        assert_eq!(Words::of("UTF8").identifier("caf\u{e9}"), "\"caf\u{e9}\"");
        assert_eq!(Words::of("SQL_ASCII").identifier("caf\u{e9}"), "\"caf\u{e9}\"");
        let latin = Words::of("LATIN1");
        assert_eq!(latin.identifier("a\"b\n"), "\"a\"\"b\n\"");
        assert_eq!(latin.identifier("a\"\u{e9}\\\n"), "U&\"a\"\"\\00E9\\\\\\000A\"");
        assert_eq!(latin.string("it's \u{1f600}"), "U&'it''s \\+01F600'");
    }

    #[test]
    fn nothing_ends_a_comment() {
        assert_eq!(comment_line("x\n\\! id"), "-- x\\n\\! id\n");
        assert_eq!(comment_line("caf\u{e9}\r"), "-- caf\\u{e9}\\r\n");
        assert_eq!(in_comment("a\n\\! id"), "U&\"a\\000A\\\\! id\"");
        assert_eq!(in_comment("o'b \"x\""), "\"o'b \"\"x\"\"\"");
    }
}
