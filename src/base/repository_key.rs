//! The repository key: 32 random bytes from which every writer-side key is derived, and its one line of text.

use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::base::clock::Entropy;
use crate::base::secret::Secret;

/// What every repository key begins with; the number is the version of the text form.
pub const REPOSITORY_KEY_PREFIX: &str = "dbkeeper-key-1-";
/// Bytes of the checksum behind the key: a slip of the pen passes once in four thousand million times.
const CHECKSUM_BYTES: usize = 4;

/// The secret of a repository. It has no `Debug`, and its memory is zeroed when it is dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct RepositoryKey([u8; 32]);

/// Why a text is no repository key; says nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRepositoryKey {
    /// It does not begin like one.
    #[error("no repository key (dbkeeper-key-1-…)")]
    Prefix,
    /// It is too short, too long, or not hexadecimal.
    #[error("a repository key that is cut off or has characters that it cannot have")]
    Form,
    /// Its checksum is another.
    #[error("a repository key with a typing error: its checksum does not match")]
    Checksum,
}

impl RepositoryKey {
    /// A new key.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut key = Self([0; 32]);
        entropy.fill(&mut key.0);
        key
    }

    /// The key of these bytes.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(*bytes)
    }

    /// The key itself, as input of key derivation.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key as one line of text, without a line end: the prefix and 72 hexadecimal digits.
    pub fn print(&self) -> Secret {
        let mut bytes = Zeroizing::new([0; 32 + CHECKSUM_BYTES]);
        bytes[..32].copy_from_slice(&self.0);
        bytes[32..].copy_from_slice(&checksum(&self.0));
        let digits = Zeroizing::new(hex::encode(&bytes[..]));
        // Of its final size at once: a text that grows leaves copies behind.
        let mut text = String::with_capacity(REPOSITORY_KEY_PREFIX.len() + digits.len());
        text.push_str(REPOSITORY_KEY_PREFIX);
        text.push_str(&digits);
        Secret::new(text)
    }

    /// Reads what [`print`](Self::print) wrote; white space around it is ignored.
    pub fn parse(text: &str) -> Result<Self, BadRepositoryKey> {
        let digits = text.trim().strip_prefix(REPOSITORY_KEY_PREFIX).ok_or(BadRepositoryKey::Prefix)?;
        let mut bytes = Zeroizing::new([0; 32 + CHECKSUM_BYTES]);
        hex::decode_to_slice(digits, &mut bytes[..]).map_err(|_| BadRepositoryKey::Form)?;
        let mut key = Self([0; 32]);
        key.0.copy_from_slice(&bytes[..32]);
        if checksum(&key.0)[..] != bytes[32..] {
            return Err(BadRepositoryKey::Checksum);
        }
        Ok(key)
    }
}

fn checksum(key: &[u8; 32]) -> [u8; CHECKSUM_BYTES] {
    let digest = Sha256::new().chain_update(REPOSITORY_KEY_PREFIX).chain_update(key).finalize();
    let mut checksum = [0; CHECKSUM_BYTES];
    checksum.copy_from_slice(&digest[..CHECKSUM_BYTES]);
    checksum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::SeededEntropy;

    #[test]
    fn a_key_prints_and_parses_and_two_keys_differ() {
        let entropy = SeededEntropy::new(7);
        let key = RepositoryKey::generate(&entropy);
        let text = key.print();
        let Ok(parsed) = RepositoryKey::parse(&format!(" {}\n", text.reveal())) else { panic!("it is a key") };
        assert_eq!(parsed.bytes(), key.bytes());
        assert_ne!(RepositoryKey::generate(&entropy).bytes(), key.bytes());
    }

    #[test]
    fn a_key_with_any_one_character_changed_or_lost_is_refused() {
        let text = RepositoryKey::generate(&SeededEntropy::new(7)).print();
        let text = text.reveal();
        for at in 0..text.len() {
            let other = if &text[at..=at] == "0" { "1" } else { "0" };
            let changed = format!("{}{other}{}", &text[..at], &text[at + 1..]);
            assert!(RepositoryKey::parse(&changed).is_err(), "character {at} changed");
            let lost = format!("{}{}", &text[..at], &text[at + 1..]);
            assert!(RepositoryKey::parse(&lost).is_err(), "character {at} lost");
        }
    }
}
