//! Exports: `ServiceExport` with its `Service`, and the ports of a `ServiceImport`.

use std::str::FromStr as _;

use hawser_model::export::{
    ExportHeader, InternalTrafficPolicy, Protocol, ServiceKind, ServicePort, SessionAffinity, Timestamp,
};
use hawser_model::{ClusterId, IpFamily, ServiceName};
use k8s_openapi::api::core::v1::ServiceSpec;

use super::{Invalid, Reader};
use crate::core::Service;
use crate::mcs::{ImportPort, ServiceExport};

/// Why a `ServiceExport` exports nothing: the reason and message of its `Valid` condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidServiceExport {
    /// There is no such Service.
    #[error("there is no Service {0}; create it, or delete the ServiceExport")]
    NoService(ServiceName),
    /// The Service is of a type that has no endpoints of its own.
    #[error("Service {0}: spec.type: ExternalName can't be exported; use ClusterIP, or a headless Service")]
    InvalidServiceType(ServiceName),
    /// A field breaks a rule.
    #[error(transparent)]
    Field(#[from] Invalid),
}

impl InvalidServiceExport {
    /// The reason as KEP-1645 has it; a field that breaks a rule has none there.
    #[must_use]
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::NoService(_) => Some("NoService"),
            Self::InvalidServiceType(_) => Some("InvalidServiceType"),
            Self::Field(_) => None,
        }
    }
}

/// What merging needs of an export. `families` is for a Service that names none (a site's Services have no cluster IP).
///
/// # Errors
/// [`InvalidServiceExport`]; a port that breaks a rule makes the export invalid, since a part of a Service is another Service.
pub fn export_header(
    cluster: &ClusterId,
    export: &ServiceExport,
    service: Option<&Service>,
    created: Timestamp,
    families: &[IpFamily],
) -> Result<ExportHeader, InvalidServiceExport> {
    let reader = Reader::new("ServiceExport", &export.metadata, "rename it, and the Service");
    let (namespace, name) = (export.metadata.namespace.as_deref(), export.metadata.name.as_deref());
    let name = ServiceName::new(namespace.unwrap_or_default(), name.unwrap_or_default())
        .map_err(|error| reader.invalid("metadata.name", error))?;
    let Some(service) = service else { return Err(InvalidServiceExport::NoService(name)) };
    let empty = ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&empty);
    if spec.type_.as_deref() == Some("ExternalName") {
        return Err(InvalidServiceExport::InvalidServiceType(name));
    }
    let reader = Reader::new("Service", &service.metadata, "correct the Service");
    let ip_families = match spec.ip_families.as_deref().unwrap_or_default() {
        [] => families.to_vec(),
        named => {
            let parse = |family: &String| IpFamily::from_str(family).map_err(|e| reader.invalid("spec.ipFamilies", e));
            named.iter().map(parse).collect::<Result<_, _>>()?
        }
    };
    let headless = spec.cluster_ip.as_deref() == Some("None");
    let timeout = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
    Ok(ExportHeader {
        cluster: cluster.clone(),
        service: name,
        created,
        kind: if headless { ServiceKind::Headless } else { ServiceKind::ClusterSetIp },
        ports: service_ports(&reader, spec)?,
        session_affinity: match spec.session_affinity.as_deref() {
            Some("ClientIP") => SessionAffinity::ClientIp,
            Some(_) | None => SessionAffinity::None,
        },
        session_affinity_timeout: timeout.and_then(|seconds| u32::try_from(seconds).ok()),
        internal_traffic_policy: match spec.internal_traffic_policy.as_deref() {
            Some("Local") => InternalTrafficPolicy::Local,
            Some(_) | None => InternalTrafficPolicy::Cluster,
        },
        traffic_distribution: spec.traffic_distribution.clone(),
        ip_families,
        labels: export.spec.exported_labels.clone(),
        annotations: export.spec.exported_annotations.clone(),
    })
}

/// Reads the ports of an import.
///
/// # Errors
/// Names the first port that breaks a rule.
pub fn import_ports(object: &str, ports: &[ImportPort]) -> Result<Vec<ServicePort>, Invalid> {
    let reader = Reader { object: object.to_owned(), remedy: "the agent writes it: restart it, or delete the object" };
    let read = |(i, port): (usize, &ImportPort)| {
        let ImportPort { name, protocol, app_protocol, port } = port;
        let at = format!("spec.ports[{i}]");
        read_port(&reader, &at, name.as_deref(), protocol.as_deref(), app_protocol.as_deref(), *port)
    };
    ports.iter().enumerate().map(read).collect()
}

fn service_ports(reader: &Reader, spec: &ServiceSpec) -> Result<Vec<ServicePort>, Invalid> {
    let read = |(i, port): (usize, &k8s_openapi::api::core::v1::ServicePort)| {
        let at = format!("spec.ports[{i}]");
        let (name, app) = (port.name.as_deref(), port.app_protocol.as_deref());
        read_port(reader, &at, name, port.protocol.as_deref(), app, port.port)
    };
    spec.ports.iter().flatten().enumerate().map(read).collect()
}

fn read_port(
    reader: &Reader,
    at: &str,
    name: Option<&str>,
    protocol: Option<&str>,
    app_protocol: Option<&str>,
    number: i32,
) -> Result<ServicePort, Invalid> {
    let text = protocol.unwrap_or_default();
    let protocol = Protocol::parse(text)
        .ok_or_else(|| reader.invalid(format!("{at}.protocol"), format!("{text:?} must be TCP, UDP or SCTP")))?;
    let port = u16::try_from(number).ok().filter(|port| *port > 0);
    let port = port.ok_or_else(|| reader.invalid(format!("{at}.port"), format!("{number} must be from 1 to 65535")))?;
    let app_protocol = app_protocol.map(str::to_owned);
    Ok(ServicePort { name: name.unwrap_or_default().to_owned(), protocol, app_protocol, port })
}
