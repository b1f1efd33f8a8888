//! Durations as a histogram, and the last ones as quantiles.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A histogram with fixed bounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durations {
    /// The number of durations up to each bound of [`Durations::BOUNDS`], and above the one before.
    // Not `Self`, which the derived code does not take here.
    pub buckets: [u64; Durations::BOUNDS.len()],
    /// The number of all durations, including those above the last bound.
    pub count: u64,
    pub sum: Duration,
}

impl Durations {
    pub const BOUNDS: [Duration; 14] = [
        ms(1),
        Duration::from_micros(2_500),
        ms(5),
        ms(10),
        ms(25),
        ms(50),
        ms(100),
        ms(250),
        ms(500),
        ms(1_000),
        ms(2_500),
        ms(5_000),
        ms(10_000),
        ms(30_000),
    ];

    pub fn add(&mut self, duration: Duration) {
        self.count += 1;
        self.sum += duration;
        let bucket = Self::BOUNDS.iter().zip(&mut self.buckets).find(|(bound, _)| duration <= **bound);
        if let Some((_, count)) = bucket {
            *count += 1;
        }
    }
}

/// The last durations. Bounded, so that a daemon that is checked for weeks costs no more than one of an hour.
#[derive(Debug)]
pub struct Recent(VecDeque<Duration>);

impl Recent {
    /// The number of durations that are kept.
    pub const MAX: usize = 256;

    pub const NONE: Self = Self(VecDeque::new());

    pub fn add(&mut self, duration: Duration) {
        if self.0.len() == Self::MAX {
            self.0.pop_front();
        }
        self.0.push_back(duration);
    }

    /// The smallest kept duration that at least this share of them does not exceed, for each share. `None` without durations.
    pub fn quantiles<const N: usize>(&self, shares: [f64; N]) -> Option<[Duration; N]> {
        let mut kept: Vec<Duration> = self.0.iter().copied().collect();
        let last = kept.len().checked_sub(1)?;
        let rank = |share: f64| ((share * (last + 1) as f64).ceil() as usize).saturating_sub(1).min(last);
        Some(shares.map(|share| *kept.select_nth_unstable(rank(share)).1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_the_first_bucket_that_holds_it() {
        let mut durations = Durations::default();
        for duration in [ms(1), ms(2), ms(100), ms(31_000)] {
            durations.add(duration);
        }
        assert_eq!((durations.count, durations.sum), (4, ms(31_103)));
        assert_eq!(durations.buckets, [1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn quantiles_are_of_the_last_durations() {
        let mut recent = Recent::NONE;
        assert_eq!(recent.quantiles([0.5]), None);
        recent.add(ms(7));
        assert_eq!(recent.quantiles([0.5, 0.99]), Some([ms(7), ms(7)]));
        (1..=100).for_each(|n| recent.add(ms(n)));
        assert_eq!(recent.quantiles([0.5, 0.99]), Some([ms(50), ms(99)]));
        (0..Recent::MAX).for_each(|_| recent.add(ms(3)));
        assert_eq!(recent.quantiles([0.0, 1.0]), Some([ms(3), ms(3)]));
    }
}
