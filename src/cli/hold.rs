//! `hold` and `release`.

use crate::base::class::Class;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::upkeep::{Hold, Release};
use crate::cli::{Context, job_context};
use crate::job;

/// Runs `hold`.
pub(super) async fn run(arguments: &Hold, context: &Context) -> Result<Exit, Failure> {
    let config = context.config()?;
    let zone = config.retention.timezone;
    let until = arguments.until.0.in_zone(zone).ok_or_else(|| {
        Failure::said(Class::Usage, format!("there is no such local time in {zone}"))
            .with_hint("give it in UTC: 2027-03-31T12:00:00Z")
    })?;
    let job = job_context(context, config);
    let held = job::hold::hold(&job, arguments.backup, until, &arguments.reason);
    let held = context.signals.stop().run_until_cancelled(held).await.ok_or_else(Failure::stopped)??;
    if arguments.json {
        context.output.json(&held)?;
    }
    let (target, until) = (&held.vault, held.until.to_rfc3339());
    context.output.say(&format!(
        "held: backup {} of {target} until {until}: {}\nnext: dbkeeper release {} ends it",
        held.backup, held.reason, held.backup
    ));
    Ok(Exit::GOOD)
}

/// Runs `release`.
pub(super) async fn release(arguments: &Release, context: &Context) -> Result<Exit, Failure> {
    let job = job_context(context, context.config()?);
    let released = job::hold::release(&job, arguments.backup);
    let released = context.signals.stop().run_until_cancelled(released).await.ok_or_else(Failure::stopped)??;
    if arguments.json {
        context.output.json(&released)?;
    }
    let expires = released.expires_at.to_rfc3339();
    context.output.say(&format!(
        "released: backup {} of {}; it goes by its expiry, {expires}\nnext: dbkeeper prune --dry-run shows when",
        released.backup, released.vault
    ));
    Ok(Exit::GOOD)
}
