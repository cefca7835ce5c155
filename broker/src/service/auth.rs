//! Who is calling.

use std::time::SystemTime;

use hawser_broker_core::{Code, Hash, Refusal};
use hawser_broker_pki::{PeerIdentity, Role};
use hawser_model::ClusterId;
use tonic::Request;

use crate::peer::PeerInfo;
use crate::state;

/// A cluster by its certificate; the roster says whether it still is a member.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// Its id.
    pub(crate) cluster: ClusterId,
    /// SHA-256 of its key.
    pub(crate) key: Hash,
    /// When its certificate ends.
    pub(crate) not_after: SystemTime,
}

/// An administrator by its certificate; the roster says whether the key is on record.
#[derive(Debug, Clone)]
pub(crate) struct Administrator {
    /// Its name.
    pub(crate) name: String,
    /// SHA-256 of its key.
    pub(crate) key: Hash,
}

/// The connection a call came by.
pub(crate) fn peer<T>(request: &Request<T>) -> Result<PeerInfo, Refusal> {
    request.extensions().get::<PeerInfo>().cloned().ok_or_else(|| unauthenticated("the connection is not known"))
}

/// The calling cluster; with an `expired` certificate only where that is allowed.
pub(crate) fn member<T>(set: &str, request: &Request<T>, expired: bool) -> Result<Member, Refusal> {
    let identity = identity(set, request, expired)?;
    match identity.identity.role {
        Role::Cluster(cluster) => Ok(Member { cluster, key: Hash(identity.key_hash), not_after: identity.not_after }),
        Role::Admin(_) | Role::Broker => Err(Refusal::new(
            Code::Denied,
            "caller",
            "identity",
            format!("{} is no cluster", identity.identity),
            "call with a cluster's certificate",
        )),
    }
}

/// The calling administrator.
pub(crate) fn administrator<T>(set: &str, request: &Request<T>) -> Result<Administrator, Refusal> {
    let identity = identity(set, request, false)?;
    match identity.identity.role {
        Role::Admin(name) => Ok(Administrator { name, key: Hash(identity.key_hash) }),
        Role::Cluster(_) | Role::Broker => Err(denied(&identity.identity.to_string())),
    }
}

/// `who` calls what only administrators may call.
pub(crate) fn denied(who: &str) -> Refusal {
    Refusal::new(
        Code::Denied,
        "caller",
        "identity",
        format!("{who} is no administrator of this cluster set"),
        "use an administrator's identity: --admin-dir DIR, as `hawser broker init` made it",
    )
}

fn identity<T>(set: &str, request: &Request<T>, expired: bool) -> Result<PeerIdentity, Refusal> {
    let Some(identity) = peer(request)?.identity else {
        return Err(unauthenticated("no certificate was shown"));
    };
    if identity.identity.set != set {
        return Err(unauthenticated(&format!("{} is of another cluster set than {set}", identity.identity)));
    }
    let over = state::now().duration_since(identity.not_after).ok();
    match over {
        Some(over) if !expired => Err(Refusal::new(
            Code::Unauthenticated,
            identity.identity.to_string(),
            "certificate",
            format!("it expired {} s ago", over.as_secs()),
            "renew it: the agent does so by itself when it reaches the broker",
        )),
        Some(_) | None => Ok(identity),
    }
}

fn unauthenticated(rule: &str) -> Refusal {
    Refusal::new(
        Code::Unauthenticated,
        "caller",
        "certificate",
        rule,
        "call with a certificate of this cluster set; join first",
    )
}
