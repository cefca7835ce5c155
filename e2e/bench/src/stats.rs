//! Medians, percentiles, ratios. Pure.

/// The middle value; the mean of the two middle ones of an even number; NaN of none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// The smallest value that at least `share` (0 to 1) of all do not exceed; NaN of none.
#[must_use]
pub fn percentile(values: &[f64], share: f64) -> f64 {
    let sorted = sorted(values);
    if sorted.is_empty() {
        return f64::NAN;
    }
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// The smallest and the largest; NaN of none.
#[must_use]
pub fn spread(values: &[f64]) -> [f64; 2] {
    let sorted = sorted(values);
    [sorted.first().copied().unwrap_or(f64::NAN), sorted.last().copied().unwrap_or(f64::NAN)]
}

/// What each round's value of one is to the same round's of the other.
#[must_use]
pub fn ratios(of: &[f64], to: &[f64]) -> Vec<f64> {
    of.iter().zip(to).map(|(a, b)| a / b).collect()
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_ends() {
        let values = [5.0, 1.0, 4.0, 2.0];
        assert_eq!(median(&values).to_bits(), 3.0_f64.to_bits());
        assert_eq!(median(&values[..3]).to_bits(), 4.0_f64.to_bits());
        assert_eq!(spread(&values), [1.0, 5.0]);
        assert!(median(&[]).is_nan() && percentile(&[], 0.5).is_nan() && spread(&[])[0].is_nan());
    }

    #[test]
    fn a_percentile_is_a_value_that_was_seen() {
        let values: Vec<f64> = (1..=1000).rev().map(f64::from).collect();
        for (share, expected) in [(0.0, 1.0), (0.5, 500.0), (0.99, 990.0), (0.9901, 991.0), (1.0, 1000.0)] {
            assert!((percentile(&values, share) - expected).abs() < 1e-9, "{share}");
        }
        let mut lossy = vec![10.0; 980];
        lossy.extend([f64::INFINITY; 20]);
        assert!(percentile(&lossy, 0.99).is_infinite(), "what never came back is the slowest");
    }

    #[test]
    fn ratios_stay_within_their_round() {
        assert_eq!(ratios(&[4.0, 2.0], &[2.0, 1.0]), [2.0, 2.0], "the machine slowed down; the ratio did not");
    }
}
