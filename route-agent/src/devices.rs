//! Watches devices and addresses. That this node's gateway is gone, which its TUN's end shows, is told at once, whatever the
//! loop (`agent`) is busy with; everything goes on to the loop.

use anyhow::Context as _;
use hawser_model::defaults::TUN_DEVICE;
use hawser_route_kernel::monitor::{Event, Monitor};
use tokio::sync::mpsc;

use crate::probe::OwnGatewayGone;

/// Runs until nobody takes the events any more.
///
/// # Errors
/// When the kernel ends the watch.
pub(crate) async fn run(
    mut monitor: Monitor,
    gone: mpsc::Sender<OwnGatewayGone>,
    events: mpsc::UnboundedSender<Event>,
) -> anyhow::Result<()> {
    loop {
        let event = monitor.next().await.context("The kernel ended the watch on devices")?;
        if matches!(&event, Event::DeviceGone(name) if name == TUN_DEVICE) {
            tracing::info!("this node's gateway is gone, telling the other nodes");
            if gone.try_send(OwnGatewayGone).is_err() {
                tracing::warn!("the end of this node's gateway could not be told");
            }
        }
        if events.send(event).is_err() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hawser_testbed::Netns;

    use super::*;

    #[test]
    fn the_end_of_the_gateway_is_told_while_the_loop_is_busy() {
        let host = Netns::new("devices", None).unwrap();
        host.ip(&format!("link add {TUN_DEVICE} type veth peer name other")).unwrap();
        host.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (gone, mut told) = mpsc::channel(8);
                // Nobody takes them: the loop is in the middle of a pass.
                let (events, mut waiting) = mpsc::unbounded_channel();
                let watch = tokio::spawn(run(Monitor::open().unwrap(), gone, events));
                let deleted = tokio::process::Command::new("ip").args(["link", "del", TUN_DEVICE]).status();
                assert!(deleted.await.unwrap().success());
                tokio::time::timeout(Duration::from_secs(20), told.recv()).await.expect("told").unwrap();
                watch.abort();
                let mut all = Vec::new();
                while let Ok(event) = waiting.try_recv() {
                    all.push(event);
                }
                assert!(!all.is_empty(), "the loop hears of devices too");
            });
        });
    }
}
