//! `prune`: shows what goes and by which rule, then deletes it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;

use crate::base::requests::Requests;
use crate::base::units::ByteSize;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::upkeep::{ForcedGuard, Prune};
use crate::cli::{Context, job_context};
use crate::job::prune::{Plan, Request, execute, plan};
use crate::repository::layout::VaultObject;
use crate::repository::prune::execute::Deleted;
use crate::repository::prune::{Guard, Refusal, Rule, VaultPlan};

/// The whole as scripts see it.
#[derive(Serialize)]
struct Report<'a> {
    /// `planned`, `done`, `partial` (some vaults were held back), `refused` or `stopped`.
    result: &'static str,
    dry_run: bool,
    /// What goes, or went.
    objects: u64,
    bytes: u64,
    #[serde(flatten)]
    plan: &'a Plan,
    deleted: Option<Deleted>,
    /// How often the store was asked, where that costs something.
    requests: Option<Requests>,
}

/// Runs the verb. Vaults that a guard holds back make the exit code 3, or 5 where damage is the reason.
pub(super) async fn run(arguments: &Prune, context: &Context) -> Result<Exit, Failure> {
    let forced = arguments.force.iter().flat_map(|force| match force {
        ForcedGuard::All => Guard::ALL.to_vec(),
        ForcedGuard::Clock => vec![Guard::Clock],
        ForcedGuard::Shrunken => vec![Guard::Shrunken],
        ForcedGuard::Share => vec![Guard::Share],
        ForcedGuard::Damaged => vec![Guard::Damaged],
    });
    let request = Request {
        forced: forced.collect(),
        max_share_percent: arguments.max_share,
        all_versions: arguments.all_versions,
    };
    let job = job_context(context, context.config()?);
    let planned = context.signals.stop().run_until_cancelled(plan(&job, &request)).await;
    let planned = planned.ok_or_else(Failure::stopped)??;
    job.progress.finish();
    let shown = page(&planned);
    if arguments.json {
        context.output.say(&shown)
    } else {
        context.output.data(&shown)?
    }
    let deleted = if arguments.dry_run { None } else { Some(execute(&job, &planned).await?) };
    let (objects, bytes) = planned.totals();
    let result = match deleted {
        _ if planned.is_refused() => "refused",
        None => "planned",
        Some(deleted) if deleted.stopped => "stopped",
        Some(_) if planned.guards().is_empty() => "done",
        Some(_) => "partial",
    };
    if arguments.json {
        let (dry_run, requests) = (arguments.dry_run, job.requests.total());
        context.output.json(&Report { result, dry_run, objects, bytes, plan: &planned, deleted, requests })?;
    }
    job.say_requests(context.output);
    context.output.say(&summary(&planned, deleted, result));
    let guards = planned.guards();
    Ok(match () {
        () if deleted.is_some_and(|deleted| deleted.stopped) => return Err(Failure::stopped()),
        () if guards.contains(&Guard::Damaged) || guards.contains(&Guard::Shrunken) => Exit::DAMAGED,
        () if planned.is_refused() => Exit::UNEXPECTED,
        () if !guards.is_empty() => Exit::SOME_FAILED,
        () => Exit::GOOD,
    })
}

fn page(plan: &Plan) -> String {
    let mut text = String::new();
    for refusal in &plan.refusals {
        let _ = writeln!(text, "{}", told(refusal));
    }
    for vault in &plan.vaults {
        let quiet = vault.removals.is_empty() && vault.refusals.is_empty() && vault.kept.is_empty();
        if !quiet || !vault.notes.is_empty() {
            vault_page(vault, &mut text);
        }
    }
    if !plan.reports.is_empty() {
        let _ = writeln!(text, "runs: {} reports that are older than reports are kept", plan.reports.len());
    }
    for note in &plan.notes {
        let _ = writeln!(text, "note: {note}");
    }
    text
}

fn told(refusal: &Refusal) -> String {
    let Refusal { guard, reason, forced } = refusal;
    match forced {
        true => format!("forced ({}): {reason}", guard.word()),
        false => format!("refused ({}): {reason}", guard.word()),
    }
}

fn vault_page(vault: &VaultPlan, text: &mut String) {
    let VaultPlan { target, backups, backups_left, .. } = vault;
    let going = if vault.is_refused() { "would go" } else { "go" };
    let _ = writeln!(text, "{target}: {} of {backups} backups {going}, {backups_left} stay", backups - backups_left);
    for refusal in &vault.refusals {
        let _ = writeln!(text, "    {}", told(refusal));
    }
    let mut packs: BTreeMap<Rule, (usize, u64)> = BTreeMap::new();
    let mut unfinished = BTreeSet::new();
    for removal in &vault.removals {
        match (removal.object, removal.rule) {
            (VaultObject::Marker(id), _) => {
                let at = id.expires_at().format("%Y-%m-%d %H:%MZ");
                let _ = writeln!(text, "    backup {id}: {} backup, expired {at}", id.class().word());
            }
            (VaultObject::Pack(..), rule) => {
                let sum = packs.entry(rule).or_default();
                *sum = (sum.0 + 1, sum.1 + removal.bytes);
            }
            (VaultObject::Index(id) | VaultObject::Manifest(id), Rule::Unfinished) => {
                unfinished.insert(id);
            }
            _ => {}
        }
    }
    for id in unfinished {
        let _ = writeln!(text, "    backup {id}: was never finished, and would have expired");
    }
    for (rule, (count, bytes)) in packs {
        let why = match rule {
            Rule::Superseded => "lie under a later expiry too, by the store's own checksum",
            _ => "expired, and no backup that stays needs them",
        };
        let _ = writeln!(text, "    {count} packs, {}: {why}", ByteSize(bytes).approximate());
    }
    for kept in &vault.kept {
        let _ = writeln!(text, "    backup {} stays: {}", kept.backup, kept.why);
    }
    for note in &vault.notes {
        let _ = writeln!(text, "    note: {note}");
    }
}

fn summary(plan: &Plan, deleted: Option<Deleted>, result: &str) -> String {
    let (objects, bytes) = plan.totals();
    let held = plan.vaults.iter().filter(|vault| vault.is_refused()).count();
    let guards: Vec<&str> = plan.guards().into_iter().map(Guard::word).collect();
    let done = match deleted {
        _ if result == "refused" => "nothing was deleted".to_owned(),
        None => format!("dry run: {objects} objects, {} would be deleted", ByteSize(bytes).approximate()),
        Some(Deleted { objects, bytes, batches, locked, .. }) => {
            let still = if locked == 0 { String::new() } else { format!("; {locked} objects are still locked") };
            format!("pruned: {objects} objects, {} in {batches} deletions{still}", ByteSize(bytes).approximate())
        }
    };
    let next = match (guards.as_slice(), deleted) {
        ([], None) => "dbkeeper prune deletes it".to_owned(),
        ([], Some(_)) => "dbkeeper list shows what is left".to_owned(),
        (guards, _) => format!(
            "look at what is refused above; where it is as it should be, add --force={}",
            guards.join(" --force=")
        ),
    };
    format!("{done}; {} vaults, {held} held back   run {}\nnext: {next}", plan.vaults.len(), plan.run_id)
}
