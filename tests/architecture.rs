//! The house rules that no compiler holds: layers, homes of time and environment, sizes, module docs, no forgotten file.
//!
//! Each rule is a pure function from sources to complaints, is run over the whole tree, and is fed something bad below, to
//! show that it can fail.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use self::tokens::{Token, tokens};

mod tokens;

/// What may import what: a module imports only modules of lower layers (`src/lib.rs` has the same map).
const LAYERS: &[(&str, u8)] = &[
    ("base", 0),
    ("store", 1),
    ("codec", 1),
    ("sql", 1),
    ("run", 1),
    ("repository", 2),
    ("engine", 2),
    ("fleet", 2),
    ("observe", 2),
    ("backup", 3),
    ("restore", 3),
    ("config", 4),
    ("job", 5),
    ("cli", 7),
];

/// What has one home: the words of the path as they stand in the code, and the files or folders that may say it.
const HOMES: &[(&[&str], &[&str])] = &[
    (&["Utc", "::", "now"], &["src/base/clock.rs"]),
    (&["SystemTime", "::", "now"], &["src/base/clock.rs"]),
    (&["env", "::"], &["src/config/", "src/cli/", "src/main.rs"]),
    (&["spawn_blocking"], &["src/store/local.rs", "src/store/local/", "src/base/cpu.rs"]),
    (&["process", "::", "exit"], &["src/cli/", "src/main.rs"]),
];

/// The longest source or test file.
const MAX_LINES: usize = 500;

/// Crates of a second TLS stack.
const BANNED_CRATES: &[&str] = &["openssl-sys", "native-tls", "aws-lc-sys"];

/// A Rust file of this project, by its path from the root.
struct Source {
    path: String,
    text: String,
    tokens: Vec<Token>,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), tokens: tokens(text) }
    }

    /// The module below `src/` that this file belongs to; none for `lib.rs` and `main.rs`.
    fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let module = inside.split_once('/').map_or_else(|| inside.strip_suffix(".rs"), |(folder, _)| Some(folder))?;
        (module != "lib" && module != "main").then_some(module)
    }

    fn complaint(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path)
    }

    /// Where this run of tokens stands.
    fn lines_with(&self, words: &[&str]) -> Vec<usize> {
        let windows = self.tokens.windows(words.len());
        windows
            .filter(|found| found.iter().map(|t| t.text.as_str()).eq(words.iter().copied()))
            .map(|w| w[0].line)
            .collect()
    }
}

fn layer_of(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

/// A module imports only lower layers, never a sibling of its own, and says so with `crate::` paths.
fn upward_or_sideways(source: &Source) -> Vec<String> {
    let Some(module) = source.module() else { return Vec::new() };
    let Some(layer) = layer_of(module) else {
        return vec![source.complaint(1, &format!("the module `{module}` stands in no layer"))];
    };
    let mut complaints = Vec::new();
    for (imported, line) in imports(&source.tokens) {
        if imported == module || layer_of(&imported).is_some_and(|other| other < layer) {
            continue;
        }
        complaints.push(source.complaint(line, &format!("`{module}` (layer {layer}) must not import `{imported}`")));
    }
    for line in source.lines_with(&["super", "::", "super"]) {
        complaints.push(source.complaint(line, "`super::super` hides where it leads: write a `crate::` path"));
    }
    complaints
}

/// The first name after each `crate::`, group by group.
fn imports(tokens: &[Token]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (at, pair) in tokens.windows(2).enumerate() {
        if pair[0].text != "crate" || pair[1].text != "::" {
            continue;
        }
        let after = &tokens[at + 2..];
        match after.first() {
            Some(open) if open.text == "{" => found.extend(group_heads(after)),
            Some(name) => found.push((name.text.clone(), name.line)),
            None => {}
        }
    }
    found
}

/// The first word of each item of the group that begins with the first token: `{a::{b, c}, d}` gives `a` and `d`.
fn group_heads(tokens: &[Token]) -> Vec<(String, usize)> {
    let mut heads = Vec::new();
    let (mut depth, mut at_start) = (0_usize, false);
    for token in tokens {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ if at_start && depth == 1 => heads.push((token.text.clone(), token.line)),
            _ => {}
        }
        if depth == 0 {
            break;
        }
        at_start = depth == 1 && matches!(token.text.as_str(), "{" | ",");
    }
    heads
}

fn away_from_home(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    for (words, homes) in HOMES {
        if !homes.iter().any(|home| source.path == *home || (home.ends_with('/') && source.path.starts_with(home))) {
            let what = format!("`{}` belongs to {}", words.concat(), homes.join(", "));
            complaints.extend(source.lines_with(words).into_iter().map(|line| source.complaint(line, &what)));
        }
    }
    complaints
}

fn without_module_doc(source: &Source) -> Vec<String> {
    let documented = ["//! ", "#![doc = include_str!("].iter().any(|doc| source.text.starts_with(doc));
    if documented { Vec::new() } else { vec![source.complaint(1, "a file begins with its module doc, `//! …`")] }
}

fn too_long(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    if lines <= MAX_LINES { Vec::new() } else { vec![source.complaint(lines, &format!("more than {MAX_LINES} lines"))] }
}

/// A test that is not run proves nothing.
fn ignored_tests(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    let (mut depth, mut in_attribute) = (0_usize, false);
    for (at, token) in source.tokens.iter().enumerate() {
        match token.text.as_str() {
            "[" if in_attribute => depth += 1,
            "]" if in_attribute => depth -= 1,
            "#" if source.tokens.get(at + 1).is_some_and(|next| next.text == "[") => in_attribute = true,
            "ignore" if depth > 0 => complaints.push(source.complaint(token.line, "no test is ignored")),
            _ => {}
        }
        in_attribute = in_attribute && (depth > 0 || token.text == "#");
    }
    complaints
}

/// What derives `Debug` prints all of its fields, and `Zeroizing` prints what it holds.
fn printed_secrets(source: &Source) -> Vec<String> {
    let tokens = &source.tokens;
    let is = |at: usize, word: &str| tokens.get(at).is_some_and(|token| token.text == word);
    let derives = (0..tokens.len()).filter(|at| is(*at, "derive") && is(at + 1, "("));
    let mut complaints = Vec::new();
    for at in derives {
        let Some(close) = (at..tokens.len()).find(|at| is(*at, ")")) else { continue };
        // The type ends with its fields: the first `}` or `;` behind it that is not within an attribute.
        let end = (close..tokens.len()).find(|at| is(*at, "}") || is(*at, ";")).unwrap_or(tokens.len());
        let prints = tokens[at..close].iter().any(|token| token.text == "Debug");
        if prints && let Some(field) = tokens[close..end].iter().find(|token| token.text == "Zeroizing") {
            complaints
                .push(source.complaint(field.line, "a type that holds a secret prints itself: write its `Debug`"));
        }
    }
    complaints
}

/// Examples in docs are text: `./dev test` compiles no doc examples, so one that looks like code would never be run.
fn runnable_doc_examples(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut inside = false;
    for (number, line) in source.text.lines().enumerate() {
        let line = line.trim_start();
        let Some(doc) = line.strip_prefix("//!").or_else(|| line.strip_prefix("///")) else {
            inside = false;
            continue;
        };
        if let Some(language) = doc.trim().strip_prefix("```") {
            inside = !inside;
            if inside && matches!(language, "" | "rust" | "no_run" | "should_panic") {
                complaints.push(source.complaint(number + 1, "name the language of the example: ```text"));
            }
        }
    }
    complaints
}

/// Files that no `mod` reaches are never compiled. `roots` are the crate roots among `sources`.
fn unreached(sources: &[Source], roots: &[&str]) -> Vec<String> {
    let mut reached = BTreeSet::new();
    let mut waiting: Vec<String> = roots.iter().map(|&root| root.to_owned()).collect();
    while let Some(path) = waiting.pop() {
        if let Some(source) = sources.iter().find(|source| source.path == path)
            && reached.insert(path)
        {
            waiting.extend(submodules(source, roots));
        }
    }
    let forgotten = sources.iter().filter(|source| !reached.contains(&source.path));
    forgotten.map(|source| source.complaint(1, "no `mod` lists this file")).collect()
}

/// The paths where the compiler looks for the modules that a file declares (Rust Reference, "Module source filenames").
fn submodules(source: &Source, roots: &[&str]) -> Vec<String> {
    let path = Path::new(&source.path);
    let is_folder_face = roots.contains(&source.path.as_str()) || path.ends_with("mod.rs");
    let mut folders = vec![if is_folder_face { path.with_file_name("") } else { path.with_extension("") }];
    let mut depths = vec![0_usize];
    let mut depth = 0_usize;
    let mut found = Vec::new();
    for (at, token) in source.tokens.iter().enumerate() {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                while depths.len() > 1 && depths.last().is_some_and(|&opened| opened > depth) {
                    depths.pop();
                    folders.pop();
                }
            }
            "mod" => {
                let (Some(name), Some(sign)) = (source.tokens.get(at + 1), source.tokens.get(at + 2)) else { continue };
                let inner = folders.last().expect("the file's own folder is never popped").join(&name.text);
                if sign.text == ";" {
                    found.extend([inner.with_extension("rs"), inner.join("mod.rs")]);
                } else if sign.text == "{" {
                    folders.push(inner);
                    depths.push(depth + 1);
                }
            }
            _ => {}
        }
    }
    found.iter().map(|path| path.to_string_lossy().into_owned()).collect()
}

fn banned_crates(lock_file: &str) -> Vec<String> {
    let banned = BANNED_CRATES.iter().filter(|name| lock_file.contains(&format!("name = \"{name}\"\n")));
    banned.map(|name| format!("Cargo.lock: `{name}` is a second TLS stack")).collect()
}

// ---- the tree of this project

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below a folder of the project, in order.
fn sources_below(folder: &str) -> Vec<Source> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("list a folder of the project") {
            let path = entry.expect("read a folder of the project").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    assert!(!files.is_empty(), "there is Rust below {folder}");
    let source = |path: &PathBuf| {
        let relative = path.strip_prefix(root()).expect("it was found below the root").to_string_lossy().into_owned();
        Source::new(&relative, &std::fs::read_to_string(path).expect("read a source file"))
    };
    files.iter().map(source).collect()
}

#[track_caller]
fn check_all(sources: &[Source], rule: fn(&Source) -> Vec<String>) {
    let complaints: Vec<String> = sources.iter().flat_map(rule).collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[track_caller]
fn check_sources_and_tests(rule: fn(&Source) -> Vec<String>) {
    check_all(&sources_below("src"), rule);
    check_all(&sources_below("tests"), rule);
}

#[test]
fn modules_import_only_lower_layers() {
    check_all(&sources_below("src"), upward_or_sideways);
}

#[test]
fn time_environment_exit_and_blocking_work_stay_at_home() {
    check_all(&sources_below("src"), away_from_home);
}

#[test]
fn no_type_that_holds_a_secret_derives_debug() {
    check_all(&sources_below("src"), printed_secrets);
}

#[test]
fn every_file_begins_with_its_module_doc() {
    check_sources_and_tests(without_module_doc);
}

#[test]
fn no_file_is_too_long() {
    check_sources_and_tests(too_long);
}

#[test]
fn no_test_is_ignored() {
    check_sources_and_tests(ignored_tests);
}

#[test]
fn no_doc_example_waits_to_be_run() {
    check_all(&sources_below("src"), runnable_doc_examples);
}

#[test]
fn every_file_is_listed_by_a_mod() {
    let mut complaints = unreached(&sources_below("src"), &["src/lib.rs", "src/main.rs"]);
    complaints.extend(unreached(&sources_below("tests"), &["tests/suite.rs"]));
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn there_is_one_tls_stack() {
    let lock_file = std::fs::read_to_string(root().join("Cargo.lock")).expect("read Cargo.lock");
    assert_eq!(banned_crates(&lock_file), Vec::<String>::new());
}

// ---- each rule can fail

#[track_caller]
fn check_caught(rule: fn(&Source) -> Vec<String>, path: &str, bad: &[&str], good: &[&str]) {
    for text in bad {
        assert_eq!(rule(&Source::new(path, text)).len(), 1, "must be caught once: {text}");
    }
    for text in good {
        assert_eq!(rule(&Source::new(path, text)), Vec::<String>::new(), "must pass: {text}");
    }
}

#[test]
fn an_import_of_a_higher_layer_or_a_sibling_is_caught() {
    let bad = [
        "use crate::codec::pack;",
        "use crate::{base::ids, engine::{self, Error}};",
        "pub(crate) use crate::{sql};",
        "fn f() { crate::job::start() }",
        "use crate::*;",
        "use crate::unheard_of;",
        "use super::super::sql;",
        "use crate::{base::{ids, units}, store::Error, run};",
    ];
    let good = [
        "use crate::base::{ids::TargetId, class};",
        "use crate::{store::{local, s3}, base};",
        "// crate::job\nconst A: &str = \"crate::job\"; //! [`crate::job`]",
        "pub(in crate::store) fn f() {}",
    ];
    check_caught(upward_or_sideways, "src/store/s3.rs", &bad, &good);
    check_caught(upward_or_sideways, "src/store.rs", &bad[..1], &good[..1]);
    check_caught(upward_or_sideways, "src/utils/mod.rs", &[""], &[]);
    check_caught(upward_or_sideways, "src/lib.rs", &[], &bad);
}

#[test]
fn a_strange_clock_environment_exit_or_blocking_call_is_caught() {
    let bad = [
        "let now = Utc::now();",
        "let now = std::time::SystemTime::now();",
        "use std::env::var;",
        "let path = std::env::var(\"PATH\");",
        "let handle = tokio::task::spawn_blocking(f);",
        "use tokio::task::spawn_blocking;",
        "std::process::exit(1);",
    ];
    let good = ["// Utc::now()", "let v = env!(\"CARGO_PKG_VERSION\");", "fn f(at: std::time::SystemTime) {}"];
    check_caught(away_from_home, "src/repository/vault.rs", &bad, &good);
    check_caught(away_from_home, "src/base/clock.rs", &[], &["Utc::now()"]);
    check_caught(away_from_home, "src/config/secrets.rs", &["Utc::now()"], &["use std::env::var;"]);
}

#[test]
fn a_file_without_a_module_doc_is_caught() {
    check_caught(
        without_module_doc,
        "src/x.rs",
        &["", "use a;\n//! late", "/// of an item"],
        &["//! What it is.\n", "#![doc = include_str!(\"FORMAT.md\")]\n"],
    );
}

#[test]
fn a_long_file_is_caught() {
    check_caught(too_long, "src/x.rs", &[&"\n".repeat(MAX_LINES + 1)], &[&"\n".repeat(MAX_LINES)]);
}

#[test]
fn a_secret_that_prints_itself_is_caught() {
    let bad = [
        "#[derive(Clone, Debug)] pub struct K { key: Option<Zeroizing<[u8; 32]>> }",
        "#[derive(Debug)] struct K(Zeroizing<u8>);",
    ];
    let good = ["#[derive(Clone)] struct K(Zeroizing<u8>); #[derive(Debug)] struct Other { a: u8 }"];
    check_caught(printed_secrets, "src/base/secret.rs", &bad, &good);
}

#[test]
fn an_ignored_test_is_caught() {
    let bad =
        ["#[ignore]", "#[ignore = \"slow\"]", "#[cfg_attr(feature = \"x\", ignore)]", "#[test] #[ignore] fn f() {}"];
    check_caught(
        ignored_tests,
        "tests/x.rs",
        &bad,
        &["// #[ignore]", "let ignore = [ignore];", "#[test] fn ignore() {}"],
    );
}

#[test]
fn a_runnable_doc_example_is_caught() {
    let bad = ["//! ```\n//! let x = 1;\n//! ```", "    /// ```rust\n    /// ```", "/// ```no_run\n/// ```"];
    check_caught(runnable_doc_examples, "src/x.rs", &bad, &["//! ```text\n//! a\n//! ```", "// ```"]);
}

#[test]
fn a_file_that_no_mod_lists_is_caught() {
    let tree = |suite: &str| {
        let files = [
            ("tests/suite.rs", suite),
            ("tests/cli.rs", "mod verbs;"),
            ("tests/cli/verbs.rs", ""),
            ("tests/engine/dump.rs", ""),
            ("tests/support/mod.rs", "pub mod postgres;"),
            ("tests/support/postgres.rs", ""),
        ];
        let sources: Vec<Source> = files.iter().map(|(path, text)| Source::new(path, text)).collect();
        unreached(&sources, &["tests/suite.rs"])
    };
    assert_eq!(tree("mod engine { fn f() {} mod dump; } mod cli; pub mod support;"), Vec::<String>::new());
    assert_eq!(tree("mod engine { } mod dump; mod cli; mod support;").len(), 1, "out of its folder");
    assert_eq!(tree("mod engine { mod dump; } mod support; // mod cli;").len(), 2, "with all that it lists");
}

#[test]
fn a_second_tls_stack_is_caught() {
    assert_eq!(banned_crates("[[package]]\nname = \"native-tls\"\nversion = \"0.2.0\"\n").len(), 1);
    assert_eq!(banned_crates("[[package]]\nname = \"openssl-probe\"\n"), Vec::<String>::new());
}
