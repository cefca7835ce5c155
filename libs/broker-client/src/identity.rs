//! A member's identity on disk: `<site>/secrets`, 0700, files 0600.
//!
//! | file | holds |
//! |---|---|
//! | `broker.json` | set, cluster id, generation, brokers, namespaces: written last and removed first, so that it says "joined" |
//! | `cluster.key`, `cluster.crt`, `ca.crt` | key (PKCS#8), certificate chain, the CA's certificate, as PEM |
//! | `join.key` | the key of a join that has no answer yet: trying again asks for the same key |
//! | `probe.key` | base64 of 32 bytes: this cluster's nodes' own, kept when it leaves |

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hawser_broker_pki::{Error as PkiError, csr, files, identity, pem};
use hawser_model::ClusterId;
use ring::rand::SecureRandom;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::Error;

/// What a member knows of its membership besides key and certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberInfo {
    /// The cluster set.
    pub cluster_set: String,
    /// This cluster.
    pub cluster_id: ClusterId,
    /// Which membership of that id.
    pub generation: u64,
    /// `host:port` of the brokers.
    pub brokers: Vec<String>,
    /// Namespaces it may export from; empty: the default rule.
    #[serde(default)]
    pub namespaces: Vec<String>,
}

/// A member's key, certificate and set-up.
#[derive(Clone)]
pub struct MemberIdentity {
    /// Set, id, generation, brokers.
    pub info: MemberInfo,
    /// The CA's certificate, DER.
    pub ca: CertificateDer<'static>,
    /// The member's certificate first, DER.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key, PKCS#8.
    pub key: Arc<PrivatePkcs8KeyDer<'static>>,
}

impl PartialEq for MemberIdentity {
    fn eq(&self, other: &Self) -> bool {
        self.info == other.info && self.ca == other.ca && self.chain == other.chain
    }
}

impl fmt::Debug for MemberIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemberIdentity").field("info", &self.info).finish_non_exhaustive()
    }
}

impl MemberIdentity {
    /// When its certificate ends.
    ///
    /// # Errors
    /// Where the certificate can't be read.
    pub fn not_after(&self) -> Result<SystemTime, Error> {
        Ok(identity::not_after(self.leaf()?)?)
    }

    /// When it should be renewed: at two thirds of its life.
    ///
    /// # Errors
    /// Where the certificate can't be read.
    pub fn renew_at(&self) -> Result<SystemTime, Error> {
        let (start, end) = (identity::not_before(self.leaf()?)?, self.not_after()?);
        Ok(start + end.duration_since(start).unwrap_or(Duration::ZERO) * 2 / 3)
    }

    fn leaf(&self) -> Result<&CertificateDer<'static>, Error> {
        self.chain.first().ok_or_else(|| Error::Answer { rule: "it holds a certificate".into() })
    }
}

/// The folder of a site's secrets.
#[derive(Debug, Clone)]
pub struct IdentityDir {
    path: PathBuf,
}

impl IdentityDir {
    /// The folder of a site: `<site>/secrets`.
    #[must_use]
    pub fn of_site(site: &Path) -> Self {
        Self { path: site.join("secrets") }
    }

    /// Any folder of this layout.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The identity; none where this site is no member.
    ///
    /// # Errors
    /// Names the file that is missing, unreadable or wrong.
    pub fn load(&self) -> Result<Option<MemberIdentity>, Error> {
        let Some(info) = self.info()? else { return Ok(None) };
        let ca = pem::read_certificates(&self.file("ca.crt"))?.swap_remove(0);
        let chain = pem::read_certificates(&self.file("cluster.crt"))?;
        let key = Arc::new(pem::read_key(&self.file("cluster.key"))?);
        Ok(Some(MemberIdentity { info, ca, chain, key }))
    }

    /// What `broker.json` says; none where this site is no member.
    ///
    /// # Errors
    /// Where it can't be read.
    pub fn info(&self) -> Result<Option<MemberInfo>, Error> {
        read_json(&self.file("broker.json"))
    }

    /// Writes a new identity in place of any other.
    ///
    /// # Errors
    /// Names the file that can't be written; the site is then no member.
    pub fn store(&self, identity: &MemberIdentity) -> Result<(), Error> {
        files::private_dir(&self.path)?;
        files::remove(&self.file("broker.json"))?;
        let key = Zeroizing::new(pem::encode_key(&identity.key));
        files::write_private(&self.file("ca.crt"), pem::encode_certificates([identity.ca.as_ref()]).as_bytes())?;
        files::write_private(&self.file("cluster.key"), key.as_bytes())?;
        self.store_chain(identity)?;
        let info = serde_json::to_vec_pretty(&identity.info).expect("strings and numbers serialise");
        files::write_private(&self.file("broker.json"), &info)?;
        Ok(files::remove(&self.file("join.key"))?)
    }

    /// Writes a renewed certificate.
    ///
    /// # Errors
    /// Where it can't be written; the old one is then still there.
    pub fn store_chain(&self, identity: &MemberIdentity) -> Result<(), Error> {
        let chain = pem::encode_certificates(identity.chain.iter().map(AsRef::as_ref));
        Ok(files::write_private(&self.file("cluster.crt"), chain.as_bytes())?)
    }

    /// Takes the identity away; the nodes' own `probe.key` stays.
    ///
    /// # Errors
    /// Names the file that can't be removed.
    pub fn remove(&self) -> Result<(), Error> {
        for name in ["broker.json", "cluster.crt", "cluster.key", "ca.crt", "join.key", "roster"] {
            files::remove(&self.file(name))?;
        }
        Ok(())
    }

    /// The key to join with: the one of an attempt that got no answer, or a new one.
    ///
    /// # Errors
    /// Where it can't be read or written.
    pub fn join_key(&self) -> Result<Arc<PrivatePkcs8KeyDer<'static>>, Error> {
        let path = self.file("join.key");
        if path.exists() {
            return Ok(Arc::new(pem::read_key(&path)?));
        }
        files::private_dir(&self.path)?;
        let key = PrivatePkcs8KeyDer::from(csr::generate_key()?.serialize_der());
        files::write_private(&path, Zeroizing::new(pem::encode_key(&key)).as_bytes())?;
        Ok(Arc::new(key))
    }

    /// Forgets the key of a join that was refused for it.
    ///
    /// # Errors
    /// Where it can't be removed.
    pub fn discard_join_key(&self) -> Result<(), Error> {
        Ok(files::remove(&self.file("join.key"))?)
    }

    /// Makes `probe.key` where there is none.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn ensure_probe_key(&self) -> Result<(), Error> {
        let path = self.file("probe.key");
        if path.exists() {
            return Ok(());
        }
        files::private_dir(&self.path)?;
        let mut key = Zeroizing::new([0; 32]);
        ring::rand::SystemRandom::new()
            .fill(key.as_mut())
            .map_err(|_| Error::File { path: path.clone(), rule: "the system has no randomness".into() })?;
        let text = Zeroizing::new(format!("{}\n", STANDARD.encode(key.as_ref())));
        Ok(files::write_private(&path, text.as_bytes())?)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// A JSON file; none where there is no such file.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    match files::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| Error::File { path: path.to_owned(), rule: format!("it is not valid: {e}") }),
        Err(PkiError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}
