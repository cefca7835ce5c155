//! The authenticated probe between a node and its cluster's gateways. Pure.
