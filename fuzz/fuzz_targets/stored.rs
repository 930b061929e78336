//! Every kind of stored object, past its seal: the first byte says which.
#![no_main]

use dbkeeper::repository::intake::{Kind, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some((kind, rest)) = bytes.split_first() {
        let _ = read(Kind::ALL[usize::from(*kind) % Kind::ALL.len()], rest);
    }
});
