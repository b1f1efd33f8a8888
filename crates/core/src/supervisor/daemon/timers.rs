//! The timers of one attempt.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::lifecycle::Timer;

/// At most one timer of each kind.
#[derive(Default)]
pub struct Timers(Vec<(Timer, Instant)>);

impl Timers {
    pub fn arm(&mut self, timer: Timer, after: Duration) {
        self.disarm(timer);
        self.0.push((timer, Instant::now() + after));
    }

    pub fn disarm(&mut self, timer: Timer) {
        self.take(timer);
    }

    /// Disarms a timer. Returns whether it was armed.
    pub fn take(&mut self, timer: Timer) -> bool {
        let count = self.0.len();
        self.0.retain(|(armed, _)| *armed != timer);
        self.0.len() < count
    }

    /// An armed timer elapses not before `by` from now.
    pub fn extend(&mut self, timer: Timer, by: Duration) {
        let earliest = Instant::now() + by;
        for (_, at) in self.0.iter_mut().filter(|(armed, _)| *armed == timer) {
            *at = earliest.max(*at);
        }
    }

    /// The next timer that elapses. If none is armed, waits for ever. Cancel-safe.
    pub async fn next(&mut self) -> Timer {
        let earliest = self.0.iter().enumerate().map(|(index, (_, at))| (index, *at)).min_by_key(|(_, at)| *at);
        let Some((index, at)) = earliest else { return std::future::pending().await };
        sleep_until(at).await;
        self.0.swap_remove(index).0
    }
}
