//! The broker's side of TLS 1.3.
//!
//! A client shows no certificate (it may then only join), or one of the cluster set's CA. One that has ended is let
//! through the handshake, because renewing it is for the broker to decide: ask [`crate::PeerIdentity::expired`].

use std::fmt;
use std::sync::{Arc, RwLock};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use crate::identity::{Identity, PeerIdentity, not_after};
use crate::{Error, IssuedWithKey};

/// The broker's certificate, replaced while connections are served; new handshakes get the latest.
pub struct ServerCertificate {
    current: RwLock<Arc<CertifiedKey>>,
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerCertificate")
    }
}

impl ServerCertificate {
    /// Shows `issued` and the CA's certificate behind it: who joins knows the CA by its pin only.
    ///
    /// # Errors
    /// Where the key can't be used.
    pub fn new(issued: &IssuedWithKey, ca: &CertificateDer<'static>) -> Result<Arc<Self>, Error> {
        Ok(Arc::new(Self { current: RwLock::new(Arc::new(certified(issued, ca)?)) }))
    }

    /// Shows another certificate from now on.
    ///
    /// # Errors
    /// Where the key can't be used; the old one stays.
    pub fn replace(&self, issued: &IssuedWithKey, ca: &CertificateDer<'static>) -> Result<(), Error> {
        let new = Arc::new(certified(issued, ca)?);
        *self.current.write().unwrap_or_else(std::sync::PoisonError::into_inner) = new;
        Ok(())
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(std::sync::PoisonError::into_inner)))
    }
}

fn certified(issued: &IssuedWithKey, ca: &CertificateDer<'static>) -> Result<CertifiedKey, Error> {
    let key = PrivateKeyDer::Pkcs8(issued.key.clone_key());
    let key = provider().key_provider.load_private_key(key)?;
    Ok(CertifiedKey::new(vec![issued.issued.certificate.clone(), ca.clone()], key))
}

/// TLS for the broker's port: TLS 1.3, HTTP/2, client certificates of `ca` (DER) where shown.
///
/// # Errors
/// Where `ca` is no CA certificate.
pub fn server_config(ca: &CertificateDer<'static>, certificate: Arc<ServerCertificate>) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(ClientVerifier::new(ca)?))
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would skip the client's certificate.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// The one crypto provider.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Verifies what [`server_config`] lets in.
#[derive(Debug)]
struct ClientVerifier {
    inner: Arc<dyn ClientCertVerifier>,
}

impl ClientVerifier {
    fn new(ca: &CertificateDer<'static>) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone())?;
        let inner = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .allow_unauthenticated()
            .build()
            .map_err(|e| Error::Certificate { rule: e.to_string() })?;
        Ok(Self { inner })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        use rustls::Error::InvalidCertificate;
        let verified = match self.inner.verify_client_cert(end_entity, intermediates, now) {
            Err(InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => {
                // All but the end must hold: the same check at the last second of its life.
                let end = not_after(end_entity).map_err(|_| InvalidCertificate(CertificateError::BadEncoding))?;
                let end = end.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
                self.inner.verify_client_cert(end_entity, intermediates, UnixTime::since_unix_epoch(end))
            }
            other => other,
        }?;
        Identity::from_cert(end_entity).map_err(|_| InvalidCertificate(CertificateError::InvalidPurpose))?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Who is at the other end of a finished handshake; none where the client showed no certificate.
///
/// # Errors
/// Where the certificate is not ours.
pub fn peer(connection: &rustls::ServerConnection, now: std::time::SystemTime) -> Result<Option<PeerIdentity>, Error> {
    match connection.peer_certificates().and_then(|chain| chain.first()) {
        Some(certificate) => PeerIdentity::from_der(certificate, now).map(Some),
        None => Ok(None),
    }
}
