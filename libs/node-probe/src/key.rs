//! The key that all nodes of a cluster share for their probes.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use zeroize::Zeroizing;

/// Text that is not a probe key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the probe key must be 32 bytes in base64 on one line; make one with `head -c 32 /dev/urandom | base64`")]
pub struct InvalidKey;

/// The shared key.
#[derive(Clone)]
pub struct ProbeKey(hmac::Key);

impl ProbeKey {
    /// A key of these bytes.
    #[must_use]
    pub fn new(bytes: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// Reads what the file `probe.key` holds: base64 of 32 bytes, space around it ignored.
    ///
    /// # Errors
    /// Where it is anything else; the text is not repeated.
    pub fn from_text(text: &str) -> Result<Self, InvalidKey> {
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| InvalidKey)?);
        let bytes: &[u8; 32] = bytes.as_slice().try_into().map_err(|_| InvalidKey)?;
        Ok(Self::new(bytes))
    }

    pub(crate) fn sign(&self, data: &[u8]) -> hmac::Tag {
        hmac::sign(&self.0, data)
    }

    pub(crate) fn verify(&self, data: &[u8], tag: &[u8]) -> bool {
        hmac::verify(&self.0, data, tag).is_ok()
    }
}

impl fmt::Debug for ProbeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProbeKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_32_bytes_of_base64_are_a_key() {
        let good = STANDARD.encode([7_u8; 32]);
        assert!(ProbeKey::from_text(&format!("{good}\n")).is_ok());
        for bad in ["", "####", &STANDARD.encode([7_u8; 31]), &STANDARD.encode([7_u8; 33])] {
            assert_eq!(ProbeKey::from_text(bad).err(), Some(InvalidKey), "{bad:?}");
        }
        assert!(!format!("{:?}", ProbeKey::new(&[7; 32])).contains('7'));
    }
}
