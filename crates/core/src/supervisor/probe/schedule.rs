//! The pauses between two tries of a readiness probe.

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

/// A connection to a port is refused without work of the daemon, so the tries of the first seconds are as frequent as the late
/// ones at a socket file.
const PORT_SHORT_PAUSE: Duration = Duration::from_millis(5);
const PORT_SHORT_PAUSE_TIME: Duration = Duration::from_secs(2);
const PORT_FIRST_LONG_PAUSE: Duration = Duration::from_millis(10);
/// An answer that does not pass costs the daemon work.
const ANSWER_FIRST_PAUSE: Duration = Duration::from_millis(5);
const DOUBLED_PAUSE_MAX: Duration = Duration::from_millis(100);

#[derive(Default)]
pub struct Schedule {
    /// The first try that found a socket file.
    since: Option<Instant>,
    tries: u32,
    searches: u32,
    /// The first try that got no connection to a port.
    port_since: Option<Instant>,
    port_pauses: u32,
    answers: u32,
}

impl Schedule {
    /// The socket file is gone, so the next file begins anew.
    pub fn restart(&mut self) {
        self.since = None;
        self.tries = 0;
        self.answers = 0;
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
        sleep(doubled(LONG_PAUSE, self.searches, LONGEST_SEARCH_PAUSE)).await;
        self.searches += 1;
    }

    /// After a try that got no connection to a port.
    pub async fn pause_after_port(&mut self) {
        let since = *self.port_since.get_or_insert_with(Instant::now);
        if since.elapsed() < PORT_SHORT_PAUSE_TIME {
            sleep(PORT_SHORT_PAUSE).await;
        } else {
            sleep(doubled(PORT_FIRST_LONG_PAUSE, self.port_pauses, DOUBLED_PAUSE_MAX)).await;
            self.port_pauses += 1;
        }
    }

    /// After an answer of the daemon that does not pass.
    pub async fn pause_after_answer(&mut self) {
        sleep(doubled(ANSWER_FIRST_PAUSE, self.answers, DOUBLED_PAUSE_MAX)).await;
        self.answers += 1;
    }
}

fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first.saturating_mul(1 << times.min(16)).min(longest)
}
