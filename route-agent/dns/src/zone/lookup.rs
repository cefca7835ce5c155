//! The records behind a name, as the DNS specification of KEP-1645 has them.

use std::collections::BTreeSet;

use hawser_model::defaults::DNS_TTL;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, NS, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::name::{Meaning, ZoneName};
use super::{Addresses, Host, Port, Service, Zone};

/// Version of the DNS schema (KEP-1645, specification.md).
const SCHEMA_VERSION: &str = "1.0.0";
/// TTL of the schema version, seconds: it changes with releases only.
const SCHEMA_TTL: u32 = 28_800;

/// The answer to one question.
#[derive(Debug, Default, PartialEq)]
pub struct Answer {
    /// `NoError`, `NXDomain`, `ServFail` or `Refused`.
    pub code: ResponseCode,
    /// Records of the name.
    pub answers: Vec<Record>,
    /// The SOA where there is nothing to answer.
    pub authority: Vec<Record>,
    /// Addresses of names in the answers.
    pub additional: Vec<Record>,
}

/// What is known of a name, for one type.
enum Found {
    /// There is no such name.
    NoName,
    /// The name's records of the type, maybe none; and addresses of names in them.
    Records(Vec<Record>, Vec<Record>),
}

use Found::{NoName, Records};

const NO_DATA: Found = Records(Vec::new(), Vec::new());

/// A question in the zone.
struct Question<'q> {
    name: &'q Name,
    zone: &'q Name,
    kind: RecordType,
}

impl Zone {
    /// Answers for `name` and the type `kind`, class IN.
    #[must_use]
    pub fn lookup(&self, name: &Name, kind: RecordType) -> Answer {
        let Some(split) = ZoneName::split(name).filter(|_| !is_transfer(kind)) else {
            return Answer { code: ResponseCode::Refused, ..Answer::default() };
        };
        let question = Question { name, zone: &split.zone, kind };
        let (found, fixed) = match split.meaning() {
            Meaning::Apex => (self.apex(&question), true),
            Meaning::Version => (question.version(), true),
            Meaning::Nameserver => (Records(question.addresses(name, &self.nameservers), Vec::new()), true),
            Meaning::Branch => (NO_DATA, true),
            Meaning::Nothing => (NoName, true),
            below => (self.below_svc(&question, &below), false),
        };
        let soa = || question.soa(self.serial).into_iter().collect();
        match found {
            Records(answers, additional) if !answers.is_empty() => Answer { answers, additional, ..Answer::default() },
            // What isn't there yet may come: denying it would be remembered.
            _ if !fixed && !self.synced => {
                Answer { code: ResponseCode::ServFail, authority: soa(), ..Answer::default() }
            }
            NoName => Answer { code: ResponseCode::NXDomain, authority: soa(), ..Answer::default() },
            Records(..) => Answer { authority: soa(), ..Answer::default() },
        }
    }

    fn apex(&self, question: &Question<'_>) -> Found {
        match question.kind {
            RecordType::SOA => Records(question.soa(self.serial).into_iter().collect(), Vec::new()),
            RecordType::NS => {
                let Some(ns) = question.below_zone(["ns", "dns"]) else { return NO_DATA };
                let glue = all_addresses(&ns, &self.nameservers);
                Records(vec![question.record(RData::NS(NS(ns)))], glue)
            }
            _ => NO_DATA,
        }
    }

    fn below_svc(&self, question: &Question<'_>, meaning: &Meaning<'_>) -> Found {
        match *meaning {
            Meaning::Namespace { namespace } if self.namespaces.contains_key(namespace) => NO_DATA,
            Meaning::Service { namespace, service } => match self.service(namespace, service) {
                Some(Service::Virtual { vips, ports }) => question.of_virtual(namespace, service, vips, ports),
                Some(Service::Headless { hosts }) => question.of_headless(namespace, service, hosts),
                None => NoName,
            },
            Meaning::Port { namespace, service, protocol, port } => {
                // An unnamed port has no name, so `_._tcp` doesn't find it.
                let is_it =
                    |p: &&Port| !p.name.is_empty() && p.name.eq_ignore_ascii_case(port) && p.protocol == protocol;
                match self.service(namespace, service) {
                    Some(Service::Virtual { vips, ports }) => match ports.iter().find(is_it) {
                        Some(port) => {
                            question.services_of_virtual(namespace, service, vips, std::slice::from_ref(port))
                        }
                        None => NoName,
                    },
                    Some(Service::Headless { hosts }) => {
                        question.services_of_headless(namespace, service, hosts, |p| is_it(&p))
                    }
                    None => NoName,
                }
            }
            Meaning::Host { namespace, service, cluster, host } => match self.service(namespace, service) {
                // Endpoints of a service with a virtual address have no names.
                Some(Service::Virtual { .. }) | None => NoName,
                Some(Service::Headless { hosts }) => {
                    match hosts.iter().find(|h| h.label == host && h.cluster.as_str() == cluster) {
                        Some(host) => Records(question.addresses(question.name, &host.addresses), Vec::new()),
                        None => NoName,
                    }
                }
            },
            _ => NoName,
        }
    }

    fn service(&self, namespace: &str, service: &str) -> Option<&Service> {
        self.namespaces.get(namespace)?.get(service)
    }
}

impl Question<'_> {
    fn of_virtual(&self, namespace: &str, service: &str, vips: &Addresses, ports: &[Port]) -> Found {
        match self.kind {
            RecordType::SRV => self.services_of_virtual(namespace, service, vips, ports),
            _ => Records(self.addresses(self.name, vips), Vec::new()),
        }
    }

    fn of_headless(&self, namespace: &str, service: &str, hosts: &[Host]) -> Found {
        if hosts.is_empty() {
            return NoName;
        }
        if self.kind == RecordType::SRV {
            return match self.services_of_headless(namespace, service, hosts, |_| true) {
                NoName => NO_DATA,
                found @ Records(..) => found,
            };
        }
        let mut all = Addresses::default();
        for host in hosts {
            all.v4.extend(&host.addresses.v4);
            all.v6.extend(&host.addresses.v6);
        }
        Records(self.addresses(self.name, &all), Vec::new())
    }

    /// SRV records of a service with virtual addresses: one per port number, to the service's own name.
    fn services_of_virtual(&self, namespace: &str, service: &str, vips: &Addresses, ports: &[Port]) -> Found {
        if self.kind != RecordType::SRV {
            return NO_DATA;
        }
        let Some(target) = self.below_zone([service, namespace, "svc"]) else { return NO_DATA };
        if vips.count() == 0 {
            return NO_DATA;
        }
        let weight = weight(vips.count() * ports.len());
        let numbers: BTreeSet<u16> = ports.iter().map(|p| p.number).collect();
        let answers: Vec<Record> = numbers.into_iter().map(|n| self.srv(weight, n, &target)).collect();
        let additional = if answers.is_empty() { Vec::new() } else { all_addresses(&target, vips) };
        Records(answers, additional)
    }

    /// SRV records of a headless service: one per (host, port number), to the host's name. No such name if there is none.
    fn services_of_headless(
        &self,
        namespace: &str,
        service: &str,
        hosts: &[Host],
        is_it: impl Fn(&Port) -> bool,
    ) -> Found {
        let count = |h: &Host| h.addresses.count() * h.ports.iter().filter(|p| is_it(p)).count();
        let total: usize = hosts.iter().map(count).sum();
        if total == 0 {
            return NoName;
        }
        if self.kind != RecordType::SRV {
            return NO_DATA;
        }
        let (mut answers, mut additional) = (Vec::new(), Vec::new());
        for host in hosts {
            let numbers: BTreeSet<u16> = host.ports.iter().filter(|p| is_it(p)).map(|p| p.number).collect();
            let labels = [host.label.as_str(), host.cluster.as_str(), service, namespace, "svc"];
            let Some(target) = self.below_zone(labels).filter(|_| !numbers.is_empty()) else { continue };
            answers.extend(numbers.into_iter().map(|n| self.srv(weight(total), n, &target)));
            additional.extend(all_addresses(&target, &host.addresses));
        }
        Records(answers, additional)
    }

    fn version(&self) -> Found {
        match self.kind {
            RecordType::TXT => {
                let txt = RData::TXT(TXT::new(vec![SCHEMA_VERSION.to_owned()]));
                Records(vec![Record::from_rdata(self.name.clone(), SCHEMA_TTL, txt)], Vec::new())
            }
            _ => NO_DATA,
        }
    }

    /// The addresses of the family asked for; of both for ANY.
    fn addresses(&self, owner: &Name, addresses: &Addresses) -> Vec<Record> {
        let mut records = all_addresses(owner, addresses);
        match self.kind {
            RecordType::ANY => {}
            kind => records.retain(|r| r.record_type() == kind),
        }
        records
    }

    fn srv(&self, weight: u16, port: u16, target: &Name) -> Record {
        self.record(RData::SRV(SRV::new(0, weight, port, target.clone())))
    }

    fn soa(&self, serial: u32) -> Option<Record> {
        let (mname, rname) = (self.below_zone(["ns", "dns"])?, self.below_zone(["hostmaster"])?);
        let soa = SOA::new(mname, rname, serial, 7200, 1800, 86_400, DNS_TTL);
        Some(Record::from_rdata(self.zone.clone(), DNS_TTL, RData::SOA(soa)))
    }

    fn record(&self, data: RData) -> Record {
        Record::from_rdata(self.name.clone(), DNS_TTL, data)
    }

    /// `labels` in front of the zone, which keeps the query's case; none if that is longer than a name may be.
    fn below_zone<const N: usize>(&self, labels: [&str; N]) -> Option<Name> {
        Name::from_labels(labels.into_iter().map(str::as_bytes)).ok()?.append_name(self.zone).ok()
    }
}

fn all_addresses(owner: &Name, addresses: &Addresses) -> Vec<Record> {
    let v4 = addresses.v4.iter().map(|a| RData::A(A(*a)));
    let v6 = addresses.v6.iter().map(|a| RData::AAAA(AAAA(*a)));
    v4.chain(v6).map(|data| Record::from_rdata(owner.clone(), DNS_TTL, data)).collect()
}

/// An equal share of 100 for each of `n`, at least 1.
fn weight(n: usize) -> u16 {
    u16::try_from(100 / n.max(1)).unwrap_or(1).max(1)
}

fn is_transfer(kind: RecordType) -> bool {
    matches!(kind, RecordType::AXFR | RecordType::IXFR)
}
