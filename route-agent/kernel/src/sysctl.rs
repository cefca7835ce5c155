//! Kernel-wide settings, by `/proc/sys`: read first, written only where they differ.

use std::fs;
use std::path::Path;

use hawser_route_plan::Sysctl;

use crate::error::Error;

const ROOT: &str = "/proc/sys";
const IPV6_FORWARDING: &str = "net/ipv6/conf/all/forwarding";

/// Makes a setting; says whether it was another. One that is only an improvement may fail.
pub(crate) fn set(sysctl: &Sysctl) -> Result<bool, Error> {
    let path = Path::new(ROOT).join(sysctl.path);
    let actual = read(&path);
    if actual.as_deref() == Some(sysctl.value) {
        return Ok(false);
    }
    if sysctl.path == IPV6_FORWARDING {
        keep_router_advertisements();
    }
    match fs::write(&path, sysctl.value) {
        Ok(()) => Ok(true),
        Err(source) if sysctl.required => Err(Error::Sysctl {
            path: path.display().to_string(),
            actual: actual.unwrap_or_default(),
            wanted: sysctl.value,
            source,
        }),
        Err(_) => Ok(false),
    }
}

/// A host that forwards IPv6 stops taking router advertisements, and loses its default route with them, unless told that it
/// should (2) on each device where it does now (1).
fn keep_router_advertisements() {
    let Ok(devices) = fs::read_dir(Path::new(ROOT).join("net/ipv6/conf")) else { return };
    for device in devices.flatten() {
        let path = device.path().join("accept_ra");
        if read(&path).as_deref() == Some("1")
            && let Err(error) = fs::write(&path, "2")
        {
            tracing::warn!(path = %path.display(), %error, "this device may lose its IPv6 default route");
        }
    }
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|s| s.trim().to_owned())
}

/// Whether IPv6 is on in this network namespace.
pub(crate) fn ipv6_enabled() -> bool {
    let off = |which| {
        let path = Path::new(ROOT).join("net/ipv6/conf").join(which).join("disable_ipv6");
        read(&path).is_none_or(|v| v != "0")
    };
    !off("all") && !off("default")
}
