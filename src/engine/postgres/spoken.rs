//! What a client program said on stderr, without what belongs in no message: statements, and the values of rows.
//!
//! Pure: text in, text out. A statement may hold the password of a user mapping; a server's detail, context and excerpt of a
//! statement hold values.

use crate::sql::postgres::words::{USERS_OWN, place_of, without_quoted};

/// The lines with which a statement begins; it ends where the program speaks again.
const STATEMENTS: [&str; 4] = ["Command was:", "The command was:", "Query was:", "query was:"];

/// The parts of a server's message that hold values, and end where another part begins.
const VALUES: [&str; 4] = ["DETAIL:", "CONTEXT:", "LINE ", "QUERY:"];

/// The parts of a server's message that are kept.
const KEPT: [&str; 4] = ["HINT:", "ERROR:", "FATAL:", "WARNING:"];

/// What was said, line by line, without statements and values.
pub(super) fn without_statements_and_values(said: &str) -> String {
    let mut kept: Vec<String> = Vec::new();
    let mut hidden = false;
    for line in said.lines() {
        if line.starts_with("pg_") || KEPT.iter().any(|part| line.starts_with(part)) {
            hidden = false;
        }
        if let Some(at) = STATEMENTS.iter().find_map(|words| line.find(words)) {
            hidden = true;
            kept.push(line[..at].trim_end_matches([' ', ':', '\t']).to_owned());
        } else if VALUES.iter().any(|part| line.starts_with(part)) {
            hidden = true;
            // The words of RAISE are the database's own, and may be a row's.
            if line.trim_end().ends_with("at RAISE") {
                hide_error(&mut kept);
            }
            if let Some(context) = line.strip_prefix("CONTEXT:") {
                kept.push(format!("CONTEXT:  {}", place_of(context.trim())));
            }
        } else if !hidden {
            kept.push(without_quoted_values(line));
        }
    }
    kept.retain(|line| !line.trim().is_empty() && !line.trim_end().ends_with("detail"));
    kept.join("\n")
}

/// The program does not tell the error's class: what is quoted behind a colon is a value, and names stand behind a word.
fn without_quoted_values(line: &str) -> String {
    let Some(at) = line.find("ERROR:").map(|at| at + "ERROR:".len()) else { return line.to_owned() };
    let (before, message) = line.split_at(at);
    let is_value = message.contains(": \"") || message.contains(" value \"");
    if is_value { format!("{before}{}", without_quoted(message)) } else { line.to_owned() }
}

/// Takes the words of the last error back.
fn hide_error(kept: &mut [String]) {
    if let Some(last) = kept.iter_mut().rev().find(|line| line.contains("ERROR:")) {
        let at = last.find("ERROR:").expect("looked at above");
        last.truncate(at);
        last.push_str(&format!("ERROR:  {USERS_OWN}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(said: &str, expected: &str) {
        assert_eq!(without_statements_and_values(said), expected);
    }

    #[test]
    fn a_statement_is_left_out_up_to_where_the_program_speaks_again() {
        check(
            "pg_restore: error: could not execute query: ERROR:  no\nCommand was: CREATE USER MAPPING x (\n  password 'p'\n);\n\
             pg_restore: warning: errors ignored on restore: 1",
            "pg_restore: error: could not execute query: ERROR:  no\npg_restore: warning: errors ignored on restore: 1",
        );
        check("pg_dump: detail: Query was: select 'p'", "");
    }

    #[test]
    fn values_of_rows_are_left_out_and_names_stay() {
        check(
            "pg_restore: error: could not execute query: ERROR:  could not create unique index \"one\"\n\
             DETAIL:  Key (mail)=(secret\nsecret) is duplicated.\nHINT:  none\nCommand was: CREATE …",
            "pg_restore: error: could not execute query: ERROR:  could not create unique index \"one\"\nHINT:  none",
        );
        check(
            "pg_restore: error: x: ERROR:  invalid input syntax for type integer: \"secret \"\" thing\"\nLINE 1: … secret\n   ^",
            "pg_restore: error: x: ERROR:  invalid input syntax for type integer: \"…\"",
        );
        check("ERROR:  relation \"t\" does not exist", "ERROR:  relation \"t\" does not exist");
    }

    #[test]
    fn the_words_of_a_databases_own_code_are_not_repeated() {
        let said = "pg_restore: error: could not execute query: ERROR:  row was secret\n\
                    CONTEXT:  PL/pgSQL function public.f(integer) line 3 at RAISE\nCommand was: CREATE INDEX";
        let context = "CONTEXT:  PL/pgSQL function public.f(integer) line 3 at RAISE";
        check(said, &format!("pg_restore: error: could not execute query: ERROR:  {USERS_OWN}\n{context}"));
    }
}
