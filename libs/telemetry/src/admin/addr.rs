//! Where the admin endpoint is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Flags about the admin endpoint, to be flattened into a process's own.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Admin endpoint")]
pub struct AdminArgs {
    /// Where to serve metrics, readiness and reports (default: `admin.sock` in the process's state folder).
    #[arg(long, env = "HAWSER_ADMIN", value_name = "unix:PATH|HOST:PORT")]
    pub admin: Option<AdminAddr>,
}

impl AdminArgs {
    /// The address given, or `admin.sock` in the process's own state folder (`<state>/<process>`).
    #[must_use]
    pub fn addr(&self, process_state: &Path) -> AdminAddr {
        self.admin.clone().unwrap_or_else(|| AdminAddr::Unix(process_state.join("admin.sock")))
    }
}

/// Where an admin endpoint is, written `unix:PATH` or `HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminAddr {
    /// A unix socket.
    Unix(PathBuf),
    /// A TCP port: a host name or address (IPv6 in brackets), a colon, a port.
    Tcp(String),
}

/// An address that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is no admin address: {rule}; write unix:/run/hawser/admin.sock, 127.0.0.1:9090 or [::1]:9090")]
pub struct InvalidAdminAddr {
    value: String,
    rule: &'static str,
}

impl FromStr for AdminAddr {
    type Err = InvalidAdminAddr;

    fn from_str(text: &str) -> Result<Self, InvalidAdminAddr> {
        let invalid = |rule| InvalidAdminAddr { value: text.to_owned(), rule };
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(invalid("the path is empty")) } else { Ok(Self::Unix(path.into())) };
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(|| invalid("a port is missing"))?;
        if port.parse::<u16>().is_err() {
            return Err(invalid("the port is not a number up to 65535"));
        }
        let bracketed = host.starts_with('[') && host.ends_with(']');
        if host.is_empty() {
            return Err(invalid("the host is missing"));
        }
        if host.contains(':') && !bracketed {
            return Err(invalid("an IPv6 address needs brackets"));
        }
        Ok(Self::Tcp(text.to_owned()))
    }
}

impl fmt::Display for AdminAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => f.write_str(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_and_print_alike() {
        for text in ["unix:/a/b.sock", "127.0.0.1:0", "[::1]:9090", "localhost:80"] {
            assert_eq!(text.parse::<AdminAddr>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn bad_addresses_name_the_rule() {
        for (text, rule) in [
            ("unix:", "path is empty"),
            ("localhost", "port is missing"),
            (":80", "host is missing"),
            ("a:99999", "65535"),
            ("::1:80", "brackets"),
        ] {
            let error = text.parse::<AdminAddr>().unwrap_err().to_string();
            assert!(error.contains(rule) && error.contains("[::1]:9090"), "{text}: {error}");
        }
    }
}
