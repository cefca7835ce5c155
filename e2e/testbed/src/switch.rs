//! A bridge in a namespace of its own: the wire between hosts, and the place where faults are made.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Result;

use crate::Netns;

/// A fault on a switch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// Nothing from or to a port, without a word.
    Isolated(String),
    /// Nothing from one port to another; the other way is fine.
    BlackHole(String, String),
    /// A share of all frames is lost, in per mille.
    Loss(u32),
}

/// A switch. Ports are named after hosts.
pub struct Switch {
    ns: Netns,
    faults: Mutex<BTreeSet<Fault>>,
    slowed: Mutex<BTreeSet<String>>,
}

impl Switch {
    /// Makes a switch without ports.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new(name: &str) -> Result<Self> {
        let ns = Netns::new(name, None)?;
        ns.sysctl("ipv6/conf/default/disable_ipv6", "1")?;
        ns.ip("link add br0 type bridge stp_state 0 mcast_snooping 0")?;
        ns.ip("link set br0 up")?;
        Ok(Self { ns, faults: Mutex::default(), slowed: Mutex::default() })
    }

    /// The namespace, e.g. for captures on `br0`.
    #[must_use]
    pub fn ns(&self) -> &Netns {
        &self.ns
    }

    /// Plugs `host` in: a device `dev` there, a port of the host's name here.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn plug(&self, host: &Netns, dev: &str, mtu: u32) -> Result<()> {
        let port = port_name(host.name());
        let there = host.path();
        self.ns.ip(&format!(
            "link add name {port} mtu {mtu} type veth peer name {dev} mtu {mtu} netns {}",
            there.display()
        ))?;
        self.ns.ip(&format!("link set dev {port} master br0 up"))?;
        host.ip(&format!("link set {dev} up"))?;
        Ok(())
    }

    /// Cuts a host off: no frame passes, no carrier is lost, nobody is told.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn isolate(&self, host: &str) -> Result<()> {
        self.add(Fault::Isolated(port_name(host)))
    }

    /// Loses every frame from one host to another; the way back stays.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn black_hole(&self, from: &str, to: &str) -> Result<()> {
        self.add(Fault::BlackHole(port_name(from), port_name(to)))
    }

    /// Ends what [`Self::black_hole`] began, that way only.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn mend(&self, from: &str, to: &str) -> Result<()> {
        self.faults.lock().expect("no holder panics").remove(&Fault::BlackHole(port_name(from), port_name(to)));
        self.load()
    }

    /// Loses a share of all frames at random.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn loss(&self, per_mille: u32) -> Result<()> {
        self.add(Fault::Loss(per_mille))
    }

    /// Lets no more than `kbit` per second through to a host: frames queue for up to `queue`, the rest is lost.
    ///
    /// # Errors
    /// When tc refuses.
    pub fn slow(&self, to: &str, kbit: u32, queue: Duration) -> Result<()> {
        let port = port_name(to);
        let line =
            format!("qdisc replace dev {port} root tbf rate {kbit}kbit burst 8kb latency {}ms", queue.as_millis());
        self.ns.output("tc", &line.split(' ').collect::<Vec<_>>(), None)?;
        self.slowed.lock().expect("no holder panics").insert(port);
        Ok(())
    }

    /// Ends all faults.
    ///
    /// # Errors
    /// When nft or tc refuses.
    pub fn heal(&self) -> Result<()> {
        self.faults.lock().expect("no holder panics").clear();
        for port in std::mem::take(&mut *self.slowed.lock().expect("no holder panics")) {
            self.ns.output("tc", &["qdisc", "del", "dev", &port, "root"], None)?;
        }
        self.load()
    }

    fn add(&self, fault: Fault) -> Result<()> {
        self.faults.lock().expect("no holder panics").insert(fault);
        self.load()
    }

    fn load(&self) -> Result<()> {
        let mut script = String::from("table bridge faults\ndelete table bridge faults\ntable bridge faults {\n");
        script.push_str("chain forward {\ntype filter hook forward priority 0; policy accept;\n");
        for fault in self.faults.lock().expect("no holder panics").iter() {
            let line = match fault {
                Fault::Isolated(port) => format!("iifname {port:?} drop\noifname {port:?} drop"),
                Fault::BlackHole(from, to) => format!("iifname {from:?} oifname {to:?} drop"),
                // What looks for neighbours stays on their own link, where a WAN loses nothing.
                Fault::Loss(share) => format!(
                    "meta l4proto != icmpv6 ether type {{ ip, ip6 }} numgen random mod 1000 < {share} drop\n\
                     ether type ip6 icmpv6 type != {{ 133-137 }} numgen random mod 1000 < {share} drop"
                ),
            };
            writeln!(script, "{line}")?;
        }
        script.push_str("}\n}\n");
        self.ns.nft(&script)?;
        Ok(())
    }
}

/// Device names hold 15 bytes; hosts of one switch differ in their last ones.
fn port_name(host: &str) -> String {
    let name: String = host.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    name[name.len().saturating_sub(14)..].to_owned()
}
