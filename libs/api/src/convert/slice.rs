//! Endpoints: `EndpointSlice`.

use std::net::IpAddr;
use std::str::FromStr as _;

use hawser_model::IpFamily;
use hawser_model::export::{Endpoint, EndpointGroup, EndpointPort, Protocol, ServicePort};
use k8s_openapi::api::discovery::v1 as k8s;

use super::{Invalid, Reader};
use crate::core::EndpointSlice;

/// Reads a slice. `service_ports` are those of the Service it belongs to: their numbers are part of the model's ports. An
/// endpoint, address or port that breaks a rule is left out and named.
///
/// # Errors
/// When the slice isn't of an IP family.
pub fn endpoint_group(
    slice: &EndpointSlice,
    service_ports: &[ServicePort],
) -> Result<(EndpointGroup, Vec<Invalid>), Invalid> {
    let reader = Reader::new("EndpointSlice", &slice.metadata, "correct the slice");
    let family = IpFamily::from_str(&slice.address_type).map_err(|error| reader.invalid("addressType", error))?;
    let mut skipped = Vec::new();
    let mut endpoints = Vec::new();
    for (i, endpoint) in slice.endpoints.iter().enumerate() {
        let parse = |(j, text): (usize, &String)| {
            let parsed = text.parse::<IpAddr>().ok().filter(|address| IpFamily::of(*address) == family);
            if parsed.is_none() {
                let field = format!("endpoints[{i}].addresses[{j}]");
                skipped.push(reader.invalid(field, format!("{text:?} must be an {family} address")));
            }
            parsed
        };
        let addresses: Vec<IpAddr> = endpoint.addresses.iter().enumerate().filter_map(parse).collect();
        if !addresses.is_empty() {
            endpoints.push(read_endpoint(endpoint, addresses));
        }
    }
    let mut ports = Vec::new();
    for (i, port) in slice.ports.iter().flatten().enumerate() {
        match read_port(port, service_ports) {
            Ok(port) => ports.push(port),
            Err(rule) => skipped.push(reader.invalid(format!("ports[{i}]"), rule)),
        }
    }
    Ok((EndpointGroup { family, ports, endpoints }, skipped))
}

/// Writes a group's endpoints.
#[must_use]
pub fn slice_endpoints(group: &EndpointGroup) -> Vec<k8s::Endpoint> {
    let write = |endpoint: &Endpoint| k8s::Endpoint {
        addresses: endpoint.addresses.iter().map(ToString::to_string).collect(),
        conditions: Some(k8s::EndpointConditions {
            ready: Some(endpoint.ready),
            serving: Some(endpoint.serving),
            terminating: Some(endpoint.terminating),
        }),
        hostname: endpoint.hostname.clone(),
        zone: endpoint.zone.clone(),
        ..k8s::Endpoint::default()
    };
    group.endpoints.iter().map(write).collect()
}

/// Writes a group's ports.
#[must_use]
pub fn slice_ports(group: &EndpointGroup) -> Vec<k8s::EndpointPort> {
    let write = |port: &EndpointPort| k8s::EndpointPort {
        name: Some(port.name.clone()),
        protocol: Some(port.protocol.as_str().to_owned()),
        app_protocol: port.app_protocol.clone(),
        port: Some(port.port.into()),
    };
    group.ports.iter().map(write).collect()
}

fn read_endpoint(endpoint: &k8s::Endpoint, addresses: Vec<IpAddr>) -> Endpoint {
    // As the API says: no `ready` means ready, no `serving` means as ready.
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    let ready = conditions.ready.unwrap_or(true);
    Endpoint {
        addresses,
        hostname: endpoint.hostname.clone(),
        zone: endpoint.zone.clone(),
        ready,
        serving: conditions.serving.unwrap_or(ready),
        terminating: conditions.terminating.unwrap_or(false),
    }
}

fn read_port(port: &k8s::EndpointPort, service_ports: &[ServicePort]) -> Result<EndpointPort, String> {
    let text = port.protocol.as_deref().unwrap_or_default();
    let protocol = Protocol::parse(text).ok_or_else(|| format!("protocol {text:?} must be TCP, UDP or SCTP"))?;
    let number = port.port.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0);
    let number = number.ok_or("port must be from 1 to 65535")?;
    let name = port.name.clone().unwrap_or_default();
    let source = service_ports.iter().find(|service| service.name == name && service.protocol == protocol);
    let app_protocol = port.app_protocol.clone().or_else(|| source?.app_protocol.clone());
    Ok(EndpointPort { name, protocol, app_protocol, port: number, service_port: source.map(|service| service.port) })
}
