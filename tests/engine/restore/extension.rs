//! Extensions whose tables hold the user's rows: tried with one of our own, in a copy of the server's tree.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use dbkeeper::engine::postgres::restore::Mode;

use super::backup::{Backup, options, restore};
use crate::support::postgres::{Cluster, newest_bin};

/// Kinds 1 to 3 come with the extension; `uses` points to them, and its sequence is the user's as well.
const SCRIPT: &str = "
    CREATE TABLE kinds (id integer PRIMARY KEY, label text, is_ours boolean DEFAULT false);
    INSERT INTO kinds VALUES (1, 'ours', true), (2, 'to be changed', false), (3, 'to be deleted', false);
    CREATE TABLE a_uses (id integer PRIMARY KEY, kind integer REFERENCES kinds);
    CREATE SEQUENCE uses_id;
    SELECT pg_catalog.pg_extension_config_dump('a_uses', '');
    SELECT pg_catalog.pg_extension_config_dump('kinds', 'WHERE NOT is_ours');
    SELECT pg_catalog.pg_extension_config_dump('uses_id', '');";

/// A tree like the installed one with one more extension: a server finds its extensions beside its own binary.
fn tree_with_extension(root: &Path) -> PathBuf {
    let bin = newest_bin();
    let installed = bin.parent().expect("the folder of the major");
    let major = installed.file_name().expect("its name");
    let own = root.join("lib/postgresql").join(major);
    std::fs::create_dir_all(own.join("bin")).expect("folders");
    symlink(installed.join("lib"), own.join("lib")).expect("the libraries");
    for entry in std::fs::read_dir(&bin).expect("the binaries") {
        let entry = entry.expect("a binary").path();
        let name = entry.file_name().expect("its name");
        if name == "postgres" || name == "initdb" {
            std::fs::copy(&entry, own.join("bin").join(name)).expect("copy");
        } else {
            symlink(&entry, own.join("bin").join(name)).expect("link");
        }
    }
    let share = Path::new("/usr/share/postgresql").join(major);
    let own_share = root.join("share/postgresql").join(major);
    link_all(&share, &own_share, &["extension"]);
    link_all(&share.join("extension"), &own_share.join("extension"), &[]);
    let control = "default_version = '1.0'\nrelocatable = true\n";
    std::fs::write(own_share.join("extension/dbkeeper_test.control"), control).expect("write");
    std::fs::write(own_share.join("extension/dbkeeper_test--1.0.sql"), SCRIPT).expect("write");
    own.join("bin")
}

fn link_all(from: &Path, to: &Path, but: &[&str]) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("a file");
        if !but.iter().any(|name| entry.file_name() == *name) {
            symlink(entry.path(), to.join(entry.file_name())).expect("link");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rows_of_configuration_tables_replace_those_of_the_extensions_script() {
    let root = tempfile::tempdir().expect("a folder");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(root.path(), open).expect("chmod");
    let cluster = Cluster::start_from(tree_with_extension(root.path()), &[]);
    cluster.psql("postgres", "create database configured template template0");
    cluster.psql(
        "configured",
        "create extension dbkeeper_test; update kinds set label = 'changed' where id = 2; delete from kinds where id = 3;
         insert into kinds values (7, 'mine'); insert into a_uses values (1, 7), (2, 2); select setval('uses_id', 77)",
    );
    let backup = Backup::take(&cluster, "configured").await;
    restore(&cluster.server(), &backup, options("copy", Mode::AsNew)).await.expect("restore");
    for query in ["table kinds order by 1", "table a_uses order by 1", "select last_value, is_called from uses_id"] {
        assert_eq!(cluster.psql("copy", query), cluster.psql("configured", query), "{query}");
    }
    let mut chosen = options("chosen", Mode::AsNew);
    chosen.tables = vec!["kinds".to_owned()];
    let error = restore(&cluster.server(), &backup, chosen).await.expect_err("it is the extension's");
    assert!(error.to_string().contains("belongs to an extension"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_extension_is_named_before_anything_is_made() {
    let root = tempfile::tempdir().expect("a folder");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(root.path(), open).expect("chmod");
    let here = Cluster::start_from(tree_with_extension(root.path()), &[]);
    here.psql(
        "postgres",
        "create role needs_extension; create database extended template template0 owner needs_extension",
    );
    here.psql("extended", "create extension dbkeeper_test");
    let backup = Backup::take(&here, "extended").await;
    let there = Cluster::start(&[]);
    let error =
        restore(&there.server(), &backup, options("extended", Mode::Swap)).await.expect_err("no such extension");
    assert!(error.to_string().contains("dbkeeper_test"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("install the packages")), "{:?}", error.hint());
    assert_eq!(there.psql("postgres", "select count(*) from pg_database where not datistemplate"), "1\n");
    assert_eq!(there.psql("postgres", "select count(*) from pg_roles where rolname = 'needs_extension'"), "0\n");
}
