//! Signatures over roster revisions: agents and gateways believe a roster because the CA signed it, wherever it was kept.

use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

use crate::identity::parse;
use crate::{Ca, Error, crypto};

/// What the CA signs begins with this, so that no roster can pass for a certificate or the other way round.
const PURPOSE: &[u8] = b"hawser roster v1\0";

impl Ca {
    /// Signs an encoded roster.
    ///
    /// # Errors
    /// Where the system has no randomness.
    pub fn sign_roster(&self, roster: &[u8]) -> Result<Vec<u8>, Error> {
        use rcgen::SigningKey;
        self.key().sign(&message(roster)).map_err(crypto("sign the roster"))
    }
}

/// Checks that the CA with this certificate (DER) signed an encoded roster.
///
/// # Errors
/// [`Error::Signature`] where it did not.
pub fn verify(ca_certificate: &[u8], roster: &[u8], signature: &[u8]) -> Result<(), Error> {
    let certificate = parse(ca_certificate)?;
    let key = &certificate.public_key().subject_public_key.data;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key)
        .verify(&message(roster), signature)
        .map_err(|_| Error::Signature)
}

fn message(roster: &[u8]) -> Vec<u8> {
    [PURPOSE, roster].concat()
}
