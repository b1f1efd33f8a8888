//! The end of a held socket: its clients read end of file at once, instead of waiting for a daemon that never comes.

use std::sync::Arc;

use ally_base::os;
use tokio::task::yield_now;

use super::{HeldListener, HeldSocket};
use crate::error::Failure;
use crate::supervisor::TARGET;
use crate::supervisor::runtime;

/// The connections that are closed in a row before the other tasks of the thread run.
const CLOSED_PER_TURN: u32 = 64;

impl HeldSocket {
    /// Removes the names, refuses further connections, and closes those that wait.
    ///
    /// # Errors
    /// `Io` if a name stays.
    pub fn give_up(self) -> Result<(), Failure> {
        // First the names, so that a client that reads end of file and connects again finds none.
        let removed = self.remove_names();
        drop(self.watch);
        close(self.listener);
        removed
    }
}

/// Refuses further connections, and closes those that wait. Those beyond the first turn are closed later on this thread.
pub(super) fn close(listener: Arc<HeldListener>) {
    if let Err(error) = os::refuse_connections(&**listener.socket()) {
        // ENOTCONN on macOS: the daemon has shut it down.
        tracing::debug!(target: TARGET, %error, "a held socket could not be shut down");
    }
    if close_some(&listener) {
        drop(runtime::spawn(async move {
            while close_some(&listener) {
                yield_now().await;
            }
        }));
    }
}

/// Whether there may be more.
fn close_some(listener: &HeldListener) -> bool {
    for _ in 0..CLOSED_PER_TURN {
        match os::close_first(&**listener.socket()) {
            Ok(true) => {}
            Ok(false) => return false,
            Err(error) => {
                // The kernel closes the rest with the socket: these clients get ECONNRESET.
                tracing::warn!(target: TARGET, %error, "connections that wait at a held socket can't be accepted");
                return false;
            }
        }
    }
    true
}
