//! A whole vault that a thief has put somewhere else.

use bytes::Bytes;
use dbkeeper::repository::signed::MAX_DOCUMENT_BYTES;
use dbkeeper::store::ObjectKey;
use futures::TryStreamExt;

use crate::repository::support::{World, rows};

async fn all_objects(world: &World) -> Vec<(ObjectKey, Bytes)> {
    let listed: Vec<_> = world.store.list("vaults/").try_collect().await.expect("list");
    let mut objects = Vec::new();
    for object in listed {
        let body = world.store.get(&object.key).await.expect("get");
        assert!(body.len() < MAX_DOCUMENT_BYTES);
        objects.push((object.key, body));
    }
    objects
}

#[tokio::test]
async fn a_vault_copied_over_anothers_is_refused_as_tampering() {
    let world = World::new().await;
    let acme = world.acme();
    world.back_up(&acme, b"S", &[("table:1", rows(100, 1))]).await.expect("back up");
    for (key, body) in all_objects(&world).await {
        let moved = key.as_str().replace("/acme/", "/globex/");
        world.store.put(&ObjectKey::new(moved).expect("a key"), body).await.expect("put");
    }
    let globex = world.repository.vault(&dbkeeper::base::ids::TargetId::tenant("globex").expect("a name"));
    let refused = world.restore_newest(&globex).await.expect_err("a stolen vault");
    assert_eq!(refused.class(), dbkeeper::base::class::Class::Tampered, "{refused}");
    assert!(world.verify(&globex).await.findings.iter().any(|finding| finding.tampering));
}
