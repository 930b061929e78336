//! An error as the command line shows it: one chain of words, a hint, and the class that gives the exit code.

use std::error::Error;

use crate::base::class::Class;

/// Why a verb did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    class: Class,
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// From an error, its causes, its class and what to do about it.
    pub fn new(error: &dyn Error, class: Class, hint: Option<String>) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let words = cause.to_string();
            if !message.contains(&words) {
                append(&mut message, &words);
            }
            source = cause.source();
        }
        Self { class, message, hint }
    }

    /// From words, where no layer below has an error for it.
    pub fn said(class: Class, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), hint: None }
    }

    /// With what to do about it.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The end of a verb that was asked to stop.
    pub fn stopped() -> Self {
        Self::said(Class::Cancelled, "stopped by a signal")
    }

    /// What it means.
    pub fn class(&self) -> Class {
        self.class
    }

    /// The chain, without the hint.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

/// Adds a cause to the first line: what follows it is the excerpt of a file.
fn append(message: &mut String, cause: &str) {
    let end = message.find('\n').unwrap_or(message.len());
    message.insert_str(end, &format!(": {cause}"));
}

/// Errors of the layers below that say their class and hint by themselves.
macro_rules! failure_from {
    ($($error:ty),* $(,)?) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                let hint = error.hint().map(Into::into);
                Self::new(&error, error.class(), hint)
            }
        }
    )*};
}
failure_from!(crate::config::Error, crate::job::Error, crate::store::Error);
