//! What route agents hear, on a device of the responder's own.

use super::*;

use hawser_liveness::{ClusterState, Time};
use hawser_testbed::Netns;

const LIMIT: Duration = Duration::from_secs(20);

fn status(state: ClusterState) -> Arc<Vec<ClusterStatus>> {
    Arc::new(vec![ClusterStatus {
        id: ClusterId::new("east").unwrap(),
        generation: 1,
        state,
        since: std::time::SystemTime::UNIX_EPOCH,
        reason: String::new(),
        live_paths: 0,
        total_paths: 1,
        mtu: 1420,
        last_failover: None,
    }])
}

/// What the next notice that says something else says of `east`, and whether the gateway is draining.
async fn hear(ear: &UdpSocket, listener: &mut Listener, last: &mut (ClusterState, bool)) {
    let mut buffer = [0; MAX_DATAGRAM];
    let before = *last;
    while *last == before {
        let heard = tokio::time::timeout(LIMIT, ear.recv_from(&mut buffer)).await;
        let (len, _) = heard.unwrap_or_else(|_| panic!("nothing else after {before:?}")).unwrap();
        let said = listener.open(&buffer[..len], Time::START).unwrap();
        let Message::Notice { page } = said.message else { panic!("{said:?}") };
        *last = (page.clusters[0].1.state, page.draining);
    }
}

async fn tells_by_itself() {
    let (key, node) = (ProbeKey::new(&[7; 32]), NodeName::new("w1").unwrap());
    let (say, said) = watch::channel(Arc::new(Said { draining: false, nodes: vec![node.clone()] }));
    let (state, states) = watch::channel(status(ClusterState::Live));
    let ear = UdpSocket::bind(("::", NODE_NOTICE_PORT)).await.unwrap();
    let mut listener = Listener::new(key.clone(), 1);
    let responder = Responder::new(&key, node.clone(), said, states, Counts::default());
    let running = tokio::spawn(responder.run());
    let mut last = (ClusterState::Unknown, false);
    hear(&ear, &mut listener, &mut last).await;
    for next in [ClusterState::Dark, ClusterState::Live] {
        state.send_replace(status(next));
        hear(&ear, &mut listener, &mut last).await;
        assert_eq!(last, (next, false));
    }
    drop(state);
    say.send_replace(Arc::new(Said { draining: true, nodes: vec![node] }));
    hear(&ear, &mut listener, &mut last).await;
    assert_eq!(last, (ClusterState::Live, true), "the tunnel's last word, once it ended");
    running.abort();
}

#[test]
fn what_the_tunnel_tells_goes_on_to_the_nodes_while_the_gateway_says_nothing() {
    let host = Netns::new("said", None).unwrap();
    host.ip(&format!("link add {VXLAN_DEVICE} type veth peer name other")).unwrap();
    host.ip("link set other up").unwrap();
    host.ip(&format!("link set {VXLAN_DEVICE} up")).unwrap();
    let own = link_local(&NodeName::new("w1").unwrap());
    host.ip(&format!("address add {own}/64 dev {VXLAN_DEVICE} nodad")).unwrap();
    host.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(tells_by_itself());
    });
}
