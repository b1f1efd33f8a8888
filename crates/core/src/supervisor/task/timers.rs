//! The timers of one machine.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::lifecycle::{Generation, Timer};

/// The machine's timers, one of a kind.
#[derive(Default)]
pub struct Timers(Vec<(Timer, Generation, Instant)>);

impl Timers {
    pub fn arm(&mut self, timer: Timer, generation: Generation, after: Duration) {
        self.disarm(timer);
        self.0.push((timer, generation, Instant::now() + after));
    }

    pub fn disarm(&mut self, timer: Timer) {
        self.0.retain(|(armed, ..)| *armed != timer);
    }

    /// Waits for ever where none is armed. May be dropped and called again.
    pub async fn next(&mut self) -> (Timer, Generation) {
        let Some((index, at)) = self.0.iter().enumerate().map(|(index, (.., at))| (index, *at)).min_by_key(|(_, at)| *at) else {
            return std::future::pending().await;
        };
        sleep_until(at).await;
        let (timer, generation, _) = self.0.swap_remove(index);
        (timer, generation)
    }
}
