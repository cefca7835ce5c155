//! The device `hawser-vx`, and settings of devices.

use std::net::IpAddr;

use futures::TryStreamExt as _;
use hawser_model::defaults::{VXLAN_DEVICE, VXLAN_ID, VXLAN_PORT};
use hawser_route_plan::{DeviceSettings, Vxlan};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::{
    AfSpecInet, AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InetDevConf, InfoData, InfoVxlan, LinkAttribute, LinkFlags,
    LinkInfo, LinkMessage,
};
use rtnetlink::{Handle, LinkUnspec, LinkVxlan};

use crate::error::{Error, unless_gone};

const LOOSE: i32 = 2;

/// All devices of this network namespace.
pub(crate) async fn dump(handle: &Handle) -> Result<Vec<LinkMessage>, Error> {
    handle.link().get().execute().try_collect().await.map_err(Error::netlink("list devices"))
}

/// One device, if it exists.
pub(crate) async fn find(handle: &Handle, name: &str) -> Result<Option<LinkMessage>, Error> {
    let mut found = handle.link().get().match_name(name).execute();
    match found.try_next().await {
        Ok(link) => Ok(link),
        Err(error) if Error::errno(&error) == libc::ENODEV => Ok(None),
        Err(error) => Err(Error::netlink(format!("look for device {name}"))(error)),
    }
}

/// Its name.
pub(crate) fn name(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|a| match a {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

/// Its MTU.
pub(crate) fn mtu(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|a| match a {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    })
}

fn mac(link: &LinkMessage) -> Option<&[u8]> {
    link.attributes.iter().find_map(|a| match a {
        LinkAttribute::Address(mac) => Some(mac.as_slice()),
        _ => None,
    })
}

fn inet_conf(link: &LinkMessage) -> Option<InetDevConf> {
    link.attributes.iter().find_map(|a| match a {
        LinkAttribute::AfSpecUnspec(specs) => specs.iter().find_map(|s| match s {
            AfSpecUnspec::Inet(inet) => inet.iter().find_map(|i| match i {
                AfSpecInet::DevConf(conf) => Some(*conf),
                _ => None,
            }),
            _ => None,
        }),
        _ => None,
    })
}

/// Whether it is a VXLAN device that can be made into `wanted` without a new one.
fn is_right_kind(link: &LinkMessage, wanted: &Vxlan) -> bool {
    let data = link.attributes.iter().find_map(|a| match a {
        LinkAttribute::LinkInfo(infos) => infos.iter().find_map(|i| match i {
            LinkInfo::Data(InfoData::Vxlan(data)) => Some(data),
            _ => None,
        }),
        _ => None,
    });
    let Some(data) = data else { return false };
    let local = data.iter().find_map(|d| match d {
        InfoVxlan::Local(address) => Some(IpAddr::from(*address)),
        InfoVxlan::Local6(address) => Some(IpAddr::from(*address)),
        _ => None,
    });
    data.contains(&InfoVxlan::Id(VXLAN_ID))
        && data.contains(&InfoVxlan::Port(VXLAN_PORT))
        && data.contains(&InfoVxlan::Learning(false))
        && local == Some(wanted.local)
}

/// Makes `hawser-vx` what it should be; gives its index and what was done.
pub(crate) async fn ensure(handle: &Handle, wanted: &Vxlan) -> Result<(u32, Vec<String>), Error> {
    let mut done = Vec::new();
    let mut found = find(handle, VXLAN_DEVICE).await?;
    if let Some(link) = &found
        && !is_right_kind(link, wanted)
    {
        remove(handle, link.header.index).await?;
        done.push("removed a device that cannot be changed into ours".to_owned());
        found = None;
    }
    let link = match found {
        Some(link) => link,
        None => {
            create(handle, wanted).await?;
            done.push(format!("created {VXLAN_DEVICE} from {}", wanted.local));
            let link = find(handle, VXLAN_DEVICE)
                .await?
                .ok_or_else(|| Error::netlink(format!("create {VXLAN_DEVICE}"))(rtnetlink::Error::RequestFailed))?;
            no_generated_address(handle, link.header.index).await?;
            link
        }
    };
    let index = link.header.index;
    let up = link.header.flags.contains(LinkFlags::Up);
    if mac(&link) != Some(&wanted.mac.0) || mtu(&link) != Some(wanted.mtu) || !up {
        let change = LinkUnspec::new_with_index(index).address(wanted.mac.0.to_vec()).mtu(wanted.mtu).up().build();
        handle.link().set(change).execute().await.map_err(Error::netlink(format!("set up {VXLAN_DEVICE}")))?;
        done.push(format!("set {VXLAN_DEVICE} up, MAC {:?}, MTU {}", wanted.mac, wanted.mtu));
    }
    Ok((index, done))
}

async fn create(handle: &Handle, wanted: &Vxlan) -> Result<(), Error> {
    let device = LinkVxlan::new(VXLAN_DEVICE, VXLAN_ID).port(VXLAN_PORT).learning(false);
    let device = match wanted.local {
        IpAddr::V4(address) => device.local(address),
        IpAddr::V6(address) => device.local6(address),
    };
    let message = device.address(wanted.mac.0.to_vec()).mtu(wanted.mtu).build();
    handle.link().add(message).execute().await.map_err(Error::netlink(format!("create {VXLAN_DEVICE}")))
}

/// Keeps the kernel from making a link-local address of its own when the device comes up.
async fn no_generated_address(handle: &Handle, index: u32) -> Result<(), Error> {
    let none = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
    let attribute = LinkAttribute::AfSpecUnspec(vec![none]);
    let message = LinkUnspec::new_with_index(index).append_extra_attribute(attribute).build();
    match handle.link().set(message).execute().await {
        // Without IPv6 there is nothing to keep it from.
        Err(error) if Error::errno(&error) == libc::EAFNOSUPPORT => Ok(()),
        other => other.map_err(Error::netlink(format!("settings of {VXLAN_DEVICE}"))),
    }
}

/// Removes a device.
pub(crate) async fn remove(handle: &Handle, index: u32) -> Result<(), Error> {
    unless_gone(handle.link().del(index).execute().await).map_err(Error::netlink(format!("remove device {index}")))
}

/// Makes the settings of a device right where it exists; says whether anything changed.
pub(crate) async fn settle(handle: &Handle, name: &str, wanted: DeviceSettings) -> Result<bool, Error> {
    let Some(link) = find(handle, name).await? else { return Ok(false) };
    let Some(conf) = inet_conf(&link) else { return Ok(false) };
    let right = (!wanted.loose_rp_filter || conf.rp_filter == LOOSE) && (!wanted.forwarding || conf.forwarding == 1);
    if right {
        return Ok(false);
    }
    let mut change = InetDevConf::default();
    change.rp_filter = if wanted.loose_rp_filter { LOOSE } else { 0 };
    change.forwarding = i32::from(wanted.forwarding);
    let mut message = LinkUnspec::new_with_index(link.header.index)
        .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet(vec![
            AfSpecInet::DevConfRequest(change),
        ])]))
        .build();
    message.header.interface_family = AddressFamily::Unspec;
    handle.link().set(message).execute().await.map_err(Error::netlink(format!("settings of {name}")))?;
    Ok(true)
}
