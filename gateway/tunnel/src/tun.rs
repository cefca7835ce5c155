//! The TUN device: one queue per lane, superpackets both ways. Its address and routes are `netlink`'s part.
//!
//! The device has no life of its own: it goes with the last of its queues, and its routes with it.

use std::io;
use std::time::{Duration, Instant};

use tun_rs::{DeviceBuilder, SyncDevice};

/// How long a predecessor may take to let go of the device.
const TAKE_OVER: Duration = Duration::from_secs(3);

/// Opens the device `name` with `queues` queues, not yet up.
///
/// # Errors
/// When a device of that name stays around (another gateway on this host), or the kernel has no TUN.
pub(crate) fn open(name: &str, queues: usize) -> io::Result<Vec<SyncDevice>> {
    // Attaching to an existing device would work and split its traffic with the process that has it.
    let deadline = Instant::now() + TAKE_OVER;
    while nix::net::if_::if_nametoindex(name).is_ok() {
        if Instant::now() >= deadline {
            let hint = "another gateway runs on this host, or something else made it: stop or remove it";
            return Err(io::Error::new(io::ErrorKind::AddrInUse, format!("device {name} exists already; {hint}")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let first = DeviceBuilder::new()
        .name(name)
        .enable(false)
        .with(|options| {
            options.offload(true).multi_queue(true);
        })
        .build_sync()?;
    let mut devices = vec![first];
    while devices.len() < queues {
        let next = devices[0].try_clone()?;
        devices.push(next);
    }
    for device in &devices {
        device.set_nonblocking(true)?;
    }
    Ok(devices)
}
