//! Waits until a daemon has accepted a connection. The kernel reports the accept, so the daemon needs no protocol.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use tokio::time::{Instant, sleep_until};

use ally_base::os::{AcceptState, accept_state};
use ally_base::text::{errno_text, io_text};

/// The kernel has no event for accept(2), so the state is polled. A working daemon accepts within microseconds.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// # Errors
/// See [`ProbeError`].
pub async fn wait_accepted(client: &OwnedFd, deadline: Instant) -> Result<(), ProbeError> {
    let mut pause = FIRST_PAUSE;
    loop {
        // The clock is read before the state, so that the last query happens at the deadline or later.
        let late = Instant::now() >= deadline;
        // If the daemon accepted the connection and closed it or wrote to it, accept_state may fail.
        match recv(client.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) {
            Ok(_) => return Ok(()),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            // ECONNRESET: the listener was closed with the connection in its queue.
            Err(error) => return Err(ProbeError::Failed(format!("the connection was dropped unaccepted ({})", errno_text(error as i32)))),
        }
        match accept_state(&client.as_fd()) {
            Ok(AcceptState::Accepted) => return Ok(()),
            Ok(AcceptState::Waiting) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => {}
            // The query failed, so the state of the daemon is unknown.
            Err(error) => return Err(ProbeError::NotMade(format!("the kernel doesn't tell who waits in the queue ({})", io_text(&error)))),
        }
        if late {
            return Err(ProbeError::TimedOut);
        }
        sleep_until(deadline.min(Instant::now() + pause)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[derive(Debug)]
pub enum ProbeError {
    /// The daemon failed the probe.
    Failed(String),
    /// The daemon did not accept the connection before the deadline.
    TimedOut,
    /// The probe could not be made, so the state of the daemon is unknown.
    NotMade(String),
}

/// Whether a resource limit of this process or of the system prevents the probe.
pub fn is_own_error(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS))
}
