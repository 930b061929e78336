//! Every sslmode against good and bad certificates.

use std::path::PathBuf;
use std::sync::OnceLock;

use dbkeeper::base::class::Class;
use dbkeeper::sql::postgres::connect;
use dbkeeper::sql::{Server, SslMode};

use super::authority::Authority;
use crate::support::postgres::Cluster;

/// What a login came to: over TLS, in plain text, or not, with words of the error and of its hint.
enum Expected {
    Tls,
    Plain,
    Refused(&'static str, &'static str),
}

/// An authority, and a server with its certificate for `localhost`.
fn good() -> &'static (Authority, Cluster) {
    static GOOD: OnceLock<(Authority, Cluster)> = OnceLock::new();
    GOOD.get_or_init(|| {
        let authority = Authority::new();
        authority.issue("server", "DNS:localhost", 30);
        let cluster = authority.start_server("server", "host all all 127.0.0.1/32 trust\nhost all all ::1/128 trust");
        (authority, cluster)
    })
}

fn server(cluster: &Cluster, host: &str, mode: SslMode, authorities: Option<PathBuf>) -> Server {
    Server { host: host.to_owned(), ssl_mode: mode, ssl_root_cert: authorities, ..cluster.server() }
}

async fn check_login(server: Server, expected: Expected) {
    let what = format!("{:?} at {} with {:?}", server.ssl_mode, server.host, server.ssl_root_cert);
    match (connect(&server, "postgres").await, expected) {
        (Ok(connection), expected @ (Expected::Tls | Expected::Plain)) => {
            let sql = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
            let is_tls: bool = connection.query_one(sql, &[]).await.expect("ask for TLS").get(0);
            assert_eq!(is_tls, matches!(expected, Expected::Tls), "{what}");
        }
        (Err(error), Expected::Refused(words, hint)) => {
            assert!(error.to_string().contains(words), "{what}: {error}");
            assert!(error.hint().unwrap_or_default().contains(hint), "{what}: {:?}", error.hint());
            assert_ne!(error.class(), Class::Transient, "{what}");
        }
        (Ok(_), Expected::Refused(..)) => panic!("{what}: let in"),
        (Err(error), _) => panic!("{what}: {error}"),
    }
}

#[tokio::test]
async fn each_mode_checks_what_its_name_says() {
    let (authority, cluster) = good();
    let other = Authority::new();
    other.issue_self_signed("stranger", "rsa:2048 -nodes");
    let (right, wrong) = (|| Some(authority.path("ca.crt")), || Some(other.path("stranger.crt")));
    let namesake = || Some(other.path("ca.crt"));
    let unknown = || Expected::Refused("UnknownIssuer", "ssl_root_cert");
    let cases = [
        ("localhost", SslMode::Disable, None, Expected::Plain),
        ("localhost", SslMode::Prefer, wrong(), Expected::Tls),
        ("127.0.0.1", SslMode::Require, wrong(), Expected::Tls),
        ("localhost", SslMode::VerifyCa, right(), Expected::Tls),
        ("127.0.0.1", SslMode::VerifyCa, right(), Expected::Tls),
        ("localhost", SslMode::VerifyCa, wrong(), unknown()),
        ("localhost", SslMode::VerifyCa, namesake(), Expected::Refused("BadSignature", "ssl_root_cert")),
        ("localhost", SslMode::VerifyFull, right(), Expected::Tls),
        ("127.0.0.1", SslMode::VerifyFull, right(), Expected::Refused("not valid for name", "subjectAltName")),
        ("localhost", SslMode::VerifyFull, wrong(), unknown()),
        (
            "localhost",
            SslMode::VerifyFull,
            Some(authority.path("server.key")),
            Expected::Refused("no certificate", "PEM"),
        ),
        ("localhost", SslMode::VerifyFull, Some(authority.path("absent")), Expected::Refused("No such file", "PEM")),
    ];
    for (host, mode, authorities, expected) in cases {
        check_login(server(cluster, host, mode, authorities), expected).await;
    }
}

#[tokio::test]
async fn the_system_does_not_vouch_for_a_private_authority() {
    let refused = connect(&server(&good().1, "localhost", SslMode::VerifyFull, None), "postgres").await;
    // Either the system's authorities do not know the issuer, or a bare machine has no authorities at all.
    let error = refused.expect_err("nobody vouches");
    let words = error.to_string();
    assert!(words.contains("UnknownIssuer") || words.contains("ca-certificates"), "{words}");
}

#[tokio::test]
async fn a_server_without_tls_is_spoken_to_only_where_that_is_allowed() {
    let cluster = Cluster::shared();
    check_login(server(cluster, "localhost", SslMode::Prefer, None), Expected::Plain).await;
    let refused = || Expected::Refused("does not support TLS", "`ssl`");
    check_login(server(cluster, "localhost", SslMode::Require, None), refused()).await;
    let authorities = Some(good().0.path("ca.crt"));
    check_login(server(cluster, "localhost", SslMode::VerifyFull, authorities), refused()).await;
}

#[tokio::test]
async fn prefer_falls_back_to_plain_text_where_pg_hba_wants_no_tls() {
    let authority = Authority::new();
    authority.issue("server", "DNS:localhost", 30);
    let cluster = authority.start_server("server", "hostnossl all all 127.0.0.1/32 trust");
    check_login(server(&cluster, "127.0.0.1", SslMode::Prefer, None), Expected::Plain).await;
    let refused = Expected::Refused("no pg_hba.conf entry", "pg_hba.conf");
    check_login(server(&cluster, "127.0.0.1", SslMode::Require, None), refused).await;
}

#[tokio::test]
async fn a_unix_socket_needs_no_tls_in_any_mode() {
    let cluster = Cluster::shared();
    let folder = cluster.folder.display().to_string();
    check_login(server(cluster, &folder, SslMode::VerifyFull, None), Expected::Plain).await;
}

#[tokio::test]
async fn an_expired_certificate_is_refused_where_the_chain_is_checked() {
    let authority = Authority::new();
    authority.issue("old", "DNS:localhost", -1);
    let cluster = authority.start_server("old", "host all all 127.0.0.1/32 trust\nhost all all ::1/128 trust");
    let file = || Some(authority.path("ca.crt"));
    check_login(server(&cluster, "localhost", SslMode::Require, file()), Expected::Tls).await;
    for mode in [SslMode::VerifyCa, SslMode::VerifyFull] {
        check_login(server(&cluster, "localhost", mode, file()), Expected::Refused("xpired", "renew")).await;
    }
}

#[tokio::test]
async fn a_self_signed_certificate_is_trusted_if_it_is_itself_in_the_file() {
    let authority = Authority::new();
    // SHA-512 and RSA: another channel binding than the other tests have.
    authority.issue_self_signed("own", "rsa:2048 -nodes -sha512");
    let cluster =
        authority.start_server("own", "host all own 127.0.0.1/32 scram-sha-256\nhost all postgres 127.0.0.1/32 trust");
    cluster.psql("postgres", "create role own login password 'a'");
    let trusted = |host, mode| server(&cluster, host, mode, Some(authority.path("own.crt")));
    check_login(trusted("localhost", SslMode::VerifyFull), Expected::Tls).await;
    let password = Some(dbkeeper::base::secret::Secret::new("a".to_owned()));
    let own = Server { user: "own".to_owned(), password, ..trusted("127.0.0.1", SslMode::VerifyCa) };
    check_login(own, Expected::Tls).await;
    let refused = Expected::Refused("not valid for name", "verify-ca");
    check_login(trusted("127.0.0.1", SslMode::VerifyFull), refused).await;
    let stranger = Some(authority.path("ca.crt"));
    let refused = Expected::Refused("CaUsedAsEndEntity", "");
    check_login(server(&cluster, "localhost", SslMode::VerifyCa, stranger), refused).await;
}

#[tokio::test]
async fn a_version_1_certificate_serves_require_and_is_explained_where_it_is_checked() {
    let authority = Authority::new();
    authority.issue_version_1("plain");
    let cluster = authority.start_server("plain", "host all all 127.0.0.1/32 trust\nhost all all ::1/128 trust");
    check_login(server(&cluster, "localhost", SslMode::Require, None), Expected::Tls).await;
    let refused = Expected::Refused("UnsupportedCertVersion", "version 1");
    check_login(server(&cluster, "localhost", SslMode::VerifyCa, Some(authority.path("ca.crt"))), refused).await;
}
