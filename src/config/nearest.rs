//! The nearest known name to a misspelled one.

/// The known name that is closest to `word`, if it is close enough to be what was meant.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = word.to_lowercase();
    let distance = |name: &str| strsim::damerau_levenshtein(&folded, &name.to_lowercase());
    let (least, name) = known.into_iter().map(|name| (distance(name), name)).min_by_key(|(least, _)| *least)?;
    let allowed = (folded.chars().count() / 3).max(1);
    (least <= allowed).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_nearest(word: &str, expected: Option<&str>) {
        assert_eq!(nearest(word, ["connections", "password", "url", "Europe/Paris"]), expected, "{word:?}");
    }

    #[test]
    fn a_slip_of_the_finger_is_understood_and_another_word_is_not() {
        check_nearest("conections", Some("connections"));
        check_nearest("Passwrod", Some("password"));
        check_nearest("rul", Some("url"));
        check_nearest("europe/pairs", Some("Europe/Paris"));
        for other in ["colour", "x", ""] {
            check_nearest(other, None);
        }
    }
}
