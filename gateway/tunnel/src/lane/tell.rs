//! What a lane tells the other lanes and control, and hears from them. Called by `timers`.

use std::sync::atomic::Ordering;

use hawser_datapath::{PathEvent, PathIndex, pmtu};
use hawser_liveness::{State, Time};

use super::Lane;
use super::peers::Link;
use crate::session::Session as _;
use crate::status::{LanePath, NextKey};

/// What happened to paths that is told in one turn: each is a line of the log, or a word to the other lanes.
const EVENTS_AT_ONCE: usize = 8;
/// Paths that others found something about, in one turn.
const NEWS_AT_ONCE: usize = 32;

impl Lane {
    /// Hears what other lanes found; true when that was all.
    pub(super) fn read_boards(&mut self, now: Time) -> bool {
        self.paths.set_own(self.shared.draining.load(Ordering::Relaxed), true);
        let news = self.peers.take_news(NEWS_AT_ONCE);
        let all = news.len() < NEWS_AT_ONCE;
        news.into_iter().for_each(|(path, link)| self.read_board(path, link, now));
        all
    }

    fn read_board(&mut self, path: PathIndex, link: Link, now: Time) {
        let spec = &self.peers.snapshot.paths[link.spec];
        let (hints, mirror, refused) = (spec.board.hints(), spec.board.get(0), spec.board.refused(self.index));
        // Another lane found less: the same may be true here.
        if spec.board.mtu() < self.paths.mtu(path) && self.paths.mtu(path) > Some(pmtu::BASE) {
            self.paths.handle_mtu_hint(path, now);
        }
        if hints != link.hints {
            self.peers.saw_hints(path, hints);
            self.paths.handle(path, now, |life| life.handle_hint(now));
        }
        if let Some(at) = refused {
            self.paths.handle(path, now, |life| life.handle_sibling_refusal(at, now));
        }
        if link.sender.is_none() {
            self.paths.handle_mirror(path, mirror.unwrap_or(State::Unknown), now);
        }
    }

    /// Tells what happened to paths; true when some is left to tell.
    pub(super) fn tell_events(&mut self) -> bool {
        for _ in 0..EVENTS_AT_ONCE {
            let Some(event) = self.paths.poll_event() else { return false };
            self.path_event(event);
        }
        true
    }

    fn path_event(&mut self, event: PathEvent) {
        self.timers.changed();
        match event {
            PathEvent::State { path, cluster, gateway, from, to, reason, .. } => {
                let brief = to == State::Suspect || (from == State::Suspect && to == State::Up);
                if brief || self.index > 0 {
                    tracing::debug!(lane = self.index, %cluster, %gateway, %from, %to, %reason, "path changed");
                } else {
                    tracing::info!(%cluster, %gateway, %from, %to, %reason, "path changed");
                }
                self.post(path, to);
                if to == State::Down {
                    self.timers.seek();
                }
            }
            PathEvent::Hint { cluster, gateway } => {
                let Some(path) = self.paths.find(&cluster, &gateway) else { return };
                let Some(spec) = self.peers.link(path).map(|link| link.spec) else { return };
                let hints = self.peers.snapshot.paths[spec].board.hint();
                self.peers.saw_hints(path, hints);
                self.announce();
            }
            PathEvent::Failover { cluster, gateway, took, .. } => {
                tracing::info!(lane = self.index, %cluster, %gateway, ?took, "flows moved off a dead path");
            }
            PathEvent::Draining { cluster, gateway, draining } => {
                tracing::info!(lane = self.index, %cluster, %gateway, draining, "remote gateway's drain");
            }
            PathEvent::Mtu { path, cluster, gateway, from, to } => {
                tracing::info!(lane = self.index, %cluster, %gateway, from, to, "path MTU");
                self.post_mtu(path);
                self.announce();
            }
            PathEvent::Cluster { .. } => {}
        }
    }

    /// Tells the other lanes that a board changed.
    fn announce(&mut self) {
        let before = self.shared.announce(Some(self.index));
        // What a lane says itself is no news to it.
        if self.epoch == Some(before) {
            self.epoch = Some(before.wrapping_add(1));
        }
    }

    /// Shows a path's state to the other lanes.
    fn post(&mut self, path: PathIndex, state: State) {
        let Some(link) = self.peers.link(path).filter(|l| l.sender.is_some()) else { return };
        self.peers.snapshot.paths[link.spec].board.set(self.index, Some(state));
        self.post_mtu(path);
        self.announce();
    }

    /// Shows what a path takes from here, while it is in use.
    fn post_mtu(&self, path: PathIndex) {
        let Some(link) = self.peers.link(path).filter(|l| l.sender.is_some()) else { return };
        let in_use = self.paths.state(path).is_some_and(State::carries);
        let mtu = self.paths.mtu(path).filter(|_| in_use);
        self.peers.snapshot.paths[link.spec].board.set_mtu(self.index, mtu);
    }

    /// Lets control and the other lanes see this lane's figures, so many paths at a time: they are shown when all are there.
    pub(super) fn publish(&mut self, now: Time) {
        let (paths, clusters) = (self.peers.indexes(), self.paths.clusters());
        let part = self.shown.part(paths + clusters);
        if part.start == 0 {
            self.spare.paths.clear();
            self.spare.clusters.clear();
            self.spare.paths.reserve(self.peers.snapshot.paths.len());
            self.spare.clusters.reserve(clusters);
        }
        for index in part.start..part.end.min(paths) {
            self.show(index as PathIndex, now);
        }
        let of_clusters = part.start.max(paths)..part.end.max(paths);
        let rows = self.paths.cluster_rows(now).skip(of_clusters.start - paths).take(of_clusters.len());
        self.spare.clusters.extend(rows);
        if self.shown.stop(part.end, paths + clusters) {
            return self.timers.go_on(now);
        }
        let mut status = std::mem::take(&mut self.spare);
        let changed = self.timers.published(status.paths.len() as u32, now);
        (status.revision, status.at, status.load) = (self.peers.snapshot.revision, now, self.load.told());
        self.spare = self.shared.doors[self.index].publish(status).unwrap_or_default();
        if changed {
            self.shared.changed.notify_one();
        }
    }

    /// Adds a path's figures, if this lane sends by it, to those that are about to be shown, and to its board.
    fn show(&mut self, index: PathIndex, now: Time) {
        let Some(link) = self.peers.link(index) else { return };
        let (Some(sender), Some(row)) = (link.sender, self.paths.path_row(index, now)) else { return };
        let spec = &self.peers.snapshot.paths[link.spec];
        let (pair, at) = (&self.peers.pairs[sender], |ago| now.before(ago));
        let last_proof = row.proof.map(at);
        spec.board.set(self.index, Some(row.state));
        spec.board.prove(self.index, last_proof);
        self.post_mtu(index);
        self.spare.paths.push(LanePath {
            key: spec.key.clone(),
            state: row.state,
            since: at(row.since),
            last_proof,
            last_heard: row.heard.map(at),
            endpoint: pair.endpoint,
            session_age: pair.session.age(),
            next_key: self.peers.next_key(index).map(|next| if row.state.carries() { next } else { NextKey::Dark }),
            row,
        });
    }
}
