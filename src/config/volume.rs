//! `[[volumes]]`: folders of files that belong to the fleet.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::json;

use crate::base::ids::TargetId;
use crate::config::reader::Section;
use crate::config::values::{Node, Value, Wrong, text};

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name, unique among volumes.
    pub target: TargetId,
    /// Where its files are.
    pub source: VolumeSource,
    /// Patterns of paths below it that are left out.
    pub exclude: Vec<String>,
}

/// Where a volume's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeSource {
    /// A folder.
    Path(PathBuf),
    /// A named volume of Docker.
    DockerVolume(String),
}

/// Reads all volumes; two of one name are complained about.
pub(super) fn read_all(top: &Section<'_>) -> Vec<Volume> {
    let mut volumes = Vec::new();
    let mut lines = BTreeMap::new();
    for section in top.sections("volumes") {
        let name: Option<VolumeName> = section.required("name");
        if let Some(VolumeName(target)) = &name
            && let Some(first) = lines.insert(target.clone(), section.line("name"))
        {
            let wrong = Wrong::new(format!("two volumes are called {:?}", target.name.as_str()), "a name of its own");
            section.complain("name", wrong.and(format!("the first is in line {first}")));
        }
        let source = read_source(&section);
        let exclude = section.list_or_empty("exclude");
        section.finish();
        if let (Some(VolumeName(target)), Some(source)) = (name, source) {
            volumes.push(Volume { target, source, exclude });
        }
    }
    volumes
}

fn read_source(section: &Section<'_>) -> Option<VolumeSource> {
    const EXPECTED: &str = "either path or docker_volume";
    let path = section.optional::<PathBuf>("path");
    let docker_volume = section.optional::<String>("docker_volume");
    match (section.has("path"), section.has("docker_volume")) {
        (true, true) => section.complain("docker_volume", Wrong::new("the volume has two places", EXPECTED)),
        (false, false) => section.complain_here(Wrong::new("the volume has no place", EXPECTED)),
        _ => {}
    }
    path.map(VolumeSource::Path).or(docker_volume.map(VolumeSource::DockerVolume))
}

struct VolumeName(TargetId);

impl Value for VolumeName {
    fn read(node: &Node<'_>) -> Result<Self, Wrong> {
        const EXPECTED: &str = "a name without control characters, at most 240 bytes in an object key";
        let text = text(node, EXPECTED)?;
        TargetId::volume(text).map(Self).map_err(|_| Wrong::new(format!("{text:?} is no name of a volume"), EXPECTED))
    }

    fn show(&self) -> serde_json::Value {
        json!(self.0.name.as_str())
    }
}
