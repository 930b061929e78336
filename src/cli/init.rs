//! `init`: a new repository.

use crate::cli::arguments::Init;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::{Context, job_context};
use crate::job;

/// Runs the verb. Nothing that exists is changed.
pub(super) async fn run(_arguments: &Init, context: &Context) -> Result<Exit, Failure> {
    let job = job_context(context, context.config()?);
    let stop = context.signals.stop();
    let created = stop.run_until_cancelled(job::init::init(&job)).await;
    let created = created.ok_or_else(Failure::stopped)??;
    context.output.say(&format!(
        "a new repository at {}, id {}\n\
         keep in two safe places, away from what is backed up:\n    \
         the recovery identity (without it nothing can be restored), and the repository key\n\
         next: dbkeeper doctor, then dbkeeper backup --all",
        created.location, created.id
    ));
    Ok(Exit::GOOD)
}
