//! A member's identity as it changes on disk: joined, renewed, replaced, gone.

use std::time::{Duration, SystemTime};

use crate::identity::{IdentityDir, MemberIdentity};

impl IdentityDir {
    /// Follows the identity: the receiver holds the latest good one, and none while this site is no member. A file that is
    /// wrong is logged once, and the last good identity stays. Looks twice a second; ends when all receivers are dropped.
    #[must_use]
    pub fn watch(&self) -> tokio::sync::watch::Receiver<Option<MemberIdentity>> {
        let dir = self.clone();
        let mut complaint = None;
        let first = dir.load_or_log(None, &mut complaint);
        let (sender, receiver) = tokio::sync::watch::channel(first);
        tokio::spawn(async move {
            let mut seen = dir.fingerprint();
            loop {
                tokio::select! {
                    () = sender.closed() => return,
                    () = tokio::time::sleep(Duration::from_millis(500)) => {}
                }
                let now = dir.fingerprint();
                if now == seen && complaint.is_none() {
                    continue;
                }
                seen = now;
                let new = dir.load_or_log(sender.borrow().clone(), &mut complaint);
                sender.send_if_modified(|old| {
                    if *old == new {
                        false
                    } else {
                        *old = new;
                        true
                    }
                });
            }
        });
        receiver
    }

    fn load_or_log(&self, last: Option<MemberIdentity>, complaint: &mut Option<String>) -> Option<MemberIdentity> {
        match self.load() {
            Ok(identity) => {
                *complaint = None;
                identity
            }
            Err(error) => {
                let text = error.to_string();
                if complaint.as_ref() != Some(&text) {
                    tracing::warn!(error = %text, "the identity can't be read; the last good one stays in force");
                    *complaint = Some(text);
                }
                last
            }
        }
    }

    fn fingerprint(&self) -> Vec<Option<(SystemTime, u64)>> {
        ["broker.json", "cluster.crt", "cluster.key", "ca.crt"]
            .iter()
            .map(|name| {
                let meta = std::fs::metadata(self.file(name)).ok()?;
                Some((meta.modified().ok()?, std::os::unix::fs::MetadataExt::ino(&meta)))
            })
            .collect()
    }
}
