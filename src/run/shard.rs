//! Slices of a fleet that stay put: adding a target moves no other one. Pure.

use sha2::{Digest, Sha256};

use crate::base::ids::TargetId;

/// Which of `count` shards owns a target: the one with the highest hash (rendezvous hashing; Thaler and Ravishankar, 1998).
///
/// Every target has exactly one owner, and another number of shards moves as few targets as possible.
pub fn owner(target: &TargetId, count: u32) -> u32 {
    assert!(1 <= count, "there is at least one shard");
    let weight = |shard: u32| {
        let mut hash = Sha256::new();
        hash.update(shard.to_le_bytes());
        hash.update(target.key_form().as_bytes());
        <[u8; 32]>::from(hash.finalize())
    };
    (0..count).max_by_key(|shard| weight(*shard)).expect("there is at least one shard")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_one_owner_and_one_more_shard_moves_few() {
        let targets: Vec<TargetId> = (0..3000).map(|n| TargetId::tenant(&format!("t{n}")).expect("a name")).collect();
        let mut sizes = [0; 4];
        targets.iter().for_each(|target| sizes[owner(target, 4) as usize] += 1);
        assert!(sizes.iter().all(|size| (600..900).contains(size)), "{sizes:?}");
        let moved = targets.iter().filter(|target| owner(target, 4) != owner(target, 5)).count();
        assert!((500..700).contains(&moved), "{moved} of 3000 moved");
        assert!(targets.iter().filter(|t| owner(t, 4) != owner(t, 5)).all(|t| owner(t, 5) == 4), "only to the new one");
    }
}
