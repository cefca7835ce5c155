//! Exports: headers and endpoints. Shape only; what an export may say is `hawser_model::export`'s to check.

use hawser_model::export::{
    Endpoint, EndpointGroup, EndpointPort, ExportEndpoints, ExportHeader, InternalTrafficPolicy, Protocol, ServiceKind,
    ServicePort, SessionAffinity, Timestamp,
};
use hawser_model::{ClusterId, ServiceName};

use super::{Context, ConvertError, address, address_bytes, family, family_number, some_text};
use crate::v1;

/// Reads an export header record's body.
///
/// # Errors
/// Names the export, the field and the rule.
pub fn header_from_proto(
    cluster: &ClusterId,
    name: &str,
    body: v1::ExportHeader,
) -> Result<ExportHeader, ConvertError> {
    let ctx = Context::new(format!("export {name} of {cluster}"));
    let service: ServiceName = name.parse().map_err(|e| ctx.error("name", format!("{e}")))?;
    let kind = match v1::ServiceKind::try_from(body.kind) {
        Ok(v1::ServiceKind::ClusterSetIp) => ServiceKind::ClusterSetIp,
        Ok(v1::ServiceKind::Headless) => ServiceKind::Headless,
        Ok(v1::ServiceKind::Unspecified) | Err(_) => {
            return Err(ctx.error("kind", format!("{} is no known service kind", body.kind)));
        }
    };
    let session_affinity = match v1::SessionAffinity::try_from(body.session_affinity) {
        Ok(v1::SessionAffinity::None) => SessionAffinity::None,
        Ok(v1::SessionAffinity::ClientIp) => SessionAffinity::ClientIp,
        Err(_) => return Err(ctx.error("session_affinity", format!("{} is not known", body.session_affinity))),
    };
    let internal_traffic_policy = match v1::InternalTrafficPolicy::try_from(body.internal_traffic_policy) {
        Ok(v1::InternalTrafficPolicy::Cluster) => InternalTrafficPolicy::Cluster,
        Ok(v1::InternalTrafficPolicy::Local) => InternalTrafficPolicy::Local,
        Err(_) => {
            let rule = format!("{} is not known", body.internal_traffic_policy);
            return Err(ctx.error("internal_traffic_policy", rule));
        }
    };
    let ports = body
        .ports
        .into_iter()
        .enumerate()
        .map(|(i, port)| {
            Ok(ServicePort {
                protocol: protocol(&ctx, &format!("ports[{i}].protocol"), &port.protocol)?,
                port: ctx.port(format!("ports[{i}].port"), port.port)?,
                app_protocol: some_text(port.app_protocol),
                name: port.name,
            })
        })
        .collect::<Result<_, _>>()?;
    let ip_families = body.ip_families.iter().map(|f| family(&ctx, "ip_families", *f)).collect::<Result<_, _>>()?;
    Ok(ExportHeader {
        cluster: cluster.clone(),
        service,
        created: Timestamp(body.created_ms),
        kind,
        ports,
        session_affinity,
        session_affinity_timeout: body.session_affinity_timeout,
        internal_traffic_policy,
        traffic_distribution: some_text(body.traffic_distribution),
        ip_families,
        labels: body.labels,
        annotations: body.annotations,
    })
}

/// Writes an export header record's body.
#[must_use]
pub fn header_to_proto(header: &ExportHeader) -> v1::ExportHeader {
    v1::ExportHeader {
        created_ms: header.created.0,
        kind: match header.kind {
            ServiceKind::ClusterSetIp => v1::ServiceKind::ClusterSetIp,
            ServiceKind::Headless => v1::ServiceKind::Headless,
        }
        .into(),
        ports: header
            .ports
            .iter()
            .map(|port| v1::ServicePort {
                name: port.name.clone(),
                protocol: port.protocol.as_str().to_owned(),
                app_protocol: port.app_protocol.clone().unwrap_or_default(),
                port: port.port.into(),
            })
            .collect(),
        session_affinity: match header.session_affinity {
            SessionAffinity::None => v1::SessionAffinity::None,
            SessionAffinity::ClientIp => v1::SessionAffinity::ClientIp,
        }
        .into(),
        session_affinity_timeout: header.session_affinity_timeout,
        internal_traffic_policy: match header.internal_traffic_policy {
            InternalTrafficPolicy::Cluster => v1::InternalTrafficPolicy::Cluster,
            InternalTrafficPolicy::Local => v1::InternalTrafficPolicy::Local,
        }
        .into(),
        traffic_distribution: header.traffic_distribution.clone().unwrap_or_default(),
        ip_families: header.ip_families.iter().copied().map(family_number).collect(),
        labels: header.labels.clone(),
        annotations: header.annotations.clone(),
    }
}

/// Reads an export endpoints record's body.
///
/// # Errors
/// Names the export, the field and the rule.
pub fn endpoints_from_proto(
    cluster: &ClusterId,
    name: &str,
    body: v1::ExportEndpoints,
) -> Result<ExportEndpoints, ConvertError> {
    let ctx = Context::new(format!("endpoints of {name} of {cluster}"));
    let service: ServiceName = name.parse().map_err(|e| ctx.error("name", format!("{e}")))?;
    let groups = body
        .groups
        .into_iter()
        .enumerate()
        .map(|(i, group)| group_from_proto(&ctx, i, group))
        .collect::<Result<_, _>>()?;
    Ok(ExportEndpoints { cluster: cluster.clone(), service, groups })
}

/// Writes an export endpoints record's body.
#[must_use]
pub fn endpoints_to_proto(endpoints: &ExportEndpoints) -> v1::ExportEndpoints {
    v1::ExportEndpoints { groups: endpoints.groups.iter().map(group_to_proto).collect() }
}

fn group_from_proto(ctx: &Context, index: usize, group: v1::EndpointGroup) -> Result<EndpointGroup, ConvertError> {
    let place = format!("groups[{index}]");
    let ports = group
        .ports
        .into_iter()
        .enumerate()
        .map(|(i, port)| port_from_proto(ctx, &format!("{place}.ports[{i}]"), port))
        .collect::<Result<_, _>>()?;
    let endpoints = group
        .endpoints
        .into_iter()
        .enumerate()
        .map(|(i, endpoint)| endpoint_from_proto(ctx, &format!("{place}.endpoints[{i}]"), endpoint))
        .collect::<Result<_, _>>()?;
    Ok(EndpointGroup { family: family(ctx, &format!("{place}.family"), group.family)?, ports, endpoints })
}

fn port_from_proto(ctx: &Context, place: &str, port: v1::EndpointPort) -> Result<EndpointPort, ConvertError> {
    let service_port = match port.service_port {
        0 => None,
        number => Some(ctx.port(format!("{place}.service_port"), number)?),
    };
    Ok(EndpointPort {
        protocol: protocol(ctx, &format!("{place}.protocol"), &port.protocol)?,
        port: ctx.port(format!("{place}.port"), port.port)?,
        app_protocol: some_text(port.app_protocol),
        service_port,
        name: port.name,
    })
}

fn endpoint_from_proto(ctx: &Context, place: &str, endpoint: v1::Endpoint) -> Result<Endpoint, ConvertError> {
    let field = format!("{place}.addresses");
    let addresses = endpoint.addresses.iter().map(|bytes| address(ctx, &field, bytes)).collect::<Result<_, _>>()?;
    Ok(Endpoint {
        addresses,
        hostname: some_text(endpoint.hostname),
        zone: some_text(endpoint.zone),
        ready: endpoint.ready,
        serving: endpoint.serving,
        terminating: endpoint.terminating,
    })
}

fn group_to_proto(group: &EndpointGroup) -> v1::EndpointGroup {
    v1::EndpointGroup {
        family: family_number(group.family),
        ports: group
            .ports
            .iter()
            .map(|port| v1::EndpointPort {
                name: port.name.clone(),
                protocol: port.protocol.as_str().to_owned(),
                app_protocol: port.app_protocol.clone().unwrap_or_default(),
                port: port.port.into(),
                service_port: port.service_port.map(u32::from).unwrap_or_default(),
            })
            .collect(),
        endpoints: group
            .endpoints
            .iter()
            .map(|endpoint| v1::Endpoint {
                addresses: endpoint.addresses.iter().copied().map(address_bytes).collect(),
                hostname: endpoint.hostname.clone().unwrap_or_default(),
                zone: endpoint.zone.clone().unwrap_or_default(),
                ready: endpoint.ready,
                serving: endpoint.serving,
                terminating: endpoint.terminating,
            })
            .collect(),
    }
}

fn protocol(ctx: &Context, field: &str, text: &str) -> Result<Protocol, ConvertError> {
    Protocol::parse(text).ok_or_else(|| ctx.error(field, format!("{text:?} is not TCP, UDP or SCTP")))
}
