//! A site's directory: what the operator declares, and what agents generated.

use std::fmt::Write as _;
use std::fs;

use anyhow::Result;

use super::{Node, Outer, Site, Workload};

impl Site {
    /// Writes an operator's file, whole.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, file: &str, manifest: &str) -> Result<()> {
        let (path, temporary) = (self.dir.join(file), self.dir.join(format!(".{file}.new")));
        fs::write(&temporary, manifest)?;
        fs::rename(temporary, path)?;
        Ok(())
    }

    pub(super) fn write_manifests(&self) -> Result<()> {
        let s = self.options.number;
        self.write("membership.yaml", &format!(
            "apiVersion: hawser.dev/v1alpha1\nkind: Membership\nmetadata: {{name: default}}\nspec:\n  clusterId: {}\n  prefixes: [10.{s}.0.0/16, 'fd10:{s:x}::/32']\n  vipPrefixes: [10.250.{s}.0/24, 'fd25:{s:x}::/112']\n  dnsAddress: [10.253.{s}.53, 'fd53:{s:x}::53']\n",
            self.options.cluster
        ))?;
        let mut nodes = String::new();
        for node in &self.nodes {
            self.write_node(&mut nodes, node)?;
        }
        self.write("nodes.yaml", &nodes)?;
        self.namespace("shop")
    }

    fn write_node(&self, out: &mut String, node: &Node) -> Result<()> {
        let (s, h, name) = (self.options.number, node.number, &node.name);
        writeln!(out, "---\napiVersion: v1\nkind: Node\nmetadata:\n  name: {name}")?;
        if node.gateway {
            let [v4, v6] = self.wan_addresses(h);
            let candidates = match self.options.outer {
                Outer::V4 => v4.to_string(),
                Outer::V6 => v6.to_string(),
                Outer::Dual => format!("{v4},{v6}"),
            };
            writeln!(out, "  labels: {{hawser.dev/gateway: 'true'}}")?;
            writeln!(out, "  annotations: {{hawser.dev/gateway-candidates: '{candidates}'}}")?;
        }
        writeln!(out, "spec:\n  podCIDR: 10.{s}.{h}.0/24\n  podCIDRs: [10.{s}.{h}.0/24, 'fd10:{s:x}:{h:x}::/64']")?;
        writeln!(out, "status:\n  addresses:\n  - {{type: InternalIP, address: 192.168.{s}.{h}}}")?;
        writeln!(out, "  - {{type: InternalIP, address: 'fd00:0:0:{s:x}::{h:x}'}}")?;
        Ok(())
    }

    /// Declares a namespace.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn namespace(&self, name: &str) -> Result<()> {
        self.write(
            &format!("ns-{name}.yaml"),
            &format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n"),
        )
    }

    /// Declares a dual-stack Service of `shop` with its endpoint slices; `ports` are `(name, protocol, port, target)`.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn service(
        &self,
        name: &str,
        headless: bool,
        ports: &[(&str, &str, u16, u16)],
        to: &[&Workload],
    ) -> Result<()> {
        let mut yaml = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  ipFamilies: [IPv4, IPv6]\n  ipFamilyPolicy: PreferDualStack\n"
        );
        if headless {
            yaml.push_str("  clusterIP: None\n");
        }
        yaml.push_str("  ports:\n");
        for (port_name, protocol, port, target) in ports {
            writeln!(yaml, "  - {{name: {port_name}, protocol: {protocol}, port: {port}, targetPort: {target}}}")?;
        }
        for family in ["IPv4", "IPv6"] {
            writeln!(
                yaml,
                "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}-{}\n  namespace: shop\n  labels: {{kubernetes.io/service-name: {name}}}\naddressType: {family}\nports:",
                family.to_lowercase()
            )?;
            for (port_name, protocol, _, target) in ports {
                writeln!(yaml, "- {{name: {port_name}, protocol: {protocol}, port: {target}}}")?;
            }
            writeln!(yaml, "endpoints:{}", if to.is_empty() { " []" } else { "" })?;
            for workload in to {
                let address = if family == "IPv4" { workload.v4.to_string() } else { workload.v6.to_string() };
                writeln!(yaml, "- addresses: ['{address}']\n  conditions: {{ready: true}}")?;
            }
        }
        self.write(&format!("svc-{name}.yaml"), &yaml)
    }

    /// An object that an agent generated, its status apart, e.g. `RemoteCluster/west.yaml`.
    #[must_use]
    pub fn generated(&self, file: &str) -> Option<String> {
        let folders = fs::read_dir(self.dir.join("generated")).ok()?.filter_map(Result::ok);
        let mut agents = folders.filter(|f| f.file_name().to_string_lossy().starts_with("agent-"));
        agents.find_map(|agent| fs::read_to_string(agent.path().join(file)).ok())
    }
}
