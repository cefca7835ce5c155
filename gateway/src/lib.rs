//! The gateway process: local API in, data plane, status out.
