//! What the loop tells others: the prober whom to ask, DNS what to answer, the operator what is wrong.

use hawser_model::defaults::VXLAN_DEVICE;
use hawser_route_plan::select;

use super::Agent;
use crate::probe::Asked;

impl Agent {
    /// Says which nodes to ask, on which device.
    pub(super) async fn ask_gateways(&self) {
        let device = match self.parts.kernel.device_index(VXLAN_DEVICE).await {
            Ok(index) => index.filter(|_| self.host.ipv6 && self.known.is_some()),
            Err(error) => {
                tracing::warn!(%error, "the device between nodes can't be looked at");
                return;
            }
        };
        let nodes = self.known.iter().flat_map(|k| &k.input.nodes);
        let asked = Asked {
            device,
            gateways: nodes.clone().filter(|n| n.gateway).map(|n| n.name.clone()).collect(),
            nodes: nodes.map(|n| n.name.clone()).collect(),
        };
        self.parts.asked.send_if_modified(|known| {
            let changed = *known != asked;
            *known = asked;
            changed
        });
    }

    /// Says what DNS should answer now.
    pub(super) fn serve_names(&mut self) {
        match (&self.known, self.input()) {
            (Some(known), Some(input)) => {
                self.parts.names.serve(&known.zone, select::dark(&input), &input.dns_addresses);
            }
            _ => self.parts.names.stop(),
        }
    }

    /// Says once what is wrong with objects.
    pub(super) fn report_problems(&mut self) {
        let now = self.known.as_ref().map(|k| k.problems.clone()).unwrap_or_default();
        for problem in now.difference(&self.problems) {
            tracing::warn!(object = %problem.object, field = problem.field, rule = %problem.rule, "skipped; mend the object");
        }
        self.problems = now;
    }
}
