//! Certificate requests (PKCS#10). The requester proves that it holds the key; every name is the issuer's to give.

use std::fmt;

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256,
    PublicKeyData, SubjectPublicKeyInfo,
};
use rustls_pki_types::CertificateSigningRequestDer;
use sha2::{Digest, Sha256};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use crate::{Error, crypto};

/// Ours have about 250 bytes.
const MAX_BYTES: usize = 4096;

/// A request whose signature was checked.
pub struct Csr {
    pub(crate) key: SubjectPublicKeyInfo,
}

impl fmt::Debug for Csr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Csr(key {:02x?})", &self.key_hash()[..4])
    }
}

impl Csr {
    /// Reads a request, DER.
    ///
    /// # Errors
    /// Where it is too long, unreadable, not signed by its own key, or for another kind of key than ECDSA P-256.
    pub fn parse(der: &[u8]) -> Result<Self, Error> {
        let refused = |rule| Error::Csr { rule };
        if der.len() > MAX_BYTES {
            return Err(refused("it must not exceed 4096 bytes"));
        }
        let ([], request) =
            X509CertificationRequest::from_der(der).map_err(|_| refused("it must be PKCS#10, DER-encoded"))?
        else {
            return Err(refused("there are bytes behind it"));
        };
        CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der))
            .map_err(|_| refused("it must be signed by its own key and ask for no unknown extension"))?;
        let key = SubjectPublicKeyInfo::from_der(request.certification_request_info.subject_pki.raw)
            .map_err(|_| refused("its key must be ECDSA P-256"))?;
        if key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(refused("its key must be ECDSA P-256"));
        }
        Ok(Self { key })
    }

    /// SHA-256 of the key (SubjectPublicKeyInfo, DER): equal to [`crate::PeerIdentity::key_hash`] of its certificates.
    #[must_use]
    pub fn key_hash(&self) -> [u8; 32] {
        Sha256::digest(self.key.subject_public_key_info()).into()
    }
}

/// A new ECDSA P-256 key.
///
/// # Errors
/// Where the system has no randomness.
pub fn generate_key() -> Result<KeyPair, Error> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(crypto("make a key"))
}

/// A request for `key`, DER.
///
/// # Errors
/// Where the key refuses to sign.
pub fn request(key: &KeyPair) -> Result<Vec<u8>, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "hawser");
    let request = params.serialize_request(key).map_err(crypto("sign the certificate request"))?;
    Ok(request.der().to_vec())
}
