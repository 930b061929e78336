//! Whether the repository is there and its keys fit: the repository key, the identity, the recipients.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};

use crate::base::class::Class;
use crate::base::ids::TargetId;
use crate::codec::seal::Identity;
use crate::config;
use crate::job::doctor::store::class;
use crate::job::doctor::{Check, Group, first};
use crate::job::{Context, Error, chain};
use crate::repository::layout::{VaultObject, vault_prefix};
use crate::repository::vault::{Epoch, Listing, Vault};
use crate::repository::{self, Repository};
use crate::store::ObjectStore;

/// Vaults whose keys are looked at: two requests each.
const MAX_VAULTS: usize = 1000;
/// Vaults that one line names.
const NAMED: usize = 5;

/// Looks at the repository; gives the targets that have a vault.
pub(super) async fn check(
    context: &Context,
    store: &Arc<dyn ObjectStore>,
    checks: &mut Vec<Check>,
) -> Option<Vec<TargetId>> {
    let repository = open(context, store, checks).await?;
    let (vaults, strangers) = match repository.vaults().await {
        Ok(found) => found,
        Err(error) => {
            checks.push(failed("vaults", &error));
            return None;
        }
    };
    checks.push(Check::ok(Group::Store, "vaults", format!("{} targets have a vault", vaults.len())));
    if !strangers.is_empty() {
        let message = format!("no vault of ours: {}", first(&strangers, NAMED));
        let check = Check::warn(Group::Store, "strangers", message);
        checks.push(check.with_fix(Some("find out who put it there; dbkeeper never touches it")));
    }
    let newest = newest_epochs(context, &repository, &vaults, checks).await;
    check_recipients(context, &newest, checks);
    check_identity(context, &newest, checks).await;
    Some(vaults)
}

async fn open(context: &Context, store: &Arc<dyn ObjectStore>, checks: &mut Vec<Check>) -> Option<Repository> {
    let key = match context.config.repository_key(&context.environment).await {
        Ok(key) => key,
        Err(error) => {
            checks.push(Check::fail(Group::Keys, "repository key", Class::Key, chain(&error)).with_fix(error.hint()));
            // Whether there is a repository can be said all the same.
            return match Repository::open_without_key(Arc::clone(store)).await {
                Ok(repository) => {
                    checks.push(Check::ok(Group::Store, "repository", format!("{} is there", repository.id())));
                    None
                }
                Err(error) => {
                    checks.push(failed("repository", &error));
                    None
                }
            };
        }
    };
    match Repository::open(Arc::clone(store), key.bytes()).await {
        Ok(repository) => {
            checks.push(Check::ok(Group::Store, "repository", format!("{} is there", repository.id())));
            checks.push(Check::ok(Group::Keys, "repository key", "fits: the repository's signature verifies"));
            Some(repository)
        }
        Err(error) => {
            checks.push(failed("repository", &error));
            None
        }
    }
}

fn failed(name: &str, error: &repository::Error) -> Check {
    let (group, name) =
        if error.class() == Class::Key { (Group::Keys, "repository key") } else { (Group::Store, name) };
    Check::fail(group, name, class(error.class()), chain(error)).with_fix(error.hint())
}

/// A vault with the newest epoch of it that verifies.
struct Newest {
    vault: Vault,
    listing: Listing,
    epoch: Epoch,
}

async fn newest_epochs(
    context: &Context,
    repository: &Repository,
    vaults: &[TargetId],
    checks: &mut Vec<Check>,
) -> Vec<Newest> {
    let looked_at = &vaults[..vaults.len().min(MAX_VAULTS)];
    let width = context.config.limits.requests_at_once;
    let answers = futures::stream::iter(looked_at.iter().map(|target| repository.vault(target)))
        .map(newest_epoch)
        .buffered(width);
    let answers: Vec<_> = answers.collect().await;
    let (mut newest, mut problems) = (Vec::new(), Vec::new());
    for answer in answers {
        match answer {
            Ok((found, told)) => {
                newest.extend(found);
                problems.extend(told);
            }
            Err(error) => {
                checks.push(failed("vaults", &error));
                return newest;
            }
        }
    }
    if !problems.is_empty() {
        let fix = "dbkeeper verify";
        let check = Check::fail(Group::Keys, "vault keys", Class::Tampered, first(&problems, NAMED));
        checks.push(check.with_fix(Some(fix)));
    } else if !newest.is_empty() {
        let of = if looked_at.len() < vaults.len() { format!(" of {}", vaults.len()) } else { String::new() };
        let message = format!("the keys of {}{of} vaults verify", newest.len());
        checks.push(Check::ok(Group::Keys, "vault keys", message));
    }
    newest
}

async fn newest_epoch(vault: Vault) -> Result<(Option<Newest>, Vec<String>), repository::Error> {
    // Only the folder of the keys: the rest of a vault may be long.
    let prefix = vault_prefix(vault.target());
    let keys = format!("{prefix}keys/");
    let mut listing = Listing::default();
    let failed = |source| repository::Error::Store { action: "list the keys of a vault", source };
    let mut objects = vault.repository().store().list(&keys);
    while let Some(object) = objects.try_next().await.map_err(failed)? {
        let path = object.key.as_str().strip_prefix(&prefix).unwrap_or_default();
        if let Some(VaultObject::Epoch(epoch, revision)) = VaultObject::parse(path) {
            let newest = listing.epochs.entry(epoch).or_insert(revision);
            *newest = revision.max(*newest);
        }
    }
    drop(objects);
    let mut problems = Vec::new();
    let epoch = vault.newest_epoch(&listing, &mut problems).await?;
    Ok((epoch.map(|epoch| Newest { vault, listing, epoch }), problems))
}

/// Whether the vaults are sealed to those whom the configuration names.
fn check_recipients(context: &Context, newest: &[Newest], checks: &mut Vec<Check>) {
    let configured: BTreeSet<String> = context.config.encryption.recipients.iter().map(ToString::to_string).collect();
    let differs = |newest: &&Newest| {
        let own = context.config.own_recipient(newest.vault.target()).map(ToString::to_string);
        let wanted: BTreeSet<&String> = configured.iter().chain(&own).collect();
        newest.epoch.sealed_to.iter().collect::<BTreeSet<_>>() != wanted
    };
    let different: Vec<&Newest> = newest.iter().filter(differs).collect();
    let Some(example) = different.first() else {
        let message = format!(
            "{} configured{}",
            configured.len(),
            if newest.is_empty() { "" } else { ", and every vault is sealed to them" }
        );
        checks.push(Check::ok(Group::Keys, "recipients", message));
        return;
    };
    let names: Vec<String> = different.iter().map(|newest| newest.vault.target().to_string()).collect();
    let message = format!(
        "{} vaults are sealed to others than the configured recipients ({}): {} is sealed to {}",
        names.len(),
        first(&names, NAMED),
        names[0],
        example.epoch.sealed_to.join(", ")
    );
    let fix = "dbkeeper keys reseal, where the identity is; until then keep the identities of these";
    checks.push(Check::warn(Group::Keys, "recipients", message).with_fix(Some(fix)));
}

/// Whether the identity of a restoring machine opens a vault.
async fn check_identity(context: &Context, newest: &[Newest], checks: &mut Vec<Check>) {
    if context.config.encryption.identity.is_none() {
        checks.push(Check::ok(Group::Keys, "identity", "none configured: this machine cannot read backups"));
        return;
    }
    let identities = match context.identities().await {
        Ok(identities) => identities,
        // What cannot be read at all was told of among the secrets.
        Err(Error::Config(config::Error::Secret { source: Some(_), .. })) => return,
        Err(error) => {
            checks.push(Check::fail(Group::Keys, "identity", Class::Key, chain(&error)).with_fix(error.hint()));
            return;
        }
    };
    let Some(Newest { vault, listing, epoch }) = newest.first() else {
        checks.push(match_recipients(context, &identities));
        return;
    };
    checks.push(match vault.open_epoch(listing, epoch.id, &identities).await {
        Ok(_) => Check::ok(Group::Keys, "identity", format!("opens the vault of {}", vault.target())),
        Err(error) => {
            let class = class(error.class());
            Check::fail(Group::Keys, "identity", class, chain(&error)).with_fix(error.hint())
        }
    });
}

/// Before the first backup there is no vault to open: the identity can only be compared.
fn match_recipients(context: &Context, identities: &[Identity]) -> Check {
    let recipients = &context.config.encryption.recipients;
    let fits = |identity: &&Identity| recipients.iter().any(|it| it.to_string() == identity.recipient().to_string());
    if identities.iter().any(|identity| fits(&identity)) {
        return Check::ok(Group::Keys, "identity", "is that of a configured recipient");
    }
    let its: Vec<String> = identities.iter().map(|identity| identity.recipient().to_string()).collect();
    let message = format!("is that of {}, which is no configured recipient", its.join(", "));
    let check = Check::warn(Group::Keys, "identity", message);
    check.with_fix(Some(format!("add {:?} to recipients in [encryption]", its[0])))
}
