//! Replaces the lanes' keys as `rotation` judges.

use std::time::{Instant, SystemTime};

use super::Gateway;
use crate::rotation::{Now, Step, Wishes};

impl Gateway {
    /// Takes the next step of a replacement of keys, if one is due; one that fails is due again with the next turn.
    pub(super) fn rotate(&mut self, wishes: &Wishes) {
        let mut state = self.shared.lock();
        let Some(tunnel) = &state.tunnel else { return };
        let (lanes, begun) = (tunnel.lanes(), tunnel.rotation());
        let now = Now { steady: Instant::now(), wall: SystemTime::now() };
        let paths = begun.as_ref().map(|rotation| (rotation.since, rotation.paths.as_slice()));
        let published = self.publisher.has_next_keys(&lanes);
        let step = self.rotation.judge(wishes, &self.config.node, &lanes, paths, published, now);
        let done = match step {
            Some(Step::Prepare) => tunnel.prepare_keys(),
            Some(Step::Promote) => tunnel.promote_keys(),
            None => Ok(()),
        };
        match (step, &done) {
            (_, Err(error)) => tracing::warn!(%error, "the keys can't be replaced; the next turn tries again"),
            (Some(Step::Prepare), Ok(())) => tracing::info!("next keys made: peers are told before they are used"),
            (Some(Step::Promote), Ok(())) => tracing::info!("keys replaced by the next ones"),
            (None, Ok(())) => {}
        }
        if step.is_some() {
            // What is told of it is never behind what was done.
            let begun = tunnel.rotation();
            let paths = begun.as_ref().map(|rotation| (rotation.since, rotation.paths.as_slice()));
            self.rotation.judge(wishes, &self.config.node, &tunnel.lanes(), paths, false, now);
        }
        let is_answer = done.is_ok() && (step == Some(Step::Prepare) || begun.is_some());
        if is_answer
            && self.rotation.answer(wishes)
            && let Some(Err(error)) = self.rotation.answered().map(|request| self.memory.answer(request))
        {
            tracing::warn!(%error, "an answered request can't be kept on disk; after a restart it may be answered again");
        }
        state.rotation = self.rotation.progress().cloned();
    }
}
