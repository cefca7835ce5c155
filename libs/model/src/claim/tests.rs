use super::*;
use proptest::prelude::*;

fn set(s: &[&str]) -> PrefixSet {
    PrefixSet::parse("prefixes", s).unwrap()
}

fn verdict(policy: &PrefixPolicy, prefix: &str) -> String {
    policy.check(&set(&[prefix])).map_or_else(|e| e.rule, |()| "ok".to_owned())
}

#[test]
fn claims() {
    let default = PrefixPolicy::default();
    let rows = [
        ("10.0.0.0/8", "ok"),
        ("10.1.0.0/16", "ok"),
        ("100.64.0.0/10", "ok"),
        ("192.0.2.1/32", "ok"),
        ("2001:db8::/32", "ok"),
        ("fd00:1::/48", "ok"),
        ("64:ff9b:1::/48", "ok"),
        ("0.0.0.0/0", "a default route can't be claimed"),
        ("::/0", "a default route can't be claimed"),
        ("0.0.0.0/1", "it holds addresses of \"this network\" (0.0.0.0/8)"),
        ("128.0.0.0/1", "it holds link-local and metadata addresses (169.254.0.0/16)"),
        ("0.1.2.0/24", "it holds addresses of \"this network\" (0.0.0.0/8)"),
        ("127.0.0.1/32", "it holds loopback addresses (127.0.0.0/8)"),
        ("126.0.0.0/7", "it holds loopback addresses (127.0.0.0/8)"),
        ("169.254.169.254/32", "it holds link-local and metadata addresses (169.254.0.0/16)"),
        ("224.0.0.0/24", "it holds multicast addresses (224.0.0.0/4)"),
        ("255.255.255.255/32", "it holds reserved and broadcast addresses (240.0.0.0/4)"),
        ("::/128", "it holds the unspecified, loopback and IPv4-compatible addresses (::/96)"),
        ("::1/128", "it holds the unspecified, loopback and IPv4-compatible addresses (::/96)"),
        ("::/32", "it holds the unspecified, loopback and IPv4-compatible addresses (::/96)"),
        ("::ffff:10.1.0.0/112", "it holds IPv4-mapped addresses (::ffff:0:0/96)"),
        ("64:ff9b::/96", "it holds the well-known NAT64 prefix (64:ff9b::/96)"),
        ("fe80::/64", "it holds link-local addresses (fe80::/10)"),
        ("ff02::/16", "it holds multicast addresses (ff00::/8)"),
        ("10.0.0.0/7", "it is wider than /8, the widest IPv4 prefix this cluster may claim"),
        ("2001:d00::/24", "it is wider than /32, the widest IPv6 prefix this cluster may claim"),
    ];
    for (prefix, want) in rows {
        assert_eq!(verdict(&default, prefix), want, "{prefix}");
    }
}

#[test]
fn claims_inside_a_token() {
    let policy =
        PrefixPolicy { within: set(&["10.1.0.0/17", "10.1.128.0/17", "fd00:1::/48"]), ..PrefixPolicy::default() };
    for prefix in ["10.1.0.0/16", "10.1.2.0/24", "fd00:1:0:2::/64"] {
        assert_eq!(verdict(&policy, prefix), "ok");
    }
    for prefix in ["10.0.0.0/15", "10.2.0.0/24", "fd00:2::/64"] {
        assert_eq!(
            verdict(&policy, prefix),
            "it is not inside 10.1.0.0/17,10.1.128.0/17,fd00:1::/48, which this cluster's token allows"
        );
    }
}

#[test]
fn a_claim_is_bounded() {
    let many: PrefixSet = (0..=MAX_PREFIXES).map(|i| v4([10, (i >> 8) as u8, i as u8, 0], 24)).collect();
    assert_eq!(
        PrefixPolicy::default().check(&many).unwrap_err().rule,
        "a cluster claims at most 4096 prefixes, this one 4097"
    );
}

#[test]
fn overlap_names_the_other_cluster() {
    let (west, east) = (ClusterId::new("west").unwrap(), ClusterId::new("east").unwrap());
    let (w, e) = (set(&["10.1.0.0/16", "fd00:1::/48"]), set(&["10.2.0.0/16", "fd00:2::/48"]));
    assert_eq!(check_overlap(&west, &w, [(&west, &w), (&east, &e)]), Ok(()));
    let error = check_overlap(&west, &set(&["10.2.3.0/24"]), [(&east, &e)]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "prefix 10.2.3.0/24 is refused: it shares addresses with 10.2.0.0/16 of cluster \"east\""
    );
    assert_eq!(error.remedy, "use prefixes that no other cluster of the set uses");
}

proptest! {
    #[test]
    fn nothing_allowed_holds_an_unroutable_address(bits in any::<u128>(), v4_bits in any::<u32>(), len in 0u8..=128, six in any::<bool>()) {
        let net = if six {
            IpNet::new(Ipv6Addr::from(bits).into(), len).unwrap()
        } else {
            IpNet::new(Ipv4Addr::from(v4_bits).into(), len % 33).unwrap()
        };
        let claim = PrefixSet::new([net]);
        let policy = PrefixPolicy { widest_v4: 0, widest_v6: 0, ..PrefixPolicy::default() };
        if policy.check(&claim).is_ok() {
            prop_assert!(is_routable(net.network()) && is_routable(net.broadcast()));
            prop_assert!(FORBIDDEN.iter().all(|(f, _)| !net.contains(f)));
        }
    }

    #[test]
    fn width_is_the_policy_s(len in 1u8..=32, widest in 0u8..=32) {
        let policy = PrefixPolicy { widest_v4: widest, ..PrefixPolicy::default() };
        let net = IpNet::new(Ipv4Addr::new(10, 0, 0, 0).into(), len).unwrap().trunc();
        let holds_zero = FORBIDDEN[0].0.contains(&net) || net.contains(&FORBIDDEN[0].0) || net.contains(&FORBIDDEN[1].0);
        prop_assert_eq!(policy.check(&PrefixSet::new([net])).is_ok(), len >= widest && !holds_zero);
    }
}
