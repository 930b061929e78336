//! The S3 client, made from options: credentials, TLS, addressing, checksums.
//!
//! Promises that the client retries nothing and corrects no clock (both are told upwards), and that a wrong option is an
//! error here and not at the first request.

use std::path::Path;
use std::time::Duration;

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::environment::region::EnvironmentVariableRegionProvider;
use aws_config::imds::region::ImdsRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::region::ProfileFileRegionProvider;
use aws_config::provider_config::ProviderConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Builder, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedCredentialsProvider, SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use url::Url;

use crate::store::Error;
use crate::store::s3::options::{Checksums, S3Options};

/// The region where none is known: S3-compatible stores mostly accept it, and AWS names the right one in its refusal.
const DEFAULT_REGION: &str = "us-east-1";

/// A client and what messages and uploads must know of it.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) client: Client,
    pub(super) region: String,
    /// True where the connection itself protects the bytes.
    pub(super) encrypted: bool,
}

/// Makes the client; asks the store nothing.
pub(super) async fn connect(options: &S3Options) -> Result<Connected, Error> {
    let encrypted = check_endpoint(options.endpoint.as_deref())?;
    let http = http_client(options.ca_file.as_deref(), encrypted).await?;
    let (credentials, region) = identify(options, &http).await?;
    let checksums = options.checksums != Checksums::Off;
    let mut builder = Builder::new()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .region(Region::new(region.clone()))
        .credentials_provider(credentials)
        .force_path_style(options.path_style)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts(options.timeouts.connect))
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .disable_clock_skew_correction(true)
        .request_checksum_calculation(match checksums {
            true => RequestChecksumCalculation::WhenSupported,
            false => RequestChecksumCalculation::WhenRequired,
        })
        .response_checksum_validation(match checksums {
            true => ResponseChecksumValidation::WhenSupported,
            false => ResponseChecksumValidation::WhenRequired,
        });
    builder.set_endpoint_url(options.endpoint.clone());
    Ok(Connected { client: Client::from_conf(builder.build()), region, encrypted })
}

/// The connection is timed here, the rest of a request by its exchange.
fn timeouts(connect: Duration) -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(connect).build()
}

/// True for an encrypted endpoint; AWS itself is one.
fn check_endpoint(endpoint: Option<&str>) -> Result<bool, Error> {
    let Some(text) = endpoint else { return Ok(true) };
    let shown = if text.contains('@') { "the endpoint".to_owned() } else { format!("endpoint {text:?}") };
    let bad = || Error::BadOptions { reason: format!("{shown} is no URL like https://s3.example.net") };
    let url = Url::parse(text).map_err(|_| bad())?;
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    match url.scheme() {
        _ if !plain || !url.has_host() => Err(bad()),
        "https" => Ok(true),
        "http" => Ok(false),
        _ => Err(bad()),
    }
}

/// The given access key, else the S3 client's own chain; the region in the same order.
async fn identify(options: &S3Options, http: &SharedHttpClient) -> Result<(SharedCredentialsProvider, String), Error> {
    match (&options.access_key_id, &options.secret_access_key) {
        (Some(id), Some(secret)) => {
            let token = options.session_token.as_ref().map(|token| token.reveal().to_owned());
            let credentials = Credentials::new(id.reveal(), secret.reveal(), token, None, "dbkeeper");
            let region = options.region.clone().unwrap_or_else(|| DEFAULT_REGION.to_owned());
            Ok((SharedCredentialsProvider::new(credentials), region))
        }
        (None, None) => {
            let provider = ProviderConfig::without_region().with_http_client(http.clone());
            let region = match &options.region {
                Some(region) => Region::new(region.clone()),
                None => environment_region(&provider, options.endpoint.is_none()).await,
            };
            let provider = provider.with_region(Some(region.clone()));
            let chain = DefaultCredentialsChain::builder().configure(provider).region(region.clone()).build().await;
            Ok((SharedCredentialsProvider::new(chain), region.to_string()))
        }
        (Some(_), None) => {
            Err(Error::BadOptions { reason: "access_key_id is given without secret_access_key".to_owned() })
        }
        (None, Some(_)) => {
            Err(Error::BadOptions { reason: "secret_access_key is given without access_key_id".to_owned() })
        }
    }
}

/// The region that the AWS environment or profile names, and on AWS itself (`in_aws`) that of the machine.
async fn environment_region(provider: &ProviderConfig, in_aws: bool) -> Region {
    let profile = ProfileFileRegionProvider::builder().configure(provider).build();
    let chain = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new()).or_else(profile);
    let chain = match in_aws {
        true => chain.or_else(ImdsRegionProvider::builder().configure(provider).build()),
        false => chain,
    };
    chain.region().await.unwrap_or(Region::from_static(DEFAULT_REGION))
}

/// HTTP over rustls on ring. The authorities are those of the file alone, or those of the system.
async fn http_client(ca_file: Option<&Path>, encrypted: bool) -> Result<SharedHttpClient, Error> {
    let trust = match ca_file {
        Some(path) => TrustStore::empty().with_pem_certificate(read_authorities(path).await?),
        // The connector panics on a system without any, but plain HTTP needs none.
        None if rustls_native_certs::load_native_certs().certs.is_empty() => {
            if encrypted {
                let reason = "this system knows no certificate authorities: install ca-certificates, or name a file in `ca_file`";
                return Err(Error::BadOptions { reason: reason.to_owned() });
            }
            TrustStore::empty()
        }
        None => TrustStore::empty().with_native_roots(true),
    };
    let bad = |error: &dyn std::fmt::Display| Error::BadOptions { reason: format!("cannot prepare TLS: {error}") };
    let context = TlsContext::builder().with_trust_store(trust).build().map_err(|error| bad(&error))?;
    let builder = aws_smithy_http_client::Builder::new().tls_provider(Provider::rustls(CryptoMode::Ring));
    Ok(builder.tls_context(context).build_https())
}

/// Reads and checks a PEM file: the connector takes it on trust and panics on a bad one.
async fn read_authorities(path: &Path) -> Result<Vec<u8>, Error> {
    let bad = |why: String| Error::BadOptions { reason: format!("ca_file {}: {why}", path.display()) };
    let pem = tokio::fs::read(path).await.map_err(|error| bad(error.to_string()))?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        roots.add(certificate).map_err(|error| bad(error.to_string()))?;
    }
    if roots.is_empty() { Err(bad("no certificate in it (PEM is expected)".to_owned())) } else { Ok(pem) }
}
