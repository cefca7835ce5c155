//! Carries out what a pass decided. One object's trouble is its own: it is logged once and tried again with the next pass.

use std::collections::{BTreeMap, BTreeSet};

use futures::{FutureExt as _, StreamExt as _};
use hawser_agent_plan::Write;
use hawser_agent_plan::diff::Name;
use hawser_api::core::EndpointSlice;
use hawser_api::hawser::{Membership, RemoteCluster};
use hawser_api::labels;
use hawser_api::mcs::{ClusterProperty, ServiceExport, ServiceImport};
use hawser_local_api::{Client, Error, Key, Resource as _};

use crate::metrics::{Metrics, WriteLabels};

/// Writes of one pass; what is left comes with the next, which sees newer inputs.
const BATCH: usize = 500;
/// Objects written at the same time.
const PARALLEL: usize = 8;
/// Complaints remembered, so that each is logged once.
const MAX_COMPLAINTS: usize = 1000;

/// What came of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Not all fitted.
    pub(crate) more: bool,
    /// Something failed that may go well next time.
    pub(crate) retry: bool,
}

/// Writes to the local API.
pub(crate) struct Writer {
    client: Client,
    metrics: Metrics,
    complaints: BTreeSet<String>,
}

/// Writes to one object stay in order; those to different objects need none, except that some come first and some last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Peers,
    Services,
    Farewell,
}

impl Writer {
    pub(crate) fn new(client: Client, metrics: Metrics) -> Self {
        Self { client, metrics, complaints: BTreeSet::new() }
    }

    /// Carries out the first writes of a pass.
    pub(crate) async fn run(&mut self, writes: Vec<Write>) -> Outcome {
        let mut outcome = Outcome { more: writes.len() > BATCH, retry: false };
        let mut stages: BTreeMap<Stage, BTreeMap<(&'static str, Name), Vec<Write>>> = BTreeMap::new();
        for write in writes.into_iter().take(BATCH) {
            let (stage, kind, name) = place(&write);
            stages.entry(stage).or_default().entry((kind, name)).or_default().push(write);
        }
        for (stage, objects) in stages {
            if stage == Stage::Farewell && (outcome.more || outcome.retry) {
                outcome.more = true; // the properties go when everything else has
                break;
            }
            // Farewells keep their order: the id exists as long as the set's name does.
            let parallel = if stage == Stage::Services { PARALLEL } else { 1 };
            let mut work = Vec::with_capacity(objects.len());
            for ((kind, name), writes) in objects {
                work.push(each(self.client.clone(), kind, name, writes).boxed());
            }
            let results: Vec<_> = futures::stream::iter(work).buffer_unordered(parallel).collect().await;
            for (kind, name, result) in results {
                outcome.retry |= self.note(kind, &name, result);
            }
        }
        outcome
    }

    /// Counts and logs. Whether to try again.
    fn note(&mut self, kind: &'static str, name: &Name, result: Result<(), Error>) -> bool {
        let (label, retry) = match &result {
            Ok(()) => ("ok", false),
            Err(Error::NotFound { .. }) => ("gone", false), // its owner took it away meanwhile
            Err(Error::Owned { .. } | Error::Invalid { .. }) => ("refused", false),
            Err(Error::Storage { .. } | Error::Closed) => ("failed", true),
        };
        self.metrics.writes.get_or_create(&WriteLabels { kind, result: label }).inc();
        match result {
            Ok(()) | Err(Error::NotFound { .. }) => {
                tracing::debug!(kind, namespace = name.0, name = name.1, label, "written");
            }
            Err(error) => {
                let text = causes(&error);
                if self.complaints.len() >= MAX_COMPLAINTS {
                    self.complaints.clear();
                }
                if self.complaints.insert(text.clone()) {
                    tracing::warn!(kind, namespace = name.0, name = name.1, error = text, "not written");
                }
            }
        }
        retry
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

async fn each(
    client: Client,
    kind: &'static str,
    name: Name,
    writes: Vec<Write>,
) -> (&'static str, Name, Result<(), Error>) {
    for write in writes {
        if let Err(error) = one(&client, write).await {
            return (kind, name, Err(error));
        }
    }
    (kind, name, Ok(()))
}

async fn one(client: &Client, write: Write) -> Result<(), Error> {
    let key = |(namespace, name): Name| Key::namespaced(&namespace, &name);
    match write {
        Write::MembershipStatus(status) => {
            client.apply_status::<Membership, _>(Key::cluster(labels::MEMBERSHIP), &status).await
        }
        Write::Property(object) => client.apply(&*object).await,
        Write::RemoteCluster(object) => client.apply(&*object).await,
        Write::Import(object) => client.apply(&*object).await,
        Write::Slice(object) => client.apply(&*object).await,
        Write::RemoteClusterStatus(name, status) => {
            client.apply_status::<RemoteCluster, _>(Key::cluster(&name), &status).await
        }
        Write::ImportStatus(name, status) => client.apply_status::<ServiceImport, _>(key(name), &status).await,
        Write::ExportStatus(name, status) => client.apply_status::<ServiceExport, _>(key(name), &status).await,
        Write::DeleteProperty(name) => client.delete::<ClusterProperty>(Key::cluster(&name)).await,
        Write::DeleteRemoteCluster(name) => client.delete::<RemoteCluster>(Key::cluster(&name)).await,
        Write::DeleteImport(name) => client.delete::<ServiceImport>(key(name)).await,
        Write::DeleteSlice(name) => client.delete::<EndpointSlice>(key(name)).await,
    }
}

fn place(write: &Write) -> (Stage, &'static str, Name) {
    let cluster = |name: &str| (String::new(), name.to_owned());
    let of = |key: Key| (key.namespace, key.name);
    match write {
        Write::MembershipStatus(_) => (Stage::Peers, "Membership", cluster(labels::MEMBERSHIP)),
        Write::Property(o) => (Stage::Peers, "ClusterProperty", of(o.key())),
        Write::RemoteCluster(o) => (Stage::Peers, "RemoteCluster", of(o.key())),
        Write::RemoteClusterStatus(name, _) | Write::DeleteRemoteCluster(name) => {
            (Stage::Peers, "RemoteCluster", cluster(name))
        }
        Write::Import(o) => (Stage::Services, "ServiceImport", of(o.key())),
        Write::ImportStatus(name, _) | Write::DeleteImport(name) => (Stage::Services, "ServiceImport", name.clone()),
        Write::Slice(o) => (Stage::Services, "EndpointSlice", of(o.key())),
        Write::DeleteSlice(name) => (Stage::Services, "EndpointSlice", name.clone()),
        Write::ExportStatus(name, _) => (Stage::Services, "ServiceExport", name.clone()),
        // `clusterset.k8s.io` sorts after `cluster.clusterset.k8s.io`, so the stage's order is spelt out in the name.
        Write::DeleteProperty(name) => {
            let order = if name == labels::PROPERTY_CLUSTER_SET { "0" } else { "1" };
            (Stage::Farewell, "ClusterProperty", (order.to_owned(), name.clone()))
        }
    }
}
