//! `erase`: shows what there is, asks for the name, and destroys it.

use std::io::{IsTerminal, Write as _};

use crate::base::class::Class;
use crate::base::ids::{TargetId, TargetKind};
use crate::base::units::ByteSize;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::upkeep::Erase;
use crate::cli::{Context, job_context};
use crate::job::erase::{Plan, execute, plan};

/// Runs the verb. What is still there afterwards makes the exit code 3.
pub(super) async fn run(arguments: &Erase, context: &Context) -> Result<Exit, Failure> {
    let target = TargetId { kind: TargetKind::Tenant, name: arguments.tenant.clone() };
    let job = job_context(context, context.config()?);
    let planned = context.signals.stop().run_until_cancelled(plan(&job, &target)).await;
    let planned = planned.ok_or_else(Failure::stopped)??;
    job.progress.finish();
    context.output.say(&page(&planned));
    if arguments.dry_run {
        if arguments.json {
            context.output.json(&planned.inventory)?;
        }
        context.output.say("dry run: nothing was destroyed");
        return Ok(Exit::GOOD);
    }
    match &arguments.yes_erase {
        Some(name) if *name == arguments.tenant => {}
        Some(name) => {
            let what = format!("--yes-erase names {name}, and --tenant {}: nothing was destroyed", arguments.tenant);
            return Err(Failure::said(Class::Usage, what).with_hint("give the same name twice"));
        }
        None => confirm(&target)?,
    }
    let record = execute(&job, &planned).await?;
    if arguments.json {
        context.output.json(&record)?;
    }
    let (objects, bytes) = (record.objects, ByteSize(record.bytes).approximate());
    if record.left.is_empty() {
        context.output.say(&format!(
            "erased: {target}, {} backups, {objects} objects, {bytes}; recorded in runs/{}\nnext: {}",
            record.backups,
            record.run_id,
            "take the tenant out of the registry, or its next backup makes a new vault; copies elsewhere are not touched"
        ));
        return Ok(Exit::GOOD);
    }
    if let Some((key, until)) = record.locked.iter().max_by_key(|(_, until)| *until) {
        context.output.say(&format!(
            "erased: what could be; the store still locks {} objects of {target}, the last until {}: {key}\nnext: run the same \
             command again then",
            record.locked.len(),
            until.to_rfc3339()
        ));
        return Ok(Exit::SOME_FAILED);
    }
    context.output.say(&format!(
        "erased: the keys of {target} are destroyed; {} objects are still there, the first is {}\nnext: {}",
        record.left.len(),
        record.left[0],
        "stop the backups of this tenant, and run the same command again"
    ));
    Ok(Exit::SOME_FAILED)
}

fn page(plan: &Plan) -> String {
    let found = &plan.inventory;
    let newest = found.newest.map_or("none".to_owned(), |id| id.to_string());
    format!(
        "{}: {} backups (the newest is {newest}), {} objects, {}\n    the secrets of {} epochs are destroyed first: \
         nothing of it can be read afterwards, by nobody",
        found.target,
        found.backups,
        found.objects,
        ByteSize(found.bytes).approximate(),
        found.epochs.len()
    )
}

/// Asks for the name on a terminal; elsewhere only `--yes-erase` is a yes.
fn confirm(target: &TargetId) -> Result<(), Failure> {
    let refused = |message: &str| Failure::said(Class::Usage, message.to_owned());
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        let hint = format!("add --yes-erase {} if you mean it", target.name);
        return Err(refused("nobody can be asked here, and nothing was destroyed").with_hint(hint));
    }
    let mut stderr = std::io::stderr().lock();
    let asked = write!(stderr, "type {} to destroy it for good: ", target.name).and_then(|()| stderr.flush());
    asked.map_err(|error| refused(&format!("the question could not be asked: {error}")))?;
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    read.map_err(|error| refused(&format!("the answer could not be read: {error}")))?;
    if answer.trim() == target.name.as_str() { Ok(()) } else { Err(refused("not confirmed; nothing was destroyed")) }
}
