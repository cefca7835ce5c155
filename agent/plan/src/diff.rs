//! Desired objects against existing ones: the writes that are missing.

use std::collections::{BTreeMap, BTreeSet};

use hawser_api::core::{EndpointSlice, ObjectMeta};
use hawser_api::hawser::{MembershipStatus, RemoteCluster, RemoteClusterStatus};
use hawser_api::labels;
use hawser_api::mcs::{ClusterProperty, ServiceExportStatus, ServiceImport, ServiceImportStatus};

use crate::local::{Local, label};

/// Namespace and name.
pub type Name = (String, String);

/// One write to the local API.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Replaces the status of `Membership/default`.
    MembershipStatus(MembershipStatus),
    /// Applies a property.
    Property(Box<ClusterProperty>),
    /// Applies a remote cluster.
    RemoteCluster(Box<RemoteCluster>),
    /// Applies an import.
    Import(Box<ServiceImport>),
    /// Applies an imported endpoint slice.
    Slice(Box<EndpointSlice>),
    /// Replaces a remote cluster's status.
    RemoteClusterStatus(String, RemoteClusterStatus),
    /// Replaces an import's status.
    ImportStatus(Name, ServiceImportStatus),
    /// Replaces an export's status.
    ExportStatus(Name, ServiceExportStatus),
    /// Deletes a property.
    DeleteProperty(String),
    /// Deletes a remote cluster.
    DeleteRemoteCluster(String),
    /// Deletes an import.
    DeleteImport(Name),
    /// Deletes an imported endpoint slice.
    DeleteSlice(Name),
}

/// Everything that the agent writes, as it should be.
#[derive(Debug, Default)]
pub(crate) struct Desired {
    pub(crate) membership: Option<MembershipStatus>,
    /// In the order of creation; deleted in the opposite order.
    pub(crate) properties: Vec<ClusterProperty>,
    pub(crate) remotes: BTreeMap<String, (RemoteCluster, RemoteClusterStatus)>,
    pub(crate) imports: BTreeMap<Name, (ServiceImport, ServiceImportStatus)>,
    pub(crate) slices: BTreeMap<Name, EndpointSlice>,
    pub(crate) exports: BTreeMap<Name, ServiceExportStatus>,
    /// What is left as it is, since too little is known.
    pub(crate) hands_off: HandsOff,
}

/// Objects that a pass must not touch.
#[derive(Debug, Default)]
pub(crate) struct HandsOff {
    /// Properties stay.
    pub(crate) properties: bool,
    /// Remote clusters stay: no roster is known.
    pub(crate) remotes: bool,
    /// Imports and slices in these namespaces stay: the view does not cover them.
    pub(crate) namespaces: BTreeSet<String>,
    /// …except slices of clusters that are none of these: they are no members any more.
    pub(crate) sources: Option<BTreeSet<String>>,
}

/// What there is to write, in an order in which nothing refers to what isn't there: peers first, since a revocation must not
/// wait behind a thousand slices.
pub(crate) fn diff(desired: &Desired, local: &Local) -> Vec<Write> {
    let mut writes = Vec::new();
    if let (Some(status), Some(membership)) = (&desired.membership, &local.membership)
        && membership.status.as_ref() != Some(status)
    {
        writes.push(Write::MembershipStatus(status.clone()));
    }
    let (applied, late) = properties(desired, local);
    writes.extend(applied);
    remotes(desired, local, &mut writes);
    imports(desired, local, &mut writes);
    slices(desired, local, &mut writes);
    for export in &local.exports {
        let name = name(&export.metadata);
        if let Some(status) = desired.exports.get(&name)
            && export.status.as_ref() != Some(status)
        {
            writes.push(Write::ExportStatus(name, status.clone()));
        }
    }
    // A cluster is a member as long as its properties say so: they go when everything else has.
    writes.extend(late);
    writes
}

fn properties(desired: &Desired, local: &Local) -> (Vec<Write>, Vec<Write>) {
    if desired.hands_off.properties {
        return (Vec::new(), Vec::new());
    }
    let existing = |wanted: &str| local.properties.iter().find(|p| p.metadata.name.as_deref() == Some(wanted));
    let applied = desired
        .properties
        .iter()
        .filter(|p| existing(p.metadata.name.as_deref().unwrap_or_default()).is_none_or(|e| e.spec != p.spec))
        .map(|p| Write::Property(Box::new(p.clone())))
        .collect();
    let wanted = |known: &str| desired.properties.iter().any(|p| p.metadata.name.as_deref() == Some(known));
    let late = [labels::PROPERTY_CLUSTER_SET, labels::PROPERTY_CLUSTER]
        .into_iter()
        .filter(|known| existing(known).is_some() && !wanted(known))
        .map(|known| Write::DeleteProperty(known.to_owned()))
        .collect();
    (applied, late)
}

fn remotes(desired: &Desired, local: &Local, writes: &mut Vec<Write>) {
    if desired.hands_off.remotes {
        return;
    }
    let existing: BTreeMap<String, _> = local.remote_clusters.iter().map(|r| (name(&r.metadata).1, r)).collect();
    for gone in existing.keys().filter(|n| !desired.remotes.contains_key(*n)) {
        writes.push(Write::DeleteRemoteCluster(gone.clone()));
    }
    for (name, (object, status)) in &desired.remotes {
        let before = existing.get(name);
        if before.is_none_or(|e| e.spec != object.spec) {
            writes.push(Write::RemoteCluster(Box::new(object.clone())));
        }
        if before.and_then(|e| e.status.as_ref()) != Some(status) {
            writes.push(Write::RemoteClusterStatus(name.clone(), status.clone()));
        }
    }
}

fn imports(desired: &Desired, local: &Local, writes: &mut Vec<Write>) {
    let existing: BTreeMap<Name, _> = local.imports.iter().map(|i| (name(&i.metadata), i)).collect();
    for (name, (object, status)) in &desired.imports {
        let before = existing.get(name);
        if before.is_none_or(|e| e.spec != object.spec || !same_metadata(&e.metadata, &object.metadata)) {
            writes.push(Write::Import(Box::new(object.clone())));
        }
        if before.and_then(|e| e.status.as_ref()) != Some(status) {
            writes.push(Write::ImportStatus(name.clone(), status.clone()));
        }
    }
    for gone in existing.keys() {
        if !desired.imports.contains_key(gone) && !desired.hands_off.namespaces.contains(&gone.0) {
            writes.push(Write::DeleteImport(gone.clone()));
        }
    }
}

fn slices(desired: &Desired, local: &Local, writes: &mut Vec<Write>) {
    let existing: BTreeMap<Name, _> = local.imported_slices().map(|s| (name(&s.metadata), s)).collect();
    for (name, slice) in &desired.slices {
        if existing.get(name).is_none_or(|e| !same_slice(e, slice)) {
            writes.push(Write::Slice(Box::new(slice.clone())));
        }
    }
    for (gone, slice) in &existing {
        let known_source = desired
            .hands_off
            .sources
            .as_ref()
            .is_none_or(|s| label(slice, labels::SOURCE_CLUSTER).is_some_and(|source| s.contains(source)));
        let kept = desired.hands_off.namespaces.contains(&gone.0) && known_source;
        if !desired.slices.contains_key(gone) && !kept {
            writes.push(Write::DeleteSlice(gone.clone()));
        }
    }
}

fn same_slice(a: &EndpointSlice, b: &EndpointSlice) -> bool {
    // An API server may give an empty list back as none.
    let ports = |s: &EndpointSlice| s.ports.clone().unwrap_or_default();
    let owners = |s: &EndpointSlice| s.metadata.owner_references.clone().unwrap_or_default();
    a.address_type == b.address_type
        && a.endpoints == b.endpoints
        && ports(a) == ports(b)
        && owners(a) == owners(b)
        && same_metadata(&a.metadata, &b.metadata)
}

fn same_metadata(a: &ObjectMeta, b: &ObjectMeta) -> bool {
    let maps = |m: &ObjectMeta| (m.labels.clone().unwrap_or_default(), m.annotations.clone().unwrap_or_default());
    maps(a) == maps(b)
}

/// Namespace and name of an object.
pub(crate) fn name(meta: &ObjectMeta) -> Name {
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}
