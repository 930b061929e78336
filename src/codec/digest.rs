//! Digests: SHA-256 of stored bytes, keyed chunk ids, and the order-independent checksum of rows.

use std::fmt;
use std::str::FromStr;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::xxh3_128_with_secret;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::base::ids::Hash32;

/// SHA-256 of `bytes` (FIPS 180-4).
pub fn sha256(bytes: &[u8]) -> Hash32 {
    Hash32(Sha256::digest(bytes).into())
}

/// HKDF-SHA256 (RFC 5869): one key for one purpose, zeroed after use.
pub fn derive<const N: usize>(key: &[u8], salt: &[u8], purpose: &str) -> Zeroizing<[u8; N]> {
    let mut out = Zeroizing::new([0; N]);
    let expanded = Hkdf::<Sha256>::new(Some(salt), key).expand(purpose.as_bytes(), out.as_mut());
    expanded.expect("at most 255 x 32 bytes are asked for");
    out
}

/// A key for HMAC-SHA256 (RFC 2104), with its two blocks hashed once.
#[derive(Clone)]
pub struct MacKey(Hmac<Sha256>);

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey(…)")
    }
}

impl MacKey {
    /// Takes 32 bytes of key.
    pub fn new(key: &[u8; 32]) -> Self {
        Self(Hmac::new_from_slice(key).expect("HMAC takes keys of any length"))
    }

    /// The MAC of the concatenation of `pieces`.
    pub fn mac(&self, pieces: &[&[u8]]) -> Hash32 {
        let mut hmac = self.0.clone();
        for piece in pieces {
            hmac.update(piece);
        }
        Hash32(hmac.finalize().into_bytes().into())
    }

    /// Compares in constant time.
    pub fn verify(&self, pieces: &[&[u8]], expected: &Hash32) -> bool {
        let mut hmac = self.0.clone();
        for piece in pieces {
            hmac.update(piece);
        }
        hmac.verify_slice(&expected.0).is_ok()
    }
}

/// Bytes of secret that the row hash uses; XXH3 wants at least 136.
pub const ROW_SECRET_BYTES: usize = 192;

/// The keyed hash of rows: XXH3-128 with a secret of a vault's own, so that a chunk's borders and a part's checksum tell a
/// thief nothing.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct RowHasher {
    secret: [u8; ROW_SECRET_BYTES],
}

impl fmt::Debug for RowHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RowHasher(…)")
    }
}

impl RowHasher {
    /// A hasher with this secret.
    pub fn new(secret: [u8; ROW_SECRET_BYTES]) -> Self {
        Self { secret }
    }

    /// The hash of one row, line end included.
    pub fn row(&self, row: &[u8]) -> u128 {
        xxh3_128_with_secret(row, &self.secret)
    }

    /// The hash of block `number` of an unstructured part: equal blocks at other places count differently.
    pub fn block(&self, number: u64, block: &[u8]) -> u128 {
        Self::block_of(number, self.row(block))
    }

    /// The hash of block `number` whose bytes hash to `hash` as a [`row`](Self::row).
    pub fn block_of(number: u64, hash: u128) -> u128 {
        hash.rotate_left(u32::try_from(number % 127).expect("below 127")).wrapping_add(u128::from(number))
    }

    /// Sums the rows of `chunk`, which must end with a line end; returns their number and the sum.
    pub fn rows_of(&self, chunk: &[u8]) -> (u64, RowSum) {
        let mut sum = RowSum::default();
        let mut rows = 0;
        for row in chunk.split_inclusive(|byte| *byte == b'\n') {
            sum.add(self.row(row));
            rows += 1;
        }
        (rows, sum)
    }

    /// For the manifest: a restore without the repository key must be able to check sums.
    pub fn secret_hex(&self) -> String {
        hex::encode(self.secret)
    }

    /// Inverse of [`secret_hex`](Self::secret_hex).
    pub fn from_secret_hex(text: &str) -> Option<Self> {
        hex::decode(text).ok()?.try_into().ok().map(Self::new)
    }
}

/// The order-independent checksum of a part: the sum of its row hashes, modulo 2^128.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowSum(pub u128);

impl RowSum {
    /// Adds one row hash.
    pub fn add(&mut self, hash: u128) {
        self.0 = self.0.wrapping_add(hash);
    }

    /// Adds the sum of other rows.
    pub fn merge(&mut self, other: Self) {
        self.add(other.0);
    }
}

impl fmt::Display for RowSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for RowSum {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Self)
    }
}

impl Serialize for RowSum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RowSum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mac_is_that_of_rfc_4231() {
        let mut key = [0x0b; 32];
        key[20..].fill(0); // Test case 1 has a key of 20 bytes; HMAC pads keys with zeros.
        let mac = MacKey::new(&key).mac(&[b"Hi ", b"There"]);
        assert_eq!(mac.to_string(), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
        assert!(MacKey::new(&key).verify(&[b"Hi There"], &mac));
        assert!(!MacKey::new(&key).verify(&[b"Hi there"], &mac));
    }

    fn hasher(key: u8) -> RowHasher {
        RowHasher::new(*derive(&[key], b"", "test"))
    }

    #[test]
    fn row_sums_ignore_order_but_not_content_and_not_the_key() {
        let hasher = hasher(7);
        assert_eq!(hasher.rows_of(b"a\nb\n"), hasher.rows_of(b"b\na\n"));
        assert_ne!(hasher.rows_of(b"a\nb\n").1, hasher.rows_of(b"a\nc\n").1);
        assert_ne!(hasher.rows_of(b"a\n").1, super::tests::hasher(8).rows_of(b"a\n").1);
        assert_eq!(hasher.rows_of(b"\n\n\n").0, 3);
    }

    #[test]
    fn blocks_count_by_their_place() {
        let hasher = hasher(7);
        let sum = |blocks: [&[u8]; 2]| hasher.block(0, blocks[0]).wrapping_add(hasher.block(1, blocks[1]));
        assert_ne!(sum([b"a", b"b"]), sum([b"b", b"a"]));
    }
}
