//! Routes of our tables, between netlink's form and the plan's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use futures::TryStreamExt as _;
use hawser_model::defaults::{TABLE_REMOTE, TABLE_TRANSIT};
use hawser_route_plan::{Hop, Route, RouteKey, RouteKind};
use ipnet::IpNet;
use rtnetlink::Handle;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteNextHop, RouteNextHopFlags,
    RouteProtocol, RouteScope, RouteType, RouteVia,
};

use crate::error::{Error, unless_gone};

/// Marks our routes in `ip route`; `H` for Hawser.
const PROTOCOL: RouteProtocol = RouteProtocol::Other(0x48);

/// All routes of this network namespace, of both families, as the kernel tells them.
pub(crate) async fn dump(handle: &Handle) -> Result<Vec<RouteMessage>, Error> {
    let mut all = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut query = RouteMessage::default();
        query.header.address_family = family;
        let found: Vec<RouteMessage> =
            handle.route().get(query).execute().try_collect().await.map_err(Error::netlink("list routes"))?;
        all.extend(found);
    }
    Ok(all)
}

/// The routes of our tables that are not `foreign` (the TUN's index: its routes are the gateway's).
pub(crate) async fn ours(handle: &Handle, foreign: Option<u32>) -> Result<BTreeMap<RouteKey, Route>, Error> {
    let all = dump(handle).await?;
    Ok(all.iter().filter(|m| foreign.is_none() || output(m) != foreign).filter_map(parse).collect())
}

/// The device a route leads out of, if it is one.
pub(crate) fn output(message: &RouteMessage) -> Option<u32> {
    message.attributes.iter().find_map(|a| match a {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

/// The table it is in.
pub(crate) fn table(message: &RouteMessage) -> u32 {
    let attribute = message.attributes.iter().find_map(|a| match a {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    attribute.unwrap_or(u32::from(message.header.table))
}

/// Its destination.
pub(crate) fn prefix(message: &RouteMessage) -> Option<IpNet> {
    let address = message.attributes.iter().find_map(|a| match a {
        RouteAttribute::Destination(address) => ip(address),
        _ => None,
    });
    let any = match message.header.address_family {
        AddressFamily::Inet => IpAddr::from([0; 4]),
        AddressFamily::Inet6 => IpAddr::from([0_u8; 16]),
        _ => return None,
    };
    IpNet::new(address.unwrap_or(any), message.header.destination_prefix_length).ok()
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

fn via(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|a| match a {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(RouteVia::Inet(address)) => Some((*address).into()),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some((*address).into()),
        _ => None,
    })
}

/// Reads a route of our tables; a route of a kind we never make reads as one that differs from all of ours.
fn parse(message: &RouteMessage) -> Option<(RouteKey, Route)> {
    let table = table(message);
    if ![TABLE_REMOTE, TABLE_TRANSIT].contains(&table) {
        return None;
    }
    let find = |pick: fn(&RouteAttribute) -> Option<u32>| message.attributes.iter().find_map(pick);
    let metric = find(|a| if let RouteAttribute::Priority(metric) = a { Some(*metric) } else { None });
    let source = message.attributes.iter().find_map(|a| match a {
        RouteAttribute::PrefSource(address) => ip(address),
        _ => None,
    });
    let mtu = find(|a| match a {
        RouteAttribute::Metrics(all) => {
            all.iter().find_map(|m| if let RouteMetric::Mtu(mtu) = m { Some(*mtu) } else { None })
        }
        _ => None,
    });
    let kind = match message.header.kind {
        RouteType::Throw => RouteKind::Throw,
        RouteType::Unreachable => RouteKind::Unreachable,
        _ => hops(message),
    };
    let key = RouteKey { table, prefix: prefix(message)?, metric: metric.unwrap_or_default() };
    Some((key, Route { kind, source, mtu }))
}

fn hops(message: &RouteMessage) -> RouteKind {
    let multipath = message.attributes.iter().find_map(|a| match a {
        RouteAttribute::MultiPath(hops) => Some(hops),
        _ => None,
    });
    if let Some(hops) = multipath {
        let hop = |h: &RouteNextHop| {
            Some(Hop { via: via(&h.attributes)?, onlink: h.flags.contains(RouteNextHopFlags::Onlink) })
        };
        return RouteKind::Via(hops.iter().filter_map(hop).collect());
    }
    let onlink = message.header.flags.contains(RouteFlags::Onlink);
    match via(&message.attributes) {
        Some(via) => RouteKind::Via(BTreeSet::from([Hop { via, onlink }])),
        None => RouteKind::Device,
    }
}

/// The netlink form of a route over the device `index`.
fn build(index: u32, key: &RouteKey, route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    let v4 = matches!(key.prefix, IpNet::V4(_));
    message.header.address_family = if v4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.destination_prefix_length = key.prefix.prefix_len();
    message.header.protocol = PROTOCOL;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Table(key.table));
    attributes.push(RouteAttribute::Destination(key.prefix.network().into()));
    attributes.push(RouteAttribute::Priority(key.metric));
    attributes.extend(route.source.map(|s| RouteAttribute::PrefSource(s.into())));
    attributes.extend(route.mtu.map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)])));
    match &route.kind {
        RouteKind::Throw => message.header.kind = RouteType::Throw,
        RouteKind::Unreachable => message.header.kind = RouteType::Unreachable,
        RouteKind::Device => {
            message.header.scope = if v4 { RouteScope::Link } else { RouteScope::Universe };
            attributes.push(RouteAttribute::Oif(index));
        }
        RouteKind::Via(hops) => match Vec::from_iter(hops).as_slice() {
            [hop] => {
                attributes.push(RouteAttribute::Oif(index));
                attributes.push(towards(v4, hop));
                if hop.onlink {
                    message.header.flags.insert(RouteFlags::Onlink);
                }
            }
            hops => attributes.push(RouteAttribute::MultiPath(hops.iter().map(|h| next_hop(index, v4, h)).collect())),
        },
    }
    message
}

fn towards(v4: bool, hop: &Hop) -> RouteAttribute {
    match hop.via {
        IpAddr::V6(address) if v4 => RouteAttribute::Via(RouteVia::Inet6(address)),
        address => RouteAttribute::Gateway(address.into()),
    }
}

fn next_hop(index: u32, v4: bool, hop: &Hop) -> RouteNextHop {
    let mut next = RouteNextHop::default();
    next.interface_index = index;
    next.attributes = vec![towards(v4, hop)];
    if hop.onlink {
        next.flags = RouteNextHopFlags::Onlink;
    }
    next
}

/// Creates or replaces a route, in one step that no packet falls into.
pub(crate) async fn set(handle: &Handle, index: u32, key: &RouteKey, route: &Route) -> Result<(), Error> {
    let result = handle.route().add(build(index, key, route)).replace().execute().await;
    result.map_err(Error::netlink(format!("route {} metric {} in table {}", key.prefix, key.metric, key.table)))
}

/// Removes a route.
pub(crate) async fn remove(handle: &Handle, key: &RouteKey, route: &Route) -> Result<(), Error> {
    let mut message = build(0, key, &Route { kind: RouteKind::Throw, source: None, mtu: None });
    // The kernel compares protocol, scope and type where they are given; any of them may be another's.
    message.header.protocol = RouteProtocol::Unspec;
    message.header.scope = RouteScope::NoWhere;
    message.header.kind = match route.kind {
        RouteKind::Throw => RouteType::Throw,
        RouteKind::Unreachable => RouteType::Unreachable,
        RouteKind::Via(_) | RouteKind::Device => RouteType::Unspec,
    };
    let result = handle.route().del(message).execute().await;
    unless_gone(result).map_err(Error::netlink(format!("remove route {} from table {}", key.prefix, key.table)))
}
