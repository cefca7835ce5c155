//! The local API's objects as this process needs them: every kind's latest view, together.

use std::collections::BTreeMap;
use std::sync::Arc;

use hawser_api::core::{EndpointSlice, Namespace, Node};
use hawser_api::hawser::{Membership, RemoteCluster};
use hawser_api::mcs::{ClusterProperty, ServiceImport};
use hawser_local_api::client::View;
use hawser_local_api::{Client, Key, Resource};
use tokio::sync::watch::{Receiver, error::RecvError};

/// All objects of a kind.
pub(crate) type All<K> = Arc<BTreeMap<Key, Arc<K>>>;

/// Every kind's objects at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Objects {
    pub(crate) properties: All<ClusterProperty>,
    pub(crate) memberships: All<Membership>,
    pub(crate) nodes: All<Node>,
    pub(crate) remotes: All<RemoteCluster>,
    pub(crate) imports: All<ServiceImport>,
    pub(crate) slices: All<EndpointSlice>,
    pub(crate) namespaces: All<Namespace>,
}

/// Follows every kind.
pub(crate) struct Views {
    properties: Receiver<View<ClusterProperty>>,
    memberships: Receiver<View<Membership>>,
    nodes: Receiver<View<Node>>,
    remotes: Receiver<View<RemoteCluster>>,
    imports: Receiver<View<ServiceImport>>,
    slices: Receiver<View<EndpointSlice>>,
    namespaces: Receiver<View<Namespace>>,
}

fn latest<K: Resource>(view: &mut Receiver<View<K>>) -> Option<All<K>> {
    view.borrow_and_update().clone()
}

impl Views {
    pub(crate) fn follow(client: &Client) -> Self {
        Self {
            properties: client.reflect(),
            memberships: client.reflect(),
            nodes: client.reflect(),
            remotes: client.reflect(),
            imports: client.reflect(),
            slices: client.reflect(),
            namespaces: client.reflect(),
        }
    }

    /// What there is now; none until every kind's first list is in.
    pub(crate) fn now(&mut self) -> Option<Objects> {
        let properties = latest(&mut self.properties);
        let memberships = latest(&mut self.memberships);
        let nodes = latest(&mut self.nodes);
        let remotes = latest(&mut self.remotes);
        let imports = latest(&mut self.imports);
        let slices = latest(&mut self.slices);
        let namespaces = latest(&mut self.namespaces);
        Some(Objects {
            properties: properties?,
            memberships: memberships?,
            nodes: nodes?,
            remotes: remotes?,
            imports: imports?,
            slices: slices?,
            namespaces: namespaces?,
        })
    }

    /// Waits until a kind has changed since [`Self::now`].
    ///
    /// # Errors
    /// When the local API is closed.
    pub(crate) async fn changed(&mut self) -> Result<(), RecvError> {
        tokio::select! {
            r = self.properties.changed() => r,
            r = self.memberships.changed() => r,
            r = self.nodes.changed() => r,
            r = self.remotes.changed() => r,
            r = self.imports.changed() => r,
            r = self.slices.changed() => r,
            r = self.namespaces.changed() => r,
        }
    }
}
