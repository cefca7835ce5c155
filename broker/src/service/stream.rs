//! An open stream, and the half that tells its reader.

use std::sync::Arc;

use hawser_broker_core::{Opened, StreamId};
use hawser_proto::v1::{self, sync_response::Message};
use hawser_proto::{VERSION, v1::SyncResponse};
use tokio::time::{Duration, Instant, sleep_until, timeout};
use tonic::Status;

use super::auth::Member;
use super::sync::Out;
use super::{Services, Silence};
use crate::convert;
use crate::engine::{Ending, Handle, Signals};
use crate::metrics::Direction;

/// Messages taken from the core at once.
const DRAIN: usize = 128;
/// Rest after the digest of a view, per record of it: a large view under constant change costs the others little.
const REST: Duration = Duration::from_micros(5);
/// Time for a last message to a client that may not read.
const LAST_WORD: Duration = Duration::from_secs(1);

/// A stream that the core holds open; dropping it closes it there, however the call ended.
pub(super) struct OpenStream {
    engine: Handle,
    id: StreamId,
    signals: Arc<Signals>,
}

impl OpenStream {
    pub(super) fn new(engine: Handle, id: StreamId, signals: Arc<Signals>) -> Self {
        Self { engine, id, signals }
    }

    pub(super) fn id(&self) -> StreamId {
        self.id
    }

    /// Waits until the core ends the stream, tells the client what it has to know, and gives the last status.
    pub(super) async fn ended(&self, services: &Services, out: &Out) -> Option<Status> {
        loop {
            let notified = self.signals.ended.notified();
            match self.signals.ending.get() {
                None => notified.await,
                Some(Ending::Fenced { newer_term, holder }) => {
                    let fenced = v1::Fenced { newer_term: *newer_term, holder: holder.clone() };
                    let _ = timeout(LAST_WORD, say(out, Message::Fenced(fenced))).await;
                    return Some(Status::aborted(format!(
                        "a newer stream of this cluster, opened by {holder:?}, holds term {newer_term}"
                    )));
                }
                Some(Ending::Over(reason)) => {
                    let _ = timeout(LAST_WORD, say(out, Message::Roster(services.roster()))).await;
                    return Some(services.refuse("sync", reason.clone()));
                }
            }
        }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let (engine, id) = (self.engine.clone(), self.id);
        tokio::spawn(async move {
            let closed = engine.call(move |state, now| {
                state.streams.remove(&id);
                state.core.close(id, now);
            });
            if closed.await.is_err() {
                tracing::debug!("the engine has ended before a stream was closed");
            }
        });
    }
}

async fn say(out: &Out, message: Message) -> Result<(), ()> {
    out.send(Ok(SyncResponse { message: Some(message) })).await.map_err(drop)
}

/// Tells the reader everything it has to know, as it changes. Ends with none when the client has gone.
pub(super) async fn send(
    services: &Services,
    member: &Member,
    stream: &OpenStream,
    opened: Opened,
    out: &Out,
) -> Option<Status> {
    let mut roster = services.published.roster.clone();
    let mut silence = services.silence.subscribe();
    let Opened { stream: _, term, epoch, set } = opened;
    let welcome = v1::Welcome { version: VERSION, features: Vec::new(), epoch: epoch.to_vec(), term, cluster_set: set };
    let first = v1::SignedRoster::clone(&roster.borrow_and_update());
    say(out, Message::Welcome(welcome)).await.ok()?;
    say(out, Message::Roster(first)).await.ok()?;
    let mut silent = silent_others(member, &silence.borrow_and_update());
    say(out, Message::Silent(silent.clone())).await.ok()?;
    let mut rested = Instant::now();
    loop {
        let dirty = async {
            sleep_until(rested).await;
            stream.signals.wake.notified().await;
        };
        tokio::select! {
            biased;
            changed = roster.changed() => {
                changed.ok()?;
                let newest = v1::SignedRoster::clone(&roster.borrow_and_update());
                say(out, Message::Roster(newest)).await.ok()?;
            }
            changed = silence.changed() => {
                changed.ok()?;
                let now = silent_others(member, &silence.borrow_and_update());
                if now != silent {
                    silent = now;
                    say(out, Message::Silent(silent.clone())).await.ok()?;
                }
            }
            () = dirty => match drain(services, stream, out).await {
                Ok(digested) => rested = Instant::now() + REST * u32::try_from(digested).unwrap_or(u32::MAX),
                Err(status) => return status,
            },
        }
    }
}

/// Sends what is dirty now; what gets dirty meanwhile wakes the stream again. Returns how many records were digested, or
/// the status to end with: none when the client has gone.
async fn drain(services: &Services, stream: &OpenStream, out: &Out) -> Result<usize, Option<Status>> {
    let id = stream.id;
    let batch = services.engine.call(move |state, now| state.core.drain(id, DRAIN, now)).await.map_err(Some)?;
    let mut digested = 0;
    for message in batch {
        if let hawser_broker_core::Out::Synced { records, .. } = &message {
            digested = records.len();
        }
        let message = convert::out(message);
        if let Message::Upsert(v1::Upsert { record: Some(record), .. }) = &message {
            let bytes = prost::Message::encoded_len(record) as u64;
            services.metrics.bytes.get_or_create(&Direction { direction: "sent" }).inc_by(bytes);
        }
        say(out, message).await.map_err(|()| None)?;
    }
    Ok(digested)
}

fn silent_others(member: &Member, silence: &Silence) -> v1::Silent {
    let shards = silence
        .iter()
        .filter(|(cluster, _)| *cluster != member.cluster)
        .map(|(cluster, since)| v1::SilentShard { cluster_id: cluster.to_string(), since: *since });
    v1::Silent { shards: shards.collect() }
}
