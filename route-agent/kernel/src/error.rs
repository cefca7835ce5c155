//! What goes wrong between us and the kernel.

use std::io;

/// A change or a look that failed, with what it was.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Netlink said no.
    #[error("{action}: {source}")]
    Netlink {
        /// What was being done.
        action: String,
        /// The kernel's answer.
        source: rtnetlink::Error,
    },
    /// `nft` said no.
    #[error("{action}: {message}")]
    Nft {
        /// What was being done.
        action: String,
        /// What it printed.
        message: String,
    },
    /// A file or a program could not be used.
    #[error("{action}: {source}")]
    Io {
        /// What was being done.
        action: String,
        /// Why not.
        source: io::Error,
    },
    /// A setting that nothing works without cannot be made.
    #[error("{path} is {actual:?} but must be {wanted:?}, and can't be written ({source}); set it on the host")]
    Sysctl {
        /// Its path.
        path: String,
        /// What it is.
        actual: String,
        /// What it must be.
        wanted: &'static str,
        /// Why it can't be written.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err` on netlink calls.
    pub(crate) fn netlink(action: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Self {
        let action = action.into();
        move |source| Self::Netlink { action, source }
    }

    /// For `map_err` on I/O.
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }

    /// The errno behind a netlink error, positive; 0 where there is none.
    pub(crate) fn errno(error: &rtnetlink::Error) -> i32 {
        match error {
            rtnetlink::Error::NetlinkError(message) => message.raw_code().abs(),
            _ => 0,
        }
    }
}

/// Makes "it is there already" a success.
pub(crate) fn unless_exists(result: Result<(), rtnetlink::Error>) -> Result<(), rtnetlink::Error> {
    match result {
        Err(error) if Error::errno(&error) == libc::EEXIST => Ok(()),
        other => other,
    }
}

/// Makes "it is not there" a success.
pub(crate) fn unless_gone(result: Result<(), rtnetlink::Error>) -> Result<(), rtnetlink::Error> {
    const GONE: [i32; 5] = [libc::ESRCH, libc::ENOENT, libc::ENODEV, libc::EADDRNOTAVAIL, libc::ENXIO];
    match result {
        Err(error) if GONE.contains(&Error::errno(&error)) => Ok(()),
        other => other,
    }
}
