//! What an operator accepts of a drill, and whether it was kept. Pure.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use hawser_drill::Flow;

/// How many packets may be lost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MaxLoss {
    /// That many.
    Packets(u64),
    /// That share of those sent, percent.
    Percent(f64),
}

impl FromStr for MaxLoss {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is neither a number of packets nor a share; write e.g. 0, 25 or 0.1%");
        match text.strip_suffix('%') {
            Some(share) => {
                let share = share.trim().parse::<f64>().ok().filter(|p| (0.0..=100.0).contains(p));
                share.map(Self::Percent).ok_or_else(wrong)
            }
            None => text.parse().map(Self::Packets).map_err(|_| wrong()),
        }
    }
}

impl fmt::Display for MaxLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packets(packets) => write!(f, "{packets}"),
            Self::Percent(share) => write!(f, "{share} %"),
        }
    }
}

/// Share of packets lost, percent.
#[must_use]
pub fn lost_percent(flow: &Flow) -> f64 {
    if flow.sent == 0 { 0.0 } else { 100.0 * flow.lost() as f64 / flow.sent as f64 }
}

/// What is acceptable; none: anything.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bounds {
    /// The longest gap of any flow.
    pub max_gap: Option<Duration>,
    /// Packets lost, of all flows.
    pub max_loss: Option<MaxLoss>,
    /// Connections that break.
    pub max_broken: Option<usize>,
}

/// In words, each bound that `all` flows together, or the connections of which so many broke, did not keep.
#[must_use]
pub fn exceeded(all: &Flow, broken: usize, bounds: Bounds) -> Vec<String> {
    let Bounds { max_gap, max_loss, max_broken } = bounds;
    let mut words = Vec::new();
    if let Some(max) = max_gap.filter(|max| all.longest_gap > *max) {
        words.push(format!("a gap of {} ms, {} ms were acceptable", all.longest_gap.as_millis(), max.as_millis()));
    }
    let too_many = |max: &MaxLoss| match max {
        MaxLoss::Packets(packets) => all.lost() > *packets,
        MaxLoss::Percent(share) => lost_percent(all) > *share,
    };
    if let Some(max) = max_loss.filter(too_many) {
        words.push(format!("{} packets lost ({:.2} %), {max} were acceptable", all.lost(), lost_percent(all)));
    }
    if let Some(max) = max_broken.filter(|max| broken > *max) {
        words.push(format!("{broken} connections broke, {max} were acceptable"));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_kept_to_the_last_packet_and_millisecond() {
        let all = Flow { sent: 1_000, received: 995, longest_gap: Duration::from_millis(100), ..Flow::default() };
        let words = |gap: u64, loss: &str| {
            let (max_gap, max_loss) = (Some(Duration::from_millis(gap)), Some(loss.parse().unwrap()));
            exceeded(&all, 1, Bounds { max_gap, max_loss, max_broken: None })
        };
        assert!(words(100, "5").is_empty());
        assert!(words(100, "0.5%").is_empty());
        assert_eq!(words(99, "4").len(), 2);
        assert_eq!(words(100, "0.4%"), ["5 packets lost (0.50 %), 0.4 % were acceptable"]);
        assert!(exceeded(&all, 1, Bounds::default()).is_empty());
        let broken = |max| exceeded(&all, 1, Bounds { max_broken: Some(max), ..Bounds::default() });
        assert_eq!((broken(1).len(), broken(0)), (0, vec!["1 connections broke, 0 were acceptable".to_owned()]));
    }

    #[test]
    fn nonsense_is_no_bound() {
        for text in ["", "-1", "1.5", "%", "101%", "NaN%", "few"] {
            assert!(text.parse::<MaxLoss>().is_err(), "{text}");
        }
    }
}
