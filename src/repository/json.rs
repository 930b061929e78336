//! JSON from outside, read within bounds.
//!
//! A few bytes of JSON can become a hundred in memory. Whoever counts the values first knows the most that they can take,
//! before anything is made of them. `serde_json` itself refuses more than 128 levels.

use serde::de::DeserializeOwned;

use crate::repository::Error;

/// A document has at most so many values: the manifest of 30,000 tables of 40 columns has about two million.
pub const MAX_VALUES: usize = 8 << 20;

/// What one value takes at most in memory: an object of one key, the dearest, is a node of a tree with room for eleven.
pub const MAX_BYTES_PER_VALUE: usize = 800;

/// Reads a document of at most [`MAX_VALUES`] values.
pub fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    let values = values(text);
    if values > MAX_VALUES {
        return Err(format!("holds {values} values, and no document of ours has more than {MAX_VALUES}"));
    }
    serde_json::from_slice(text).map_err(|error| error.to_string())
}

/// No fewer than the values in `text`: what begins one, or stands between two. Those within strings are counted too.
pub fn values(text: &[u8]) -> usize {
    1 + text.iter().filter(|byte| matches!(byte, b'[' | b'{' | b',')).count()
}

/// Refuses to store what no reader would take: a backup that cannot be restored is none.
pub(super) fn check_readable(document: &'static str, text: &[u8], limit: usize) -> Result<(), Error> {
    let (bytes, values) = (text.len(), values(text));
    if bytes > limit {
        return Err(Error::DocumentTooLarge { document, size: bytes, limit, unit: "bytes" });
    }
    let limit = MAX_VALUES;
    if values <= limit {
        Ok(())
    } else {
        Err(Error::DocumentTooLarge { document, size: values, limit, unit: "values" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn more_values_than_any_document_has_are_refused_before_they_are_made() {
        let many = [b"[".as_slice(), "0,".repeat(MAX_VALUES).as_bytes(), b"0]"].concat();
        let refused = read::<Value>(&many).expect_err("too many");
        assert!(refused.contains("and no document of ours has more than"), "{refused}");
        assert_eq!(read::<Vec<u8>>(b"[1,2]").expect("few"), [1, 2]);
        assert!(read::<Value>("[".repeat(100_000).as_bytes()).is_err(), "deep");
    }

    #[test]
    fn no_value_is_dearer_than_promised() {
        for value in ["0", "{}", "[]", "[0]", "{\"\":0}", "\"\"", "{\"\":{\"\":0}}"] {
            let text = format!("[{}{value}]", format!("{value},").repeat(10_000));
            let counted = values(text.as_bytes());
            let used = allocation_counter::measure(|| assert!(read::<Value>(text.as_bytes()).is_ok())).bytes_max;
            assert!(used <= (counted * MAX_BYTES_PER_VALUE) as u64, "{value}: {used} bytes for {counted} values");
        }
    }
}
