//! The documentation is held to the program: example configurations are accepted, links lead somewhere.

use std::path::{Path, PathBuf};

use dbkeeper::config::{Config, Environment};
use dbkeeper::repository::intake::Kind;

/// A real recipient in place of the `age1…` of the examples.
const RECIPIENT: &str = "age1frfql7ngv72wz0d20wa4ekm39kaeaer95a22wdnfn5wxwnyfydqqr7g9x0";

/// What a fragment leaves out, section by section.
const COMPLETION: [(&str, &str); 3] = [
    ("[repository]", "[repository]\nurl = \"file:///srv/repository\"\n"),
    ("[encryption]", "[encryption]\nrecipients = [\"age1…\"]\n"),
    ("[[servers]]", "[[servers]]\nname = \"pg\"\nurl = \"postgres://backup@localhost\"\n"),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every page for people, with its text.
fn pages() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut waiting = vec![root().join("docs")];
    let at_root = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root().join(name));
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(&folder).expect("list the documentation") {
            let path = entry.expect("read the documentation's folder").path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.extend(at_root);
    found.sort();
    found.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).expect("read a page"))).collect()
}

/// The fenced blocks of one language.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let opening = format!("```{language}\n");
    page.split(opening.as_str()).skip(1).filter_map(|after| after.split("```").next()).collect()
}

/// The targets of links to files, without fragments.
fn linked_files(page: &str) -> Vec<&str> {
    let targets = page.split("](").skip(1).filter_map(|after| after.split([')', '#']).next());
    targets.filter(|target| !target.is_empty() && !target.contains("://")).collect()
}

fn whole(fragment: &str) -> String {
    let missing = COMPLETION.iter().filter(|(section, _)| !fragment.contains(section)).map(|(_, text)| *text);
    let mut text: String = missing.collect();
    text.push_str(fragment);
    text.replace("age1…", RECIPIENT)
}

fn refusal(fragment: &str) -> Option<String> {
    let file = Path::new("/etc/dbkeeper/dbkeeper.toml");
    Config::parse(file, &whole(fragment), &Environment::of([], Some("you"))).err().map(|error| error.to_string())
}

#[test]
fn every_example_configuration_is_accepted() {
    let mut seen = 0;
    for (path, page) in pages() {
        for block in blocks(&page, "toml") {
            seen += 1;
            assert_eq!(refusal(block), None, "{}:\n{block}", path.display());
        }
    }
    assert!(3 <= seen, "the examples were found");
}

#[test]
fn an_example_with_a_misspelled_key_would_be_refused() {
    assert!(refusal("[repository]\nurl = \"file:///srv/repository\"\nkee = { file = \"k\" }\n").is_some());
}

#[test]
fn every_link_to_a_file_leads_to_one() {
    for (path, page) in pages() {
        let folder = path.parent().expect("a page is in a folder");
        for target in linked_files(&page) {
            assert!(folder.join(target).exists(), "{}: {target}", path.display());
        }
    }
}

/// The rows of the tables of faults: fault, what dbkeeper does, tests.
fn faults() -> Vec<[String; 3]> {
    let page = std::fs::read_to_string(root().join("docs/explanation/what-can-go-wrong.md")).expect("read the page");
    let rows = page
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| fault ") && !line.starts_with("| ---"));
    let cells = |row: &str| -> [String; 3] {
        let cells: Vec<String> = row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
        cells.try_into().unwrap_or_else(|cells| panic!("three cells: {cells:?}"))
    };
    rows.map(cells).collect()
}

/// The text of every source file below a folder.
fn sources(folder: &str, text: &mut String) {
    for entry in std::fs::read_dir(folder).expect("list the sources") {
        let path = entry.expect("read the sources' folder").path();
        if path.is_dir() {
            sources(&path.display().to_string(), text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&std::fs::read_to_string(path).expect("read a source"));
        }
    }
}

#[test]
fn every_fault_that_can_go_wrong_names_a_test_that_exists_and_the_readme_counts_them() {
    let (rows, mut text) = (faults(), String::new());
    for folder in ["tests", "src"] {
        sources(&root().join(folder).display().to_string(), &mut text);
    }
    for [fault, does, tests] in &rows {
        let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!fault.is_empty() && !does.is_empty() && !names.is_empty(), "{fault}");
        for name in names {
            assert!(text.contains(&format!("fn {name}(")), "{fault}: there is no test {name}");
        }
    }
    let readme = std::fs::read_to_string(root().join("README.md")).expect("read the readme");
    let count = format!("{} faults", rows.len());
    assert!(readme.contains(&count), "README.md must say {count:?}");
}

/// Who adds a kind of object adds it to [`Kind`]: so it is fed with garbage, here and by `./dev fuzz`.
#[test]
fn every_stored_object_that_the_format_lists_is_fed_with_garbage() {
    let format = std::fs::read_to_string(root().join("src/repository/FORMAT.md")).expect("the format");
    let listed = blocks(&format, "text")[0].lines().filter_map(|line| line.split("  ").next());
    for place in listed {
        assert!(
            Kind::ALL.iter().any(|kind| place.ends_with(kind.place())),
            "src/repository/intake.rs does not know {place}"
        );
    }
}
