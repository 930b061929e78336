//! Secrets are read when they are needed, anew each time, within bounds, and no error shows anything of them.

use std::path::Path;

use dbkeeper::base::class::Class;
use dbkeeper::config::{Config, Environment};

use super::base;

/// A configuration in `folder` whose server has this password.
fn config(folder: &Path, password: &str) -> Config {
    let text = format!("{}[[servers]]\nname = \"pg\"\nurl = \"postgres://u@h\"\npassword = {password}\n", base());
    let environment = Environment::of([], None);
    Config::parse(&folder.join("dbkeeper.toml"), &text, &environment).expect("a good file")
}

/// Reads the password: itself, or the first line of the error with its class and cause.
async fn read(folder: &Path, password: &str) -> Result<String, (String, Class, String)> {
    let environment = Environment::of([("SECRET", "from the environment"), ("EMPTY", "")], None);
    match config(folder, password).servers[0].open(&environment).await {
        Ok(server) => Ok(server.password.expect("it has one").reveal().to_owned()),
        Err(error) => {
            let folder = format!("{}/", folder.display());
            let text = error.to_string().replace(&folder, "");
            assert!(text.contains(&format!("\n8 | password = {password}\n")), "{text}");
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            Err((text.lines().next().unwrap_or_default().to_owned(), error.class(), cause))
        }
    }
}

#[track_caller]
fn headline(result: Result<String, (String, Class, String)>) -> String {
    result.expect_err("no secret").0
}

#[tokio::test]
async fn a_secret_comes_from_a_file_a_variable_or_a_command_without_its_line_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    std::fs::write(folder.join("password"), "from a file\n").expect("write");
    for (reference, expected) in [
        ("{ file = \"password\" }", "from a file"),
        ("{ env = \"SECRET\" }", "from the environment"),
        ("{ command = \"echo from | tr a-z A-Z\" }", "FROM"),
        ("{ command = [\"printf\", \"%s\", \"a  $b\"] }", "a  $b"),
    ] {
        assert_eq!(read(folder, reference).await.as_deref(), Ok(expected), "{reference}");
    }
    std::fs::write(folder.join("password"), "rotated").expect("write");
    assert_eq!(read(folder, "{ file = \"password\" }").await.as_deref(), Ok("rotated"));
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_says_where_it_should_have_been() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let missing = read(folder, "{ file = \"missing\" }").await.expect_err("no file");
    let line = "dbkeeper.toml:8:12: servers[0].password: file missing cannot be read";
    assert_eq!(missing, (line.to_owned(), Class::Usage, "No such file or directory (os error 2)".to_owned()));
    let unset = headline(read(folder, "{ env = \"NOBODY\" }").await);
    assert_eq!(unset, "dbkeeper.toml:8:12: servers[0].password: environment variable NOBODY is not set");
    let empty = headline(read(folder, "{ env = \"EMPTY\" }").await);
    assert_eq!(empty, "dbkeeper.toml:8:12: servers[0].password: environment variable EMPTY is empty");
    let absent = read(folder, "{ command = [\"no-such-program-here\"] }").await.expect_err("no program");
    assert!(absent.0.ends_with("command \"no-such-program-here\" cannot be run"), "{absent:?}");
    assert_eq!(absent.2, "No such file or directory (os error 2)");
}

#[tokio::test]
async fn a_command_that_fails_gives_its_status_and_its_last_words_and_nothing_that_it_printed() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("x"), "echo hunter2; echo first >&2; echo the vault is sealed >&2; exit 3")
        .expect("write");
    let failed = config(folder.path(), &format!("{{ command = [\"sh\", \"{}/x\"] }}", folder.path().display())).servers
        [0]
    .open(&Environment::of([], None))
    .await
    .map(|_| ())
    .expect_err("no secret")
    .to_string();
    let failed = failed.lines().next().unwrap_or_default();
    assert!(failed.ends_with("failed (exit status: 3): the vault is sealed"), "{failed}");
    assert!(!failed.contains("hunter2"), "{failed}");
    let killed = headline(read(folder.path(), "{ command = \"kill -9 $$\" }").await);
    assert!(killed.ends_with("failed (signal: 9 (SIGKILL))"), "{killed}");
}

#[tokio::test]
async fn a_secret_is_bounded_and_is_text() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    std::fs::write(folder.join("giant"), vec![b'x'; (64 << 10) + 1]).expect("write");
    std::fs::write(folder.join("binary"), b"\xff\xfe").expect("write");
    assert!(headline(read(folder, "{ file = \"giant\" }").await).ends_with("gives more than 64 KiB"));
    assert!(headline(read(folder, "{ file = \"/dev/zero\" }").await).ends_with("gives more than 64 KiB"));
    assert!(headline(read(folder, "{ command = \"yes\" }").await).ends_with("gives more than 64 KiB"));
    assert!(headline(read(folder, "{ file = \"binary\" }").await).ends_with("does not hold UTF-8 text"));
}

#[tokio::test]
async fn keys_and_identities_are_checked_when_they_are_read_and_are_a_matter_of_keys() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let environment = Environment::of([], None);
    let parse = |text: &str| Config::parse(&folder.join("dbkeeper.toml"), text, &environment).expect("a good file");
    let without = parse(&base());
    let error = without.repository_key(&environment).await.err().expect("no key is configured");
    assert_eq!(
        (error.class(), error.hint().as_deref()),
        (Class::Key, Some("add `key = { file = \"…\" }` to [repository]"))
    );
    assert_eq!(without.identities(&environment).await.err().map(|error| error.class()), Some(Class::Key));

    let with = parse(&format!("{}identity = {{ file = \"identity\" }}\n", base()));
    std::fs::write(folder.join("identity"), "# mine\nage1notsecret\n").expect("write");
    let error = with.identities(&environment).await.expect_err("a recipient is no identity");
    assert_eq!(error.class(), Class::Key);
    assert!(error.to_string().contains("holds something that is no age identity in line 2"), "{error}");
    std::fs::write(folder.join("identity"), "# nothing\n").expect("write");
    let error = with.identities(&environment).await.expect_err("there is none");
    assert!(error.to_string().contains("holds no age identity (AGE-SECRET-KEY-1…)"), "{error}");

    let with = parse(&base().replace("[encryption]", "key = { file = \"key\" }\n[encryption]"));
    std::fs::write(folder.join("key"), "dbkeeper-key-1-00\n").expect("write");
    let error = with.repository_key(&environment).await.err().expect("a short key");
    assert_eq!(error.class(), Class::Key);
    assert!(error.to_string().contains("holds a repository key that is cut off"), "{error}");
}
