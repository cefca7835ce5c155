//! The typed way to use a local API.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use hawser_api::core::{EndpointSlice, Namespace, Node, ObjectMeta, Service};
use hawser_api::hawser::{GatewayDrain, GatewayNode, KeyRotation, Membership, RemoteCluster};
use hawser_api::mcs::{ClusterProperty, ServiceExport, ServiceImport};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Kind, LocalApi, Object};

/// Names an object inside its kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The namespace; empty for cluster-scoped kinds.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Key {
    /// A key of a cluster-scoped object.
    #[must_use]
    pub fn cluster(name: &str) -> Self {
        Self { namespace: String::new(), name: name.to_owned() }
    }

    /// A key of a namespaced object.
    #[must_use]
    pub fn namespaced(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// A typed kind.
pub trait Resource: Clone + PartialEq + fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// e.g. `hawser.dev/v1alpha1`.
    const API_VERSION: &'static str;
    /// e.g. `Membership`.
    const KIND: &'static str;
    /// Whether its objects live in namespaces.
    const NAMESPACED: bool;

    /// The object's metadata.
    fn meta(&self) -> &ObjectMeta;

    /// The object's name.
    fn key(&self) -> Key {
        let meta = self.meta();
        Key { namespace: meta.namespace.clone().unwrap_or_default(), name: meta.name.clone().unwrap_or_default() }
    }
}

/// Work that needs the type behind a [`Kind`]; see [`with_type`].
pub trait ForType {
    /// What comes of it.
    type Output;

    /// Does it for one type.
    fn run<K: Resource>(self) -> Self::Output;
}

macro_rules! resource {
    ($($type:ident $api_version:literal $namespaced:literal),* $(,)?) => {$(
        impl Resource for $type {
            const API_VERSION: &'static str = $api_version;
            const KIND: &'static str = stringify!($type);
            const NAMESPACED: bool = $namespaced;
            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }
        }
    )*

        /// Every kind there is.
        pub const KINDS: &[Kind] = &[$(Kind::of::<$type>()),*];

        /// Runs `work` with the type of `kind`; none for a kind that is not in [`KINDS`].
        pub fn with_type<W: ForType>(kind: Kind, work: W) -> Option<W::Output> {
            $(if kind == Kind::of::<$type>() {
                return Some(work.run::<$type>());
            })*
            None
        }
    };
}

resource! {
    Membership "hawser.dev/v1alpha1" false,
    GatewayNode "hawser.dev/v1alpha1" false,
    GatewayDrain "hawser.dev/v1alpha1" false,
    KeyRotation "hawser.dev/v1alpha1" false,
    RemoteCluster "hawser.dev/v1alpha1" false,
    ServiceExport "multicluster.x-k8s.io/v1beta1" true,
    ServiceImport "multicluster.x-k8s.io/v1beta1" true,
    ClusterProperty "about.k8s.io/v1beta1" false,
    Namespace "v1" false,
    Node "v1" false,
    Service "v1" true,
    EndpointSlice "discovery.k8s.io/v1" true,
}

/// The latest full view of one kind; `None` until the first list is in.
pub type View<K> = Option<Arc<BTreeMap<Key, Arc<K>>>>;

/// A typed handle on a local API; cheap to clone.
#[derive(Clone)]
pub struct Client {
    api: Arc<dyn LocalApi>,
}

impl Client {
    /// Wraps an adapter.
    pub fn new(api: Arc<dyn LocalApi>) -> Self {
        Self { api }
    }

    /// The adapter itself.
    #[must_use]
    pub fn api(&self) -> &Arc<dyn LocalApi> {
        &self.api
    }

    /// Follows all objects of a kind: the receiver always holds the latest full view. An object that does not parse is
    /// logged with its field and skipped; its last good version stays in the view.
    pub fn reflect<K: Resource>(&self) -> tokio::sync::watch::Receiver<View<K>> {
        crate::reflect::reflect(self.api.as_ref())
    }

    /// All objects of a kind now; one that does not parse is logged and skipped.
    ///
    /// # Errors
    /// As [`LocalApi::list`].
    pub async fn list<K: Resource>(&self) -> Result<Vec<K>, Error> {
        let objects = self.api.list(Kind::of::<K>()).await?;
        let parsed = objects.iter().filter_map(|object| match crate::reflect::parse::<K>(object) {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                let key = &object.key;
                tracing::warn!(kind = K::KIND, %key, field = error.field, rule = error.rule, "object skipped");
                None
            }
        });
        Ok(parsed.collect())
    }

    /// Creates or replaces an object, its status left as it is.
    ///
    /// # Errors
    /// As [`LocalApi::apply`].
    pub async fn apply<K: Resource>(&self, object: &K) -> Result<(), Error> {
        self.api.apply(Object::of(object)?).await
    }

    /// Replaces an object's status.
    ///
    /// # Errors
    /// As [`LocalApi::apply_status`].
    pub async fn apply_status<K: Resource, S: Serialize + Sync>(&self, key: Key, status: &S) -> Result<(), Error> {
        let kind = Kind::of::<K>();
        match serde_json::to_value(status) {
            Ok(status) => self.api.apply_status(kind, key, status).await,
            Err(error) => Err(Error::Invalid {
                kind: kind.kind,
                key: Box::new(key),
                field: "status".to_owned(),
                rule: error.to_string(),
                remedy: "fix the field named".to_owned(),
            }),
        }
    }

    /// Removes an object; none is fine.
    ///
    /// # Errors
    /// As [`LocalApi::delete`].
    pub async fn delete<K: Resource>(&self, key: Key) -> Result<(), Error> {
        self.api.delete(Kind::of::<K>(), key).await
    }
}
