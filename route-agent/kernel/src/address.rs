//! Addresses of devices.

use std::collections::BTreeMap;

use futures::TryStreamExt as _;
use hawser_route_plan::Role;
use ipnet::IpNet;
use rtnetlink::Handle;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};

use crate::error::{Error, unless_exists, unless_gone};

/// All addresses of this network namespace: device index, address with its prefix length, message.
pub(crate) async fn dump(handle: &Handle) -> Result<Vec<(u32, IpNet, AddressMessage)>, Error> {
    let all: Vec<AddressMessage> =
        handle.address().get().execute().try_collect().await.map_err(Error::netlink("list addresses"))?;
    Ok(all.into_iter().filter_map(|m| Some((m.header.index, net(&m)?, m))).collect())
}

fn net(message: &AddressMessage) -> Option<IpNet> {
    let find = |local: bool| {
        message.attributes.iter().find_map(|a| match a {
            AddressAttribute::Local(address) if local => Some(*address),
            AddressAttribute::Address(address) if !local => Some(*address),
            _ => None,
        })
    };
    IpNet::new(find(true).or_else(|| find(false))?, message.header.prefix_len).ok()
}

/// What an address of ours is for, told by its scope. IPv6 has no such choice.
fn role(net: &IpNet, message: &AddressMessage, wanted: &BTreeMap<IpNet, Role>) -> Role {
    match (net, message.header.scope) {
        (IpNet::V4(_), AddressScope::Host) => Role::Service,
        (IpNet::V4(_), _) => Role::Own,
        (IpNet::V6(_), _) => wanted.get(net).copied().unwrap_or(Role::Own),
    }
}

/// The addresses of one device.
pub(crate) async fn of(
    handle: &Handle,
    index: u32,
    wanted: &BTreeMap<IpNet, Role>,
) -> Result<BTreeMap<IpNet, Role>, Error> {
    let all = dump(handle).await?;
    Ok(all.into_iter().filter(|(i, ..)| *i == index).map(|(_, net, m)| (net, role(&net, &m, wanted))).collect())
}

/// Adds an address, usable at once.
pub(crate) async fn add(handle: &Handle, index: u32, net: IpNet, role: Role) -> Result<(), Error> {
    let mut request = handle.address().add(index, net.addr(), net.prefix_len());
    let message = request.message_mut();
    if net.addr().is_ipv6() {
        message.header.flags = AddressHeaderFlags::Nodad;
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    } else if role == Role::Service {
        message.header.scope = AddressScope::Host;
    }
    unless_exists(request.execute().await).map_err(Error::netlink(format!("add address {net}")))
}

/// Removes an address.
pub(crate) async fn remove(handle: &Handle, index: u32, net: IpNet) -> Result<(), Error> {
    let all = dump(handle).await?;
    let Some((.., message)) = all.into_iter().find(|(i, n, _)| *i == index && *n == net) else { return Ok(()) };
    unless_gone(handle.address().del(message).execute().await).map_err(Error::netlink(format!("remove address {net}")))
}
