//! `hawser broker backup`: what the broker alone knows, in one file. `restore` is its other half.
//!
//! While a broker runs, only it can read the roster: it hands a durable snapshot out over a socket of its own in its
//! directory (0600). The CA's key never crosses it: the command reads that file itself, as its owner.

mod file;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use axum::http::StatusCode;
use axum::routing::get;
use hawser_broker_core::{Roster, StoredTerm};
use hawser_broker_pki::files;
use hawser_broker_store::{RedbStore, StoreError};
use hawser_model::ClusterId;
use hawser_telemetry::{AdminAddr, Readiness, admin};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

pub use file::BackupError;
pub(crate) use file::Contents;

use crate::engine::Handle;
use crate::state::{self, Settings};

/// A broker that is starting or ending has the files and no socket for so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// More than any roster takes.
const MAX_ANSWER: u64 = 256 << 20;

/// `broker backup`.
#[derive(Debug, Clone, clap::Args)]
pub struct BackupArgs {
    /// The broker's directory; the broker may run.
    #[arg(long, env = "HAWSER_BROKER_DIR", value_name = "DIR", default_value = "/var/lib/hawser/broker")]
    pub dir: PathBuf,
    /// The file to write (0600); one that is there is replaced. It holds the CA's key: keep it as you keep a root key.
    #[arg(long, env = "HAWSER_BACKUP_FILE", value_name = "FILE")]
    pub out: PathBuf,
}

/// What a backup holds, or what was restored of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// The cluster set.
    pub set: String,
    /// The roster's revision.
    pub revision: u64,
    /// How many members it has.
    pub members: usize,
    /// When the backup was made, seconds since the epoch.
    pub made: i64,
}

impl Saved {
    pub(crate) fn of(contents: &Contents) -> Self {
        let Contents { made, roster, .. } = contents;
        Self {
            set: roster.set().to_owned(),
            revision: roster.revision(),
            members: roster.members().count(),
            made: *made,
        }
    }
}

/// Writes CA, roster and settings of a broker into one file, whether the broker runs or not.
///
/// # Errors
/// No cluster set in the directory, files that can't be read or don't belong together, a file that can't be written.
pub async fn backup(args: &BackupArgs) -> anyhow::Result<Saved> {
    let BackupArgs { dir, out } = args;
    let Snapshot { roster, terms } = snapshot(dir).await?;
    let contents = Contents {
        made: state::unix(state::now()),
        settings: Settings::load(&dir.join("broker.json"))?,
        ca_certificate: text(&dir.join("ca.crt"))?,
        ca_key: text(&dir.join("ca.key"))?,
        roster,
        terms,
    };
    contents.write(out)?;
    Ok(Saved::of(&contents))
}

fn text(path: &Path) -> anyhow::Result<String> {
    let bytes = files::read(path)?;
    let text = std::str::from_utf8(&bytes).with_context(|| format!("{}: it must be PEM", path.display()))?;
    Ok(text.to_owned())
}

/// The roster and the terms at one moment.
#[derive(Serialize, Deserialize)]
struct Snapshot {
    roster: Roster,
    terms: BTreeMap<ClusterId, StoredTerm>,
}

/// From the files, or from the broker that has them.
async fn snapshot(dir: &Path) -> anyhow::Result<Snapshot> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let used = match RedbStore::read_roster(dir) {
            Ok((roster, terms)) => return Ok(Snapshot { roster, terms }),
            Err(used @ StoreError::InUse { .. }) => used,
            Err(error) => return Err(error.into()),
        };
        match tokio::time::timeout(PATIENCE, ask(&socket(dir))).await.unwrap_or_else(|e| Err(e.into())) {
            Ok(snapshot) => return Ok(snapshot),
            Err(error) if tokio::time::Instant::now() >= deadline => {
                let socket = socket(dir);
                return Err(anyhow::Error::new(error)
                    .context(format!("the broker that uses {} does not answer at {}", dir.display(), socket.display()))
                    .context(used));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Where a running broker hands its roster out.
pub(crate) fn socket(dir: &Path) -> PathBuf {
    dir.join("backup.sock")
}

/// HTTP/1.0, which is answered in one piece and then closed.
async fn ask(socket: &Path) -> io::Result<Snapshot> {
    let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(b"GET /roster HTTP/1.0\r\nHost: hawser\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n");
    let (head, body) = answer.split_at(end.ok_or_else(|| wrong("it does not speak HTTP".to_owned()))? + 4);
    let head = String::from_utf8_lossy(head);
    match head.split_whitespace().nth(1) {
        Some("200") => serde_json::from_slice(body).map_err(|e| wrong(format!("it sent no roster: {e}"))),
        status => Err(wrong(format!("it answered with status {status:?}"))),
    }
}

/// The broker's end of the socket.
pub(crate) struct Server {
    server: admin::Server,
    engine: Handle,
}

impl Server {
    /// Takes the socket.
    pub(crate) async fn bind(dir: &Path, engine: Handle) -> anyhow::Result<Self> {
        Ok(Self { server: admin::Server::bind(&AdminAddr::Unix(socket(dir))).await?, engine })
    }

    /// Answers until the token is cancelled.
    pub(crate) async fn run(self, token: CancellationToken) -> anyhow::Result<()> {
        let engine = self.engine;
        let roster = get(move || {
            let engine = engine.clone();
            async move {
                let snapshot =
                    engine.call(|state, _| Snapshot { roster: state.core.roster().clone(), terms: state.core.terms() });
                let snapshot = snapshot.await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
                serde_json::to_vec(&snapshot).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
            }
        });
        let router = axum::Router::new().route("/roster", roster);
        self.server.serve(Default::default(), Readiness::new(), router, token).await
    }
}
