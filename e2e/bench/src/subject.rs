//! What is measured against what.

use std::fmt;
use std::str::FromStr;

use hawser_model::IpFamily;

/// An implementation between two hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// `hawser-gateway` with that many lanes on each side.
    Hawser(u8),
    /// The same from another build: what a change gains.
    OtherHawser(u8),
    /// `wireguard-go`, built from its current module.
    WireguardGo,
    /// `hawser-gateway` with that many lanes, of IPv6 inside and outside.
    HawserV6(u8),
    /// `wireguard-go` in the same way.
    WireguardGoV6,
    /// `gotatun-cli`.
    Gotatun,
    /// `boringtun-cli`.
    Boringtun,
    /// Nothing between the hosts: the wire itself.
    Raw,
    /// `hawser-gateway` with that many lanes and a thousand idle peers beside the active one, which answer its probes.
    Crowded(u8),
    /// The same, where each of them also probes by itself once a second.
    Asked(u8),
    /// From pod to pod over all hops, through the tunnel.
    Chain,
    /// The same hops without the tunnel.
    BareChain,
    /// A peer of a gateway of that many lanes that also has another, which sends at full speed.
    Shared(u8),
    /// The same peer by a gateway of its own, beside that load.
    Apart(u8),
    /// Gateways of that many lanes, one of which is flooded with handshakes.
    Flooded(u8),
    /// The same beside the same flood to a socket that discards it.
    Discarding(u8),
}

impl Subject {
    /// Those that every measure between two hosts takes in turn.
    pub const ALL: [Self; 6] =
        [Self::Hawser(1), Self::Hawser(2), Self::WireguardGo, Self::Gotatun, Self::Boringtun, Self::Raw];
    /// Those that are measured over and inside IPv6.
    pub const V6: [Self; 2] = [Self::HawserV6(1), Self::WireguardGoV6];
    /// Another build's, beside those.
    pub const OTHER: [Self; 2] = [Self::OtherHawser(1), Self::OtherHawser(2)];
}

impl Subject {
    /// The family inside and outside.
    #[must_use]
    pub fn family(self) -> IpFamily {
        match self {
            Self::HawserV6(_) | Self::WireguardGoV6 => IpFamily::V6,
            _ => IpFamily::V4,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hawser(lanes) => write!(f, "hawser-{lanes}"),
            Self::OtherHawser(lanes) => write!(f, "other-hawser-{lanes}"),
            Self::WireguardGo => f.write_str("wireguard-go"),
            Self::HawserV6(lanes) => write!(f, "hawser-{lanes}-v6"),
            Self::WireguardGoV6 => f.write_str("wireguard-go-v6"),
            Self::Gotatun => f.write_str("gotatun"),
            Self::Boringtun => f.write_str("boringtun-cli"),
            Self::Raw => f.write_str("raw"),
            Self::Crowded(lanes) => write!(f, "hawser-{lanes}-crowd"),
            Self::Asked(lanes) => write!(f, "hawser-{lanes}-asked"),
            Self::Chain => f.write_str("chain"),
            Self::BareChain => f.write_str("chain-vxlan"),
            Self::Shared(lanes) => write!(f, "hawser-{lanes}-shared"),
            Self::Apart(lanes) => write!(f, "hawser-{lanes}-apart"),
            Self::Flooded(lanes) => write!(f, "hawser-{lanes}-flooded"),
            Self::Discarding(lanes) => write!(f, "hawser-{lanes}-discarding"),
        }
    }
}

impl FromStr for Subject {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let mut known = Self::ALL.into_iter().chain(Self::OTHER);
        known.find(|subject| subject.to_string() == name).ok_or_else(|| {
            let names: Vec<String> = Self::ALL.into_iter().chain(Self::OTHER).map(|s| s.to_string()).collect();
            format!("must be one of {}", names.join(", "))
        })
    }
}
