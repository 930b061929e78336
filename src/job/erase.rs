//! Erasing one target for good.

use crate::base::ids::TargetId;
use crate::job::{Context, Error};
use crate::repository::erase::{self, Inventory, Record};
use crate::repository::vault::Vault;

/// What would be destroyed.
#[derive(Debug)]
pub struct Plan {
    /// What there is.
    pub inventory: Inventory,
    vault: Vault,
}

/// Looks at what there is. A held backup refuses: a person said that it must be kept.
pub async fn plan(context: &Context, target: &TargetId) -> Result<Plan, Error> {
    let repository = context.open_repository().await?;
    let vault = repository.vault(target);
    let inventory = erase::inventory(&vault, context.clock.now()).await?;
    if inventory.objects == 0 {
        return Err(Error::NothingSelected { what: format!("{target} has no vault") });
    }
    if let Some((id, hold)) = inventory.held.first() {
        let what = format!("backup {id} of {target} is held: {}", hold.reason);
        return Err(Error::Refused { what, hint: format!("end it first: dbkeeper release {id}") });
    }
    Ok(Plan { inventory, vault })
}

/// Destroys it.
pub async fn execute(context: &Context, plan: &Plan) -> Result<Record, Error> {
    Ok(erase::erase(&plan.vault, &plan.inventory, context.new_run()).await?)
}
