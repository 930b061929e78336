//! `[central]` and `[tenants]`: the databases that are protected, and how tenants are found.

use crate::config::nearest::nearest;
use crate::config::reader::Section;
use crate::config::server::Named;
use crate::config::values::{Node, Value, Wrong, one_of, quoted, text};

const KINDS: [&str; 4] = ["preset", "query", "pattern", "list"];
const EXPECTED: &str = "{ preset = \"stancl\" }, { query = \"…\" }, { pattern = \"…\" } or { list = [\"…\"] }";

/// The central database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Central {
    /// The name of its server, which is configured.
    pub server: String,
    /// Its name there.
    pub database: String,
}

/// The tenant databases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenants {
    /// The name of the server they are on where the registry says nothing else; it is configured.
    pub server: String,
    /// How they are found.
    pub discover: Discover,
}

/// How tenants are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discover {
    /// By the convention of a framework, in the central database.
    Preset(Preset),
    /// By a statement in the central database that gives their names and databases.
    Query(String),
    /// By the names of databases, in the words of SQL's LIKE.
    Pattern(String),
    /// These databases, at least one.
    List(Vec<String>),
}

/// The convention of a framework.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Preset {
    /// stancl/tenancy 2 to 4.
    Stancl {
        /// What stands before the tenant's key in a database name that the registry leaves out: `tenant`.
        database_prefix: String,
        /// What stands behind it: nothing.
        database_suffix: String,
    },
    /// spatie/laravel-multitenancy.
    Spatie,
}

impl Central {
    pub(super) fn read(top: &Section<'_>, servers: &[Named]) -> Option<Self> {
        let section = top.section("central")?;
        let server = read_server(&section, servers);
        let database = section.required("database");
        section.finish();
        Some(Self { server: server?, database: database? })
    }
}

impl Tenants {
    pub(super) fn read(top: &Section<'_>, servers: &[Named]) -> Option<Self> {
        let section = top.section("tenants")?;
        let server = read_server(&section, servers);
        if !section.has("discover") {
            section.missing("discover");
        }
        let discover = section.section("discover").and_then(|inner| Discover::read(&section, inner));
        if matches!(discover, Some(Discover::Preset(_) | Discover::Query(_))) && !top.has("central") {
            let wrong = Wrong::new("this asks the central database, and there is no [central]", "a section [central]");
            section.complain("discover", wrong);
        }
        section.finish();
        Some(Self { server: server?, discover: discover? })
    }
}

impl Discover {
    fn read(tenants: &Section<'_>, section: Section<'_>) -> Option<Self> {
        let given: Vec<&str> = KINDS.into_iter().filter(|kind| section.has(kind)).collect();
        if given.len() != 1 {
            KINDS.into_iter().for_each(|kind| section.know(kind));
            let wrong = match given.is_empty() {
                true => Wrong::new("discover does not say how", EXPECTED),
                false => Wrong::new(format!("discover has {} ways: {}", given.len(), quoted(given)), "one of them"),
            };
            tenants.complain("discover", wrong);
            section.finish();
            return None;
        }
        let preset = section.optional("preset").map(|word| read_preset(&section, word));
        let query = section.optional::<String>("query").map(Self::Query);
        let pattern = section.optional::<String>("pattern").map(Self::Pattern);
        let list = section.list::<String>("list");
        if list.as_ref().is_some_and(Vec::is_empty) && section.is_empty_array("list") {
            section.complain("list", Wrong::new("the list is empty", "at least one database"));
        }
        if preset.is_none() {
            refuse_affixes(&section);
        }
        section.finish();
        preset.map(Self::Preset).or(query).or(pattern).or(list.map(Self::List))
    }
}

const AFFIXES: [&str; 2] = ["database_prefix", "database_suffix"];

fn read_preset(section: &Section<'_>, word: PresetWord) -> Preset {
    match word {
        PresetWord::Stancl => Preset::Stancl {
            database_prefix: section.or("database_prefix", Affix("tenant".to_owned())).0,
            database_suffix: section.or("database_suffix", Affix(String::new())).0,
        },
        PresetWord::Spatie => {
            refuse_affixes(section);
            Preset::Spatie
        }
    }
}

fn refuse_affixes(section: &Section<'_>) {
    for key in AFFIXES {
        section.know(key);
        if section.has(key) {
            section.complain(key, Wrong::new(format!("{key} has no meaning here"), "only with preset = \"stancl\""));
        }
    }
}

fn read_server(section: &Section<'_>, servers: &[Named]) -> Option<String> {
    let server: Option<String> = section.required("server");
    let name = server.as_deref()?;
    if !servers.iter().any(|server| server.name == name) {
        let known = || servers.iter().map(|server| server.name.as_str());
        let expected = match servers.is_empty() {
            true => "a section [[servers]] with this name".to_owned(),
            false => format!("one of {}", quoted(known())),
        };
        let wrong = Wrong::new(format!("there is no server {name:?}"), expected);
        section.complain("server", wrong.or_rather(nearest(name, known())));
    }
    server
}

#[derive(Clone, Copy)]
enum PresetWord {
    Stancl,
    Spatie,
}

const PRESETS: [(&str, PresetWord); 2] = [("stancl", PresetWord::Stancl), ("spatie", PresetWord::Spatie)];

impl Value for PresetWord {
    fn read(node: &Node<'_>) -> Result<Self, Wrong> {
        one_of(node, &PRESETS)
    }

    fn show(&self) -> serde_json::Value {
        match self {
            Self::Stancl => "stancl".into(),
            Self::Spatie => "spatie".into(),
        }
    }
}

/// A part of a database name, which may be empty.
struct Affix(String);

impl Value for Affix {
    fn read(node: &Node<'_>) -> Result<Self, Wrong> {
        match node.value.get_ref().as_str() {
            Some("") => Ok(Self(String::new())),
            _ => text(node, "a part of a database name").map(|text| Self(text.to_owned())),
        }
    }

    fn show(&self) -> serde_json::Value {
        self.0.as_str().into()
    }
}
