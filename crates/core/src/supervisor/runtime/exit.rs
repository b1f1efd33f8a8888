//! The exit of a process, as an event.

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use ally_base::os::Handle;

/// Resolves when the process has exited. If the system has no event for it, resolves at once with `None`, and the caller
/// polls. Must run on the supervisor's thread.
pub async fn exit(process: &Handle) -> Option<()> {
    let copy = process.fd.as_ref()?.try_clone().ok()?;
    // SAFETY: an OwnedFd keeps its descriptor open and unchanged for as long as it lives.
    let watched = unsafe { AsyncFd::register_with_interest(copy, Interest::READABLE) }.ok()?;
    watched.readable().await.ok().map(|_| ())
}
