//! A machine in the middle: it ends our TLS with a certificate of its own and passes everything on.

use std::sync::Arc;

use dbkeeper::base::secret::Secret;
use dbkeeper::sql::postgres::connect;
use dbkeeper::sql::{Server, SslMode};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::authority::Authority;

/// Answers the request for TLS with the certificate `middle`, and speaks TLS to the real server behind.
async fn intercept(mut client: TcpStream, authority: Arc<Authority>, upstream: u16) -> std::io::Result<()> {
    let certificate = CertificateDer::from_pem_file(authority.path("middle.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(authority.path("middle.key")).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = config.with_single_cert(vec![certificate], key).unwrap();
    let mut request = [0; 8];
    client.read_exact(&mut request).await?;
    client.write_all(b"S").await?;
    let mut client = tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(client).await?;

    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.path("ca.crt")).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config.with_no_client_auth()));
    let mut server = TcpStream::connect(("127.0.0.1", upstream)).await?;
    server.write_all(&request).await?;
    server.read_exact(&mut request[..1]).await?;
    let mut server = connector.connect(ServerName::try_from("127.0.0.1").unwrap(), server).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

#[tokio::test]
async fn channel_binding_exposes_a_machine_in_the_middle_even_where_no_certificate_is_checked() {
    let authority = Arc::new(Authority::new());
    authority.issue("server", "IP:127.0.0.1", 30);
    authority.issue("middle", "IP:127.0.0.1", 30);
    let cluster =
        authority.start_server("server", "host all plus 127.0.0.1/32 scram-sha-256\nhost all old 127.0.0.1/32 md5");
    let roles =
        "create role plus login password 'p'; set password_encryption = md5; create role old login password 'p'";
    cluster.psql("postgres", roles);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (upstream, shared) = (cluster.port, Arc::clone(&authority));
    let proxy = tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(intercept(client, Arc::clone(&shared), upstream));
        }
    });
    let login = |user: &str, port| Server {
        user: user.to_owned(),
        password: Some(Secret::new("p".to_owned())),
        port,
        ssl_mode: SslMode::Require,
        ..cluster.server()
    };
    connect(&login("plus", upstream), "postgres").await.expect("the server itself");
    // MD5 knows no binding: the proxy works.
    connect(&login("old", port), "postgres").await.expect("through the proxy");
    let error = connect(&login("plus", port), "postgres").await.expect_err("the binding names another certificate");
    assert!(error.to_string().contains("SCRAM channel binding check failed"), "{error}");
    proxy.abort();
}
