//! Between what `hawser-agent-plan` decides and what goes over the wire.

use hawser_agent_plan::{Op, Record, RecordId, Refusal, Roster};
use hawser_proto::v1::sync_request::Message as Up;
use hawser_proto::{convert::prefix_texts, v1};

/// A decision as a message.
pub(crate) fn request(sequence: u64, op: Op) -> v1::SyncRequest {
    let message = match op {
        Op::Claim(prefixes) => Up::Claim(v1::Claim { sequence, prefixes: prefix_texts(&prefixes) }),
        Op::Put(_, record) => Up::Put(v1::Put { sequence, record: Some(self::record(&record).to_proto()) }),
        Op::Delete(id) => Up::Delete(v1::Delete { sequence, key: Some(key(&id)) }),
        Op::Complete => Up::ShardComplete(v1::ShardComplete { sequence }),
    };
    v1::SyncRequest { message: Some(message) }
}

fn record(record: &Record) -> hawser_proto::Record {
    match record {
        Record::Gateway(g) => hawser_proto::Record::Gateway(g.clone()),
        Record::Header(h) => hawser_proto::Record::ExportHeader(h.clone()),
        Record::Endpoints(e) => hawser_proto::Record::ExportEndpoints(e.clone()),
    }
}

fn key(id: &RecordId) -> v1::RecordKey {
    let (kind, name) = match id {
        RecordId::Gateway(node) => (v1::RecordKind::Gateway, node.to_string()),
        RecordId::Header(service) => (v1::RecordKind::ExportHeader, service.to_string()),
        RecordId::Endpoints(service) => (v1::RecordKind::ExportEndpoints, service.to_string()),
    };
    v1::RecordKey { kind: kind.into(), name }
}

/// Why a write was refused.
pub(crate) fn refusal(message: v1::Refusal) -> Refusal {
    let v1::Refusal { object, field, rule, remedy } = message;
    Refusal { object, field, rule, remedy }
}

/// A roster whose signature has been checked.
pub(crate) fn roster(message: &hawser_proto::Roster) -> Roster {
    Roster {
        revision: message.revision,
        members: message.members.iter().map(|m| ((m.id.clone(), m.generation), m.prefixes.clone())).collect(),
        revoked: message.revoked.iter().map(|r| (r.id.clone(), r.generation)).collect(),
    }
}
