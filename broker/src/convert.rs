//! Between the core's types and the wire's.

use std::net::SocketAddr;

use hawser_broker_core::{
    Ack, Body, Code, Kind, Out, Progress, PublicRoster, Record, RecordKey, Refusal, Summary, Token,
};
use hawser_model::ClusterId;
use hawser_proto::convert::{self, ConvertError};
use hawser_proto::{digest, refusal, v1};
use prost::Message as _;
use tonic::Status;

/// The wire's form of a record's body.
pub(crate) fn encode_body(body: &Body) -> Vec<u8> {
    let record = match body.clone() {
        Body::Gateway(gateway) => hawser_proto::Record::Gateway(gateway),
        Body::Header(header) => hawser_proto::Record::ExportHeader(header),
        Body::Endpoints(endpoints) => hawser_proto::Record::ExportEndpoints(endpoints),
    };
    record.to_proto().encode_to_vec()
}

/// A record of `cluster` as it came over the wire.
pub(crate) fn body(cluster: &ClusterId, record: v1::Record) -> Result<Body, Refusal> {
    Ok(match hawser_proto::Record::from_proto(cluster, record).map_err(|e| invalid(&e))? {
        hawser_proto::Record::Gateway(gateway) => Body::Gateway(gateway),
        hawser_proto::Record::ExportHeader(header) => Body::Header(header),
        hawser_proto::Record::ExportEndpoints(endpoints) => Body::Endpoints(endpoints),
    })
}

/// A record of `cluster` as it is stored.
pub(crate) fn stored_body(cluster: &ClusterId, bytes: &[u8]) -> Result<Body, Refusal> {
    let record = v1::Record::decode(bytes).map_err(|e| {
        Refusal::new(
            Code::Invalid,
            format!("stored record of {cluster}"),
            "encoding",
            e.to_string(),
            "its owner sends it again",
        )
    })?;
    body(cluster, record)
}

pub(crate) fn key(key: Option<v1::RecordKey>) -> Result<RecordKey, Refusal> {
    let key = key.unwrap_or_default();
    match Kind::of_number(key.kind) {
        Some(kind) => Ok(RecordKey { kind, name: key.name.into() }),
        None => Err(Refusal::new(
            Code::Invalid,
            format!("record {}", key.name),
            "kind",
            format!("{} is no known kind", key.kind),
            "check the sender's version",
        )),
    }
}

pub(crate) fn invalid(error: &ConvertError) -> Refusal {
    Refusal::new(Code::Invalid, &error.object, &error.field, &error.rule, error.remedy)
}

pub(crate) fn refusal_to_proto(refusal: Refusal) -> v1::Refusal {
    let Refusal { code: _, object, field, rule, remedy } = refusal;
    v1::Refusal { object, field, rule, remedy }
}

/// A call's failure: the refusal in words, and in its details.
pub(crate) fn status(refused: Refusal) -> Status {
    let code = match refused.code {
        Code::Invalid => tonic::Code::InvalidArgument,
        Code::NotFound => tonic::Code::NotFound,
        Code::Conflict => tonic::Code::AlreadyExists,
        Code::Denied => tonic::Code::PermissionDenied,
        Code::Unauthenticated => tonic::Code::Unauthenticated,
        Code::Quota => tonic::Code::ResourceExhausted,
        Code::Fenced => tonic::Code::Aborted,
        Code::Clock => tonic::Code::FailedPrecondition,
    };
    refusal::to_status(code, &refusal_to_proto(refused))
}

pub(crate) fn roster(public: PublicRoster) -> convert::Roster {
    convert::Roster {
        cluster_set: public.set,
        revision: public.revision,
        members: public
            .members
            .into_iter()
            .map(|(id, generation, prefixes)| convert::Member { id, generation, prefixes })
            .collect(),
        revoked: public.revoked.into_iter().map(|(id, generation)| convert::Revoked { id, generation }).collect(),
    }
}

pub(crate) fn public_roster(roster: convert::Roster) -> PublicRoster {
    PublicRoster {
        set: roster.cluster_set,
        revision: roster.revision,
        members: roster.members.into_iter().map(|m| (m.id, m.generation, m.prefixes)).collect(),
        revoked: roster.revoked.into_iter().map(|r| (r.id, r.generation)).collect(),
    }
}

/// A message for a reader. Computes the view's digest, so not on the engine's thread.
pub(crate) fn out(out: Out) -> v1::sync_response::Message {
    use v1::sync_response::Message;
    match out {
        Out::SnapshotStart { epoch } => Message::SnapshotStart(v1::SnapshotStart { epoch: epoch.to_vec() }),
        Out::Upsert(record) => Message::Upsert(v1::Upsert {
            cluster_id: record.cluster.to_string(),
            generation: record.generation,
            record: v1::Record::decode(&*record.encoded.bytes).ok(),
            revision: record.revision,
        }),
        Out::Remove { cluster, key, revision } => Message::Remove(v1::Remove {
            cluster_id: cluster.to_string(),
            key: Some(v1::RecordKey { kind: key.kind.number().into(), name: key.name.to_string() }),
            revision,
        }),
        Out::Synced { interest, revision, incomplete, records } => Message::Synced(v1::Synced {
            interest_generation: interest,
            revision,
            count: records.len() as u64,
            digest: digest::digest(records.iter().map(|r| entry(r))).to_vec(),
            incomplete: incomplete.iter().map(ToString::to_string).collect(),
        }),
    }
}

fn entry(record: &Record) -> digest::Entry<'_> {
    digest::Entry {
        cluster: record.cluster.as_str(),
        generation: record.generation,
        kind: record.key.kind.number().into(),
        name: &record.key.name,
        hash: record.encoded.hash.0,
    }
}

pub(crate) fn token(token: &Token) -> v1::Token {
    v1::Token {
        id: token.id.clone(),
        cluster_id: token.cluster.to_string(),
        expires: token.expires,
        uses_left: token.uses_left,
        prefixes: convert::prefix_texts(&token.grant.prefixes),
        namespaces: token.grant.namespaces.clone(),
        created_by: token.created_by.clone(),
    }
}

pub(crate) fn progress(revision: u64, progress: Progress) -> v1::RevocationProgress {
    v1::RevocationProgress {
        roster_revision: revision,
        complete: progress.complete,
        clusters: progress.clusters.into_iter().map(ack).collect(),
    }
}

fn ack(ack: Ack) -> v1::ClusterAck {
    let gateways = ack.gateways.into_iter().map(|(node, revision)| v1::GatewayAck { node, revision });
    v1::ClusterAck { cluster_id: ack.cluster.to_string(), connected: ack.connected, gateways: gateways.collect() }
}

pub(crate) fn summary(summary: &Summary) -> v1::ClusterInfo {
    v1::ClusterInfo {
        cluster_id: summary.cluster.to_string(),
        generation: summary.generation,
        prefixes: convert::prefix_texts(&summary.claims),
        connected: summary.connected,
        term: summary.term,
        gateways: u32::try_from(summary.gateways).unwrap_or(u32::MAX),
        exports: u32::try_from(summary.exports).unwrap_or(u32::MAX),
        revoked: summary.revoked,
        last_seen: summary.last_seen,
    }
}

/// What limits count by: an IPv4 address, or an IPv6 network of 64 bits, which is one customer's.
pub(crate) fn source(addr: SocketAddr) -> ipnet::IpNet {
    match addr.ip().to_canonical() {
        std::net::IpAddr::V4(v4) => ipnet::IpNet::from(std::net::IpAddr::V4(v4)),
        std::net::IpAddr::V6(v6) => ipnet::Ipv6Net::new_assert(v6, 64).trunc().into(),
    }
}
