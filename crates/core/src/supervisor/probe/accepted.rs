//! Waits until a daemon has accepted a connection, by the kernel's word and without the daemon's help.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use tokio::time::{Instant, sleep_until};

use ally_base::os::{AcceptState, accept_state};
use ally_base::text::{errno_text, io_text};

/// The kernel has no event for accept(2). A daemon that works accepts within microseconds.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// # Errors
/// The connection was dropped, or `deadline` has come and it still waits.
pub async fn wait_accepted(client: &OwnedFd, deadline: Instant) -> Result<(), Refused> {
    let mut pause = FIRST_PAUSE;
    loop {
        // Read before the state, so that the last look is at the very end.
        let late = Instant::now() >= deadline;
        // Accepted and hung up, or even answered: then the kernel no longer names the peer.
        match recv(client.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) {
            Ok(_) => return Ok(()),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            // What was still in the queue when the listener went away is reset.
            Err(error) => return Err(Refused::By(format!("the connection was dropped unaccepted ({})", errno_text(error as i32)))),
        }
        match accept_state(&client.as_fd()) {
            Ok(AcceptState::Accepted) => return Ok(()),
            Ok(AcceptState::Waiting) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => {}
            // If the question fails, that says nothing about the daemon.
            Err(error) => return Err(Refused::Unasked(format!("the kernel doesn't tell who waits in the queue ({})", io_text(&error)))),
        }
        if late {
            return Err(Refused::Late);
        }
        sleep_until(deadline.min(Instant::now() + pause)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Refused {
    By(String),
    Late,
    /// The question could not be put, which says nothing about the daemon.
    Unasked(String),
}

/// EMFILE and the like: an error of this process, not of the daemon.
pub fn is_own_error(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS))
}
