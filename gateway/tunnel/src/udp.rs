//! A lane's UDP sockets: segmentation offload out, coalesced datagrams in, ICMP errors with what they quote.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use hawser_model::IpFamily;
use hawser_model::defaults::OUTER_MARK;
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    self, ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, setsockopt, sockopt,
};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Protocol, Socket, Type};

mod sys;
use sys::{first_to_close, set_int};
pub(crate) use sys::{get_int, link_mtu};

/// Most bytes of one send: what fits a UDP length with room for IPv6 headers.
pub(crate) const SEND_MAX: usize = 65_000;
/// Most segments of one send that every kernel with `UDP_SEGMENT` takes.
pub(crate) const SEGMENTS_MAX: usize = 64;
/// A receive buffer of this size takes the largest coalesced datagram.
pub(crate) const RECEIVE_MAX: usize = 65_535;

/// How many errors of earlier datagrams may be in the way of one.
const TOLD: u32 = 4;

/// Datagrams of one sender, received at once: `len` bytes cut every `stride`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    pub(crate) len: usize,
    pub(crate) stride: usize,
    pub(crate) from: SocketAddr,
    /// What the queue had no room for between the last ones and these.
    pub(crate) overflow: u32,
    /// How long ago the kernel took the last of them in, if it said.
    stamp: Option<TimeSpec>,
}

impl Received {
    /// How long the datagrams waited in the socket, at most a second.
    pub(crate) fn waited(&self) -> Duration {
        let Some(stamp) = self.stamp else { return Duration::ZERO };
        let Ok(now) = nix::time::ClockId::CLOCK_REALTIME.now() else { return Duration::ZERO };
        let waited = Duration::from(now).saturating_sub(Duration::from(stamp));
        // A step of the wall clock must not look like an old packet.
        if waited > Duration::from_secs(1) { Duration::ZERO } else { waited }
    }
}

/// What an ICMP error said about a datagram of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IcmpKind {
    /// Nobody listens on that port.
    PortUnreachable,
    /// Larger than some link of the path takes.
    TooBig,
    /// Host, network or administratively unreachable, hop limit.
    Unreachable,
}

/// An ICMP error.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IcmpError {
    pub(crate) kind: IcmpKind,
    /// Where our datagram was going.
    pub(crate) to: SocketAddr,
    /// How much of our datagram is quoted, from its first byte.
    pub(crate) quoted: usize,
}

/// Datagrams that were not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unsent {
    pub(crate) count: u64,
    /// Why, of the last of them.
    pub(crate) error: Errno,
}

/// A socket of one family on a lane's port.
pub(crate) struct LaneSocket {
    socket: Socket,
    family: IpFamily,
    control: Vec<u8>,
    /// What the queue had no room for, as the kernel counts it.
    overflows: u32,
}

impl LaneSocket {
    /// Opens and binds; `receive_buffer` is in bytes of payload.
    pub(crate) fn bind(family: IpFamily, port: u16, receive_buffer: usize) -> io::Result<Self> {
        let (domain, address): (_, SocketAddr) = match family {
            IpFamily::V4 => (Domain::IPV4, (Ipv4Addr::UNSPECIFIED, port).into()),
            IpFamily::V6 => (Domain::IPV6, (Ipv6Addr::UNSPECIFIED, port).into()),
        };
        let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
        if family == IpFamily::V6 {
            socket.set_only_v6(true)?;
        }
        // Our routing rule skips this mark: outer packets never enter a tunnel.
        setsockopt(&socket, sockopt::Mark, &OUTER_MARK)?;
        setsockopt(&socket, sockopt::RcvBufForce, &receive_buffer)?;
        setsockopt(&socket, sockopt::SndBufForce, &receive_buffer)?;
        setsockopt(&socket, sockopt::UdpGroSegment, &true)?;
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        setsockopt(&socket, sockopt::RxqOvfl, &1)?;
        match family {
            IpFamily::V4 => {
                setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
                set_int(&socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)?;
            }
            IpFamily::V6 => {
                setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?;
                set_int(&socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE)?;
            }
        }
        socket.bind(&address.into())?;
        let socket = first_to_close(socket);
        Ok(Self { socket, family, control: cmsg_space!(i32, TimeSpec, u32, [u8; 128]), overflows: 0 })
    }

    pub(crate) fn family(&self) -> IpFamily {
        self.family
    }

    /// Sends `data`, cut every `segment` bytes, to one address.
    pub(crate) fn send(&self, to: SocketAddr, data: &[u8], segment: usize) -> Result<(), Errno> {
        let address = SockaddrStorage::from(to);
        let (fd, flags) = (self.socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
        let mut told = 0;
        loop {
            // What is one datagram, the kernel takes sooner without a list of pieces.
            let sent = if data.len() <= segment {
                socket::sendto(fd, data, &address, flags)
            } else {
                let cut = ControlMessage::UdpGsoSegments(&(segment as u16));
                socket::sendmsg(fd, &[IoSlice::new(data)], &[cut], flags, Some(&address))
            };
            match sent {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(e) if told < TOLD && may_be_told(e) => told += 1,
                Err(e) => return Err(e),
            }
        }
    }

    /// Sends a batch as [`Self::send`] does, one by one where it is refused together.
    pub(crate) fn send_batch(&self, to: SocketAddr, data: &[u8], segment: usize) -> Result<(), Unsent> {
        let count = data.len().div_ceil(segment) as u64;
        match self.send(to, data, segment) {
            Ok(()) => Ok(()),
            // Devices without checksum offload refuse segmentation, whole batches over the device's MTU are refused too.
            Err(Errno::EIO | Errno::EINVAL | Errno::EMSGSIZE) if count > 1 => {
                let failed = data.chunks(segment).filter_map(|one| self.send(to, one, segment).err());
                let unsent = failed.fold(None, |before: Option<Unsent>, error| {
                    Some(Unsent { count: before.map_or(0, |unsent| unsent.count) + 1, error })
                });
                unsent.map_or(Ok(()), Err)
            }
            Err(error) => Err(Unsent { count, error }),
        }
    }

    /// Sends one datagram that the path does not take whole, in fragments that it does. Rare: the options are set for this
    /// one datagram.
    pub(crate) fn send_fragmented(&self, to: SocketAddr, data: &[u8]) -> Result<(), Errno> {
        let errno = |e: io::Error| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO));
        let (level, name, whole, split) = match self.family {
            IpFamily::V4 => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE, libc::IP_PMTUDISC_DONT),
            IpFamily::V6 => {
                (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE, libc::IPV6_PMTUDISC_DONT)
            }
        };
        // Nobody on the way fragments IPv6, so no fragment may be larger than every link takes.
        let at_most = |mtu: i32| match self.family {
            IpFamily::V4 => Ok(()),
            IpFamily::V6 => set_int(&self.socket, libc::IPPROTO_IPV6, libc::IPV6_MTU, mtu),
        };
        at_most(1280).and_then(|()| set_int(&self.socket, level, name, split)).map_err(errno)?;
        let sent = self.send(to, data, data.len());
        set_int(&self.socket, level, name, whole).and_then(|()| at_most(0)).map_err(errno)?;
        sent
    }

    /// Receives into `buf`; `None` when there is nothing.
    pub(crate) fn receive(&mut self, buf: &mut [u8]) -> Result<Option<Received>, Errno> {
        let mut iov = [IoSliceMut::new(buf)];
        let (fd, flags) = (self.socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
        let mut told = 0;
        let message = loop {
            match socket::recvmsg::<SockaddrStorage>(fd, &mut iov, Some(&mut self.control), flags) {
                Ok(m) => break m,
                Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
                Err(e) if told < TOLD && may_be_told(e) => told += 1,
                Err(e) => return Err(e),
            }
        };
        let (len, mut stride, mut stamp) = (message.bytes, message.bytes, None);
        let mut overflows = self.overflows;
        for control in message.cmsgs().into_iter().flatten() {
            match control {
                ControlMessageOwned::UdpGroSegments(n) if n > 0 => stride = n as usize,
                ControlMessageOwned::ScmTimestampns(t) => stamp = Some(t),
                ControlMessageOwned::RxqOvfl(n) => overflows = n,
                _ => {}
            }
        }
        let Some(from) = message.address.as_ref().and_then(to_std) else { return Err(Errno::EINVAL) };
        let overflow = overflows.wrapping_sub(std::mem::replace(&mut self.overflows, overflows));
        Ok(Some(Received { len, stride, from, overflow, stamp }))
    }

    /// Takes one ICMP error off the queue, the quoted bytes into `buf`; `None` when there is none.
    pub(crate) fn receive_error(&mut self, buf: &mut [u8]) -> Option<IcmpError> {
        let mut iov = [IoSliceMut::new(buf)];
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let message =
            socket::recvmsg::<SockaddrStorage>(self.socket.as_raw_fd(), &mut iov, Some(&mut self.control), flags)
                .ok()?;
        let kind = message.cmsgs().into_iter().flatten().find_map(|control| match control {
            ControlMessageOwned::Ipv4RecvErr(e, _) | ControlMessageOwned::Ipv6RecvErr(e, _) => Some(classify(&e)),
            _ => None,
        });
        let to = message.address.as_ref().and_then(to_std)?;
        Some(IcmpError { kind: kind?, to, quoted: message.bytes })
    }
}

impl AsFd for LaneSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Whether an error may be what ICMP told, by anybody's word, of an earlier datagram that went anywhere. The kernel tells that
/// once, in place of what it was asked for, which is still to be done. Others come of this very call.
fn may_be_told(error: Errno) -> bool {
    let own = [Errno::EAGAIN, Errno::ENOBUFS, Errno::ENOMEM, Errno::EPERM, Errno::EIO, Errno::EINVAL];
    !own.contains(&error)
}

fn classify(e: &libc::sock_extended_err) -> IcmpKind {
    let errno = Errno::from_raw(e.ee_errno as i32);
    match errno {
        Errno::ECONNREFUSED => IcmpKind::PortUnreachable,
        Errno::EMSGSIZE => IcmpKind::TooBig,
        _ => IcmpKind::Unreachable,
    }
}

pub(crate) fn to_std(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddrV4::from(SockaddrIn::clone(v4)).into());
    }
    address.as_sockaddr_in6().map(|v6| SocketAddrV6::from(SockaddrIn6::clone(v6)).into())
}

#[cfg(test)]
mod tests;
