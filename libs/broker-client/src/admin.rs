//! An administrator's identity on disk, as `hawser broker init` makes it: `admin.key`, `admin.crt`, `ca.crt`,
//! `broker.json`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hawser_broker_pki::{Identity, Pin, Role, pem};
use hawser_proto::v1::admin_client::AdminClient;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use tonic::transport::Channel;

use crate::address::{BrokerAddress, parse_all};
use crate::identity::read_json;
use crate::{Error, dial, tls};

/// The folder of an administrator's identity.
#[derive(Debug, Clone)]
pub struct AdminDir {
    path: PathBuf,
}

/// What an administrator knows of the broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AdminInfo {
    /// The cluster set.
    pub cluster_set: String,
    /// `host:port` of the brokers.
    pub brokers: Vec<String>,
}

/// An administrator's key, certificate and set-up.
#[derive(Clone)]
pub struct AdminIdentity {
    /// The cluster set.
    pub cluster_set: String,
    /// The administrator's name.
    pub name: String,
    /// Where the broker may be reached.
    pub brokers: Vec<BrokerAddress>,
    /// The CA's certificate, DER.
    pub ca: CertificateDer<'static>,
    /// The certificate first, DER.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key, PKCS#8.
    pub key: Arc<PrivatePkcs8KeyDer<'static>>,
}

impl fmt::Debug for AdminIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminIdentity")
            .field("cluster_set", &self.cluster_set)
            .field("name", &self.name)
            .field("brokers", &self.brokers)
            .finish_non_exhaustive()
    }
}

impl AdminDir {
    /// The identity in a folder.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it.
    ///
    /// # Errors
    /// Names the file that is missing, unreadable or wrong.
    pub fn load(&self) -> Result<AdminIdentity, Error> {
        let path = self.path.join("broker.json");
        let info: AdminInfo = read_json(&path)?.ok_or_else(|| Error::File {
            path,
            rule: "there is no administrator's identity here; `hawser broker init` makes one in DIR/admin".into(),
        })?;
        let ca = pem::read_certificates(&self.path.join("ca.crt"))?.swap_remove(0);
        let path = self.path.join("admin.crt");
        let chain = pem::read_certificates(&path)?;
        let Role::Admin(name) = Identity::from_cert(&chain[0])?.role else {
            return Err(Error::File { path, rule: "it must be an administrator's certificate".into() });
        };
        let key = Arc::new(pem::read_key(&self.path.join("admin.key"))?);
        Ok(AdminIdentity { cluster_set: info.cluster_set, name, brokers: parse_all(&info.brokers)?, ca, chain, key })
    }
}

impl AdminIdentity {
    /// What tokens say of the CA.
    ///
    /// # Errors
    /// Where its certificate can't be read.
    pub fn ca_pin(&self) -> Result<Pin, Error> {
        Ok(Pin::of_cert(&self.ca)?)
    }

    /// Connects to a broker.
    ///
    /// # Errors
    /// [`Error::Unreachable`] with what happened at each address.
    pub async fn connect(&self) -> Result<AdminClient<Channel>, Error> {
        let tls = tls::mutual(&self.ca, self.chain.clone(), &self.key)?;
        let channel = dial::channel(self.brokers.clone(), tls).await?;
        Ok(AdminClient::new(channel).max_decoding_message_size(hawser_proto::MAX_MESSAGE))
    }
}
