//! Passwords, password files, Unix sockets, and what a refused login says.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::OnceLock;

use dbkeeper::base::class::Class;
use dbkeeper::base::secret::Secret;
use dbkeeper::sql::postgres::{Error, connect, in_recovery};
use dbkeeper::sql::{Server, SslMode};

use super::authority::Authority;
use crate::support::postgres::Cluster;

/// A server that wants a password over TCP, by role: SCRAM from `scram`, MD5 from `old`, plain from `clear`.
fn strict() -> &'static (Authority, Cluster) {
    static STRICT: OnceLock<(Authority, Cluster)> = OnceLock::new();
    STRICT.get_or_init(|| {
        let authority = Authority::new();
        authority.issue("server", "IP:127.0.0.1", 30);
        let hba = "host all old 127.0.0.1/32 md5\nhost all clear 127.0.0.1/32 password\nhost all full 127.0.0.1/32 trust\n\
                   host all scram 127.0.0.1/32 scram-sha-256\nlocal all scram scram-sha-256";
        let cluster = authority.start_server("server", hba);
        cluster.psql(
            "postgres",
            "create role scram login password 'pass wörd:\\'; create role clear login password 'c';
             set password_encryption = md5; create role old login password 'o';
             create role full login connection limit 0; create role barred nologin",
        );
        (authority, cluster)
    })
}

fn server(user: &str, password: Option<&str>) -> Server {
    let password = password.map(|text| Secret::new(text.to_owned()));
    Server { user: user.to_owned(), password, ..strict().1.server() }
}

async fn check_refused(server: Server, database: &str, class: Class, words: &str, hint: &str) {
    let error = connect(&server, database).await.expect_err(words);
    assert!(error.to_string().contains(words), "{error}");
    assert!(error.hint().unwrap_or_default().contains(hint), "{error}: {:?}", error.hint());
    assert_eq!(error.class(), class, "{error}");
    assert!(!format!("{error:?} {error} {:?}", error.hint()).contains("wrong-password"), "a secret in an error");
}

#[tokio::test]
async fn scram_md5_and_plain_passwords_open_the_door_with_and_without_tls() {
    for mode in [SslMode::Disable, SslMode::Require, SslMode::VerifyFull] {
        for (user, password) in [("scram", "pass wörd:\\"), ("old", "o"), ("clear", "c")] {
            let ssl_root_cert = Some(strict().0.path("ca.crt"));
            let server = Server { ssl_mode: mode, ssl_root_cert, ..server(user, Some(password)) };
            let connection = connect(&server, "postgres").await.unwrap_or_else(|error| panic!("{user}: {error}"));
            assert_eq!(connection.query_one("select current_user::text", &[]).await.unwrap().get::<_, String>(0), user);
            assert!(13 <= connection.version().major);
            assert!(!in_recovery(&connection).await.unwrap());
        }
    }
}

#[tokio::test]
async fn a_refused_login_says_what_to_look_at() {
    let wrong = || server("scram", Some("wrong-password"));
    check_refused(wrong(), "postgres", Class::Database, "28P01", "password of role \"scram\"").await;
    check_refused(server("scram", None), "postgres", Class::Database, "password missing", "configure a password").await;
    check_refused(server("nobody", None), "postgres", Class::Database, "28000", "pg_hba.conf").await;
    check_refused(server("full", None), "postgres", Class::Transient, "53300", "").await;
    let prefer = Server { ssl_mode: SslMode::Prefer, ..wrong() };
    check_refused(prefer, "postgres", Class::Database, "28P01", "password of role").await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error_of_class_database() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let closed = Server { port: free, ..Cluster::shared().server() };
    check_refused(closed, "postgres", Class::Database, "refused", "").await;
    let unknown = Server { host: "no-such-host.invalid".to_owned(), ..Cluster::shared().server() };
    check_refused(unknown, "postgres", Class::Database, "lookup", "").await;
    let no_socket = Server { host: "/nonexistent".to_owned(), ..Cluster::shared().server() };
    check_refused(no_socket, "postgres", Class::Database, "No such file", "").await;
}

#[tokio::test]
async fn a_missing_database_is_told_apart_from_a_missing_server() {
    let error = connect(&Cluster::shared().server(), "no such database").await.unwrap_err();
    assert!(matches!(&error, Error::NoDatabase { database, .. } if database == "no such database"), "{error:?}");
}

/// A password file with this mode, in a folder of its own.
fn password_file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pgpass");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    (folder, path)
}

#[tokio::test]
async fn a_password_file_is_searched_where_no_password_is_given() {
    let port = strict().1.port;
    let text = format!("# ours\n127.0.0.1:{port}:other:*:no\n127.0.0.1:{port}:*:scram:pass wörd\\:\\\\\n");
    let (_folder, path) = password_file(&text, 0o600);
    let with_file = |server| Server { password_file: Some(path.clone()), ..server };
    connect(&with_file(server("scram", None)), "postgres").await.unwrap();
    connect(&with_file(server("clear", Some("c"))), "postgres").await.unwrap();
    let missing = with_file(server("old", None));
    check_refused(missing, "postgres", Class::Database, "password missing", "no line for 127.0.0.1").await;
    let absent = Server { password_file: Some(path.with_extension("absent")), ..server("scram", None) };
    check_refused(absent, "postgres", Class::Database, "password missing", "no line").await;
}

#[tokio::test]
async fn a_password_file_that_others_can_read_is_not_used_and_the_error_says_so() {
    for mode in [0o640, 0o604, 0o660] {
        let (_folder, path) = password_file("*:*:*:*:pass wörd\\:\\\\\n", mode);
        let hint = format!("chmod 600 {}", path.display());
        let open = Server { password_file: Some(path), ..server("scram", None) };
        check_refused(open, "postgres", Class::Usage, "group or others can access it", &hint).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let no_file = Server { password_file: Some(folder.path().to_owned()), ..server("scram", None) };
    check_refused(no_file, "postgres", Class::Usage, "not a plain file", "").await;
}

#[tokio::test]
async fn a_unix_socket_is_a_folder_in_place_of_the_host() {
    let (_folder, path) =
        password_file(&format!("{}:*:*:scram:pass wörd\\:\\\\\n", strict().1.folder.display()), 0o600);
    let host = strict().1.folder.display().to_string();
    let socket = Server { host, password_file: Some(path), ..server("scram", None) };
    let connection = connect(&socket, "postgres").await.unwrap();
    let address: Option<String> = connection.query_one("select inet_client_addr()::text", &[]).await.unwrap().get(0);
    assert_eq!(address, None);
}
