//! What is searched for, in every form in which a program could write it, and where.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use dbkeeper::base::repository_key::RepositoryKey;
use memchr::memmem::Finder;

use super::{COMMENT, LARGE_OBJECT, ROLE_PASSWORD, ROW, SETTING, TABLE};
use crate::end_to_end::secrets::PASSWORD;
use crate::end_to_end::world::World;

/// Files of the test's own, and the destination of an export: there it may be read.
const OWN_FILES: [&str; 7] =
    ["exported.sql", "identity.txt", "repository.key", "other.txt", "other.key", "s3_secret", "s3_token"];

/// What was found: where and what, with the line.
pub(super) type Found = BTreeMap<String, String>;

/// What must be found nowhere.
pub(super) struct Planted {
    words: Vec<Word>,
    /// May be said to the operator, and stored nowhere.
    table: Word,
}

struct Word {
    what: &'static str,
    forms: Vec<Finder<'static>>,
}

impl Word {
    fn new(what: &'static str, bytes: &[u8]) -> Self {
        Self { what, forms: forms(bytes).iter().map(|form| Finder::new(form).into_owned()).collect() }
    }

    fn place(&self, text: &[u8]) -> Option<usize> {
        self.forms.iter().find_map(|form| form.find(text))
    }
}

impl Planted {
    /// All that the world's own database, configuration and keys hold.
    pub(super) fn of(world: &World) -> Self {
        let texts = [
            ("a row", ROW),
            ("a comment", COMMENT),
            ("a role's password", ROLE_PASSWORD),
            ("a large object", LARGE_OBJECT),
            ("a setting", SETTING),
            ("the server's password", PASSWORD),
        ];
        let mut planted = Self {
            words: texts.iter().map(|(what, text)| Word::new(what, text.as_bytes())).collect(),
            table: Word::new("a table's name", TABLE.as_bytes()),
        };
        planted.add_identity("the identity", &world.sandbox.read("identity.txt"));
        planted.add_key("the repository key", &world.sandbox.read("repository.key"));
        assert_eq!(planted.words.len(), texts.len() + 4, "texts and secrets of both keys");
        let query = "select rolpassword from pg_authid where rolpassword is not null";
        for verifier in world.cluster().psql("postgres", query).lines() {
            planted.add("a verifier", verifier);
        }
        planted
    }

    pub(super) fn add(&mut self, what: &'static str, text: &str) {
        self.words.push(Word::new(what, text.as_bytes()));
    }

    /// The text of an identity file, and the secret in it; nothing where the writer crashed before there was one.
    pub(super) fn add_identity(&mut self, what: &'static str, file: &str) {
        let line = file.lines().find(|line| !line.starts_with('#')).unwrap_or_default();
        if let Ok((_, secret)) = bech32::decode(line) {
            self.add(what, line);
            self.words.push(Word::new(what, &secret));
        }
    }

    /// The text of a key file, and the bytes in it; nothing where there is none yet.
    pub(super) fn add_key(&mut self, what: &'static str, file: &str) {
        if let Ok(key) = RepositoryKey::parse(file) {
            self.add(what, file.trim());
            self.words.push(Word::new(what, key.bytes()));
        }
    }

    /// Searches what was said or handed on.
    pub(super) fn search(&self, place: &str, text: &[u8], found: &mut Found) {
        for word in &self.words {
            if let Some(at) = word.place(text) {
                found.insert(format!("{place} holds {}", word.what), line_around(text, at));
            }
        }
    }

    /// Searches what is stored: the names of tables may not stand there either.
    pub(super) fn search_stored(&self, place: &str, bytes: &[u8], found: &mut Found) {
        self.search(place, bytes, found);
        if let Some(at) = self.table.place(bytes) {
            found.insert(format!("{place} holds {}", self.table.what), line_around(bytes, at));
        }
    }

    /// Searches every file below a folder, and its path: a repository, its copy, what else was left. Gives their number.
    pub(super) fn search_files(&self, folder: &Path, found: &mut Found) -> usize {
        let files = files_below(folder);
        for path in &files {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            assert!(!name.starts_with("core"), "{} was left", path.display());
            if !OWN_FILES.contains(&name.as_ref()) {
                let place = path.display().to_string();
                self.search_stored(&place, &std::fs::read(path).expect("read it"), found);
                self.search_stored(&place, place.as_bytes(), found);
            }
        }
        files.len()
    }
}

/// The bytes as they are, escaped for JSON, SQL or a URL, in hexadecimal digits, in base64 at any offset, and as a list of
/// numbers, which is how Rust shows bytes.
fn forms(bytes: &[u8]) -> Vec<Vec<u8>> {
    let numbers = bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    let mut forms = vec![bytes.to_vec(), hex::encode(bytes).into(), hex::encode_upper(bytes).into(), numbers.into()];
    if let Ok(text) = std::str::from_utf8(bytes) {
        let json = serde_json::to_string(text).expect("a text");
        forms.push(json.trim_matches('"').into());
        forms.push(text.replace('\'', "''").into());
        forms.push(url::form_urlencoded::byte_serialize(bytes).collect::<String>().into());
    }
    for offset in 0..3 {
        let shifted = [vec![0; offset], bytes.to_vec()].concat();
        // What the neighbours have a say in is left out.
        let (begin, end) = ([0, 2, 3][offset], shifted.len() * 8 / 6);
        forms.push(BASE64_STANDARD_NO_PAD.encode(&shifted)[begin..end].into());
        forms.push(BASE64_URL_SAFE_NO_PAD.encode(&shifted)[begin..end].into());
    }
    forms.sort();
    forms.dedup();
    forms
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let (folders, mut files): (Vec<PathBuf>, Vec<PathBuf>) = entries.partition(|path| path.is_dir());
    files.extend(folders.iter().flat_map(|folder| files_below(folder)));
    files
}

fn line_around(text: &[u8], at: usize) -> String {
    let begin = text[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let line = text[begin.max(at.saturating_sub(200))..].split(|byte| *byte == b'\n').next().unwrap_or_default();
    String::from_utf8_lossy(line).chars().take(400).collect()
}

#[test]
fn a_marker_is_found_in_every_form() {
    let word = Word::new("a row", ROW.as_bytes());
    for around in ["", "x", "xy", "xyz"] {
        let text = format!("{around}{ROW}{around}");
        let bytes = text.as_bytes();
        for written in [
            text.clone(),
            format!("{bytes:?}"),
            hex::encode(bytes),
            BASE64_STANDARD_NO_PAD.encode(bytes),
            BASE64_URL_SAFE_NO_PAD.encode(bytes),
        ] {
            assert!(word.place(written.as_bytes()).is_some(), "{written}");
        }
    }
    assert!(Word::new("", b"a'b\\c d").place(b"'a''b\\c d'").is_some());
    assert!(Word::new("", b"a'b\\c d").place(br#""a'b\\c d""#).is_some());
    assert!(Word::new("", b"a'b\\c d").place(b"?x=a%27b%5Cc+d").is_some());
    assert_eq!(word.place(b"planted-row, planted"), None);
}
