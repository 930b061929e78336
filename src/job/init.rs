//! Making a repository.

use crate::job::{Context, Error};
use crate::repository::Repository;

/// What was made.
#[derive(Clone, Debug)]
pub struct Created {
    /// Where.
    pub location: String,
    /// The new repository's id.
    pub id: String,
}

/// Makes the configured repository; refuses where there is one.
pub async fn init(context: &Context) -> Result<Created, Error> {
    let key = context.config.repository_key(&context.environment).await?;
    let store = context.open_store().await?;
    let (now, entropy) = (context.clock.now(), context.entropy.as_ref());
    let repository = Repository::create(store, key.bytes(), now, entropy).await?;
    Ok(Created { location: repository.store().location(), id: repository.id().to_string() })
}
