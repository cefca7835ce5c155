//! What clusters call: Join, Renew, Leave, Sync.

use std::time::Instant;

use hawser_broker_core::{Code, Hash, JoinRequest, Joined, Refusal};
use hawser_broker_pki::{CLUSTER_DAYS, Csr, Issued};
use hawser_model::{ClusterId, PrefixSet};
use hawser_proto::v1::{self, broker_server::Broker};
use hawser_proto::{convert as wire, v1::SignedRoster};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Services, auth, sync};
use crate::{convert, state};

/// Messages that wait for a stream's client at most; behind them, dirty keys.
const OUTBOUND: usize = 64;

/// A join whose fields are well-formed.
struct Admission {
    cluster: ClusterId,
    secret: Vec<u8>,
    key: Hash,
    replace: bool,
    claims: PrefixSet,
}

#[tonic::async_trait]
impl Broker for Services {
    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinResponse>, Status> {
        let refuse = |refusal| self.refuse("join", refusal);
        let addr = auth::peer(&request).map_err(refuse)?.addr;
        self.limit_attempts(addr).map_err(refuse)?;
        let request = request.into_inner();
        let admission = admission(&request).map_err(refuse)?;
        let (cluster, set) = (admission.cluster.clone(), self.ca.set().to_owned());
        let joined = self.engine.call(move |state, now| {
            let Admission { cluster, secret, key, replace, claims } = &admission;
            let request = JoinRequest { cluster, secret, key: *key, replace: *replace, claims };
            state.core.join(&request, now)
        });
        let Joined { generation, namespaces, changed } = joined.await?.map_err(refuse)?;
        let issued = self.issue(&request.csr, &cluster)?;
        if changed {
            tracing::info!(%cluster, generation, %addr, "cluster joined");
        }
        Ok(Response::new(v1::JoinResponse {
            credentials: Some(self.credentials(&issued)),
            cluster_set: set,
            generation,
            roster: Some(self.roster()),
            namespaces,
        }))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewResponse>, Status> {
        let refuse = |refusal| self.refuse("renew", refusal);
        let member = auth::member(self.ca.set(), &request, true).map_err(refuse)?;
        self.limit_member("renew", &member)?;
        let csr = request.into_inner().csr;
        let key = csr_key(&csr, &member.cluster).map_err(refuse)?;
        let (cluster, on_record) = (member.cluster.clone(), member.key);
        let checked =
            self.engine.call(move |state, _| state.core.roster().authenticate(&cluster, &on_record).map(|_| ()));
        checked.await?.map_err(refuse)?;
        if key != member.key {
            return Err(refuse(Refusal::new(
                Code::Denied,
                format!("cluster {}", member.cluster),
                "csr",
                "its key is not the one on record",
                "renew with the key in secrets/cluster.key; another key needs a new token",
            )));
        }
        let issued = self.issue(&csr, &member.cluster)?;
        tracing::debug!(cluster = %member.cluster, "certificate renewed");
        Ok(Response::new(v1::RenewResponse { credentials: Some(self.credentials(&issued)) }))
    }

    async fn leave(&self, request: Request<v1::LeaveRequest>) -> Result<Response<v1::LeaveResponse>, Status> {
        let refuse = |refusal| self.refuse("leave", refusal);
        let auth::Member { cluster, key, .. } = auth::member(self.ca.set(), &request, false).map_err(refuse)?;
        let name = cluster.clone();
        let left = self.engine.call(move |state, _| state.core.leave(&cluster, &key));
        let roster_revision = left.await?.map_err(refuse)?;
        tracing::info!(cluster = %name, roster_revision, "cluster left");
        Ok(Response::new(v1::LeaveResponse { roster_revision }))
    }

    type SyncStream = ReceiverStream<Result<v1::SyncResponse, Status>>;

    async fn sync(&self, request: Request<Streaming<v1::SyncRequest>>) -> Result<Response<Self::SyncStream>, Status> {
        let member = auth::member(self.ca.set(), &request, false).map_err(|refusal| self.refuse("sync", refusal))?;
        self.limit_member("sync", &member)?;
        let (out, messages) = mpsc::channel(OUTBOUND);
        tokio::spawn(sync::run(self.clone(), member, request.into_inner(), out));
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}

impl Services {
    fn limit_attempts(&self, addr: std::net::SocketAddr) -> Result<(), Refusal> {
        if self.limits.joins.allow(convert::source(addr), Instant::now()) {
            return Ok(());
        }
        Err(Refusal::new(
            Code::Quota,
            "caller",
            "attempts",
            format!("{} has tried to join too often", addr.ip()),
            "wait a minute and try again",
        ))
    }

    fn issue(&self, csr: &[u8], cluster: &ClusterId) -> Result<Issued, Status> {
        self.ca.issue_cluster(csr, cluster, state::now(), CLUSTER_DAYS).map_err(|error| {
            tracing::warn!(%cluster, %error, "can't issue a certificate");
            Status::internal("the broker can't issue a certificate; its log says why")
        })
    }

    fn credentials(&self, issued: &Issued) -> v1::Credentials {
        v1::Credentials {
            certificate_chain: vec![issued.certificate.to_vec()],
            ca: self.ca.certificate().to_vec(),
            not_after: state::unix(issued.not_after),
        }
    }

    /// The newest signed roster.
    pub(super) fn roster(&self) -> SignedRoster {
        SignedRoster::clone(&self.published.roster.borrow())
    }
}

fn admission(request: &v1::JoinRequest) -> Result<Admission, Refusal> {
    let object = format!("cluster {}", request.cluster_id);
    let cluster = ClusterId::new(&request.cluster_id)
        .map_err(|e| Refusal::new(Code::Invalid, object.as_str(), "id", e.rule, "choose another id"))?;
    Ok(Admission {
        key: csr_key(&request.csr, &cluster)?,
        claims: wire::prefixes(&object, "prefixes", &request.prefixes).map_err(|e| convert::invalid(&e))?,
        secret: request.token_secret.clone(),
        replace: request.replace,
        cluster,
    })
}

fn csr_key(csr: &[u8], cluster: &ClusterId) -> Result<Hash, Refusal> {
    let parsed = Csr::parse(csr).map_err(|error| {
        Refusal::new(
            Code::Invalid,
            format!("cluster {cluster}"),
            "csr",
            error.to_string(),
            "make a new request with `hawser join`",
        )
    })?;
    Ok(Hash(parsed.key_hash()))
}
