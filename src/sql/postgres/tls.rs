//! TLS to a server, by rustls on ring: what is checked of its certificate, and the binding of the login to it.
//!
//! The modes are libpq's. Even where a certificate is not checked, the server must hold its key: otherwise channel
//! binding (SCRAM-SHA-256-PLUS), which exposes a machine in the middle, would prove nothing.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;

use crate::sql::postgres::certificate;
use crate::sql::postgres::wire::{Tap, Wire};
use crate::sql::{Server, SslMode};

/// A larger file is no list of authorities; the system's whole list has about 250 KB.
const MAX_AUTHORITIES_BYTES: u64 = 4 * 1024 * 1024;

/// The system's authorities, read once: parsing 150 certificates for each of 5,000 tenants would cost seconds.
static SYSTEM_AUTHORITIES: OnceLock<Arc<Authorities>> = OnceLock::new();

/// Makes TLS sessions for one server, as its mode wants them.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    config: Arc<ClientConfig>,
}

/// A handshake that failed, apart from all other reasons why a login can fail.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) struct HandshakeFailed(io::Error);

/// Which part of the server's certificate is checked.
#[derive(Clone, Debug)]
enum Check {
    Nothing,
    Chain(Arc<Authorities>),
    ChainAndHost(Arc<Authorities>),
}

/// Whom to trust: as anchors of a chain, and each of these certificates itself, where a server presents it.
#[derive(Debug)]
struct Authorities {
    anchors: RootCertStore,
    pinned: Vec<CertificateDer<'static>>,
}

impl Tls {
    /// The TLS of `server`; `None` where its mode or a Unix socket excludes it. The error is a reason for people.
    pub(super) async fn of(server: &Server) -> Result<Option<Self>, String> {
        if server.host.starts_with('/') {
            return Ok(None);
        }
        let check = match server.ssl_mode {
            SslMode::Disable => return Ok(None),
            SslMode::Prefer | SslMode::Require => Check::Nothing,
            SslMode::VerifyCa => Check::Chain(Authorities::of(server.ssl_root_cert.as_deref()).await?),
            SslMode::VerifyFull => Check::ChainAndHost(Authorities::of(server.ssl_root_cert.as_deref()).await?),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Arc::new(Verifier { check, provider: Arc::clone(&provider) });
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder =
            builder.map_err(|error| error.to_string())?.dangerous().with_custom_certificate_verifier(verifier);
        Ok(Some(Self { config: Arc::new(builder.with_no_client_auth()) }))
    }
}

impl Authorities {
    async fn of(file: Option<&Path>) -> Result<Arc<Self>, String> {
        match file {
            Some(path) => {
                Self::read(path).await.map(Arc::new).map_err(|reason| format!("{}: {reason}", path.display()))
            }
            None => Self::of_the_system(),
        }
    }

    async fn read(path: &Path) -> Result<Self, String> {
        let bytes = tokio::fs::metadata(path).await.map_err(|error| error.to_string())?.len();
        if MAX_AUTHORITIES_BYTES < bytes {
            return Err(format!("{bytes} bytes are too many for a list of certificates"));
        }
        let pem = tokio::fs::read(path).await.map_err(|error| error.to_string())?;
        let pinned: Vec<_> = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("it is no PEM file: {error}"))?;
        let mut anchors = RootCertStore::empty();
        for certificate in &pinned {
            anchors.add(certificate.clone()).map_err(|error| format!("a certificate in it is damaged: {error}"))?;
        }
        if anchors.is_empty() { Err("there is no certificate in it".to_owned()) } else { Ok(Self { anchors, pinned }) }
    }

    fn of_the_system() -> Result<Arc<Self>, String> {
        let read = || {
            let mut anchors = RootCertStore::empty();
            anchors.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            Arc::new(Self { anchors, pinned: Vec::new() })
        };
        let authorities = Arc::clone(SYSTEM_AUTHORITIES.get_or_init(read));
        let none = "this machine has none (package ca-certificates), and no file of them is configured";
        if authorities.anchors.is_empty() { Err(none.to_owned()) } else { Ok(authorities) }
    }
}

#[derive(Debug)]
struct Verifier {
    check: Check,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let (authorities, with_host) = match &self.check {
            Check::Nothing => return Ok(ServerCertVerified::assertion()),
            Check::Chain(authorities) => (authorities, false),
            Check::ChainAndHost(authorities) => (authorities, true),
        };
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        let anchors = &authorities.anchors;
        let chain = verify_server_cert_signed_by_trust_anchor(&parsed, anchors, intermediates, now, algorithms);
        match chain {
            // A self-signed certificate that is itself in the file: the usual set-up without an authority.
            Err(error) if is_authority(&error) && authorities.pinned.iter().any(|pinned| pinned == end_entity) => {}
            other => other?,
        }
        if with_host {
            verify_server_name(&parsed, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        match self.check {
            Check::Nothing => certificate::verify_signature(message, cert, dss, algorithms),
            Check::Chain(_) | Check::ChainAndHost(_) => verify_tls12_signature(message, cert, dss, algorithms),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        match self.check {
            Check::Nothing => certificate::verify_signature(message, cert, dss, algorithms),
            Check::Chain(_) | Check::ChainAndHost(_) => verify_tls13_signature(message, cert, dss, algorithms),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// True where a chain is refused only because the server's certificate may itself sign others. The library checks dates
/// first, and has no name of its own for this in its public errors.
fn is_authority(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    format!("{other:?}").contains("CaUsedAsEndEntity")
}

/// What to do about a certificate that was refused, or about a server without TLS.
pub(super) fn hint(error: &tokio_postgres::Error) -> Option<String> {
    let cause = std::error::Error::source(error)?;
    if cause.to_string() == "server does not support TLS" {
        return Some(
            "switch `ssl` on in postgresql.conf, or set sslmode to disable if the network is trusted".to_owned(),
        );
    }
    let handshake = cause.downcast_ref::<HandshakeFailed>()?;
    let rustls::Error::InvalidCertificate(wrong) = handshake.0.get_ref()?.downcast_ref()? else { return None };
    let hint = match wrong {
        // A bad signature: another authority of the same name, such as one that was made anew.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "set ssl_root_cert to a PEM file with the certificate of the authority that signed the server's"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "connect by a name in the certificate (subjectAltName; the common name does not count), or use verify-ca"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "renew the server's certificate",
        CertificateError::Other(other) if format!("{other:?}").contains("UnsupportedCertVersion") => {
            "the server's certificate is of X.509 version 1: issue it with a subjectAltName, which makes it version 3"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

impl Tls {
    /// One handshake to come with `host`; the rows of the session then come through `tap`.
    pub(super) fn handshake(&self, host: &str, tap: &Tap) -> Result<Handshake, rustls::pki_types::InvalidDnsNameError> {
        let name = ServerName::try_from(host)?.to_owned();
        Ok(Handshake { name, connector: Arc::clone(&self.config).into(), tap: Arc::clone(tap) })
    }
}

/// One handshake to come.
pub(super) struct Handshake {
    name: ServerName<'static>,
    connector: TlsConnector,
    tap: Tap,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<Wire<S>> for Handshake {
    type Stream = Bound<Wire<tokio_rustls::client::TlsStream<Wire<S>>>>;
    type Error = HandshakeFailed;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Stream, HandshakeFailed>> + Send>>;

    fn connect(self, stream: Wire<S>) -> Self::Future {
        Box::pin(async move {
            stream.make_opaque();
            let stream = self.connector.connect(self.name, stream).await.map_err(HandshakeFailed)?;
            let presented = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let end_point = presented.and_then(|certificate| certificate::end_point_hash(certificate));
            Ok(Bound { stream: Wire::new(stream, &self.tap), end_point })
        })
    }
}

/// A stream together with what identifies its far end to the login.
pub(super) struct Bound<T> {
    pub(super) stream: T,
    /// `tls-server-end-point` of RFC 5929, where there is one.
    pub(super) end_point: Option<Vec<u8>>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> TlsStream for Bound<T> {
    fn channel_binding(&self) -> ChannelBinding {
        self.end_point.clone().map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Bound<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Bound<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
