//! One message in, one message out: headers, EDNS, sizes around the [`crate::zone`]'s answers. Pure.

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};

use crate::counters::Counters;
use crate::zone::Zone;
use crate::zone::lookup::Answer;

/// The largest answer by UDP: no fragments on any usual path.
pub const UDP_PAYLOAD: u16 = 1232;
/// The largest answer by UDP to a client that does not say what it takes.
const PLAIN_UDP_PAYLOAD: u16 = 512;
/// Bytes of a header.
const HEADER: usize = 12;

/// How a query came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram.
    Udp,
    /// In a stream.
    Tcp,
}

/// Answers `query`. None where no answer is due: garbage too short for a header, and what is itself an answer (two servers
/// would talk to each other for ever).
#[must_use]
pub fn respond(zone: &Zone, query: &[u8], transport: Transport, counters: &Counters) -> Option<Vec<u8>> {
    let answered = is_query(query).then(|| answer(zone, query, transport, counters)).flatten();
    if answered.is_none() {
        counters.count_ignored();
    }
    answered
}

fn is_query(bytes: &[u8]) -> bool {
    bytes.len() >= HEADER && bytes[2] & 0x80 == 0
}

fn answer(zone: &Zone, query: &[u8], transport: Transport, counters: &Counters) -> Option<Vec<u8>> {
    let (response, limit) = match Message::from_vec(query) {
        Ok(request) => {
            let limit = match transport {
                Transport::Udp => request.edns.as_ref().map_or(PLAIN_UDP_PAYLOAD, client_payload),
                Transport::Tcp => u16::MAX,
            };
            (to_message(zone, request, counters), limit)
        }
        Err(_) => (malformed(query), PLAIN_UDP_PAYLOAD),
    };
    let code = response.metadata.response_code;
    let (bytes, truncated) = fit(response, limit, transport)?;
    counters.count_response(code, truncated);
    Some(bytes)
}

/// What the client takes, and we are willing to send.
fn client_payload(edns: &Edns) -> u16 {
    edns.max_payload().clamp(PLAIN_UDP_PAYLOAD, UDP_PAYLOAD)
}

/// The answer to what could not be read: its id and operation are all there is.
fn malformed(query: &[u8]) -> Message {
    let op_code = OpCode::from_u8(query[2] >> 3 & 0x0f);
    Message::error_msg(u16::from_be_bytes([query[0], query[1]]), op_code, ResponseCode::FormErr)
}

fn to_message(zone: &Zone, request: Message, counters: &Counters) -> Message {
    let answer = decide(zone, &request, counters);
    let mut response = Message::new(request.metadata.id, MessageType::Response, request.metadata.op_code);
    response.metadata = Metadata::response_from_request(&request.metadata);
    response.metadata.response_code = answer.code;
    // A statement of the zone about its names, not a refusal or a failure.
    response.metadata.authoritative = matches!(answer.code, ResponseCode::NoError | ResponseCode::NXDomain);
    response.queries = request.queries;
    response.answers = answer.answers;
    response.authorities = answer.authority;
    response.additionals = answer.additional;
    if let Some(theirs) = request.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_PAYLOAD).set_dnssec_ok(theirs.flags().dnssec_ok);
        response.edns = Some(edns);
    }
    // Clients tend to take the first of several addresses; the id is as good as random.
    if let len @ 2.. = response.answers.len() {
        response.answers.rotate_left(usize::from(response.metadata.id) % len);
    }
    response
}

fn decide(zone: &Zone, request: &Message, counters: &Counters) -> Answer {
    let only = |code| Answer { code, ..Answer::default() };
    if request.metadata.op_code != OpCode::Query {
        return only(ResponseCode::NotImp);
    }
    let [question] = request.queries.as_slice() else { return only(ResponseCode::FormErr) };
    counters.count_query(question.query_type());
    if request.version() > 0 {
        return only(ResponseCode::BADVERS);
    }
    if !matches!(question.query_class(), DNSClass::IN | DNSClass::ANY) || question.query_type() == RecordType::OPT {
        return only(ResponseCode::Refused);
    }
    zone.lookup(question.name(), question.query_type())
}

/// Encodes `response` in at most `limit` bytes. What does not fit: first the additional records go, silently; then answers,
/// by UDP with a flag that sends the client to TCP. Also says whether that flag is set.
///
/// By TCP there is nowhere to send the client: what fits is the subset of a headless service that it gets to know.
fn fit(mut response: Message, limit: u16, transport: Transport) -> Option<(Vec<u8>, bool)> {
    loop {
        let (bytes, cut) = encode(&response)?;
        if bytes.len() <= usize::from(limit) && !cut {
            return Some((bytes, response.metadata.truncation));
        }
        if !response.additionals.is_empty() {
            response.additionals.clear();
            continue;
        }
        response.metadata.truncation = transport == Transport::Udp;
        let (answers, size) = (response.answers.len(), bytes.len().max(1));
        if answers == 0 {
            // A question alone always fits; an authority that doesn't is dispensable.
            response.authorities.clear();
            response.edns = response.edns.filter(|_| size <= usize::from(limit));
            return encode(&response).map(|(bytes, _)| (bytes, response.metadata.truncation));
        }
        // About what fits, and less each time.
        response.answers.truncate((answers * usize::from(limit) / size).min(answers * 7 / 8));
    }
}

/// The message's bytes, and whether it was larger than any message may be and records are missing.
fn encode(message: &Message) -> Option<(Vec<u8>, bool)> {
    let mut bytes = Vec::with_capacity(usize::from(PLAIN_UDP_PAYLOAD));
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(u16::MAX);
    message.emit(&mut encoder).ok()?;
    let truncated = bytes.get(2).is_some_and(|flags| flags & 0x02 != 0);
    Some((bytes, truncated && !message.metadata.truncation))
}

#[cfg(test)]
mod tests;
