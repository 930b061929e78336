//! A server's own words, without what belongs in no message: the values of rows.
//!
//! PostgreSQL puts values into the detail and the context of an error, and for the classes of data (22, and what a user's own
//! code raises) into the message itself. Names of tables, columns and constraints stay: an operator needs them.

use tokio_postgres::error::DbError;

/// In the place of what a function or trigger of the database said: it may say anything, rows included.
pub const USERS_OWN: &str =
    "the database's own code raised an error; its words may hold rows, and are in the server's log only";

/// The message with its code, and what the server names as the place.
pub fn of(db: &DbError) -> String {
    let (code, context) = (db.code().code(), db.where_().and_then(|context| context.lines().next()));
    let raised = is_raised(db);
    let words = if raised { USERS_OWN.to_owned() } else { message(db.message(), code) };
    let mut text = format!("{words} (SQLSTATE {code})");
    let places = [("constraint", db.constraint()), ("column", db.column())];
    for (what, place) in places {
        if let Some(place) = place {
            text.push_str(&format!("; {what} {place}"));
        }
    }
    if let Some(more) = db.detail().filter(|_| !raised && !carries_values(code)) {
        text.push_str(&format!("; {more}"));
    }
    if let Some(hint) = db.hint().filter(|_| !raised && !is_users_own(code)) {
        text.push_str(&format!("; {hint}"));
    }
    if let Some(place) = context {
        text.push_str(&format!("; at {}", place_of(place)));
    }
    text
}

/// The error as the source of one of ours, unless it holds values: whoever prints the chain of causes prints its detail.
pub fn source(error: tokio_postgres::Error) -> Option<Box<dyn std::error::Error + Send + Sync>> {
    let tells = |db: &DbError| carries_values(db.code().code()) || is_raised(db);
    if error.as_db_error().is_some_and(tells) { None } else { Some(Box::new(error)) }
}

/// True for what code in the database raised: that may be any code.
fn is_raised(db: &DbError) -> bool {
    db.where_().and_then(|context| context.lines().next()).is_some_and(|context| context.ends_with("at RAISE"))
}

/// Codes whose detail holds values: data exceptions, violated constraints, what a user's own code raised.
fn carries_values(code: &str) -> bool {
    code.starts_with("22") || code.starts_with("23") || code.starts_with("44") || is_users_own(code)
}

/// Codes of what code in the database says: RAISE, external routines, and classes that the server does not use itself.
fn is_users_own(code: &str) -> bool {
    let own = ["P0001", "P0004", "38", "39", "HV"];
    // Implementation-defined classes begin with 5 to 9 or I to Z (SQL standard); of these the server uses a few.
    let used = ["53", "54", "55", "57", "58", "F0", "HV", "P0", "XX"];
    let standard = code.starts_with(|first: char| ('0'..='4').contains(&first) || ('A'..='H').contains(&first));
    own.iter().any(|class| code.starts_with(class)) || !(standard || used.iter().any(|class| code.starts_with(class)))
}

fn message(words: &str, code: &str) -> String {
    if is_users_own(code) {
        USERS_OWN.to_owned()
    } else if code.starts_with("22") {
        without_quoted(words)
    } else {
        words.to_owned()
    }
}

/// `COPY t, line 7, column x: "the value"`, `SQL statement "…"`: the place is kept, what is quoted or follows is not. Functions
/// are named whole.
pub fn place_of(context: &str) -> &str {
    if context.starts_with("SQL function ") || context.starts_with("PL/") {
        return context;
    }
    let end = [": ", " \"", " = '"].iter().filter_map(|border| context.find(border)).min();
    end.map_or(context, |end| &context[..end])
}

/// The text with everything between double quotes taken out, but for the name of an encoding.
///
/// A value is not escaped in a message: from the first quote to the last is one.
pub fn without_quoted(words: &str) -> String {
    let (Some(first), Some(last)) = (words.find('"'), words.rfind('"')) else { return words.to_owned() };
    if words[..first].ends_with("encoding ") {
        return words.to_owned();
    }
    let end = if last > first { last } else { words.len() - 1 };
    format!("{}\"…\"{}", &words[..first], words.get(end + 1..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &str, code: &str, expected: &str) {
        assert_eq!(message(words, code), expected, "{code}");
    }

    #[test]
    fn a_message_keeps_names_and_loses_values() {
        check("relation \"t\" does not exist", "42P01", "relation \"t\" does not exist");
        let kept = "duplicate key value violates unique constraint \"mail_key\"";
        check(kept, "23505", kept);
        check(
            "invalid input syntax for type integer: \"it's \"mine\"\"",
            "22P02",
            "invalid input syntax for type integer: \"…\"",
        );
        check(
            "value \"99999\" is out of range for type smallint",
            "22003",
            "value \"…\" is out of range for type smallint",
        );
        check("date/time field value out of range: \"2026-13", "22008", "date/time field value out of range: \"…\"");
        let kept = "invalid byte sequence for encoding \"UTF8\": 0xe9";
        check(kept, "22021", kept);
        for code in ["P0001", "P0004", "38000", "39P01", "HV000", "ZX123", "99999", "U0001"] {
            check("the row was secret", code, USERS_OWN);
        }
        for code in ["42501", "53300", "57014", "XX000", "40P01", "P0002", "28P01", "0A000", "F0000"] {
            check("words", code, "words");
        }
    }

    #[test]
    fn a_context_keeps_the_place_and_loses_the_value() {
        for (context, expected) in [
            ("COPY t, line 7, column x: \"secret\"", "COPY t, line 7, column x"),
            ("COPY t, line 7: \"secret\tsecret\"", "COPY t, line 7"),
            ("JSON data, line 1: {secret", "JSON data, line 1"),
            ("SQL statement \"insert into t values ('secret')\"", "SQL statement"),
            ("PL/pgSQL function f(integer) line 3 at RAISE", "PL/pgSQL function f(integer) line 3 at RAISE"),
            ("unnamed portal with parameters: $1 = 'secret'", "unnamed portal with parameters"),
        ] {
            assert_eq!(place_of(context), expected);
        }
    }
}
