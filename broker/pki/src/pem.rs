//! PEM (RFC 7468), both ways.

use std::fmt::Write;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::Error;
use crate::files::read;

/// Certificates as PEM, in the given order.
#[must_use]
pub fn encode_certificates<'a>(chain: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut text = String::new();
    for der in chain {
        encode("CERTIFICATE", der, &mut text);
    }
    text
}

/// A private key (PKCS#8) as PEM.
#[must_use]
pub fn encode_key(key: &PrivatePkcs8KeyDer<'_>) -> String {
    let mut text = String::new();
    encode("PRIVATE KEY", key.secret_pkcs8_der(), &mut text);
    text
}

fn encode(label: &str, der: &[u8], text: &mut String) {
    let body = STANDARD.encode(der);
    // Writing to a String can't fail.
    let _ = writeln!(text, "-----BEGIN {label}-----");
    for line in body.as_bytes().chunks(64) {
        text.extend(line.iter().map(|b| char::from(*b)));
        text.push('\n');
    }
    let _ = writeln!(text, "-----END {label}-----");
}

/// The certificates of a PEM file, at least one.
///
/// # Errors
/// Where the file can't be read or holds no certificate.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    certificates(&read(path)?, path)
}

pub(crate) fn certificates(pem: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) | Err(_) => Err(Error::File { path: path.to_owned(), rule: "it must hold PEM certificates".into() }),
    }
}

/// The private key of a PEM file (PKCS#8).
///
/// # Errors
/// Where the file can't be read or holds no such key.
pub fn read_key(path: &Path) -> Result<PrivatePkcs8KeyDer<'static>, Error> {
    key(&read(path)?, path)
}

pub(crate) fn key(pem: &[u8], path: &Path) -> Result<PrivatePkcs8KeyDer<'static>, Error> {
    PrivatePkcs8KeyDer::from_pem_slice(pem)
        .map_err(|_| Error::File { path: path.to_owned(), rule: "it must hold a PKCS#8 private key as PEM".into() })
}
