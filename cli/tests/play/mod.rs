//! A gateway process of a site, played by a test: what it writes, and what it is told.

use std::path::Path;
use std::sync::Arc;

use clap::Parser;
use hawser_api::core::ObjectMeta;
use hawser_api::hawser::{GatewayNode, GatewayNodeSpec};
use hawser_local_api::{Client, Key, LocalApi};
use hawser_local_api_directory::{DirectoryApi, SiteArgs};
use serde_json::Value;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    site: SiteArgs,
}

/// The gateway process on a node.
pub(crate) struct Gateway {
    pub(crate) client: Client,
    pub(crate) node: &'static str,
}

impl Gateway {
    /// Starts it; it says `status`.
    pub(crate) async fn start(site: &Path, node: &'static str, status: &Value) -> Self {
        let flags = Flags::parse_from(["gateway", "--node", node, "--site", site.to_str().unwrap()]);
        let api = DirectoryApi::open(&flags.site, "gateway").await.unwrap();
        let gateway = Self { client: Client::new(api as Arc<dyn LocalApi>), node };
        let metadata = ObjectMeta { name: Some(node.into()), ..ObjectMeta::default() };
        let spec = GatewayNodeSpec { node: node.into(), lanes: vec![], candidates: vec![], preferred_prefixes: vec![] };
        gateway.client.apply(&GatewayNode { metadata, spec, status: None }).await.unwrap();
        gateway.writes(status).await;
        gateway
    }

    /// Writes its status.
    pub(crate) async fn writes(&self, status: &Value) {
        self.client.apply_status::<GatewayNode, _>(Key::cluster(self.node), status).await.unwrap();
    }
}
