//! The watch of `limits.maxMemory`.

use std::time::Duration;

use ally_base::os;
use tokio::time::sleep;

use super::counters::TreeId;
use super::sample::{memory, resident_sum};
use crate::model::MemoryLimit;
use crate::supervisor::runtime::{Work, clock, off_thread};

const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Waits until the tree has used more memory than the limit for as long as the limit says. Returns the memory.
pub async fn exceeds(limit: MemoryLimit, id: TreeId) -> u64 {
    let pause = (limit.sustain / 3).clamp(PAUSE_MIN, PAUSE_MAX);
    let mut excess = Excess::new(limit.sustain, pause * 2, clock::now().mono);
    loop {
        let reading = off_thread(Work::Sample, move || read(limit.max, id)).await;
        if let Some(memory) = excess.add(reading, clock::now().mono) {
            return memory;
        }
        sleep(pause).await;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Above(u64),
    NotAbove,
    /// The tree could not be read.
    Failed,
}

/// The sum of the resident sizes is read each time, because it is cheap. A page that processes share counts in each of them, so
/// the sum is at least the memory, and only a sum above the limit leads to the exact reading.
fn read(max: u64, id: TreeId) -> Reading {
    match os::tree_usage(id.keeper, id.keeper_start) {
        Ok(Some(tree)) if resident_sum(&tree) > max => match memory(&tree) {
            memory if memory > max => Reading::Above(memory),
            _ => Reading::NotAbove,
        },
        Ok(Some(_)) => Reading::NotAbove,
        Ok(None) | Err(_) => Reading::Failed,
    }
}

/// The time above the limit.
struct Excess {
    sustain: Duration,
    /// The longest time between two readings that counts. In a longer one this process did not run, and nobody knows whether the
    /// daemon did.
    step_max: Duration,
    before: Duration,
    /// Since the first reading above the limit. `None` if the last reading that succeeded was not above it.
    above: Option<Duration>,
}

impl Excess {
    const fn new(sustain: Duration, step_max: Duration, now: Duration) -> Self {
        Self { sustain, step_max, before: now, above: None }
    }

    /// The memory, if the limit was exceeded for long enough.
    fn add(&mut self, reading: Reading, now: Duration) -> Option<u64> {
        let step = now.saturating_sub(std::mem::replace(&mut self.before, now)).min(self.step_max);
        self.above = self.above.map(|above| above + step);
        match reading {
            Reading::Above(memory) => (*self.above.get_or_insert(Duration::ZERO) >= self.sustain).then_some(memory),
            Reading::NotAbove => {
                self.above = None;
                None
            }
            Reading::Failed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Reading::{Above, Failed, NotAbove};
    use super::*;

    /// The second at which the limit counts as exceeded, of readings each second from second 0 on.
    fn exceeded(readings: &[Reading]) -> Option<usize> {
        let mut excess = Excess::new(Duration::from_secs(3), Duration::from_secs(2), Duration::ZERO);
        readings.iter().zip(0..).position(|(reading, second)| excess.add(*reading, Duration::from_secs(second)).is_some())
    }

    #[test]
    fn sustain_begins_at_the_first_reading_above_the_limit() {
        assert_eq!(exceeded(&[Above(9); 6]), Some(3));
        assert_eq!(exceeded(&[NotAbove, NotAbove, Above(9), Above(9), Above(9), Above(9), Above(9)]), Some(5));
    }

    #[test]
    fn one_reading_at_or_below_the_limit_begins_sustain_anew() {
        assert_eq!(exceeded(&[Above(9), Above(9), Above(9), NotAbove, Above(9), Above(9), Above(9), Above(9)]), Some(7));
        assert_eq!(exceeded(&[Above(9), Above(9), Above(9), NotAbove, Above(9), Above(9), Above(9)]), None);
    }

    #[test]
    fn a_reading_that_fails_changes_nothing() {
        assert_eq!(exceeded(&[Above(9), Failed, Failed, Above(9)]), Some(3));
        assert_eq!(exceeded(&[Failed, Failed, Failed, Failed, Failed]), None);
        assert_eq!(exceeded(&[Above(9), Above(9), Above(9), Failed, Failed, NotAbove]), None);
    }

    #[test]
    fn time_in_which_this_process_did_not_run_does_not_count() {
        let mut excess = Excess::new(Duration::from_secs(3), Duration::from_secs(2), Duration::ZERO);
        let mut at = |second| excess.add(Above(9), Duration::from_secs(second));
        assert_eq!([at(0), at(3_600), at(3_601)], [None, None, Some(9)]);
    }

    #[test]
    fn sustain_0_needs_one_reading() {
        let mut excess = Excess::new(Duration::ZERO, Duration::from_secs(1), Duration::ZERO);
        assert_eq!(excess.add(Above(9), Duration::ZERO), Some(9));
    }
}
