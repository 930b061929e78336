//! Who is selected, of what was discovered. Pure.

use std::collections::BTreeSet;

use crate::base::class::Class;
use crate::base::ids::{TargetId, TargetKind};
use crate::fleet::{Database, Discovery};

/// What an operator asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The central database and all tenants, whatever else is said.
    pub all: bool,
    /// The central database.
    pub central: bool,
    /// These tenants, by their keys in the registry.
    pub tenants: Vec<String>,
}

/// Why a selection cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// There is no central database to select.
    #[error("no central database is configured")]
    NoCentral,
    /// No row of the registry has this key.
    #[error("there is no tenant {name:?}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The known name that is nearest to it.
        nearest: Option<String>,
    },
    /// The tenant is known and cannot be worked on.
    #[error("tenant {name:?} cannot be selected: {message}")]
    Unusable {
        /// What was asked for.
        name: String,
        /// What discovery found.
        message: String,
    },
}

impl SelectError {
    /// What the error means to the caller.
    pub fn class(&self) -> Class {
        Class::Usage
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoCentral => Some("add a section [central]".to_owned()),
            Self::Unknown { nearest, .. } => nearest.as_ref().map(|nearest| format!("did you mean {nearest:?}?")),
            Self::Unusable { .. } => None,
        }
    }
}

/// The selected databases in order of their targets, each once. Selecting all of an empty fleet selects nothing.
pub fn select<'a>(discovery: &'a Discovery, selection: &Selection) -> Result<Vec<&'a Database>, SelectError> {
    if selection.all {
        return Ok(discovery.databases.iter().collect());
    }
    let mut wanted = BTreeSet::new();
    if selection.central {
        let of_central = discovery.databases.iter().find(|database| database.target.kind == TargetKind::Central);
        wanted.insert(of_central.ok_or(SelectError::NoCentral)?.target.clone());
    }
    for name in &selection.tenants {
        let target = TargetId::tenant(name).ok();
        let is_there = |target: &TargetId| discovery.databases.binary_search_by(|has| has.target.cmp(target)).is_ok();
        wanted.insert(target.filter(is_there).ok_or_else(|| missing(discovery, name))?);
    }
    Ok(discovery.databases.iter().filter(|database| wanted.contains(&database.target)).collect())
}

/// Why a tenant is not among the databases.
fn missing(discovery: &Discovery, name: &str) -> SelectError {
    let name = name.to_owned();
    if let Some(finding) = discovery.findings.iter().find(|finding| finding.tenant == name) {
        return SelectError::Unusable { name, message: finding.message.clone() };
    }
    let tenants = discovery.databases.iter().filter(|database| database.target.kind == TargetKind::Tenant);
    let nearest = nearest(&name, tenants.map(|database| database.target.name.as_str()));
    SelectError::Unknown { name, nearest: nearest.map(str::to_owned) }
}

/// The known name that is closest to `word`, if it is close enough to be what was meant: a third of its letters.
fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let folded = word.to_lowercase();
    let distance = |name: &str| strsim::damerau_levenshtein(&folded, &name.to_lowercase());
    let (least, name) = known.map(|name| (distance(name), name)).min_by_key(|(least, _)| *least)?;
    let allowed = (folded.chars().count() / 3).max(1);
    (least <= allowed).then_some(name)
}
