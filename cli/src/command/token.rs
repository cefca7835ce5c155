//! `hawser token`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use hawser_broker_client::{AdminDir, AdminIdentity, JoinToken, address};
use hawser_proto::v1::admin_client::AdminClient;
use hawser_proto::v1::{CreateTokenRequest, ListTokensRequest, RevokeTokenRequest, Token};
use jiff::Timestamp;
use serde_json::json;
use tonic::transport::Channel;
use zeroize::Zeroizing;

use crate::args::{AdminDirArgs, TokenCreateArgs, TokenRevokeArgs};
use crate::duration::short;
use crate::exit::{Exit, Failure};
use crate::output::{self, Output, table};
use crate::progress::note;

/// An administrator and a connection as such.
pub(super) async fn connect(args: &AdminDirArgs) -> anyhow::Result<(AdminIdentity, AdminClient<Channel>)> {
    let identity = AdminDir::new(&args.admin_dir).load()?;
    let client = identity.connect().await?;
    Ok((identity, client))
}

/// `hawser token create`.
///
/// # Errors
/// What the broker refuses, and being unable to reach it.
pub async fn create(output: Output, args: TokenCreateArgs) -> anyhow::Result<Exit> {
    let TokenCreateArgs { cluster, ttl, uses, prefixes, namespaces, broker, admin } = args;
    let ttl_seconds = u32::try_from(ttl.as_secs()).ok().filter(|s| *s > 0);
    let ttl_seconds = ttl_seconds.ok_or_else(|| Failure::new(Exit::Usage, "--ttl: from 1s to 136 years"))?;
    let brokers = if broker.is_empty() { None } else { Some(address::parse_all(&broker)?) };
    let (identity, mut client) = connect(&admin).await?;
    let request = CreateTokenRequest {
        cluster_id: cluster.to_string(),
        ttl_seconds,
        uses,
        prefixes: prefixes.iter().map(ToString::to_string).collect(),
        namespaces,
    };
    let made = client.create_token(request).await.context("Failed to make the token")?.into_inner();
    let token = JoinToken {
        brokers: brokers.unwrap_or_else(|| identity.brokers.clone()),
        ca_pin: identity.ca_pin()?,
        cluster_id: cluster.clone(),
        secret: Zeroizing::new(made.secret),
    };
    let text = token.reveal();
    let expires = time(made.expires);
    let document = json!({ "id": made.id, "cluster": cluster, "token": *text, "expires": expires, "uses": uses });
    output::data(output, &document, &text);
    if output == Output::Table {
        note(&format!("token {} for {cluster}, until {expires}", made.id));
        note("next, where the site is: hawser join --site DIR --token-file -");
    }
    Ok(Exit::Ok)
}

/// `hawser token list`.
///
/// # Errors
/// What the broker refuses, and being unable to reach it.
pub async fn list(output: Output, args: AdminDirArgs) -> anyhow::Result<Exit> {
    let (_, mut client) = connect(&args).await?;
    let tokens = client.list_tokens(ListTokensRequest {}).await.context("Failed to list tokens")?.into_inner().tokens;
    let document: Vec<_> = tokens
        .iter()
        .map(|t| {
            json!({
                "id": t.id, "cluster": t.cluster_id, "usesLeft": t.uses_left, "expires": time(t.expires),
                "prefixes": t.prefixes, "namespaces": t.namespaces, "createdBy": t.created_by,
            })
        })
        .collect();
    let header = ["ID", "CLUSTER", "USES LEFT", "EXPIRES", "PREFIXES", "NAMESPACES", "CREATED BY"];
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let text = table(&header, tokens.iter().map(|token| row(token, now)));
    output::data(output, &document, &text);
    Ok(Exit::Ok)
}

fn row(token: &Token, now: Duration) -> Vec<String> {
    let left = Duration::from_secs(u64::try_from(token.expires).unwrap_or(0)).checked_sub(now);
    let or = |list: &[String], none: &str| if list.is_empty() { none.to_owned() } else { list.join(",") };
    vec![
        token.id.clone(),
        token.cluster_id.clone(),
        token.uses_left.to_string(),
        left.map_or("expired".to_owned(), |left| format!("in {}", short(left))),
        or(&token.prefixes, "any"),
        or(&token.namespaces, "default rule"),
        token.created_by.clone(),
    ]
}

/// `hawser token revoke`.
///
/// # Errors
/// What the broker refuses, and being unable to reach it.
pub async fn revoke(output: Output, args: TokenRevokeArgs) -> anyhow::Result<Exit> {
    let TokenRevokeArgs { id, admin } = args;
    let (_, mut client) = connect(&admin).await?;
    client.revoke_token(RevokeTokenRequest { id: id.clone() }).await.context("Failed to revoke the token")?;
    output::data(output, &json!({ "id": id, "revoked": true }), &format!("token {id} is revoked"));
    Ok(Exit::Ok)
}

/// Seconds since the epoch, as RFC 3339.
pub(super) fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |t| t.to_string())
}
