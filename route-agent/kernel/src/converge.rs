//! The pass: what the plan wants against what the kernel has.

use std::collections::BTreeMap;

use hawser_model::defaults::{TUN_DEVICE, VXLAN_DEVICE};
use hawser_route_plan::{Desired, Host, Node, Route, RouteKey, RouteKind};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::{Handle, IpVersion, new_connection};

use crate::diff::diff;
use crate::error::Error;
use crate::nft::Nft;
use crate::{address, conntrack, facts, forward, link, neighbour, route, rule, sysctl};

/// What a pass did.
#[derive(Debug, Default)]
pub struct Report {
    /// Changes made, in words.
    pub changes: Vec<String>,
    /// Changes that failed; the rest was made all the same.
    pub errors: Vec<Error>,
}

impl Report {
    fn add(&mut self, what: impl Into<String>, result: Result<(), Error>) {
        match result {
            Ok(()) => self.changes.push(what.into()),
            Err(error) => self.errors.push(error),
        }
    }

    fn take<T: Default>(&mut self, result: Result<T, Error>) -> T {
        result.unwrap_or_else(|error| {
            self.errors.push(error);
            T::default()
        })
    }
}

/// The kernel of the network namespace that this was opened in.
pub struct Kernel {
    handle: Handle,
    connection: tokio::task::JoinHandle<()>,
    nft: Nft,
    device: Option<u32>,
}

impl Kernel {
    /// Connects to the kernel, in the network namespace of this thread.
    ///
    /// # Errors
    /// When the netlink socket can't be opened.
    pub fn open() -> Result<Self, Error> {
        let (connection, handle, _) = new_connection().map_err(Error::io("open a netlink socket"))?;
        Ok(Self { handle, connection: tokio::spawn(connection), nft: Nft::default(), device: None })
    }

    /// What this host is like; see [`facts::host`].
    ///
    /// # Errors
    /// When the kernel can't be asked.
    pub async fn host(&self, me: Option<&Node>, others: &[&Node]) -> Result<Host, Error> {
        facts::host(&self.handle, me, others).await
    }

    /// The index of a device, if it exists.
    ///
    /// # Errors
    /// When the kernel can't be asked.
    pub async fn device_index(&self, name: &str) -> Result<Option<u32>, Error> {
        facts::device(&self.handle, name).await
    }

    /// A full pass: everything of ours becomes what is wanted. What fails is reported, the rest is done.
    ///
    /// The order keeps packets flowing: what is pointed at comes first and goes last. Dropped before its end, it leaves what
    /// the next pass completes.
    pub async fn converge(&mut self, wanted: &Desired) -> Report {
        let mut report = Report::default();
        for setting in &wanted.sysctls {
            if report.take(sysctl::set(setting)) {
                report.changes.push(format!("{} = {}", setting.path, setting.value));
            }
        }
        if wanted.rules.is_empty() {
            self.rules(wanted, &mut report).await;
        }
        self.device(wanted, &mut report).await;
        if let Some(index) = self.device {
            self.addresses(index, wanted, &mut report).await;
            self.neighbours(index, wanted, &mut report).await;
        }
        for (name, settings) in &wanted.devices {
            if report.take(link::settle(&self.handle, name, *settings).await) {
                report.changes.push(format!("settings of {name}"));
            }
        }
        self.routes(wanted, &mut report).await;
        self.nft(wanted, &mut report).await;
        let forward = forward::converge(&wanted.forward).await;
        let forward = report.take(forward);
        report.changes.extend(forward);
        if !wanted.rules.is_empty() {
            self.rules(wanted, &mut report).await;
        }
        if wanted.vxlan.is_none() {
            self.remove_device(&mut report).await;
        }
        report
    }

    async fn device(&mut self, wanted: &Desired, report: &mut Report) {
        let Some(vxlan) = &wanted.vxlan else { return };
        match link::ensure(&self.handle, vxlan).await {
            Ok((index, done)) => {
                self.device = Some(index);
                report.changes.extend(done);
            }
            Err(error) => {
                self.device = None;
                report.errors.push(error);
            }
        }
    }

    async fn remove_device(&mut self, report: &mut Report) {
        self.device = None;
        let found = link::find(&self.handle, VXLAN_DEVICE).await;
        if let Some(link) = report.take(found) {
            report.add(format!("removed {VXLAN_DEVICE}"), link::remove(&self.handle, link.header.index).await);
        }
    }

    async fn addresses(&self, index: u32, wanted: &Desired, report: &mut Report) {
        let actual = address::of(&self.handle, index, &wanted.addresses).await;
        let Ok(actual) = actual.map_err(|e| report.errors.push(e)) else { return };
        let diff = diff(&actual, &wanted.addresses);
        for net in diff.remove.iter().chain(diff.set.iter().filter(|(.., there)| *there).map(|(net, ..)| net)) {
            report.add(format!("removed address {net}"), address::remove(&self.handle, index, *net).await);
        }
        for (net, role, _) in diff.set {
            report.add(format!("address {net}"), address::add(&self.handle, index, net, role).await);
        }
    }

    async fn neighbours(&self, index: u32, wanted: &Desired, report: &mut Report) {
        if let Ok(actual) = neighbour::forwarding(&self.handle, index).await.map_err(|e| report.errors.push(e)) {
            let diff = diff(&actual, &wanted.fdb);
            for (mac, to, there) in diff.set {
                if there {
                    // A unicast entry would get a second destination instead of a new one.
                    let _ = neighbour::remove_forwarding(&self.handle, index, mac).await;
                }
                let result = neighbour::set_forwarding(&self.handle, index, mac, to).await;
                report.add(format!("{mac:?} is at {to}"), result);
            }
            for mac in diff.remove {
                let result = neighbour::remove_forwarding(&self.handle, index, mac).await;
                report.add(format!("{mac:?} is gone"), result);
            }
        }
        if let Ok(actual) = neighbour::neighbours(&self.handle, index).await.map_err(|e| report.errors.push(e)) {
            let diff = diff(&actual, &wanted.neighbours);
            for (address, mac, _) in diff.set {
                let result = neighbour::set_neighbour(&self.handle, index, address, mac).await;
                report.add(format!("{address} has {mac:?}"), result);
            }
            for address in diff.remove {
                let result = neighbour::remove_neighbour(&self.handle, index, address).await;
                report.add(format!("neighbour {address} is gone"), result);
            }
        }
    }

    async fn nft(&mut self, wanted: &Desired, report: &mut Report) {
        let done = self.nft.converge(&wanted.nft).await;
        let Some(done) = report.take(done) else { return };
        report.changes.push(done.to_owned());
        let forgotten = report.take(conntrack::forget(&wanted.flows));
        if forgotten > 0 {
            report.changes.push(format!("forgot {forgotten} UDP flows to endpoints that are gone"));
        }
    }

    async fn routes(&self, wanted: &Desired, report: &mut Report) {
        let tun = facts::device(&self.handle, TUN_DEVICE).await;
        let tun = report.take(tun);
        match route::ours(&self.handle, tun).await {
            Ok(actual) => self.change_routes(&actual, &wanted.routes, report).await,
            Err(error) => report.errors.push(error),
        }
    }

    async fn change_routes(
        &self,
        actual: &BTreeMap<RouteKey, Route>,
        wanted: &BTreeMap<RouteKey, Route>,
        report: &mut Report,
    ) {
        let diff = diff(actual, wanted);
        for (key, route, _) in diff.set {
            let needs_device = matches!(route.kind, RouteKind::Via(_) | RouteKind::Device);
            let Some(index) = self.device.or(Some(0).filter(|_| !needs_device)) else { continue };
            let what = format!("route {} metric {} table {}: {:?}", key.prefix, key.metric, key.table, route.kind);
            report.add(what, route::set(&self.handle, index, &key, &route).await);
        }
        for key in diff.remove {
            let Some(route) = actual.get(&key) else { continue };
            let what = format!("removed route {} metric {} table {}", key.prefix, key.metric, key.table);
            report.add(what, route::remove(&self.handle, &key, route).await);
        }
    }

    /// The shortest way from one set of routes to another: one operation per route that differs, nothing looked up. `from` is
    /// what the last pass or move left.
    pub async fn move_routes(&self, from: &BTreeMap<RouteKey, Route>, to: &BTreeMap<RouteKey, Route>) -> Report {
        let mut report = Report::default();
        self.change_routes(from, to, &mut report).await;
        report
    }

    async fn rules(&self, wanted: &Desired, report: &mut Report) {
        for (version, family) in [(IpVersion::V4, AddressFamily::Inet), (IpVersion::V6, AddressFamily::Inet6)] {
            let found = rule::ours(&self.handle, version).await;
            let Ok(found) = found.map_err(|e| report.errors.push(e)) else { continue };
            let (missing, extra) = rule::diff(found, &wanted.rules);
            for rule in missing {
                report.add(format!("{family:?} rule {rule:?}"), rule::add(&self.handle, family, rule).await);
            }
            for message in extra {
                report.add(format!("removed an {family:?} rule"), rule::remove(&self.handle, message).await);
            }
        }
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
