//! Why there was no answer: names, connections, TLS, credentials.
//!
//! Promises that what may pass is `Transient` (a refused connection, too: a store that restarts refuses for a moment) and
//! that what a person must change is not. The S3 client's errors are nested and partly without types, so some are known by
//! their words.

use std::error::Error as StdError;
use std::io::{self, ErrorKind};

use rustls::CertificateError;

use crate::base::class::Class;
use crate::store::s3::explain::Site;
use crate::store::s3::refusal::Verdict;

/// What an error without an answer means.
pub(super) fn judge(site: &Site, error: &(dyn StdError + 'static)) -> Verdict {
    let service = site.service();
    let chain = chain(error);
    if let Some(tls) = chain.iter().find_map(|cause| cause.downcast_ref::<rustls::Error>()) {
        return judge_tls(&service, tls);
    }
    let words = words(error);
    if words.contains("no providers in chain provided credentials") {
        return Verdict::new(Class::Store, "no credentials were found").with_hint(
            "set access_key_id and secret_access_key in [repository], or give this process a role or profile",
        );
    }
    if words.contains("dns error") {
        let class = if words.contains("emporary failure") { Class::Transient } else { Class::Store };
        return Verdict::new(class, format!("the name of {service} cannot be resolved: {}", innermost(&chain)))
            .with_hint("check endpoint and region in [repository], and the name service of this machine");
    }
    let kind = chain.iter().find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    let reason = match kind {
        Some(ErrorKind::ConnectionRefused) => format!("{service} refuses connections"),
        Some(ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable) => format!("there is no way to {service}"),
        _ if words.contains("timeout") || words.contains("timed out") => format!("no connection to {service} in time"),
        _ => {
            return Verdict::new(Class::Transient, format!("the connection to {service} broke: {}", innermost(&chain)));
        }
    };
    Verdict::new(Class::Transient, reason)
        .with_hint("check endpoint in [repository], that the store is up, and that its port is open from here")
}

fn judge_tls(service: &str, error: &rustls::Error) -> Verdict {
    let (reason, hint) = match error {
        rustls::Error::InvalidCertificate(problem) => match problem {
            CertificateError::UnknownIssuer => (
                format!("the certificate of {service} is signed by an unknown authority"),
                "name the PEM file of its authority: ca_file = \"/path/to/ca.pem\" in [repository]",
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                (format!("the certificate of {service} has expired"), "renew it, or set the clock of this machine")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                (format!("the certificate of {service} is not valid yet"), "set the clock of this machine")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
                format!("the certificate of {service} is for another name: {problem}"),
                "write the endpoint in [repository] with the name in the certificate",
            ),
            _ => (format!("the certificate of {service} is not usable: {problem}"), "replace the certificate"),
        },
        rustls::Error::InvalidMessage(_) => (
            format!("{service} does not speak TLS"),
            "write the endpoint in [repository] with http://, if the network is trusted",
        ),
        _ => {
            let reason = format!("TLS with {service} failed: {error}");
            return Verdict::new(Class::Transient, reason);
        }
    };
    Verdict::new(Class::Store, reason).with_hint(hint)
}

/// An error and its causes, outermost first; also what an `io::Error` carries, which `source` passes over.
fn chain<'a>(error: &'a (dyn StdError + 'static)) -> Vec<&'a (dyn StdError + 'static)> {
    let mut causes = vec![error];
    let mut next = Some(error);
    while let Some(cause) = next {
        let carried = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = carried.map(|inner| inner as &(dyn StdError + 'static)).or_else(|| cause.source());
        causes.extend(next);
    }
    causes
}

fn innermost(chain: &[&(dyn StdError + 'static)]) -> String {
    chain.last().map(ToString::to_string).unwrap_or_default()
}

/// All causes in one line, none twice.
pub(super) fn words(error: &(dyn StdError + 'static)) -> String {
    let mut words: Vec<String> = Vec::new();
    for cause in chain(error) {
        let text = cause.to_string();
        if words.last() != Some(&text) {
            words.push(text);
        }
    }
    words.join(": ")
}
