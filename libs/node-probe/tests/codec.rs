//! Datagrams between processes: what is said arrives, what is tampered with does not.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use hawser_liveness::Time;
use hawser_model::{ClusterId, NodeName};
use hawser_node_probe::{ClusterState, Listener, MAX_DATAGRAM, Message, ProbeKey, Reach, Refused, Speaker, pages};
use proptest::prelude::*;

const NOW: Time = Time::START;

fn state() -> impl Strategy<Value = ClusterState> {
    prop_oneof![
        Just(ClusterState::Live),
        Just(ClusterState::Held),
        Just(ClusterState::Unknown),
        Just(ClusterState::Dark)
    ]
}

fn clusters() -> impl Strategy<Value = Vec<(ClusterId, Reach)>> {
    let reach = (state(), any::<u16>()).prop_map(|(state, mtu)| Reach { state, mtu });
    proptest::collection::vec(("[a-z0-9]{1,63}".prop_map(|s| ClusterId::new(s).unwrap()), reach), 0..60)
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        (any::<u64>(), any::<u64>()).prop_map(|(seq, echo)| Message::Ask { seq, echo }),
        (any::<u64>(), any::<u64>(), any::<bool>(), clusters(), any::<u16>()).prop_map(
            |(seq, version, draining, c, i)| {
                let pages = pages(version, draining, &c);
                Message::Answer { asker: 42, seq, page: pages[usize::from(i) % pages.len()].clone() }
            }
        ),
        (any::<u64>(), any::<bool>(), clusters())
            .prop_map(|(version, draining, c)| Message::Notice { page: pages(version, draining, &c)[0].clone() }),
        Just(Message::GatewayGone),
    ]
}

fn pair() -> (Speaker, Listener) {
    let key = ProbeKey::new(&[9; 32]);
    let label = "a".repeat(63);
    let longest = NodeName::new([label.as_str(), &label, &label, &label[..61]].join(".")).unwrap();
    assert_eq!(longest.as_str().len(), 253);
    (Speaker::new(key.clone(), longest, 7), Listener::new(key, 42))
}

proptest! {
    #[test]
    fn what_is_said_is_heard_once(message in message()) {
        let (mut speaker, mut listener) = pair();
        let datagram = speaker.seal(message.clone());
        prop_assert!(datagram.len() <= MAX_DATAGRAM, "{}", datagram.len());
        let heard = listener.open(&datagram, NOW).unwrap();
        prop_assert_eq!((heard.message, heard.instance, heard.counter), (message, 7, 1));
        prop_assert_eq!(listener.open(&datagram, NOW), Err(Refused::Replayed));
    }

    #[test]
    fn a_changed_or_cut_datagram_is_refused(message in message(), at: prop::sample::Index, flip in 1_u8..=255) {
        let (mut speaker, mut listener) = pair();
        let good = speaker.seal(message);
        let mut bad = good.clone();
        bad[at.index(good.len())] ^= flip;
        prop_assert_eq!(listener.open(&bad, NOW), Err(Refused::Forged));
        prop_assert_eq!(listener.open(&good[..at.index(good.len())], NOW), Err(Refused::Forged));
        prop_assert!(listener.open(&good, NOW).is_ok(), "the real one is unharmed");
    }

    #[test]
    fn garbage_is_refused(data in proptest::collection::vec(any::<u8>(), 0..1500)) {
        let (_, mut listener) = pair();
        let refused = if data.len() > MAX_DATAGRAM { Refused::TooLong } else { Refused::Forged };
        prop_assert_eq!(listener.open(&data, NOW), Err(refused));
    }
}

#[test]
fn the_answer_to_another_asker_or_an_earlier_run_proves_nothing() {
    let (mut speaker, mut listener) = pair();
    let page = pages(1, false, &[])[0].clone();
    let other = speaker.seal(Message::Answer { asker: 41, seq: 1, page: page.clone() });
    assert_eq!(listener.open(&other, NOW), Err(Refused::NotOurs));
    let ours = speaker.seal(Message::Answer { asker: 42, seq: 1, page });
    assert!(listener.open(&ours, NOW).is_ok());
}

#[test]
fn another_clusters_key_is_a_forgery() {
    let (_, mut listener) = pair();
    let mut stranger = Speaker::new(ProbeKey::new(&[8; 32]), NodeName::new("n").unwrap(), 7);
    assert_eq!(listener.open(&stranger.seal(Message::GatewayGone), NOW), Err(Refused::Forged));
}
