//! What a queried name means in the zone.

use hawser_model::defaults::CLUSTERSET_ZONE;
use hawser_model::export::Protocol;
use hickory_proto::rr::Name;

/// A name at or below the zone. Labels are lower case.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning<'a> {
    /// The zone itself.
    Apex,
    /// `dns-version`.
    Version,
    /// `ns.dns`.
    Nameserver,
    /// `dns`, `svc` or `pod`: names that only have names below.
    Branch,
    /// `<namespace>.svc`.
    Namespace { namespace: &'a str },
    /// `<service>.<namespace>.svc`.
    Service { namespace: &'a str, service: &'a str },
    /// `_<port>._<protocol>.<service>.<namespace>.svc`.
    Port { namespace: &'a str, service: &'a str, protocol: Protocol, port: &'a str },
    /// `<hostname>.<cluster>.<service>.<namespace>.svc`.
    Host { namespace: &'a str, service: &'a str, cluster: &'a str, host: &'a str },
    /// Any other: there is no such name.
    Nothing,
}

/// A queried name at or below the zone, split.
#[derive(Debug)]
pub(crate) struct ZoneName {
    /// The labels left of the zone, lower case, the leftmost first.
    labels: Vec<String>,
    /// The zone, spelt as in the query: answers keep its case.
    pub(crate) zone: Name,
}

impl ZoneName {
    /// Splits `name`; none if it is not in the zone.
    pub(crate) fn split(name: &Name) -> Option<Self> {
        let labels: Vec<&[u8]> = name.iter().collect();
        let zone_labels = CLUSTERSET_ZONE.split('.').count();
        let (left, zone) = labels.split_at_checked(labels.len().checked_sub(zone_labels)?)?;
        if !zone.iter().zip(CLUSTERSET_ZONE.split('.')).all(|(label, want)| label.eq_ignore_ascii_case(want.as_bytes()))
        {
            return None;
        }
        let zone = Name::from_labels(zone.iter().copied()).ok()?;
        // Bytes that are no text never equal a label of ours.
        let lower = |label: &&[u8]| String::from_utf8_lossy(label).to_ascii_lowercase();
        Some(Self { labels: left.iter().map(lower).collect(), zone })
    }

    pub(crate) fn meaning(&self) -> Meaning<'_> {
        let labels: Vec<&str> = self.labels.iter().map(String::as_str).collect();
        match labels.as_slice() {
            [] => Meaning::Apex,
            ["dns-version"] => Meaning::Version,
            ["ns", "dns"] => Meaning::Nameserver,
            ["dns" | "svc" | "pod"] => Meaning::Branch,
            [namespace, "svc"] => Meaning::Namespace { namespace },
            [service, namespace, "svc"] => Meaning::Service { namespace, service },
            [first, second, service, namespace, "svc"] => match (first.strip_prefix('_'), second.strip_prefix('_')) {
                (Some(port), Some(protocol)) => match protocol_of(protocol) {
                    Some(protocol) => Meaning::Port { namespace, service, protocol, port },
                    None => Meaning::Nothing,
                },
                (None, None) => Meaning::Host { namespace, service, cluster: second, host: first },
                (Some(_), None) | (None, Some(_)) => Meaning::Nothing,
            },
            _ => Meaning::Nothing,
        }
    }
}

fn protocol_of(label: &str) -> Option<Protocol> {
    match label {
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        "sctp" => Some(Protocol::Sctp),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::str::FromStr;

    fn split(name: &str) -> Option<ZoneName> {
        ZoneName::split(&Name::from_str(name).unwrap())
    }

    #[test]
    fn other_zones_are_not_ours() {
        for name in [
            ".",
            "local.",
            "cluster.local.",
            "web.shop.svc.cluster.local.",
            "clusterset.local.example.",
            "xclusterset.local.",
        ] {
            assert!(split(name).is_none(), "{name}");
        }
    }

    #[test]
    fn meanings() {
        let rows = [
            ("", Meaning::Apex),
            ("dns-version.", Meaning::Version),
            ("ns.dns.", Meaning::Nameserver),
            ("svc.", Meaning::Branch),
            ("pod.", Meaning::Branch),
            ("foo.", Meaning::Nothing),
            ("10-1-0-1.shop.pod.", Meaning::Nothing),
            ("Shop.SVC.", Meaning::Namespace { namespace: "shop" }),
            ("web.shop.svc.", Meaning::Service { namespace: "shop", service: "web" }),
            ("east.web.shop.svc.", Meaning::Nothing),
            ("_tcp.web.shop.svc.", Meaning::Nothing),
            (
                "_Http._TCP.web.shop.svc.",
                Meaning::Port { namespace: "shop", service: "web", protocol: Protocol::Tcp, port: "http" },
            ),
            ("_http._quic.web.shop.svc.", Meaning::Nothing),
            ("http._tcp.web.shop.svc.", Meaning::Nothing),
            (
                "web-0.east.web.shop.svc.",
                Meaning::Host { namespace: "shop", service: "web", cluster: "east", host: "web-0" },
            ),
            ("x.web-0.east.web.shop.svc.", Meaning::Nothing),
            ("us-west-2a.pin._zone.web.shop.svc.", Meaning::Nothing),
        ];
        for (name, want) in rows {
            let name = format!("{name}{CLUSTERSET_ZONE}.");
            assert_eq!(split(&name).unwrap().meaning(), want, "{name}");
        }
    }
}
