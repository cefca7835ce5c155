use super::*;
use crate::ClusterId;
use crate::export::{ExportHeader, InternalTrafficPolicy, SessionAffinity, Timestamp};
use crate::merge::merge;
use proptest::prelude::*;
use std::collections::BTreeMap;

const V4: IpFamily = IpFamily::V4;
const V6: IpFamily = IpFamily::V6;

fn import(kind: ServiceKind, families: &[IpFamily]) -> Import {
    let header = ExportHeader {
        cluster: ClusterId::new("west").unwrap(),
        service: web(),
        created: Timestamp(0),
        kind,
        ports: Vec::new(),
        session_affinity: SessionAffinity::None,
        session_affinity_timeout: None,
        internal_traffic_policy: InternalTrafficPolicy::Cluster,
        traffic_distribution: None,
        ip_families: families.to_vec(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    };
    merge(&[header]).unwrap().import
}

fn web() -> ServiceName {
    ServiceName::new("shop", "web").unwrap()
}

fn nets(s: &[&str]) -> Vec<IpNet> {
    s.iter().map(|s| s.parse().unwrap()).collect()
}

fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}

#[test]
fn families_served() {
    let vip = ServiceKind::ClusterSetIp;
    let ips: &[IpAddr] = &[ip("10.96.0.9"), ip("fd00:96::9")];
    let rows: Vec<String> = [
        (vip, &[V4][..], &[V4][..], &ips[..1]),
        (vip, &[V4, V6], &[V4, V6], ips),
        (vip, &[V6, V4], &[V4, V6], ips),
        (vip, &[V4, V6], &[V4, V6], &ips[..1]),
        (vip, &[V4, V6], &[V4], &ips[..1]),
        (vip, &[V6], &[V4], &[]),
        (vip, &[V4, V6], &[], &[]),
        (ServiceKind::Headless, &[V4, V6], &[V6], &[]),
        (ServiceKind::Headless, &[V4], &[V6], &[]),
    ]
    .into_iter()
    .map(|(kind, families, local, ips)| {
        let l = localise(&import(kind, families), local);
        let ready = l.ready(ips);
        format!(
            "{} {families:?} in {local:?} with {ips:?}: serves {:?}, VIPs {:?}; Ready={} {}: {}",
            kind.as_str(),
            l.ip_families,
            l.vips,
            ready.ready,
            ready.reason,
            ready.message
        )
    })
    .collect();
    insta::assert_snapshot!(rows.join("\n"));
}

#[test]
fn a_service_has_its_usual_address() {
    // Fixed: a change of these would move the addresses of running sites.
    let none = BTreeSet::new();
    assert_eq!(allocate_vip(nets(&["10.96.0.0/16"])[0], &none, &web()), Some(ip("10.96.250.83")));
    assert_eq!(allocate_vip(nets(&["fd00:96::/112"])[0], &none, &web()), Some(ip("fd00:96::dd44")));
}

#[test]
fn a_full_prefix_has_none() {
    let prefix = nets(&["192.0.2.0/29"])[0];
    let mut taken = BTreeSet::new();
    while let Some(vip) = allocate_vip(prefix, &taken, &web()) {
        assert!(taken.insert(vip));
    }
    // Not .0, .1 and .7.
    assert_eq!(taken.into_iter().collect::<Vec<_>>(), (2..=6).map(|i| ip(&format!("192.0.2.{i}"))).collect::<Vec<_>>());
    for small in ["192.0.2.0/31", "192.0.2.0/32", "2001:db8::/127", "2001:db8::/128"] {
        assert_eq!(allocate_vip(nets(&[small])[0], &BTreeSet::new(), &web()), None, "{small}");
    }
}

#[test]
fn addresses_are_kept_and_errors_say_what_to_do() {
    let prefixes = nets(&["192.0.2.0/30", "10.96.0.0/24", "fd00:96::/64"]);
    let current = [ip("fd00:96::5"), ip("10.96.0.200")];
    let taken = BTreeSet::from(current);
    assert_eq!(assign_vips(&[V4, V6], &prefixes, &current, &taken, &web()), Ok(vec![current[1], current[0]]));
    // An address of a prefix that is gone is replaced; a full prefix is passed over.
    let taken = BTreeSet::from([ip("192.0.2.2")]);
    let moved = assign_vips(&[V4], &prefixes, &[ip("172.16.0.9")], &taken, &web()).unwrap();
    assert!(prefixes[1].contains(&moved[0]), "{moved:?}");
    assert_eq!(
        assign_vips(&[V4, V6], &prefixes[..1], &[], &BTreeSet::new(), &web()).unwrap_err().to_string(),
        "no IPv6 address is free for shop/web: Membership spec.vipPrefixes has no prefix of this family; add one"
    );
    assert_eq!(
        assign_vips(&[V4], &prefixes[..1], &[], &taken, &web()).unwrap_err().to_string(),
        "no IPv4 address is free for shop/web: Membership spec.vipPrefixes has no address left; add a prefix or widen one"
    );
}

proptest! {
    #[test]
    fn a_vip_is_free_inside_and_no_special_address(
        len in 20u8..=30, name in "[a-z]{1,8}", taken in proptest::collection::btree_set(0u32..32, 0..32)
    ) {
        let prefix = IpNet::new(ip("10.96.0.0"), len).unwrap();
        let taken: BTreeSet<IpAddr> = taken.into_iter().map(|i| Ipv4Addr::from_bits(0x0a60_0000 + i).into()).collect();
        let service = ServiceName::new("ns", &name).unwrap();
        match allocate_vip(prefix, &taken, &service) {
            Some(vip) => {
                prop_assert!(prefix.contains(&vip) && !taken.contains(&vip));
                prop_assert!(vip != prefix.network() && vip != prefix.broadcast() && vip != ip("10.96.0.1"));
            }
            None => prop_assert!(prefix.hosts().skip(1).all(|h| taken.contains(&h))),
        }
    }

    #[test]
    fn wide_ipv6_prefixes_work(len in 0u8..=126, name in "[a-z]{1,8}") {
        let prefix = IpNet::new(ip("fd00:96::"), len).unwrap().trunc();
        let vip = allocate_vip(prefix, &BTreeSet::new(), &ServiceName::new("ns", &name).unwrap()).unwrap();
        prop_assert!(prefix.contains(&vip) && vip != prefix.network());
    }
}
