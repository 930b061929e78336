//! The few facts of an X.509 certificate that rustls does not hand out: its signature algorithm and its key.
//!
//! Reads just enough DER (ITU-T X.690) to find them, also in version 1 certificates, which webpki refuses to parse and
//! the PostgreSQL manual's own recipe makes. Pure; whom to trust is decided elsewhere.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::{CertificateError, DigitallySignedStruct, PeerMisbehaved};
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;
const OBJECT_IDENTIFIER: u8 = 0x06;
/// The context tag of the optional version field.
const VERSION: u8 = 0xa0;

/// sha1WithRSAEncryption and its family, 1.2.840.113549.1.1, without the last number (RFC 8017, appendix C).
const RSA_FAMILY: [u8; 8] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
/// ecdsa-with-SHA1, 1.2.840.10045.4.1 (RFC 3279, 2.2.3).
const ECDSA_SHA1: [u8; 7] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];
/// ecdsa-with-SHA2, 1.2.840.10045.4.3, without the last number (RFC 5758, 3.2).
const ECDSA_FAMILY: [u8; 7] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];

/// `tls-server-end-point` of RFC 5929, 4.1: the hash of the certificate by the hash of its own signature, SHA-256 in
/// place of MD5 and SHA-1. `None` where the signature has no single hash (Ed25519, RSA-PSS): PostgreSQL has none either.
pub(super) fn end_point_hash(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, rest) = element(element(certificate, SEQUENCE)?.0, SEQUENCE)?;
    let (oid, _) = element(element(rest, SEQUENCE)?.0, OBJECT_IDENTIFIER)?;
    let (last, family) = oid.split_last()?;
    let bits = match last {
        4 | 5 if family == RSA_FAMILY => 256,
        14 if family == RSA_FAMILY => 224,
        11 if family == RSA_FAMILY => 256,
        12 if family == RSA_FAMILY => 384,
        13 if family == RSA_FAMILY => 512,
        _ if oid == ECDSA_SHA1 => 256,
        1 if family == ECDSA_FAMILY => 224,
        2 if family == ECDSA_FAMILY => 256,
        3 if family == ECDSA_FAMILY => 384,
        4 if family == ECDSA_FAMILY => 512,
        _ => return None,
    };
    Some(match bits {
        224 => Sha224::digest(certificate).to_vec(),
        256 => Sha256::digest(certificate).to_vec(),
        384 => Sha384::digest(certificate).to_vec(),
        _ => Sha512::digest(certificate).to_vec(),
    })
}

/// Proves that the peer holds the key of `certificate`, whoever issued that.
pub(super) fn verify_signature(
    message: &[u8],
    certificate: &[u8],
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let (algorithm_id, key) = public_key(certificate).ok_or(CertificateError::BadEncoding)?;
    let offered = algorithms.mapping.iter().find(|(scheme, _)| *scheme == signed.scheme);
    let (_, candidates) = offered.ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
    let fitting = candidates.iter().filter(|candidate| candidate.public_key_alg_id().as_ref() == algorithm_id);
    let mut verdicts = fitting.map(|candidate| candidate.verify_signature(key, message, signed.signature()));
    if verdicts.any(|verdict| verdict.is_ok()) {
        Ok(HandshakeSignatureValid::assertion())
    } else {
        Err(CertificateError::BadSignature.into())
    }
}

/// The content of `AlgorithmIdentifier`, and the key's bits (RFC 5280, 4.1).
fn public_key(certificate: &[u8]) -> Option<(&[u8], &[u8])> {
    let (to_be_signed, _) = element(element(certificate, SEQUENCE)?.0, SEQUENCE)?;
    let mut rest = to_be_signed;
    if rest.first() == Some(&VERSION) {
        rest = any_element(rest)?.2;
    }
    // Serial number, signature algorithm, issuer, validity, subject.
    for _ in 0..5 {
        rest = any_element(rest)?.2;
    }
    let (algorithm_id, rest) = element(element(rest, SEQUENCE)?.0, SEQUENCE)?;
    let (bits, _) = element(rest, BIT_STRING)?;
    let (unused_bits, key) = bits.split_first()?;
    (*unused_bits == 0).then_some((algorithm_id, key))
}

/// The content of the first element, which must have this tag, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = any_element(bytes)?;
    (found == tag).then_some((content, rest))
}

/// Tag, content and what follows (X.690, 8.1; long forms of a length up to four bytes).
fn any_element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first & 0x7f);
    if first & 0x80 != 0 {
        let (digits, after) = rest.split_at_checked(length).filter(|(digits, _)| (1..=4).contains(&digits.len()))?;
        length = digits.iter().fold(0, |sum, &digit| (sum << 8) | usize::from(digit));
        rest = after;
    }
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_no_certificate_and_no_panic() {
        for garbage in
            [&[][..], &[0x30], &[0x30, 0x80], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0x30], &[0x30, 2, 0x30, 0]]
        {
            assert_eq!(end_point_hash(garbage), None);
            assert_eq!(public_key(garbage), None);
        }
    }
}
