use super::*;
use proptest::prelude::*;

fn net(s: &str) -> IpNet {
    s.parse().unwrap()
}

fn any_net() -> impl Strategy<Value = IpNet> {
    // Few distinct bits, so that random sets do meet each other.
    prop_oneof![
        (any::<u8>(), 0u8..=32).prop_map(|(b, l)| IpNet::new(IpAddr::from([10, b, b, b]), l).unwrap()),
        (any::<u8>(), 0u8..=128).prop_map(|(b, l)| IpNet::new(
            IpAddr::from([0xfd00, u16::from(b), 0, 0, 0, 0, 0, 1]),
            l
        )
        .unwrap()),
    ]
}

#[test]
fn entries_are_named_in_errors() {
    let cases = [
        (
            &["10.1.0.0/16", "10.2.0.1/16"][..],
            "spec.prefixes[1]: \"10.2.0.1/16\" is not valid: it has bits set behind its length; write 10.2.0.0/16",
        ),
        (
            &["10.1.0.0"],
            "spec.prefixes[0]: \"10.1.0.0\" is not valid: it must be written ADDRESS/LENGTH; one address is 10.1.0.0/32",
        ),
        (
            &["fd00::"],
            "spec.prefixes[0]: \"fd00::\" is not valid: it must be written ADDRESS/LENGTH; one address is fd00::/128",
        ),
        (
            &["10.1.0.0/33"],
            "spec.prefixes[0]: \"10.1.0.0/33\" is not valid: it must be written ADDRESS/LENGTH, e.g. 10.1.0.0/16 or fd00:1::/48",
        ),
        (
            &[""],
            "spec.prefixes[0]: \"\" is not valid: it must be written ADDRESS/LENGTH, e.g. 10.1.0.0/16 or fd00:1::/48",
        ),
    ];
    for (input, want) in cases {
        assert_eq!(PrefixSet::parse("spec.prefixes", input).unwrap_err().to_string(), want);
    }
    let set = PrefixSet::parse("f", &["fd00:1::/48", "10.1.0.0/16", "10.1.2.0/24"]).unwrap();
    assert_eq!(set.to_string(), "10.1.0.0/16,fd00:1::/48");
    assert_eq!(set.families(), [IpFamily::V4, IpFamily::V6]);
}

#[test]
fn two_halves_cover_the_whole() {
    let set = PrefixSet::new([net("10.0.0.0/17"), net("10.0.128.0/17")]);
    assert!(set.covers(&net("10.0.0.0/16")) && !set.contains_net(&net("10.0.0.0/16")));
    assert!(!set.covers(&net("10.0.0.0/15")));
}

proptest! {
    #[test]
    fn a_set_is_normal_and_loses_no_address(nets in proptest::collection::vec(any_net(), 0..12), probe in any_net()) {
        let set = PrefixSet::new(nets.clone());
        prop_assert_eq!(set.contains(probe.addr()), nets.iter().any(|n| n.contains(&probe.addr())));
        prop_assert_eq!(set.contains_net(&probe), nets.iter().any(|n| n.contains(&probe)));
        prop_assert_eq!(set.touches(&probe), nets.iter().any(|n| n.contains(&probe.trunc()) || probe.contains(&n.trunc())));
        for (i, a) in set.iter().enumerate() {
            prop_assert_eq!(*a, a.trunc());
            prop_assert!(set.iter().enumerate().all(|(j, b)| i == j || !a.contains(b)));
        }
        let mut shuffled = nets;
        shuffled.reverse();
        prop_assert_eq!(PrefixSet::new(shuffled), set);
    }

    #[test]
    fn overlap_is_symmetric_and_true(a in proptest::collection::vec(any_net(), 0..6), b in proptest::collection::vec(any_net(), 0..6)) {
        let (a, b) = (PrefixSet::new(a), PrefixSet::new(b));
        prop_assert_eq!(a.overlap(&b).is_some(), b.overlap(&a).is_some());
        if let Some((x, y)) = a.overlap(&b) {
            prop_assert!(a.contains_net(&x) && b.contains_net(&y) && (x.contains(&y) || y.contains(&x)));
        }
    }
}
