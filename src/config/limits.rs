//! `[limits]`: how much the process takes at once, and how long it waits for a sign of life.

use std::time::Duration;

use crate::base::units::{ByteSize, print_duration};
use crate::config::reader::Section;
use crate::config::values::Wrong;

/// The least memory in which a pipeline of 16 MiB packs moves.
const MIN_MEMORY: ByteSize = ByteSize(128 << 20);
/// What the process needs beside the pipeline: connections, catalogues, indexes, its own code.
const OUTSIDE_PIPELINE: ByteSize = ByteSize(96 << 20);

/// Bounds of the whole process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The memory that the process should stay within.
    pub memory: ByteSize,
    /// Targets that are worked on at once.
    pub targets_at_once: usize,
    /// Requests to the store at once.
    pub requests_at_once: usize,
    /// How long nothing may move before a target is given up.
    pub no_progress: Duration,
    /// How long a dump waits for a table that another session has locked.
    pub lock_timeout: Duration,
}

impl Limits {
    /// The bytes that may be in flight in the pipeline at once.
    pub fn pipeline_bytes(&self) -> usize {
        usize::try_from(self.memory.0 - OUTSIDE_PIPELINE.0).unwrap_or(usize::MAX)
    }

    pub(super) fn read(top: &Section<'_>) -> Option<Self> {
        let absent = !top.has("limits");
        let section = if absent { top.absent("limits") } else { top.section("limits")? };
        let memory = section.checked("memory", ByteSize(256 << 20), |memory: &ByteSize| {
            let wrong = || Wrong::new(format!("limits.memory is {memory}"), format!("at least {MIN_MEMORY}"));
            if *memory < MIN_MEMORY { Err(wrong()) } else { Ok(()) }
        });
        let targets_at_once = section.count("targets_at_once", 1..=1000, 4);
        let requests_at_once = section.count("requests_at_once", 1..=1000, 16);
        let no_progress = section.checked("no_progress", Duration::from_secs(600), |wait: &Duration| {
            at_least(*wait, Duration::from_secs(10), "limits.no_progress")
        });
        let lock_timeout = section.checked("lock_timeout", Duration::from_secs(30), |wait: &Duration| {
            at_least(*wait, Duration::from_secs(1), "limits.lock_timeout")
        });
        section.finish();
        Some(Self {
            memory,
            targets_at_once: targets_at_once as usize,
            requests_at_once: requests_at_once as usize,
            no_progress,
            lock_timeout,
        })
    }
}

/// Complains about a wait that ends before anything can happen.
pub(super) fn at_least(wait: Duration, least: Duration, name: &str) -> Result<(), Wrong> {
    let wrong = || {
        Wrong::new(format!("{name} is \"{}\"", print_duration(wait)), format!("at least \"{}\"", print_duration(least)))
    };
    if wait < least { Err(wrong()) } else { Ok(()) }
}
