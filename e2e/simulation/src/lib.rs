//! A simulated network around the real pure parts of the data plane, in virtual time.
//!
//! Real: `hawser-datapath` (path sets, the clock of a lane's loop, selection, forwarding, policy, packets, the probe's codec), `hawser-liveness`,
//! `hawser-node-probe`'s live view, `hawser-route-plan`'s choice of gateways. Modelled: the network under them, WireGuard's
//! sessions, the loops of lanes and nodes, and users who talk. What goes wrong is drawn from a seed: links that lose, delay,
//! overtake, repeat and stop in one direction or both, translators and addresses that change, processes that restart, loops
//! that lag, drains, configurations that come and go, forged ICMP errors, hostile workloads and gateways.
//!
//! Beside it a reference keeps what is so ([`World`] compares with it all along): no packet reaches the wrong cluster, the
//! host itself, or anybody twice; selection follows the paths' states; no packet takes a path known dead while another
//! lives; states agree with what is so, at both ends, within a second of the last change (more only where nothing could be
//! known sooner: see `reference`); nothing that is good for a while is taken for dead; a hold-down is neither skipped nor
//! endless.
//!
//! The real loops are `hawser-tunnel`'s lanes and `hawser-route-agent`'s probing; `lane` and `node` here are written after them,
//! and say what they leave out. That nothing leaves in the clear is a matter of types here: a `Datagram` holds no packet but sealed.
//!
//! - [`World`]: the event loop and the checks; [`Summary`] says what a run was made of.
//! - `topology`, `underlay`, `traffic`, `faults`: who is there, what is between them, who talks, what goes wrong.
//! - `lane`, `session`, `board`, `node`: the processes.
//! - `reference`, `story`: what is so; what happened lately.

mod board;
mod dice;
mod faults;
mod lane;
mod node;
mod reference;
mod session;
mod story;
mod topology;
mod traffic;
mod underlay;
mod world;

pub use topology::GatewayShape;
pub use world::{Summary, World};
