//! The stream of one agent: its own shard up, its view down.
//!
//! Two halves share one outbound queue: `receive` applies what comes in, in batches, and answers each write; `stream::send`
//! says what the reader has to be told. A client that does not read stops its own halves and nobody else.

use std::time::Duration;

use futures::FutureExt as _;
use hawser_broker_core::{Body, Code, Hello, Opened, PublicRoster, RecordKey, Refusal, StreamId};
use hawser_model::PrefixSet;
use hawser_model::export::Timestamp;
use hawser_proto::v1::{self, sync_request, sync_response};
use hawser_proto::{VERSION, convert as wire};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::Services;
use super::auth::Member;
use super::stream::{OpenStream, send};
use crate::metrics::Direction;
use crate::{convert, engine, state};

/// Time for the first message.
const HELLO: Duration = Duration::from_secs(10);
/// Messages applied in one step, and their bytes, about.
const BATCH: usize = 256;
/// See [`BATCH`].
const BATCH_BYTES: usize = 1 << 20;

pub(super) type Out = mpsc::Sender<Result<v1::SyncResponse, Status>>;

/// One request, well-formed.
enum Request {
    Interest(v1::Interest),
    Put(u64, Box<Result<Body, Refusal>>),
    Delete(u64, Result<RecordKey, Refusal>),
    Complete(u64),
    Claim(u64, Result<PrefixSet, Refusal>),
    Ack(Vec<v1::GatewayAck>),
}

/// Runs the stream to its end; the last message says why, unless its client ended it.
pub(super) async fn run(services: Services, member: Member, mut inbound: Streaming<v1::SyncRequest>, out: Out) {
    let not_after = member.not_after;
    let (stream, opened) = match open(&services, &member, &mut inbound).await {
        Ok(opened) => opened,
        Err(status) => {
            // Nobody listens any more, or everything is said.
            let _ = out.send(Err(status)).await;
            return;
        }
    };
    tracing::info!(cluster = %member.cluster, term = opened.term, "stream opened");
    let expired = async {
        let left = not_after.duration_since(state::now()).unwrap_or_default();
        // Past a month the timer's range is not needed: certificates are shorter.
        tokio::time::sleep(left.min(Duration::from_secs(40 * 86_400))).await;
    };
    let ended = tokio::select! {
        biased;
        status = stream.ended(&services, &out) => status,
        status = receive(&services, &member, &stream, &mut inbound, &out) => status,
        status = send(&services, &member, &stream, opened, &out) => status,
        () = expired => Some(Status::unauthenticated("the certificate has expired; renew it and come back")),
        () = services.token.cancelled() => Some(Status::unavailable("the broker is shutting down; come back")),
        () = out.closed() => None,
    };
    let reason = ended.as_ref().map_or("closed by its client", Status::message);
    tracing::info!(cluster = %member.cluster, reason, "stream ended");
    if let Some(status) = ended {
        let _ = tokio::time::timeout(Duration::from_secs(1), out.send(Err(status))).await;
    }
}

async fn open(
    services: &Services,
    member: &Member,
    inbound: &mut Streaming<v1::SyncRequest>,
) -> Result<(OpenStream, Opened), Status> {
    let first = tokio::time::timeout(HELLO, inbound.message()).await;
    let Ok(first) = first else {
        return Err(Status::deadline_exceeded("the first message, hello, did not come within 10 s"));
    };
    let Some(v1::SyncRequest { message: Some(sync_request::Message::Hello(hello)) }) = first? else {
        return Err(Status::invalid_argument("the first message of a stream must be hello"));
    };
    if hello.version.saturating_add(1) < VERSION || hello.version == 0 {
        let rule = format!("version {} is too old; this broker speaks {VERSION} and the one before", hello.version);
        let refusal =
            Refusal::new(Code::Invalid, format!("cluster {}", member.cluster), "version", rule, "upgrade the agent");
        return Err(services.refuse("sync", refusal));
    }
    let hello = Hello {
        generation: hello.generation,
        holder: hello.holder.chars().take(253).collect(),
        now: hello.now,
        highest: hello.highest_roster.and_then(|roster| genuine(services, member, &roster)),
        resume: hello.resume.map(|r| (r.epoch, r.revision)),
        interest: hello.interest.map(|i| (i.generation, i.namespaces)).unwrap_or_default(),
    };
    let (cluster, key) = (member.cluster.clone(), member.key);
    let opened = services.engine.call(move |state, now| {
        let opened = state.core.open(&cluster, &key, hello, now)?;
        let signals = std::sync::Arc::<engine::Signals>::default();
        state.streams.insert(opened.stream, signals.clone());
        Ok((opened, signals))
    });
    let (opened, signals) = opened.await?.map_err(|refusal| services.refuse("sync", refusal))?;
    Ok((OpenStream::new(services.engine.clone(), opened.stream, signals), opened))
}

/// A roster that this CA signed.
fn genuine(services: &Services, member: &Member, signed: &v1::SignedRoster) -> Option<PublicRoster> {
    let verified = hawser_broker_pki::roster::verify(services.ca.certificate(), &signed.roster, &signed.signature);
    if let Err(error) = verified {
        tracing::warn!(cluster = %member.cluster, %error, "the highest roster it presents is not genuine");
        return None;
    }
    wire::Roster::decode(&signed.roster).ok().map(convert::public_roster)
}

/// Applies what the client sends. Ends with none when the client has no more to say.
async fn receive(
    services: &Services,
    member: &Member,
    stream: &OpenStream,
    inbound: &mut Streaming<v1::SyncRequest>,
    out: &Out,
) -> Option<Status> {
    loop {
        let (mut requests, mut bytes) = (Vec::new(), 0);
        let mut next = inbound.message().await;
        loop {
            match next {
                Ok(Some(message)) => {
                    bytes += prost::Message::encoded_len(&message);
                    match request(services, member, message) {
                        Ok(request) => requests.push(request),
                        Err(status) => return Some(status),
                    }
                }
                Ok(None) if requests.is_empty() => return None,
                Ok(None) => break,
                Err(status) => {
                    tracing::debug!(cluster = %member.cluster, %status, "stream broke");
                    return None;
                }
            }
            if requests.len() >= BATCH || bytes >= BATCH_BYTES {
                break;
            }
            match inbound.message().now_or_never() {
                Some(more) => next = more,
                None => break,
            }
        }
        let id = stream.id();
        let results = services.engine.call(move |state, now| {
            let mut results = Vec::with_capacity(requests.len());
            let end = requests.into_iter().try_for_each(|request| {
                results.extend(apply(state, id, request, now)?);
                Ok(())
            });
            (results, end.err())
        });
        let (results, end) = match results.await {
            Ok(done) => done,
            Err(status) => return Some(status),
        };
        for (sequence, result) in results {
            answer(services, member, sequence, result, out).await;
        }
        if let Some(refusal) = end {
            return Some(services.refuse("sync", refusal));
        }
    }
}

fn request(services: &Services, member: &Member, message: v1::SyncRequest) -> Result<Request, Status> {
    use sync_request::Message;
    Ok(match message.message {
        Some(Message::Interest(interest)) => Request::Interest(interest),
        Some(Message::Put(put)) => {
            let record = put.record.unwrap_or_default();
            let bytes = prost::Message::encoded_len(&record) as u64;
            services.metrics.bytes.get_or_create(&Direction { direction: "received" }).inc_by(bytes);
            Request::Put(put.sequence, Box::new(convert::body(&member.cluster, record)))
        }
        Some(Message::Delete(delete)) => Request::Delete(delete.sequence, convert::key(delete.key)),
        Some(Message::ShardComplete(complete)) => Request::Complete(complete.sequence),
        Some(Message::Claim(claim)) => {
            let object = format!("cluster {}", member.cluster);
            let claims = wire::prefixes(&object, "prefixes", &claim.prefixes).map_err(|e| convert::invalid(&e));
            Request::Claim(claim.sequence, claims)
        }
        Some(Message::RosterAck(ack)) => Request::Ack(ack.gateways),
        Some(Message::Hello(_)) => return Err(Status::invalid_argument("hello is the first message only")),
        None => return Err(Status::invalid_argument("a message of a kind that is not known here")),
    })
}

type Answer = Option<(u64, Result<(), Refusal>)>;

/// On the engine's thread. What has no answer of its own and can't be done ends the stream: its client would wait for a
/// view, or be counted on, in vain.
fn apply(state: &mut engine::State, stream: StreamId, request: Request, now: Timestamp) -> Result<Answer, Refusal> {
    let core = &mut state.core;
    Ok(match request {
        Request::Interest(interest) => {
            core.interest(stream, interest.generation, interest.namespaces, now)?;
            None
        }
        Request::Put(sequence, body) => {
            let put = body.and_then(|body| core.put(stream, body, convert::encode_body, now));
            Some((sequence, put.map(drop)))
        }
        Request::Delete(sequence, key) => {
            Some((sequence, key.and_then(|key| core.delete(stream, &key, now)).map(drop)))
        }
        Request::Complete(sequence) => Some((sequence, core.complete(stream))),
        Request::Claim(sequence, claims) => {
            Some((sequence, claims.and_then(|claims| core.claim(stream, &claims, now)).map(drop)))
        }
        Request::Ack(gateways) => {
            let acks = gateways.into_iter().map(|ack| (ack.node, ack.revision)).collect();
            core.ack(stream, acks)?;
            None
        }
    })
}

async fn answer(services: &Services, member: &Member, sequence: u64, result: Result<(), Refusal>, out: &Out) {
    let refusal = match result {
        Ok(()) => {
            services.metrics.writes.inc();
            None
        }
        Err(refusal) => {
            services.metrics.refused("write", refusal.code);
            tracing::debug!(cluster = %member.cluster, %refusal, "write refused");
            Some(convert::refusal_to_proto(refusal))
        }
    };
    let message = sync_response::Message::WriteResult(v1::WriteResult { sequence, refusal });
    // A client that is gone ends the stream elsewhere.
    let _ = out.send(Ok(v1::SyncResponse { message: Some(message) })).await;
}
