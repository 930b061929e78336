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
