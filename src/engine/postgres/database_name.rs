//! The names and the mark of the databases that a restore makes beside the live one.
//!
//! A database of ours is recognised by its mark, a comment that names the run, *and* by its name; a name alone, or a
//! comment alone, could be somebody's own.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::base::ids::{key_time, parse_key_time};

/// Between a database's name and the time, in the name of the database that is being built.
pub(super) const RESTORE_INFIX: &str = "__restore_";
/// Between a database's name and the time, in the name under which the former live database is kept.
pub(super) const BEFORE_INFIX: &str = "__before_";
/// `NAMEDATALEN - 1`: the server cuts longer names without an error.
const MAX_NAME_BYTES: usize = 63;
/// Hex digits of a hash that tell cut names apart.
const HASH_DIGITS: usize = 8;
const MARK_PREFIX: &str = "dbkeeper restore ";

/// What the comment of an unfinished database says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// The name that the database is to have at the end.
    pub(super) destination: String,
    /// The run that makes it.
    pub(super) run: String,
}

impl Mark {
    /// The comment.
    pub(super) fn print(&self) -> String {
        let body = serde_json::to_string(self).expect("two strings always serialise");
        format!("{MARK_PREFIX}{body}")
    }

    /// The mark that a comment is, if it is one.
    pub(super) fn parse(comment: &str) -> Option<Self> {
        serde_json::from_str(comment.strip_prefix(MARK_PREFIX)?).ok()
    }
}

/// `<destination><infix><time>`, at most 63 bytes: a longer destination is cut and told apart by a hash.
pub(super) fn beside(destination: &str, infix: &str, time: DateTime<Utc>) -> String {
    format!("{}{infix}{}", stem(destination, infix), key_time(time))
}

/// True where `name` is what [`beside`] makes of `destination` at any time.
pub(super) fn is_beside(name: &str, destination: &str, infix: &str) -> bool {
    time_of(name, infix).is_some_and(|(before, _)| before == stem(destination, infix))
}

/// The parts of a name that ends in an infix and a time: what stands before, and the time.
pub(super) fn time_of<'a>(name: &'a str, infix: &str) -> Option<(&'a str, DateTime<Utc>)> {
    let at = name.rfind(infix)?;
    let time = parse_key_time(&name[at + infix.len()..])?;
    Some((&name[..at], time))
}

fn stem(destination: &str, infix: &str) -> String {
    let room = MAX_NAME_BYTES - infix.len() - key_time(DateTime::UNIX_EPOCH).len();
    if destination.len() <= room {
        return destination.to_owned();
    }
    let hash = hex::encode(Sha256::digest(destination.as_bytes()));
    let mut cut = room - HASH_DIGITS - 1;
    while !destination.is_char_boundary(cut) {
        cut -= 1;
    }
    format!("{}_{}", &destination[..cut], &hash[..HASH_DIGITS])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(destination: &str, expected_stem: Option<&str>) {
        let time = parse_key_time("20260131T235959Z").unwrap();
        for infix in [RESTORE_INFIX, BEFORE_INFIX] {
            let name = beside(destination, infix, time);
            assert!(name.len() <= MAX_NAME_BYTES, "{name}");
            assert!(name.ends_with(&format!("{infix}20260131T235959Z")), "{name}");
            assert!(is_beside(&name, destination, infix), "{name}");
            assert!(!is_beside(&name, "another", infix), "{name}");
            if let Some(stem) = expected_stem {
                assert!(name.starts_with(stem), "{name}");
            }
        }
    }

    #[test]
    fn a_name_beside_fits_the_server_and_is_recognised_again() {
        check("acme", Some("acme__"));
        check("a\"b__restore_c", Some("a\"b__restore_c__"));
        check(&"x".repeat(63), Some("xxxxxxxx"));
        check(&"é".repeat(31), Some("éééé"));
        assert_ne!(stem(&format!("{}1", "x".repeat(62)), "__"), stem(&format!("{}2", "x".repeat(62)), "__"));
        for name in ["acme", "acme__restore_", "acme__restore_2026", "acme__before_20260131T235959Z"] {
            assert!(!is_beside(name, "acme", RESTORE_INFIX), "{name}");
        }
    }

    #[test]
    fn a_mark_is_read_back_and_other_comments_are_not_marks() {
        let mark = Mark { destination: "a'\"\\ é\n".to_owned(), run: "r".to_owned() };
        assert_eq!(Mark::parse(&mark.print()), Some(mark));
        for comment in ["", "dbkeeper restore ", "dbkeeper restore of acme", "the main database", "{}"] {
            assert_eq!(Mark::parse(comment), None, "{comment}");
        }
    }
}
