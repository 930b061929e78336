//! `[central]` and `[tenants]`: the databases that are protected, and how tenants are found.

use std::collections::BTreeMap;

use serde_json::json;
use toml::de::DeValue;

use crate::base::ids::{TargetId, TargetKind, TargetName};
use crate::codec::seal;
use crate::config::Config;
use crate::config::encryption::Recipient;
use crate::config::nearest::nearest;
use crate::config::reader::Section;
use crate::config::server::Named;
use crate::config::values::{Node, Value, Wrong, one_of, quoted, text, wrong_type};

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
    /// Recipients of tenants' own, beside the recovery recipients.
    pub recipients: BTreeMap<TargetName, seal::Recipient>,
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
        let recipients =
            section.optional::<OwnRecipients>("recipients").map_or_else(BTreeMap::new, |OwnRecipients(own)| own);
        section.finish();
        Some(Self { server: server?, discover: discover?, recipients })
    }
}

impl Config {
    /// The recipient of this target's own, where it has one.
    pub fn own_recipient(&self, target: &TargetId) -> Option<&seal::Recipient> {
        let tenants = self.tenants.as_ref().filter(|_| target.kind == TargetKind::Tenant);
        tenants.and_then(|tenants| tenants.recipients.get(&target.name))
    }
}

/// `[tenants.recipients]`: names of tenants with an age recipient each.
struct OwnRecipients(BTreeMap<TargetName, seal::Recipient>);

impl Value for OwnRecipients {
    fn read(node: &Node<'_>) -> Result<Self, Wrong> {
        const EXPECTED: &str = "a table of tenants and their recipients: acme = \"age1…\"";
        let DeValue::Table(table) = node.value.get_ref() else { return Err(wrong_type(node, EXPECTED)) };
        let mut own = BTreeMap::new();
        for (key, value) in table.iter() {
            let name = key.get_ref().as_ref();
            let wrong = |_| Wrong {
                span: Some(key.span()),
                ..Wrong::new(format!("{name:?} is no name of a tenant"), EXPECTED)
            };
            let tenant = TargetName::new(name).map_err(wrong)?;
            let path = format!("{}.{name}", node.path);
            let read = Recipient::read(&Node { value, path: &path, ..*node });
            let Recipient(recipient) =
                read.map_err(|wrong| Wrong { span: wrong.span.or(Some(value.span())), ..wrong })?;
            own.insert(tenant, recipient);
        }
        Ok(Self(own))
    }

    fn show(&self) -> serde_json::Value {
        json!(self.0.iter().map(|(name, own)| (name.to_string(), own.to_string())).collect::<BTreeMap<_, _>>())
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
