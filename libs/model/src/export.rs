//! Exported services: the header that merging needs, and the endpoints that traffic needs.
//!
//! What makes one valid is in [`crate::validate`]; what follows from all exports of a name is in [`crate::merge`].

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use crate::{ClusterId, IpFamily, ServiceName};

/// Whether an export has a cluster-set IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceKind {
    /// Reached by one virtual address per family.
    ClusterSetIp,
    /// Reached by its endpoints' own addresses.
    Headless,
}

impl ServiceKind {
    /// As Kubernetes writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterSetIp => "ClusterSetIP",
            Self::Headless => "Headless",
        }
    }

    /// Reads what Kubernetes writes.
    #[must_use]
    pub fn parse(s: &str) -> Option<Self> {
        match s {
            "ClusterSetIP" => Some(Self::ClusterSetIp),
            "Headless" => Some(Self::Headless),
            _ => None,
        }
    }
}

/// A transport protocol of a Service port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Protocol {
    /// As Kubernetes writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }

    /// The IP protocol number.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// Reads what Kubernetes writes; nothing means TCP.
    #[must_use]
    pub fn parse(s: &str) -> Option<Self> {
        match s {
            "" | "TCP" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            "SCTP" => Some(Self::Sctp),
            _ => None,
        }
    }
}

/// A port of an exported Service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServicePort {
    /// Its name; empty where the Service has a single unnamed port.
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// The application protocol hint, if any.
    pub app_protocol: Option<String>,
    /// Its number.
    pub port: u16,
}

/// Session affinity of an exported Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SessionAffinity {
    /// None.
    None,
    /// By client address.
    ClientIp,
}

impl SessionAffinity {
    /// As Kubernetes writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::ClientIp => "ClientIP",
        }
    }

    /// Reads what Kubernetes writes.
    #[must_use]
    pub fn parse(s: &str) -> Option<Self> {
        match s {
            "None" => Some(Self::None),
            "ClientIP" => Some(Self::ClientIp),
            _ => None,
        }
    }
}

/// Internal traffic policy of an exported Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InternalTrafficPolicy {
    /// All endpoints.
    Cluster,
    /// Endpoints of the client's own node only.
    Local,
}

impl InternalTrafficPolicy {
    /// As Kubernetes writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "Cluster",
            Self::Local => "Local",
        }
    }

    /// Reads what Kubernetes writes.
    #[must_use]
    pub fn parse(s: &str) -> Option<Self> {
        match s {
            "Cluster" => Some(Self::Cluster),
            "Local" => Some(Self::Local),
            _ => None,
        }
    }
}

/// Milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// What merging an export needs (KEP-1645): everything of a Service but its endpoints.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExportHeader {
    /// The exporting cluster.
    pub cluster: ClusterId,
    /// The service.
    pub service: ServiceName,
    /// When it was exported, clamped by its first reader; the older export wins a conflict.
    pub created: Timestamp,
    /// Headless or not.
    pub kind: ServiceKind,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// Session affinity.
    pub session_affinity: SessionAffinity,
    /// `sessionAffinityConfig.clientIP.timeoutSeconds`.
    pub session_affinity_timeout: Option<u32>,
    /// Internal traffic policy.
    pub internal_traffic_policy: InternalTrafficPolicy,
    /// Traffic distribution hint, if any.
    pub traffic_distribution: Option<String>,
    /// Families of its endpoints.
    pub ip_families: Vec<IpFamily>,
    /// `spec.exportedLabels`.
    pub labels: BTreeMap<String, String>,
    /// `spec.exportedAnnotations`.
    pub annotations: BTreeMap<String, String>,
}

/// A port of a group of endpoints.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointPort {
    /// The port's name, as in the Service.
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// The application protocol hint, if any.
    pub app_protocol: Option<String>,
    /// The number that the endpoint listens on.
    pub port: u16,
    /// The source Service's number for it; none where the Service is headless and has no such port.
    pub service_port: Option<u16>,
}

/// One endpoint of an export.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Its addresses, all of the group's family; any is as good as another.
    pub addresses: Vec<IpAddr>,
    /// Its hostname, if it has one.
    pub hostname: Option<String>,
    /// Its zone, if known.
    pub zone: Option<String>,
    /// Whether it takes new traffic.
    pub ready: bool,
    /// Whether it can serve, ready or terminating.
    pub serving: bool,
    /// Whether it is going away.
    pub terminating: bool,
}

/// Endpoints of one family that share ports: one endpoint slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointGroup {
    /// The family of all addresses.
    pub family: IpFamily,
    /// The ports of every endpoint of it.
    pub ports: Vec<EndpointPort>,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// Where an export's traffic goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportEndpoints {
    /// The exporting cluster.
    pub cluster: ClusterId,
    /// The service.
    pub service: ServiceName,
    /// The endpoints, grouped.
    pub groups: Vec<EndpointGroup>,
}
