//! What Laravel's `encrypted` casts leave in a column. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// True where a text is the payload of Laravel's encrypter: base64 of a JSON object with `iv`, `value` and a MAC or tag.
/// Only the application's key opens it.
pub(super) fn is_encrypted(text: &str) -> bool {
    // Base64 of `{"`: most texts are told apart without decoding.
    if !text.starts_with("eyJ") {
        return false;
    }
    let decoded = STANDARD.decode(text.trim_end()).ok();
    let payload = decoded.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    payload.is_some_and(|payload| {
        payload.get("iv").is_some()
            && payload.get("value").is_some()
            && (payload.get("mac").is_some() || payload.get("tag").is_some())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encrypted_value_is_told_from_a_name_that_looks_like_one() {
        let payload = STANDARD.encode(r#"{"iv":"a","value":"b","mac":"c","tag":""}"#);
        assert!(is_encrypted(&payload));
        let other = STANDARD.encode(r#"{"iv":"a","name":"b"}"#);
        for plain in [other.as_str(), "eyJ", "eyJpdiI6", "tenant_1", "", "eyJé"] {
            assert!(!is_encrypted(plain), "{plain}");
        }
    }
}
