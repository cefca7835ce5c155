//! A broker that knows one token and remembers who called.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use hawser_broker_client::MemberIdentity;
use hawser_broker_pki::{Ca, PeerIdentity, ServerCertificate, csr, server_config};
use hawser_model::ClusterId;
use hawser_proto::Roster;
use hawser_proto::v1::broker_server::{Broker, BrokerServer};
use hawser_proto::v1::{
    Credentials, JoinRequest, JoinResponse, LeaveRequest, LeaveResponse, Refusal, RenewRequest, RenewResponse,
    SignedRoster, SyncRequest, SyncResponse,
};
use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;
use tonic::{Code, Request, Response, Status, Streaming};

pub(crate) struct Fake {
    pub(crate) ca: Arc<Ca>,
    pub(crate) address: String,
    pub(crate) certificate: Arc<ServerCertificate>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    pub(crate) async fn start(listen: &str) -> Self {
        let ca = Arc::new(Ca::create("prod", SystemTime::now()).unwrap());
        let issued = ca.issue_broker(&["127.0.0.1".into()], SystemTime::now(), 1).unwrap();
        Self::serve(listen, ca, &issued).await
    }

    /// Shows a member's certificate where the broker's should be.
    pub(crate) async fn start_as_member(listen: &str) -> Self {
        let ca = Arc::new(Ca::create("prod", SystemTime::now()).unwrap());
        let mut issued = ca.issue_admin("mallory", SystemTime::now(), 1).unwrap();
        let key = KeyPair::try_from(&issued.key).unwrap();
        let id = ClusterId::new("mallory").unwrap();
        issued.issued = ca.issue_cluster(&csr::request(&key).unwrap(), &id, SystemTime::now(), 1).unwrap();
        Self::serve(listen, ca, &issued).await
    }

    async fn serve(listen: &str, ca: Arc<Ca>, issued: &hawser_broker_pki::IssuedWithKey) -> Self {
        let certificate = ServerCertificate::new(issued, ca.certificate()).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(server_config(ca.certificate(), Arc::clone(&certificate)).unwrap()));
        let listener = TcpListener::bind(listen).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, receiver) = tokio::sync::mpsc::channel(8);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, sender) = (acceptor.clone(), sender.clone());
                tokio::spawn(async move {
                    if let Ok(tls) = acceptor.accept(tcp).await {
                        let _ = sender.send(Ok::<_, std::io::Error>(Connection(tls))).await;
                    }
                });
            }
        });
        let seen = Arc::new(Mutex::new(Vec::new()));
        let service = BrokerServer::new(Service { ca: Arc::clone(&ca), seen: Arc::clone(&seen) });
        let incoming = tokio_stream::wrappers::ReceiverStream::new(receiver);
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
        Self { ca, address, certificate, seen }
    }

    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// A certificate for the same key, as of another time.
    pub(crate) fn reissue(&self, identity: &MemberIdentity, at: SystemTime) -> CertificateDer<'static> {
        self.reissue_by(&self.ca, identity, at)
    }

    pub(crate) fn reissue_by(&self, ca: &Ca, identity: &MemberIdentity, at: SystemTime) -> CertificateDer<'static> {
        let key = KeyPair::try_from(identity.key.as_ref()).unwrap();
        ca.issue_cluster(&csr::request(&key).unwrap(), &identity.info.cluster_id, at, 30).unwrap().certificate
    }
}

struct Service {
    ca: Arc<Ca>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Service {
    fn credentials(&self, csr: &[u8], id: &str) -> Credentials {
        let issued = self.ca.issue_cluster(csr, &ClusterId::new(id).unwrap(), SystemTime::now(), 30).unwrap();
        Credentials {
            certificate_chain: vec![issued.certificate.to_vec()],
            ca: self.ca.certificate().to_vec(),
            not_after: 0,
        }
    }

    fn note<T>(&self, what: &str, request: &Request<T>) {
        let peer = request.extensions().get::<Option<PeerIdentity>>().unwrap();
        let who = match peer {
            None => "nobody".to_owned(),
            Some(peer) if peer.expired => format!("{}, expired", peer.identity),
            Some(peer) => peer.identity.to_string(),
        };
        self.seen.lock().unwrap().push(format!("{what} by {who}"));
    }
}

#[tonic::async_trait]
impl Broker for Service {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        self.note(&format!("join {}", request.get_ref().cluster_id), &request);
        let request = request.into_inner();
        if request.token_secret != b"secret" {
            let refusal = Refusal { object: "token".into(), field: "secret".into(), ..Default::default() };
            return Err(hawser_proto::refusal::to_status(Code::Unauthenticated, &refusal));
        }
        let roster = Roster { cluster_set: "prod".into(), revision: 7, ..Default::default() }.encode();
        Ok(Response::new(JoinResponse {
            credentials: Some(self.credentials(&request.csr, &request.cluster_id)),
            cluster_set: "prod".into(),
            generation: 1,
            roster: Some(SignedRoster { signature: self.ca.sign_roster(&roster).unwrap(), roster }),
            namespaces: vec!["shop".into()],
        }))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        self.note("renew", &request);
        Ok(Response::new(RenewResponse { credentials: Some(self.credentials(&request.get_ref().csr, "west")) }))
    }

    async fn leave(&self, request: Request<LeaveRequest>) -> Result<Response<LeaveResponse>, Status> {
        self.note("leave", &request);
        Ok(Response::new(LeaveResponse { roster_revision: 8 }))
    }

    type SyncStream = tokio_stream::Empty<Result<SyncResponse, Status>>;

    async fn sync(&self, _: Request<Streaming<SyncRequest>>) -> Result<Response<Self::SyncStream>, Status> {
        Err(Status::unimplemented("not part of these tests"))
    }
}

struct Connection(TlsStream<TcpStream>);

impl Connected for Connection {
    type ConnectInfo = Option<PeerIdentity>;

    fn connect_info(&self) -> Self::ConnectInfo {
        hawser_broker_pki::server::peer(self.0.get_ref().1, SystemTime::now()).unwrap()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
