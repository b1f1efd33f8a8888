//! Whether a daemon has accepted a connection. The kernel reports the accept, so the daemon needs no protocol.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use tokio::time::{Instant, sleep_until};

use ally_base::os::{AcceptState, accept_state};

/// The kernel has no event for accept(2), so the state is polled. A working daemon accepts within microseconds.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceptance {
    Waiting,
    Accepted,
    /// The listener was closed with the connection in its queue: ECONNRESET.
    Dropped(Errno),
}

/// Polls until the connection leaves the queue, or until the deadline.
///
/// # Errors
/// As [`acceptance`].
pub async fn wait_accepted(client: &OwnedFd, deadline: Instant) -> io::Result<Acceptance> {
    let mut pause = FIRST_PAUSE;
    loop {
        // The clock is read before the state, so that the last query happens at the deadline or later.
        let late = Instant::now() >= deadline;
        let state = acceptance(client)?;
        if late || state != Acceptance::Waiting {
            return Ok(state);
        }
        sleep_until(deadline.min(Instant::now() + pause)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// # Errors
/// The kernel doesn't tell who waits in the queue. The state of the daemon is then unknown.
pub fn acceptance(client: &OwnedFd) -> io::Result<Acceptance> {
    // If the daemon has accepted the connection and closed it or written to it, accept_state may fail.
    if let Some(state) = traffic(client) {
        return Ok(state);
    }
    match accept_state(&client.as_fd()) {
        Ok(AcceptState::Accepted) => Ok(Acceptance::Accepted),
        Ok(AcceptState::Waiting) => Ok(Acceptance::Waiting),
        // The daemon or the listener has closed the connection since the first line.
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => Ok(traffic(client).unwrap_or(Acceptance::Waiting)),
        Err(error) => Err(error),
    }
}

/// `None` if nothing was received.
fn traffic(client: &OwnedFd) -> Option<Acceptance> {
    match recv(client.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) {
        Ok(_) => Some(Acceptance::Accepted),
        Err(Errno::EAGAIN | Errno::EINTR) => None,
        Err(error) => Some(Acceptance::Dropped(error)),
    }
}

/// Whether a resource limit of this process or of the system prevents the probe.
pub fn is_own_error(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS))
}
