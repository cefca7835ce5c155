//! What a cluster asks of the broker outside its stream: join, renew, leave. Answers are checked before they are kept.

use std::sync::Arc;

use hawser_broker_pki::{Csr, Identity, Pin, Role, csr, identity, roster};
use hawser_proto::Roster;
use hawser_proto::v1::broker_client::BrokerClient;
use hawser_proto::v1::{Credentials, JoinRequest, LeaveRequest, RenewRequest, SignedRoster};
use rcgen::KeyPair;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tonic::transport::Channel;

use crate::identity::{MemberIdentity, MemberInfo};
use crate::token::JoinToken;
use crate::{Error, address, dial, tls};

/// What joining takes.
#[derive(Debug)]
pub struct Join<'a> {
    /// From the broker's administrator.
    pub token: &'a JoinToken,
    /// The new member's key, see [`crate::IdentityDir::join_key`].
    pub key: Arc<PrivatePkcs8KeyDer<'static>>,
    /// Whether to take over an id that is a member already.
    pub replace: bool,
    /// CIDRs the cluster claims.
    pub prefixes: Vec<String>,
}

/// A new member.
#[derive(Debug, Clone)]
pub struct Joined {
    /// Its identity, to be stored.
    pub identity: MemberIdentity,
    /// The roster that it is in; its signature was checked.
    pub roster: SignedRoster,
}

/// Trades a token for a membership.
///
/// # Errors
/// [`Error::Unreachable`], [`Error::Refused`] with the broker's reason, [`Error::Answer`].
pub async fn join(join: Join<'_>) -> Result<Joined, Error> {
    let Join { token, key, replace, prefixes } = join;
    let csr = csr::request(&key_pair(&key)?)?;
    let channel = dial::channel(token.brokers.clone(), tls::pinned(token.ca_pin)?).await?;
    let request = JoinRequest {
        cluster_id: token.cluster_id.to_string(),
        token_secret: token.secret.to_vec(),
        csr: csr.clone(),
        replace,
        prefixes,
    };
    let response = client(channel).join(request).await?.into_inner();
    let credentials = response.credentials.ok_or_else(|| answer("it holds credentials"))?;
    if Pin::of_cert(&credentials.ca)? != token.ca_pin {
        return Err(answer("its CA is the token's"));
    }
    let info = MemberInfo {
        cluster_set: response.cluster_set,
        cluster_id: token.cluster_id.clone(),
        generation: response.generation,
        brokers: token.brokers.iter().map(ToString::to_string).collect(),
        namespaces: response.namespaces,
    };
    let roster = response.roster.ok_or_else(|| answer("it holds a roster"))?;
    let ca = CertificateDer::from(credentials.ca.clone());
    let identity = MemberIdentity { chain: check_chain(&info, credentials, &csr)?, info, ca, key };
    verify_roster(&identity.ca, &roster)?;
    Ok(Joined { identity, roster })
}

/// Asks for a new certificate for the same key. The current one may have ended.
///
/// # Errors
/// [`Error::Unreachable`], [`Error::Refused`] with the broker's reason, [`Error::Answer`].
pub async fn renew(identity: &MemberIdentity) -> Result<MemberIdentity, Error> {
    let csr = csr::request(&key_pair(&identity.key)?)?;
    let response = connect(identity).await?.renew(RenewRequest { csr: csr.clone() }).await?.into_inner();
    let credentials = response.credentials.ok_or_else(|| answer("it holds credentials"))?;
    let chain = check_chain(&identity.info, credentials, &csr)?;
    Ok(MemberIdentity { chain, ..identity.clone() })
}

/// Ends the membership; the roster revision that no longer has it.
///
/// # Errors
/// [`Error::Unreachable`], [`Error::Refused`] with the broker's reason.
pub async fn leave(identity: &MemberIdentity) -> Result<u64, Error> {
    Ok(connect(identity).await?.leave(LeaveRequest {}).await?.into_inner().roster_revision)
}

/// Connects with a member's identity, for `Sync` and the rest.
///
/// # Errors
/// [`Error::Unreachable`] with what happened at each address.
pub async fn connect(identity: &MemberIdentity) -> Result<BrokerClient<Channel>, Error> {
    let tls = tls::mutual(&identity.ca, identity.chain.clone(), &identity.key)?;
    Ok(client(dial::channel(address::parse_all(&identity.info.brokers)?, tls).await?))
}

/// Reads a roster whose signature is checked against the CA's certificate (DER).
///
/// # Errors
/// Where the signature is not the CA's or the roster can't be read.
pub fn verify_roster(ca: &[u8], signed: &SignedRoster) -> Result<Roster, Error> {
    roster::verify(ca, &signed.roster, &signed.signature)?;
    Roster::decode(&signed.roster).map_err(|e| answer(&e.to_string()))
}

fn client(channel: Channel) -> BrokerClient<Channel> {
    BrokerClient::new(channel).max_decoding_message_size(hawser_proto::MAX_MESSAGE)
}

/// The certificate must be for us and for our key.
fn check_chain(info: &MemberInfo, credentials: Credentials, csr: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let leaf = credentials.certificate_chain.first().ok_or_else(|| answer("it holds a certificate"))?;
    let expected = Identity { set: info.cluster_set.clone(), role: Role::Cluster(info.cluster_id.clone()) };
    let found = Identity::from_cert(leaf)?;
    if found != expected {
        return Err(answer(&format!("its certificate names {expected}, not {found}")));
    }
    if identity::key_hash(leaf)? != Csr::parse(csr)?.key_hash() {
        return Err(answer("its certificate is for the key that was sent"));
    }
    Ok(credentials.certificate_chain.into_iter().map(CertificateDer::from).collect())
}

fn key_pair(key: &PrivatePkcs8KeyDer<'static>) -> Result<KeyPair, Error> {
    KeyPair::try_from(key)
        .map_err(|source| hawser_broker_pki::Error::Crypto { action: "read the cluster's key", source }.into())
}

fn answer(rule: &str) -> Error {
    Error::Answer { rule: rule.to_owned() }
}
