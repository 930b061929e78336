//! Signed documents: a line of JSON, and a line with its MAC.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::ids::Hash32;
use crate::codec::digest::MacKey;
use crate::repository::json;
use crate::store::ObjectKey;

/// No signed document is larger: a marker names about 4,000 packs (60 GB compressed) per MiB.
pub const MAX_DOCUMENT_BYTES: usize = 64 << 20;

/// Why a document is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum BadDocument {
    /// It has not the two lines, or the wrong fields.
    #[error("not a signed document: {0}")]
    Shape(String),
    /// The MAC does not fit the text, the place or the key.
    #[error("its signature does not verify")]
    Mac,
}

#[derive(Serialize, serde::Deserialize)]
struct MacLine {
    mac: Hash32,
}

/// Writes a document for the place `key`.
pub fn write<T: Serialize>(document: &T, key: &ObjectKey, mac: &MacKey) -> Vec<u8> {
    let mut text = serde_json::to_vec(document).expect("our documents have only string keys");
    let signature = MacLine { mac: mac.mac(&[key.as_str().as_bytes(), b"\0", &text]) };
    text.push(b'\n');
    serde_json::to_writer(&mut text, &signature).expect("writing to memory does not fail");
    text.push(b'\n');
    text
}

/// Reads a document from the place `key`, after its MAC has verified.
pub fn read<T: DeserializeOwned>(bytes: &[u8], key: &ObjectKey, mac: &MacKey) -> Result<T, BadDocument> {
    let (text, signature) = split(bytes)?;
    if !mac.verify(&[key.as_str().as_bytes(), b"\0", text], &signature) {
        return Err(BadDocument::Mac);
    }
    parse(text)
}

/// True if this key signed the document for the place `key`.
pub fn is_signed_by(bytes: &[u8], key: &ObjectKey, mac: &MacKey) -> bool {
    let signed = |(text, signature): (&[u8], Hash32)| mac.verify(&[key.as_str().as_bytes(), b"\0", text], &signature);
    split(bytes).is_ok_and(signed)
}

/// Reads a document without checking who wrote it. The caller says so to the operator.
pub fn read_unverified<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BadDocument> {
    parse(split(bytes)?.0)
}

fn split(bytes: &[u8]) -> Result<(&[u8], Hash32), BadDocument> {
    let shape = |what: &str| BadDocument::Shape(what.to_owned());
    if bytes.len() > MAX_DOCUMENT_BYTES {
        return Err(shape("too large"));
    }
    let at = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(|| shape("no signature line"))?;
    let (text, rest) = (&bytes[..at], &bytes[at + 1..]);
    let rest = rest.strip_suffix(b"\n").ok_or_else(|| shape("no end of the signature line"))?;
    let line: MacLine = serde_json::from_slice(rest).map_err(|_| shape("no signature line"))?;
    Ok((text, line.mac))
}

fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, BadDocument> {
    json::read(text).map_err(BadDocument::Shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_bound_to_its_bytes_its_place_and_its_key() {
        let place = |text: &str| ObjectKey::new(text).expect("a key");
        let key = MacKey::new(&[1; 32]);
        let bytes = write(&vec!["hello"], &place("a/b"), &key);
        let read_as = |bytes: &[u8], at: &str, key: &MacKey| read::<Vec<String>>(bytes, &place(at), key);
        assert_eq!(read_as(&bytes, "a/b", &key).expect("good"), ["hello"]);
        assert!(matches!(read_as(&bytes, "a/c", &key), Err(BadDocument::Mac)));
        assert!(matches!(read_as(&bytes, "a/b", &MacKey::new(&[2; 32])), Err(BadDocument::Mac)));
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(read_as(&flipped, "a/b", &key).is_err(), "bit flipped at {at}");
            assert!(read_as(&bytes[..at], "a/b", &key).is_err(), "cut at {at}");
        }
    }
}
