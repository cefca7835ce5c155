//! The authority of a cluster set.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::time::SystemTime;

use hawser_model::ClusterId;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use ring::rand::SecureRandom;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::files::{private_dir, write_private};
use crate::identity::{Identity, Pin, Role, check_admin, check_set, key_hash, only_uri, parse};
use crate::{BROKER_NAME, Csr, Error, crypto, csr, pem, validity};

/// Life of the CA's own certificate, days.
const CA_DAYS: u32 = 3650;

/// A cluster set's certificate authority, with its key.
pub struct Ca {
    set: String,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ca").field("set", &self.set).finish_non_exhaustive()
    }
}

/// A certificate for a key that its owner holds.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate, DER.
    pub certificate: CertificateDer<'static>,
    /// When it ends.
    pub not_after: SystemTime,
    /// SHA-256 of its key, see [`crate::PeerIdentity::key_hash`].
    pub key_hash: [u8; 32],
}

/// A certificate with the key that was made for it.
pub struct IssuedWithKey {
    /// The certificate.
    pub issued: Issued,
    /// Its key (PKCS#8, DER).
    pub key: PrivatePkcs8KeyDer<'static>,
    /// The same as PEM.
    pub key_pem: Zeroizing<String>,
}

impl fmt::Debug for IssuedWithKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.issued.fmt(f)
    }
}

impl Ca {
    /// A new authority for the cluster set `set`, a DNS label.
    ///
    /// # Errors
    /// Where the name is not one, or the system has no randomness.
    pub fn create(set: &str, now: SystemTime) -> Result<Self, Error> {
        check_set(set)?;
        let key = csr::generate_key()?;
        let mut params = template(&format!("Hawser cluster set {set}"), now, CA_DAYS)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.subject_alt_names = vec![uri(&format!("spiffe://{set}"))?];
        let certificate = params.self_signed(&key).map_err(crypto("sign the CA certificate"))?;
        Ok(Self { set: set.to_owned(), certificate: certificate.der().clone(), issuer: Issuer::new(params, key) })
    }

    /// Reads `ca.crt` and `ca.key` of a directory.
    ///
    /// # Errors
    /// Where one can't be read, or they don't belong together.
    pub fn load(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("ca.crt");
        let certificate = pem::read_certificates(&path)?.swap_remove(0);
        Self::of(certificate, &pem::read_key(&dir.join("ca.key"))?, &path)
    }

    /// Reads certificate and key from the texts of `ca.crt` and `ca.key`, which `origin` holds, for errors.
    ///
    /// # Errors
    /// Where one can't be read, or they don't belong together.
    pub fn from_pem(certificate: &str, key: &str, origin: &Path) -> Result<Self, Error> {
        let certificate = pem::certificates(certificate.as_bytes(), origin)?.swap_remove(0);
        Self::of(certificate, &pem::key(key.as_bytes(), origin)?, origin)
    }

    fn of(certificate: CertificateDer<'static>, key: &PrivatePkcs8KeyDer<'static>, path: &Path) -> Result<Self, Error> {
        let key = KeyPair::try_from(key).map_err(crypto("read the CA's key"))?;
        let parsed = parse(&certificate)?;
        let wrong = |rule: &str| Error::File { path: path.to_owned(), rule: rule.to_owned() };
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(wrong("its key must be the one in ca.key"));
        }
        let set = only_uri(&parsed)?.strip_prefix("spiffe://").ok_or_else(|| wrong("it must name a cluster set"))?;
        check_set(set)?;
        let set = set.to_owned();
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(crypto("read the CA's certificate"))?;
        Ok(Self { set, certificate, issuer })
    }

    /// Writes `ca.crt` and `ca.key` (both 0600) into a directory (0700).
    ///
    /// # Errors
    /// Where one can't be written, or is there already.
    pub fn save(&self, dir: &Path) -> Result<(), Error> {
        private_dir(dir)?;
        let (certificate, key) = (dir.join("ca.crt"), dir.join("ca.key"));
        for path in [&certificate, &key] {
            if path.exists() {
                return Err(Error::File { path: path.clone(), rule: "it is there already and is not replaced".into() });
            }
        }
        write_private(&key, Zeroizing::new(self.issuer.key().serialize_pem()).as_bytes())?;
        write_private(&certificate, self.certificate_pem().as_bytes())
    }

    /// The cluster set's name.
    #[must_use]
    pub fn set(&self) -> &str {
        &self.set
    }

    /// Its certificate, DER.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its certificate, PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        pem::encode_certificates([self.certificate.as_ref()])
    }

    /// What tokens say of it.
    ///
    /// # Errors
    /// Never for a certificate that was made or loaded here.
    pub fn pin(&self) -> Result<Pin, Error> {
        Pin::of_cert(&self.certificate)
    }

    pub(crate) fn key(&self) -> &KeyPair {
        self.issuer.key()
    }

    /// A certificate for the key of a cluster's request; nothing else of the request is used.
    ///
    /// # Errors
    /// Where the request is refused, see [`Csr::parse`].
    pub fn issue_cluster(&self, csr: &[u8], id: &ClusterId, now: SystemTime, days: u32) -> Result<Issued, Error> {
        let csr = Csr::parse(csr)?;
        let params = self.client(Role::Cluster(id.clone()), now, days)?;
        self.issue(&params, &csr.key)
    }

    /// A key and certificate for an administrator, whose name is a DNS label.
    ///
    /// # Errors
    /// Where the name is not one, or the system has no randomness.
    pub fn issue_admin(&self, name: &str, now: SystemTime, days: u32) -> Result<IssuedWithKey, Error> {
        check_admin(name)?;
        self.issue_with_key(&self.client(Role::Admin(name.to_owned()), now, days)?)
    }

    /// A key and certificate for the broker, which is reached at these addresses or names (with or without a port).
    ///
    /// # Errors
    /// Where an address can't be in a certificate, or the system has no randomness.
    pub fn issue_broker(&self, addresses: &[String], now: SystemTime, days: u32) -> Result<IssuedWithKey, Error> {
        let mut params = self.leaf(Role::Broker, now, days)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names.push(dns(BROKER_NAME)?);
        for address in addresses {
            let name = match host(address).parse::<IpAddr>() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) => dns(host(address))?,
            };
            if !params.subject_alt_names.contains(&name) {
                params.subject_alt_names.push(name);
            }
        }
        self.issue_with_key(&params)
    }

    fn client(&self, role: Role, now: SystemTime, days: u32) -> Result<CertificateParams, Error> {
        let mut params = self.leaf(role, now, days)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Ok(params)
    }

    fn leaf(&self, role: Role, now: SystemTime, days: u32) -> Result<CertificateParams, Error> {
        let name = match &role {
            Role::Cluster(id) => id.to_string(),
            Role::Admin(name) => name.clone(),
            Role::Broker => BROKER_NAME.to_owned(),
        };
        let mut params = template(&name, now, days)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.subject_alt_names = vec![uri(&Identity { set: self.set.clone(), role }.to_string())?];
        Ok(params)
    }

    fn issue(&self, params: &CertificateParams, key: &impl PublicKeyData) -> Result<Issued, Error> {
        let certificate = params.signed_by(key, &self.issuer).map_err(crypto("sign a certificate"))?;
        let certificate = certificate.der().clone();
        let key_hash = key_hash(&certificate)?;
        Ok(Issued { certificate, not_after: params.not_after.into(), key_hash })
    }

    fn issue_with_key(&self, params: &CertificateParams) -> Result<IssuedWithKey, Error> {
        let key = csr::generate_key()?;
        Ok(IssuedWithKey {
            issued: self.issue(params, &key)?,
            key_pem: Zeroizing::new(key.serialize_pem()),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()),
        })
    }
}

fn template(name: &str, now: SystemTime, days: u32) -> Result<CertificateParams, Error> {
    let mut serial = [0; 16];
    ring::rand::SystemRandom::new()
        .fill(&mut serial)
        .map_err(|_| crypto("make a serial number")(rcgen::Error::RingUnspecified))?;
    serial[0] &= 0x7f; // serial numbers are positive
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = validity(now, days);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

fn uri(text: &str) -> Result<SanType, Error> {
    Ok(SanType::URI(text.to_owned().try_into().map_err(crypto("write a SPIFFE id"))?))
}

fn dns(name: &str) -> Result<SanType, Error> {
    let rule = "it must be an IP address or a DNS name, with or without a port";
    let wrong = || Error::Name { field: "broker address", value: name.to_owned(), rule };
    rustls_pki_types::DnsName::try_from(name).map_err(|_| wrong())?;
    Ok(SanType::DnsName(name.to_owned().try_into().map_err(|_| wrong())?))
}

/// The host of `host`, `host:port`, `[v6]:port` or a bare IPv6 address.
fn host(address: &str) -> &str {
    if let Some((host, _)) = address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return host;
    }
    match address.split_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => host,
        Some(_) | None => address,
    }
}
