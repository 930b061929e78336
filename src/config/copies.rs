//! `[[copies]]`: second repositories, kept in step by `copy`. They have the keys of the first.

use std::collections::BTreeMap;

use crate::base::units::ByteSize;
use crate::config::Config;
use crate::config::reader::Section;
use crate::config::repository::Repository;
use crate::config::values::Wrong;

/// The least bandwidth: below it an object of 16 MiB takes longer than an hour.
const MIN_BANDWIDTH: ByteSize = ByteSize(4 << 10);

/// A second repository.
#[derive(Clone, Debug)]
pub struct SecondRepository {
    /// The operator's name for it.
    pub name: String,
    /// Where it is; its key is that of the first.
    pub repository: Repository,
    /// The bytes that `copy` sends there a second, on the average.
    pub bandwidth: Option<ByteSize>,
}

impl Config {
    /// The copy of that name.
    pub fn copy(&self, name: &str) -> Option<&SecondRepository> {
        self.copies.iter().find(|copy| copy.name == name)
    }

    /// Works on the copy of that name in place of the first repository. False where there is none.
    pub fn use_copy(&mut self, name: &str) -> bool {
        let Some(copy) = self.copy(name) else { return false };
        self.repository = Repository { key: self.repository.key.clone(), ..copy.repository.clone() };
        true
    }
}

/// Reads all copies; two of one name are complained about.
pub(super) fn read_all(top: &Section<'_>) -> Vec<SecondRepository> {
    let mut copies = Vec::new();
    let mut lines = BTreeMap::new();
    for section in top.sections("copies") {
        let name: Option<String> = section.required("name");
        if let Some(name) = &name
            && let Some(first) = lines.insert(name.clone(), section.line("name"))
        {
            let wrong = Wrong::new(format!("two copies are called {name:?}"), "a name of its own");
            section.complain("name", wrong.and(format!("the first is in line {first}")));
        }
        let repository = Repository::read_place(&section, "copies");
        let bandwidth: Option<ByteSize> = section.optional("bandwidth");
        if let Some(slow) = bandwidth.filter(|bandwidth| *bandwidth < MIN_BANDWIDTH) {
            let expected = format!("at least {MIN_BANDWIDTH} a second");
            section.complain("bandwidth", Wrong::new(format!("copies.bandwidth is {slow}"), expected));
        }
        section.finish();
        if let (Some(name), Some(repository)) = (name, repository) {
            copies.push(SecondRepository { name, repository, bandwidth });
        }
    }
    copies
}
