//! Every option that the schema describes, given what it must not be: the answer names the line, and is never a panic.
//!
//! The options are walked, not listed: a new one is tried as soon as the schema has it.

use std::collections::BTreeMap;

use dbkeeper::config::schema::schema;
use dbkeeper::config::{Config, Error};
use serde_json::Value;

use super::{RECIPIENT, environment, parse};
use crate::support::cli::Sandbox;

/// What an option takes.
#[derive(Clone, Debug, PartialEq)]
enum Takes {
    Text { pattern: bool },
    Number { most: f64, least: f64 },
    Switch,
    List,
    Secret,
    Word,
    Other,
}

/// An option: where it stands, and what it takes.
#[derive(Clone, Debug)]
struct Tried {
    /// `servers[].url`
    path: String,
    takes: Takes,
}

/// The lines that make a file whole, section by section: the option that is tried replaces its own.
const SECTIONS: [(&str, &[(&str, &str)]); 9] = [
    ("[repository]", &[("url", "\"s3://bucket/prefix\"")]),
    ("[[copies]]", &[("name", "\"disk\""), ("url", "\"s3://other/prefix\"")]),
    ("[encryption]", &[("recipients", "[\"age1…\"]")]),
    ("[[servers]]", &[("name", "\"pg\""), ("url", "\"postgres://u@h\"")]),
    ("[central]", &[("server", "\"pg\""), ("database", "\"c\"")]),
    ("[tenants]", &[("server", "\"pg\""), ("discover", "{ preset = \"stancl\" }")]),
    ("[[volumes]]", &[("name", "\"m\""), ("path", "\"/m\"")]),
    ("[retention]", &[("daily", "7")]),
    ("[limits]", &[]),
];

/// Texts that may be empty: what stands around a name can be nothing.
const MAY_BE_EMPTY: [&str; 2] = ["tenants.discover.database_prefix", "tenants.discover.database_suffix"];

fn options() -> Vec<Tried> {
    let root = schema();
    let mut found = BTreeMap::new();
    walk(&root, &root, "", &mut found);
    let tried: Vec<Tried> = found.into_iter().map(|(path, takes)| Tried { path, takes }).collect();
    assert!(tried.len() > 40, "the schema describes options: {tried:?}");
    tried
}

fn walk(root: &Value, schema: &Value, path: &str, found: &mut BTreeMap<String, Takes>) {
    let name = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix("#/$defs/"));
    let schema = name.map_or(schema, |name| &root["$defs"][name]);
    let ways: Vec<&Value> = ["oneOf", "anyOf"].iter().filter_map(|key| schema[*key].as_array()).flatten().collect();
    let inner = schema["properties"].as_object();
    if name == Some("Secret") {
        found.insert(path.to_owned(), Takes::Secret);
    } else if schema["items"]["$ref"].is_string() || schema["items"]["properties"].is_object() {
        walk(root, &schema["items"], &format!("{path}[]"), found);
    } else if inner.is_some() || ways.iter().any(|way| way["properties"].is_object()) {
        let ways = ways.iter().filter_map(|way| way["properties"].as_object());
        for (key, option) in inner.into_iter().chain(ways).flatten() {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            walk(root, option, &path, found);
        }
    } else {
        found.insert(path.to_owned(), takes(schema));
    }
}

fn takes(schema: &Value) -> Takes {
    match schema["type"].as_str() {
        _ if schema["enum"].is_array() || schema["oneOf"].is_array() => Takes::Word,
        Some("string") => Takes::Text { pattern: schema["pattern"].is_string() },
        Some("integer") => {
            let bound = |key: &str, default| schema[key].as_f64().unwrap_or(default);
            Takes::Number { most: bound("maximum", f64::MAX), least: bound("minimum", f64::MIN) }
        }
        Some("boolean") => Takes::Switch,
        Some("array") => Takes::List,
        _ => Takes::Other,
    }
}

/// A whole file in which this option has this value, and the line where that stands.
fn file_with(option: &str, value: &str) -> (String, usize) {
    let (section, key) = option.split_once('.').unwrap_or((option, ""));
    let is_list = section.ends_with("[]");
    let name = section.trim_end_matches("[]");
    let title = if is_list { format!("[[{name}]]") } else { format!("[{name}]") };
    let (key, value) = match key.split_once('.') {
        // Inside of an inline table, with what makes the table whole.
        Some((table, inner)) if inner != "preset" && inner.starts_with("database_") => {
            (table, format!("{{ preset = \"stancl\", {inner} = {value} }}"))
        }
        Some((table, inner)) => (table, format!("{{ {inner} = {value} }}")),
        None => (key, value.to_owned()),
    };
    let (mut text, mut line) = (String::new(), 0);
    let mut write = |words: &str| {
        text.push_str(words);
        text.push('\n');
        text.lines().count()
    };
    let sections = SECTIONS.iter().map(|(title, lines)| (*title, lines.to_vec()));
    let known = SECTIONS.iter().any(|(known, _)| *known == title);
    for (at, lines) in sections.chain((!known).then_some((title.as_str(), Vec::new()))) {
        write(at);
        // An option that excludes another one stands alone.
        let excluded = if at == title && key == "docker_volume" { "path" } else { "" };
        for (other, given) in lines.iter().filter(|(other, _)| *other != excluded && (at != title || *other != key)) {
            write(&format!("{other} = {}", given.replace("age1…", RECIPIENT)));
        }
        if at == title {
            line = write(&format!("{key} = {value}"));
        }
    }
    (text, line)
}

/// Requires a refusal that names the line; gives its text.
#[track_caller]
fn refused(option: &str, value: &str) -> String {
    let (text, line) = file_with(option, value);
    let error = match parse(&text) {
        Ok(_) => panic!("{option} = {} was taken", &value[..value.len().min(80)]),
        Err(error) => error,
    };
    let Error::Invalid { complaints } = &error else { panic!("{option} = {value}: {error}") };
    let place = format!("/etc/dbkeeper.toml:{line}:");
    let told = complaints.iter().map(ToString::to_string).find(|told| told.starts_with(&place));
    let told = told.unwrap_or_else(|| panic!("{option} = {value}: nothing about line {line}\n{error}"));
    assert!(error.to_string().len() < 1 << 20, "{option}: the answer has {} bytes", error.to_string().len());
    told
}

/// Values of each type of TOML.
const TYPES: [(&str, &str); 8] = [
    ("text", "\"x\""),
    ("number", "7"),
    ("decimal", "1.5"),
    ("switch", "true"),
    ("date", "1979-05-27"),
    ("list", "[[1]]"),
    ("table", "{ unheard_of = 1 }"),
    ("infinity", "inf"),
];

#[test]
fn every_option_refuses_every_wrong_type_with_its_line_and_what_it_expects() {
    for Tried { path, takes } in options() {
        for (kind, value) in TYPES {
            let right = match takes {
                // A word, and what has a form, refuses `x` as well.
                Takes::Text { .. } | Takes::Word | Takes::Other => kind == "text",
                Takes::Number { .. } => kind == "number",
                Takes::Switch => kind == "switch",
                Takes::List | Takes::Secret => false,
            };
            if !right {
                let told = refused(&path, value);
                assert!(told.contains("expected "), "{path} = {value} does not say what is expected:\n{told}");
            }
        }
    }
}

#[test]
fn every_option_refuses_wrong_units_and_numbers_out_of_range() {
    for Tried { path, takes } in options() {
        let values: &[&str] = match takes {
            Takes::Text { pattern: true } | Takes::Word => &[
                "\"x\"",
                "\"5 parsecs\"",
                "\"-1s\"",
                "\"1e3s\"",
                "\"99999999999999999999w\"",
                "\"99999999999999999999 TiB\"",
                "\"18446744073709551615 TiB\"",
                "\"٣s\"",
                "\" \"",
            ],
            Takes::Number { .. } => &["-1", "9223372036854775807", "4294967296", "0x7fffffffffffffff"],
            _ => &[],
        };
        for value in values {
            refused(&path, value);
        }
        if let Takes::Number { most, least } = takes {
            refused(&path, &format!("{:.0}", most + 1.0));
            refused(&path, &format!("{:.0}", least - 1.0));
        }
    }
}

#[test]
fn every_option_refuses_what_is_empty_giant_or_no_text() {
    let giant = "x".repeat(1 << 20);
    for Tried { path, takes } in options() {
        let texts = matches!(takes, Takes::Text { .. } | Takes::Word | Takes::Other);
        if texts && !MAY_BE_EMPTY.contains(&path.as_str()) {
            refused(&path, "\"\"");
        }
        if texts {
            refused(&path, &format!("\"{giant}\""));
            refused(&path, "\"a\\u0000b\"");
        }
        if takes == Takes::Secret {
            for form in ["{ file = \"\" }", "{ env = \"\" }", "{ command = \"\" }", "{ command = [] }", "{}", "\"\""] {
                refused(&path, form);
            }
            refused(&path, &format!("{{ file = \"{giant}\" }}"));
            refused(&path, "{ file = \"a\", env = \"b\" }");
            refused(&path, "{ file = \"a\\u0000b\" }");
        }
        if takes == Takes::List {
            refused(&path, "[7]");
            refused(&path, "[\"\"]");
            refused(&path, &format!("[\"{giant}\"]"));
            refused(&path, "[\"a\\u0000b\"]");
        }
    }
}

#[test]
fn every_option_is_refused_where_it_is_no_utf_8() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("dbkeeper.toml");
    for Tried { path, .. } in options() {
        let (text, line) = file_with(&path, "\"caf#\"");
        let bytes: Vec<u8> = text.bytes().map(|byte| if byte == b'#' { 0xe9 } else { byte }).collect();
        std::fs::write(&file, bytes).expect("write");
        let error = Config::load(&file, &environment()).map(|_| ()).expect_err("no UTF-8").to_string();
        assert!(error.contains(&format!("dbkeeper.toml:{line}:")), "{path}: {error}");
        assert!(error.contains("this is not UTF-8"), "{path}: {error}");
    }
}

#[test]
fn the_program_ends_with_2_for_every_option_and_never_panics() {
    let sandbox = Sandbox::new();
    for Tried { path, takes } in options() {
        let value = if takes == Takes::Switch { "\"yes\"" } else { "1979-05-27" };
        let (text, line) = file_with(&path, value);
        sandbox.write("dbkeeper.toml", &text);
        let ended = sandbox.run(&["config", "check"]).expect(2);
        assert_eq!(ended.stdout, "", "{path}");
        assert!(ended.stderr.contains(&format!("dbkeeper.toml:{line}:")), "{path}: {}", ended.stderr);
        assert!(!ended.stderr.contains("panicked"), "{path}: {}", ended.stderr);
    }
}
