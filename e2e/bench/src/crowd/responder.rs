//! What the crowd's process does: one socket for all peers' addresses, a session per peer and lane of the gateway.

use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::{Packet, Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use hawser_datapath::probe::{Kind, LEN, Probe, address as probe_address};
use hawser_liveness::Time;
use hawser_model::PublicKey as LaneKey;
use nix::cmsg_space;
use nix::libc::{in_addr, in_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg, setsockopt, sockopt,
};

use super::{PORT, address, index, key};

/// Each session asks once in this time.
const PACE: Duration = Duration::from_secs(1);
/// The questions of all sessions are spread over so many groups.
const GROUPS: usize = 50;
/// A handshake message, a keepalive or a probe padded to the MTU fits.
const MESSAGE: usize = 2048;
const BUFFER: usize = 8 << 20;

/// One peer and one lane of the gateway.
struct Session {
    tunn: Tunn,
    /// The lane's address for probes, and the peer's own.
    addresses: [Ipv6Addr; 2],
    established: bool,
    /// Where the lane was last heard from.
    lane: Option<SocketAddrV4>,
    /// The last question sent, and the last one received.
    asked: u64,
    heard: u64,
}

/// How the crowd stands, printed once a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Sessions that have seen data.
    pub sessions: usize,
    /// Questions of the gateway in the last second.
    pub questions: u64,
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sessions {} questions {}", self.sessions, self.questions)
    }
}

/// See the module.
pub struct Responder {
    socket: UdpSocket,
    /// Key pairs: making the public half takes longer than all else that a probe needs.
    secrets: Vec<(StaticSecret, PublicKey)>,
    lanes: Vec<PublicKey>,
    /// Peer by peer, lane by lane.
    sessions: Vec<Session>,
    questions: u64,
    /// Whether the peers probe, too.
    asks: bool,
    start: Instant,
}

impl Responder {
    /// Binds the port; `peers` peers of a gateway whose lanes have these keys. `asks`: they probe, too.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn new(peers: u32, lanes: &[[u8; 32]], asks: bool) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).context("Failed to bind the peers' port")?;
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)?;
        socket.set_read_timeout(Some(PACE / GROUPS as u32))?;
        let secrets: Vec<_> = (0..peers).map(key).map(|secret| (secret.clone(), PublicKey::from(&secret))).collect();
        let lanes: Vec<PublicKey> = lanes.iter().map(|&bytes| PublicKey::from(bytes)).collect();
        let mut sessions = Vec::with_capacity(secrets.len() * lanes.len());
        for (secret, own) in &secrets {
            for &lane in &lanes {
                let tunn = Tunn::new(secret.clone(), lane, None, None, sessions.len() as u32, None);
                let addresses = [&lane, own].map(|k| probe_address(&LaneKey(k.to_bytes())));
                sessions.push(Session { tunn, addresses, established: false, lane: None, asked: 0, heard: 0 });
            }
        }
        Ok(Self { socket, secrets, lanes, sessions, questions: 0, asks, start: Instant::now() })
    }

    /// Answers, and asks where that is wanted, for ever; `tell` gets the count once a second.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn run(&mut self, mut tell: impl FnMut(Count)) -> Result<()> {
        let mut data = [0; MESSAGE];
        let mut control = cmsg_space!(in_pktinfo);
        let (mut group, mut due) = (0, Instant::now());
        loop {
            if let Some((len, from, to)) = receive(&self.socket, &mut data, &mut control)? {
                self.received(&data[..len], from, to);
            }
            // A group that is late is not made up for: the pace is what matters.
            if due <= Instant::now() {
                self.ask(group);
                due = Instant::now() + PACE / GROUPS as u32;
                group = (group + 1) % GROUPS;
                if group == 0 {
                    let sessions = self.sessions.iter().filter(|s| s.established).count();
                    tell(Count { sessions, questions: std::mem::take(&mut self.questions) });
                }
            }
        }
    }

    fn received(&mut self, datagram: &[u8], from: SocketAddrV4, to: Ipv4Addr) -> Option<()> {
        let peer = index(to)? as usize;
        let (secret, own) = self.secrets.get(peer)?;
        let at = match Tunn::parse_incoming_packet(datagram).ok()? {
            Packet::HandshakeInit(init) => {
                let half = parse_handshake_anon(secret, own, &init).ok()?;
                let lane = self.lanes.iter().position(|l| *l.as_bytes() == half.peer_static_public)?;
                peer * self.lanes.len() + lane
            }
            Packet::HandshakeResponse(p) => p.receiver_idx as usize >> 8,
            Packet::PacketCookieReply(p) => p.receiver_idx as usize >> 8,
            Packet::PacketData(p) => p.receiver_idx as usize >> 8,
        };
        let session = self.sessions.get_mut(at)?;
        let mut out = [0; MESSAGE];
        match session.tunn.decapsulate(None, datagram, &mut out) {
            TunnResult::WriteToNetwork(answer) => {
                session.lane = Some(from);
                send(&self.socket, answer, to, from);
            }
            TunnResult::WriteToTunnelV6(packet, _) => {
                (session.lane, session.established) = (Some(from), true);
                let [lane, own] = session.addresses;
                let probe = Probe::decode(packet, lane, own)?;
                let kind = probe.kind.answer()?;
                if kind == Kind::Answer {
                    session.heard = probe.seq;
                    self.questions += 1;
                }
                // An answer's echo names the question that it answers.
                let answer = Probe { kind, echo: probe.seq, rx_packets: 0, ..probe };
                seal(&self.socket, session, &answer.encode(own, lane), to);
            }
            _ => {}
        }
        Some(())
    }

    /// Lets every session of a group ask, and its timers run.
    fn ask(&mut self, group: usize) {
        let sent = Time::from_nanos(self.start.elapsed().as_nanos() as u64);
        for at in (group..self.sessions.len()).step_by(GROUPS) {
            let (peer, session) = (at / self.lanes.len(), &mut self.sessions[at]);
            let (from, mut out) = (address(peer as u32), [0; MESSAGE]);
            if let (TunnResult::WriteToNetwork(message), Some(to)) =
                (session.tunn.update_timers(&mut out), session.lane)
            {
                send(&self.socket, message, from, to);
            }
            if !session.established || !self.asks {
                continue;
            }
            session.asked += 1;
            let [lane, own] = session.addresses;
            let probe = Probe {
                kind: Kind::Ask,
                seq: session.asked,
                sent,
                echo: session.heard,
                draining: false,
                healthy: true,
                rx_packets: 0,
            };
            seal(&self.socket, session, &probe.encode(own, lane), from);
        }
    }
}

fn seal(socket: &UdpSocket, session: &mut Session, packet: &[u8; LEN], from: Ipv4Addr) {
    let mut out = [0; MESSAGE];
    if let (TunnResult::WriteToNetwork(sealed), Some(to)) = (session.tunn.encapsulate(packet, &mut out), session.lane) {
        send(socket, sealed, from, to);
    }
}

/// One datagram, its sender, and the address it was sent to; nothing when none came in time.
fn receive(
    socket: &UdpSocket,
    data: &mut [u8; MESSAGE],
    control: &mut [u8],
) -> Result<Option<(usize, SocketAddrV4, Ipv4Addr)>> {
    let mut parts = [IoSliceMut::new(data)];
    let message = match recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut parts, Some(control), MsgFlags::empty()) {
        Ok(message) => message,
        Err(nix::Error::EAGAIN | nix::Error::EINTR) => return Ok(None),
        Err(error) => return Err(error).context("Failed to receive"),
    };
    let to = message.cmsgs()?.find_map(|c| match c {
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes())),
        _ => None,
    });
    Ok(message.address.zip(to).map(|(from, to)| (message.bytes, from.into(), to)))
}

pub(crate) fn send(socket: &UdpSocket, data: &[u8], from: Ipv4Addr, to: SocketAddrV4) {
    let source = in_addr { s_addr: u32::from_ne_bytes(from.octets()) };
    let info = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: source, ipi_addr: in_addr { s_addr: 0 } };
    let control = [ControlMessage::Ipv4PacketInfo(&info)];
    // What is lost here is lost as on any wire.
    let _ =
        sendmsg(socket.as_raw_fd(), &[IoSlice::new(data)], &control, MsgFlags::empty(), Some(&SockaddrIn::from(to)));
}
