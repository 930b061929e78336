//! Rust source as a flat list of words and signs: comments, strings and characters are gone, so a rule can look at code alone.
//!
//! Knows just enough of the language's lexical grammar (Rust Reference, "Lexical structure"); it parses nothing.

/// One word (identifier, keyword or number) or one sign (`::` counts as one).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    /// Counted from 1.
    pub line: usize,
}

/// The tokens of `source`, in order.
pub fn tokens(source: &str) -> Vec<Token> {
    let mut reader = Reader { rest: source, line: 1, found: Vec::new() };
    while !reader.rest.is_empty() {
        reader.step();
    }
    reader.found
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
    found: Vec<Token>,
}

impl Reader<'_> {
    fn step(&mut self) {
        let first = self.rest.chars().next().expect("the caller saw that something is left");
        if self.rest.starts_with("//") {
            self.skip(self.rest.find('\n').unwrap_or(self.rest.len()));
        } else if self.rest.starts_with("/*") {
            self.skip(block_comment_length(self.rest));
        } else if let Some(length) = string_length(self.rest) {
            self.skip(length);
        } else if first == '\'' {
            self.skip(character_or_lifetime_length(self.rest));
        } else if is_word(first) {
            self.take(self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len()));
        } else if first.is_whitespace() {
            self.skip(first.len_utf8());
        } else {
            self.take(if self.rest.starts_with("::") { 2 } else { first.len_utf8() });
        }
    }

    fn take(&mut self, bytes: usize) {
        self.found.push(Token { text: self.rest[..bytes].to_owned(), line: self.line });
        self.skip(bytes);
    }

    fn skip(&mut self, bytes: usize) {
        self.line += self.rest[..bytes].matches('\n').count();
        self.rest = &self.rest[bytes..];
    }
}

fn is_word(character: char) -> bool {
    character == '_' || character.is_alphanumeric()
}

/// Block comments nest.
fn block_comment_length(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of the string literal that `text` begins with: plain, byte, C, raw, or none.
fn string_length(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r", ""].into_iter().find(|p| {
        text.strip_prefix(p).is_some_and(|after| after.starts_with('"') || (p.ends_with('r') && is_raw_start(after)))
    })?;
    let after = &text[prefix.len()..];
    if prefix.ends_with('r') {
        let hashes = after.len() - after.trim_start_matches('#').len();
        let body = &after[hashes + 1..];
        let close = format!("\"{}", "#".repeat(hashes));
        let end = body.find(&close).map_or(body.len(), |at| at + close.len());
        return Some(prefix.len() + hashes + 1 + end);
    }
    Some(prefix.len() + 1 + escaped_length(&after[1..], '"'))
}

fn is_raw_start(after: &str) -> bool {
    after.starts_with('#') && after.trim_start_matches('#').starts_with('"')
}

/// The bytes up to and with the closing `quote`.
fn escaped_length(body: &str, quote: char) -> usize {
    let mut characters = body.char_indices();
    while let Some((at, character)) = characters.next() {
        if character == '\\' {
            characters.next();
        } else if character == quote {
            return at + 1;
        }
    }
    body.len()
}

/// `'a'`, `'\n'` and `'\u{1F600}'` are characters; `'a` alone is a lifetime.
fn character_or_lifetime_length(text: &str) -> usize {
    let mut after = text[1..].chars();
    match (after.next(), after.next()) {
        (Some('\\'), _) => 1 + escaped_length(&text[1..], '\''),
        (Some(character), Some('\'')) => 2 + character.len_utf8(),
        _ => 1,
    }
}

#[test]
fn comments_strings_and_characters_leave_no_tokens() {
    let cases = [
        ("a // b\nc", "a c"),
        ("a /* b /* c */ d */ e", "a e"),
        (r#"a "b \" c" d"#, "a d"),
        (r####"a r##"b "# c"## d"####, "a d"),
        (r#"a br"b\" c"#, "a c"),
        (r"a '\'' b '\u{41}' c", "a b c"),
        ("a<'b> c 'd' e", "a < b > c e"),
        ("crate::x::{y, z}", "crate :: x :: { y , z }"),
    ];
    for (source, expected) in cases {
        let found: Vec<String> = tokens(source).into_iter().map(|token| token.text).collect();
        assert_eq!(found.join(" "), expected, "{source}");
    }
}

#[test]
fn a_token_knows_its_line() {
    let source = "a\n\"b\nc\" /* d\n */ e";
    assert_eq!(tokens(source).last(), Some(&Token { text: "e".to_owned(), line: 4 }));
}
