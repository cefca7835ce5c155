//! What a node's kernel should hold, worked out from what is known: device, addresses, neighbours, routes, rules, nft table.
//!
//! Pure: [`plan`] is a function of its [`Input`]. `hawser-route-kernel` is the other half, which makes the kernel so by
//! difference; the `hawser-route-agent` process feeds both.
//!
//! - [`input`], [`desired`]: what goes in, what comes out.
//! - [`select`]: which gateways carry traffic to which cluster, and which clusters are dark.
//! - [`routes`]: next hops, routes and rules (DESIGN section 8).
//! - [`ruleset`]: the nft table, with [`vip`] for virtual addresses and [`slots`] for their endpoints.

pub mod desired;
pub mod input;
mod nft;
pub mod routes;
pub mod ruleset;
pub mod select;
pub mod slots;
pub mod vip;

pub use desired::{Desired, DeviceSettings, Hop, Mac, Role, Route, RouteKey, RouteKind, Rule, Ruleset, Sysctl, Vxlan};
pub use input::{
    Backend, ClusterReach, ClusterView, GatewayView, Group, Host, Input, Node, Path, Remote, Service, Uplink,
};

/// The kernel state that `input` asks for. [`Desired::default`] (nothing) is what a cluster that left gets.
#[must_use]
pub fn plan(input: &Input) -> Desired {
    let underlay = routes::Underlay::choose(input);
    let mut desired = Desired {
        vxlan: underlay.as_ref().map(|u| u.device(input)),
        addresses: routes::addresses(input),
        rules: routes::rules(input),
        routes: routes::routes(input),
        nft: ruleset::ruleset(input, underlay.as_ref()),
        flows: vip::flows(input),
        forward: routes::DEVICES.into(),
        devices: routes::device_settings(),
        sysctls: routes::sysctls(input),
        ..Desired::default()
    };
    if let Some(underlay) = &underlay {
        desired.neighbours = underlay.neighbours(input);
        desired.fdb = underlay.fdb(input);
    }
    desired
}
