//! Walks the tree of a configuration: reads keys, and collects every complaint and every setting on the way.
//!
//! A reader never stops at a complaint: what cannot be read is `None`, and [`Reader::finish`] reports all of them together.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};
use std::path::Path;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use crate::config::complaint::Complaint;
use crate::config::document::Document;
use crate::config::environment::Environment;
use crate::config::error::Error;
use crate::config::nearest::nearest;
use crate::config::settings::{Origin, Setting};
use crate::config::values::{Node, Value, Wrong, quoted, whole_number, wrong_type};

/// Complaints that are reported together; more help nobody.
const MAX_COMPLAINTS: usize = 20;

/// One reading of one document.
pub(super) struct Reader<'a> {
    document: &'a Document,
    environment: &'a Environment,
    complaints: RefCell<Vec<Complaint>>,
    settings: RefCell<Vec<Setting>>,
}

/// One table of the document while its keys are read.
pub(super) struct Section<'a> {
    reader: &'a Reader<'a>,
    /// `repository`, `servers[0]`; empty for the top.
    path: String,
    /// As it is typed: `[repository]`, `[[servers]]`.
    title: String,
    span: Option<Range<usize>>,
    /// `None` for a section that the file does not have.
    table: Option<&'a DeTable<'a>>,
    known: RefCell<BTreeSet<&'static str>>,
    /// True once something in it was complained about.
    is_wrong: Cell<bool>,
}

impl<'a> Reader<'a> {
    /// A reading without complaints so far.
    pub(super) fn new(document: &'a Document, environment: &'a Environment) -> Self {
        Self { document, environment, complaints: RefCell::default(), settings: RefCell::default() }
    }

    /// The top of the document.
    pub(super) fn top(&'a self, root: &'a Spanned<DeTable<'a>>) -> Section<'a> {
        if self.document.is_empty() {
            let mut complaint = self.document.complaint(None, "the file is empty");
            complaint.meant = Some("begin with [repository] and [encryption]".to_owned());
            self.complaints.borrow_mut().push(complaint);
        }
        Section {
            reader: self,
            path: String::new(),
            title: "the file".to_owned(),
            span: None,
            table: Some(root.get_ref()),
            known: RefCell::default(),
            is_wrong: Cell::default(),
        }
    }

    /// All settings, or all complaints in the order of lines.
    pub(super) fn finish(self) -> Result<Vec<Setting>, Error> {
        let mut complaints = self.complaints.into_inner();
        if complaints.is_empty() {
            return Ok(self.settings.into_inner());
        }
        complaints.truncate(MAX_COMPLAINTS);
        Err(Error::invalid(complaints))
    }
}

impl<'a> Section<'a> {
    /// The environment of the process.
    pub(super) fn environment(&self) -> &'a Environment {
        self.reader.environment
    }

    /// The value of `key`; `None` and a setting without a value where there is none.
    pub(super) fn optional<T: Value>(&self, key: &'static str) -> Option<T> {
        let found = self.read(key, T::read);
        if found.is_none() && !self.has(key) {
            self.note(key, serde_json::Value::Null, Origin::Default);
        }
        found
    }

    /// The value of `key`; a complaint where there is none.
    pub(super) fn required<T: Value>(&self, key: &'static str) -> Option<T> {
        if !self.has(key) {
            self.missing(key);
        }
        self.read(key, T::read)
    }

    /// The value of `key`, or `default`.
    pub(super) fn or<T: Value>(&self, key: &'static str, default: T) -> T {
        match self.read(key, T::read) {
            Some(value) => value,
            None => self.fall_back(key, default),
        }
    }

    /// The value of `key` if `check` lets it pass, or `default`.
    pub(super) fn checked<T: Value>(
        &self,
        key: &'static str,
        default: T,
        check: impl FnOnce(&T) -> Result<(), Wrong>,
    ) -> T {
        let read = |node: &Node<'_>| T::read(node).and_then(|value| check(&value).map(|()| value));
        match self.read(key, read) {
            Some(value) => value,
            None => self.fall_back(key, default),
        }
    }

    /// A whole number in a range, both ends included, or `default`.
    pub(super) fn count(&self, key: &'static str, range: RangeInclusive<u32>, default: u32) -> u32 {
        match self.read(key, |node| whole_number(node, &range).map(Count)) {
            Some(Count(number)) => number,
            None => self.fall_back(key, Count(default)).0,
        }
    }

    /// The values of an array; a complaint for each that is wrong. `None` where there is no array.
    pub(super) fn list<T: Value>(&self, key: &'static str) -> Option<Vec<T>> {
        self.known.borrow_mut().insert(key);
        let Some((_, value)) = self.entry(key) else {
            self.note(key, serde_json::Value::Null, Origin::Default);
            return None;
        };
        let path = self.path_of(key);
        let Some(array) = value.get_ref().as_array() else {
            let node = Node { value, document: self.reader.document, path: &path };
            self.wrong(value.span(), wrong_type(&node, "an array"));
            return None;
        };
        let mut read = Vec::new();
        for item in array {
            match T::read(&Node { value: item, document: self.reader.document, path: &path }) {
                Ok(good) => read.push(good),
                Err(wrong) => self.wrong(item.span(), wrong),
            }
        }
        let shown = read.iter().map(Value::show).collect();
        self.note(key, serde_json::Value::Array(shown), self.origin(value.span().start));
        Some(read)
    }

    /// The values of an array, none where there is no array.
    pub(super) fn list_or_empty<T: Value>(&self, key: &'static str) -> Vec<T> {
        if self.has(key) {
            return self.list(key).unwrap_or_default();
        }
        self.given(key, serde_json::Value::Array(Vec::new()), Origin::Default);
        Vec::new()
    }

    /// The table under `key`.
    pub(super) fn section(&self, key: &'static str) -> Option<Section<'a>> {
        self.known.borrow_mut().insert(key);
        let (name, value) = self.entry(key)?;
        let path = self.path_of(key);
        let Some(table) = value.get_ref().as_table() else {
            let node = Node { value, document: self.reader.document, path: &path };
            self.wrong(value.span(), wrong_type(&node, format!("a section [{path}]")));
            return None;
        };
        Some(Section {
            reader: self.reader,
            title: format!("[{path}]"),
            path,
            span: Some(if value.span().is_empty() { name.span() } else { value.span() }),
            table: Some(table),
            known: RefCell::default(),
            is_wrong: Cell::default(),
        })
    }

    /// The section `key` that the file does not have: all of its keys have their defaults.
    pub(super) fn absent(&self, key: &'static str) -> Section<'a> {
        self.know(key);
        Section {
            reader: self.reader,
            title: format!("[{key}]"),
            path: self.path_of(key),
            span: None,
            table: None,
            known: RefCell::default(),
            is_wrong: Cell::default(),
        }
    }

    /// The table under `key`, which must be there.
    pub(super) fn required_section(&self, key: &'static str) -> Option<Section<'a>> {
        if !self.has(key) && !self.reader.document.is_empty() {
            self.complain_whole(&format!("section [{key}] is missing"));
        }
        self.section(key)
    }

    /// The tables of the array `key`.
    pub(super) fn sections(&self, key: &'static str) -> Vec<Section<'a>> {
        self.known.borrow_mut().insert(key);
        let Some((_, value)) = self.entry(key) else { return Vec::new() };
        let path = self.path_of(key);
        let expected = format!("sections [[{key}]]");
        let document = self.reader.document;
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(value.span(), wrong_type(&Node { value, document, path: &path }, expected));
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (index, item) in array.iter().enumerate() {
            let path = format!("{path}[{index}]");
            match item.get_ref() {
                DeValue::Table(table) => sections.push(Section {
                    reader: self.reader,
                    path,
                    title: format!("[[{}]]", self.path_of(key)),
                    span: Some(item.span()),
                    table: Some(table),
                    known: RefCell::default(),
                    is_wrong: Cell::default(),
                }),
                _ => {
                    self.wrong(
                        item.span(),
                        wrong_type(&Node { value: item, document, path: &path }, expected.as_str()),
                    );
                }
            }
        }
        sections
    }

    /// True where the table says something about `key`, right or wrong.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    /// Complains about the value of `key`, or about the section where there is none.
    pub(super) fn complain(&self, key: &str, wrong: Wrong) {
        match self.entry(key) {
            Some((_, value)) => self.wrong(value.span(), wrong),
            None => self.complain_here(wrong),
        }
    }

    /// Complains about the section itself.
    pub(super) fn complain_here(&self, wrong: Wrong) {
        match &self.span {
            Some(span) => self.wrong(self.reader.document.first_line(span), wrong),
            None => self.complain_whole(&wrong.message),
        }
    }

    /// Notes the value of a key that was not read from its own place in the file.
    pub(super) fn given(&self, key: &'static str, value: serde_json::Value, origin: Origin) {
        self.know(key);
        self.note(key, value, origin);
    }

    /// Says that `key` is known, though nobody reads it.
    pub(super) fn know(&self, key: &'static str) {
        self.known.borrow_mut().insert(key);
    }

    /// The folder that relative paths start at.
    pub(super) fn folder(&self) -> &'a Path {
        self.reader.document.folder()
    }

    /// The line of the value of `key`, 0 where there is none.
    pub(super) fn line(&self, key: &str) -> usize {
        self.entry(key).map_or(0, |(_, value)| self.reader.document.line(value.span().start))
    }

    /// The origin of the value of `key`.
    pub(super) fn origin_of(&self, key: &str) -> Origin {
        self.entry(key).map_or(Origin::Default, |(_, value)| self.origin(value.span().start))
    }

    /// True once something in the section was complained about.
    pub(super) fn is_wrong(&self) -> bool {
        self.is_wrong.get()
    }

    /// True where `key` is an array without values.
    pub(super) fn is_empty_array(&self, key: &str) -> bool {
        self.entry(key).and_then(|(_, value)| value.get_ref().as_array()).is_some_and(|array| array.is_empty())
    }

    /// Notes a value for `config show`; `part` is a key, or a part of the value of another key.
    pub(super) fn note(&self, key: &str, value: serde_json::Value, origin: Origin) {
        self.reader.settings.borrow_mut().push(Setting { path: self.path_of(key), value, origin });
    }

    /// Complains about every key that nobody asked for.
    pub(super) fn finish(self) {
        let known = self.known.borrow();
        for key in
            self.table.iter().flat_map(|table| table.keys()).filter(|key| !known.contains(key.get_ref().as_ref()))
        {
            let name = key.get_ref().as_ref();
            let what = if self.span.is_none() { "section" } else { "key" };
            let expected = format!("one of {}", quoted(known.iter().copied()));
            let wrong = Wrong::new(format!("unknown {what} {name:?} in {}", self.title), expected);
            self.wrong(key.span(), wrong.or_rather(nearest(name, known.iter().copied())));
        }
    }

    fn entry(&self, key: &str) -> Option<(&'a Spanned<DeString<'a>>, &'a Spanned<DeValue<'a>>)> {
        self.table?.get_key_value(key)
    }

    fn read<T: Value>(&self, key: &'static str, read: impl FnOnce(&Node<'_>) -> Result<T, Wrong>) -> Option<T> {
        self.known.borrow_mut().insert(key);
        let (_, value) = self.entry(key)?;
        let path = self.path_of(key);
        match read(&Node { value, document: self.reader.document, path: &path }) {
            Ok(good) => {
                self.note(key, good.show(), self.origin(value.span().start));
                Some(good)
            }
            Err(wrong) => {
                self.wrong(value.span(), wrong);
                None
            }
        }
    }

    fn fall_back<T: Value>(&self, key: &'static str, default: T) -> T {
        self.note(key, default.show(), Origin::Default);
        default
    }

    /// Complains that `key` is not there.
    pub(super) fn missing(&self, key: &str) {
        self.complain_here(Wrong { message: format!("{} does not say {key:?}", self.title), ..Wrong::default() });
    }

    fn complain_whole(&self, message: &str) {
        self.reader.complaints.borrow_mut().push(self.reader.document.complaint(None, message));
    }

    fn wrong(&self, span: Range<usize>, wrong: Wrong) {
        self.is_wrong.set(true);
        let mut complaint = self.reader.document.complaint(Some(wrong.span.unwrap_or(span)), &wrong.message);
        complaint.expected = wrong.expected;
        complaint.meant = wrong.meant;
        self.reader.complaints.borrow_mut().push(complaint);
    }

    fn origin(&self, offset: usize) -> Origin {
        let document = self.reader.document;
        Origin::File { file: document.file().display().to_string(), line: document.line(offset) }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// A whole number whose range was checked.
struct Count(u32);

impl Value for Count {
    fn read(node: &Node<'_>) -> Result<Self, Wrong> {
        whole_number(node, &(0..=u32::MAX)).map(Self)
    }

    fn show(&self) -> serde_json::Value {
        self.0.into()
    }
}
