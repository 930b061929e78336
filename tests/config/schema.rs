//! The JSON Schema says of a file what the reader says of it: the same keys, the same defaults.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use dbkeeper::config::{Origin, schema::schema};
use serde_json::Value;

use super::{base, parse};

/// A file that has every section, so that the reader asks for every key; the keys themselves are left out where they can be.
fn every_section() -> String {
    let base = base().replace("file:///srv", "s3://bucket");
    format!(
        "{base}[[copies]]\nname = \"second\"\nurl = \"s3://other\"\n[[servers]]\nname = \"pg\"\nurl = \"postgres://u@h\"\n[central]\nserver = \"pg\"\ndatabase = \"c\"\n\
         [tenants]\nserver = \"pg\"\ndiscover = {{ preset = \"stancl\" }}\n[[volumes]]\nname = \"m\"\npath = \"/m\"\n\
         [retention]\ndaily = 0\nyearly = 1\n[limits]\n\
         [[drill.checks]]\nname = \"n\"\nquery = \"q\"\nexpect = \"1\"\n"
    )
}

/// The keys that the schema describes, `servers[].url`, with their defaults.
fn described() -> BTreeMap<String, Option<Value>> {
    let schema = schema();
    let mut keys = BTreeMap::new();
    collect(&schema, &schema, "", &mut keys);
    keys
}

fn collect(root: &Value, schema: &Value, path: &str, keys: &mut BTreeMap<String, Option<Value>>) {
    if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix("#/$defs/")) {
        if name == "Secret" {
            return;
        }
        return collect(root, &root["$defs"][name], path, keys);
    }
    for way in ["oneOf", "anyOf"].into_iter().filter_map(|list| schema[list].as_array()).flatten() {
        collect(root, way, path, keys);
    }
    if schema["items"].is_object() {
        collect(root, &schema["items"], &format!("{path}[]"), keys);
    }
    for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        keys.insert(path.clone(), inner.get("default").cloned());
        collect(root, inner, &path, keys);
    }
}

#[test]
fn the_schema_and_the_reader_know_the_same_keys_and_the_same_defaults() {
    let config = parse(&every_section()).expect("a good file");
    let read: BTreeMap<String, _> =
        config.settings.iter().map(|setting| (setting.path.replace("[0]", "[]"), setting)).collect();
    let described = described();
    let is_leaf = |path: &String| {
        !described.keys().any(|other| other.starts_with(path) && other[path.len()..].starts_with(['.', '[']))
    };
    let leaves: BTreeSet<&String> = described.keys().filter(|path| is_leaf(path)).collect();
    // The user stands in the URL: it is shown, and is no key of its own.
    let known: BTreeSet<&String> = read.keys().filter(|path| *path != "servers[].user").collect();
    assert_eq!(leaves, known);
    for (path, default) in described {
        let Some(setting) = read.get(&path).filter(|setting| setting.origin == Origin::Default) else { continue };
        match default {
            Some(default) => assert_eq!(setting.value, default, "the default of {path}"),
            // A default that depends on other keys is told in words.
            None if ["servers[].sslmode", "servers[].maintenance_database"].contains(&path.as_str()) => {}
            None => assert!(setting.value.is_null(), "the schema is silent about the default of {path}"),
        }
    }
}

#[test]
fn the_schema_in_the_documentation_is_current() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/config.schema.json");
    let stored = std::fs::read_to_string(&file).expect("docs/reference/config.schema.json");
    let current = format!("{:#}\n", schema());
    assert!(stored == current, "run `dbkeeper config schema > docs/reference/config.schema.json`");
}
