//! What this host is like: the part of a plan's input that only the kernel knows.

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures::TryStreamExt as _;
use hawser_model::defaults::{TUN_DEVICE, VXLAN_DEVICE};
use hawser_route_plan::{Host, Node, Uplink};
use ipnet::IpNet;
use rtnetlink::Handle;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::{LinkFlags, LinkMessage};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage};

use crate::error::Error;
use crate::{address, link, route, sysctl};

const TABLE_MAIN: u32 = 254;
/// Of so many other nodes the route is looked up; more lie behind the same devices.
const LOOKUPS: usize = 32;

/// Looks at the devices, addresses and routes of this host, as the node `me` among `others`.
///
/// Uplinks are the devices that hold a LAN address of this node, those that other nodes are reached by, and those of default
/// routes. Pod bridges hold an address inside this node's pod CIDRs that others may be neighbours of.
///
/// # Errors
/// When the kernel can't be asked.
pub async fn host(handle: &Handle, me: Option<&Node>, others: &[&Node]) -> Result<Host, Error> {
    let links = link::dump(handle).await?;
    let addresses = address::dump(handle).await?;
    let lan = me.map(|n| n.addresses.as_slice()).unwrap_or_default();
    let pods = me.map(|n| n.pod_cidrs.as_slice()).unwrap_or_default();
    let holders = |wanted: &dyn Fn(&IpNet) -> bool| -> BTreeSet<u32> {
        addresses.iter().filter(|(_, net, _)| wanted(net)).map(|(index, ..)| *index).collect()
    };
    let mut uplinks = holders(&|net| lan.contains(&net.addr()));
    for message in route::dump(handle).await? {
        let default = route::table(&message) == TABLE_MAIN && message.header.destination_prefix_length == 0;
        uplinks.extend(route::output(&message).filter(|_| default));
    }
    for node in others.iter().take(LOOKUPS) {
        for address in &node.addresses {
            uplinks.extend(device_to(handle, *address).await);
        }
    }
    let bridges =
        holders(&|net| pods.iter().any(|p| p.contains(&net.addr())) && net.prefix_len() < net.max_prefix_len());
    let candidates: Vec<&LinkMessage> = links.iter().filter(|l| !excluded(l)).collect();
    let uplinks = candidates.iter().filter(|l| uplinks.contains(&l.header.index));
    let bridges = candidates.iter().filter(|l| bridges.contains(&l.header.index));
    Ok(Host {
        ipv6: sysctl::ipv6_enabled(),
        uplinks: uplinks.filter_map(|l| Some(Uplink { name: link::name(l)?.to_owned(), mtu: link::mtu(l)? })).collect(),
        pod_bridges: bridges.filter_map(|l| link::name(l).map(str::to_owned)).collect(),
    })
}

fn excluded(link: &LinkMessage) -> bool {
    link.header.flags.contains(LinkFlags::Loopback)
        || link::name(link).is_none_or(|name| [VXLAN_DEVICE, TUN_DEVICE].contains(&name))
}

/// The device that packets to an address leave by, if there is a way.
async fn device_to(handle: &Handle, to: IpAddr) -> Option<u32> {
    let mut query = RouteMessage::default();
    let net = IpNet::from(to);
    query.header.address_family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    query.header.destination_prefix_length = net.prefix_len();
    query.attributes.push(RouteAttribute::Destination(to.into()));
    let answer = handle.route().get(query).execute().try_next().await.ok().flatten()?;
    route::output(&answer)
}

/// The index of a device, if it exists.
///
/// # Errors
/// When the kernel can't be asked.
pub async fn device(handle: &Handle, name: &str) -> Result<Option<u32>, Error> {
    Ok(link::find(handle, name).await?.map(|l| l.header.index))
}
