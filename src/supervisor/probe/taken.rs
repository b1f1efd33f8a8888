//! Waits until a daemon has taken a connection from its queue, by the kernel's word.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use tokio::time::sleep;

use crate::error::{errno_text, io_text};
use crate::os::{Taken, was_taken};

/// The kernel has no event for it either. A daemon at work accepts within microseconds.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// # Errors
/// What stands against it, in words; not that it takes long, which is the caller's to limit.
pub async fn taken(client: &OwnedFd) -> Result<(), String> {
    let mut pause = FIRST_PAUSE;
    loop {
        // Accepted and hung up, or even answered: then the kernel no longer names the peer.
        match recv(client.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) {
            Ok(_) => return Ok(()),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            // What was still in the queue when the listener went away is reset.
            Err(error) => return Err(format!("the connection was dropped unaccepted ({})", errno_text(error as i32))),
        }
        match was_taken(&client.as_fd()) {
            Ok(Taken::Accepted) => return Ok(()),
            Ok(Taken::Waiting) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => {}
            Err(error) => return Err(format!("the kernel doesn't tell who waits in the queue ({})", io_text(&error))),
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
