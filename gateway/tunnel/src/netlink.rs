//! The TUN's side in the kernel: up, MTU, the node's own addresses, routes of remote prefixes. Converged by difference;
//! nothing that does not point at our device is looked at.

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures::TryStreamExt as _;
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};

use crate::udp::SEGMENTS_MAX;

/// A kernel request that failed.
#[derive(Debug, thiserror::Error)]
#[error("{action} failed: {source}")]
pub struct NetlinkError {
    /// What was asked, with its object.
    pub action: String,
    /// The kernel's answer.
    #[source]
    pub source: rtnetlink::Error,
}

/// A route into the TUN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Route {
    pub(crate) prefix: IpNet,
    pub(crate) table: u32,
    pub(crate) metric: u32,
    pub(crate) mtu: u16,
}

/// What the kernel shall have for the TUN.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Desired {
    pub(crate) mtu: u16,
    pub(crate) addresses: BTreeSet<IpAddr>,
    pub(crate) routes: BTreeSet<Route>,
}

/// A handle on one device.
pub(crate) struct Device {
    handle: Handle,
    index: u32,
    /// What was last asked for and done without an error.
    applied: Option<Desired>,
    connection: tokio::task::JoinHandle<()>,
}

impl Drop for Device {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

fn failed(action: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> NetlinkError {
    let action = action.into();
    move |source| NetlinkError { action, source }
}

impl Device {
    /// Opens a netlink socket in this thread's network namespace and finds the device.
    pub(crate) fn open(name: &str) -> std::io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        let index = nix::net::if_::if_nametoindex(name)?;
        Ok(Self { handle, index, applied: None, connection: tokio::spawn(connection) })
    }

    /// The MTU of another device, `u16::MAX` where there is none; `None` when the kernel does not say.
    pub(crate) async fn mtu_of(&self, name: &str) -> Option<u16> {
        if nix::net::if_::if_nametoindex(name).is_err() {
            return Some(u16::MAX);
        }
        let link = self.handle.link().get().match_name(name.to_owned()).execute().try_next().await.ok()??;
        let mtu =
            link.attributes.iter().find_map(|a| if let LinkAttribute::Mtu(mtu) = a { Some(*mtu) } else { None })?;
        Some(u16::try_from(mtu).unwrap_or(u16::MAX))
    }

    /// Brings the device up, without an address of the kernel's own making.
    pub(crate) async fn up(&self, mtu: u16) -> Result<(), NetlinkError> {
        let quiet = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(
            In6AddrGenMode::None,
        )])]);
        let message = LinkUnspec::new_with_index(self.index).append_extra_attribute(quiet).build();
        // Refused where IPv6 is off, where there is nothing to prevent.
        if let Err(error) = self.handle.link().set(message).execute().await {
            tracing::debug!(%error, "the TUN keeps its IPv6 address generation mode");
        }
        // A superpacket must fit one batch of segments, whatever the segments' size.
        let whole = LinkAttribute::GsoMaxSegs(SEGMENTS_MAX as u32);
        let message =
            LinkUnspec::new_with_index(self.index).append_extra_attribute(whole).mtu(u32::from(mtu)).up().build();
        self.handle.link().set(message).execute().await.map_err(failed("bringing the TUN up"))
    }

    /// Makes the kernel have exactly `desired` for this device. All differences are tried; the first failure is returned
    /// and the rest is tried again by the next call.
    pub(crate) async fn converge(&mut self, desired: &Desired) -> Result<(), NetlinkError> {
        if self.applied.as_ref() == Some(desired) {
            return Ok(());
        }
        self.reassert(desired).await
    }

    /// As [`Self::converge`], looking at the kernel even if nothing changed here.
    pub(crate) async fn reassert(&mut self, desired: &Desired) -> Result<(), NetlinkError> {
        let old_mtu = self.applied.as_ref().map(|a| a.mtu);
        self.applied = None;
        let mut first_error = None;
        if old_mtu != Some(desired.mtu) {
            let message = LinkUnspec::new_with_index(self.index).mtu(u32::from(desired.mtu)).up().build();
            keep(&mut first_error, self.handle.link().set(message).execute().await, || {
                format!("setting the TUN's MTU to {}", desired.mtu)
            });
        }
        self.addresses(&desired.addresses, &mut first_error).await;
        self.routes(&desired.routes, &mut first_error).await;
        match first_error {
            None => {
                self.applied = Some(desired.clone());
                Ok(())
            }
            Some(e) => Err(e),
        }
    }

    async fn addresses(&self, desired: &BTreeSet<IpAddr>, errors: &mut Option<NetlinkError>) {
        let listed: Result<Vec<_>, _> =
            self.handle.address().get().set_link_index_filter(self.index).execute().try_collect().await;
        let Some(listed) = keep(errors, listed, || "listing the TUN's addresses".to_owned()) else { return };
        let mut present = BTreeSet::new();
        for message in listed {
            let address = message.attributes.iter().find_map(|a| match a {
                AddressAttribute::Local(ip) | AddressAttribute::Address(ip) => Some(*ip),
                _ => None,
            });
            let Some(address) = address else { continue };
            if desired.contains(&address) {
                present.insert(address);
            } else if !is_link_local(address) {
                let done = self.handle.address().del(message).execute().await;
                keep(errors, done, || format!("removing {address} from the TUN"));
            }
        }
        for &address in desired.difference(&present) {
            let width = if address.is_ipv4() { 32 } else { 128 };
            let done = self.handle.address().add(self.index, address, width).replace().execute().await;
            keep(errors, done, || format!("adding {address} to the TUN"));
        }
    }

    async fn routes(&self, desired: &BTreeSet<Route>, errors: &mut Option<NetlinkError>) {
        let (mut present, mut stale) = (BTreeSet::new(), Vec::new());
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut query = RouteMessage::default();
            query.header.address_family = family;
            let listed: Result<Vec<_>, _> = self.handle.route().get(query).execute().try_collect().await;
            let Some(listed) = keep(errors, listed, || "listing routes".to_owned()) else { return };
            for message in listed {
                let Some(route) = ours(&message, self.index) else { continue };
                if desired.contains(&route) {
                    present.insert(route);
                } else if !desired.iter().any(|d| same_place(d, &route)) {
                    stale.push((route, message));
                }
            }
        }
        // First what comes, then what goes: a route that only changes its metric is never missing.
        for route in desired.difference(&present) {
            let done = self.handle.route().add(self.message(route)).replace().execute().await;
            keep(errors, done, || format!("adding the route to {} in table {}", route.prefix, route.table));
        }
        for (route, message) in stale {
            let done = self.handle.route().del(message).execute().await;
            keep(errors, done, || format!("removing the route to {} in table {}", route.prefix, route.table));
        }
    }

    fn message(&self, route: &Route) -> RouteMessage {
        let builder = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(route.prefix.network(), route.prefix.prefix_len())
            .expect("an IpNet's address and length are of one family");
        let mut message = builder.table_id(route.table).output_interface(self.index).priority(route.metric).build();
        message.attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(u32::from(route.mtu))]));
        message
    }
}

/// Takes note of the first error; what was asked for otherwise. What is there or gone already counts as done.
fn keep<T>(
    errors: &mut Option<NetlinkError>,
    result: Result<T, rtnetlink::Error>,
    action: impl FnOnce() -> String,
) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(rtnetlink::Error::NetlinkError(e))
            if matches!(-e.raw_code(), libc::EEXIST | libc::ESRCH | libc::EADDRNOTAVAIL) =>
        {
            None
        }
        Err(source) => {
            let error = NetlinkError { action: action(), source };
            tracing::warn!(%error, "kernel state of the TUN is incomplete");
            errors.get_or_insert(error);
            None
        }
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(a) if a.is_unicast_link_local())
}

fn same_place(a: &Route, b: &Route) -> bool {
    (a.prefix, a.table, a.metric) == (b.prefix, b.table, b.metric)
}

/// The route, if it is one into device `index` in a table of Hawser's.
fn ours(message: &RouteMessage, index: u32) -> Option<Route> {
    use hawser_model::defaults::{TABLE_REMOTE, TABLE_TRANSIT};
    let (mut table, mut oif, mut metric, mut mtu) = (u32::from(message.header.table), None, 0, 0);
    let mut destination = match message.header.address_family {
        AddressFamily::Inet => IpAddr::from([0u8; 4]),
        AddressFamily::Inet6 => IpAddr::from([0u8; 16]),
        _ => return None,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(t) => table = *t,
            RouteAttribute::Oif(i) => oif = Some(*i),
            RouteAttribute::Priority(p) => metric = *p,
            RouteAttribute::Destination(RouteAddress::Inet(a)) => destination = (*a).into(),
            RouteAttribute::Destination(RouteAddress::Inet6(a)) => destination = (*a).into(),
            RouteAttribute::Metrics(metrics) => {
                mtu =
                    metrics.iter().find_map(|m| if let RouteMetric::Mtu(v) = m { Some(*v) } else { None }).unwrap_or(0);
            }
            _ => {}
        }
    }
    if oif != Some(index) || !(table == TABLE_REMOTE || table == TABLE_TRANSIT) {
        return None;
    }
    let prefix = IpNet::new(destination, message.header.destination_prefix_length).ok()?;
    Some(Route { prefix, table, metric, mtu: u16::try_from(mtu).unwrap_or(u16::MAX) })
}
