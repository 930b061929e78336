//! Keys and sealed bytes: repository keys, identity files, age files, compressed documents.
#![no_main]

use dbkeeper::base::repository_key::RepositoryKey;
use dbkeeper::base::secret::Secret;
use dbkeeper::codec::compress::{decompress, decompress_document};
use dbkeeper::codec::seal::{Identity, Recipient, open, open_text};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let identity = Identity::from_bytes(&[9; 32]);
    let _ = text.parse::<Recipient>();
    let _ = open(bytes, std::slice::from_ref(&identity), 1 << 20);
    let _ = open_text(&text, &[identity]);
    let _ = decompress(bytes, bytes.len() * 8);
    let _ = decompress_document(bytes, 1 << 20);
    let _ = RepositoryKey::parse(&text);
    let _ = Identity::parse_file(&Secret::new(text));
});
