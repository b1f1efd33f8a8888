//! The pauses between two tries of a readiness probe at a socket.

use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

/// Between bind(2) and listen(2) there is no event. Most daemons call listen(2) within microseconds, so the first tries have
/// no pause, the tries of the first 200 ms a short one, and all others a long one.
const TRIES_WITHOUT_PAUSE: u32 = 20;
const SHORT_PAUSE: Duration = Duration::from_millis(1);
const SHORT_PAUSE_TIME: Duration = Duration::from_millis(200);
pub const LONG_PAUSE: Duration = Duration::from_millis(5);
/// A search for the holder of a socket reads the descriptors of all processes, and one thread serves all daemons. So the pause
/// is doubled after each search that fails, up to this one.
const LONGEST_SEARCH_PAUSE: Duration = Duration::from_millis(640);

/// The pause before another try of a probe that costs the machine a process. It begins at the end of the last try, and doubles up
/// to the longest one.
const REFUSAL_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_REFUSAL_PAUSE: Duration = Duration::from_millis(100);

#[derive(Default)]
pub struct Schedule {
    /// The first try that found a socket file.
    since: Option<Instant>,
    tries: u32,
    searches: u32,
    refusals: u32,
}

impl Schedule {
    /// The socket file is gone, so the next file begins anew.
    pub fn restart(&mut self) {
        self.since = None;
        self.tries = 0;
    }

    pub async fn pause(&mut self) {
        let since = *self.since.get_or_insert_with(Instant::now);
        self.tries += 1;
        if self.tries <= TRIES_WITHOUT_PAUSE {
            yield_now().await;
        } else if since.elapsed() < SHORT_PAUSE_TIME {
            sleep(SHORT_PAUSE).await;
        } else {
            sleep(LONG_PAUSE).await;
        }
    }

    /// After a search of all processes.
    pub async fn pause_after_search(&mut self) {
        let doubled = LONG_PAUSE.saturating_mul(1 << self.searches.min(16));
        self.searches += 1;
        sleep(doubled.min(LONGEST_SEARCH_PAUSE)).await;
    }

    /// After an answer of the daemon that did not pass: 5, 10, 20 … 100 ms.
    pub async fn pause_after_refusal(&mut self) {
        let doubled = REFUSAL_PAUSE.saturating_mul(1 << self.refusals.min(16));
        self.refusals += 1;
        sleep(doubled.min(LONGEST_REFUSAL_PAUSE)).await;
    }
}
