//! Why there is no configuration, or why a secret that it names cannot be had.

use std::path::PathBuf;

use crate::base::class::Class;
use crate::base::units::ByteSize;
use crate::config::complaint::Complaint;

/// What went wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("read the configuration {}", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// The file is larger than any configuration.
    #[error("the configuration {} is larger than {limit}", .file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// The limit.
        limit: ByteSize,
    },
    /// The file says something that cannot stay.
    #[error("{}", list(.complaints))]
    Invalid {
        /// All that was found, in the order of lines; at least one.
        complaints: Vec<Complaint>,
    },
    /// A secret that the configuration names cannot be read.
    #[error("{complaint}")]
    Secret {
        /// Where it is named, and what happened.
        complaint: Box<Complaint>,
        /// [`Class::Key`] for keys and identities, [`Class::Usage`] for the rest.
        class: Class,
        /// The cause.
        #[source]
        source: Option<std::io::Error>,
    },
    /// A key that the job needs is not configured.
    #[error("{} does not say {name}", .file.display())]
    KeyNotConfigured {
        /// The file.
        file: PathBuf,
        /// The key of the configuration.
        name: &'static str,
    },
}

impl Error {
    /// The complaints, at least one, in the order of lines; those about the whole file last.
    pub(super) fn invalid(mut complaints: Vec<Complaint>) -> Self {
        complaints.sort_by_key(|complaint| {
            complaint.place.as_ref().map_or((usize::MAX, 0), |place| (place.line, place.column))
        });
        Self::Invalid { complaints }
    }

    /// What the error means to the caller.
    pub fn class(&self) -> Class {
        match self {
            Self::Unreadable { .. } | Self::TooLarge { .. } | Self::Invalid { .. } => Class::Usage,
            Self::Secret { class, .. } => *class,
            Self::KeyNotConfigured { .. } => Class::Key,
        }
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreadable { .. } => Some("name it with --config FILE or DBKEEPER_CONFIG".to_owned()),
            Self::TooLarge { .. } => Some("is it the right file?".to_owned()),
            Self::Invalid { .. } => Some("`dbkeeper config schema` describes every key".to_owned()),
            Self::Secret { .. } => None,
            Self::KeyNotConfigured { name, .. } => {
                let (section, key) = name.split_once('.').unwrap_or(("", name));
                Some(format!("add `{key} = {{ file = \"…\" }}` to [{section}]"))
            }
        }
    }
}

fn list(complaints: &[Complaint]) -> String {
    let blocks: Vec<String> = complaints.iter().map(ToString::to_string).collect();
    match complaints {
        [only] => only.to_string(),
        [first, ..] => format!("{} is wrong in {} places\n\n{}", first.file, complaints.len(), blocks.join("\n\n")),
        [] => String::new(),
    }
}
