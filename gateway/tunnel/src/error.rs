//! Why a tunnel can't start, and what to do about it.

use std::io::{Error as IoError, ErrorKind};

use hawser_model::IpFamily;

use crate::config::LANES_MAX;
use crate::keys::KeyError;
use crate::netlink::NetlinkError;

/// Why a tunnel could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The number of lanes is out of range.
    #[error("{0} lanes: a gateway runs 1 to {LANES_MAX}")]
    Lanes(usize),
    /// A key can't be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The TUN device can't be made.
    #[error("the TUN device {device} can't be made{}", tun_remedy(source))]
    Tun {
        /// Its name.
        device: String,
        /// Why.
        #[source]
        source: IoError,
    },
    /// A port can't be bound.
    #[error("UDP port {port} ({family}) of lane {lane} can't be opened{}", port_remedy(source))]
    Port {
        /// The lane.
        lane: usize,
        /// The port.
        port: u16,
        /// The family.
        family: IpFamily,
        /// Why.
        #[source]
        source: IoError,
    },
    /// The kernel refused to set the device up.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// Something else the system refused.
    #[error("{action} failed{}", capability_remedy(source))]
    System {
        /// What was being done.
        action: &'static str,
        /// Why.
        #[source]
        source: IoError,
    },
}

pub(crate) fn system(action: &'static str) -> impl Fn(IoError) -> Error {
    move |source| Error::System { action, source }
}

/// What to do, as the end of a sentence; nothing where only the error itself can say.
fn capability_remedy(error: &IoError) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied => ": run it as root, or with CAP_NET_ADMIN and CAP_NET_RAW",
        _ => "",
    }
}

fn tun_remedy(error: &IoError) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound => {
            ": /dev/net/tun is not there; load the kernel module tun, or lend the container the device"
        }
        _ => capability_remedy(error),
    }
}

fn port_remedy(error: &IoError) -> &'static str {
    match error.kind() {
        ErrorKind::AddrInUse => {
            ": something else has it (`ss -lunp` says what); stop that, or choose others with --port"
        }
        _ => capability_remedy(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_an_operator_can_mend_say_how() {
        let tun = |kind| Error::Tun { device: "hawser-tun".to_owned(), source: IoError::from(kind) }.to_string();
        assert!(tun(ErrorKind::NotFound).contains("kernel module tun"));
        assert!(tun(ErrorKind::PermissionDenied).contains("CAP_NET_ADMIN"));
        assert_eq!(tun(ErrorKind::Other), "the TUN device hawser-tun can't be made");
        let port =
            |kind| Error::Port { lane: 1, port: 51_821, family: IpFamily::V6, source: IoError::from(kind) }.to_string();
        assert!(port(ErrorKind::AddrInUse).contains("--port"));
        assert!(port(ErrorKind::PermissionDenied).contains("CAP_NET_ADMIN"));
    }
}
