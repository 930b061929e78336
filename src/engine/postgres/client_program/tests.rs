//! Programs that only print a version, in temporary folders: which one is taken for which server.

use super::*;
use crate::base::secret::Secret;
use crate::sql::Family;

fn server(client_bin: Option<PathBuf>) -> Server {
    Server {
        name: "pg".to_owned(),
        family: Family::Postgres,
        host: "127.0.0.1".to_owned(),
        port: 5432,
        user: "backup".to_owned(),
        password: None,
        password_file: None,
        maintenance_database: "postgres".to_owned(),
        ssl_mode: SslMode::Disable,
        ssl_root_cert: None,
        connections: 1,
        client_bin,
    }
}

fn install(folder: &Path, script: &str) {
    install_script("pg_dump", folder, script);
}

fn install_as(name: &str, folder: &Path, version: &str) {
    install_script(name, folder, &format!("echo '{name} (PostgreSQL) {version} (Test)'"));
}

fn install_script(name: &str, folder: &Path, script: &str) {
    std::fs::create_dir_all(folder).expect("a folder");
    // Written by another process: a child that is forked here meanwhile would hold the file open, and it could not be run.
    let write = "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$2\" && chmod 755 \"$2\"";
    let mut command = std::process::Command::new("sh");
    let status = command.args(["-c", write, "sh", script]).arg(folder.join(name)).status();
    assert!(status.expect("run a shell").success());
}

fn install_version(folder: &Path, version: &str) {
    install_as("pg_dump", folder, version);
}

/// Installs packages of these versions, and one program on the search path.
async fn check_search(packages: &[&str], on_path: Option<&str>, server_major: u32) -> Result<String, Error> {
    let root = tempfile::tempdir().expect("a folder");
    for version in packages {
        let major = version.split('.').next().expect("a major");
        install_version(&root.path().join(major).join("bin"), version);
    }
    if let Some(version) = on_path {
        install_version(&root.path().join("path"), version);
    }
    let mut programs = ClientPrograms::new(vec![root.path().join("path")]);
    programs.package_folders = vec![(format!("{}/", root.path().display()), "/bin".to_owned())];
    programs.find(&server(None), "pg_dump", server_major).await.map(|program| program.version)
}

#[tokio::test]
async fn the_servers_own_major_wins_and_the_smallest_newer_one_comes_next() {
    assert_eq!(check_search(&["14.1", "15.2", "17.3"], None, 15).await.expect("found"), "15.2");
    assert_eq!(check_search(&["14.1", "16.2", "17.3"], None, 15).await.expect("found"), "16.2");
    assert_eq!(check_search(&["14.1", "17.3"], Some("15.9"), 15).await.expect("found"), "15.9");
    assert_eq!(check_search(&[], Some("18beta1"), 15).await.expect("found"), "18beta1");
}

#[tokio::test]
async fn only_older_programs_are_an_error_that_names_them_and_what_to_install() {
    let error = check_search(&["13.1"], Some("14.2"), 15).await.expect_err("too old");
    assert_eq!(error.class(), Class::Client);
    assert!(error.to_string().contains("13/bin/pg_dump"), "{error}");
    assert!(error.to_string().contains("path/pg_dump"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("postgresql-client-15")));
    let error = check_search(&[], None, 15).await.expect_err("nothing there");
    assert!(error.to_string().contains("none was found"), "{error}");
}

#[tokio::test]
async fn a_configured_folder_is_the_only_one_and_is_checked_too() {
    let root = tempfile::tempdir().expect("a folder");
    let programs = ClientPrograms::new(Vec::new());
    let configured = server(Some(root.path().to_owned()));
    let error = programs.find(&configured, "pg_dump", 15).await.expect_err("empty folder");
    assert_eq!(error.class(), Class::Client);
    install_version(root.path(), "12.4");
    let error = programs.find(&configured, "pg_dump", 15).await.expect_err("old program");
    assert!(error.to_string().contains("older than the server's 15"), "{error}");
    install_version(root.path(), "16.1");
    assert_eq!(programs.find(&configured, "pg_dump", 15).await.expect("found").version, "16.1");
    std::fs::remove_file(root.path().join("pg_dump")).expect("remove");
    assert_eq!(programs.find(&configured, "pg_dump", 15).await.expect("remembered").version, "16.1");
}

async fn check_run(script: &str) -> Result<(String, String), Error> {
    let root = tempfile::tempdir().expect("a folder");
    install(root.path(), script);
    let program =
        ClientProgram { name: "pg_dump", path: root.path().join("pg_dump"), version: "15.1".to_owned(), major: 15 };
    let mut server = server(None);
    server.password = Some(Secret::new("a:b\\c".to_owned()));
    let mut running = program.start(&server, "it's", &["-x".to_owned()], Input::Empty).await?;
    let mut output = String::new();
    running.stdout.take().expect("stdout").read_to_string(&mut output).await.expect("read");
    Ok((output, running.finish().await?))
}

#[tokio::test]
async fn the_password_comes_through_inherited_memory_that_only_we_may_read() {
    let script = "cat $PGPASSFILE; /usr/bin/stat -L -c %a $PGPASSFILE; echo \"$*\"; /usr/bin/env";
    let (output, _) = check_run(script).await.expect("run");
    assert_eq!(output.matches("a\\:b\\\\c").count(), 1, "the secret stands in the passed file only: {output}");
    assert!(output.starts_with("*:*:*:*:a\\:b\\\\c\n600\n-x\n"), "{output}");
    assert!(output.contains("PGDATABASE=it's\n"));
    assert!(!output.contains("HOME=") && !output.contains("PGPASSWORD"), "nothing of ours is inherited: {output}");
}

#[tokio::test]
async fn a_failing_program_is_an_error_with_the_end_of_its_words() {
    let script = "i=0; while [ $i -lt 3000 ]; do echo \"line $i\" >&2; i=$((i+1)); done; exit 3";
    let error = check_run(script).await.expect_err("exit status 3").to_string();
    assert!(error.contains("exit status: 3") && error.ends_with("line 2999"), "{error}");
    assert!(error.len() < STDERR_TAIL_BYTES + 200);
    let (_, said) = check_run("echo 'pg_dump: warning: odd' >&2").await.expect("exit status 0");
    assert_eq!(said, "pg_dump: warning: odd");
}

#[test]
fn any_database_name_survives_as_an_argument() {
    assert_eq!(database_argument(r"a'b\c=d"), r"--dbname=dbname='a\'b\\c=d'");
}

async fn check_archive(packages: &[&str], configured: &[&str], archive_major: u32) -> Result<String, Error> {
    let root = tempfile::tempdir().expect("a folder");
    let folder = |kind: &str, version: &str| root.path().join(kind).join(version).join("bin");
    let major = |version: &str| version.split('.').next().expect("a major").to_owned();
    for version in packages {
        install_as("pg_restore", &folder("packages", &major(version)), version);
    }
    for version in configured {
        install_as("pg_restore", &folder("configured", version), version);
    }
    let mut programs = ClientPrograms::new(Vec::new());
    programs.package_folders = vec![(format!("{}/packages/", root.path().display()), "/bin".to_owned())];
    let folders: Vec<PathBuf> = configured.iter().map(|version| folder("configured", version)).collect();
    programs.find_for_archive(&folders, archive_major).await.map(|program| program.version)
}

#[tokio::test]
async fn an_archive_is_read_by_the_smallest_major_that_can_and_configured_folders_come_first() {
    assert_eq!(check_archive(&["14.1", "15.2", "17.3"], &[], 15).await.expect("found"), "15.2");
    assert_eq!(check_archive(&["17.3"], &["14.1", "18.1", "16.2"], 15).await.expect("found"), "16.2");
    assert_eq!(check_archive(&["15.2"], &["14.1"], 15).await.expect("found"), "15.2");
    let error = check_archive(&["14.1"], &["13.9"], 15).await.expect_err("all are too old");
    assert_eq!(error.class(), Class::Client);
    assert!(error.to_string().contains("written by pg_dump 15 and needs pg_restore of 15 or newer: found only "));
    assert_eq!(error.hint(), Some("install the package postgresql-client-15"));
}
