//! The gateway's shell: TUN, UDP, lanes, keys.
