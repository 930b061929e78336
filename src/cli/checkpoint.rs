//! `checkpoint`: one signed line on standard output, or in a file; and reading such a file.

use std::io::{Read, Write};
use std::path::Path;

use crate::base::class::Class;
use crate::cli::arguments::Checkpoint;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::{Context, job_context};
use crate::job::checkpoint::{Depth, take};
use crate::repository::checkpoint::MAX_CHECKPOINT_BYTES;

/// Runs the verb. What cannot be named is told, and makes the exit code 5.
pub(super) async fn run(arguments: &Checkpoint, context: &Context) -> Result<Exit, Failure> {
    let depth = if arguments.output.is_some() { Depth::Every } else { Depth::Newest };
    let job = job_context(context, context.config()?);
    let taken = context.signals.stop().run_until_cancelled(take(&job, depth)).await;
    let taken = taken.ok_or_else(Failure::stopped)??;
    let line = format!("{}\n", taken.line);
    match &arguments.output {
        Some(file) => write_new(file, line.as_bytes())?,
        None => context.output.data(line)?,
    }
    let (vaults, backups) = (taken.vaults, taken.backups);
    context.output.say(&format!(
        "checkpoint: {vaults} vaults, {backups} backups\nnext: keep it where nobody reaches who reaches the repository; \
         dbkeeper verify --checkpoint FILE compares"
    ));
    if taken.problems.is_empty() {
        return Ok(Exit::GOOD);
    }
    let failure = Failure::said(Class::Corrupt, taken.problems.join("\n"));
    Err(failure.with_hint("the checkpoint does not name these: run `dbkeeper verify` to see what is affected"))
}

fn write_new(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::said(Class::Usage, format!("write {}: {error}", file.display()));
    let mut new = std::fs::OpenOptions::new().write(true).create_new(true).open(file).map_err(failed)?;
    new.write_all(bytes).and_then(|()| new.sync_all()).map_err(failed)
}

/// The text of a checkpoint's file.
pub(super) fn read(file: Option<&Path>) -> Result<Option<String>, Failure> {
    let Some(file) = file else { return Ok(None) };
    let failed = |error: std::io::Error| {
        let failure = Failure::said(Class::Usage, format!("read the checkpoint {}: {error}", file.display()));
        failure.with_hint("it is the line that `dbkeeper checkpoint` printed")
    };
    let mut text = String::new();
    let limit = MAX_CHECKPOINT_BYTES as u64 + 1;
    std::fs::File::open(file).and_then(|open| open.take(limit).read_to_string(&mut text)).map_err(failed)?;
    Ok(Some(text))
}
