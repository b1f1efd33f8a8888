//! A guardian that does not act, for example because it is suspended (SIGSTOP).

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use ally_base::os;
use tokio::time::{Instant, timeout};

use super::connection::GuardianConnection;
use crate::model::Pid;
use crate::supervisor::TARGET;

/// The time in which a guardian must accept an order, or an earlier one.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(1);

/// A timer that is this much late shows that the owner itself did not run.
const LATE: Duration = Duration::from_millis(500);

/// Waits for `accepted`, the acceptance of an order. `None` if the guardian has accepted nothing for `ACCEPT_TIMEOUT`.
pub async fn in_time<F: Future>(guardian: &GuardianConnection, mut accepted: Pin<&mut F>) -> Option<F::Output> {
    let mut count = guardian.accepted();
    let mut was_late = false;
    loop {
        let begun = Instant::now();
        if let Ok(done) = timeout(ACCEPT_TIMEOUT, &mut accepted).await {
            return Some(done);
        }
        let is_late = begun.elapsed() > ACCEPT_TIMEOUT + LATE;
        let now = guardian.accepted();
        if now == count && (was_late || !is_late) {
            return None;
        }
        (count, was_late) = (now, is_late);
    }
}

/// Sends SIGCONT to the guardian. A guardian that is not suspended ignores it.
pub fn wake(pid: Pid) {
    signal(pid, libc::SIGCONT);
}

/// Signals the guardian. If another part of the program has reaped it, the process of this pid is no child of this process.
pub fn signal(pid: Pid, number: i32) {
    let guardian = os::identify(pid).map(|guardian| guardian.filter(|process| process.parent == os::own_pid()));
    let sent = guardian.and_then(|guardian| guardian.map_or(Ok(()), |guardian| os::signal(&guardian, number)));
    if let Err(error) = sent {
        tracing::warn!(target: TARGET, pid, %error, "the guardian can't be signalled");
    }
}
