//! Writes one stored setting of a database or a role as the value of `SET … TO`.
//!
//! Most values are one string. Some parameters hold a list of names that is stored already quoted; written back as one
//! string it would become one long name. `pg_dump` makes the same difference (`variable_is_guc_list_quote`).

use crate::sql::postgres::{quote_identifier, quote_literal};

/// The parameters with the flag `GUC_LIST_QUOTE` (PostgreSQL sources, guc_tables.c and dumputils.c, 13 to 18).
const NAME_LISTS: [&str; 7] = [
    "local_preload_libraries",
    "oauth_validator_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// `name TO value`, for `ALTER DATABASE … SET` and `ALTER ROLE … SET`.
pub(super) fn assignment(name: &str, value: &str) -> String {
    // Extensions' parameters have two names with a dot; each is an identifier.
    let quoted: Vec<String> = name.split('.').map(quote_identifier).collect();
    let value = if NAME_LISTS.contains(&name.to_ascii_lowercase().as_str()) {
        let names: Vec<String> = split_names(value).iter().map(|name| quote_literal(name)).collect();
        if names.is_empty() { "''".to_owned() } else { names.join(", ") }
    } else {
        quote_literal(value)
    };
    format!("{} TO {value}", quoted.join("."))
}

/// Splits a list of names at its commas; quotes are taken off, as `SplitGUCList` does.
fn split_names(list: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = list.trim_start();
    while !rest.is_empty() {
        let mut name = String::new();
        if let Some(quoted) = rest.strip_prefix('"') {
            rest = quoted;
            while let Some((before, after)) = rest.split_once('"') {
                name.push_str(before);
                rest = after;
                let Some(more) = rest.strip_prefix('"') else { break };
                name.push('"');
                rest = more;
            }
            rest = rest.trim_start();
            rest = rest.strip_prefix(',').unwrap_or(rest);
        } else {
            let (before, after) = rest.split_once(',').unwrap_or((rest, ""));
            name.push_str(before.trim_end());
            rest = after;
        }
        names.push(name);
        rest = rest.trim_start();
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, value: &str, expected: &str) {
        assert_eq!(assignment(name, value), expected);
    }

    #[test]
    fn lists_of_names_are_written_name_by_name_and_all_else_as_one_string() {
        check("search_path", "\"$user\", public", "\"search_path\" TO '$user', 'public'");
        check("search_path", "\"a\"\"b, c\" ,d", "\"search_path\" TO 'a\"b, c', 'd'");
        check("search_path", "\"\"", "\"search_path\" TO ''");
        check("search_path", "", "\"search_path\" TO ''");
        check("work_mem", "64MB", "\"work_mem\" TO '64MB'");
        check("DateStyle", "ISO, MDY", "\"DateStyle\" TO 'ISO, MDY'");
        check("app.tenant", "o'neil", "\"app\".\"tenant\" TO 'o''neil'");
    }
}
