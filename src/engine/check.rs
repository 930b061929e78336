//! Checks of the operator's own, asked of a restored database: a query, and what its answer must be.
//!
//! Answers are rows, so they are never shown: what failed is told in words that hold no value, but for plain numbers.

use std::time::Duration;

/// The longest plain number that is shown.
const MAX_SHOWN: usize = 20;

/// A question to a restored database.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// The operator's name for it.
    pub name: String,
    /// One statement; it is run in a read-only transaction.
    pub query: String,
    /// What the answer must be.
    pub expectation: Expectation,
    /// How long it may take.
    pub time_limit: Duration,
}

/// What the first value of the first row must be.
#[derive(Clone, Debug, PartialEq)]
pub enum Expectation {
    /// This text, as the server prints it.
    Equals(String),
    /// A number in this range, both ends included.
    Between(Option<i64>, Option<i64>),
}

/// What a query answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// No row.
    Nothing,
    /// The first value of the first row; `None` is NULL.
    Value(Option<String>),
}

impl Expectation {
    /// Why an answer is not what was expected; `None` if it is.
    pub fn missed_by(&self, answer: &Answer) -> Option<String> {
        let wanted = self.words();
        let value = match answer {
            Answer::Nothing => return Some(format!("the query gave no row, and {wanted} was expected")),
            Answer::Value(None) => return Some(format!("the query gave NULL, and {wanted} was expected")),
            Answer::Value(Some(value)) => value,
        };
        let met = match self {
            Self::Equals(expected) => value == expected,
            Self::Between(least, most) => value.parse::<f64>().is_ok_and(|number| {
                least.is_none_or(|least| as_float(least) <= number) && most.is_none_or(|most| number <= as_float(most))
            }),
        };
        (!met).then(|| format!("the query gave {}, and {wanted} was expected", shown(value)))
    }

    fn words(&self) -> String {
        match self {
            Self::Equals(expected) => format!("{expected:?}"),
            Self::Between(Some(least), Some(most)) => format!("a number from {least} to {most}"),
            Self::Between(Some(least), None) => format!("at least {least}"),
            Self::Between(None, Some(most)) => format!("at most {most}"),
            Self::Between(None, None) => "a number".to_owned(),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "bounds are counts: far below 2^53")]
fn as_float(bound: i64) -> f64 {
    bound as f64
}

/// A number or a truth value as it is; of anything else only its length.
fn shown(value: &str) -> String {
    let plain = value.len() <= MAX_SHOWN && (value.parse::<f64>().is_ok() || matches!(value, "t" | "f"));
    if plain { value.to_owned() } else { format!("another text of {} bytes", value.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missed(expectation: &Expectation, value: &str) -> Option<String> {
        expectation.missed_by(&Answer::Value(Some(value.to_owned())))
    }

    #[test]
    fn an_answer_is_what_was_expected_or_the_reason_says_why_not() {
        let zero = Expectation::Equals("0".to_owned());
        assert_eq!(missed(&zero, "0"), None);
        assert_eq!(missed(&zero, "3").as_deref(), Some("the query gave 3, and \"0\" was expected"));
        let some = Expectation::Between(Some(1), None);
        assert_eq!((missed(&some, "1"), missed(&some, "2.5")), (None, None));
        assert!(missed(&some, "0").is_some_and(|why| why.contains("at least 1")));
        let range = Expectation::Between(Some(1), Some(5));
        assert_eq!(missed(&range, "5"), None);
        assert!(missed(&range, "6").is_some() && missed(&range, "many").is_some() && missed(&range, "NaN").is_some());
        for answer in [Answer::Nothing, Answer::Value(None)] {
            assert!(zero.missed_by(&answer).is_some() && range.missed_by(&answer).is_some());
        }
    }

    #[test]
    fn no_row_of_a_customer_is_ever_shown() {
        let why = missed(&Expectation::Equals("0".to_owned()), "alice@example.net").expect("missed");
        assert!(!why.contains("alice") && why.contains("17 bytes"), "{why}");
    }
}
