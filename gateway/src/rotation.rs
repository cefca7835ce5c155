//! When lane keys are replaced. Pure: `gateway` does what is judged here, by `hawser_tunnel::Tunnel::prepare_keys` and
//! `promote_keys`.
//!
//! Next keys are made on request, or when the keys in use are old; then they are published, and peers begin sessions by them
//! beside those that there are. They replace the others once no path needs those any more: a path that carries packets is
//! waited for without end, since it would be cut off; one that carries none for [`DARK_MAX`], during which the next keys
//! were to be had from the broker.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use hawser_model::{ClusterId, NodeName};
use hawser_tunnel::{LaneInfo, NextKey, RotatingPath};

/// How long a path that carries nothing is waited for.
const DARK_MAX: Duration = Duration::from_secs(600);
/// Keys are not replaced by age more often.
const AGE_MIN: Duration = Duration::from_secs(3600);
/// Gateways of a site that are at it for longer than this don't keep others from it.
const TURN_MAX: Duration = Duration::from_secs(3600);
/// How long a gateway whose keys are old waits for word of another one that is at it, by its place among them: longer than
/// such word takes, so that of those who are due at the same moment the next one knows of the one before.
const HEED: Duration = Duration::from_secs(2);
/// Reasons to wait that are told.
const REASONS_MAX: usize = 10;

/// What the local API has to say about this gateway's keys.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Wishes {
    /// The request for new ones, by its time in Unix seconds.
    pub(crate) requested: Option<i64>,
    /// The age at which they are replaced.
    pub(crate) after: Option<Duration>,
    /// Since when other gateways of the site are at it.
    pub(crate) others: Vec<SystemTime>,
    /// How many gateways of the site come before this one.
    pub(crate) place: u32,
    /// Whether what is published comes to the other clusters.
    pub(crate) broker: bool,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make next keys.
    Prepare,
    /// Put them in the place of the others.
    Promote,
}

/// How far a replacement is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Progress {
    /// When the next keys were made.
    pub(crate) since: SystemTime,
    /// Paths that need no key that will be replaced.
    pub(crate) moved: u32,
    /// All paths.
    pub(crate) total: u32,
    /// What the others wait for.
    pub(crate) waiting_for: Vec<String>,
}

/// A moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) steady: Instant,
    pub(crate) wall: SystemTime,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sight {
    /// Its peer has the next keys, whatever becomes of it.
    Moved,
    Waiting,
    /// Since when it carries nothing while the next keys are to be had.
    Dark(Instant),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Rotation {
    /// The request that was answered last.
    answered: Option<i64>,
    paths: BTreeMap<(ClusterId, NodeName), Sight>,
    /// Since when there is no path at all.
    alone: Option<Instant>,
    /// Since when it is this gateway's turn by its keys' age.
    due: Option<Instant>,
    progress: Option<Progress>,
}

impl Rotation {
    /// One that goes on after the request that was answered last.
    pub(crate) fn new(answered: Option<i64>) -> Self {
        Self { answered, ..Self::default() }
    }

    /// The request that was answered last.
    pub(crate) fn answered(&self) -> Option<i64> {
        self.answered
    }

    /// How far it is, by the last [`Self::judge`].
    pub(crate) fn progress(&self) -> Option<&Progress> {
        self.progress.as_ref()
    }

    /// The request that the keys being made now, or being introduced, are the answer to; true where that is news.
    pub(crate) fn answer(&mut self, wishes: &Wishes) -> bool {
        let news = wishes.requested.is_some() && self.answered != wishes.requested;
        if news {
            self.answered = wishes.requested;
        }
        news
    }

    /// Takes in how things stand. `begun` says since when there are next keys and how far they are with each path;
    /// `published` that they are in the local API.
    pub(crate) fn judge(
        &mut self,
        wishes: &Wishes,
        node: &NodeName,
        lanes: &[LaneInfo],
        begun: Option<(SystemTime, &[RotatingPath])>,
        published: bool,
        now: Now,
    ) -> Option<Step> {
        let Some((since, paths)) = begun else {
            let due = due_by_age(wishes, node, lanes, now).then(|| self.due.unwrap_or(now.steady));
            *self = Self { due, ..Self::new(self.answered) };
            let requested = wishes.requested.is_some() && wishes.requested != self.answered;
            let heeded = |since| now.steady.duration_since(since) >= HEED * wishes.place.saturating_add(1);
            return (requested || due.is_some_and(heeded)).then_some(Step::Prepare);
        };
        self.look(paths, wishes.broker && published, now.steady);
        let done = |sight: &Sight| match sight {
            Sight::Moved => true,
            Sight::Waiting => false,
            Sight::Dark(since) => now.steady.duration_since(*since) >= DARK_MAX,
        };
        let alone = self.alone.is_some_and(|since| now.steady.duration_since(since) < DARK_MAX);
        self.progress = Some(Progress {
            since,
            moved: count(self.paths.values().filter(|sight| **sight == Sight::Moved).count()),
            total: count(paths.len()),
            waiting_for: paths.iter().filter_map(|path| self.reason(path)).take(REASONS_MAX).collect(),
        });
        // Something came between: the other lanes go on with it.
        if lanes.iter().any(|lane| lane.next.is_none()) {
            return Some(Step::Prepare);
        }
        (published && !alone && self.paths.values().all(done)).then_some(Step::Promote)
    }

    fn look(&mut self, paths: &[RotatingPath], to_be_had: bool, now: Instant) {
        let mut known = std::mem::take(&mut self.paths);
        for path in paths {
            let key = (path.cluster.clone(), path.gateway.clone());
            let sight = match (known.remove(&key), path.next) {
                (Some(Sight::Moved), NextKey::Dark) | (_, NextKey::InUse) => Sight::Moved,
                (_, NextKey::Waiting) => Sight::Waiting,
                (Some(Sight::Dark(since)), NextKey::Dark) if to_be_had => Sight::Dark(since),
                (_, NextKey::Dark) => Sight::Dark(now),
            };
            self.paths.insert(key, sight);
        }
        self.alone = if !paths.is_empty() {
            None
        } else if to_be_had {
            Some(self.alone.unwrap_or(now))
        } else {
            Some(now)
        };
    }

    fn reason(&self, path: &RotatingPath) -> Option<String> {
        let (cluster, gateway) = (&path.cluster, &path.gateway);
        match self.paths.get(&(cluster.clone(), gateway.clone()))? {
            Sight::Moved => None,
            Sight::Waiting if path.plain => Some(format!(
                "{cluster}/{gateway}, a plain WireGuard endpoint: give it the nextPublicKey of lane 0 as its peer's key"
            )),
            Sight::Waiting => Some(format!("{cluster}/{gateway}, which does not use the next keys yet")),
            Sight::Dark(_) => Some(format!("{cluster}/{gateway}, which does not answer, for ten minutes")),
        }
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Whether the oldest key is so old that it is this gateway's turn. Gateways of a site take turns: each is due a little
/// earlier than the age says, by a share that its name decides, and waits for those that are at it.
fn due_by_age(wishes: &Wishes, node: &NodeName, lanes: &[LaneInfo], now: Now) -> bool {
    let age = |at: &SystemTime| now.wall.duration_since(*at).unwrap_or_default();
    let (Some(after), Some(oldest)) = (wishes.after, lanes.iter().map(|lane| age(&lane.created)).max()) else {
        return false;
    };
    let due = after - after / 10_000 * u32::from(earliness(node));
    let busy = wishes.others.iter().any(|since| age(since) < TURN_MAX);
    oldest >= due.max(AGE_MIN) && !busy
}

/// From 0 to 999 ten-thousandths; FNV-1a, the same in every run.
fn earliness(node: &NodeName) -> u16 {
    let hash = node
        .as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    // Below 1,000.
    (hash % 1000) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use hawser_model::PublicKey;

    const HOUR: Duration = Duration::from_secs(3600);

    struct World {
        rotation: Rotation,
        wishes: Wishes,
        start: Instant,
        begun: Option<Vec<RotatingPath>>,
        published: bool,
        key_age: Duration,
        /// One lane has no next key.
        torn: bool,
    }

    impl World {
        fn new() -> Self {
            Self {
                rotation: Rotation::default(),
                wishes: Wishes { broker: true, ..Wishes::default() },
                start: Instant::now(),
                begun: None,
                published: true,
                key_age: HOUR,
                torn: false,
            }
        }

        fn paths(&mut self, all: &[(&str, NextKey)]) {
            let path = |&(gateway, next): &(&str, NextKey)| RotatingPath {
                cluster: ClusterId::new("east").unwrap(),
                gateway: NodeName::new(gateway).unwrap(),
                plain: gateway == "plain",
                next,
            };
            self.begun = Some(all.iter().map(path).collect());
        }

        /// Judges `seconds` after the start.
        fn judge(&mut self, seconds: u64) -> Option<Step> {
            let wall = SystemTime::UNIX_EPOCH + 1000 * HOUR;
            let next = self.begun.as_ref().map(|_| (PublicKey([2; 32]), wall));
            let lane = LaneInfo { key: PublicKey([1; 32]), created: wall - self.key_age, port: 1, next };
            let mut lanes = vec![lane; 2];
            if self.torn {
                lanes[0].next = None;
            }
            let now = Now { steady: self.start + Duration::from_secs(seconds), wall };
            let begun = self.begun.as_deref().map(|paths| (wall, paths));
            let node = NodeName::new("w1").unwrap();
            self.rotation.judge(&self.wishes, &node, &lanes, begun, self.published, now)
        }
    }

    #[test]
    fn a_request_is_answered_once() {
        let mut world = World::new();
        assert_eq!(world.judge(0), None);
        world.wishes.requested = Some(7);
        assert_eq!(world.judge(1), Some(Step::Prepare));
        assert_eq!(world.judge(2), Some(Step::Prepare), "until it was done");
        assert!(world.rotation.answer(&world.wishes));
        world.paths(&[("e1", NextKey::Waiting)]);
        world.wishes.requested = Some(8);
        assert_eq!(world.judge(3), None, "asked again meanwhile");
        assert!(world.rotation.answer(&world.wishes) && !world.rotation.answer(&world.wishes));
        world.paths(&[("e1", NextKey::InUse)]);
        assert_eq!(world.judge(4), Some(Step::Promote));
        world.begun = None;
        assert_eq!(world.judge(5), None);
        let mut restarted = Rotation::new(world.rotation.answered());
        assert!(!restarted.answer(&world.wishes), "a restart does not forget");
    }

    #[test]
    fn a_path_that_carries_packets_is_waited_for_without_end() {
        let mut world = World::new();
        world.paths(&[("e1", NextKey::InUse), ("plain", NextKey::Waiting)]);
        assert_eq!(world.judge(0), None);
        assert_eq!(world.judge(1_000_000), None);
        let progress = world.rotation.progress().unwrap();
        assert_eq!((progress.moved, progress.total), (1, 2));
        assert!(progress.waiting_for[0].contains("nextPublicKey"), "{progress:?}");
        world.paths(&[("e1", NextKey::InUse), ("plain", NextKey::Dark)]);
        assert_eq!(world.judge(1_000_001), None, "it may be back at once");
        world.paths(&[("e1", NextKey::InUse), ("plain", NextKey::InUse)]);
        assert_eq!(world.judge(1_000_002), Some(Step::Promote));
        world.published = false;
        assert_eq!(world.judge(1_000_003), None, "nothing is replaced by what nobody was told");
    }

    #[test]
    fn a_silent_path_is_waited_for_while_its_peer_could_hear_of_the_next_keys() {
        let mut world = World::new();
        world.paths(&[("e1", NextKey::InUse), ("e2", NextKey::Dark)]);
        assert_eq!(world.judge(0), None);
        world.wishes.broker = false;
        assert_eq!(world.judge(599), None);
        assert_eq!(world.judge(5000), None, "the broker was away all the time");
        world.wishes.broker = true;
        assert_eq!(world.judge(5001), None);
        world.paths(&[("e1", NextKey::Dark), ("e2", NextKey::Dark)]);
        assert_eq!(world.judge(5599), None);
        assert_eq!(world.judge(5600), Some(Step::Promote), "that e1 is silent by now does not matter: it has the keys");
    }

    #[test]
    fn a_replacement_that_was_interrupted_is_made_whole() {
        let mut world = World::new();
        world.torn = true;
        world.paths(&[("e1", NextKey::Waiting)]);
        assert_eq!(world.judge(0), Some(Step::Prepare), "no path would ever stop waiting for the lane without one");
        world.torn = false;
        assert_eq!(world.judge(1), None);
    }

    #[test]
    fn without_any_path_it_waits_for_those_that_may_come() {
        let mut world = World::new();
        world.paths(&[]);
        assert_eq!((world.judge(0), world.judge(599)), (None, None));
        assert_eq!(world.judge(600), Some(Step::Promote));
        world.paths(&[("e1", NextKey::Waiting)]);
        assert_eq!(world.judge(601), None);
    }

    #[test]
    fn by_age_gateways_take_turns() {
        let mut world = World::new();
        world.wishes.after = Some(100 * HOUR);
        world.key_age = 89 * HOUR;
        assert_eq!(world.judge(0), None, "at most a tenth early");
        world.key_age = 100 * HOUR;
        assert_eq!((world.judge(1), world.judge(2)), (None, None), "others may be at it without its knowledge");
        assert_eq!(world.judge(3), Some(Step::Prepare));
        let now = SystemTime::UNIX_EPOCH + 1000 * HOUR;
        world.wishes.others = vec![now - HOUR / 2];
        assert_eq!((world.judge(4), world.judge(9)), (None, None), "another gateway is at it");
        world.wishes.others = vec![now - 2 * HOUR];
        assert_eq!((world.judge(10), world.judge(12)), (None, Some(Step::Prepare)), "it seems to be stuck");
        world.wishes.after = Some(Duration::from_secs(1));
        world.key_age = Duration::from_secs(3000);
        assert_eq!((world.judge(13), world.judge(20)), (None, None), "not all the time");
    }

    #[test]
    fn of_gateways_that_are_due_at_once_the_next_one_hears_of_the_one_before() {
        let places = [0, 1, 2].map(|place| {
            let mut world = World::new();
            (world.wishes.after, world.wishes.place, world.key_age) = (Some(2 * HOUR), place, 9 * HOUR);
            (0..60).find(|&seconds| world.judge(seconds) == Some(Step::Prepare)).unwrap()
        });
        assert_eq!(places, [2, 4, 6]);
    }

    #[test]
    fn gateways_are_due_at_different_times() {
        let early: Vec<u16> =
            ["w1", "w2", "w3", "gw-1", "gw-2"].map(|n| earliness(&NodeName::new(n).unwrap())).to_vec();
        let distinct: std::collections::BTreeSet<&u16> = early.iter().collect();
        assert_eq!(distinct.len(), early.len(), "{early:?}");
        assert!(early.iter().all(|&share| share < 1000), "{early:?}");
    }
}
