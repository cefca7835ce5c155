//! The kernel's side of a route agent: makes the kernel hold what `hawser-route-plan` asks for, by difference.
//!
//! Only what is ours is looked at: the device `hawser-vx` and everything on it, routes of our two tables that do not lead into
//! the gateway's TUN (those are the gateway process's), rules of our four priorities, the nft tables `inet hawser` and
//! `inet hawser-affinity`, and our rules in `FORWARD` chains of others. Nothing is flushed: what is right is left alone, so a
//! pass over a converged kernel changes nothing and a restarted agent drops no packet.
//!
//! - [`Kernel`]: a full pass ([`Kernel::converge`]), and the shortest way to other routes ([`Kernel::move_routes`]).
//! - [`facts`]: what this host is like, for the plan.
//! - [`monitor`]: links that come and go.

mod address;
mod conntrack;
mod converge;
mod diff;
mod error;
pub mod facts;
mod forward;
mod link;
pub mod monitor;
mod neighbour;
mod nft;
mod route;
mod rule;
mod sysctl;

pub use converge::{Kernel, Report};
pub use error::Error;
