//! Hears of changed files: by inotify at once where it can, by a full look every second in any case (a shared file system
//! tells nothing of other hosts' changes).

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::time::{Duration, Instant};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};
use nix::poll::{PollFd, PollFlags, PollTimeout};

use crate::own::Inner;

/// Between two full looks; longer where a look takes long.
const RESCAN: Duration = Duration::from_secs(1);
/// The same where inotify is not to be had.
const RESCAN_BLIND: Duration = Duration::from_millis(200);
/// Until a file that was just written to is looked at again.
const SETTLE: Duration = Duration::from_millis(50);

/// Runs until the adapter is gone.
pub(crate) fn run(inner: &Weak<Inner>) {
    let mut watcher = Watcher::new();
    let mut next_full = Instant::now() + RESCAN;
    loop {
        let Some(unsettled) = inner.upgrade().map(|inner| watcher.follow_dirs(&inner)) else { return };
        let now = Instant::now();
        let wake = if unsettled { next_full.min(now + SETTLE) } else { next_full };
        let events = watcher.wait(wake.saturating_duration_since(now));
        let Some(inner) = inner.upgrade() else { return };
        let mut tree = inner.tree();
        for event in &events {
            match event {
                Change::File { path, complete } => tree.refresh(path, *complete),
                Change::Dir(path) => tree.refresh_dir(path),
                Change::Lost => next_full = Instant::now(),
            }
        }
        let started = Instant::now();
        if started >= next_full || (events.is_empty() && tree.is_unsettled()) {
            tree.refresh_all();
            inner.sweep_orphans(&mut tree);
            let period = if watcher.inotify.is_some() { RESCAN } else { RESCAN_BLIND };
            next_full = Instant::now() + period.max(started.elapsed() * 20);
        }
    }
}

enum Change {
    /// A file; `complete` when its writer has closed it or moved it in.
    File { path: PathBuf, complete: bool },
    /// A folder came, went or was moved.
    Dir(PathBuf),
    /// Events were lost.
    Lost,
}

struct Watcher {
    inotify: Option<Inotify>,
    watched: HashMap<PathBuf, WatchDescriptor>,
    dirs: HashMap<WatchDescriptor, PathBuf>,
    /// Whether it was said already that some folder can't be watched.
    complained: bool,
}

impl Watcher {
    fn new() -> Self {
        let inotify = Inotify::init()
            .inspect_err(|error| {
                tracing::warn!(%error, "no inotify, looking for changes by time only; raise fs.inotify.max_user_instances");
            })
            .ok();
        Self { inotify, watched: HashMap::new(), dirs: HashMap::new(), complained: false }
    }

    /// Watches folders that are new; says whether some file is to be looked at again soon.
    fn follow_dirs(&mut self, inner: &Inner) -> bool {
        let mut tree = inner.tree();
        let Some(inotify) = &self.inotify else { return tree.is_unsettled() };
        let fresh: Vec<PathBuf> = tree.dirs().iter().filter(|dir| !self.watched.contains_key(*dir)).cloned().collect();
        for dir in fresh {
            match inotify.watches().add(inner.site.join(&dir), mask()) {
                Ok(descriptor) => {
                    self.dirs.insert(descriptor.clone(), dir.clone());
                    self.watched.insert(dir.clone(), descriptor);
                    // What came before the watch did.
                    tree.refresh_dir(&dir);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    if !std::mem::replace(&mut self.complained, true) {
                        let dir = dir.display();
                        tracing::warn!(%dir, %error, "can't be watched, looked at every second; raise fs.inotify.max_user_watches");
                    }
                }
            }
        }
        tree.is_unsettled()
    }

    /// Waits for events at most this long.
    fn wait(&mut self, timeout: Duration) -> Vec<Change> {
        let Some(inotify) = &mut self.inotify else {
            std::thread::sleep(timeout.min(RESCAN_BLIND));
            return Vec::new();
        };
        let timeout = PollTimeout::try_from(timeout + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
        if !nix::poll::poll(&mut fds, timeout).is_ok_and(|ready| ready > 0) {
            return Vec::new();
        }
        let mut buffer = vec![0; 64 * 1024];
        let mut changes = Vec::new();
        let Ok(events) = inotify.read_events(&mut buffer) else { return changes };
        for event in events {
            if event.mask.contains(EventMask::Q_OVERFLOW) {
                changes.push(Change::Lost);
                continue;
            }
            let Some(dir) = self.dirs.get(&event.wd).cloned() else { continue };
            if event.mask.intersects(EventMask::IGNORED | EventMask::DELETE_SELF | EventMask::MOVE_SELF) {
                self.dirs.remove(&event.wd);
                self.watched.remove(&dir);
                changes.push(Change::Dir(dir));
                continue;
            }
            let Some(name) = event.name else { continue };
            let path = dir.join(name);
            if event.mask.contains(EventMask::ISDIR) {
                self.forget(&path);
                changes.push(Change::Dir(path));
            } else {
                let complete = event.mask.intersects(EventMask::CLOSE_WRITE | EventMask::MOVED_TO);
                changes.push(Change::File { path, complete });
            }
        }
        changes
    }

    /// A folder that came, went or moved has to be watched anew under its name, and everything below it.
    fn forget(&mut self, dir: &Path) {
        self.watched.retain(|path, _| !path.starts_with(dir));
    }
}

fn mask() -> WatchMask {
    WatchMask::CLOSE_WRITE
        | WatchMask::MOVED_TO
        | WatchMask::MOVED_FROM
        | WatchMask::CREATE
        | WatchMask::DELETE
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF
        | WatchMask::ONLYDIR
        | WatchMask::DONT_FOLLOW
        | WatchMask::EXCL_UNLINK
}
