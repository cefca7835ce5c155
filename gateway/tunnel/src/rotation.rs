//! A tunnel's own keys while it runs, and how it comes to new ones: beside each lane's key there may be a next one, by which
//! peers that know it have sessions too (`lane/peers`). Which of the two a packet goes by is each lane's choice; when the
//! next key may replace the other is the business of the `hawser-gateway` process.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use hawser_datapath::HandshakeGuard;
use hawser_model::PublicKey;

use crate::keys::{self, KeyError, LaneKey};
use crate::links::Links;
use crate::session::{Admitted, Identity, Sender};
use crate::shared::Door;
use crate::snapshot::Snapshot;
use crate::status::{LaneInfo, RotatingPath, Rotation, Summary};
use crate::{Error, Tunnel};

/// The identities of one lane.
#[derive(Clone)]
pub(crate) struct Identities {
    /// The one that peers know it by.
    pub(crate) current: Arc<Identity>,
    /// The one that will replace it.
    pub(crate) next: Option<Arc<Identity>>,
}

impl Identities {
    /// All that handshakes are taken for.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Identity>> {
        std::iter::once(&self.current).chain(&self.next)
    }

    /// Tells whose a datagram is, without trusting it, and which key it is for. A message names that by its first checksum
    /// only, so the next key is tried where the current one fails.
    pub(crate) fn admit(
        &self,
        datagram: &[u8],
        from: Sender,
        guard: &mut HandshakeGuard,
        out: &mut [u8],
    ) -> (PublicKey, Admitted) {
        let mut tried = self.iter().map(|identity| (identity.key(), identity.admit(datagram, from, guard, out)));
        let admitted = tried.find(|(_, admitted)| *admitted != Admitted::Rejected);
        admitted.unwrap_or_else(|| (self.current.key(), Admitted::Rejected))
    }
}

/// The keys of all lanes, and where they are kept.
pub(crate) struct Keys {
    dir: PathBuf,
    pub(crate) lanes: Vec<LaneInfo>,
    identities: Vec<Identities>,
    /// The snapshot that brought the next keys to the lanes.
    pub(crate) since: u64,
}

impl Keys {
    /// Loads the keys of `lanes` lanes, the first of which listens on `port`; makes those that are missing.
    pub(crate) fn load(dir: PathBuf, lanes: usize, port: u16) -> Result<Self, Error> {
        let mut this = Self { dir, lanes: Vec::new(), identities: Vec::new(), since: 0 };
        for lane in 0..lanes {
            let (current, next) = (keys::load_or_create(&this.dir, lane)?, keys::load_next(&this.dir, lane)?);
            this.lanes.push(LaneInfo {
                key: current.public,
                created: current.created,
                port: port + lane as u16,
                next: next.as_ref().map(|key| (key.public, key.created)),
            });
            this.identities.push(Identities { current: identity(current), next: next.map(identity) });
        }
        Ok(this)
    }

    pub(crate) fn identities(&self) -> Vec<Identities> {
        self.identities.clone()
    }

    fn prepare(&mut self) -> Result<(), KeyError> {
        for (index, (lane, identities)) in self.lanes.iter_mut().zip(&mut self.identities).enumerate() {
            if identities.next.is_none() {
                let key = keys::load_or_create_next(&self.dir, index)?;
                lane.next = Some((key.public, key.created));
                identities.next = Some(identity(key));
            }
        }
        Ok(())
    }

    fn promote(&mut self) -> Result<(), KeyError> {
        for (index, (lane, identities)) in self.lanes.iter_mut().zip(&mut self.identities).enumerate() {
            let Some(next) = identities.next.clone() else { continue };
            keys::promote(&self.dir, index)?;
            if let Some((key, created)) = lane.next.take() {
                (lane.key, lane.created) = (key, created);
            }
            *identities = Identities { current: next, next: None };
        }
        Ok(())
    }
}

fn identity(key: LaneKey) -> Arc<Identity> {
    Arc::new(Identity::new(key.secret))
}

impl Tunnel {
    /// Gives every lane that has none a next key: on disk first, then taken for handshakes, then to be published
    /// ([`Self::lanes`]).
    ///
    /// # Errors
    /// When a key can't be made or kept; asked again, it goes on where it ended.
    pub fn prepare_keys(&self) -> Result<(), KeyError> {
        self.change_keys(Keys::prepare, true)
    }

    /// Replaces every lane's key by its next one. Sessions go on: those of the old key only receive, or send where the peer
    /// has no other, until they end by age; no new ones are made by it.
    ///
    /// # Errors
    /// When the files can't be written; asked again, it goes on where it ended.
    pub fn promote_keys(&self) -> Result<(), KeyError> {
        self.change_keys(Keys::promote, false)
    }

    fn change_keys(&self, change: fn(&mut Keys) -> Result<(), KeyError>, begins: bool) -> Result<(), KeyError> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut keys);
        // What was done before an error is in force on disk, so it is here.
        let current = self.shared.snapshot.load();
        let (peers, links) = (Arc::clone(&current.peers), Links::look());
        let next = Snapshot::new(peers, Some(&current), |a| links.inner_mtu(a), links.addresses());
        let next = next.with_identities(keys.identities());
        if begins {
            keys.since = next.revision;
        }
        self.take_up(next);
        result
    }

    /// How far the lanes' next keys are, while there are any. Figures are no older than a quarter of a second.
    #[must_use]
    pub fn rotation(&self) -> Option<Rotation> {
        let (begun, prepared) = {
            let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
            (keys.lanes.iter().filter_map(|lane| lane.next).map(|(_, created)| created).max(), keys.since)
        };
        let since: SystemTime = begun?;
        let snapshot = self.shared.snapshot.load_full();
        let lanes: Vec<_> = self.shared.doors.iter().map(Door::status).collect();
        let summary = Summary::new(&snapshot, &lanes);
        let paths = snapshot.paths.iter().map(|spec| RotatingPath {
            cluster: spec.key.cluster.clone(),
            gateway: spec.key.gateway.clone(),
            plain: !spec.probes,
            next: summary.next_key(&spec.key, prepared),
        });
        Some(Rotation { since, paths: paths.collect() })
    }
}
