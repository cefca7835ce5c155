//! `hawser broker restore`: a broker's directory from the file that `backup` wrote.
//!
//! What is in the way is moved aside, never deleted. The roster is put in place last: a directory in which a restore was
//! interrupted does not start, and restoring once more completes it.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use hawser_broker_core::Hash;
use hawser_broker_pki::{ADMIN_DAYS, Ca};
use hawser_broker_store::{RedbStore, StoreError};

use crate::backup::{self, Contents, Saved};
use crate::init::write_admin;
use crate::state::{self, private_dir, write_private};

/// What a cluster set consists of on disk. The roster is moved away first: without it no broker starts.
const FILES: [&str; 5] = ["roster.redb", "records.redb", "ca.key", "ca.crt", "broker.json"];

/// `broker restore`.
#[derive(Debug, Clone, clap::Args)]
pub struct RestoreArgs {
    /// The broker's directory; it is made where there is none. No broker may run in it.
    #[arg(long, env = "HAWSER_BROKER_DIR", value_name = "DIR", default_value = "/var/lib/hawser/broker")]
    pub dir: PathBuf,
    /// The file that `hawser broker backup` made.
    #[arg(long, env = "HAWSER_BACKUP_FILE", value_name = "FILE")]
    pub from: PathBuf,
    /// Replace a roster or a CA that is there; they are moved into DIR/replaced-TIME.
    #[arg(long)]
    pub force: bool,
    /// Keep join tokens usable. Without, those of the backup are void: any may have been used since it was made.
    #[arg(long)]
    pub keep_tokens: bool,
    /// Also make an administrator's identity of this name in DIR/admin, for when the others are lost.
    #[arg(long, value_name = "NAME")]
    pub admin: Option<String>,
}

/// What [`restore`] did.
#[derive(Debug, Clone)]
pub struct Restored {
    /// What is in force now.
    pub saved: Saved,
    /// Tokens that could have been used and are void.
    pub void_tokens: usize,
    /// Where what was in the way is; none: nothing was.
    pub replaced: Option<PathBuf>,
    /// The new administrator's identity.
    pub admin_dir: Option<PathBuf>,
}

/// The directory holds another cluster set, or a roster that would be lost.
#[derive(Debug, thiserror::Error)]
#[error(
    "{}: {found} is there already; look at it first, then replace it with --force (it is moved aside, not deleted)",
    dir.display()
)]
pub struct InTheWay {
    /// The broker's directory.
    pub dir: PathBuf,
    /// What is there.
    pub found: &'static str,
}

/// Puts CA, roster and settings of a backup in place, so that a broker starts and continues from there.
///
/// # Errors
/// A file that is no backup, or a damaged one; something in the way, without `force`; a broker that runs; a directory
/// that can't be written.
pub fn restore(args: &RestoreArgs) -> anyhow::Result<Restored> {
    let RestoreArgs { dir, from, force, keep_tokens, admin } = args;
    let mut contents = Contents::read(from)?;
    let now = state::now();
    let ca = Ca::from_pem(&contents.ca_certificate, &contents.ca_key, from)?;
    let issued = admin.as_ref().map(|name| ca.issue_admin(name, now, ADMIN_DAYS)).transpose()?;

    private_dir(dir)?;
    let _one_at_a_time = lock(dir)?;
    check_stopped(dir)?;
    if let Some(found) = in_the_way(dir, &contents)
        && !force
    {
        return Err(InTheWay { dir: dir.clone(), found }.into());
    }
    let void_tokens = if *keep_tokens { 0 } else { contents.roster.void_tokens() };
    if let (Some(name), Some(issued)) = (admin, &issued) {
        contents.roster.add_admin(name, Hash(issued.issued.key_hash), state::unix(now));
    }

    let admin_dir = issued.is_some().then(|| dir.join("admin"));
    let moved = FILES.iter().copied().chain(admin_dir.is_some().then_some("admin"));
    let replaced = move_aside(dir, moved, state::unix(now))?;
    write_private(&dir.join("ca.key"), contents.ca_key.as_bytes())?;
    write_private(&dir.join("ca.crt"), contents.ca_certificate.as_bytes())?;
    contents.settings.save(&dir.join("broker.json"))?;
    if let (Some(admin_dir), Some(issued)) = (&admin_dir, &issued) {
        write_admin(admin_dir, &ca, issued, &contents.settings)?;
    }
    RedbStore::restore(dir, &contents.roster, &contents.terms, state::random()?, state::unix(now))?;
    Ok(Restored { saved: Saved::of(&contents), void_tokens, replaced, admin_dir })
}

/// Held until the restore is done.
fn lock(dir: &Path) -> anyhow::Result<File> {
    let held = File::open(dir).with_context(|| format!("open {}", dir.display()))?;
    match held.try_lock() {
        Ok(()) => Ok(held),
        Err(std::fs::TryLockError::WouldBlock) => bail!("{}: another restore is under way here", dir.display()),
        Err(std::fs::TryLockError::Error(error)) => Err(error).with_context(|| format!("lock {}", dir.display())),
    }
}

/// A broker may run although its files were taken from under it: then its socket answers.
fn check_stopped(dir: &Path) -> anyhow::Result<()> {
    RedbStore::check_unused(dir)?;
    let socket = backup::socket(dir);
    match std::os::unix::net::UnixStream::connect(&socket) {
        Ok(_) => Err(StoreError::InUse { path: socket }.into()),
        Err(_) => Ok(()),
    }
}

/// What would be lost. The CA of the backup itself is not: that is how a lost roster is put back.
fn in_the_way(dir: &Path, contents: &Contents) -> Option<&'static str> {
    if dir.join("roster.redb").exists() {
        return Some("a roster (roster.redb)");
    }
    let same = |name: &str, text: &str| match std::fs::read(dir.join(name)) {
        Ok(found) => found == text.as_bytes(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    let same = same("ca.key", &contents.ca_key) && same("ca.crt", &contents.ca_certificate);
    (!same).then_some("another CA (ca.key, ca.crt)")
}

/// Moves what there is of `names` into a new folder; none where there is nothing.
fn move_aside<'a>(dir: &Path, names: impl Iterator<Item = &'a str>, now: i64) -> anyhow::Result<Option<PathBuf>> {
    let names: Vec<_> = names.filter(|name| dir.join(name).symlink_metadata().is_ok()).collect();
    if names.is_empty() {
        return Ok(None);
    }
    let free = (0..).map(|n| dir.join(format!("replaced-{}", now + n))).find(|path| !path.exists());
    let aside = free.expect("the numbers don't end");
    private_dir(&aside)?;
    for name in names {
        let (old, new) = (dir.join(name), aside.join(name));
        std::fs::rename(&old, &new).with_context(|| format!("move {} to {}", old.display(), new.display()))?;
    }
    File::open(dir).and_then(|d| d.sync_all()).with_context(|| format!("sync {}", dir.display()))?;
    Ok(Some(aside))
}
