//! The local API's objects, followed; each pass takes them as they stand.

use std::sync::Arc;
use std::time::Duration;

use hawser_agent_plan::Local;
use hawser_api::core::{EndpointSlice, Namespace, Service};
use hawser_api::hawser::{GatewayNode, Membership, RemoteCluster};
use hawser_api::labels;
use hawser_api::mcs::{ClusterProperty, ServiceExport, ServiceImport};
use hawser_local_api::client::View;
use hawser_local_api::follow::{Changes, synced};
use hawser_local_api::{Client, Error, Key};
use tokio::sync::watch::Receiver;

/// Every kind that the agent reads.
#[derive(Clone)]
pub(crate) struct Sources {
    memberships: Receiver<View<Membership>>,
    gateway_nodes: Receiver<View<GatewayNode>>,
    remote_clusters: Receiver<View<RemoteCluster>>,
    exports: Receiver<View<ServiceExport>>,
    imports: Receiver<View<ServiceImport>>,
    properties: Receiver<View<ClusterProperty>>,
    namespaces: Receiver<View<Namespace>>,
    services: Receiver<View<Service>>,
    slices: Receiver<View<EndpointSlice>>,
}

impl Sources {
    pub(crate) fn new(client: &Client) -> Self {
        Self {
            memberships: client.reflect(),
            gateway_nodes: client.reflect(),
            remote_clusters: client.reflect(),
            exports: client.reflect(),
            imports: client.reflect(),
            properties: client.reflect(),
            namespaces: client.reflect(),
            services: client.reflect(),
            slices: client.reflect(),
        }
    }

    /// Waits until each kind has been listed once.
    pub(crate) async fn listed(&mut self) -> Result<(), Error> {
        synced(&mut self.memberships).await?;
        synced(&mut self.gateway_nodes).await?;
        synced(&mut self.remote_clusters).await?;
        synced(&mut self.exports).await?;
        synced(&mut self.imports).await?;
        synced(&mut self.properties).await?;
        synced(&mut self.namespaces).await?;
        synced(&mut self.services).await?;
        synced(&mut self.slices).await?;
        Ok(())
    }

    /// Says when anything changes, and what comes close together once.
    pub(crate) fn changes(&self, quiet: Duration) -> Changes {
        Changes::new(quiet)
            .with(&self.memberships)
            .with(&self.gateway_nodes)
            .with(&self.remote_clusters)
            .with(&self.exports)
            .with(&self.imports)
            .with(&self.properties)
            .with(&self.namespaces)
            .with(&self.services)
            .with(&self.slices)
    }

    /// Everything as it stands; none while a kind has not been listed.
    pub(crate) fn take(&self) -> Option<Local> {
        let memberships = self.memberships.borrow().clone()?;
        Some(Local {
            membership: memberships.get(&Key::cluster(labels::MEMBERSHIP)).cloned(),
            gateway_nodes: all(&self.gateway_nodes)?,
            remote_clusters: all(&self.remote_clusters)?,
            exports: all(&self.exports)?,
            imports: all(&self.imports)?,
            properties: all(&self.properties)?,
            namespaces: all(&self.namespaces)?,
            services: all(&self.services)?,
            slices: all(&self.slices)?,
        })
    }
}

fn all<K>(receiver: &Receiver<View<K>>) -> Option<Vec<Arc<K>>> {
    Some(receiver.borrow().as_ref()?.values().cloned().collect())
}
