//! What was asked and answered, as plain numbers: the route agent turns them into metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

/// Names of the query types that are told apart.
const TYPES: [&str; 7] = ["A", "AAAA", "SRV", "TXT", "SOA", "NS", "other"];
/// Names of the response codes that are told apart.
const CODES: [&str; 7] = ["NOERROR", "NXDOMAIN", "SERVFAIL", "REFUSED", "FORMERR", "NOTIMP", "other"];

/// Counters since the process started; each only grows.
#[derive(Debug, Default)]
pub struct Counters {
    queries: [AtomicU64; 7],
    responses: [AtomicU64; 7],
    truncated: AtomicU64,
    ignored: AtomicU64,
    unsent: AtomicU64,
    refused_connections: AtomicU64,
}

impl Counters {
    /// Queries by type.
    pub fn queries(&self) -> impl Iterator<Item = (&'static str, u64)> {
        labelled(&TYPES, &self.queries)
    }

    /// Responses by code.
    pub fn responses(&self) -> impl Iterator<Item = (&'static str, u64)> {
        labelled(&CODES, &self.responses)
    }

    /// Responses that did not fit and asked the client to come back by TCP.
    #[must_use]
    pub fn truncated(&self) -> u64 {
        self.truncated.load(Ordering::Relaxed)
    }

    /// Messages that got no answer: too short for a header, or themselves answers.
    #[must_use]
    pub fn ignored(&self) -> u64 {
        self.ignored.load(Ordering::Relaxed)
    }

    /// Responses that the socket did not take.
    #[must_use]
    pub fn unsent(&self) -> u64 {
        self.unsent.load(Ordering::Relaxed)
    }

    /// TCP connections closed at once because too many were open.
    #[must_use]
    pub fn refused_connections(&self) -> u64 {
        self.refused_connections.load(Ordering::Relaxed)
    }

    pub(crate) fn count_query(&self, kind: RecordType) {
        let i = match kind {
            RecordType::A => 0,
            RecordType::AAAA => 1,
            RecordType::SRV => 2,
            RecordType::TXT => 3,
            RecordType::SOA => 4,
            RecordType::NS => 5,
            _ => 6,
        };
        add_one(&self.queries[i]);
    }

    pub(crate) fn count_response(&self, code: ResponseCode, truncated: bool) {
        let i = match code {
            ResponseCode::NoError => 0,
            ResponseCode::NXDomain => 1,
            ResponseCode::ServFail => 2,
            ResponseCode::Refused => 3,
            ResponseCode::FormErr => 4,
            ResponseCode::NotImp => 5,
            _ => 6,
        };
        add_one(&self.responses[i]);
        if truncated {
            add_one(&self.truncated);
        }
    }

    pub(crate) fn count_ignored(&self) {
        add_one(&self.ignored);
    }

    pub(crate) fn count_unsent(&self) {
        add_one(&self.unsent);
    }

    pub(crate) fn count_refused_connection(&self) {
        add_one(&self.refused_connections);
    }
}

fn add_one(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn labelled<'a>(
    names: &'static [&'static str],
    counters: &'a [AtomicU64],
) -> impl Iterator<Item = (&'static str, u64)> + use<'a> {
    names.iter().copied().zip(counters.iter().map(|c| c.load(Ordering::Relaxed)))
}
