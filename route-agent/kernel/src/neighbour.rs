//! Permanent neighbours and unicast forwarding entries of `hawser-vx`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use futures::TryStreamExt as _;
use hawser_route_plan::Mac;
use rtnetlink::Handle;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::RouteType;

use crate::error::{Error, unless_gone};

fn destination(message: &NeighbourMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|a| match a {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(IpAddr::from(*address)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some(IpAddr::from(*address)),
        NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => match bytes.len() {
            4 => <[u8; 4]>::try_from(bytes.as_slice()).ok().map(IpAddr::from),
            16 => <[u8; 16]>::try_from(bytes.as_slice()).ok().map(IpAddr::from),
            _ => None,
        },
        _ => None,
    })
}

fn mac(message: &NeighbourMessage) -> Option<Mac> {
    message.attributes.iter().find_map(|a| match a {
        NeighbourAttribute::LinkLayerAddress(bytes) => <[u8; 6]>::try_from(bytes.as_slice()).ok().map(Mac),
        _ => None,
    })
}

/// The permanent neighbours of a device.
pub(crate) async fn neighbours(handle: &Handle, index: u32) -> Result<BTreeMap<IpAddr, Mac>, Error> {
    let mut found = BTreeMap::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let all: Vec<NeighbourMessage> = handle
            .neighbours()
            .get()
            .set_address_family(family)
            .execute()
            .try_collect()
            .await
            .map_err(Error::netlink("list neighbours"))?;
        let ours = all.iter().filter(|m| m.header.ifindex == index && m.header.state == NeighbourState::Permanent);
        found.extend(ours.filter_map(|m| Some((destination(m)?, mac(m)?))));
    }
    Ok(found)
}

/// Creates or replaces a permanent neighbour.
pub(crate) async fn set_neighbour(handle: &Handle, index: u32, address: IpAddr, mac: Mac) -> Result<(), Error> {
    let request = handle.neighbours().add(index, address).link_layer_address(&mac.0);
    let request = request.state(NeighbourState::Permanent).replace();
    request.execute().await.map_err(Error::netlink(format!("neighbour {address}")))
}

/// Removes a neighbour.
pub(crate) async fn remove_neighbour(handle: &Handle, index: u32, address: IpAddr) -> Result<(), Error> {
    let mut message = NeighbourMessage::default();
    message.header.family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.ifindex = index;
    message.attributes.push(NeighbourAttribute::Destination(address.into()));
    let result = handle.neighbours().del(message).execute().await;
    unless_gone(result).map_err(Error::netlink(format!("remove neighbour {address}")))
}

/// The unicast forwarding entries of a device.
pub(crate) async fn forwarding(handle: &Handle, index: u32) -> Result<BTreeMap<Mac, IpAddr>, Error> {
    let request = handle.neighbours().get().set_address_family(AddressFamily::Bridge);
    let all: Vec<NeighbourMessage> =
        request.execute().try_collect().await.map_err(Error::netlink("list forwarding entries"))?;
    let ours = all.iter().filter(|m| m.header.ifindex == index);
    Ok(ours.filter_map(|m| Some((mac(m)?, destination(m)?))).collect())
}

/// Creates or replaces a unicast forwarding entry.
pub(crate) async fn set_forwarding(handle: &Handle, index: u32, mac: Mac, address: IpAddr) -> Result<(), Error> {
    let request = handle.neighbours().add_bridge(index, &mac.0).destination(address);
    let request = request.state(NeighbourState::Permanent).flags(NeighbourFlags::Own).replace();
    request.execute().await.map_err(Error::netlink(format!("forwarding entry {mac:?} to {address}")))
}

/// Removes a unicast forwarding entry.
pub(crate) async fn remove_forwarding(handle: &Handle, index: u32, mac: Mac) -> Result<(), Error> {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    message.header.flags = NeighbourFlags::Own;
    message.header.kind = RouteType::Unspec;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
    let result = handle.neighbours().del(message).execute().await;
    unless_gone(result).map_err(Error::netlink(format!("remove forwarding entry {mac:?}")))
}
