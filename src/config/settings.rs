//! What the configuration comes to: every value with where it came from, for `config show`. Secrets are named, never held.

use std::fmt;

use serde::Serialize;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A line of the file.
    File {
        /// The file, as it was given.
        file: String,
        /// The line, counted from 1.
        line: usize,
    },
    /// A flag of the command line.
    Argument {
        /// Its name.
        flag: String,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        variable: String,
    },
    /// Nobody said anything else.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line } => write!(f, "{file}:{line}"),
            Self::Argument { flag } => f.write_str(flag),
            Self::Environment { variable } => write!(f, "environment {variable}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One value of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Its place: `repository.url`, `servers[0].connections`.
    pub path: String,
    /// The value as TOML would have it; `null` where there is none.
    pub value: serde_json::Value,
    /// Where it came from.
    pub origin: Origin,
}

impl Setting {
    /// The value on one line, as it would be typed; `(none)` where there is none.
    pub fn typed(&self) -> String {
        typed(&self.value)
    }
}

fn typed(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "(none)".to_owned(),
        serde_json::Value::Array(items) => {
            let items: Vec<String> = items.iter().map(typed).collect();
            format!("[{}]", items.join(", "))
        }
        serde_json::Value::Object(fields) => {
            let fields: Vec<String> = fields.iter().map(|(key, value)| format!("{key} = {}", typed(value))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        other => other.to_string(),
    }
}
