//! One gateway: whether it answers, and what it says it reaches.

use hawser_liveness::{Config, Path, Time};
use hawser_node_probe::{Envelope, LivePage, LiveView, Message};
use hawser_route_plan::GatewayView;

/// See the module.
pub(super) struct Gateway {
    pub(super) path: Path,
    view: LiveView,
}

impl Gateway {
    /// A gateway of which nothing is known yet.
    pub(super) fn new(now: Time) -> Self {
        Self { path: Path::new(Config::default(), now), view: LiveView::default() }
    }

    /// Takes in what its process or its node says.
    pub(super) fn take(&mut self, said: &Envelope, now: Time) {
        let page = |gateway: &mut Self, page: &LivePage| {
            gateway.view.apply(said.instance, page);
            gateway.path.handle_drain(gateway.view.draining(), now);
        };
        match &said.message {
            Message::Answer { seq, page: state, .. } => {
                self.path.handle_probe_answer(*seq, now);
                page(self, state);
            }
            Message::Notice { page: state } => {
                self.path.handle_authenticated(now);
                page(self, state);
            }
            Message::GatewayGone => self.path.handle_gone(now),
            // Nobody asks a route agent.
            Message::Ask { .. } => {}
        }
    }

    /// What is known of it.
    pub(super) fn view(&self) -> GatewayView {
        GatewayView::new(self.path.state(), &self.view)
    }
}
