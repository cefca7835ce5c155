//! The age of an export, which decides conflicts: what a member claims, bounded by what its reader saw.
//!
//! The broker keeps a [`FirstSeen`] per export and hands `effective` on, so that all readers order exports alike. The rules
//! for conflicts are in [`crate::merge`].

use crate::export::Timestamp;

/// How far ahead of the reader's clock a timestamp may be, milliseconds.
pub const MAX_AHEAD_MS: i64 = 5 * 60 * 1000;

/// When an export says it was made, and when it counts as made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstSeen {
    /// What its cluster claims.
    pub claimed: Timestamp,
    /// What decides conflicts: never after it was first seen, never earlier than it once was.
    pub effective: Timestamp,
}

/// A timestamp too far in the future.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "creationTimestamp is not valid: it is {} s ahead of this clock and may be 300 s at most; correct the clock of the \
     exporting cluster",
    .ahead_ms / 1000
)]
pub struct ClockAhead {
    /// By how much, milliseconds.
    pub ahead_ms: i64,
}

/// Takes the timestamp of an export into account. `known` is what this gave for the same export before, if it is kept.
///
/// A claim in the near future counts as made when it is first seen. An export that once counted as made at some time can't
/// become older by a later claim, only younger (it was deleted and made again).
///
/// # Errors
/// The claim is more than [`MAX_AHEAD_MS`] ahead of `now`.
pub fn first_seen(claimed: Timestamp, known: Option<FirstSeen>, now: Timestamp) -> Result<FirstSeen, ClockAhead> {
    let ahead_ms = claimed.0.saturating_sub(now.0);
    match known {
        Some(known) if known.claimed == claimed => Ok(known),
        _ if ahead_ms > MAX_AHEAD_MS => Err(ClockAhead { ahead_ms }),
        Some(known) => Ok(FirstSeen { claimed, effective: claimed.min(now).max(known.effective) }),
        None => Ok(FirstSeen { claimed, effective: claimed.min(now) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn after(ms: i64) -> Timestamp {
        Timestamp(NOW.0 + ms)
    }

    #[test]
    fn the_past_is_believed_and_the_near_future_is_now() {
        assert_eq!(first_seen(after(-90_000), None, NOW).unwrap().effective, after(-90_000));
        assert_eq!(first_seen(after(MAX_AHEAD_MS), None, NOW).unwrap().effective, NOW);
    }

    #[test]
    fn the_far_future_is_refused() {
        let error = first_seen(after(MAX_AHEAD_MS + 1000), None, NOW).unwrap_err();
        assert_eq!(
            error.to_string(),
            "creationTimestamp is not valid: it is 301 s ahead of this clock and may be 300 s at most; correct the clock of \
             the exporting cluster"
        );
        assert!(first_seen(Timestamp(i64::MAX), None, Timestamp(i64::MIN)).is_err());
    }

    #[test]
    fn saying_it_again_changes_nothing() {
        let first = first_seen(after(60_000), None, NOW).unwrap();
        assert_eq!(first_seen(after(60_000), Some(first), after(30_000)), Ok(first));
    }

    #[test]
    fn an_export_made_again_is_younger() {
        let first = first_seen(after(-60_000), None, NOW).unwrap();
        assert_eq!(first_seen(after(5_000), Some(first), after(6_000)).unwrap().effective, after(5_000));
    }

    proptest! {
        #[test]
        fn nothing_grows_older(claims in proptest::collection::vec(-1_000_000i64..400_000, 1..20)) {
            let mut known: Option<FirstSeen> = None;
            for (i, claim) in claims.into_iter().enumerate() {
                let now = after(i as i64 * 1000);
                let Ok(next) = first_seen(after(claim), known, now) else { continue };
                prop_assert!(next.effective <= now);
                prop_assert!(known.is_none_or(|k| next.effective >= k.effective));
                known = Some(next);
            }
        }
    }
}
