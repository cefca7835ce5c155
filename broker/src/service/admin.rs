//! What administrators call. Everybody else is denied, members included.

use std::time::Duration;

use hawser_broker_core::{Code, Grant, Refusal, TokenRequest, TokenSeed};
use hawser_model::ClusterId;
use hawser_proto::convert as wire;
use hawser_proto::v1::{self, admin_server::Admin};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Services, auth};
use crate::engine::State;
use crate::{convert, state};

/// How often progress is looked at beside its notifications.
const LOOK: Duration = Duration::from_secs(1);

impl Services {
    /// Applies `operate` if the caller is an administrator on record.
    async fn administer<T, R: Send + 'static>(
        &self,
        call: &'static str,
        request: &Request<T>,
        operate: impl FnOnce(&mut State, &str, hawser_model::export::Timestamp) -> Result<R, Refusal> + Send + 'static,
    ) -> Result<R, Status> {
        let refuse = |refusal| self.refuse(call, refusal);
        let auth::Administrator { name, key } = auth::administrator(self.ca.set(), request).map_err(refuse)?;
        let done = self.engine.call(move |state, now| {
            if !state.core.roster().is_admin(&name, &key) {
                return Err(auth::denied(&format!("administrator {name} with this key")));
            }
            operate(state, &name, now)
        });
        done.await?.map_err(refuse)
    }
}

#[tonic::async_trait]
impl Admin for Services {
    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        let seed = TokenSeed { id: random()?, secret: random()? };
        let secret = seed.secret.to_vec();
        let asked = request.get_ref().clone();
        let token = self.administer("create_token", &request, move |state, admin, now| {
            let wanted = token_request(asked, admin)?;
            state.core.create_token(wanted, &seed, now)
        });
        let token = token.await?;
        tracing::info!(token = token.id, cluster = %token.cluster, by = token.created_by, "token created");
        Ok(Response::new(v1::CreateTokenResponse { id: token.id, secret, expires: token.expires }))
    }

    async fn list_tokens(
        &self,
        request: Request<v1::ListTokensRequest>,
    ) -> Result<Response<v1::ListTokensResponse>, Status> {
        let tokens = self.administer("list_tokens", &request, |state, _, _| {
            Ok(state.core.roster().tokens().map(convert::token).collect())
        });
        Ok(Response::new(v1::ListTokensResponse { tokens: tokens.await? }))
    }

    async fn revoke_token(
        &self,
        request: Request<v1::RevokeTokenRequest>,
    ) -> Result<Response<v1::RevokeTokenResponse>, Status> {
        let id = request.get_ref().id.clone();
        self.administer("revoke_token", &request, move |state, _, _| state.core.revoke_token(&id)).await?;
        Ok(Response::new(v1::RevokeTokenResponse {}))
    }

    type RevokeClusterStream = ReceiverStream<Result<v1::RevocationProgress, Status>>;

    async fn revoke_cluster(
        &self,
        request: Request<v1::RevokeClusterRequest>,
    ) -> Result<Response<Self::RevokeClusterStream>, Status> {
        let id = request.get_ref().cluster_id.clone();
        let revoked = self.administer("revoke_cluster", &request, move |state, by, _| {
            let cluster = cluster_id(&id)?;
            let revision = state.core.revoke_cluster(&cluster)?;
            tracing::info!(%cluster, by, roster_revision = revision, "cluster revoked");
            Ok(revision)
        });
        let revision = revoked.await?;
        let (out, messages) = mpsc::channel(4);
        tokio::spawn(self.clone().report(revision, out));
        Ok(Response::new(ReceiverStream::new(messages)))
    }

    async fn list_clusters(
        &self,
        request: Request<v1::ListClustersRequest>,
    ) -> Result<Response<v1::ListClustersResponse>, Status> {
        let listed = self.administer("list_clusters", &request, |state, _, _| {
            let clusters = state.core.summaries().iter().map(convert::summary).collect();
            let roster = state.core.roster();
            Ok(v1::ListClustersResponse {
                cluster_set: roster.set().to_owned(),
                roster_revision: roster.revision(),
                clusters,
            })
        });
        Ok(Response::new(listed.await?))
    }
}

impl Services {
    /// Sends how far `revision` has come, whenever that changes, until it is complete or nobody listens.
    async fn report(self, revision: u64, out: mpsc::Sender<Result<v1::RevocationProgress, Status>>) {
        let mut acks = self.published.acks.clone();
        let mut last = None;
        loop {
            acks.mark_unchanged();
            let progress = match self.engine.call(move |state, _| state.core.progress(revision)).await {
                Ok(progress) => progress,
                Err(status) => {
                    let _ = out.send(Err(status)).await;
                    return;
                }
            };
            let complete = progress.complete;
            if last.as_ref() != Some(&progress) {
                last = Some(progress.clone());
                if out.send(Ok(convert::progress(revision, progress))).await.is_err() {
                    return;
                }
            }
            if complete {
                return;
            }
            tokio::select! {
                changed = acks.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(LOOK) => {}
                () = out.closed() => return,
                () = self.token.cancelled() => {
                    let _ = out.send(Err(Status::unavailable("the broker is shutting down"))).await;
                    return;
                }
            }
        }
    }
}

fn token_request(asked: v1::CreateTokenRequest, admin: &str) -> Result<TokenRequest, Refusal> {
    let cluster = cluster_id(&asked.cluster_id)?;
    let object = format!("token for cluster {cluster}");
    let prefixes = wire::prefixes(&object, "prefixes", &asked.prefixes).map_err(|e| convert::invalid(&e))?;
    Ok(TokenRequest {
        cluster,
        ttl: asked.ttl_seconds,
        uses: asked.uses,
        grant: Grant { prefixes, namespaces: asked.namespaces },
        created_by: admin.to_owned(),
    })
}

fn cluster_id(id: &str) -> Result<ClusterId, Refusal> {
    ClusterId::new(id).map_err(|e| {
        Refusal::new(Code::Invalid, format!("cluster {id:?}"), "id", e.rule, "see the members with `hawser status`")
    })
}

fn random<const N: usize>() -> Result<[u8; N], Status> {
    state::random().map_err(|error| Status::internal(error.to_string()))
}
