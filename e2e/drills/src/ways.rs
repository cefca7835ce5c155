//! Which path each flow takes, as the gateways' own kernels saw it pass: into the tunnel on one side, out of it on the other.
//! A gateway remembers a flow, by the client's port, for [`FRESH`] after each of its packets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result};
use hawser_testbed::Netns;

/// How long a flow counts as on a path after its last packet there: longer than the pause between two of its packets, and what
/// is told is no older.
pub const FRESH: Duration = Duration::from_millis(200);
/// The server's port for numbered packets.
pub const UDP_PORT: u16 = 7;
/// The server's port for connections.
pub const TCP_PORT: u16 = 9;

/// One direction of one path: the gateway that sends and the one that it sends to.
pub type Cell = (String, String);
/// How many flows each cell carries.
pub type Spread = BTreeMap<Cell, usize>;

/// What passed one gateway lately, by the client's port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Passed {
    /// From its site into the tunnel.
    pub sent: BTreeSet<u16>,
    /// Out of the tunnel to its site.
    pub got: BTreeSet<u16>,
}

/// Lets a gateway's kernel remember flows; what its route agent keeps there is another table.
///
/// # Errors
/// When nft refuses.
pub fn remember(gateway: &Netns) -> Result<()> {
    let mut script = String::from("table inet drills {\n");
    for set in ["sent", "got"] {
        let timeout = FRESH.as_millis();
        script +=
            &format!("set {set} {{ type inet_service; flags dynamic,timeout; size 4096; timeout {timeout}ms; }}\n");
    }
    script += "chain passing {\ntype filter hook forward priority -310; policy accept;\n";
    for (device, set) in [("oifname", "sent"), ("iifname", "got")] {
        // The client's port is the source on the way there, the destination on the way back.
        for (servers, clients) in [("dport", "sport"), ("sport", "dport")] {
            script += &format!(
                "{device} \"hawser-tun\" meta l4proto {{ tcp, udp }} th {servers} {{ {UDP_PORT}, {TCP_PORT} }} \
                 update @{set} {{ th {clients} }}\n"
            );
        }
    }
    script += "}\n}\n";
    gateway.nft(&script)?;
    Ok(())
}

/// What passed a gateway within the last [`FRESH`].
///
/// # Errors
/// When nft does not tell.
pub fn passed(gateway: &Netns) -> Result<Passed> {
    let text = gateway.output("nft", &["list", "table", "inet", "drills"], None)?;
    let ports = |set: &str| ports(&text, set).with_context(|| format!("{} does not tell: {text}", gateway.name()));
    Ok(Passed { sent: ports("sent")?, got: ports("got")? })
}

/// The ports in one set of a listed table, whose elements are `20000 expires 168ms, 20007 …`.
fn ports(text: &str, set: &str) -> Option<BTreeSet<u16>> {
    let (_, body) = text.split_once(&format!("set {set} {{"))?;
    let body = &body[..body.find("\n\t}")?];
    let Some((_, elements)) = body.split_once("elements = {") else { return Some(BTreeSet::new()) };
    elements.split(',').map(|element| element.split_whitespace().next()?.parse().ok()).collect()
}

/// How these flows are spread over all cells between two sites' gateways; cells without any are there, too.
#[must_use]
pub fn spread(flows: &[u16], sites: [&[(String, Passed)]; 2]) -> Spread {
    let mut spread = Spread::new();
    for (from, to) in [(sites[0], sites[1]), (sites[1], sites[0])] {
        for (sender, by_sender) in from {
            for (receiver, by_receiver) in to {
                let takes = |port: &&u16| by_sender.sent.contains(port) && by_receiver.got.contains(port);
                spread.insert((sender.clone(), receiver.clone()), flows.iter().filter(takes).count());
            }
        }
    }
    spread
}

/// Whether every path carries at least one flow in both directions.
#[must_use]
pub fn covers(spread: &Spread) -> bool {
    !spread.is_empty() && spread.values().all(|flows| *flows > 0)
}

/// Whether every cell carries as many flows as in `before`: flows are of one rate, so that these are its shares of all packets.
#[must_use]
pub fn is_like(spread: &Spread, before: &Spread) -> bool {
    spread == before
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = "table inet drills {\n\tset sent {\n\t\ttype inet_service\n\t\tsize 4096\n\t\tflags dynamic,timeout\n\
        \t\ttimeout 200ms\n\t\telements = { 20000 expires 168ms, 20007 timeout 200ms expires 4ms,\n\t\t\t     20014 expires 1ms }\n\
        \t}\n\n\tset got {\n\t\ttype inet_service\n\t\tflags dynamic,timeout\n\t}\n}\n";

    #[test]
    fn listed_ports_are_read_and_an_empty_set_is_none() {
        assert_eq!(ports(LISTED, "sent"), Some(BTreeSet::from([20_000, 20_007, 20_014])));
        assert_eq!(ports(LISTED, "got"), Some(BTreeSet::new()));
        assert_eq!(ports("", "got"), None, "no such set is no answer");
        assert_eq!(ports("set got {\n\t\telements = { x }\n\t}", "got"), None, "no port is no answer");
    }

    #[test]
    fn a_flow_counts_where_both_ends_saw_it_that_way() {
        let gateway = |name: &str, sent: &[u16], got: &[u16]| {
            (name.to_owned(), Passed { sent: sent.iter().copied().collect(), got: got.iter().copied().collect() })
        };
        let east = [gateway("e1", &[1, 2], &[3]), gateway("e2", &[3, 4], &[1, 2, 4])];
        let west = [gateway("w1", &[1, 2, 3], &[1, 3]), gateway("w2", &[4], &[2, 4])];
        let spread = |flows: &[u16]| spread(flows, [&east, &west]);
        let all = spread(&[1, 2, 3, 4]);
        let count = |from: &str, to: &str| all[&(from.to_owned(), to.to_owned())];
        assert_eq!([count("e1", "w1"), count("e1", "w2"), count("e2", "w1"), count("e2", "w2")], [1, 1, 1, 1]);
        assert_eq!([count("w1", "e1"), count("w1", "e2"), count("w2", "e1"), count("w2", "e2")], [1, 2, 0, 1]);
        assert!(!covers(&all), "nothing comes back from w2 to e1");
        assert_eq!(spread(&[1]).values().sum::<usize>(), 2, "other flows are not counted");
        assert!(!covers(&Spread::new()));
    }
}
