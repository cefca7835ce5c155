//! `hawser leave`: out of the roster, secrets removed, then the agent takes back what it wrote.

use anyhow::Context;
use hawser_api::hawser::Membership;
use hawser_api::labels;
use hawser_api::mcs::ClusterProperty;
use hawser_broker_client::{Error, MemberIdentity, member};
use hawser_local_api::Key;
use serde_json::json;
use tonic::Code;

use crate::args::LeaveArgs;
use crate::exit::{Exit, Failure};
use crate::output::{self, Output};
use crate::progress::{Progress, note};
use crate::site::Site;

/// `hawser leave`.
///
/// # Errors
/// What the broker refuses and being unable to reach it, unless forced; an agent that does not clean up in time.
pub async fn run(output: Output, args: LeaveArgs) -> anyhow::Result<Exit> {
    let LeaveArgs { site, force, timeout } = args;
    let site = Site::open(&site).await?;
    let told = match site.identity.load() {
        Ok(Some(identity)) => tell_the_broker(&identity, force).await?,
        Ok(None) => {
            note("the site is not a member");
            true
        }
        Err(error) if force => {
            note(&format!("the identity can't be read ({error}); going on"));
            false
        }
        Err(error) => return Err(error).context("Failed to read the identity; to go on without it: --force"),
    };
    site.identity.remove()?;

    if !timeout.is_zero() {
        let mut progress = Progress::new();
        progress.say("waiting for the agent to take back what it wrote");
        let key = Key::cluster(labels::PROPERTY_CLUSTER_SET);
        if !site.wait::<ClusterProperty>(&key, timeout, |property| property.is_none()).await? {
            let message = format!("the site left, but its agent has not cleaned up within {timeout:?}");
            return Err(Failure::new(Exit::TimedOut, message)
                .remedy("start hawser-agent: it takes back what it wrote, and gateways and route agents follow")
                .into());
        }
    }
    remove_own_membership(&site).await?;
    let document = json!({ "site": site.path, "left": true, "brokerTold": told });
    output::data(output, &document, "the site has left its cluster set");
    if !told {
        note("the cluster set still lists it; an administrator removes it with: hawser revoke CLUSTER");
    }
    Ok(Exit::Ok)
}

/// Whether the broker knows.
async fn tell_the_broker(identity: &MemberIdentity, force: bool) -> anyhow::Result<bool> {
    let mut progress = Progress::new();
    progress.say(format!("telling the broker that {} leaves", identity.info.cluster_id));
    match member::leave(identity).await {
        Ok(_) => Ok(true),
        Err(error) if no_member(&error) => {
            progress.say("the broker does not know this member any more");
            Ok(true)
        }
        Err(error) if force => {
            progress.say(format!("{error}; going on"));
            Ok(false)
        }
        Err(error) => Err(error).context("Failed to leave; to go on without the broker: --force"),
    }
}

/// Revoked, replaced or gone already: there is nothing left to leave.
fn no_member(error: &Error) -> bool {
    let Error::Refused(status) = error else { return false };
    let refusal = hawser_proto::refusal::of_status(status).unwrap_or_default();
    status.code() == Code::NotFound
        || (status.code() == Code::Unauthenticated
            && refusal.field == "identity"
            && refusal.object.starts_with("cluster "))
}

/// An operator's Membership stays; what `hawser join` wrote goes.
async fn remove_own_membership(site: &Site) -> anyhow::Result<()> {
    match site.client.delete::<Membership>(Key::cluster(labels::MEMBERSHIP)).await {
        Ok(()) | Err(hawser_local_api::Error::Owned { .. }) => Ok(()),
        Err(error) => Err(error).context("Failed to remove the Membership that hawser join wrote"),
    }
}
