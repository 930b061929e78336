//! Secrets in memory: zeroed after use, never printed.

use std::fmt;

use zeroize::Zeroizing;

/// A password, key or identity: its `Debug` prints nothing of it, and its memory is zeroed when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a secret as it was read; one trailing line end is not part of it.
    pub fn new(text: String) -> Self {
        let mut text = Zeroizing::new(text);
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        Self(text)
    }

    /// The secret itself. Every call is a place to look at in a review.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print_itself_and_loses_one_line_end() {
        let secret = Secret::new("hunter2\r\n".to_owned());
        assert_eq!(secret.reveal(), "hunter2");
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert_eq!(Secret::new("two\n\n".to_owned()).reveal(), "two\n");
    }
}
